//! `bowline incidents` as people and programs call it.
#![expect(
    clippy::disallowed_methods,
    reason = "waits for a process, in real time and on the test's own thread"
)]

use std::io::Read as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

fn bowline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.arg("incidents").args(arguments).env_remove("CI").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = bowline(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn without_arguments_the_rows_are_listed() {
    let (code, out, _) = run(&[]);
    assert_eq!(code, Some(0));
    assert!(out.lines().any(|line| line.starts_with("B8  unknown N")), "{out}");
}

#[test]
fn a_wrong_command_line_is_2_and_says_what_there_is() {
    let (code, _, said) = run(&["B8", "Z9"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("there is no row \"Z9\"") && said.contains("B8"), "{said}");
    assert_eq!(run(&["B8", "--all"]).0, Some(2));
    assert_eq!(run(&["B8", "--reduced", "--full"]).0, Some(2));
}

/// One row in full: both forms run, and the document, the exit code and the files agree on what they came to.
#[test]
fn a_row_is_run_judged_and_reported() {
    let directory = std::env::temp_dir().join(format!("bowline-report-{}", std::process::id()));
    let (code, out, said) = run(&["b8", "--reduced", "--json", "--report", directory.to_str().unwrap()]);
    let document: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {said}"));
    let row = &document["rows"][0];
    assert_eq!((&row["id"], &document["scale"]), (&"B8".into(), &"reduced".into()));
    assert_eq!(row["verdicts"][0]["figure"], "tasks peak");
    assert!(row["verdicts"][0]["leaky"].as_f64() > row["verdicts"][0]["tied"].as_f64(), "{row}");
    assert_eq!(code == Some(0), document["as_promised"] == true, "{row}");
    let page = std::fs::read_to_string(directory.join("index.html")).unwrap();
    let picture = std::fs::read_to_string(directory.join("b8.svg")).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(page.contains("id=\"B8\"") && picture.starts_with("<svg"));
}

#[test]
fn the_table_goes_between_the_markers_of_a_file_that_has_them() {
    let file = std::env::temp_dir().join(format!("bowline-table-{}.md", std::process::id()));
    std::fs::write(&file, "a\n<!-- incidents:begin -->\n<!-- incidents:end -->\nb\n").unwrap();
    let (_, _, said) = run(&["B8", "--reduced", "--write-table", file.to_str().unwrap()]);
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(written.contains("| **B8** unknown N | tasks peak |"), "{written} {said}");
    assert!(written.starts_with("a\n") && written.ends_with("\nb\n"), "{written}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_run_at_once() {
    let mut child = bowline(&["B8", "--full"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The handler is set before the first row begins, and the first lines come while it runs.
    let mut first = [0];
    child.stderr.as_mut().unwrap().read_exact(&mut first).unwrap();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    for _ in 0..6_000 {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(130));
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    panic!("still there a minute after the interrupt");
}

/// A run whose processes can be told from all others: by the directory for temporary files that they inherit.
#[cfg(target_os = "linux")]
struct Run {
    child: std::process::Child,
    scratch: std::path::PathBuf,
}

#[cfg(target_os = "linux")]
impl Run {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let scratch = std::env::temp_dir().join(format!("bowline-run-{name}-{}", std::process::id()));
        std::fs::create_dir(&scratch).unwrap();
        let mut command = bowline(arguments);
        command.env("TMPDIR", &scratch).stdout(Stdio::piped()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), scratch }
    }

    /// Processes of this run in whose environment or command line `mark` stands.
    fn processes(&self, mark: &str) -> Vec<String> {
        let is_ours = |id: &String| {
            let read = |what: &str| std::fs::read(format!("/proc/{id}/{what}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&[read("environ"), read("cmdline")].concat()).into_owned();
            text.contains(&format!("TMPDIR={}\0", self.scratch.display())) && text.contains(mark)
        };
        let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        ids.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).filter(is_ours).collect()
    }

    fn wait_for(&self, mark: &str) -> String {
        within(|| self.processes(mark).pop())
    }

    /// Waits until no process of it is left, and none of their files.
    fn wait_gone(&self) {
        within(|| self.processes("").is_empty().then_some(()));
        let left: Vec<_> = std::fs::read_dir(&self.scratch).unwrap().filter_map(Result::ok).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[cfg(target_os = "linux")]
impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

#[cfg(target_os = "linux")]
fn within<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..12_000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("not within a minute");
}

#[cfg(target_os = "linux")]
fn kill(signal: &str, id: &str) {
    assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_row_whose_process_crashes_has_missed_and_the_others_run() {
    // The collector of this row stands still for a second in each form: there is time to find its process.
    let mut run = Run::start("crash", &["C7", "C7", "--reduced", "--json"]);
    let mut out = run.child.stdout.take().unwrap();
    kill("-KILL", &run.wait_for("BOWLINE_INCIDENTS_CHILD=row C7 reduced\0"));
    let mut said = String::new();
    out.read_to_string(&mut said).unwrap();
    assert_eq!(run.child.wait().unwrap().code(), Some(1));
    let document: Value = serde_json::from_str(&said).unwrap();
    let rows = document["rows"].as_array().unwrap();
    let crashed: Vec<_> = rows.iter().filter(|row| row["tied"].is_null()).collect();
    assert_eq!((rows.len(), crashed.len()), (2, 1), "{said}");
    assert_eq!(crashed[0]["state"], "missed");
    assert!(crashed[0]["why"].as_str().unwrap().contains("signal: 9"), "{}", crashed[0]);
    run.wait_gone();
}

/// The row has started a server, in a process of its own: an interrupt and a kill of the one in front end all three.
#[cfg(target_os = "linux")]
#[test]
fn nothing_of_several_rows_outlives_an_interrupt_or_a_kill() {
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let mut run = Run::start(signal, &["A7", "B8"]);
        run.wait_for("serve\0--dev\0");
        kill(signal, &run.child.id().to_string());
        assert_eq!(run.child.wait().unwrap().code(), code);
        run.wait_gone();
    }
}
