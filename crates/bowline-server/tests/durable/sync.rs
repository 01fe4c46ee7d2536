//! The order of system calls: the disk is synced before anybody is told.

use std::process::Command;

use serde_json::json;

use super::support::{Scratch, Server, arguments, publications};

#[tokio::test]
async fn the_sync_returns_before_the_acknowledgement_is_written() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI needs `strace`");
        eprintln!("SKIPPED: `strace` is not installed");
        return;
    }
    let scratch = Scratch::new("strace");
    let trace = scratch.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-s", "4096", "-e", "trace=fdatasync,fsync,pwrite64,sendto,write,writev", "-o"]);
    command.arg(&trace).arg(env!("CARGO_BIN_EXE_bowline")).args(arguments(&scratch.data(), &[]));
    let server = Server::spawn(command);
    let (mut subscriber, _) = server.subscribe("c", None).await.unwrap();
    for number in 1..=5 {
        server.publish("c", &json!(format!("mark-{number}-"))).await;
    }
    publications(&mut subscriber, 5).await;
    drop(subscriber);
    let strace = server.id();
    let traced = std::fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).unwrap();
    let (status, said) = server.stop_by(traced.trim().parse().expect("one process is traced"));
    assert!(status.success(), "{said}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = trace.lines().collect();
    let after = |from: usize, what: &str, is_it: &dyn Fn(&str) -> bool| {
        let found = lines[from..].iter().position(|line| is_it(line));
        from + found.unwrap_or_else(|| panic!("no {what} behind line {from} of\n{trace}"))
    };
    for number in 1..=5 {
        let mark = format!("mark-{number}-");
        let stored =
            after(0, "write to the disk", &|line| line.contains("pwrite64(") && line.contains(&mark));
        let synced = after(stored, "sync", &|line| line.contains("sync") && line.ends_with("= 0"));
        let first_told = lines
            .iter()
            .position(|line| !line.contains("pwrite64(") && line.contains(&mark))
            .expect("the subscriber was told");
        let acknowledged = format!("\\\"offset\\\":{number},\\\"epoch");
        let answered = lines
            .iter()
            .position(|line| line.contains("\\\"result\\\"") && line.contains(&acknowledged))
            .expect("the publisher was answered");
        assert!(stored < synced, "{stored} {synced}");
        assert!(synced < first_told, "told in line {first_told}, synced in {synced} of\n{trace}");
        assert!(synced < answered, "answered in line {answered}, synced in {synced} of\n{trace}");
    }
}
