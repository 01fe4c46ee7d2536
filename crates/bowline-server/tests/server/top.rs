//! `bowline top` beside a real server.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::Process;

/// Runs `bowline top`: exit code, standard output, standard error.
fn top(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    let output = command.arg("top").args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_tasks_of_a_server_are_seen_from_outside() {
    let server = Process::serve(&[("log.level", "error")]);
    let address = server.internal.to_string();
    let (code, shown, said) = top(&[&address, "--once", "--every", "100ms"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 24, "{shown}");
    assert!(lines[0].contains(&address) && lines[0].contains(" tasks"), "{shown}");
    assert!(lines[1].starts_with("[1 Tasks]"), "{shown}");
    for expected in ["root bowline", "[scope] server", "sweep", "internal connection"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(!shown.contains('\u{1b}'), "text for scripts has no colours");

    // The same by a whole URL, wider, on another page, and without `--once`: standard output is no terminal.
    let url = format!("http://{address}/debug/bowline/tasks");
    let (code, shown, _) =
        top(&[&url, "--filter", "sweep", "--width", "200", "--height", "30", "--every", "100ms"]);
    assert_eq!((code, shown.lines().count()), (Some(0), 30), "{shown}");
    assert!(
        shown.contains("SPAWNED AT") && shown.contains("sweep") && !shown.contains("internal connection"),
        "{shown}"
    );
    for page in ["queues", "waits", "alerts", "deadlocks"] {
        let (code, shown, _) = top(&[&address, "--page", page, "--every", "100ms"]);
        let marked =
            shown.lines().nth(1).and_then(|line| line.split_once('[')).map(|(_, rest)| rest.to_lowercase());
        assert!(code == Some(0) && marked.is_some_and(|rest| rest[2..].starts_with(page)), "{page}: {shown}");
    }

    server.signal("TERM");
    let (status, ..) = server.wait(Duration::from_secs(60));
    assert!(status.success());
    let (code, shown, said) = top(&[&address]);
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(
        said.starts_with("error: ") && said.contains("connection refused") && said.contains("bowline serve"),
        "{said}"
    );
}

#[test]
fn the_public_listener_is_not_what_top_looks_at() {
    let server = Process::serve(&[("log.level", "error")]);
    let (code, _, said) = top(&[&server.public.to_string()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no page /debug/bowline/tasks"), "{said}");
}

#[test]
fn what_is_asked_wrongly_is_answered_with_how_to_ask() {
    for (arguments, expected) in [
        (&["https://example.com"][..], "ssh -L"),
        (&["not a url"], "such as http://127.0.0.1:8001"),
        (&["--every", "1ms"], "from 100ms"),
        (&["--page", "tea"], "possible values"),
        (&["--limit", "0"], "1..=20000"),
    ] {
        let (code, _, said) = top(arguments);
        assert!(code == Some(2) && said.contains(expected), "{arguments:?}: {code:?} {said}");
    }
}
