//! The limit of all bytes: what goes is what is dead, then the oldest, and no reader is left in the dark.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_store::durable::{DurableStore, Keeper, Listener, Notice, Opened, Options, Writer};
use bowline_store::{Append, Appended, Epoch, Limit, Publication, Query, Retention, StreamStore};

use super::simulated::Simulated;
use super::support::{HOUR, all, text, texts};

const MAX: u64 = 12_000;

fn limited() -> Options {
    Options { segment_bytes: 1_500, max_bytes: Some(MAX), ..Options::default() }
}

/// What was published into one stream and acknowledged, with its epoch.
#[derive(Clone, Default)]
struct Truth {
    epoch: Option<Epoch>,
    words: Vec<String>,
}

struct World {
    store: DurableStore,
    writer: Writer,
    keeper: Keeper,
    dropped: Arc<Mutex<usize>>,
}

impl World {
    fn open(disk: &Simulated) -> Self {
        let dropped = Arc::new(Mutex::new(0));
        let count = Arc::clone(&dropped);
        let listener: Listener = Arc::new(move |notice: &Notice| {
            if let Notice::Dropped { publications } = notice {
                *count.lock().expect("count") += publications;
            }
        });
        let options = Options { listener: Some(listener), ..limited() };
        let Opened { store, writer, keeper, recovered } =
            DurableStore::open(disk.clone(), options).expect("open");
        assert_eq!((recovered.renewed, &recovered.damage[..]), (0, &[][..]));
        Self { store, writer, keeper, dropped }
    }

    /// Publishes and notes it once it is acknowledged; answers whether it was.
    fn publish(&mut self, channel: &str, word: &str, size: usize, truth: &mut Truth) -> bool {
        let mut append = text(channel, word, size);
        append.retention = Retention::new(size, 100 * HOUR, 100 * HOUR);
        let Ok(receipt) = self.store.append(append) else { return false };
        self.writer.run_once();
        if !receipt.is_resolved() {
            return false;
        }
        let Ok(Appended::Kept(position)) = receipt.wait_blocking() else { return false };
        let epoch = truth.epoch.get_or_insert_with(|| position.epoch.clone());
        assert_eq!(*epoch, position.epoch);
        truth.words.push(word.to_owned());
        assert_eq!(position.offset, truth.words.len() as u64);
        true
    }

    /// What is there is the end of what was acknowledged, and readers who come from before are told.
    fn check(&self, channel: &str, truth: &Truth) -> usize {
        let page = all(&self.store, channel);
        let found = texts(&page);
        let Some(epoch) = &truth.epoch else { return 0 };
        assert_eq!(page.top.epoch, *epoch, "{channel}");
        // One that nobody was told of may be there as well.
        let told = found
            .len()
            .saturating_sub(page.top.offset as usize - truth.words.len().min(page.top.offset as usize));
        assert!(page.top.offset >= truth.words.len() as u64, "{channel} lost its newest");
        assert!(truth.words.ends_with(&found[..told]), "{channel}: {found:?} is not the end");
        if let Some(last) = page.publications.last() {
            assert_eq!(last.offset, page.top.offset);
        }
        let missed = page.top.offset - found.len() as u64;
        if missed > 0 {
            // A reader at 0 gets what does not follow on its position: it sees that something is missing.
            let since = self.store.read(channel, Query::forward(0, Limit::All), 100 * HOUR).expect("read");
            assert!(since.publications.first().is_none_or(|kept| kept.offset > 1), "{channel}");
        }
        found.len()
    }
}

#[test]
fn what_is_dead_goes_before_anything_that_lives() {
    let disk = Simulated::new(1);
    let mut world = World::open(&disk);
    let (mut rare, mut busy) = (Truth::default(), Truth::default());
    for number in 0..5 {
        assert!(world.publish("rare", &format!("kept from the beginning {number}"), 10, &mut rare));
    }
    for number in 0..400 {
        assert!(world.publish("busy", &format!("{number}-{}", "x".repeat(80)), 3, &mut busy));
        if number % 10 == 0 {
            world.keeper.tend_driving(&mut world.writer);
        }
    }
    assert_eq!((world.check("rare", &rare), world.check("busy", &busy)), (5, 3));
    assert_eq!((world.store.disk_stats().dropped, *world.dropped.lock().expect("count")), (0, 0));
    assert!(world.store.disk_stats().bytes < MAX + 3_000, "{:?}", world.store.disk_stats());
}

#[tokio::test(start_paused = true)]
async fn of_what_lives_the_oldest_of_all_streams_goes_and_is_counted() {
    let disk = Simulated::new(1);
    let mut world = World::open(&disk);
    let mut own = Truth::default();
    for word in ["the oldest", "of all", "words"] {
        assert!(world.publish("\0own", word, 1_000, &mut own));
    }
    let mut truth: BTreeMap<String, Truth> = BTreeMap::new();
    for number in 0..300 {
        let channel = format!("c{}", number % 7);
        let truth = truth.entry(channel.clone()).or_default();
        assert!(world.publish(&channel, &format!("{number}-{}", "x".repeat(80)), 1_000, truth));
        tokio::time::advance(Duration::from_millis(1)).await;
        world.keeper.tend_driving(&mut world.writer);
        let bytes = world.store.disk_stats().bytes;
        assert!(bytes <= MAX + 1_500, "{bytes} after {number}");
    }
    let kept: usize = truth.iter().map(|(channel, truth)| world.check(channel, truth)).sum();
    let gone = *world.dropped.lock().expect("count");
    assert_eq!((kept + gone, world.store.disk_stats().dropped), (300, gone as u64));
    assert!(kept > 40, "half of the limit at least is used: {kept}");
    assert_eq!(world.check("\0own", &own), 3, "what the program keeps for itself stays");
    // The same over all streams: no stream lost something that is newer than what another kept.
    let oldest: Vec<_> = truth.keys().map(|channel| texts(&all(&world.store, channel))[0].clone()).collect();
    let numbers: Vec<usize> = oldest
        .iter()
        .map(|word| word.split('-').next().expect("a number").parse().expect("a number"))
        .collect();
    let (min, max) = (numbers.iter().min().expect("seven"), numbers.iter().max().expect("seven"));
    assert!(max - min < 7, "{numbers:?}");
}

/// Lets the keeper look once at what exceeds the limit and cannot go; then only when there is an eighth more.
#[track_caller]
fn looks_once_at_what_cannot_go(world: &mut World, mut publish: impl FnMut(&mut World)) {
    let first = world.keeper.tend_driving(&mut world.writer);
    assert!(first.freed_files > 0 && world.store.disk_stats().bytes > MAX, "{first:?}");
    let again = world.keeper.tend_driving(&mut world.writer);
    assert_eq!((again.freed_files, again.copied_bytes), (0, 0), "nothing has changed");
    let before = world.store.disk_stats().bytes;
    while world.store.disk_stats().bytes < before + MAX / 8 {
        publish(world);
    }
    assert!(world.keeper.tend_driving(&mut world.writer).freed_files > 0, "what is new may be able to go");
}

#[test]
fn what_is_said_of_streams_and_exceeds_the_limit_is_not_written_again_and_again() {
    let disk = Simulated::new(1);
    let mut world = World::open(&disk);
    let mut number = 0;
    let mut publish = |world: &mut World| {
        let mut truth = Truth::default();
        assert!(world.publish(&format!("a channel with a long name {number}"), "x", 1, &mut truth));
        number += 1;
    };
    (0..300).for_each(|_| publish(&mut world));
    looks_once_at_what_cannot_go(&mut world, publish);
}

#[test]
fn what_may_not_go_and_exceeds_the_limit_is_not_written_again_and_again() {
    let disk = Simulated::new(1);
    let mut world = World::open(&disk);
    let mut truth = Truth::default();
    let mut publish = |world: &mut World| {
        let word = format!("{}-{}", truth.words.len(), "x".repeat(80));
        assert!(world.publish("\0own", &word, 10_000, &mut truth));
    };
    (0..200).for_each(|_| publish(&mut world));
    looks_once_at_what_cannot_go(&mut world, publish);
    assert_eq!(world.check("\0own", &truth), truth.words.len());
}

#[test]
fn above_the_limit_the_oldest_go_on_a_full_disk_too() {
    let disk = Simulated::new(1);
    let mut world = World::open(&disk);
    let mut truth = Truth::default();
    for number in 0..200 {
        assert!(world.publish("c", &format!("{number}-{}", "x".repeat(80)), 1_000, &mut truth));
    }
    disk.leave_room(0);
    assert!(!world.publish("c", "no room", 1_000, &mut truth));
    let freed = world.keeper.tend_driving(&mut world.writer);
    assert!(freed.freed_files > 3 && freed.dropped_publications > 50, "{freed:?}");
    world.writer.run_once();
    assert!(world.publish("c", "room again", 1_000, &mut truth));
    assert!(world.check("c", &truth) > 40);
    drop(world);
    disk.cut_power();
    assert!(World::open(&disk).check("c", &truth) > 40);
}

/// What is known of a key that was used before, at another life of the store too.
#[tokio::test(start_paused = true)]
async fn a_key_is_remembered_for_its_time_when_its_file_goes_before() {
    fn keyed(retention: Option<Retention>) -> Append<'static> {
        let mut append = Append::new("keyed", Publication::new("first"), retention);
        append.idempotency_key = Some(if retention.is_some() { "kept" } else { "not kept" });
        append
    }
    fn first(world: &mut World, append: Append<'static>) -> Appended {
        let receipt = world.store.append(append).expect("append");
        world.writer.run_once();
        receipt.wait_blocking().expect("commit")
    }
    let disk = Simulated::new(1);
    let kept = Retention::new(3, 100 * HOUR, 100 * HOUR);
    let mut world = World::open(&disk);
    let Appended::Kept(position) = first(&mut world, keyed(kept)) else { panic!("it is new") };
    assert_eq!(first(&mut world, keyed(None)), Appended::NotKept);
    let began = disk.names();
    let mut busy = Truth::default();
    for number in 0..300 {
        assert!(world.publish("busy", &format!("{number}-{}", "x".repeat(80)), 1_000, &mut busy));
        tokio::time::advance(Duration::from_millis(100)).await;
        if number % 10 == 0 {
            // Some of them are in front of the older ones, when these are written again.
            let mut later = keyed(None);
            later.idempotency_key = Some(Box::leak(format!("later {number}").into_boxed_str()));
            assert_eq!(first(&mut world, later), Appended::NotKept);
        }
        world.keeper.tend_driving(&mut world.writer);
    }
    assert!(began.iter().all(|name| name == "lock" || !disk.names().contains(name)), "its file is gone");
    let answers = |world: &mut World| [kept, None].map(|retention| first(world, keyed(retention)));
    assert_eq!(answers(&mut world), [Appended::Duplicate(Some(position.clone())), Appended::Duplicate(None)]);
    for _ in 0..2 {
        drop(world);
        disk.cut_power();
        world = World::open(&disk);
        assert_eq!(
            answers(&mut world),
            [Appended::Duplicate(Some(position.clone())), Appended::Duplicate(None)]
        );
        tokio::time::advance(Duration::from_secs(125)).await;
        // The files behind it go as well, and with them what was written again.
        for number in 300..500 {
            assert!(world.publish("busy", &format!("{number}-{}", "x".repeat(80)), 1_000, &mut busy));
            world.keeper.tend_driving(&mut world.writer);
        }
    }
    assert_eq!(answers(&mut world)[1], Appended::Duplicate(None));
    // Five minutes after the first, however often it was written again.
    tokio::time::advance(Duration::from_secs(25)).await;
    assert_eq!(first(&mut world, keyed(None)), Appended::NotKept);
}

#[test]
fn whenever_the_power_goes_what_is_left_is_the_end_of_what_was_acknowledged() {
    let (mut cuts, mut full, mut freed) = (0, 0, 0);
    for seed in 0..60 {
        let disk = Simulated::new(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut truth: BTreeMap<String, Truth> = BTreeMap::new();
        for _life in 0..4 {
            let mut world = World::open(&disk);
            for (channel, truth) in &mut truth {
                world.check(channel, truth);
                // What was written and not acknowledged is there for good, now that it was read.
                let page = all(&world.store, channel);
                let unknown = page.top.offset as usize - truth.words.len();
                let found = texts(&page);
                truth.words.extend_from_slice(&found[found.len() - unknown.min(found.len())..]);
                assert_eq!(truth.words.len() as u64, page.top.offset);
            }
            disk.die_after(rng.u64(20..400));
            for number in 0..120 {
                let channel = format!("c{}", rng.u8(0..5));
                let truth = truth.entry(channel.clone()).or_default();
                let word = format!("{seed}-{number}-{}", "x".repeat(rng.usize(0..150)));
                if rng.u8(0..30) == 0 {
                    disk.leave_room(rng.usize(0..300));
                }
                if !world.publish(&channel, &word, 1_000, truth) {
                    if disk.is_dead() {
                        break;
                    }
                    // There is no room, until files have gone or somebody else's have.
                    full += 1;
                    freed += world.keeper.tend_driving(&mut world.writer).freed_files;
                    if rng.bool() {
                        disk.set_room(None);
                    }
                    world.writer.run_once();
                }
                if rng.u8(0..4) == 0 {
                    world.keeper.tend_driving(&mut world.writer);
                }
            }
            cuts += usize::from(disk.is_dead());
            disk.set_room(None);
            drop(world);
            if rng.bool() { disk.cut_power() } else { disk.kill() }
        }
    }
    assert!(cuts > 120 && full > 50 && freed > 0, "{cuts}, {full} full, {freed} freed there");
}
