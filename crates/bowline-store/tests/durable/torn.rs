//! What the power tears, and what somebody takes away: the one is cut, the other told, and neither can be made up.

use bowline_store::durable::{DurableStore, Opened, Options};
use bowline_store::{Append, Publication, StreamStore};

use super::simulated::Simulated;
use super::support::{HOUR, Running, all, keep, publish, text, texts};

/// A mark as a publisher can make one: everything in it is in the documentation, but for the secret of the file: this one's is 0.
fn forged_mark() -> Vec<u8> {
    let body = [&[1_u8][..], &[0; 8], &u64::MAX.to_le_bytes(), &0_u64.to_le_bytes()].concat();
    frame(crc32c::crc32c(&[0; 8]), &body)
}

fn frame(seed: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("it is short").to_le_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c_append(seed, &length), body);
    [&length[..], &checksum.to_le_bytes(), body].concat()
}

#[test]
fn a_torn_payload_cannot_say_that_it_was_synced() {
    // As the marks were before they had a secret, too.
    let old = frame(0, &[&[1_u8][..], &u64::MAX.to_le_bytes(), &0_u64.to_le_bytes()].concat());
    let payload: Vec<u8> = [forged_mark(), old].concat().repeat(60);
    for seed in 0..60 {
        let disk = Simulated::new(seed);
        let Opened { store, mut writer, keeper, .. } =
            DurableStore::open(disk.clone(), Options::default()).expect("open");
        let kept = store.append(text("c", "kept", 100)).expect("append");
        writer.run_once();
        kept.wait_blocking().expect("commit");
        let before = all(&store, "c");
        let _unknown =
            store.append(Append::new("c", Publication::new(payload.clone()), keep(100))).expect("append");
        disk.fail_syncs(true);
        writer.run_once();
        disk.fail_syncs(false);
        drop((store, writer, keeper));
        disk.cut_power();
        let Opened { store, recovered, .. } =
            DurableStore::open(disk.clone(), Options::default()).expect("open");
        assert_eq!(recovered.damage, [], "seed {seed}");
        let page = all(&store, "c");
        assert_eq!((&page.top.epoch, &page.publications[0]), (&before.top.epoch, &before.publications[0]));
    }
}

/// Files of a store that was closed, some publications in each.
fn written() -> Simulated {
    let disk = Simulated::new(1);
    let options = Options { segment_bytes: 1_000, ..Options::default() };
    let store = Running::open(disk.clone(), options);
    for round in 0..40 {
        publish(&store, &format!("c{}", round % 4), &format!("{round}-{}", "x".repeat(100)));
    }
    publish(&store, "last", "whole");
    drop(store);
    disk
}

fn logs(disk: &Simulated) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".log")).collect()
}

#[track_caller]
fn is_told_and_not_served(disk: &Simulated, whole: &Simulated) {
    let before = Running::open(whole.copy(), Options::default());
    let store = Running::open(disk.clone(), Options::default());
    assert!(!store.recovered.damage.is_empty(), "somebody is told");
    assert_eq!(texts(&all(&store, "last")), ["whole"]);
    for channel in ["c0", "c1", "c2", "c3"] {
        let (before, page) = (all(&before, channel), all(&store, channel));
        assert!(
            page.top.epoch != before.top.epoch || page == before,
            "{channel} lost something in the middle without a word: {page:?}"
        );
    }
}

#[test]
fn a_file_that_is_missing_in_the_middle_is_told() {
    let whole = written();
    let disk = whole.copy();
    let logs = logs(&disk);
    assert!(logs.len() > 4, "{logs:?}");
    disk.take_away(&logs[2]);
    is_told_and_not_served(&disk, &whole);
}

#[test]
fn a_file_that_is_too_short_is_told() {
    let whole = written();
    let logs = logs(&whole);
    let length = whole.content(&logs[2]).len();
    for left in [0, 5, 48, 60, length / 2, length - 1] {
        let disk = whole.copy();
        disk.shorten(&logs[2], left);
        is_told_and_not_served(&disk, &whole);
    }
}

#[test]
fn a_file_that_ends_early_between_two_records_is_told() {
    let whole = written();
    let logs = logs(&whole);
    // The place of the last mark of the file: every publication there has a batch of its own.
    let content = whole.content(&logs[2]);
    let mut at = 48;
    let mut last = at;
    while at < content.len() {
        last = at;
        at += 8 + u32::from_le_bytes(content[at..at + 4].try_into().expect("four bytes")) as usize;
    }
    let disk = whole.copy();
    disk.shorten(&logs[2], last);
    is_told_and_not_served(&disk, &whole);
}

/// Behind the damage a record says what the top is, and nothing of what it speaks of is left.
#[test]
fn a_stream_of_which_everything_is_damaged_begins_anew() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let disk = Simulated::new(1);
        let Opened { store, mut writer, keeper, .. } =
            DurableStore::open(disk.clone(), Options::default()).expect("open");
        let kept = store.append(text("hit", "damaged", 10)).expect("append");
        writer.run_once();
        kept.await.expect("commit");
        tokio::time::advance(HOUR / 2).await;
        // A reader prolongs its life, which is worth a record.
        let before = all(&store, "hit").top;
        writer.run_once();
        store.close();
        writer.run();
        drop((store, keeper));
        let name = "0000000000000000.log";
        let at = disk.content(name).windows(7).position(|bytes| bytes == b"damaged").expect("it is there");
        disk.flip(name, at, 1);
        let store = Running::open(disk, Options::default());
        assert_eq!(store.recovered.damage.len(), 1);
        let page = all(&store, "hit");
        assert_ne!(
            (page.top.epoch, page.top.offset),
            (before.epoch, 1),
            "1 is gone, and somebody may ask for it"
        );
    });
}
