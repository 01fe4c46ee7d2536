//! What is published when, what is refused, and what is left after a restart.

use tokio::task::yield_now;

use super::super::entry::Entry;
use super::super::log::{FEW, Log, SLACK};
use super::super::task::BATCH;
use super::super::{CancelOutcome, Full, ScheduleError};
use super::*;

#[bowline::test(start_paused = true)]
async fn what_waits_is_published_at_its_time_and_in_its_order() {
    let world = World::new();
    world
        .live(Ends::InOrder, async |scheduled| {
            put(scheduled, "a", "third", after(30_000)).await;
            put(scheduled, "a", "first", after(1_000)).await;
            put(scheduled, "b", "second", When { at_ms: BEGIN + 2_000, ..When::default() }).await;
            pass(Duration::from_millis(999)).await;
            assert_eq!(world.seen_data(), [""; 0]);
            pass(Duration::from_millis(2)).await;
            assert_eq!(world.seen(), [("first".to_owned(), BEGIN + 1_000)]);
            pass(MINUTE).await;
            assert_eq!(world.seen_data(), ["second", "third"]);
            assert_eq!(scheduled.pending().schedules, 0);
        })
        .await;
}

#[bowline::test(start_paused = true)]
async fn what_recurs_is_published_again_and_again_until_it_is_cancelled() {
    let world = World::new();
    world
        .live(Ends::InOrder, async |scheduled| {
            put(scheduled, "a", "tick", every("* * * * *", "t")).await;
            pass(MINUTE * 3 + SECOND).await;
            let times: Vec<u64> = world.seen().into_iter().map(|(_, at_ms)| at_ms).collect();
            assert_eq!(times, [1, 2, 3].map(|minute| BEGIN + minute * 60_000));
            assert_eq!(scheduled.cancel("t").await, Ok(CancelOutcome::Cancelled));
            assert_eq!(scheduled.cancel("t").await, Ok(CancelOutcome::Cancelled));
            pass(MINUTE * 3).await;
            assert_eq!(world.seen_data(), [""; 0]);
        })
        .await;
}

#[bowline::test(start_paused = true)]
async fn the_same_id_again_changes_what_waits() {
    let world = World::new();
    world
        .live(Ends::InOrder, async |scheduled| {
            let named = |delay_ms| When { id: "x".into(), ..after(delay_ms) };
            put(scheduled, "a", "old", named(1_000)).await;
            put(scheduled, "b", "new", named(5_000)).await;
            assert_eq!(scheduled.list("a", None, 9).unwrap().1, 0);
            assert_eq!(scheduled.list("b", None, 9).unwrap().1, 1);
            pass(SECOND * 10).await;
            assert_eq!(world.seen_data(), ["new"]);
            // What has ended leaves its id free, and is told apart from what comes under it.
            assert_eq!(scheduled.cancel("x").await, Ok(CancelOutcome::TooLate));
            put(scheduled, "a", "again", named(1_000)).await;
            pass(SECOND * 10).await;
            assert_eq!(world.seen_data(), ["again"]);
            assert_eq!(scheduled.cancel("none").await, Ok(CancelOutcome::Unknown));
        })
        .await;
}

#[bowline::test(start_paused = true)]
async fn what_waits_is_there_after_a_restart_and_what_was_due_is_published_once() {
    let world = World::new();
    world
        .live(Ends::InOrder, async |scheduled| {
            put(scheduled, "a", "soon", after(60_000)).await;
            put(scheduled, "a", "later", after(600_000)).await;
            put(scheduled, "a", "cancelled", When { id: "c".into(), ..after(60_000) }).await;
            put(scheduled, "a", "skipped", When { missed: "skip".into(), ..after(60_000) }).await;
            put(scheduled, "a", "tick", every("* * * * *", "t")).await;
            put(scheduled, "a", "tock", When { missed: "skip".into(), ..every("0 * * * *", "o") }).await;
            assert_eq!(scheduled.cancel("c").await, Ok(CancelOutcome::Cancelled));
        })
        .await;
    pass(MINUTE * 5 + SECOND).await; // nothing runs
    for _ in 0..2 {
        world.live(Ends::InOrder, async |_| pass(SECOND).await).await;
    }
    // Of the minutes that were missed the newest stands for all.
    let expected = [("soon".to_owned(), BEGIN + 60_000), ("tick".to_owned(), BEGIN + 300_000)];
    assert_eq!(world.seen(), expected);
    world
        .live(Ends::InOrder, async |scheduled| {
            assert_eq!(scheduled.list("", None, 9).unwrap().1, 3);
            assert_eq!(scheduled.cancel("c").await, Ok(CancelOutcome::Unknown));
            pass(MINUTE * 5).await;
        })
        .await;
    let data = world.seen_data();
    assert_eq!(data.iter().filter(|data| *data == "later").count(), 1, "{data:?}");
    assert_eq!(data.iter().filter(|data| *data == "tick").count(), 5, "{data:?}");
}

#[bowline::test(start_paused = true)]
async fn a_process_killed_between_publishing_and_writing_it_down_publishes_once() {
    let world = World::new();
    world.published.hangs.store(true, Ordering::SeqCst);
    world
        .live(Ends::Killed, async |scheduled| {
            put(scheduled, "a", "once", after(1_000)).await;
            put(scheduled, "a", "tick", every("* * * * *", "t")).await;
            pass(MINUTE + SECOND).await;
        })
        .await;
    assert_eq!(world.seen_data(), ["once"], "the second waits for the first, which hangs");
    world.published.hangs.store(false, Ordering::SeqCst);
    pass(MINUTE * 20).await;
    world.live(Ends::InOrder, async |_| pass(SECOND).await).await;
    assert_eq!(world.seen_data(), ["tick"]);
    world.live(Ends::InOrder, async |_| pass(SECOND).await).await;
    assert_eq!(world.seen_data(), [""; 0]);
}

#[bowline::test(start_paused = true)]
async fn what_fails_is_tried_again_and_what_is_impossible_is_not() {
    let world = World::new();
    world.published.fails.store(true, Ordering::SeqCst);
    world
        .live(Ends::InOrder, async |scheduled| {
            put(scheduled, "a", "later", after(1_000)).await;
            put(scheduled, "gone", "never", after(120_000)).await;
            pass(MINUTE).await;
            assert_eq!((world.seen().len(), scheduled.pending().schedules), (0, 2));
            assert!(scheduled.counts().failed.load(Ordering::Relaxed) > 3);
            world.published.fails.store(false, Ordering::SeqCst);
            pass(MINUTE * 3).await;
            assert_eq!(world.seen_data(), ["later"]);
            assert_eq!(scheduled.pending().schedules, 0);
            assert_eq!(scheduled.counts().refused.load(Ordering::Relaxed), 1);
        })
        .await;
}

#[bowline::test(start_paused = true)]
async fn nothing_begins_after_the_server_was_told_to_stop() {
    let world = World::new();
    world
        .live(Ends::InOrder, async |scheduled| {
            put(scheduled, "a", "tomorrow", after(1_000)).await;
            pass(Duration::from_millis(500)).await;
            // It is due from here on, and nobody has looked yet when the server is told to stop.
            world.set_by_ms.store(2_000, Ordering::SeqCst);
        })
        .await;
    pass(MINUTE).await;
    assert_eq!(world.seen_data(), [""; 0]);
}

#[bowline::test(start_paused = true)]
async fn bounds_hold_for_all_for_a_channel_and_for_bytes() {
    let world = World::new();
    world
        .live(Ends::InOrder, async |scheduled| {
            let refused = |channel: &str, data: &str, when: When| match scheduled
                .put(item(scheduled, channel, data, when))
            {
                Err(ScheduleError::Full(full)) => full,
                other => panic!("{other:?}"),
            };
            for number in 0..20 {
                put(scheduled, "a", "x", When { id: format!("a{number}"), ..after(1_000) }).await;
            }
            assert_eq!(refused("a", "x", after(1)), Full::Channel(20));
            // In the place of another there is room.
            put(scheduled, "a", "y", When { id: "a0".into(), ..after(1_000) }).await;
            assert_eq!(refused("b", &"x".repeat(100_000), after(1)), Full::Bytes(100_000));
            for number in 0..30 {
                put(scheduled, &format!("b{number}"), "x", after(1_000)).await;
            }
            assert_eq!(refused("c", "x", after(1)), Full::All(50));
            pass(SECOND * 2).await;
            put(scheduled, "a", "x", after(1_000)).await;
        })
        .await;
}

#[bowline::test(start_paused = true)]
async fn many_that_are_due_at_once_are_published_in_order_and_others_run_in_between() {
    let mut world = World::new();
    world.limits = Limits { ahead_ms: 3_600_000, ..Limits::default() };
    let count = 5_000;
    world
        .live(Ends::InOrder, async |scheduled| {
            let begun: Vec<_> = (0..count)
                .map(|n| scheduled.put(item(scheduled, "a", &n.to_string(), after(1_000 + n))).unwrap())
                .collect();
            for putting in begun {
                putting.kept().await.unwrap();
            }
        })
        .await;
    pass(MINUTE).await;
    world
        .live(Ends::InOrder, async |scheduled| {
            scheduled.read().unwrap();
            let published = || world.published.seen.lock().unwrap().len();
            let mut most = 0;
            while scheduled.pending().schedules > 0 {
                let before = published();
                yield_now().await;
                most = most.max(published() - before);
            }
            assert!((1..=BATCH).contains(&most), "{most} before anybody else ran");
        })
        .await;
    let data = world.seen_data();
    assert!(data.iter().enumerate().all(|(n, data)| n.to_string() == *data), "out of order");
    assert_eq!(data.len() as u64, count);
    world.live(Ends::InOrder, async |scheduled| assert_eq!(scheduled.list("", None, 9).unwrap().1, 0)).await;
}

#[bowline::test(start_paused = true)]
async fn the_log_stays_as_long_as_what_waits_and_not_as_what_was() {
    let mut world = World::new();
    world.limits = Limits { ahead_ms: u64::MAX, ..Limits::default() };
    world
        .live(Ends::InOrder, async |scheduled| {
            put(scheduled, "a", "next year", after(365 * 86_400_000)).await;
            for _ in 0..3_000 {
                put(scheduled, "a", "x", after(1)).await;
                pass(Duration::from_millis(2)).await;
            }
            assert_eq!(scheduled.pending().schedules, 1);
            let kept = world.store.stats().publications as u64;
            // At the last put two schedules waited; what is moved once more is not trimmed before the next append.
            let bound = 2 * SLACK + FEW + 8;
            assert!(kept <= bound, "{kept} records for one schedule, not {bound}");
        })
        .await;
    world.live(Ends::InOrder, async |scheduled| assert_eq!(scheduled.list("", None, 9).unwrap().1, 1)).await;
}

#[bowline::test(start_paused = true)]
async fn one_that_nobody_can_read_is_kept_and_does_not_make_the_log_longer() {
    let world = World::new();
    let entry = Entry { id: "of-a-later-version".into(), cron: "every full moon".into(), ..Entry::default() };
    let put_entry = Log::default().put(&*world.store, &entry.id.as_str().into(), &entry, |_| None);
    put_entry.unwrap().receipt.await.unwrap();
    world
        .live(Ends::InOrder, async |scheduled| {
            for _ in 0..100 {
                put(scheduled, "a", "x", after(1)).await;
                pass(Duration::from_millis(2)).await;
            }
            assert_eq!(scheduled.pending().schedules, 0);
            let kept = world.store.stats().publications as u64;
            let bound = 2 * SLACK + FEW + 8;
            assert!(kept <= bound, "{kept} records, not {bound}");
        })
        .await;
    let kept = || Log::default().read(&*world.store).unwrap().entries.into_values().collect::<Vec<_>>();
    assert_eq!(kept(), std::slice::from_ref(&entry));
    // Under its id there is room for one that can be read.
    world
        .live(Ends::InOrder, async |scheduled| {
            put(scheduled, "a", "x", When { id: entry.id.clone(), ..after(1) }).await;
            pass(SECOND).await;
        })
        .await;
    assert_eq!(kept(), []);
    assert_eq!(world.seen_data().len(), 101);
}

#[bowline::test(start_paused = true)]
async fn what_the_store_lets_go_of_is_written_again() {
    let world = World::new();
    world
        .live(Ends::InOrder, async |scheduled| {
            put(scheduled, "a", "kept", after(600_000)).await;
            world.store.remove(super::super::log::STREAM).unwrap().await.unwrap();
            pass(SECOND * 11).await;
        })
        .await;
    world.live(Ends::InOrder, async |scheduled| assert_eq!(scheduled.list("", None, 9).unwrap().1, 1)).await;
}

#[bowline::test(start_paused = true)]
async fn the_wall_clock_decides_wherever_it_is_set() {
    let world = World::new();
    world
        .live(Ends::InOrder, async |scheduled| {
            put(scheduled, "a", "once", after(30 * 60_000)).await;
            put(scheduled, "a", "tick", every("*/10 * * * *", "t")).await;
            pass(SECOND).await;
            // Forward: what is due is published as soon as somebody looks.
            world.set_by_ms.store(31 * 60_000, Ordering::SeqCst);
            pass(SECOND * 11).await;
            assert_eq!(world.seen_data(), ["tick", "once"]);
            // Back: what recurs does not stand still until the clock is where it was.
            world.set_by_ms.store(0, Ordering::SeqCst);
            pass(MINUTE * 10).await;
            assert_eq!(world.seen_data(), ["tick"]);
        })
        .await;
}

#[bowline::test(start_paused = true)]
async fn a_page_goes_on_where_the_one_before_ended() {
    let world = World::new();
    world
        .live(Ends::InOrder, async |scheduled| {
            for (id, delay_ms) in [("b", 5_000), ("a", 5_000), ("c", 1_000), ("d", 9_000)] {
                put(scheduled, "a", "x", When { id: id.into(), ..after(delay_ms) }).await;
            }
            let (mut ids, mut after) = (Vec::new(), None::<(u64, String)>);
            loop {
                let place = after.as_ref().map(|(place, id)| (*place, id.as_str()));
                let (page, total) = scheduled.list("", place, 1).unwrap();
                assert_eq!(total, 4);
                let Some((place, item)) = page.first() else { break };
                ids.push(item.entry.id.clone());
                after = Some((*place, item.entry.id.clone()));
            }
            assert_eq!(ids, ["c", "a", "b", "d"]);
        })
        .await;
}
