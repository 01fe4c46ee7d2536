//! Streams that are acknowledged before they are synced: after a power failure each of them has another epoch, or lost
//! nothing. So that it is known as one of those, the append with which it becomes one is synced.

use bowline_store::durable::{DurableStore, Opened, Options, Writer};
use bowline_store::{Append, Durability, StreamStore};

use super::simulated::Simulated;
use super::support::{all, text, texts};

fn opened(disk: &Simulated) -> Opened {
    DurableStore::open(disk.clone(), Options::default()).expect("open")
}

fn weak(channel: &str, word: &str) -> Append<'static> {
    Append { durability: Some(Durability::Never), ..text(channel, word, 100) }
}

/// Appends and waits until it is committed.
fn commit(store: &DurableStore, writer: &mut Writer, append: Append<'static>) {
    let receipt = store.append(append).expect("append");
    writer.run_once();
    receipt.wait_blocking().expect("commit");
}

/// Whatever the power leaves: what a reader saw at an offset of an epoch is there, or the epoch is another.
#[track_caller]
fn never_gives_an_offset_twice(prepare: impl Fn(&Simulated) -> Opened) {
    for seed in 0..40 {
        let disk = Simulated::new(seed);
        let Opened { store, mut writer, keeper, .. } = prepare(&disk);
        commit(&store, &mut writer, weak("w", "seen"));
        let seen = all(&store, "w");
        drop((store, writer, keeper));
        disk.cut_power();
        let Opened { store, .. } = opened(&disk);
        let found = all(&store, "w");
        let is_there = texts(&found).last() == texts(&seen).last() && found.top.offset >= seen.top.offset;
        assert!(found.top.epoch != seen.top.epoch || is_there, "seed {seed}: {seen:?} became {found:?}");
    }
}

#[test]
fn the_append_with_which_a_stream_becomes_weak_is_synced() {
    let disk = Simulated::new(1);
    let Opened { store, mut writer, .. } = opened(&disk);
    commit(&store, &mut writer, weak("w", "the first"));
    assert!(disk.has_synced("the first"));
    commit(&store, &mut writer, weak("w", "the second"));
    assert!(!disk.has_synced("the second"), "so that this is a test");
    commit(&store, &mut writer, text("w", "a strong one", 100));
    assert!(disk.has_synced("the second"));
    commit(&store, &mut writer, weak("w", "weak again"));
    assert!(disk.has_synced("weak again"));
}

#[test]
fn a_weak_stream_that_began_anew_does_not_give_an_offset_twice() {
    never_gives_an_offset_twice(|disk| {
        let Opened { store, mut writer, keeper, .. } = opened(disk);
        commit(&store, &mut writer, weak("w", "before"));
        drop((store, writer, keeper));
        disk.cut_power();
        let opened = opened(disk);
        assert_eq!(opened.recovered.renewed, 1);
        opened
    });
}

#[test]
fn a_clean_close_says_nothing_about_what_comes_after_it() {
    never_gives_an_offset_twice(|disk| {
        let Opened { store, mut writer, .. } = opened(disk);
        commit(&store, &mut writer, weak("w", "before"));
        store.close();
        writer.run();
        drop(store);
        let opened = opened(disk);
        assert!(opened.recovered.was_closed);
        opened
    });
}

#[test]
fn a_weak_append_that_came_to_nothing_leaves_no_weak_stream() {
    let disk = Simulated::new(1);
    let Opened { store, mut writer, .. } = opened(&disk);
    commit(&store, &mut writer, text("c", "kept", 100));
    disk.set_room(Some(disk.content("0000000000000000.log").len()));
    let refused = store.append(weak("c", "no room")).expect("it is not known yet");
    writer.run_once();
    refused.wait_blocking().expect_err("there is no room");
    disk.set_room(None);
    writer.run_once();
    commit(&store, &mut writer, weak("c", "the first of its kind"));
    assert!(disk.has_synced("the first of its kind"));
}

/// The stream begins anew because the power was gone; the process that found this out is killed before anything else
/// is written, and the machine goes on. That the power was gone must not be forgotten.
#[test]
fn a_start_that_is_killed_forgets_no_power_failure() {
    for calls in 1..20 {
        let disk = Simulated::new(3);
        let Opened { store, mut writer, keeper, .. } = opened(&disk);
        commit(&store, &mut writer, weak("w", "first"));
        commit(&store, &mut writer, weak("w", "seen"));
        let seen = all(&store, "w").top;
        drop((store, writer, keeper));
        disk.cut_power();
        disk.die_after(calls);
        drop(DurableStore::open(disk.clone(), Options::default()));
        disk.kill();
        let Opened { store, .. } = opened(&disk);
        assert_ne!(all(&store, "w").top.epoch, seen.epoch, "killed after {calls} calls");
    }
}
