//! The power goes at any moment: what was acknowledged is there, what was not is there whole or not at all, offsets
//! have neither gap nor double, and an epoch that was read with an offset means the same publication for ever.
//!
//! Stores are closed in some lives and not in others, disks are full and fail for a while, and not every channel is looked
//! at after every start: who reads nothing writes nothing, and what was forgotten shows itself a life later.
//!
//! `BOWLINE_POWER_CUTS` sets how many cuts are tried; a failure names the seed, and `BOWLINE_POWER_SEED` runs one.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bowline_store::durable::{DurableStore, Keeper, Opened, Options, Recovered, Writer};
use bowline_store::{
    Append, Appended, CommitError, Durability, Limit, Page, Publication, Query, Receipt, Retention,
    StreamStore, Version,
};
use fastrand::Rng;

use super::simulated::Simulated;
use super::support::{all, texts};

const LIVES: u64 = 5;
const CHANNELS: [&str; 6] = ["a", "b", "c", "weak-a", "weak-b", "mixed"];

/// An epoch, and an offset in it.
type InEpoch = (String, u64);

/// What is known of the world outside of the store.
#[derive(Default)]
struct World {
    /// Every text that was ever appended at a place.
    attempted: HashMap<(String, String, u64), HashSet<String>>,
    /// What a reader has seen at a place: it must never change.
    seen: HashMap<(String, String, u64), String>,
    /// The acknowledged positions of each channel, and the text there.
    acknowledged: HashMap<String, Vec<(String, u64, String)>>,
    /// The epochs of each channel in which something was acknowledged or found, in their order. The last one holds.
    epochs: HashMap<String, Vec<String>>,
    /// Channels that may have begun anew since they were looked at.
    may_be_lost: HashSet<String>,
    /// Texts of which a publisher was told that there is no room for them.
    refused: HashSet<String>,
    /// Offsets at or below were removed, in this epoch, and that was acknowledged.
    removed: HashMap<String, (String, u64)>,
    /// The highest offset that somebody asked to be removed, by channel and epoch.
    asked_to_remove: HashMap<(String, String), u64>,
    keys: Vec<(String, String, Option<InEpoch>)>,
}

const SIZE: usize = 8;

/// Nothing expires here: time is another test's matter.
const LONG: Duration = Duration::from_secs(1_000_000);

fn options(rng: &mut Rng) -> Options {
    Options { segment_bytes: *rng.choice([400, 1500, 4000].iter()).expect("not empty"), ..Options::default() }
}

fn durability(channel: &str, rng: &mut Rng) -> Durability {
    match channel {
        "weak-a" => Durability::Never,
        "weak-b" => Durability::Interval(Duration::ZERO),
        "mixed" if rng.bool() => Durability::Never,
        _ => Durability::Always,
    }
}

#[test]
fn every_power_cut_keeps_what_was_acknowledged() {
    let cuts = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match cuts("BOWLINE_POWER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..cuts("BOWLINE_POWER_CUTS").unwrap_or(500).div_ceil(LIVES - 1),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| lives(seed));
        if let Err(panic) = outcome {
            eprintln!("BOWLINE_POWER_SEED={seed} shows it again");
            std::panic::resume_unwind(panic);
        }
    }
}

fn lives(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut rng = Rng::with_seed(seed);
        let disk = Simulated::new(rng.u64(..));
        let mut world = World::default();
        let mut lost_power = false;
        for life in 0..LIVES {
            let Opened { store, mut writer, keeper, recovered } =
                DurableStore::open(disk.clone(), options(&mut rng)).expect("it opens after any cut");
            assert_eq!(recovered.damage, [], "nothing is damaged by a power cut");
            let is_last = life == LIVES - 1;
            world.has_started(&store, &recovered, lost_power, is_last, &mut rng);
            if is_last {
                break;
            }
            // Opening writes as well, and the power may go there too: the next life opens again.
            disk.die_after(if rng.bool() { rng.u64(1..60) } else { rng.u64(60..400) });
            let mut life = Life { seed, life, waiting: Vec::new(), removing: Vec::new(), has_failed: false };
            life.work(&mut rng, &disk, &mut world, &store, &mut writer, &keeper).await;
            disk.set_room(None);
            let closes = rng.u8(0..3) == 0;
            if closes {
                store.close();
                writer.run();
                life.settle(&mut world).await;
            } else {
                drop(writer);
            }
            // What a disk dropped after a failed sync nobody knows who was not there.
            lost_power = life.has_failed || rng.u8(0..4) > 0;
            drop((store, keeper));
            if lost_power {
                disk.cut_power()
            } else {
                disk.kill()
            }
            if rng.u8(0..4) == 0 {
                // It goes again while the store looks at what it finds, or the process ends there.
                disk.die_after(rng.u64(1..9));
                let opened = DurableStore::open(disk.clone(), options(&mut rng));
                drop(opened);
                if rng.bool() {
                    lost_power = true;
                    disk.cut_power();
                } else {
                    disk.kill();
                }
            }
        }
    });
}

/// One life of the store, as those see it who use it.
struct Life {
    seed: u64,
    life: u64,
    waiting: Vec<(Append<'static>, Receipt<Appended>)>,
    removing: Vec<(String, (String, u64), Receipt<()>)>,
    /// A sync has failed, and nothing was mended since.
    has_failed: bool,
}

impl Life {
    /// Uses the store until the machine dies, or for a while.
    async fn work(
        &mut self,
        rng: &mut Rng,
        disk: &Simulated,
        world: &mut World,
        store: &DurableStore,
        writer: &mut Writer,
        keeper: &Keeper,
    ) {
        let (seed, life) = (self.seed, self.life);
        for step in 0..200 {
            if disk.is_dead() {
                break;
            }
            let channel = CHANNELS[rng.usize(..CHANNELS.len())];
            match rng.u8(0..22) {
                0..=9 => {
                    let word = format!("{seed}-{life}-{step}-{}", "x".repeat(rng.usize(0..300)));
                    let keep = Retention::new(SIZE, LONG, 2 * LONG);
                    let mut append = Append::new(channel, Publication::new(word), keep);
                    append.durability = Some(durability(channel, rng));
                    if rng.u8(0..8) == 0 {
                        append.idempotency_key =
                            Some(Box::leak(format!("k{seed}-{life}-{step}").into_boxed_str()));
                    }
                    if rng.u8(0..8) == 0 {
                        append.version = Some(Version { number: life * 1000 + step, epoch: "v" });
                    }
                    if let Ok(receipt) = store.append(append.clone()) {
                        world.has_attempted(&append, receipt.outcome());
                        self.waiting.push((append, receipt));
                    }
                }
                10..=14 => {
                    writer.run_once();
                }
                15 | 16 => {
                    let page = all(store, channel);
                    world.has_seen(channel, &page);
                }
                17 => {
                    let top = store.position(channel, 2 * LONG).expect("position");
                    let asked =
                        world.asked_to_remove.entry((channel.to_owned(), top.epoch.to_string())).or_default();
                    *asked = top.offset.max(*asked);
                    if let Ok(receipt) = store.remove(channel) {
                        self.removing.push((
                            channel.to_owned(),
                            (top.epoch.to_string(), top.offset),
                            receipt,
                        ));
                    }
                }
                18 if rng.bool() => {
                    // What came in between it goes on with the next time, or the keeper does.
                    let _ = keeper.compact_driving(writer);
                }
                18 => drop(keeper.tend_driving(writer)),
                19 => tokio::time::advance(Duration::from_secs(rng.u64(0..400))).await,
                20 => {
                    if rng.bool() {
                        disk.leave_room(rng.usize(0..600));
                    } else {
                        disk.set_room(None);
                    }
                }
                _ if rng.u8(0..3) == 0 => {
                    disk.fail_syncs(true);
                    writer.run_once();
                    disk.fail_syncs(false);
                    disk.set_room(None);
                    // Whether it failed or not, and was mended or not: readers of weak streams were told, or will be.
                    world.may_be_lost.extend(CHANNELS[3..].iter().map(|channel| (*channel).to_owned()));
                    writer.run_once();
                    self.has_failed = disk.is_dead();
                }
                _ => {}
            }
            self.settle(world).await;
        }
    }

    /// Hears what is known by now.
    async fn settle(&mut self, world: &mut World) {
        for index in (0..self.waiting.len()).rev() {
            if self.waiting[index].1.is_resolved() {
                let (append, receipt) = self.waiting.swap_remove(index);
                match receipt.await {
                    Ok(appended) => world.is_acknowledged(&append, &appended),
                    Err(CommitError::DiskFull) => {
                        world
                            .refused
                            .insert(String::from_utf8(append.publication.data.to_vec()).expect("text"));
                    }
                    Err(_) => {}
                }
            }
        }
        for index in (0..self.removing.len()).rev() {
            if self.removing[index].2.is_resolved() {
                let (channel, place, receipt) = self.removing.swap_remove(index);
                if receipt.await.is_ok() {
                    world.removed.insert(channel, place);
                }
            }
        }
    }
}

impl World {
    fn has_attempted(&mut self, append: &Append<'_>, appended: &Appended) {
        if let Appended::Kept(position) = appended {
            let place = (append.channel.to_owned(), position.epoch.to_string(), position.offset);
            let word = String::from_utf8(append.publication.data.to_vec()).expect("text");
            self.attempted.entry(place).or_default().insert(word);
        }
    }

    fn is_acknowledged(&mut self, append: &Append<'_>, appended: &Appended) {
        let Appended::Kept(position) = appended else { return };
        let word = String::from_utf8(append.publication.data.to_vec()).expect("text");
        let epoch = position.epoch.to_string();
        let place = (append.channel.to_owned(), epoch.clone(), position.offset);
        // Whoever is told that it is kept may read it.
        let before = self.seen.insert(place, word.clone());
        assert!(before.is_none_or(|before| before == word), "one offset was acknowledged twice");
        let epochs = self.epochs.entry(append.channel.to_owned()).or_default();
        if !epochs.contains(&epoch) {
            epochs.push(epoch.clone());
        }
        let all = self.acknowledged.entry(append.channel.to_owned()).or_default();
        all.push((epoch.clone(), position.offset, word));
        if let Some(key) = append.idempotency_key {
            let position = Some((epoch, position.offset));
            self.keys.push((append.channel.to_owned(), key.to_owned(), position));
        }
    }

    fn has_seen(&mut self, channel: &str, page: &Page) {
        let words = texts(page);
        let first = page.publications.first().map_or(1, |kept| kept.offset);
        for ((index, kept), word) in page.publications.iter().enumerate().zip(&words) {
            assert_eq!(kept.offset, first + index as u64, "offsets of {channel} have no gap");
            let place = (channel.to_owned(), page.top.epoch.to_string(), kept.offset);
            let attempts = self.attempted.get(&place);
            assert!(
                attempts.is_some_and(|attempts| attempts.contains(word)),
                "{place:?} was made up: {word}"
            );
            assert!(!self.refused.contains(word), "{place:?}: there was no room for it, and there it is");
            let before = self.seen.insert(place.clone(), word.clone());
            assert!(before.is_none_or(|before| before == *word), "{place:?} changed");
        }
        if let Some(last) = page.publications.last() {
            assert_eq!(last.offset, page.top.offset, "the run of {channel} ends at the top");
        }
    }

    /// After a start: what was acknowledged is there, as far as somebody looks.
    fn has_started(
        &mut self,
        store: &DurableStore,
        recovered: &Recovered,
        lost_power: bool,
        looks_at_all: bool,
        rng: &mut Rng,
    ) {
        if lost_power && !recovered.was_closed {
            self.may_be_lost.extend(CHANNELS[3..].iter().map(|channel| (*channel).to_owned()));
        }
        for channel in CHANNELS {
            if looks_at_all || rng.bool() {
                self.check(store, channel);
            }
        }
        self.check_keys(store);
    }

    fn check(&mut self, store: &DurableStore, channel: &str) {
        let page = store.read(channel, Query::forward(0, Limit::All), 2 * LONG).expect("read");
        self.has_seen(channel, &page);
        let may_be_lost = self.may_be_lost.remove(channel);
        let epoch = page.top.epoch.as_str();
        let Some(epochs) = self.epochs.get_mut(channel) else { return };
        let acknowledged = self.acknowledged.entry(channel.to_owned()).or_default();
        match epochs.iter().position(|of| of == epoch) {
            Some(index) => assert_eq!(index + 1, epochs.len(), "{channel}: an epoch is back that was over"),
            None => {
                assert!(may_be_lost, "{channel} began anew without a reason");
                // It says so by its epoch, which holds from now on.
                epochs.push(epoch.to_owned());
                acknowledged.clear();
                self.removed.remove(channel);
                return;
            }
        }
        acknowledged.retain(|(of, ..)| of == epoch);
        // A removal that was not acknowledged may have happened.
        let place = (channel.to_owned(), epoch.to_owned());
        let asked = self.asked_to_remove.get(&place).copied().unwrap_or(0);
        let Some(top) = acknowledged.iter().map(|(_, offset, _)| offset).max() else { return };
        assert!(page.top.offset >= *top, "{channel} lost {top}, it ends at {}", page.top.offset);
        let words = texts(&page);
        let removed = self.removed.get(channel).filter(|(of, _)| of == epoch).map_or(0, |(_, at)| *at);
        for (_, offset, word) in acknowledged.iter() {
            let is_trimmed = offset + SIZE as u64 <= page.top.offset;
            let index = page.publications.iter().position(|kept| kept.offset == *offset);
            match index {
                Some(index) => assert_eq!(words[index], *word, "{channel} {offset}"),
                None => assert!(is_trimmed || *offset <= asked, "{channel} lost {offset}"),
            }
        }
        assert!(
            page.publications.first().is_none_or(|first| first.offset > removed),
            "{channel}: removed is back"
        );
    }

    fn check_keys(&mut self, store: &DurableStore) {
        for (channel, key, position) in self.keys.split_off(self.keys.len().saturating_sub(3)) {
            if channel.starts_with('w') || channel == "mixed" {
                continue;
            }
            let mut append =
                Append::new(&channel, Publication::new("again"), Retention::new(SIZE, LONG, LONG));
            append.idempotency_key = Some(&key);
            // Asked without being published: a version that was seen, should the key be gone.
            append.retention = None;
            match store.append(append).expect("room").into_outcome() {
                Appended::Duplicate(first) => {
                    assert_eq!(first.map(|first| (first.epoch.to_string(), first.offset)), position);
                }
                // Its five minutes may be over; time passes in these lives.
                Appended::NotKept => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
