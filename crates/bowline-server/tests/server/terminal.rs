//! What people see in a terminal: words that say what to do, exit codes, and no panic when nobody is listening.
#![expect(
    clippy::disallowed_methods,
    reason = "waits for a process, in real time and on the test's own thread"
)]

use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::PATIENCE;

const SECRET: (&str, &str) = ("BOWLINE_CLIENT_TOKEN_HMAC_SECRET_KEY", "0123456789abcdef0123456789abcdef");

fn bowline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Exit code and standard error.
fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn help_tells_the_exit_codes_and_where_the_log_goes() {
    let output = bowline(&["serve", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("Exit codes: 0 ") && help.contains("BOWLINE_LOG"), "{help}");
}

#[test]
fn a_taken_port_is_named_with_the_settings_that_choose_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("http_server.port={}", taken.local_addr().unwrap().port());
    let output =
        bowline(&["serve", "--set", &port, "--set", "http_server.internal_port=0"]).output().unwrap();
    let (code, said) = ended(&output);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("error: cannot listen on 127.0.0.1:"), "{said}");
    assert!(said.contains("`http_server.address` or `http_server.port`"), "{said}");
    assert!(!said.contains("clean shutdown"), "{said}");
}

#[test]
fn what_cannot_be_printed_is_an_error_and_what_nobody_reads_is_none() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for arguments in [&["token"][..], &["config", "defaults"]] {
        let output = bowline(arguments).env(SECRET.0, SECRET.1).stdout(full()).output().unwrap();
        let (code, said) = ended(&output);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.starts_with("error: the output cannot be written: "), "{arguments:?}: {said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = bowline(arguments).env(SECRET.0, SECRET.1).stdout(writer).output().unwrap();
        assert_eq!(ended(&output), (Some(0), String::new()), "{arguments:?}");
    }
    // An error that nobody can read is still told by its code.
    let status = bowline(&["token"]).env_remove(SECRET.0).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn measurements_that_would_measure_nothing_are_refused() {
    for wrong in [
        &["connect", "--connections", "0"][..],
        &["connect", "--channels", "0"],
        &["fanout", "--outstanding", "0"],
        &["fanout", "--subscribers", "0"],
        &["fanout", "--size", "100000"],
        &["publish", "--batch", "0"],
        &["recover", "--missed", "0"],
    ] {
        let (code, said) = ended(&bowline(&[&["bench"], wrong].concat()).output().unwrap());
        assert!(code == Some(2) && said.contains(" is not in "), "{wrong:?}: {code:?} {said}");
    }
    let (code, said) =
        ended(&bowline(&["bench", "connect", "--connections", "2000000000"]).output().unwrap());
    assert!(code == Some(1) && said.contains("ulimit -Hn"), "{code:?} {said}");
}

#[test]
fn the_switch_for_development_is_read_from_the_environment_as_people_write_it() {
    for (value, line) in [("1", "demo page"), ("", "no client can connect: set BOWLINE_")] {
        let free = ["--set", "http_server.port=0", "--set", "http_server.internal_port=0"];
        // In memory: the working directory is not the test's.
        let mut serve = bowline(&["serve", "--set", "store.path="]);
        serve.args(free);
        let mut server = serve
            .env("BOWLINE_DEV", value)
            .env_remove(SECRET.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until_it_listens_to_signals(&server);
        signal(&server, "TERM");
        let mut said = String::new();
        std::io::Read::read_to_string(&mut server.stdout.take().unwrap(), &mut said).unwrap();
        assert!(said.contains(line), "BOWLINE_DEV={value:?}: {said}");
        assert_eq!(ends(&mut server, PATIENCE), Some(0));
    }
    let (code, said) = ended(&bowline(&["serve"]).env("BOWLINE_DEV", "please").output().unwrap());
    assert!(code == Some(2) && said.contains("on or off"), "{code:?} {said}");
}

#[test]
fn a_measurement_ends_at_once_when_it_is_interrupted() {
    let mut bench = bowline(&["bench", "fanout", "--subscribers", "2", "--messages", "4000000000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until_it_listens_to_signals(&bench);
    signal(&bench, "INT");
    // Waiting for the measurement, it would take the time for draining, 24 s.
    assert_eq!(ends(&mut bench, Duration::from_secs(20)), Some(1));
}

fn signal(process: &Child, name: &str) {
    let killed = Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status();
    assert!(killed.unwrap().success());
}

/// Waits until the process handles SIGINT and SIGTERM, which before would end it without a word.
fn until_it_listens_to_signals(process: &Child) {
    const BOTH: u64 = 1 << 1 | 1 << 14;
    let began = Instant::now();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & BOTH == BOTH {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "it never listens to signals");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The exit code, which must come within `limit`.
fn ends(process: &mut Child, limit: Duration) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        if began.elapsed() > limit {
            process.kill().unwrap();
            process.wait().unwrap();
            panic!("it did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
