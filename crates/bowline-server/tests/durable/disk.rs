//! A disk that is full: publishers learn it, readers go on, and it is over when there is room.
//!
//! The disk is a small file system in memory that only the server sees. Where the machine does not allow that, it is said.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::support::{PATIENCE, Scratch, Server, api, arguments, publications};

/// Runs the server with a file system of `size` bytes in the place of `disk`.
fn on_small_disk(disk: &Path, size: &str, arguments: &[String]) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o size={size} none \"$0\" && exec \"$@\"");
    command.args(["-rm", "sh", "-c", &script]).arg(disk);
    command.arg(env!("CARGO_BIN_EXE_bowline")).args(arguments);
    command
}

#[tokio::test]
async fn a_full_disk_refuses_publishers_while_readers_go_on_and_is_over_when_there_is_room() {
    let scratch = Scratch::new("full");
    let probe = on_small_disk(scratch.path(), "1m", &["--version".to_owned()]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI has to allow `unshare -rm`");
        eprintln!("SKIPPED: this machine does not allow a file system of one's own (`unshare -rm`)");
        return;
    }
    let server = Server::spawn(on_small_disk(
        scratch.path(),
        "2m",
        &arguments(&scratch.data(), &[("log.level", "info")]),
    ));
    let (mut subscriber, told) = server.subscribe("c", None).await.unwrap();
    let (first, epoch) = server.publish("c", &json!("before")).await;
    assert_eq!((first, &json!(epoch)), (1, &told["epoch"]));

    // The server's view of its disk; it is exec'd, so the process is the server.
    let ballast = Path::new("/proc").join(server.id().to_string());
    let ballast = ballast.join("root").join(scratch.path().strip_prefix("/").unwrap()).join("ballast");
    let filled = std::fs::write(&ballast, vec![0; 4 << 20]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);

    // A page of the log may have room yet.
    let large = json!({"channel": "c", "data": "x".repeat(50_000)});
    let mut acknowledged = 1;
    let refused = loop {
        match server.api("publish", &large).await {
            Ok(_) => acknowledged += 1,
            Err(refused) => break refused,
        }
        assert!(acknowledged < 100, "the disk is not full");
    };
    assert!(refused.contains("100") && refused.contains("the disk of the server is full"), "{refused}");
    // Who reads goes on, and so does what is not to be kept.
    let page = server.api("history", &json!({"channel": "c", "limit": 1})).await.unwrap();
    assert_eq!(page["offset"], acknowledged);
    let passing = json!({"channel": "c", "data": "passing", "skip_history": true});
    server.api("publish", &passing).await.unwrap();
    let mut received = publications(&mut subscriber, usize::try_from(acknowledged).unwrap() + 1).await;
    assert_eq!(received.pop(), Some((0, json!("passing"))));
    assert_eq!(received.len() as u64, acknowledged);

    std::fs::remove_file(&ballast).unwrap();
    let public = server.public;
    let again = async {
        let after = json!({"channel": "c", "data": "after"});
        while api(public, "publish", &after).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it recovers by itself");
    assert_eq!(publications(&mut subscriber, 1).await, [(acknowledged + 1, json!("after"))]);
    drop(subscriber);
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    assert!(said.contains("disk failing") && said.contains("over: publications are taken again"), "{said}");
}
