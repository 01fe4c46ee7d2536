//! Bulkheads: never more inside than there are places, nobody waits for ever, and every place comes back.

mod support;

use std::future::pending;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline::{
    Bulkhead, BulkheadError, Cancelled, Class, Classify, CollectAll, Limit, NoSlot, bulkheads, group,
    join_all, scope, sleep, timeout,
};
use support::{parked, poll_once};

const MS: Duration = Duration::from_millis(1);

/// Ten thousand callers at once, and places for a hundred.
#[bowline::test(start_paused = true)]
async fn ten_thousand_callers_pass_without_an_error_when_their_patience_allows() -> Result<(), Cancelled> {
    let pool = Bulkhead::new("connections", 100).waiting(10_000).wait_at_most(800 * MS);
    let inside = Arc::new(AtomicUsize::new(0));
    let began = tokio::time::Instant::now();
    scope("callers", async |s| {
        for _ in 0..10_000 {
            let (pool, inside) = (pool.clone(), Arc::clone(&inside));
            s.spawn("caller", async move {
                let passed = pool
                    .run(async || {
                        assert!(inside.fetch_add(1, Ordering::Relaxed) < 100);
                        sleep(5 * MS).await?;
                        inside.fetch_sub(1, Ordering::Relaxed);
                        Ok::<_, Cancelled>(())
                    })
                    .await;
                assert_eq!(passed, Ok(()));
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await?;
    let took = began.elapsed();
    assert!(
        (500 * MS..700 * MS).contains(&took),
        "{took:?}: the places were not all in use, or not by calls"
    );
    let stats = pool.stats();
    assert_eq!((stats.admitted, stats.in_flight, stats.waiting), (10_000, 0, 0));
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn who_finds_no_room_to_wait_is_refused_at_once_and_told_why() {
    let billing = Bulkhead::new("billing", 2).waiting(1);
    let (_one, _two) = (billing.enter().await.unwrap(), billing.enter().await.unwrap());
    let mut waits = parked(billing.enter()).await;
    let refused = billing.enter().await.unwrap_err();
    let NoSlot::Full(full) = &refused else { panic!("{refused:?}") };
    assert_eq!((full.in_flight, full.at_most, full.waiting, full.waited), (2, 2, 1, Duration::ZERO));
    let oldest = full.oldest.as_ref().unwrap();
    assert!(oldest.place.contains("bulkhead.rs"), "{oldest:?}");
    assert_eq!(refused.class(), Class::Overload { retry_after: None });
    let said = refused.to_string();
    assert!(
        said.starts_with("bulkhead `billing` is full: 2 of 2 places are taken and 1 wait; the oldest"),
        "{said}"
    );
    drop(_one);
    drop(waits.as_mut().await.unwrap());
}

/// failsafe#393: a wait that times out stays in line and is granted a permit that nobody takes; after as many time-outs as there
/// are permits nobody is admitted any more, though nothing runs.
#[bowline::test(start_paused = true)]
async fn a_place_granted_to_one_who_gave_up_goes_to_the_next() {
    let billing = Bulkhead::new("billing", 8).wait_at_most(10 * MS);
    let slots: Vec<_> = join_all((0..8).map(|_| billing.enter()).collect::<Vec<_>>()).await;
    let refused = join_all((0..8).map(|_| billing.enter()).collect::<Vec<_>>()).await;
    for refused in refused {
        let Err(NoSlot::Full(full)) = refused else { panic!("{refused:?}") };
        assert!((10 * MS..=12 * MS).contains(&full.waited), "{full:?}"); // the timer ticks in milliseconds
        assert!(full.to_string().contains("; gave up after 1"), "{full}");
    }
    let late = parked(billing.enter()).await;
    drop(slots);
    drop(late); // granted, and dropped before it came to fetch it
    let again = join_all((0..8).map(|_| billing.enter()).collect::<Vec<_>>()).await;
    assert!(again.iter().all(Result::is_ok), "{again:?}");
    assert_eq!(billing.stats().refused_timed_out, 8);
}

/// failsafe-go#14: a wait for a permit goes on after the call's time-out.
#[bowline::test(start_paused = true)]
async fn a_wait_ends_with_its_context() {
    let billing = Bulkhead::new("billing", 1).wait_at_most(1_000 * MS);
    let _slot = billing.enter().await.unwrap();
    let began = tokio::time::Instant::now();
    let late = timeout(10 * MS, billing.enter()).await.unwrap();
    assert!(matches!(late, Err(NoSlot::Cancelled(ref cancelled)) if cancelled.is_deadline()), "{late:?}");
    assert!(began.elapsed() <= 12 * MS, "{:?}", began.elapsed());
    assert_eq!(billing.stats().waiting, 0);
}

/// tower-resilience#367: a call that is dropped keeps its slot.
#[bowline::test(start_paused = true)]
async fn a_call_that_is_dropped_or_panics_gives_its_place_back() {
    let billing = Bulkhead::new("billing", 1);
    drop(parked(billing.run(async || pending::<Result<(), Class>>().await)).await);
    let panics = group("calls", CollectAll, async |g| {
        let billing = billing.clone();
        g.spawn("call", async move {
            let call = billing.run(async || -> Result<(), Cancelled> { bowline::bad_input("odd") });
            Ok::<_, Cancelled>(call.await.is_ok())
        });
    });
    assert_eq!(panics.await.counts().panicked, 1);
    let failed = billing.run(async || Err::<(), _>(Class::Business)).await;
    assert_eq!(failed, Err(BulkheadError::Failed(Class::Business)));
    assert_eq!(billing.stats().in_flight, 0);
    assert!(bulkheads().iter().any(|one| one.name == "billing" && one.admitted == 3));
}

/// cowprotocol#4804: "0 = unlimited" lets nobody pass.
#[bowline::test]
async fn no_places_is_an_error_at_the_place_of_construction() {
    assert!(catch_unwind(|| Bulkhead::new("billing", 0)).is_err());
    assert!(catch_unwind(|| Limit::aimd(0..=10)).is_err());
}

/// tower-resilience#365: admission compares a count with the limit and reserves nothing, so clones admit more together than the limit
/// says; and one that is dropped is never counted out.
#[bowline::test(start_paused = true, schedules = 5)]
async fn clones_never_admit_more_than_the_limit_that_moves() -> Result<(), Cancelled> {
    const CAPACITY: usize = 20;
    let upstream =
        Bulkhead::new("upstream", 1).waiting(1_000).wait_at_most(60_000 * MS).adapt(Limit::aimd(4..=100));
    let inside = Arc::new(AtomicUsize::new(0));
    scope("callers", async |s| {
        for caller in 0..200 {
            let (upstream, inside) = (upstream.clone(), Arc::clone(&inside));
            s.spawn("caller", async move {
                for call in 0..20 {
                    let slot = upstream.enter().await.expect("it is patient");
                    let before = upstream.stats();
                    let many = inside.fetch_add(1, Ordering::Relaxed) + 1;
                    // What was admitted before the limit shrank may still be inside.
                    assert!(many <= before.in_flight && before.in_flight <= 100, "{many} inside: {before:?}");
                    sleep(5 * MS).await?;
                    inside.fetch_sub(1, Ordering::Relaxed);
                    match (caller + call) % 10 {
                        0 => drop(slot),
                        _ if many > CAPACITY => slot.failed(Class::Overload { retry_after: None }),
                        _ => slot.succeeded(),
                    }
                }
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await?;
    let stats = upstream.stats();
    assert_eq!((stats.in_flight, stats.waiting, stats.admitted), (0, 0, 4_000));
    assert!((16..=24).contains(&stats.at_most), "the capacity is {CAPACITY}: {stats:?}");
    // It really admits so many, and no more.
    let slots = join_all((0..stats.at_most).map(|_| upstream.enter()).collect::<Vec<_>>()).await;
    assert!(poll_once(&mut Box::pin(upstream.enter())).await.is_pending());
    drop(slots);
    Ok(())
}

/// Otherwise a limit whose callers all have a deadline around them would never learn that the upstream hangs.
#[bowline::test(start_paused = true)]
async fn a_call_that_ran_into_its_callers_deadline_shrinks_the_limit() {
    let upstream = Bulkhead::new("upstream", 1).adapt(Limit::aimd(10..=40));
    assert_eq!(upstream.stats().at_most, 20);
    let call = upstream.run(async || pending::<Result<(), Class>>().await);
    assert!(timeout(MS, call).await.unwrap_err().is_deadline());
    assert_eq!(upstream.stats().at_most, 18);
    // Who was cancelled for another reason, or says what it was, is believed.
    drop(upstream.enter().await.unwrap());
    drop(parked(upstream.run(async || pending::<Result<(), Class>>().await)).await);
    let late = timeout(MS, async {
        let slot = upstream.enter().await.unwrap();
        bowline::cancelled().await;
        slot.failed(Class::Bug);
    });
    late.await.ok();
    assert_eq!((upstream.stats().at_most, upstream.stats().in_flight), (18, 0));
}

#[bowline::test(start_paused = true)]
async fn the_room_to_wait_is_that_of_the_places_there_can_be() {
    let one_inside = async |upstream: Bulkhead, many: usize| {
        let _slot = upstream.enter().await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..many {
            waiting.push(parked(upstream.enter()).await);
        }
        assert!(matches!(upstream.enter().await, Err(NoSlot::Full(_))), "{:?}", upstream.stats());
    };
    one_inside(Bulkhead::new("upstream", 1).adapt(Limit::aimd(1..=3)), 30).await;
    one_inside(Bulkhead::new("upstream", 1).waiting(2).adapt(Limit::aimd(1..=3)), 2).await;
}

#[bowline::test(start_paused = true)]
async fn when_the_limit_shrinks_whoever_is_inside_may_stay() {
    let upstream = Bulkhead::new("upstream", 1).adapt(Limit::aimd(1..=100));
    let mut slots = Vec::new();
    for _ in 0..10 {
        slots.push(upstream.enter().await.unwrap());
    }
    slots.pop().unwrap().failed(Class::Timeout);
    let stats = upstream.stats();
    assert_eq!((stats.at_most, stats.in_flight), (9, 9), "{stats:?}");
    let last = slots.pop().unwrap();
    let mut next = parked(upstream.enter()).await;
    last.succeeded();
    drop(next.as_mut().await.unwrap());
    // A shrink by more than is free: what is owed is paid as they leave.
    let shrinks = Bulkhead::new("shrinks", 10);
    let inside = join_all((0..10).map(|_| shrinks.enter()).collect::<Vec<_>>()).await;
    let shrinks = shrinks.adapt(Limit::aimd(3..=3));
    for (left, slot) in (0..10).rev().zip(inside) {
        drop(slot);
        let waits = poll_once(&mut Box::pin(shrinks.enter())).await.is_pending();
        assert_eq!(waits, left >= 3, "{left} are inside: {:?}", shrinks.stats());
    }
}
