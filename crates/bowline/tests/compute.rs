//! A function over many items: order, partial failures, partial results, and the threads it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bowline::{Cancelled, Cause, Slot, compute, scope, timeout};

/// Work of a few microseconds that the compiler cannot leave out.
fn spin(item: u64) -> u64 {
    (0..500).fold(item, |sum, step| std::hint::black_box(sum.wrapping_mul(31).wrapping_add(step)))
}

#[bowline::test(worker_threads = 1)]
async fn results_come_in_the_order_of_the_items() {
    const ITEMS: u64 = 100_000;
    let outcome = compute("double", 0..ITEMS, |item| Ok::<_, Cancelled>(item * 2)).await;
    assert_eq!(outcome.counts().ok, ITEMS);
    assert!(outcome.cut_short().is_none());
    let results = outcome.all_ok().unwrap();
    assert_eq!(results.len() as u64, ITEMS);
    assert!(results.iter().zip(0..).all(|(result, item)| *result == item * 2));
}

#[bowline::test]
async fn nothing_to_compute_is_no_work() {
    let outcome = compute("nothing", Vec::<u64>::new(), Ok::<_, Cancelled>).await;
    assert_eq!(outcome.slots().count(), 0);
    assert_eq!(outcome.all_ok(), Ok(Vec::new()));
}

#[bowline::test(allow_panics)]
async fn an_error_or_a_panic_is_that_items_and_the_others_go_on() {
    const ITEMS: u64 = 10_000;
    let outcome = compute("risk", 0..ITEMS, |item| match item % 1_000 {
        3 => Err(item),
        7 => panic!("item {item}"),
        _ => Ok(item),
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.ok, counts.failed, counts.panicked, counts.cancelled), (ITEMS - 20, 10, 10, 0));
    for (item, slot) in (0..).zip(outcome.slots()) {
        match (item % 1_000, slot) {
            (3, Slot::Failed(error)) => assert_eq!(*error, item),
            (7, Slot::Panicked(panic)) => {
                assert_eq!(panic.message(), format!("item {item}"));
                assert_eq!(panic.task(), "risk");
            }
            (_, Slot::Ok(value)) => assert_eq!(*value, item),
            (_, slot) => panic!("item {item}: {slot:?}"),
        }
    }
    assert_eq!(bowline::panics().unexpected, 10);
    let mut slots = outcome.into_slots();
    assert!(matches!(slots.nth(1_007), Some(Slot::Panicked(_))));
}

#[bowline::test]
async fn the_first_failure_in_the_order_of_the_items_is_the_error_of_all() {
    let failing = |item: u32| if item % 10 == 9 { Err(Failed(item)) } else { Ok(item) };
    let first = compute("risk", 0..1_000, failing).await.all_ok();
    assert_eq!(first, Err(Failed(9)));
}

#[derive(Debug, PartialEq)]
struct Failed(u32);

impl From<Cancelled> for Failed {
    fn from(_: Cancelled) -> Self {
        Failed(u32::MAX)
    }
}

#[bowline::test(start_paused = true)]
async fn at_the_deadline_the_results_that_were_ready_are_kept() {
    const ITEMS: usize = 1_000;
    const READY: usize = 100;
    let ready = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&ready);
    let computing = timeout(Duration::from_secs(1), async {
        compute("slow", 0..ITEMS, move |item| {
            if item >= READY {
                until_cancelled();
            } else {
                ready.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Cancelled>(item)
        })
        .await
    });
    let deadline = async {
        while seen.load(Ordering::Relaxed) < READY {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_secs(2)).await; // timers are late by up to a millisecond
    };
    let (outcome, ()) = bowline::join(computing, deadline).await;
    let outcome = outcome.expect("it comes to a value");
    let counts = outcome.counts();
    assert!(counts.ok >= READY as u64 && counts.cancelled > 0, "{counts:?}");
    assert_eq!(counts.ok + counts.cancelled, ITEMS as u64);
    assert!(outcome.cut_short().unwrap().is_deadline());
    for (item, slot) in outcome.slots().enumerate() {
        match slot {
            Slot::Ok(value) => assert_eq!(*value, item),
            Slot::Cancelled(why) => assert!(item >= READY && why.is_deadline()),
            other => panic!("{other:?}"),
        }
    }
    assert!(outcome.all_ok().unwrap_err().is_deadline());
    assert_eq!(bowline::tree().blocking, 0);
}

/// As a long calculation would: it asks now and then.
fn until_cancelled() {
    while bowline::check().is_ok() {
        std::thread::yield_now();
    }
}

#[bowline::test(worker_threads = 1)]
async fn a_cancelled_scope_waits_for_the_items_that_are_being_computed() {
    let started = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(AtomicUsize::new(0));
    let (starts, ends) = (Arc::clone(&started), Arc::clone(&ended));
    let seen = Arc::clone(&started);
    let day = scope("day", async |s| {
        s.spawn("risk", async move {
            let outcome = compute("risk", 0..100_u32, move |item| {
                starts.fetch_add(1, Ordering::Relaxed);
                until_cancelled();
                ends.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Cancelled>(item)
            })
            .await;
            assert_eq!(outcome.cut_short().unwrap().cause(), &Cause::Requested("enough"));
            Ok(())
        });
        while seen.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        s.cancel("enough");
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(day, Ok(()), "the task has returned what it has");
    assert_eq!(started.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
    assert_eq!(bowline::tree().blocking, 0);
}

#[bowline::test(worker_threads = 1, allow_adoption)]
async fn dropped_half_way_it_ends_after_the_item_it_is_at_and_its_scope_waits_for_that() {
    let (begun, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&ended));
    let cores = std::thread::available_parallelism().unwrap().get();
    scope("outer", async |_s| {
        let computing = compute("risk", 0..10_000_u32, move |item| {
            begins.store(true, Ordering::Relaxed);
            until_cancelled();
            ends.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Cancelled>(item)
        });
        let begins = async {
            while !begun.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        };
        assert!(matches!(bowline::race(begins, computing).await, bowline::Either::Left(())));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let ended = ended.load(Ordering::Relaxed);
    assert!((1..=cores).contains(&ended), "{ended}");
}

#[bowline::test(worker_threads = 1)]
async fn calls_at_the_same_time_share_the_cores_and_each_goes_on() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let calls = (0..4).map(|_| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        compute("risk", 0..2_000_u64, move |item| {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let value = spin(item);
            now.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, Cancelled>(value)
        })
    });
    let outcomes = bowline::join_all(calls.collect::<Vec<_>>()).await;
    assert!(outcomes.iter().all(|outcome| outcome.counts().ok == 2_000));
    let most = most.load(Ordering::Relaxed);
    assert!(most <= cores + 3, "each call has one thread, and the cores are given out once: {most}");
}

#[bowline::test(worker_threads = 1)]
async fn the_context_is_ambient_in_the_items() {
    let limit = Duration::from_secs(3600);
    let lefts = timeout(limit, async {
        compute("risk", 0..10, |_| {
            bowline::time_left().ok_or_else(|| Cancelled::clone(&bowline::check().unwrap_err()))
        })
        .await
        .all_ok()
    })
    .await
    .unwrap()
    .unwrap();
    assert!(lefts.iter().all(|left| *left <= limit && *left > limit / 2), "{lefts:?}");
}
