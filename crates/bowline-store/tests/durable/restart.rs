//! What a store tells after it was closed and opened again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_store::disk::Directory;
use bowline_store::durable::{DurableStore, OpenError, Opened, Options};
use bowline_store::{
    Append, Appended, Durability, Publication, Publisher, Retention, StoreError, StreamStore, Version,
};

use super::simulated::{Event, Simulated};
use super::support::{HOUR, Running, Scratch, all, publish, text, texts};

fn opened(disk: &Simulated) -> Running {
    Running::open(disk.clone(), Options::default())
}

#[test]
fn epochs_offsets_and_every_part_of_a_publication_survive() {
    let scratch = Scratch::new();
    let publication = Publication {
        data: "payload".into(),
        info: Some(Arc::new(Publisher {
            user: "user".into(),
            client: "client".into(),
            conn_info: Some("conn".into()),
            chan_info: None,
        })),
        tags: Some(Arc::new(BTreeMap::from([("name".to_owned(), "value".to_owned())]))),
    };
    let before = {
        let store = Running::open(scratch.disk(), Options::default());
        publish(&store, "c", "first");
        store
            .append(Append::new("c", publication.clone(), Retention::new(10, HOUR, HOUR)))
            .expect("append")
            .wait_blocking()
            .expect("commit");
        // A stream that was only read has an epoch too, and its readers rely on it.
        (all(&store, "c"), all(&store, "read only"))
    };
    let store = Running::open(scratch.disk(), Options::default());
    assert!(store.recovered.was_closed);
    assert_eq!((all(&store, "c"), all(&store, "read only")), before);
    assert_eq!(before.0.publications[1].publication, publication);
    assert_eq!(publish(&store, "c", "third"), 3);
}

#[test]
fn keys_and_versions_survive() {
    let disk = Simulated::new(1);
    let append = |store: &Running, key: Option<&'static str>, number: Option<u64>| {
        let mut append = text("c", "once", 10);
        append.idempotency_key = key;
        append.version = number.map(|number| Version { number, epoch: "e" });
        store.append(append).expect("append").wait_blocking().expect("commit")
    };
    let first = append(&opened(&disk), Some("k"), Some(7));
    let Appended::Kept(position) = first else { panic!("{first:?}") };
    {
        let store = opened(&disk);
        assert_eq!(append(&store, Some("k"), None), Appended::Duplicate(Some(position.clone())));
        assert_eq!(append(&store, None, Some(7)), Appended::Stale(position.clone()));
        assert!(matches!(append(&store, None, Some(8)), Appended::Kept(_)));
        let mut unkept = Append::new("c", Publication::new(""), None);
        unkept.idempotency_key = Some("unkept");
        store.append(unkept).expect("append").wait_blocking().expect("commit");
    }
    let mut unkept = Append::new("c", Publication::new(""), None);
    unkept.idempotency_key = Some("unkept");
    {
        let store = opened(&disk);
        let again = store.append(unkept.clone()).expect("append").into_outcome();
        assert_eq!(again, Appended::Duplicate(None));
    }
    // However long nobody ran, they are as old as they were: who tries again after an outage is recognized.
    disk.set_wall_clock(Duration::from_secs(1_700_000_000 + 3_600));
    let store = opened(&disk);
    assert_eq!(store.append(unkept).expect("append").into_outcome(), Appended::Duplicate(None));
    assert_eq!(append(&store, Some("k"), None), Appended::Duplicate(Some(position)));
}

#[test]
fn what_was_removed_stays_removed() {
    let disk = Simulated::new(1);
    {
        let store = opened(&disk);
        publish(&store, "c", "removed");
        store.remove("c").expect("remove").wait_blocking().expect("commit");
        publish(&store, "c", "kept");
    }
    let store = opened(&disk);
    let page = all(&store, "c");
    assert_eq!((texts(&page), page.top.offset), (vec!["kept".to_owned()], 2));
}

#[test]
fn time_that_passed_while_it_was_closed_counts() {
    let disk = Simulated::new(1);
    let epoch = {
        let store = opened(&disk);
        publish(&store, "c", "old");
        all(&store, "c").top.epoch
    };
    disk.set_wall_clock(Duration::from_secs(1_700_000_060) + HOUR);
    {
        let store = opened(&disk);
        let page = all(&store, "c");
        assert_eq!((texts(&page).len(), page.top.offset, &page.top.epoch), (0, 1, &epoch));
    }
    disk.set_wall_clock(Duration::from_secs(1_700_000_000) + 10 * HOUR);
    let store = opened(&disk);
    assert_ne!(all(&store, "c").top.epoch, epoch, "nobody has used it for its meta ttl");
}

#[test]
fn a_clock_that_goes_backwards_brings_nothing_back() {
    let disk = Simulated::new(1);
    publish(&opened(&disk), "c", "old");
    disk.set_wall_clock(Duration::from_secs(1_700_000_060) + HOUR);
    publish(&opened(&disk), "another", "new");
    for clock in [Duration::from_secs(1_700_000_000), Duration::ZERO] {
        disk.set_wall_clock(clock);
        let store = opened(&disk);
        assert_eq!(texts(&all(&store, "c")).len(), 0, "it is an hour old at {clock:?} as well");
    }
    let store = opened(&disk);
    assert_eq!(publish(&store, "c", "after"), 2);
    assert_eq!(texts(&all(&store, "c")), ["after"]);
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged_in_any_mode() {
    let disk = Simulated::new(1);
    let opened = DurableStore::open(disk.clone(), Options::default()).expect("open");
    let mut writer = opened.writer;
    for durability in [Durability::Always, Durability::Interval(HOUR), Durability::Never] {
        let mut append = text(&format!("{durability:?}"), "kept", 10);
        append.durability = Some(durability);
        let receipt = opened.store.append(append).expect("append");
        assert!(!receipt.is_resolved());
        writer.run_once();
        assert!(receipt.is_resolved());
    }
    drop((opened.store, writer, opened.keeper));
    disk.kill();
    let store = Running::open(disk.clone(), Options::default());
    assert!(!store.recovered.was_closed);
    for durability in [Durability::Always, Durability::Interval(HOUR), Durability::Never] {
        assert_eq!(texts(&all(&store, &format!("{durability:?}"))), ["kept"]);
    }
}

#[test]
fn the_sync_returns_before_anybody_is_told() {
    let disk = Simulated::new(1);
    let opened = DurableStore::open(disk.clone(), Options::default()).expect("open");
    let store = opened.store;
    std::thread::scope(|scope| {
        scope.spawn(|| opened.writer.run());
        for round in 0..20 {
            let receipt = store.append(text("c", &format!("{round}"), 100)).expect("append");
            receipt.wait_blocking().expect("commit");
            disk.note(Event::Acknowledged);
        }
        store.close();
    });
    let events = disk.events();
    let mut is_synced = true;
    let mut acknowledged = 0;
    for event in events {
        match event {
            Event::Write(_) => is_synced = false,
            Event::Sync(_) => is_synced = true,
            Event::Acknowledged => {
                assert!(is_synced, "told before the sync");
                acknowledged += 1;
            }
        }
    }
    assert_eq!(acknowledged, 20);
}

/// Whatever is acknowledged is in what no power failure takes away, at the moment at which it is.
#[test]
fn what_is_acknowledged_is_on_the_disk_by_then() {
    let disk = Simulated::new(1);
    // Files end often, and the keeper works beside.
    let options = Options { segment_bytes: 2_000, ..Options::default() };
    let store = Running::open(disk.clone(), options);
    std::thread::scope(|scope| {
        for publisher in 0..4 {
            let (store, disk) = (&store, &disk);
            scope.spawn(move || {
                for round in 0..40 {
                    let word = format!("{publisher}-{round}.");
                    let mut append = text(&format!("c{}", round % 3), &word, 1_000);
                    // A weak one between, which says nothing.
                    let is_weak = round % 4 == 3;
                    append.durability = is_weak.then_some(Durability::Never);
                    store.append(append).expect("append").wait_blocking().expect("commit");
                    assert!(is_weak || disk.has_synced(&word), "{word} was told before it was synced");
                }
            });
        }
    });
}

#[test]
fn starting_again_and_again_leaves_no_thousand_files() {
    let disk = Simulated::new(1);
    for round in 0..200 {
        // Later than any idempotency key.
        disk.set_wall_clock(Duration::from_secs(1_700_000_000 + 600 * round));
        let opened = DurableStore::open(disk.clone(), Options::default()).expect("open");
        let (store, mut writer, keeper) = (opened.store, opened.writer, opened.keeper);
        let mut append = text("c", &format!("{round}"), 1_000);
        append.retention = Retention::new(1_000, 1_000 * HOUR, 1_000 * HOUR);
        let receipt = store.append(append).expect("append");
        writer.run_once();
        receipt.wait_blocking().expect("commit");
        keeper.tend_driving(&mut writer);
        store.close();
        writer.run();
    }
    let logs = disk.names().iter().filter(|name| name.ends_with(".log")).count();
    assert!(logs <= 66, "{logs}");
    assert_eq!(all(&opened(&disk), "c").publications.len(), 200);
}

#[test]
fn nothing_is_visible_before_it_is_committed() {
    let disk = Simulated::new(1);
    let opened = DurableStore::open(disk, Options::default()).expect("open");
    let (store, mut writer) = (opened.store, opened.writer);
    let mut full = text("c", "1", 1);
    let first = store.append(full.clone()).expect("append");
    writer.run_once();
    full.publication = Publication::new("2");
    let second = store.append(full).expect("append");
    let page = all(&store, "c");
    assert_eq!((texts(&page), page.top.offset), (vec!["1".to_owned()], 1), "the old one stays until then");
    writer.run_once();
    assert_eq!(texts(&all(&store, "c")), ["2"]);
    assert!(first.is_resolved() && second.is_resolved());
}

#[test]
fn a_repeat_waits_for_the_first() {
    let disk = Simulated::new(1);
    let opened = DurableStore::open(disk, Options::default()).expect("open");
    let (store, mut writer) = (opened.store, opened.writer);
    let mut append = text("c", "1", 1);
    append.idempotency_key = Some("k");
    let first = store.append(append.clone()).expect("append");
    let repeat = store.append(append.clone()).expect("append");
    assert!(matches!(repeat.outcome(), Appended::Duplicate(Some(_))));
    assert!(!repeat.is_resolved(), "it may yet come to nothing");
    writer.run_once();
    assert!(first.is_resolved() && repeat.is_resolved());
    assert!(store.append(append).expect("append").is_resolved());
}

#[test]
fn a_second_store_in_one_directory_is_refused() {
    let scratch = Scratch::new();
    let first = Running::open(scratch.disk(), Options::default());
    let refused = DurableStore::open(scratch.disk(), Options::default()).expect_err("it is in use");
    assert!(matches!(refused, OpenError::InUse), "{refused}");
    assert_eq!(publish(&first, "c", "goes on"), 1);
    drop(first);
    drop(Running::open(scratch.disk(), Options::default()));
}

#[cfg(unix)]
#[test]
fn the_directory_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new();
    let nested = scratch.0.join("a/b");
    drop(Running::open(Directory::new(&nested), Options::default()));
    let mode = std::fs::metadata(&nested).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_directory_that_cannot_be_is_an_error_that_says_so() {
    let scratch = Scratch::new();
    std::fs::write(&scratch.0, "a file").expect("write");
    let refused = DurableStore::open(scratch.disk(), Options::default()).expect_err("it is a file");
    let OpenError::Io { what, .. } = &refused else { panic!("{refused}") };
    assert_eq!(what, "create the directory of the store");
    std::fs::remove_file(&scratch.0).expect("remove");
}

#[test]
fn a_closed_store_refuses_appends_and_serves_reads() {
    let store = Running::scratch();
    publish(&store, "c", "kept");
    store.store.close();
    assert_eq!(store.append(text("c", "late", 1)).expect_err("closed"), StoreError::Closed);
    assert_eq!(texts(&all(&store, "c")), ["kept"]);
}

#[test]
fn a_damaged_file_that_gets_no_index_is_not_read_at_every_turn() {
    let disk = Simulated::new(1);
    let options = Options { segment_bytes: 1_000, ..Options::default() };
    let Opened { store, mut writer, keeper, .. } = DurableStore::open(disk.clone(), options).expect("open");
    for number in 0..30 {
        let kept = store.append(text("c", &format!("{number}-{}", "x".repeat(100)), 100)).expect("append");
        writer.run_once();
        kept.wait_blocking().expect("commit");
    }
    disk.flip("0000000000000000.log", 300, 1);
    keeper.tend_driving(&mut writer);
    let names = disk.names();
    assert!(
        !names.contains(&"0000000000000000.index".to_owned()),
        "the next start has to see the damage: {names:?}"
    );
    assert!(names.iter().any(|name| name.ends_with(".index")), "{names:?}");
    let before = disk.reads();
    keeper.tend_driving(&mut writer);
    assert_eq!(disk.reads(), before);
}

#[test]
fn an_index_that_was_written_is_read_instead_of_the_file() {
    let disk = Simulated::new(1);
    let options = || Options { segment_bytes: 2_000, ..Options::default() };
    let before = {
        let store = Running::open(disk.clone(), options());
        for round in 0..100 {
            publish(&store, &format!("c{}", round % 7), &"x".repeat(round));
        }
        all(&store, "c3")
    };
    {
        let opened = DurableStore::open(disk.clone(), options()).expect("open");
        opened.keeper.tend();
        opened.store.close();
        opened.writer.run();
    }
    let store = Running::open(disk.clone(), options());
    let Some(recovered) = Some(&store.recovered) else { unreachable!() };
    assert!(recovered.files > 5 && recovered.scanned_files <= 1, "{recovered:?}");
    assert_eq!(recovered.publications, 100);
    assert_eq!(all(&store, "c3"), before);
}
