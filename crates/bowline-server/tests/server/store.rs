//! `bowline store`, as people and programs use it: on the real binary and a real directory.
#![expect(
    clippy::disallowed_methods,
    reason = "waits for a process, in real time and on the test's own thread"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bowline_store::disk::Directory;
use bowline_store::durable::{DurableStore, Keeper, OpenError, Opened, Options};
use bowline_store::{Append, Limit, Page, Publication, Query, Retention, StreamStore};
use serde_json::Value;

use crate::support::PATIENCE;

const HOUR: Duration = Duration::from_secs(3600);

/// A data directory that is removed when it is dropped.
struct Data(PathBuf);

impl Data {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bowline-store-cli-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    /// Opens the store as a server does, lets `work` use it, and closes it.
    fn with_store<T>(&self, work: impl FnOnce(&DurableStore, &Keeper) -> T) -> T {
        let options = Options { segment_bytes: 20_000, ..Options::default() };
        // A child that another test starts has the locks of this process until it is another program.
        let until = Instant::now() + PATIENCE;
        let Opened { store, writer, keeper, .. } = loop {
            match DurableStore::open(Directory::new(&self.0), options.clone()) {
                Err(OpenError::InUse) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                opened => break opened.expect("the store opens"),
            }
        };
        std::thread::scope(|threads| {
            threads.spawn(|| writer.run());
            // Closed also if `work` panics: the writer is waited for.
            let _closes = Closes(&store);
            work(&store, &keeper)
        })
    }

    /// Some channels of which most is dead.
    fn filled() -> Self {
        let data = Self::new();
        data.with_store(|store, _| fill(store));
        data
    }

    /// The same with indexes, and with a key in the first file that is remembered: it stays, and so do those behind it.
    fn indexed() -> Self {
        let data = Self::new();
        data.with_store(|store, keeper| {
            let mut keyed =
                Append::new("keyed", Publication::new("x"), Retention::new(1, 24 * HOUR, 48 * HOUR));
            keyed.idempotency_key = Some("key");
            store.append(keyed).expect("append").wait_blocking().expect("commit");
            fill(store);
            assert_eq!(keeper.tend().freed_files, 0);
        });
        data
    }

    fn pages(&self) -> [Page; 2] {
        self.with_store(|store, _| {
            ["kept", "busy"]
                .map(|channel| store.read(channel, Query::forward(0, Limit::All), 48 * HOUR).expect("read"))
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.arg("store").args(arguments).arg("--path").arg(&self.0).stdin(Stdio::null());
        command
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files =
            std::fs::read_dir(&self.0).expect("a directory").map(|file| file.expect("an entry").path());
        files.map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
    }
}

fn fill(store: &DurableStore) {
    for number in 0..1_000 {
        let channel = if number % 10 == 0 { "kept" } else { "busy" };
        let size = if channel == "kept" { 1_000 } else { 2 };
        let publication = Publication::new(format!("{number}-{}", "x".repeat(100)));
        let keep = Retention::new(size, 24 * HOUR, 48 * HOUR);
        let receipt = store.append(Append::new(channel, publication, keep)).expect("append");
        receipt.wait_blocking().expect("commit");
    }
}

/// Closes the store when it goes out of scope.
struct Closes<'a>(&'a DurableStore);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `bowline store` answers once nobody has the directory: see [`Data::with_store`] about who may have it.
fn answered(data: &Data, arguments: &[&str]) -> (Option<i32>, String, String) {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = ended(&data.command(arguments).output().unwrap());
        if !answer.2.contains("is in use by ") || Instant::now() >= until {
            return answer;
        }
    }
}

/// Exit code, standard output, standard error.
fn ended(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json(data: &Data, command: &str) -> Value {
    let (code, said, told) = answered(data, &[command, "--json"]);
    assert!(code == Some(0) && told.is_empty(), "{command}: {code:?} {told}");
    serde_json::from_str(&said).expect("it is JSON")
}

fn flip(file: &Path, text: &[u8]) {
    let mut content = std::fs::read(file).expect("a file");
    let at = content.windows(text.len()).position(|bytes| bytes == text).expect("it is there");
    content[at] ^= 1;
    std::fs::write(file, content).expect("a file");
}

#[test]
fn what_is_in_a_store_is_told_in_words_and_in_numbers_and_nothing_is_touched() {
    let data = Data::filled();
    let before = data.files();
    let (code, said, told) = answered(&data, &["stats"]);
    assert_eq!((code, told.as_str()), (Some(0), ""));
    assert!(said.contains(": a store of format 1, closed well\n"), "{said}");
    assert!(said.contains("  kept           102 publications in 2 streams, "), "{said}");
    assert!(said.contains("  largest streams "), "{said}");
    // The first line has the path, which is as long as it is.
    assert!(said.lines().skip(1).all(|line| line.len() <= 80), "{said}");
    let value = json(&data, "stats");
    assert_eq!((&value["publications"], &value["streams"]), (&102.into(), &2.into()));
    assert_eq!(value["largest"][0]["channel"], "kept");
    let value = json(&data, "check");
    assert_eq!((&value["findings"], &value["torn_bytes"]), (&Value::Array(vec![]), &0.into()));
    assert_eq!(data.files(), before);
}

#[test]
fn damage_is_told_with_its_place_its_channels_and_what_comes_of_it() {
    let data = Data::indexed();
    let log =
        data.files().into_keys().find(|path| path.extension().is_some_and(|kind| kind == "log")).unwrap();
    flip(&log, b"10-xxx");
    let before = data.files();
    let (code, said, told) = answered(&data, &["check"]);
    assert_eq!(code, Some(1), "{said}{told}");
    assert!(said.contains(": 1 place is damaged ("), "{said}");
    assert!(said.contains("  0000000000000000.log, ") && said.contains(": not what was written\n"), "{said}");
    assert!(said.contains("    they begin anew when what was there is read\n    kept\n"), "{said}");
    assert!(told.starts_with("error: the store is damaged; a server starts with it "), "{told}");
    let (code, said, _) = answered(&data, &["check", "--json"]);
    let value: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!((code, &value["findings"][0]["consequence"]), (Some(1), &"renewed_when_read".into()));
    assert_eq!(value["findings"][0]["channels"], serde_json::json!(["kept"]));
    assert_eq!(data.files(), before);
}

#[test]
fn what_is_no_store_or_in_use_is_refused_with_what_to_do() {
    let data = Data::new();
    for command in ["stats", "check", "compact"] {
        let (code, _, told) = ended(&data.command(&[command]).output().unwrap());
        assert!(code == Some(2) && told.contains("is no data directory of a server"), "{command}: {told}");
        assert!(!data.0.exists(), "{command} made a directory");
    }
    data.with_store(|_, _| {
        let says = format!("is in use by process {}: stop that first", std::process::id());
        for command in ["stats", "check", "compact"] {
            let (code, _, told) = ended(&data.command(&[command]).output().unwrap());
            assert!(code == Some(2) && told.contains(&says), "{command}: {code:?} {told}");
        }
    });
    let (code, ..) = ended(&data.command(&["repair"]).output().unwrap());
    assert_eq!(code, Some(2));
}

#[test]
fn compaction_frees_what_is_dead_and_keeps_what_lives() {
    let data = Data::filled();
    let before = data.pages();
    let value = json(&data, "compact");
    let (was, is) = (value["before_bytes"].as_u64().unwrap(), value["after_bytes"].as_u64().unwrap());
    assert!(is < was / 3 && value["freed_files"].as_u64() > Some(3), "{value}");
    assert_eq!(data.pages(), before);
    let (code, said, _) = answered(&data, &["compact"]);
    assert!(code == Some(0) && said.contains(" in all\n") || said.contains(" after\n"), "{code:?} {said}");
    assert_eq!(json(&data, "check")["findings"], Value::Array(vec![]));
}

/// Killed at any moment, a compaction has lost nothing, and the next one goes on.
#[test]
fn a_compaction_that_is_killed_has_lost_nothing() {
    let data = Data::filled();
    let before = data.pages();
    for moment in 0..12 {
        let mut compact = data.command(&["compact", "--json"]);
        let mut compact = compact.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(moment * 4));
        compact.kill().expect("it is ours");
        compact.wait().expect("it ends");
        assert_eq!(json(&data, "check")["findings"], Value::Array(vec![]), "moment {moment}");
    }
    assert_eq!(data.pages(), before);
}
