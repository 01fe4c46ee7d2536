//! The last good answer of a coordinator that is slow, gone, or of another mind.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::testing::seed;
use bowline::{Breaker, Cancelled, Class, Copies, Freshness, LocalCopy, NoCopy, join, scope, sleep, timeout};
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How the coordinator is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    /// Nothing arrives.
    Partitioned,
    Slow,
    /// Of another version: its answers are no answers.
    Strange,
    /// It says no.
    Refuses,
}

/// Answers with how often it was asked.
#[derive(Clone)]
struct Coordinator {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicU32>,
}

impl Coordinator {
    fn new() -> Self {
        Self { mood: Arc::new(Mutex::new(Mood::Well)), asked: Arc::default() }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    async fn ask(self, _key: u32) -> Result<u32, Class> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => tokio::time::sleep(5 * MS).await,
            Mood::Slow => tokio::time::sleep(2 * SECOND).await,
            Mood::Partitioned => std::future::pending().await,
            Mood::Strange => return Err(Class::Bug),
            Mood::Refuses => return Err(Class::Business),
        }
        Ok(asked)
    }
}

fn start(s: &bowline::Scope<Cancelled>, coordinator: &Coordinator) -> Copies<u32, u32, Class> {
    let coordinator = coordinator.clone();
    LocalCopy::new("routes", 30 * MINUTE).start(s, move |key| coordinator.clone().ask(key))
}

#[bowline::test(start_paused = true)]
async fn a_coordinator_that_does_not_answer_is_stood_in_for_by_what_it_said_last() {
    let coordinator = Coordinator::new();
    scope("node", async |s| {
        let routes = start(s, &coordinator);
        let first = routes.read(1).await.unwrap();
        assert_eq!((*first.value, first.freshness), (1, Freshness::Fresh));
        for (mood, expected) in
            [(Mood::Partitioned, Class::Timeout), (Mood::Strange, Class::Bug), (Mood::Slow, Class::Timeout)]
        {
            coordinator.is(mood);
            sleep(MINUTE).await?;
            let begun = Instant::now();
            let stale = routes.read(1).await.unwrap();
            assert!(begun.elapsed() <= LocalCopy::WAIT + 3 * MS, "{mood:?}: {:?}", begun.elapsed());
            match stale.freshness {
                Freshness::Stale { age, why } => assert!(age >= MINUTE && why == expected, "{age:?}, {why}"),
                Freshness::Fresh => panic!("{mood:?}"),
            }
        }
        // The slow answer came when nobody waited any more: the next reader has it.
        sleep(3 * SECOND).await?;
        coordinator.is(Mood::Well);
        assert_eq!(routes.read(1).await.unwrap().freshness, Freshness::Fresh);
        let stats = routes.stats();
        assert_eq!((stats.keys, stats.fresh, stats.stale, stats.without), (1, 2, 3, 0));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_copy_that_is_too_old_is_not_served() {
    let coordinator = Coordinator::new();
    scope("node", async |s| {
        let routes = start(s, &coordinator);
        coordinator.is(Mood::Partitioned);
        let never = routes.read(1).await.unwrap_err();
        assert_eq!(never.to_string(), "no answer (time-out), and no copy");
        sleep(MINUTE).await?;
        coordinator.is(Mood::Well);
        routes.read(1).await.unwrap();
        coordinator.is(Mood::Partitioned);
        sleep(31 * MINUTE).await?;
        let old = routes.read(1).await.unwrap_err();
        assert!(matches!(old, NoCopy::NoAnswer { age: Some(age), .. } if age > 30 * MINUTE), "{old}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_no_of_the_coordinator_is_an_answer() {
    let coordinator = Coordinator::new();
    scope("node", async |s| {
        let routes = start(s, &coordinator);
        routes.read(1).await.unwrap();
        coordinator.is(Mood::Refuses);
        sleep(MINUTE).await?;
        assert!(matches!(routes.read(1).await, Err(NoCopy::Answered(_))));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn a_thousand_readers_are_one_question() {
    let coordinator = Coordinator::new();
    scope("node", async |s| {
        let routes = start(s, &coordinator);
        let readers = bowline::join_all((0..1_000).map(|_| routes.read(1)).collect::<Vec<_>>());
        assert!(readers.await.into_iter().all(|known| known.is_ok()));
        assert_eq!(coordinator.asked(), 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn an_open_breaker_serves_the_copy_without_a_wait_and_leaves_the_coordinator_alone() {
    let (coordinator, breaker) = (Coordinator::new(), Breaker::new("coordinator"));
    scope("node", async |s| {
        let asks = coordinator.clone();
        let routes = LocalCopy::new("routes", 30 * MINUTE)
            .breaker(&breaker)
            .start(s, move |key: u32| asks.clone().ask(key));
        routes.read(1).await.unwrap();
        breaker.force_open("maintenance");
        sleep(MINUTE).await?;
        let begun = Instant::now();
        assert!(matches!(routes.read(1).await.unwrap().freshness, Freshness::Stale { .. }));
        assert_eq!((begun.elapsed(), coordinator.asked()), (Duration::ZERO, 1));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_reader_with_little_time_gets_its_copy_while_it_can_still_use_it() {
    let coordinator = Coordinator::new();
    scope("node", async |s| {
        let routes = start(s, &coordinator);
        routes.read(1).await.unwrap();
        coordinator.is(Mood::Partitioned);
        sleep(MINUTE).await?;
        let known = timeout(100 * MS, routes.read(1)).await.unwrap().unwrap();
        assert!(matches!(known.freshness, Freshness::Stale { .. }));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn more_keys_than_may_be_take_the_place_of_the_oldest() {
    let coordinator = Coordinator::new();
    scope("node", async |s| {
        let asks = coordinator.clone();
        let routes = LocalCopy::new("routes", 30 * MINUTE)
            .at_most_keys(2)
            .start(s, move |key: u32| asks.clone().ask(key));
        for key in 1..=3 {
            routes.read(key).await.unwrap();
            sleep(10 * MS).await?;
        }
        coordinator.is(Mood::Partitioned);
        sleep(MINUTE).await?;
        assert_eq!(routes.stats().keys, 2);
        assert!(routes.read(1).await.is_err());
        assert!(routes.read(3).await.is_ok());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_handle_kept_beyond_its_scope_says_so_at_once() {
    let coordinator = Coordinator::new();
    let routes = scope("node", async |s| {
        let routes = start(s, &coordinator);
        routes.read(1).await.unwrap();
        Ok::<_, Cancelled>(routes)
    })
    .await
    .unwrap();
    tokio::time::sleep(MINUTE).await;
    assert!(matches!(routes.read(1).await.unwrap().freshness, Freshness::Stale { .. }));
    assert!(routes.read(2).await.is_err());
}

/// A day of a coordinator that is partitioned, slow and of another version for up to a quarter of an hour at a time, as the seed
/// draws it: how often a reader gets a usable answer in time.
#[bowline::test(start_paused = true, schedules = 3, timeout_secs = 120)]
async fn a_day_of_chaos_leaves_999_of_1000_reads_with_an_answer() {
    const KEYS: u32 = 10;
    let coordinator = Coordinator::new();
    let (mut ours, mut bare, mut reads) = (0_u32, 0_u32, 0_u32);
    scope("node", async |s| {
        let asks = coordinator.clone();
        let routes = LocalCopy::new("routes", 30 * MINUTE)
            .breaker(&Breaker::new("coordinator"))
            .start(s, move |key: u32| asks.clone().ask(key));
        let moods = coordinator.clone();
        s.spawn_daemon("chaos", async move {
            let mut draw = fastrand::Rng::with_seed(seed());
            loop {
                moods.is(Mood::Well);
                sleep(MINUTE * draw.u32(10..60)).await?;
                moods.is([Mood::Partitioned, Mood::Slow, Mood::Strange][draw.usize(0..3)]);
                sleep(MINUTE * draw.u32(1..15)).await?;
            }
        });
        let end = Instant::now() + 24 * 60 * MINUTE;
        while Instant::now() < end {
            for key in 0..KEYS {
                let begun = Instant::now();
                let (copy, asked) =
                    join(routes.read(key), timeout(LocalCopy::WAIT, coordinator.clone().ask(key))).await;
                reads += 1;
                ours += u32::from(copy.is_ok() && begun.elapsed() <= LocalCopy::WAIT + 5 * MS);
                bare += u32::from(matches!(asked, Ok(Ok(_))));
            }
            sleep(MINUTE).await?;
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let percent = |of: u32| f64::from(of) * 100.0 / f64::from(reads);
    println!("of {reads} reads: {:.3}% with copies, {:.3}% without", percent(ours), percent(bare));
    assert!(percent(ours) >= 99.9, "{:.3}%", percent(ours));
    assert!(percent(bare) < 95.0, "{:.3}%: the day was too quiet to say anything", percent(bare));
}
