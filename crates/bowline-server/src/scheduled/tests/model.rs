//! Random lives, compared with a list of what should have been published.

use std::collections::BTreeMap;

use super::*;

/// A generator whose seed a failure prints.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A schedule as the model has it.
#[derive(Clone, Debug)]
struct Waits {
    data: String,
    at_ms: u64,
    /// It recurs, every minute.
    recurs: bool,
    skips: bool,
}

/// Everything is due in a whole second; what is done is done half a second before or after, so that the order is clear.
const HALF: Duration = Duration::from_millis(500);

const MINUTE_MS: u64 = 60_000;

#[derive(Default)]
struct Model {
    waits: BTreeMap<String, Waits>,
    published: Vec<(String, u64)>,
}

impl Model {
    /// Publishes what is due at `now_ms`, where a server looks.
    fn look(&mut self, now_ms: u64) {
        let due: Vec<String> =
            self.waits.iter().filter(|(_, w)| w.at_ms <= now_ms).map(|(id, _)| id.clone()).collect();
        for id in due {
            let Some(mut waits) = self.waits.remove(&id) else { continue };
            let is_missed = now_ms - waits.at_ms > MINUTE_MS;
            if is_missed && waits.recurs {
                waits.at_ms = now_ms / MINUTE_MS * MINUTE_MS;
            }
            let is_late = now_ms - waits.at_ms > MINUTE_MS;
            let run = (waits.data.clone(), waits.at_ms);
            // A run that was published and not written down is tried again, and recognized.
            let is_skipped = waits.skips && is_late;
            if !is_skipped && !self.published.contains(&run) {
                self.published.push(run);
            }
            if waits.recurs {
                waits.at_ms = (now_ms.max(waits.at_ms) / MINUTE_MS + 1) * MINUTE_MS;
                self.waits.insert(id, waits);
            }
        }
    }

    fn next(&self) -> Option<u64> {
        self.waits.values().map(|waits| waits.at_ms).min()
    }

    /// A server looks the whole time until `now_ms`.
    fn run_until(&mut self, now_ms: u64) {
        while let Some(next) = self.next().filter(|at_ms| *at_ms <= now_ms) {
            self.look(next);
        }
    }
}

/// One world of some lives.
async fn check(seed: u64) {
    let mut dice = Dice(seed);
    let (world, mut model) = (World::new(), Model::default());
    let mut puts = 0;
    pass(HALF).await;
    for _ in 0..6 {
        let is_killed = dice.below(3) == 0;
        let ends = if is_killed { Ends::Killed } else { Ends::InOrder };
        world
            .live(ends, async |scheduled| {
                // Whatever was due meanwhile is published first.
                pass(HALF / 2).await;
                model.look(scheduled.now_ms());
                for _ in 0..dice.below(12) {
                    let id = format!("s{}", dice.below(5));
                    match dice.below(5) {
                        0 | 1 => {
                            puts += 1;
                            let data = format!("{seed}-{puts}");
                            let skips = dice.below(2) == 0;
                            let recurs = dice.below(3) == 0;
                            let mut when = match recurs {
                                true => every("* * * * *", &id),
                                false => When { id: id.clone(), ..after(250 + dice.below(300) * 1_000) },
                            };
                            when.missed = if skips { "skip" } else { "" }.to_owned();
                            let item = item(scheduled, "a", &data, when);
                            let at_ms = item.entry.at_ms;
                            scheduled.put(item).unwrap().kept().await.unwrap();
                            model.waits.insert(id, Waits { data, at_ms, recurs, skips });
                        }
                        2 => {
                            scheduled.cancel(&id).await.unwrap();
                            model.waits.remove(&id);
                        }
                        _ => {
                            pass(SECOND * u32::try_from(dice.below(100)).unwrap()).await;
                            model.run_until(scheduled.now_ms());
                        }
                    }
                }
                if is_killed {
                    // What is due next is published, and the process ends before it is written down: it waits still.
                    world.published.hangs.store(true, Ordering::SeqCst);
                    pass(SECOND * u32::try_from(1 + dice.below(100)).unwrap()).await;
                    let now_ms = scheduled.now_ms();
                    let before = model.waits.clone();
                    if let Some(next) = model.next().filter(|at_ms| *at_ms <= now_ms) {
                        model.look(next);
                    }
                    model.waits = before;
                }
            })
            .await;
        world.published.hangs.store(false, Ordering::SeqCst);
        // What the store has is what waits.
        let (listed, _) = world.scheduled().list("", None, 99).unwrap();
        let mut ids: Vec<&str> = listed.iter().map(|(_, item)| item.entry.id.as_str()).collect();
        ids.sort_unstable();
        assert!(ids.iter().eq(model.waits.keys()), "seed {seed}: {ids:?}, not {:?}", model.waits);
        pass(HALF * 3 / 2 + SECOND * u32::try_from(dice.below(200)).unwrap()).await;
        model.published.sort();
        let mut seen = world.published.seen.lock().unwrap().clone();
        seen.sort();
        assert_eq!(seen, model.published, "seed {seed}");
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "seed {seed}: twice the same");
    }
}

#[bowline::test(start_paused = true)]
async fn random_lives_publish_exactly_what_they_should() {
    for seed in 0..200 {
        check(seed).await;
    }
}
