//! Full disks, failing disks, damaged files; and what is freed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_store::durable::{DurableStore, Notice, Opened, Options};
use bowline_store::{CommitError, Durability, Retention, StoreError, StreamStore};
use tokio::time::advance;

use super::simulated::Simulated;
use super::support::{HOUR, Running, all, publish, text, texts};

fn small() -> Options {
    Options { segment_bytes: 2_000, ..Options::default() }
}

#[test]
fn a_full_disk_refuses_appends_serves_reads_and_recovers_by_itself() {
    let disk = Simulated::new(1);
    let Opened { store, mut writer, keeper: _keeper, .. } =
        DurableStore::open(disk.clone(), Options::default()).expect("open");
    let kept = store.append(text("c", "kept", 100)).expect("append");
    writer.run_once();
    assert!(kept.wait_blocking().is_ok());

    disk.set_room(Some(disk.content("0000000000000000.log").len() + 30));
    let mut versioned = text("c", "no room", 100);
    versioned.version = Some(bowline_store::Version { number: 5, epoch: "" });
    versioned.idempotency_key = Some("key");
    let refused = store.append(versioned.clone()).expect("it is not known yet that the disk is full");
    writer.run_once();
    assert_eq!(refused.wait_blocking(), Err(CommitError::DiskFull));
    assert_eq!(store.append(text("c", "refused", 100)).expect_err("known now"), StoreError::DiskFull);
    assert_eq!(texts(&all(&store, "c")), ["kept"]);
    writer.run_once();
    assert_eq!(store.append(text("c", "refused", 100)).expect_err("still full"), StoreError::DiskFull);

    disk.set_room(None);
    writer.run_once();
    // What came to nothing has left neither its offset nor its version nor its key.
    let again = store.append(versioned).expect("there is room again");
    writer.run_once();
    assert!(again.wait_blocking().is_ok());
    assert_eq!(texts(&all(&store, "c")), ["kept", "no room"]);
    assert_eq!(all(&store, "c").top.offset, 2);
    drop((store, writer, _keeper));
    disk.kill();
    let store = Running::open(disk.clone(), Options::default());
    assert_eq!(store.recovered.damage, []);
    assert_eq!(texts(&all(&store, "c")), ["kept", "no room"]);
}

#[test]
fn a_sync_that_fails_counts_for_nothing_however_often_it_succeeds_later() {
    let disk = Simulated::new(1);
    let Opened { store, mut writer, keeper: _keeper, .. } =
        DurableStore::open(disk.clone(), Options::default()).expect("open");
    let mut weak = text("weak", "seen", 100);
    weak.durability = Some(Durability::Never);
    // The first of them is synced.
    for append in [text("c", "kept", 100), weak.clone(), weak] {
        let receipt = store.append(append).expect("append");
        writer.run_once();
        receipt.wait_blocking().expect("commit");
    }
    let seen = all(&store, "weak").top;
    disk.fail_syncs(true);
    let lost = store.append(text("c", "lost", 100)).expect("append");
    writer.run_once();
    assert!(matches!(lost.wait_blocking(), Err(CommitError::Medium(_))));
    disk.fail_syncs(false);
    writer.run_once();
    writer.run_once();
    assert_eq!(texts(&all(&store, "c")), ["kept"]);
    assert_ne!(all(&store, "weak").top.epoch, seen.epoch, "readers had seen what may be lost");
    let next = store.append(text("c", "next", 100)).expect("append");
    writer.run_once();
    next.wait_blocking().expect("commit");
    drop((store, writer, _keeper));
    disk.kill();
    let store = Running::open(disk.clone(), Options::default());
    assert_eq!(texts(&all(&store, "c")), ["kept", "next"]);
    assert_ne!(all(&store, "weak").top.epoch, seen.epoch);
}

#[test]
fn what_waits_is_bounded() {
    let options = Options { queue_bytes: 1_000, ..Options::default() };
    let Opened { store, mut writer, keeper: _keeper, .. } =
        DurableStore::open(Simulated::new(1), options).expect("open");
    let mut receipts = Vec::new();
    let refused = loop {
        match store.append(text("c", &"x".repeat(100), 100)) {
            Ok(receipt) => receipts.push(receipt),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Overloaded { limit_bytes: 1_000 });
    assert_eq!(receipts.len(), 6);
    let large = store.append(text("c", &"x".repeat(2_000), 100)).expect_err("never");
    assert_eq!(large, StoreError::TooLarge { limit_bytes: 1_000 });
    writer.run_once();
    assert!(receipts.into_iter().all(|receipt| receipt.wait_blocking().is_ok()));
    let next = store.append(text("c", "next", 100)).expect("room again");
    assert!(matches!(next.outcome(), bowline_store::Appended::Kept(position) if position.offset == 7));
}

/// Some streams in some files, with and without index, closed well.
fn written() -> (Simulated, Vec<String>) {
    let disk = Simulated::new(1);
    {
        let store = Running::open(disk.clone(), small());
        for round in 0..60 {
            publish(&store, &format!("c{}", round % 5), &format!("{round}-{}", "x".repeat(round)));
        }
    }
    let Opened { store, writer, keeper, .. } = DurableStore::open(disk.clone(), small()).expect("open");
    keeper.tend();
    drop((store, writer, keeper));
    disk.kill();
    let names = disk.names();
    (disk, names)
}

/// P3: no bit that flips makes the store serve something else, or lose something in the middle without a word.
#[test]
fn a_flipped_bit_is_never_served_and_never_lost_in_silence() {
    let (disk, names) = written();
    let truth: Vec<Vec<String>> = {
        let store = Running::open(disk.copy(), small());
        (0..5).map(|channel| texts(&all(&store, &format!("c{channel}")))).collect()
    };
    assert_eq!(truth[0].len(), 12);
    let last_log = names.iter().rfind(|name| name.ends_with(".log")).expect("a log").clone();
    let mut flips = 0;
    for name in names.iter().filter(|name| *name != "lock") {
        let length = disk.content(name).len();
        for byte in (0..length).step_by(if name.ends_with(".index") { 11 } else { 7 }) {
            let damaged = disk.copy();
            damaged.flip(name, byte, (byte % 8) as u8);
            flips += 1;
            let told = Arc::new(Mutex::new(0));
            let count = Arc::clone(&told);
            let listener: bowline_store::durable::Listener = Arc::new(move |notice: &Notice| {
                if matches!(notice, Notice::Damaged(_) | Notice::Renewed { .. }) {
                    *count.lock().expect("count") += 1;
                }
            });
            let store = Running::open(damaged, Options { listener: Some(listener), ..small() });
            for (channel, truth) in truth.iter().enumerate() {
                let page = all(&store, &format!("c{channel}"));
                let found = texts(&page);
                if found == *truth {
                    continue;
                }
                let is_told = *told.lock().expect("count") > 0;
                // Less than the truth: nothing made up, nothing missing in the middle, and somebody was told, unless
                // the end of the last file looks like a write that the power had cut off.
                assert!(truth.ends_with(&found) || truth.starts_with(&found), "{name} {byte}: {found:?}");
                assert!(
                    is_told || (*name == last_log && store.recovered.torn_bytes > 0),
                    "{name} {byte}: c{channel} lost something in silence"
                );
            }
        }
    }
    assert!(flips > 500, "{flips}");
}

#[test]
fn a_publication_that_is_damaged_under_way_is_not_served_and_its_stream_begins_anew() {
    let disk = Simulated::new(1);
    let store = Running::open(disk.clone(), Options::default());
    publish(&store, "c", "damaged");
    publish(&store, "other", "whole");
    let before = all(&store, "c").top;
    let content = disk.content("0000000000000000.log");
    let at = content.windows(7).position(|bytes| bytes == b"damaged").expect("it is there");
    disk.flip("0000000000000000.log", at, 3);
    assert_eq!(store.store.check(|_, _| {}).expect("check").len(), 1);
    let page = all(&store, "c");
    assert_eq!((page.publications.len(), page.top.offset), (0, 0));
    assert_ne!(page.top.epoch, before.epoch);
    assert_eq!(texts(&all(&store, "other")), ["whole"]);
    assert_eq!(store.store.disk_stats().renewed, 1);
    assert_eq!(publish(&store, "c", "begins again"), 1);
}

#[tokio::test(start_paused = true)]
async fn dead_files_are_freed_and_what_counts_in_them_is_kept() {
    let disk = Simulated::new(1);
    {
        let Opened { store, mut writer, keeper, .. } =
            DurableStore::open(disk.clone(), small()).expect("open");
        let mut append = |channel: &str, word: &str, size| {
            let mut append = text(channel, word, size);
            append.retention = Retention::new(size, 100 * HOUR, 100 * HOUR);
            append.idempotency_key = (channel == "rare").then_some("key");
            let receipt = store.append(append).expect("append");
            writer.run_once();
            receipt.wait_blocking().expect("commit");
        };
        append("rare", "kept from the beginning", 10);
        store.remove("empty").expect("remove").wait_blocking().expect("unknown");
        for round in 0..400 {
            append("busy", &format!("{round}-{}", "x".repeat(80)), 3);
        }
        let before = store.disk_stats();
        assert!(before.files > 20, "{before:?}");
        // Keys are remembered for five minutes, and so are the files they may be in.
        assert_eq!(keeper.tend_driving(&mut writer).freed_files, 0);
        drop((store, writer, keeper));
        disk.kill();
    }
    disk.set_wall_clock(Duration::from_secs(1_700_000_000 + 600));
    let Opened { store, mut writer, keeper, .. } = DurableStore::open(disk.clone(), small()).expect("open");
    // While nobody ran the keys did not age.
    assert_eq!(keeper.tend_driving(&mut writer).freed_files, 0);
    advance(Duration::from_secs(301)).await;
    let freed = keeper.tend_driving(&mut writer);
    assert!(freed.freed_files > 20, "{freed:?}");
    assert!(freed.copied_bytes > 0 && freed.copied_bytes < 2_000, "{freed:?}");
    assert!(store.disk_stats().files < 5);
    let check = |store: &DurableStore| {
        assert_eq!(texts(&all(store, "rare")), ["kept from the beginning"]);
        let busy = all(store, "busy");
        assert_eq!((busy.publications.len(), busy.top.offset), (3, 400));
    };
    check(&store);
    drop((store, writer, keeper));
    disk.cut_power();
    let Opened { store, .. } = DurableStore::open(disk, small()).expect("open");
    check(&store);
}

#[test]
fn what_is_said_of_streams_without_publications_is_not_written_again_at_every_turn() {
    let disk = Simulated::new(1);
    let Opened { store, mut writer, keeper, .. } = DurableStore::open(disk, small()).expect("open");
    for number in 0..300 {
        let channel = format!("channel {number}");
        let kept = store.append(text(&channel, &"x".repeat(200), 10)).expect("append");
        writer.run_once();
        kept.wait_blocking().expect("commit");
        let removed = store.remove(&channel).expect("remove");
        writer.run_once();
        removed.wait_blocking().expect("commit");
    }
    let before = store.disk_stats();
    let done = keeper.tend_driving(&mut writer);
    assert!(done.freed_files > 20, "{done:?} of {before:?}");
    assert!(store.disk_stats().files > 4, "{:?}", store.disk_stats());
    for _ in 0..3 {
        assert_eq!(keeper.tend_driving(&mut writer).freed_files, 0, "{:?}", store.disk_stats());
    }
    assert_eq!(store.stats().streams, 300);
}

#[test]
fn the_limit_of_all_bytes_drops_the_oldest_and_tells() {
    let dropped = Arc::new(Mutex::new(0));
    let count = Arc::clone(&dropped);
    let listener: bowline_store::durable::Listener = Arc::new(move |notice: &Notice| {
        if let Notice::Dropped { publications } = notice {
            *count.lock().expect("count") += publications;
        }
    });
    let options = Options { max_bytes: Some(10_000), listener: Some(listener), ..small() };
    let disk = Simulated::new(1);
    let Opened { store, mut writer, keeper, .. } =
        DurableStore::open(disk.clone(), options.clone()).expect("open");
    for round in 0..100 {
        let receipt =
            store.append(text("c", &format!("{round}-{}", "x".repeat(150)), 1_000)).expect("append");
        writer.run_once();
        receipt.wait_blocking().expect("commit");
    }
    keeper.tend_driving(&mut writer);
    let page = all(&store, "c");
    assert!(store.disk_stats().bytes <= 12_000, "{:?}", store.disk_stats());
    assert_eq!(page.publications.len() + *dropped.lock().expect("count"), 100);
    assert_eq!(page.publications.last().map(|kept| kept.offset), Some(100));
    drop((store, writer, keeper));
    disk.cut_power();
    let store = Running::open(disk, options);
    assert_eq!(all(&store, "c"), page, "same epoch, same run");
}

#[test]
fn damage_in_what_was_synced_is_no_torn_tail_even_after_the_power_was_gone() {
    let disk = Simulated::new(1);
    let Opened { store, mut writer, keeper, .. } =
        DurableStore::open(disk.clone(), Options::default()).expect("open");
    for (channel, word) in [("hit", "damaged"), ("older", "before"), ("newer", "first"), ("newer", "second")]
    {
        let receipt = store.append(text(channel, word, 10)).expect("append");
        writer.run_once();
        receipt.wait_blocking().expect("commit");
    }
    let epochs = ["hit", "older", "newer"].map(|channel| all(&store, channel).top.epoch);
    drop((store, writer, keeper));
    disk.cut_power();
    let name = "0000000000000000.log";
    let at = disk.content(name).windows(7).position(|bytes| bytes == b"damaged").expect("it is there");
    disk.flip(name, at, 1);
    let store = Running::open(disk, Options::default());
    assert_eq!((store.recovered.damage.len(), store.recovered.torn_bytes), (1, 0));
    assert_eq!(texts(&all(&store, "newer")), ["first", "second"], "what is behind the damage counts");
    assert_eq!(texts(&all(&store, "older")), ["before"]);
    assert_eq!(all(&store, "older").top.epoch, epochs[1]);
    assert_eq!(all(&store, "newer").top.epoch, epochs[2]);
    assert_ne!(all(&store, "hit").top.epoch, epochs[0], "nobody knows what its top was");
}

#[tokio::test(start_paused = true)]
async fn compaction_frees_what_is_dead_and_says_how_far_it_is() {
    let disk = Simulated::new(1);
    {
        let store = Running::open(disk.clone(), small());
        // Files with a key that is remembered stay, so that the keeper leaves something to do.
        let mut keyed = text("keyed", "first", 1);
        keyed.idempotency_key = Some("key");
        store.append(keyed).expect("append").wait_blocking().expect("commit");
        for round in 0..100 {
            publish(&store, "kept", &format!("{round}"));
            for _ in 0..2 {
                let append = text("busy", &"x".repeat(200), 1);
                store.append(append).expect("append").wait_blocking().expect("commit");
            }
        }
    }
    disk.set_wall_clock(Duration::from_secs(1_700_000_000 + 600));
    let store = Running::open(disk.clone(), small());
    advance(Duration::from_secs(301)).await;
    let before = (all(&store, "kept"), all(&store, "busy"), store.store.disk_stats().bytes);
    let mut steps = Vec::new();
    let done = store.store.compact(|step| steps.push(step)).expect("compact");
    assert!(done.freed_files > 10 && done.copied_bytes > 0, "{done:?}");
    assert!(steps.len() > done.freed_files && steps.last() == Some(&done), "{steps:?}");
    assert!(done.bytes < before.2 / 2, "{done:?} of {}", before.2);
    assert_eq!((all(&store, "kept"), all(&store, "busy")), (before.0, before.1));
    let mut read = 0;
    assert_eq!(store.store.check(|bytes, _| read = bytes).expect("check"), []);
    assert_eq!(read, store.store.disk_stats().bytes);
}

#[test]
fn a_stream_whose_newest_publication_is_damaged_does_not_give_its_offset_again() {
    let disk = Simulated::new(1);
    let before = {
        let store = Running::open(disk.clone(), Options::default());
        publish(&store, "hit", "first");
        publish(&store, "hit", "damaged");
        publish(&store, "other", "behind");
        (all(&store, "hit").top, all(&store, "other"))
    };
    let name = "0000000000000000.log";
    let at = disk.content(name).windows(7).position(|bytes| bytes == b"damaged").expect("it is there");
    disk.flip(name, at, 1);
    for _ in 0..2 {
        let store = Running::open(disk.clone(), Options::default());
        let page = all(&store, "hit");
        assert_ne!(
            page.top.epoch, before.0.epoch,
            "offset 2 stands for the damaged one in that epoch for ever"
        );
        assert_eq!((page.top.offset, page.publications.len()), (0, 0));
        assert_eq!(all(&store, "other"), before.1);
    }
}
