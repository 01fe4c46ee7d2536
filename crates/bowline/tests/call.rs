//! Calls with all their layers: the order in which they apply, and what each leaves behind.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    Attempts, Backoff, Bound, Breaker, BreakerState, Bulkhead, Call, Cancelled, Cause, Class, Failure, Hedge,
    Overflow, Retry, RetryBudget, Stopped, join, scope, sleep, timeout,
};
use support::queue;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn three_times() -> Retry {
    Retry::new(Backoff::exponential(100 * MS, SECOND), Attempts::at_most(3))
}

/// How often something was called.
#[derive(Default)]
struct Tally(AtomicU32);

impl Tally {
    /// Counts one more, and says which it is.
    fn more(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[bowline::test(start_paused = true)]
async fn a_call_without_layers_is_the_closure() {
    let call = Call::new("bare");
    assert_eq!(call.run(async || Ok::<_, Class>(7)).await, Ok(7));
    let failed = call.run(async || Err::<(), _>(Class::Network)).await.unwrap_err();
    assert_eq!(failed.to_string(), "`bare` failed after 1 attempt (no attempts left): network");
}

#[bowline::test(start_paused = true)]
async fn an_attempt_that_hangs_is_ended_and_tried_again_if_that_is_safe() {
    let open = Arc::new(());
    let hang = async || {
        let _held = Arc::clone(&open);
        std::future::pending::<Result<(), Class>>().await
    };
    let call = Call::new("hangs").timeout(SECOND).retry(three_times());
    let begun = Instant::now();
    let failed = call.run(hang).await.unwrap_err();
    assert_eq!((&failed.failure, failed.attempts), (&Failure::TimedOut(SECOND), 1));
    assert_eq!(failed.stopped, Stopped::NotRetriable);
    assert!(begun.elapsed() < SECOND + 3 * MS, "{:?}", begun.elapsed());

    let failed = call.idempotent().run(hang).await.unwrap_err();
    assert_eq!((failed.attempts, failed.class), (3, Class::Timeout));
    assert_eq!(Arc::strong_count(&open), 1, "nothing is left of any attempt");
}

#[bowline::test(start_paused = true)]
async fn the_time_of_the_whole_call_bounds_attempts_and_pauses() {
    let call = Call::new("slow").timeout(SECOND).within(5 * SECOND / 2).retry(three_times()).idempotent();
    let begun = Instant::now();
    let failed = call.run(async || std::future::pending::<Result<(), Class>>().await).await.unwrap_err();
    assert!(begun.elapsed() <= 5 * SECOND / 2 + 3 * MS, "{:?}", begun.elapsed());
    assert!(failed.attempts >= 2 && failed.stopped == Stopped::Deadline, "{failed:?}");
}

#[bowline::test(start_paused = true)]
async fn a_deadline_of_the_caller_is_not_taken_for_one_of_the_call() {
    let call = Call::new("slow").timeout(10 * SECOND).retry(three_times()).idempotent();
    let late = timeout(
        SECOND,
        call.run(async || {
            sleep(60 * SECOND).await.map_err(|_| Class::Cancelled)?;
            Ok::<_, Class>(())
        }),
    );
    let failed = late.await.unwrap().unwrap_err();
    assert!(matches!(failed.stopped, Stopped::Cancelled(ref why) if why.is_deadline()), "{failed:?}");
    assert_eq!(failed.attempts, 1);
}

#[bowline::test(start_paused = true)]
async fn no_slot_and_no_probe_is_held_during_a_pause() {
    let (bulkhead, breaker) = (Bulkhead::new("upstream", 1), Breaker::new("upstream"));
    let call = Call::new("call").retry(three_times()).bulkhead(&bulkhead).breaker(&breaker);
    let failing = call.run(async || {
        sleep(MS).await.map_err(|_| Class::Cancelled)?;
        Err::<(), _>(Class::Overload { retry_after: Some(SECOND) })
    });
    let look = async {
        let mut free = 0;
        for _ in 0..100 {
            sleep(10 * MS).await.unwrap();
            free += u32::from(bulkhead.stats().in_flight == 0);
        }
        free
    };
    let (failed, free) = join(failing, look).await;
    assert_eq!(failed.unwrap_err().attempts, 3);
    assert_eq!(free, 100, "of a hundred looks");
}

#[bowline::test(start_paused = true)]
async fn what_is_refused_here_is_not_tried_again_and_the_fallback_answers() {
    let breaker = Breaker::new("upstream");
    breaker.force_open("maintenance");
    let (called, budget) = (Tally::default(), RetryBudget::new("upstream"));
    let call = Call::new("call").retry(three_times().budget(&budget)).breaker(&breaker);
    let ask = async || Ok::<_, Class>(called.more());
    let refused = call.run(ask).await.unwrap_err();
    assert!(matches!(refused.failure, Failure::Open(_)) && refused.stopped == Stopped::Refused, "{refused}");
    assert_eq!(call.fallback(async |_| Ok(99)).run(ask).await, Ok(99));
    assert_eq!((called.now(), budget.stats().retries), (0, 0));
}

#[bowline::test(start_paused = true)]
async fn a_full_bulkhead_says_nothing_about_the_upstream() {
    let (bulkhead, breaker) = (Bulkhead::new("upstream", 1).waiting(0), Breaker::new("upstream"));
    let call = Call::new("call").bulkhead(&bulkhead).breaker(&breaker);
    let slow = call.run(async || {
        sleep(SECOND).await.map_err(|_| Class::Cancelled)?;
        Ok::<_, Class>(())
    });
    let refused = async {
        sleep(MS).await.unwrap();
        for _ in 0..100 {
            let refused = call.run(async || Ok::<_, Class>(())).await.unwrap_err();
            assert!(matches!(refused.failure, Failure::Full(_)), "{refused}");
        }
    };
    let (slow, ()) = join(slow, refused).await;
    assert_eq!((slow, breaker.state()), (Ok(()), BreakerState::Closed));
}

#[bowline::test(start_paused = true)]
async fn the_fallback_answers_for_failures_of_the_upstream_and_not_for_its_answers() {
    let call = Call::new("call");
    for (class, asked) in [
        (Class::Network, true),
        (Class::Timeout, true),
        (Class::Overload { retry_after: None }, true),
        (Class::Bug, true),
        (Class::Business, false),
        (Class::Cancelled, false),
    ] {
        let answer = call.fallback(async |_| Ok(99)).run(async || Err(class)).await;
        assert_eq!(answer.is_ok(), asked, "{class}");
    }
    let only_late = call.fallback(async |_| Ok(99)).when(|class| class == Class::Timeout);
    assert!(only_late.run(async || Err(Class::Network)).await.is_err());

    let both = call.fallback(async |_| Err(Class::Bug)).run(async || Err::<(), _>(Class::Network)).await;
    let both = both.unwrap_err();
    assert_eq!((&both.failure, both.fallback), (&Failure::Error(Class::Network), Some(Class::Bug)));
    assert!(both.to_string().ends_with("network; and so did its fallback: bug"), "{both}");
}

/// The first attempt hangs, every other answers after 10 ms.
async fn first_hangs(tally: &Tally, open: &Arc<()>) -> Result<u32, Class> {
    let _held = Arc::clone(open);
    let number = tally.more();
    if number == 1 {
        std::future::pending::<()>().await;
    }
    sleep(10 * MS).await.map_err(|_| Class::Cancelled)?;
    Ok(number)
}

#[bowline::test(start_paused = true)]
async fn a_hedge_answers_for_a_first_attempt_that_hangs_and_leaves_nothing_of_it() {
    let (tally, open, breaker) = (Tally::default(), Arc::new(()), Breaker::new("lookup"));
    let call = Call::new("lookup").idempotent().hedge(Hedge::after(50 * MS)).breaker(&breaker);
    let begun = Instant::now();
    assert_eq!(call.run(|| first_hangs(&tally, &open)).await, Ok(2));
    assert!(begun.elapsed() < 65 * MS, "{:?}", begun.elapsed());
    assert_eq!(Arc::strong_count(&open), 1);
    assert_eq!(call.run(|| first_hangs(&tally, &open)).await, Ok(3), "a fast one is not hedged");
    let stats = breaker.stats();
    assert_eq!((tally.now(), stats.failures), (3, 0), "the loser counts as nothing");
}

/// failsafe-go#141: when the budget of hedges is spent, the attempts that run are cancelled with the one that is not begun.
#[bowline::test(start_paused = true)]
async fn a_hedge_that_the_budget_refuses_leaves_the_first_attempt_alone() {
    let budget = RetryBudget::new("lookup").min_per_second(0);
    let retry = three_times().budget(&budget);
    let call = Call::new("lookup").idempotent().retry(retry).hedge(Hedge::after(50 * MS));
    let tally = Tally::default();
    let slow = call.run(async || {
        sleep(SECOND).await.map_err(|_| Class::Cancelled)?;
        Ok::<_, Class>(tally.more())
    });
    assert_eq!(slow.await, Ok(1));
    assert_eq!(budget.stats().refused, 1);
}

/// failsafe-go#65, failsafe-go#123: the context of the request is cancelled when the call returns, and the body of the answer
/// cannot be read any more.
#[bowline::test(start_paused = true)]
async fn what_an_answer_brings_along_can_be_used_after_the_call() {
    let tally = Tally::default();
    let call =
        Call::new("lookup").idempotent().timeout(SECOND).hedge(Hedge::after(50 * MS)).retry(three_times());
    let answer = call.run(async || {
        if tally.more() == 1 {
            std::future::pending::<()>().await;
        }
        Ok::<_, Class>(queue::<u32>(Bound::items(4), Overflow::Block).await)
    });
    let (head, body) = answer.await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    head.send(7).await.unwrap();
    assert_eq!(body.recv().await, Ok(Some(7)));
}

#[bowline::test(start_paused = true)]
async fn a_hedge_whose_both_attempts_fail_gives_the_failure_that_came_first() {
    let tally = Tally::default();
    let call = Call::new("lookup").idempotent().hedge(Hedge::after(10 * MS));
    let failed = call.run(async || {
        let number = tally.more();
        sleep(if number == 1 { 30 * MS } else { 15 * MS }).await.map_err(|_| Class::Cancelled)?;
        Err::<(), _>(if number == 1 { Class::Bug } else { Class::Network })
    });
    assert_eq!(failed.await.unwrap_err().failure, Failure::Error(Class::Network));
}

#[test]
#[should_panic(expected = "say `idempotent()` first")]
fn a_hedge_of_a_call_that_must_not_happen_twice_is_a_bug() {
    let _call = Call::new("charge").hedge(Hedge::after(SECOND));
}

#[bowline::test(start_paused = true)]
async fn the_breaker_counts_what_speaks_against_the_upstream() {
    let breaker = Breaker::new("upstream");
    let call = Call::new("call").timeout(10 * MS).breaker(&breaker);
    for _ in 0..100 {
        call.run(async || Err::<(), _>(Class::Business)).await.unwrap_err();
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    for _ in 0..100 {
        call.run(async || std::future::pending::<Result<(), Class>>().await).await.unwrap_err();
        if breaker.state() != BreakerState::Closed {
            return;
        }
    }
    panic!("a hundred time-outs: {}", breaker.explain());
}

#[bowline::test(start_paused = true)]
async fn it_can_be_kept_and_called_from_many_tasks() {
    let call = Arc::new(
        Call::new("call")
            .timeout(SECOND)
            .retry(three_times())
            .breaker(&Breaker::new("upstream"))
            .bulkhead(&Bulkhead::new("upstream", 4))
            .classify(|error: &std::io::Error| bowline::Classify::class(error)),
    );
    let seen = Arc::new(Mutex::new(0));
    scope("callers", async |s| {
        for caller in 0..20 {
            let (call, seen) = (Arc::clone(&call), Arc::clone(&seen));
            s.spawn("caller", async move {
                let host = format!("host {caller}");
                let answer = call.run(async || {
                    sleep(MS).await.map_err(std::io::Error::other)?;
                    Ok(host.len())
                });
                *seen.lock().unwrap() += usize::from(answer.await.unwrap() > 0);
                let fallback = call.fallback(async |_| Ok(host.len()));
                fallback.run(async || Err(std::io::Error::other("down"))).await.unwrap();
                Ok::<_, Cancelled>(())
            });
        }
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(*seen.lock().unwrap(), 20);
}

#[bowline::test(start_paused = true)]
async fn a_cancel_ends_it_at_once() {
    let call = Call::new("call").timeout(60 * SECOND).retry(three_times()).idempotent();
    let ended = scope("caller", async |s| {
        let handle = s.handle();
        s.spawn("cancels", async move {
            sleep(SECOND).await?;
            handle.cancel("enough");
            Ok(())
        });
        let failed = call.run(async || std::future::pending::<Result<(), Class>>().await).await.unwrap_err();
        assert!(
            matches!(&failed.failure, Failure::Cancelled(why) if why.cause() == &Cause::Requested("enough"))
        );
        assert_eq!(failed.attempts, 1);
        Ok::<_, Cancelled>(())
    });
    let begun = Instant::now();
    ended.await.ok();
    assert!(begun.elapsed() < SECOND + 3 * MS, "{:?}", begun.elapsed());
}
