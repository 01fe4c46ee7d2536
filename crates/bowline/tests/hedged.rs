//! Hedged attempts: when the next one starts, who wins, and that the losers are gone.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{Cancelled, Cause, hedged, timeout};
use support::{cancel_everywhere, yield_now};
use tokio::time::{Instant, sleep};

const DELAY: Duration = Duration::from_millis(100);

#[derive(Debug, PartialEq)]
enum Error {
    Attempt(u32),
    Cancelled(Cause),
}

impl From<Cancelled> for Error {
    fn from(cancelled: Cancelled) -> Self {
        Error::Cancelled(cancelled.cause().clone())
    }
}

/// How long an attempt takes, and whether it succeeds then.
type Plan = (u64, bool);

/// Runs attempts by plan; returns the result, when each attempt started and how long it all took, in milliseconds.
async fn run(plan: &'static [Plan], attempts: u32) -> (Result<u32, Error>, Vec<u128>, u128) {
    let (began, starts) = (Instant::now(), Mutex::new(Vec::new()));
    let result = hedged("lookup", DELAY, attempts, |attempt| {
        starts.lock().unwrap().push(began.elapsed().as_millis() / 10 * 10);
        let (millis, succeeds) = plan[attempt as usize - 1];
        async move {
            sleep(Duration::from_millis(millis)).await;
            if succeeds { Ok(attempt) } else { Err(Error::Attempt(attempt)) }
        }
    })
    .await;
    (result, starts.into_inner().unwrap(), began.elapsed().as_millis() / 10 * 10)
}

#[bowline::test(start_paused = true)]
async fn a_quick_first_attempt_is_the_only_one() {
    assert_eq!(run(&[(50, true)], 3).await, (Ok(1), vec![0], 50));
}

#[bowline::test(start_paused = true)]
async fn a_slow_attempt_is_joined_by_the_next_and_the_first_to_succeed_wins() {
    assert_eq!(run(&[(500, true), (50, true)], 3).await, (Ok(2), vec![0, 100], 150));
    assert_eq!(run(&[(120, true), (500, true)], 3).await, (Ok(1), vec![0, 100], 120));
}

#[bowline::test(start_paused = true)]
async fn a_failed_attempt_is_followed_at_once() {
    assert_eq!(run(&[(10, false), (20, false), (30, true)], 3).await, (Ok(3), vec![0, 10, 30], 60));
}

#[bowline::test(start_paused = true)]
async fn no_more_attempts_are_made_than_allowed() {
    let plan = &[(1_000, true), (1_000, true), (1_000, true)];
    assert_eq!(run(plan, 2).await, (Ok(1), vec![0, 100], 1_000));
}

#[bowline::test(start_paused = true)]
async fn if_all_fail_the_error_is_that_of_the_first_to_fail() {
    let plan = &[(300, false), (50, false), (500, false)];
    assert_eq!(run(plan, 3).await, (Err(Error::Attempt(2)), vec![0, 100, 150], 650));
}

#[bowline::test(start_paused = true)]
async fn the_losers_are_gone_when_it_returns_also_if_they_tidy_up() {
    let guard = Arc::new(());
    let began = Instant::now();
    let won = hedged("lookup", DELAY, 3, |attempt| {
        let guard = Arc::clone(&guard);
        async move {
            let _guard = guard;
            if attempt < 3 {
                bowline::cancelled().await;
                let _ = bowline::shielded(DELAY, sleep(DELAY / 2)).await;
            }
            Ok::<_, Error>(attempt)
        }
    })
    .await;
    assert_eq!((won, Arc::strong_count(&guard)), (Ok(3), 1));
    assert!(began.elapsed() >= DELAY * 5 / 2, "it waited for their goodbyes");
}

#[bowline::test(start_paused = true)]
async fn a_panicking_attempt_counts_as_failed() {
    let won = hedged("lookup", DELAY, 2, |attempt| async move {
        assert!(attempt > 1, "bug");
        Ok::<_, Error>(attempt)
    });
    assert_eq!(won.await, Ok(2));
}

#[bowline::test(start_paused = true)]
async fn a_deadline_cancels_every_attempt_and_is_the_error() {
    let started = AtomicU32::new(0);
    let run = hedged("lookup", DELAY, 10, |_| {
        started.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Result<(), Error>>()
    });
    let outcome = timeout(DELAY * 7 / 2, run).await.unwrap();
    assert_eq!(outcome, Err(Error::Cancelled(Cause::DeadlineExceeded)));
    assert_eq!(started.load(Ordering::Relaxed), 4);
}

#[bowline::test]
async fn no_attempt_at_all_is_refused_when_it_is_written() {
    let none = || drop(hedged("lookup", DELAY, 0, |_| std::future::pending::<Result<(), Error>>()));
    assert!(std::panic::catch_unwind(none).is_err());
}

#[bowline::test(start_paused = true, allow_adoption)]
async fn cut_at_any_await_it_leaves_no_attempt_behind() {
    let guard = Arc::new(());
    let make = || {
        hedged("lookup", DELAY, 3, |attempt| {
            let guard = Arc::clone(&guard);
            async move {
                let _guard = guard;
                sleep(DELAY * 3 / 2).await;
                if attempt == 2 { Ok(attempt) } else { Err(Error::Attempt(attempt)) }
            }
        })
    };
    let polls = cancel_everywhere(make, async |polls, won| {
        yield_now(8).await;
        assert_eq!(Arc::strong_count(&guard), 1, "cut after {polls} polls");
        assert!(won.is_none_or(|won| won == Ok(2)));
    })
    .await;
    assert!(polls > 2);
}
