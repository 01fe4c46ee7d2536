//! A real process on a real disk, killed at random moments: nothing that it said was kept is lost, doubled or moved.
//!
//! `BOWLINE_KILLS` sets how often; 30 if it is not set.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bowline_store::disk::Directory;
use bowline_store::durable::{DurableStore, OpenError, Options};
use bowline_store::{Appended, Durability, StreamStore};

use super::support::{Running, Scratch, all, text, texts};

const CHILD: &str = "BOWLINE_STORE_CHILD";
const CHANNELS: [&str; 3] = ["always", "interval", "never"];
const KEPT: usize = 1_000_000;

fn options() -> Options {
    // Files end often, so that the end of a file is among the moments.
    Options { segment_bytes: 50_000, tend_every: Duration::from_millis(5), ..Options::default() }
}

/// The parent, and, if the environment says so, the child it starts of itself.
#[test]
fn a_process_that_is_killed_has_lost_nothing_it_acknowledged() {
    if let Some(directory) = std::env::var_os(CHILD) {
        return publish_until_killed(directory.into());
    }
    let kills = std::env::var("BOWLINE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(30);
    let scratch = Scratch::new();
    let mut acknowledged: Vec<Vec<String>> = vec![Vec::new(); CHANNELS.len()];
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().expect("a test has a path"))
            .args([
                "--exact",
                "kill::a_process_that_is_killed_has_lost_nothing_it_acknowledged",
                "--nocapture",
            ])
            .env(CHILD, &scratch.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        // A random number of acknowledgements later; the moment within a write is the scheduler's.
        let wanted = fastrand::usize(1..400);
        let mut child = Some(child);
        let mut count = 0;
        for line in output.lines() {
            let line = line.expect("text");
            // The last line may be cut, and the test harness has lines of its own.
            let Some(said) = line.strip_prefix("kept ").and_then(|said| said.strip_suffix(" .")) else {
                continue;
            };
            let (channel, rest) = said.split_once(' ').expect("channel offset text");
            let (offset, word) = rest.split_once(' ').expect("offset text");
            let channel = CHANNELS.iter().position(|name| *name == channel).expect("a channel of ours");
            let kept = &mut acknowledged[channel];
            let offset: usize = offset.parse().expect("a number");
            // What the process before had written and not yet said is there as well.
            if kept.len() < offset {
                kept.resize(offset, String::new());
            }
            assert_eq!(kept[offset - 1], "", "{offset} was given twice");
            kept[offset - 1] = word.to_owned();
            count += 1;
            if count == wanted {
                if kill == 0 {
                    let refused =
                        DurableStore::open(scratch.disk(), options()).expect_err("the child has it");
                    assert!(matches!(refused, OpenError::InUse), "{refused}");
                }
                if let Some(mut child) = child.take() {
                    child.kill().expect("it is ours");
                    child.wait().expect("it ends");
                }
            }
        }
        assert!(child.is_none(), "the child ended by itself after {count}");
        let store = Running::open(scratch.disk(), options());
        assert_eq!(store.recovered.damage, []);
        assert_eq!(store.recovered.renewed, 0);
        for (channel, acknowledged) in CHANNELS.iter().zip(&mut acknowledged) {
            let page = all(&store, channel);
            let found = texts(&page);
            assert_eq!(page.top.offset, found.len() as u64, "no gap");
            assert!(found.len() >= acknowledged.len(), "{channel} lost {}", acknowledged.len() - found.len());
            for (found, acknowledged) in found.iter().zip(acknowledged.iter_mut()) {
                assert!(
                    acknowledged.is_empty() || found == acknowledged,
                    "{channel}: {acknowledged} became {found}"
                );
                // From now on it was read, and must stay.
                acknowledged.clone_from(found);
            }
            let known = acknowledged.len();
            acknowledged.extend_from_slice(&found[known..]);
        }
    }
}

fn publish_until_killed(directory: PathBuf) {
    let store = Running::open(Directory::new(directory), options());
    std::thread::scope(|scope| {
        for channel in CHANNELS {
            let store = &store;
            scope.spawn(move || {
                for number in 0.. {
                    let word = format!("{number}-{}", "x".repeat(number % 200));
                    let mut append = text(channel, &word, KEPT);
                    append.durability = Some(match channel {
                        "interval" => Durability::Interval(Duration::from_millis(20)),
                        "never" => Durability::Never,
                        _ => Durability::Always,
                    });
                    let kept = store.append(append).expect("append").wait_blocking().expect("commit");
                    let Appended::Kept(position) = kept else { panic!("{kept:?}") };
                    // One write per line; the parent ends us while we write, or its own end closes the pipe.
                    let line = format!("kept {channel} {} {word} .\n", position.offset);
                    if std::io::stdout().write_all(line.as_bytes()).is_err() {
                        std::process::exit(0);
                    }
                }
            });
        }
    });
}
