//! A timeout opens its context when somebody looks: nobody can tell it from one that was open from the beginning.

mod support;

use std::future::Future;
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bowline::{
    Cancelled, Cause, Context, Semaphore, deadline, deadline_at, is_cancelled, scope, sleep, time_left,
    timeout, tree, value, with_value,
};
use support::{poll_once, yield_now};

const SECOND: Duration = Duration::from_secs(1);

#[bowline::test(start_paused = true)]
async fn the_first_poll_sees_the_earliest_of_the_deadlines_around_it() -> Result<(), Cancelled> {
    let seen = timeout(3 * SECOND, timeout(SECOND, timeout(2 * SECOND, async { time_left() })));
    assert_eq!(seen.await???, Some(SECOND));
    assert_eq!(deadline(), None, "and behind it all is as before");
    // The outer one is asked after the inner one has been opened and has gone.
    let outer = timeout(3 * SECOND, async {
        let inner = timeout(SECOND, async { time_left() }).await?;
        Ok::<_, Cancelled>((inner, time_left()))
    });
    assert_eq!(outer.await??, (Some(SECOND), Some(3 * SECOND)));
    // And before: the inner one is noted above one that is open.
    let outer = timeout(3 * SECOND, async {
        let before = time_left();
        timeout(SECOND, ready(())).await?;
        Ok::<_, Cancelled>((before, time_left(), timeout(SECOND, async { time_left() }).await?))
    });
    assert_eq!(outer.await??, (Some(3 * SECOND), Some(3 * SECOND), Some(SECOND)));
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn destructors_in_the_first_poll_see_their_own_context() -> Result<(), Cancelled> {
    struct Looks<'a>(&'a std::cell::Cell<Option<Duration>>);

    impl Drop for Looks<'_> {
        fn drop(&mut self) {
            self.0.set(time_left());
        }
    }

    let seen = std::cell::Cell::new(None);
    let looks = Looks(&seen);
    timeout(SECOND, async move {
        let _looks = looks;
    })
    .await?;
    assert_eq!(seen.get(), Some(SECOND));
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn a_scope_opened_in_the_first_poll_is_below_every_timeout_around_it() {
    let seen = Arc::new(Mutex::new(None));
    let sees = Arc::clone(&seen);
    let late = timeout(
        2 * SECOND,
        timeout(
            SECOND,
            scope("page", async |s| {
                s.spawn("load", async move {
                    *sees.lock().unwrap() = time_left();
                    let why = bowline::cancelled().await;
                    assert!(why.is_deadline());
                    Err::<(), _>(why)
                });
                yield_now(2).await;
                assert_eq!(tree().to_string().matches("[timeout]").count(), 2, "{}", tree());
                Ok::<(), Cancelled>(())
            }),
        ),
    );
    let began = tokio::time::Instant::now();
    let late = late.await.expect("the outer one has time").expect("the scope returned");
    assert!(late.unwrap_err().is_deadline());
    assert_eq!(began.elapsed().as_secs(), 1);
    assert_eq!(*seen.lock().unwrap(), Some(SECOND));
}

#[bowline::test(start_paused = true)]
async fn a_first_poll_that_is_pending_and_never_looked_is_cut_at_the_deadline() {
    let at = tokio::time::Instant::now() + SECOND;
    let late = timeout(2 * SECOND, deadline_at(at, pending::<()>())).await.unwrap().unwrap_err();
    assert!(late.is_deadline());
    let origin = late.origin().unwrap();
    assert!(origin.place().file().ends_with("put_off.rs"), "{late:#}");
    assert!(tokio::time::Instant::now() >= at);
}

#[bowline::test(start_paused = true)]
async fn a_cancel_during_the_first_poll_is_felt_in_it_and_after_it() {
    let owner = scope("owner", async |s| {
        let inside = timeout(SECOND, async {
            assert!(!is_cancelled());
            s.cancel("enough");
            assert!(is_cancelled());
            pending::<()>().await;
        });
        let why = inside.await.unwrap_err();
        assert_eq!(*why.cause(), Cause::Requested("enough"));
        // A context that is cancelled already: one poll, as ever.
        let mut polls = 0;
        let inside = timeout(
            SECOND,
            std::future::poll_fn(|_| {
                polls += 1;
                Poll::<()>::Pending
            }),
        );
        assert!(inside.await.is_err());
        assert_eq!(polls, 1);
        Ok::<_, Cancelled>(())
    });
    assert_eq!(owner.await, Ok(()));
}

#[bowline::test(start_paused = true)]
async fn somebody_elses_context_stays_what_it_is_inside() -> Result<(), Cancelled> {
    let outside = Context::current();
    let seen = timeout(SECOND, async {
        let theirs = outside.run(async { time_left() }).await;
        (theirs, time_left())
    });
    assert_eq!(seen.await?, (Ok(None), Some(SECOND)));
    // A handle on the context that was put off keeps being one on it.
    let inner = timeout(SECOND, async { Context::current() }).await?;
    assert!(inner.is_cancelled(), "it has ended");
    Ok(())
}

#[bowline::test(start_paused = true, allow_panics)]
async fn a_panic_in_the_first_poll_passes_through_and_leaves_nothing_behind() -> Result<(), Cancelled> {
    let mut late = Box::pin(timeout(2 * SECOND, timeout(SECOND, async { panic!("odd") as () })));
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let _ = late.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    }));
    assert!(polled.is_err());
    drop(late);
    assert_eq!(deadline(), None);
    assert_eq!(timeout(SECOND, async { time_left() }).await?, Some(SECOND));
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn a_shield_raised_in_the_first_poll_holds_the_deadline_off() {
    let began = tokio::time::Instant::now();
    let goodbye = timeout(SECOND, timeout(5 * SECOND, bowline::shielded(3 * SECOND, sleep(2 * SECOND))));
    goodbye
        .await
        .expect("it came to a value")
        .expect("the inner one has time")
        .expect("its grace was enough")
        .unwrap();
    assert_eq!(began.elapsed().as_secs(), 2);
    // And the time-out in it has a deadline of its own alone.
    let inside = timeout(SECOND, bowline::shielded(3 * SECOND, timeout(2 * SECOND, async { time_left() })));
    assert_eq!(inside.await.unwrap().unwrap().unwrap(), Some(2 * SECOND));
}

#[bowline::test(start_paused = true)]
async fn values_go_through_it_and_blocking_work_inherits_its_deadline() -> Result<(), Cancelled> {
    struct Id(u32);

    let inside = timeout(SECOND, async {
        let around = value::<Id>().map(|id| id.0);
        let nearer = with_value(Id(8), timeout(2 * SECOND, async { value::<Id>().map(|id| id.0) })).await;
        let blocking = scope("blocking", async |s| {
            s.spawn_blocking("hash", || Ok((time_left(), value::<Id>().map(|id| id.0)))).await
        });
        (around, nearer, blocking.await)
    });
    let (around, nearer, blocking) = with_value(Id(7), inside).await?;
    assert_eq!((around, nearer?, blocking?), (Some(7), Some(8), (Some(SECOND), Some(7))));
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn what_waits_inside_is_seen_and_cut() {
    let slots = Semaphore::new("slots", 1);
    let _held = slots.acquire(1).await.unwrap();
    let mut waits = pin!(timeout(SECOND, slots.acquire(1)));
    assert!(poll_once(&mut waits).await.is_pending());
    assert_eq!(slots.stats().waiters.len(), 1);
    let late = waits.await.expect("the semaphore says so itself");
    assert!(late.is_err());
    assert_eq!(slots.stats().waiters.len(), 0);
}
