//! Retries: when there is another attempt and when not, how long it waits, and what all of them together may do.

mod support;

use std::cell::Cell;
use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    AlertKind, Attempts, Backoff, Cancelled, Cause, Class, Classify, CollectAll, Retry, RetryBudget,
    RetryError, Semaphore, Stopped, group, on_alert, scope, sleep, timeout,
};
use support::{cancel_context_everywhere, cancel_everywhere};
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(2));

const OVERLOAD: Class = Class::Overload { retry_after: None };

fn asked_for(seconds: u64) -> Class {
    Class::Overload { retry_after: Some(Duration::from_secs(seconds)) }
}

/// Fails for ever, and says when it was called.
async fn failing(retry: &Retry, class: Class) -> (RetryError<Class>, Vec<Instant>) {
    let called = Mutex::new(Vec::new());
    let failed = retry.run(async |attempt| {
        let mut called = called.lock().unwrap();
        called.push(Instant::now());
        assert_eq!(attempt.number() as usize, called.len());
        Err::<(), _>(class)
    });
    (failed.await.unwrap_err(), called.into_inner().unwrap())
}

#[bowline::test(start_paused = true)]
async fn a_call_is_made_until_it_succeeds() {
    let retry = Retry::new(BACKOFF, Attempts::at_most(3));
    let called = Cell::new(0);
    let answer = retry.run(async |attempt| {
        called.set(called.get() + 1);
        if attempt.is_last() { Ok("there") } else { Err(Class::Network) }
    });
    assert_eq!(answer.await, Ok("there"));
    assert_eq!(called.get(), 3);
}

#[bowline::test(start_paused = true)]
async fn the_error_says_how_many_attempts_there_were_and_why_there_is_no_other() {
    let retry = Retry::new(BACKOFF, Attempts::at_most(3)).classify(|_: &Error| Class::Network);
    let refused = || Error::new(ErrorKind::ConnectionRefused, "connection refused");
    let failed = retry.run(async |_| Err::<(), _>(refused())).await.unwrap_err();
    assert_eq!((failed.attempts, &failed.stopped), (3, &Stopped::Attempts));
    assert_eq!(failed.to_string(), "failed after 3 attempts (no attempts left): connection refused");
}

#[bowline::test(start_paused = true)]
async fn what_is_no_use_or_would_be_done_twice_is_not_tried_again() {
    let retry = Retry::new(BACKOFF, Attempts::at_most(3));
    for class in [Class::Business, Class::Bug, Class::Timeout, Class::Disconnected, Class::Cancelled] {
        let (failed, called) = failing(&retry, class).await;
        assert_eq!((called.len(), failed.stopped), (1, Stopped::NotRetriable), "{class}");
    }
    let retry = retry.idempotent();
    for (class, attempts) in
        [(Class::Timeout, 3), (Class::Disconnected, 3), (Class::Business, 1), (Class::Bug, 1)]
    {
        assert_eq!(failing(&retry, class).await.1.len(), attempts, "{class}");
    }
}

/// buzz#5557: answers of 429 are retried without a pause, at a median of 0.0000 s: the retries themselves keep the client above
/// its limit.
#[bowline::test(start_paused = true)]
async fn an_overloaded_upstream_is_left_alone_for_a_while_though_it_does_not_say_for_how_long() {
    let retry = Retry::new(BACKOFF, Attempts::at_most(50));
    let (_, called) = failing(&retry, OVERLOAD).await;
    let gaps: Vec<Duration> = called.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= 100 * MS && *gap <= 2 * SECOND + MS), "{gaps:?}");
    assert!(called[49] - called[0] > 20 * SECOND, "it waits longer and longer");
}

/// openclaw#122553: a `Retry-After` is thrown away, and the next request comes before the server wants it.
#[bowline::test(start_paused = true)]
async fn nobody_comes_back_before_the_upstream_asked_for() {
    let retry = Retry::new(BACKOFF, Attempts::at_most(3));
    let (_, called) = failing(&retry, asked_for(7)).await;
    for pair in called.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= 7 * SECOND && gap < 8 * SECOND, "{gap:?}");
    }
}

/// duo-updater#670: told to come back in 3,000 seconds, it asks twice more within three.
#[bowline::test(start_paused = true)]
async fn a_retry_after_that_is_too_long_ends_the_call_at_once() {
    let retry = Retry::new(BACKOFF, Attempts::at_most(3));
    let begun = Instant::now();
    let (failed, called) = failing(&retry, asked_for(3_000)).await;
    assert_eq!(called.len(), 1);
    assert_eq!(failed.stopped, Stopped::RetryAfter(3_000 * SECOND));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(failing(&retry.longest_wait(3_600 * SECOND), asked_for(3_000)).await.1.len(), 3);
}

/// restate#912: after a short outage the retries of all invocations come at the same moment.
#[bowline::test(start_paused = true)]
async fn callers_that_failed_together_do_not_come_back_together() {
    const CALLERS: usize = 1_000;

    let second_attempts = Arc::new(Mutex::new(Vec::new()));
    let begun = Instant::now();
    let outcome = group("callers", CollectAll, async |g| {
        for _ in 0..CALLERS {
            let second_attempts = Arc::clone(&second_attempts);
            g.spawn("caller", async move {
                let retry = Retry::new(BACKOFF, Attempts::at_most(2));
                let called = retry.run(async |attempt| {
                    if attempt.number() == 2 {
                        second_attempts.lock().unwrap().push(begun.elapsed().as_millis() / 10);
                    }
                    Err::<(), _>(Class::Network)
                });
                called.await.map_err(|failed| failed.last)
            });
        }
    });
    assert_eq!(outcome.await.counts().failed, CALLERS as u64);
    let second_attempts = second_attempts.lock().unwrap();
    let busiest = (0..=10).map(|at| second_attempts.iter().filter(|slot| **slot == at).count()).max();
    assert!(busiest <= Some(CALLERS / 5), "of {CALLERS}, {busiest:?} within 10 ms of 100");
}

#[bowline::test(start_paused = true)]
async fn a_wait_that_would_end_after_the_deadline_is_not_begun() {
    let retry = Retry::new(BACKOFF, Attempts::until_cancelled());
    let begun = Instant::now();
    let failed = timeout(5 * SECOND, failing(&retry, asked_for(2))).await.unwrap();
    let (failed, called) = failed;
    assert_eq!(failed.stopped, Stopped::Deadline);
    assert_eq!(failed.last, asked_for(2));
    assert_eq!(begun.elapsed(), called[called.len() - 1] - begun, "it returned at once");
    assert_eq!(called.len(), 3); // at 0, after 2, after 4 seconds
}

/// vector#9739: a sink that retries for ever does not hear that the process shuts down.
#[bowline::test(start_paused = true)]
async fn a_retry_for_ever_ends_when_it_is_cancelled() {
    let ended = scope("sinks", async |s| {
        let sink = s.spawn("sink", async {
            let retry = Retry::new(BACKOFF, Attempts::until_cancelled());
            let (failed, called) = failing(&retry, Class::Network).await;
            assert!(called.len() > 10);
            Ok::<_, Cancelled>(failed)
        });
        sleep(3600 * SECOND).await?;
        s.cancel("shutting down");
        sink.await
    });
    // The scope was cancelled; what the sink returned is looked at inside of it.
    assert_eq!(ended.await.unwrap_err().cause(), &Cause::Requested("shutting down"));
}

#[bowline::test(start_paused = true)]
async fn a_cancelled_retry_gives_the_last_error_and_the_cause() {
    let retry = Retry::new(BACKOFF, Attempts::at_most(3));
    let cancelled = Cell::new(0);
    let polls = cancel_context_everywhere(
        || Box::pin(retry.run(async |_| Err::<(), _>(asked_for(1)))),
        async |_, output| {
            let Some(Err(failed)) = output else { panic!("it returns") };
            assert_eq!(failed.last, asked_for(1));
            match failed.stopped {
                Stopped::Cancelled(_) => cancelled.set(cancelled.get() + 1),
                stopped => assert_eq!((failed.attempts, stopped), (3, Stopped::Attempts)),
            }
        },
    );
    assert!(polls.await > 1);
    assert!(cancelled.get() > 1);
}

/// teranode#1085: the connection permit is held during the back-off, and others time out waiting for it.
/// argo-workflows#9875: a semaphore is not released while a retry waits.
/// EverOS#396: the slot of the engine is held over all attempts and their pauses.
#[bowline::test(start_paused = true)]
async fn a_permit_taken_by_an_attempt_is_free_during_the_pause() {
    let connections = Semaphore::new("connections", 1);
    let failing = async {
        let retry = Retry::new(BACKOFF, Attempts::at_most(5));
        let call = retry.run(async |_| {
            let _permit = connections.acquire(1).await.map_err(|_| Class::Bug)?;
            sleep(MS).await.map_err(|cancelled| cancelled.class())?;
            Err::<(), _>(OVERLOAD)
        });
        call.await.unwrap_err().attempts
    };
    let other = async {
        let mut served = 0;
        for _ in 0..50 {
            // A retry that holds the permit does so for at least 100 ms.
            timeout(10 * MS, connections.acquire(1))
                .await
                .expect("free during the pauses")
                .map(drop)
                .unwrap();
            served += 1;
            tokio::time::sleep(10 * MS).await;
        }
        served
    };
    assert_eq!(bowline::join(failing, other).await, (5, 50));
}

#[bowline::test(start_paused = true)]
async fn all_who_share_a_budget_add_a_tenth_to_the_load_of_an_upstream_that_fails() {
    const CALLERS: u32 = 5_000;

    let load = |retry: Retry| async move {
        let called = AtomicU32::new(0);
        for _ in 0..CALLERS {
            let call = retry.run(async |_| {
                called.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>(Class::Network)
            });
            let _ = call.await;
        }
        called.into_inner()
    };
    // Pauses of a microsecond: all of it falls into one window.
    let storm = Retry::new(Backoff::exponential(MS / 1000, MS / 1000), Attempts::at_most(3));
    assert_eq!(
        load(storm.clone()).await,
        3 * CALLERS,
        "the bare form, so that the comparison says something"
    );

    let alerts = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&alerts);
    let _hook = on_alert(move |alert| heard.lock().unwrap().push((alert.kind, alert.raised)));
    let budget = RetryBudget::new("upstream");
    let bounded = load(storm.budget(&budget)).await;
    assert!(bounded <= CALLERS + CALLERS / 10 + 10, "{bounded} attempts of {CALLERS} calls");
    assert!(
        bounded >= CALLERS + CALLERS / 20,
        "{bounded} attempts of {CALLERS} calls: what is allowed is used"
    );

    let stats = budget.stats();
    assert_eq!((stats.calls, stats.retries), (u64::from(CALLERS), u64::from(bounded - CALLERS)));
    assert!(stats.refused > 0 && stats.name == "upstream");
    assert_eq!(alerts.lock().unwrap().first(), Some(&(AlertKind::RetriesSpent, true)));
}

#[bowline::test(start_paused = true)]
async fn a_retry_that_is_not_made_is_not_paid_for() {
    let budget = RetryBudget::new("upstream");
    let retry = Retry::new(BACKOFF, Attempts::at_most(1)).budget(&budget);
    failing(&retry, Class::Network).await;
    let retry = Retry::new(BACKOFF, Attempts::at_most(5)).budget(&budget);
    failing(&retry, Class::Business).await;
    let late = timeout(MS, failing(&retry, asked_for(1))).await.unwrap();
    assert_eq!(late.0.stopped, Stopped::Deadline);
    assert_eq!(budget.stats().retries + budget.stats().refused, 0);
}

#[bowline::test(start_paused = true)]
async fn dropping_it_at_any_await_drops_the_attempt_and_makes_no_other() {
    let open = Arc::new(());
    let called = Cell::new(0);
    let retry = Retry::new(BACKOFF, Attempts::at_most(3));
    let make = || {
        called.set(0);
        let (open, called, retry) = (&open, &called, &retry);
        Box::pin(retry.run(async move |_| {
            let _held = Arc::clone(open);
            called.set(called.get() + 1);
            sleep(MS).await.map_err(|_| Class::Cancelled)?;
            Err::<(), _>(Class::Network)
        }))
    };
    let polls = cancel_everywhere(make, async |_, _| {
        assert_eq!(Arc::strong_count(&open), 1);
        let before = called.get();
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(called.get(), before);
    });
    assert!(polls.await > 4);
}

/// It is `Send`, also with a closure that borrows, and can be a task.
#[bowline::test(start_paused = true)]
async fn it_can_be_spawned() {
    let answer = scope("calls", async |s| {
        let host = String::from("billing");
        let call = s.spawn("call", async move {
            let retry = Retry::new(BACKOFF, Attempts::at_most(2)).classify(|error: &Error| error.class());
            let answer = retry.run(async |attempt| {
                tokio::task::yield_now().await;
                if attempt.number() == 1 {
                    Err(Error::from(ErrorKind::ConnectionRefused))
                } else {
                    Ok(host.len())
                }
            });
            Ok(answer.await.ok())
        });
        call.await
    });
    assert_eq!(answer.await, Ok::<_, Cancelled>(Some(7)));
}
