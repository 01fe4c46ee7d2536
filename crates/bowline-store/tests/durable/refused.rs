//! Disks that are full or fail, and a writer that ends: what a publisher was told is so, after a restart as well.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bowline_store::durable::{DurableStore, Listener, Notice, Opened, Options};
use bowline_store::{Append, Appended, CommitError, Durability, Retention, StoreError, StreamStore};

use super::simulated::Simulated;
use super::support::{HOUR, Running, all, spawn, text, texts};

const LOG: &str = "0000000000000000.log";

fn opened(disk: &Simulated) -> Opened {
    DurableStore::open(disk.clone(), Options::default()).expect("open")
}

/// Two appends in one batch, of which the disk takes the first and not the second.
fn half_a_batch(disk: &Simulated) -> (Opened, [Result<Appended, CommitError>; 2]) {
    let mut opened = opened(disk);
    let kept = opened.store.append(text("c", "kept", 100)).expect("append");
    opened.writer.run_once();
    kept.wait_blocking().expect("commit");
    disk.set_room(Some(disk.content(LOG).len() + 200));
    let refused = ["small".to_owned(), "x".repeat(300)]
        .map(|word| opened.store.append(text("c", &word, 100)).expect("it is not known yet"));
    opened.writer.run_once();
    (opened, refused.map(|receipt| receipt.wait_blocking()))
}

#[test]
fn what_a_full_disk_refused_is_not_there_after_a_restart() {
    for closes in [false, true] {
        let disk = Simulated::new(1);
        let (Opened { store, writer, keeper, .. }, told) = half_a_batch(&disk);
        assert_eq!(told, [Err(CommitError::DiskFull), Err(CommitError::DiskFull)]);
        if closes {
            store.close();
            writer.run();
        } else {
            drop(writer);
        }
        drop((store, keeper));
        disk.kill();
        disk.set_room(None);
        let Opened { store, .. } = opened(&disk);
        assert_eq!(texts(&all(&store, "c")), ["kept"], "closed: {closes}");
    }
}

#[test]
fn what_cannot_be_cut_off_is_not_called_refused() {
    let disk = Simulated::new(1);
    disk.fail_truncates(true);
    let (Opened { store, mut writer, keeper, .. }, told) = half_a_batch(&disk);
    for told in told {
        assert!(matches!(told, Err(CommitError::Medium(_))), "nobody knows: {told:?}");
    }
    assert_eq!(store.append(text("c", "refused", 100)).expect_err("known now"), StoreError::DiskFull);
    disk.set_room(None);
    writer.run_once();
    // It could not be cut off, and yet it does not count: a file that begins in front of it says so.
    let next = store.append(text("c", "next", 100)).expect("append");
    writer.run_once();
    next.wait_blocking().expect("commit");
    assert_eq!(texts(&all(&store, "c")), ["kept", "next"]);
    drop((store, writer, keeper));
    disk.kill();
    let Opened { store, recovered, .. } = opened(&disk);
    assert_eq!(recovered.damage, []);
    assert_eq!(texts(&all(&store, "c")), ["kept", "next"]);
}

#[test]
fn a_repeat_is_not_told_that_it_is_kept_when_the_writer_has_ended() {
    let disk = Simulated::new(1);
    let Opened { store, writer, .. } = opened(&disk);
    let append = || Append { idempotency_key: Some("k"), ..text("c", "once", 100) };
    let first = store.append(append()).expect("append");
    drop(writer);
    first.wait_blocking().expect_err("nobody writes it");
    assert_eq!(store.append(append()).expect_err("nor the repeat"), StoreError::Closed);
}

#[test]
fn times_without_end_end_nothing() {
    let disk = Simulated::new(1);
    let options = Options { tend_every: Duration::MAX, ..Options::default() };
    let store = Running::open(disk, options);
    for word in ["first", "second"] {
        let mut append = text("c", word, 100);
        append.durability = Some(Durability::Interval(Duration::MAX));
        store.append(append).expect("append").wait_blocking().expect("commit");
    }
    assert_eq!(texts(&all(&store, "c")), ["first", "second"]);
}

#[test]
fn a_writer_that_panics_leaves_nobody_waiting() {
    let disk = Simulated::new(1);
    let Opened { store, writer, .. } = opened(&disk);
    disk.panic_at_write();
    let receipt = store.append(text("c", "lost", 100)).expect("append");
    spawn(move || writer.run()).join().expect_err("the bug");
    let (told, tells) = mpsc::sync_channel(1);
    let waits = spawn(move || told.send(receipt.wait_blocking()));
    let told = tells.recv_timeout(Duration::from_secs(20)).expect("it is told in the end");
    assert_eq!(told, Err(CommitError::Closed));
    waits.join().expect("no panic").expect("it was heard");
}

#[test]
fn an_append_that_comes_to_nothing_trims_nothing() {
    let disk = Simulated::new(1);
    let Opened { store, mut writer, .. } = opened(&disk);
    for word in ["1", "2", "3"] {
        let kept = store.append(text("c", word, 100)).expect("append");
        writer.run_once();
        kept.wait_blocking().expect("commit");
    }
    disk.set_room(Some(disk.content(LOG).len()));
    let mut smaller = text("c", "no room", 1);
    smaller.retention = Retention::new(1, Duration::from_millis(1), HOUR);
    let refused = store.append(smaller).expect("it is not known yet");
    assert_eq!(texts(&all(&store, "c")), ["1", "2", "3"], "it is not committed");
    writer.run_once();
    refused.wait_blocking().expect_err("there is no room");
    assert_eq!(texts(&all(&store, "c")), ["1", "2", "3"], "it never was");
}

/// A store with many files, of which nothing counts but what the last one has; nobody has freed any yet.
fn mostly_dead(disk: &Simulated, listener: Option<Listener>) -> Opened {
    let options = Options { segment_bytes: 2_000, listener, ..Options::default() };
    let mut opened = DurableStore::open(disk.clone(), options).expect("open");
    for round in 0..60 {
        let append = text("c", &format!("{round}-{}", "x".repeat(150)), 2);
        let kept = opened.store.append(append).expect("append");
        opened.writer.run_once();
        kept.wait_blocking().expect("commit");
    }
    opened
}

/// What needs no room is freed on a disk that is full, and that is how it gets some.
#[test]
fn files_of_which_nothing_counts_go_on_a_full_disk_too() {
    let disk = Simulated::new(1);
    let Opened { store, mut writer, keeper, .. } = mostly_dead(&disk, None);
    disk.leave_room(0);
    let refused = store.append(text("c", "no room", 2)).expect("it is not known yet");
    writer.run_once();
    assert_eq!(refused.wait_blocking(), Err(CommitError::DiskFull));
    let files = store.disk_stats().files;
    let freed = keeper.tend_driving(&mut writer);
    assert!(
        freed.freed_files > 3 && freed.freed_files < files && freed.copied_bytes == 0,
        "{freed:?} of {files}"
    );
    writer.run_once();
    let kept = store.append(text("c", "room again", 2)).expect("there is room");
    writer.run_once();
    kept.wait_blocking().expect("commit");
    let before = all(&store, "c");
    assert_eq!(texts(&before)[1], "room again");
    drop((store, writer, keeper));
    disk.cut_power();
    let Opened { store, recovered, .. } = opened(&disk);
    assert_eq!((recovered.renewed, &recovered.damage[..]), (0, &[][..]));
    assert_eq!(all(&store, "c"), before);
}

#[test]
fn a_file_of_which_something_counts_stays_on_a_full_disk() {
    let disk = Simulated::new(1);
    let options = Options { segment_bytes: 2_000, ..Options::default() };
    let Opened { store, mut writer, keeper, .. } = DurableStore::open(disk.clone(), options).expect("open");
    let mut append = |channel: &str, word: &str| {
        let append = text(channel, word, 2);
        let receipt = store.append(append).expect("it is not known that the disk is full");
        writer.run_once();
        receipt.wait_blocking()
    };
    append("removed", "is remembered").expect("commit");
    for round in 0..60 {
        append("c", &format!("{round}-{}", "x".repeat(150))).expect("commit");
    }
    let removed = store.remove("removed").expect("remove");
    let epoch = all(&store, "removed").top.epoch;
    disk.leave_room(0);
    writer.run_once();
    removed.wait_blocking().expect_err("there is no room");
    assert_eq!(keeper.tend_driving(&mut writer).freed_files, 0, "nothing else says that it was");
    drop((store, writer, keeper));
    disk.set_room(None);
    disk.cut_power();
    let Opened { store, .. } = opened(&disk);
    assert_eq!(all(&store, "removed").top.epoch, epoch);
}

#[test]
fn a_file_that_cannot_be_removed_is_tried_again_before_any_other() {
    let disk = Simulated::new(1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    let listener: Listener =
        Arc::new(move |notice: &Notice| notes.lock().expect("notes").push(notice.clone()));
    let Opened { store, mut writer, keeper, .. } = mostly_dead(&disk, Some(listener));
    disk.fail_removes(true);
    for _ in 0..3 {
        assert_eq!(keeper.tend_driving(&mut writer).freed_files, 0);
    }
    assert!(disk.names().contains(&LOG.to_owned()));
    let failed = std::mem::take(&mut *told.lock().expect("notes"));
    assert!(matches!(
        failed[..],
        [Notice::KeepingFailed(_), Notice::KeepingFailed(_), Notice::KeepingFailed(_)]
    ));
    disk.fail_removes(false);
    assert!(keeper.tend_driving(&mut writer).freed_files > 3);
    keeper.tend_driving(&mut writer);
    assert_eq!(told.lock().expect("notes")[..], [Notice::KeepsAgain], "once");
    assert!(!disk.names().contains(&LOG.to_owned()), "the oldest first");
    assert_eq!(all(&store, "c").publications.len(), 2);
}
