//! Looking at a store: nothing is changed, every damage is found, and what is said of the next start comes true.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_store::durable::{
    Checked, Consequence, DurableStore, InspectError, Inspection, OpenError, Opened, Options, Trouble,
    inspect,
};
use bowline_store::{Appended, Durability, StreamStore};

use super::support::{HOUR, Running, Scratch, all, publish, text, texts};

fn small() -> Options {
    Options { segment_bytes: 2_000, tend_every: Duration::from_secs(3600), ..Options::default() }
}

/// Five streams in some files, all but the last with an index; closed well.
fn written(scratch: &Scratch) {
    {
        let store = Running::open(scratch.disk(), small());
        for round in 0..60 {
            publish(&store, &format!("c{}", round % 5), &format!("{round}-{}", "x".repeat(round)));
        }
    }
    let Opened { store, writer, keeper, .. } = DurableStore::open(scratch.disk(), small()).expect("open");
    keeper.tend();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.run());
        store.append(text("last", "in the last file", 10)).expect("append").wait_blocking().expect("commit");
        store.close();
    });
}

fn look(path: &Path) -> Inspection {
    inspect(path, |_| ControlFlow::Continue(())).expect("it can be looked at")
}

fn check(path: &Path) -> Checked {
    look(path).check().expect("it can be read")
}

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().expect("our names are text");
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

fn put(path: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let _ = std::fs::remove_dir_all(path);
    std::fs::create_dir_all(path).expect("a directory");
    for (name, content) in files {
        std::fs::write(path.join(name), content).expect("a file");
    }
}

#[test]
fn a_whole_store_has_no_findings_and_is_left_as_it_is() {
    let scratch = Scratch::new();
    written(&scratch);
    std::fs::write(scratch.0.join("index.tmp"), b"was not finished").expect("a leftover");
    let before = files(&scratch.0);
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let inspection = inspect(&scratch.0, move |progress| {
        assert!(progress.read <= progress.total);
        counted.fetch_max(progress.read, Ordering::Relaxed);
        ControlFlow::Continue(())
    })
    .expect("it can be looked at");
    let checked = inspection.check().expect("it can be read");
    assert_eq!(checked.findings, []);
    assert!(checked.records > 61, "{checked:?}");
    let bytes: usize =
        before.iter().filter(|(name, _)| name.ends_with("log")).map(|(_, file)| file.len()).sum();
    assert!(checked.bytes > bytes as u64 && steps.load(Ordering::Relaxed) > bytes as u64);
    assert!(inspection.recovered().was_closed);

    let report = inspection.report(2);
    assert_eq!((report.streams, report.publications, report.weak_streams), (6, 61, 0));
    assert_eq!(report.log_bytes, bytes as u64);
    assert_eq!(report.live_bytes + report.dead_bytes, report.log_bytes);
    assert!(report.live_bytes > report.payload_bytes as u64);
    assert!(report.oldest <= report.newest && report.oldest.is_some());
    let largest: Vec<_> = report.largest.iter().map(|stream| (&*stream.channel, stream.top)).collect();
    assert_eq!(largest, [("c4", 12), ("c3", 12)]);
    drop(inspection);
    assert_eq!(files(&scratch.0), before);
}

#[test]
fn what_is_not_a_store_or_somebody_elses_is_refused() {
    let scratch = Scratch::new();
    let look = |path: &Path| inspect(path, |_| ControlFlow::Continue(()));
    assert!(matches!(look(&scratch.0), Err(InspectError::Missing)));
    std::fs::create_dir_all(&scratch.0).expect("a directory");
    assert!(matches!(look(&scratch.0), Err(InspectError::Missing)), "an empty directory");
    let store = Running::open(scratch.disk(), small());
    publish(&store, "c", "one");
    assert!(matches!(look(&scratch.0), Err(InspectError::Open(OpenError::InUse))));
    drop(store);
    let first = look(&scratch.0).expect("nobody has it");
    let second = look(&scratch.0).expect("any number may look");
    let refused = DurableStore::open(scratch.disk(), small()).expect_err("somebody looks");
    assert!(matches!(refused, OpenError::InUse));
    drop((first, second));
    DurableStore::open(scratch.disk(), small()).expect("nobody looks any more");
}

#[test]
fn whoever_watches_can_end_it() {
    let scratch = Scratch::new();
    written(&scratch);
    assert!(matches!(inspect(&scratch.0, |_| ControlFlow::Break(())), Err(InspectError::Stopped)));
    let left = AtomicU64::new(20);
    let inspection = inspect(&scratch.0, move |progress| {
        let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if progress.read == progress.total { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .expect("the first look is not all of it");
    assert!(matches!(inspection.check(), Err(InspectError::Stopped)));
}

/// What the next start and the reads after it make of each channel: whether its epoch is another.
fn comes_true(path: &Path, truth: &BTreeMap<String, (String, Vec<String>)>) -> (usize, BTreeSet<String>) {
    let store = Running::open(bowline_store::disk::Directory::new(path), small());
    let at_start = store.recovered.renewed;
    let mut renewed = BTreeSet::new();
    for (channel, (epoch, truth)) in truth {
        let page = all(&store, channel);
        if page.top.epoch.as_str() == epoch {
            let found = texts(&page);
            assert!(truth.starts_with(&found), "{channel} lost something of its beginning: {found:?}");
        } else {
            renewed.insert(channel.clone());
        }
    }
    (at_start, renewed)
}

/// P3, told before it happens: a flipped bit of any kind of file is found, with the channels that will lose by it.
#[test]
fn every_flipped_bit_is_found_and_what_is_said_of_it_comes_true() {
    let scratch = Scratch::new();
    written(&scratch);
    let whole = files(&scratch.0);
    let truth: BTreeMap<String, (String, Vec<String>)> = {
        let copy = Scratch::new();
        put(&copy.0, &whole);
        let store = Running::open(copy.disk(), small());
        let names = (0..5).map(|channel| format!("c{channel}")).chain(["last".to_owned()]);
        names
            .map(|name| {
                let page = all(&store, &name);
                (name, (page.top.epoch.as_str().to_owned(), texts(&page)))
            })
            .collect()
    };
    let damaged = Scratch::new();
    let (mut flips, mut told, mut at_start, mut when_read) = (0, 0, 0, 0);
    for (name, content) in whole.iter().filter(|(name, _)| *name != "lock") {
        for byte in (flips % 17..content.len()).step_by(if name.ends_with(".index") { 151 } else { 53 }) {
            let mut files = whole.clone();
            files.entry(name.clone()).and_modify(|content| content[byte] ^= 1 << (byte % 8));
            put(&damaged.0, &files);
            flips += 1;
            let inspection = look(&damaged.0);
            let checked = inspection.check().expect("it can be read");
            let is_torn = inspection.recovered().torn_bytes > 0;
            assert!(!checked.findings.is_empty() || is_torn, "{name} {byte}: not found");
            let said_at_start = inspection.renewed().len();
            let known: BTreeSet<String> =
                inspection.report(100).largest.into_iter().map(|stream| stream.channel).collect();
            let named: BTreeSet<String> = checked
                .findings
                .iter()
                .filter(|finding| {
                    matches!(finding.consequence, Consequence::RenewedAtStart | Consequence::RenewedWhenRead)
                })
                .flat_map(|finding| finding.channels.clone())
                .chain(inspection.renewed().iter().cloned())
                .collect();
            drop(inspection);
            let (renewed_at_start, mut renewed) = comes_true(&damaged.0, &truth);
            assert_eq!(said_at_start, renewed_at_start, "{name} {byte}");
            let consequences: Vec<_> = checked.findings.iter().map(|finding| finding.consequence).collect();
            if renewed.iter().any(|channel| !known.contains(channel)) {
                // Nobody can name a stream of which there is no other record, but that there may be one is said.
                assert!(
                    is_torn || consequences.contains(&Consequence::RenewedAtStart),
                    "{name} {byte}: {checked:?}"
                );
                renewed.retain(|channel| known.contains(channel));
            }
            assert!(
                renewed.is_subset(&named),
                "{name} {byte}: {renewed:?} was not said, {named:?} was: {checked:?}"
            );
            let is_all = checked.findings.iter().all(|finding| finding.trouble != Trouble::Index);
            assert!(!is_all || named == renewed, "{name} {byte}: {named:?} was said, {renewed:?} came true");
            told += usize::from(!checked.findings.is_empty());
            at_start += usize::from(renewed_at_start > 0);
            when_read += usize::from(renewed.len() > renewed_at_start);
        }
    }
    assert!(flips > 60 && told > flips - 10, "{told} of {flips} were told");
    assert!(at_start > 0 && when_read > 10, "{at_start} at the start, {when_read} when read, of {flips}");
}

#[test]
fn a_file_that_is_gone_is_missed_by_the_records_behind_it() {
    let scratch = Scratch::new();
    written(&scratch);
    let logs: Vec<_> = files(&scratch.0).into_keys().filter(|name| name.ends_with(".log")).collect();
    std::fs::remove_file(scratch.0.join(&logs[1])).expect("it was there");
    let inspection = look(&scratch.0);
    let checked = inspection.check().expect("it can be read");
    let missed: BTreeSet<_> = checked.findings.iter().flat_map(|finding| finding.channels.clone()).collect();
    assert_eq!(missed.iter().cloned().collect::<Vec<_>>(), ["c0", "c1", "c2", "c3", "c4"]);
    for finding in &checked.findings {
        let expected = match finding.trouble {
            Trouble::Unreadable | Trouble::Missing(_) => Consequence::RenewedAtStart,
            // The file before has to reach to the one behind now, and its index says that it does not.
            Trouble::Index if finding.place.file == "0000000000000000.index" => Consequence::ReadElsewhere,
            _ => panic!("{finding:?}"),
        };
        assert_eq!(finding.consequence, expected);
    }
    assert_eq!(inspection.renewed().len(), 5);
}

#[test]
fn an_index_of_another_store_is_found_out() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    written(&scratch);
    written(&other);
    let index = "0000000000000000.index";
    std::fs::copy(other.0.join(index), scratch.0.join(index)).expect("both are there");
    let [finding] = &check(&scratch.0).findings[..] else { panic!("only the index is not what it was") };
    assert_eq!((&*finding.place.file, &finding.trouble), (index, &Trouble::Index));
    assert_eq!(finding.consequence, Consequence::ReadElsewhere, "it has the secret of another file");
    std::fs::remove_file(scratch.0.join(index)).expect("as it is said");
    assert_eq!(check(&scratch.0).findings, []);
}

/// Where in a file the frames are, marks included, and how long each is.
fn frames(content: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut frames) = (48, Vec::new());
    while at < content.len() {
        let length = 8 + u32::from_le_bytes(content[at..at + 4].try_into().expect("four bytes")) as usize;
        frames.push((at, length));
        at += length;
    }
    frames
}

/// Those of publications.
fn publications(content: &[u8]) -> Vec<(usize, usize)> {
    frames(content).into_iter().filter(|(at, _)| content[at + 8] == 2).collect()
}

fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = std::fs::read(path).expect("it is there");
    change(&mut content);
    std::fs::write(path, content).expect("it can be written");
}

#[test]
fn an_index_that_says_something_else_than_its_file_would_be_believed() {
    let scratch = Scratch::new();
    written(&scratch);
    let index = "0000000000000000.index";
    overwrite(&scratch.0.join(index), |content| {
        let [(first, one), (second, another), ..] = frames(content)[..] else { panic!("two records") };
        // Whole, of this file, and as many as before.
        let swapped = [&content[second..second + another], &content[first..first + one]].concat();
        content[first..second + another].copy_from_slice(&swapped);
    });
    let [finding] = &check(&scratch.0).findings[..] else { panic!("only the index is not what it was") };
    assert_eq!((&*finding.place.file, &finding.trouble), (index, &Trouble::Index));
    assert_eq!(finding.consequence, Consequence::Believed);
}

#[test]
fn an_offset_that_is_there_twice_is_found_and_what_it_has_taken_the_place_of() {
    let scratch = Scratch::new();
    let before = {
        let store = Running::open(scratch.disk(), Options::default());
        for number in 1..=4 {
            assert_eq!(publish(&store, "c", &format!("word {number}")), number);
        }
        all(&store, "c").top.epoch
    };
    overwrite(&scratch.0.join("0000000000000000.log"), |content| {
        let places = publications(content);
        let [_, (second, length), (third, same), _] = places[..] else { panic!("four: {places:?}") };
        assert_eq!(length, same);
        content.copy_within(second..second + length, third);
    });
    let inspection = look(&scratch.0);
    let found: Vec<_> = inspection.check().expect("it can be read").findings;
    let troubles: Vec<_> = found.iter().map(|finding| finding.trouble.clone()).collect();
    assert_eq!(troubles, [Trouble::Doubled(2), Trouble::Missing(3..=3)]);
    assert!(found.iter().all(|finding| finding.consequence == Consequence::RenewedAtStart), "{found:?}");
    drop(inspection);
    assert_ne!(all(&Running::open(scratch.disk(), Options::default()), "c").top.epoch, before);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_was_over_and_is_back_is_found() {
    let scratch = Scratch::new();
    let Opened { store, mut writer, keeper, .. } =
        DurableStore::open(scratch.disk(), Options::default()).expect("open");
    let mut append = |word: &str| {
        let kept = store.append(text("c", word, 10)).expect("append");
        writer.run_once();
        match kept.wait_blocking() {
            Ok(Appended::Kept(position)) => position.epoch,
            other => panic!("{other:?}"),
        }
    };
    let first = append("word 1");
    tokio::time::advance(3 * HOUR).await;
    let [second, third] = ["word 2", "word 3"].map(&mut append);
    assert!(first != second && second == third, "nobody had used it for longer than it is remembered");
    drop((store, writer, keeper));
    overwrite(&scratch.0.join("0000000000000000.log"), |content| {
        let places = publications(content);
        let [(first, length), _, (third, same)] = places[..] else { panic!("three: {places:?}") };
        assert_eq!(length, same);
        content.copy_within(first..first + length, third);
    });
    let [finding] = &check(&scratch.0).findings[..] else { panic!("one record is not what it was") };
    assert_eq!(finding.trouble, Trouble::EpochAgain(first.as_str().to_owned()));
    assert_eq!(finding.channels, BTreeSet::from(["c".to_owned()]));
}

#[test]
fn an_index_is_checked_beside_a_file_that_is_damaged_as_well() {
    let scratch = Scratch::new();
    written(&scratch);
    let mut whole = files(&scratch.0);
    for name in ["0000000000000000.log", "0000000000000000.index"] {
        let content = whole.get_mut(name).expect("it is there");
        let middle = content.len() / 2;
        content[middle] ^= 4;
    }
    put(&scratch.0, &whole);
    let found: Vec<_> = check(&scratch.0).findings.into_iter().map(|finding| finding.trouble).collect();
    assert_eq!(found, [Trouble::Unreadable, Trouble::Index]);
}

/// A process that is killed leaves a tail, and no damage.
#[test]
fn what_a_killed_process_leaves_is_no_damage() {
    let scratch = Scratch::new();
    written(&scratch);
    let mut whole = files(&scratch.0);
    let (name, last) = whole.iter_mut().rfind(|(name, _)| name.ends_with(".log")).expect("a log");
    let length = last.len() - 5;
    last.truncate(length);
    let name = name.clone();
    put(&scratch.0, &whole);
    let inspection = look(&scratch.0);
    assert!(inspection.recovered().torn_bytes > 0, "{name}");
    assert!(!inspection.recovered().was_closed);
    assert_eq!(inspection.check().expect("it can be read").findings, []);
    assert_eq!(inspection.renewed(), Vec::<String>::new());
}

#[test]
fn streams_that_are_acknowledged_before_they_are_synced_are_counted() {
    let scratch = Scratch::new();
    {
        let store = Running::open(scratch.disk(), small());
        publish(&store, "synced", "one");
        for word in ["one", "two"] {
            let mut append = text("weak", word, 10);
            append.durability = Some(Durability::Never);
            store.append(append).expect("append").wait_blocking().expect("commit");
        }
    }
    let report = look(&scratch.0).report(10);
    assert_eq!((report.streams, report.weak_streams), (2, 1));
    let weak = report.largest.iter().find(|stream| stream.channel == "weak").expect("it is one of two");
    assert!(weak.is_weak && weak.publications == 2);
}
