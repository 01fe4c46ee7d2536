//! What a call that succeeds at once costs more, for what protects it when it does not.

use std::future::Future;
use std::hint::black_box;
use std::time::Duration;

use backon::Retryable;
use bowline::tower::{BreakerLayer, TimeoutLayer};
use bowline::{Attempts, Backoff, Breaker, Cancelled, Class, Classify, Retry, RetryBudget, scope, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_resilience::circuitbreaker::CircuitBreakerLayer;
use tower_resilience::retry::RetryLayer;
use tower_resilience::timelimiter::TimeLimiterLayer;

use crate::measure::{Contestant, Threads, Work, here, interleave, table, wall_and_cpu};

/// Calls per contestant and round.
const CALLS: u64 = 1_000_000;

const TIME: Duration = Duration::from_secs(2);

const CONTESTANTS: [Contestant; 10] = [
    here("nothing: the call itself", bare),
    here("`tokio::time::timeout`", tokio_timeout),
    here("backon, `tokio::time::timeout`", backon_and_timeout),
    here("tower-resilience: breaker", their_breaker),
    here("tower-resilience: breaker, retry, time limit", their_stack),
    here("**breaker**", our_breaker),
    here("**timeout**", our_timeout),
    here("**retry with budget**", our_retry),
    here("**retry with budget, breaker, timeout**", ours),
    here("**the same as layers of tower**", our_stack),
];

/// Prints the table.
pub fn report(allocator: &str) {
    let one = interleave(&CONTESTANTS, Threads::One, CALLS);
    let two = interleave(&CONTESTANTS, Threads::Two, CALLS);
    let [one, _] = wall_and_cpu("one thread, ns", "", &one, 1);
    let [wall, cpu] = wall_and_cpu("two workers, ns", "two workers, CPU ns", &two, 1);
    let title = format!(
        "A call that succeeds at once, {allocator}: time per call, by two tasks that share what protects it."
    );
    table(&title, &CONTESTANTS.map(|contestant| contestant.name), &[one, wall, cpu]);
}

#[derive(Clone, Copy, Debug)]
enum Failed {
    Late,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("late")
    }
}

impl std::error::Error for Failed {}

impl Classify for Failed {
    fn class(&self) -> Class {
        Class::Timeout
    }
}

impl From<Cancelled> for Failed {
    fn from(_: Cancelled) -> Self {
        Self::Late
    }
}

/// The call: it does nothing, and nobody but us knows.
#[inline(never)]
async fn call(n: u64) -> Result<u64, Failed> {
    if black_box(n) == u64::MAX { Err(Failed::Late) } else { Ok(n) }
}

/// Now and then a task lets the other have its turn, so that an idle worker may take it.
async fn give_way(n: u64) {
    if n % 1_024 == 0 {
        tokio::task::yield_now().await;
    }
}

/// Two tasks, each of which calls one after the other.
fn two<F, Fut, E>(calls: u64, call: F) -> Work
where
    F: Fn(u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<u64, E>> + Send,
    E: std::fmt::Debug + Send + 'static,
{
    Box::pin(async move {
        let done = scope("calls", async move |s| {
            for call in [call.clone(), call] {
                s.spawn("caller", async move {
                    for n in 0..calls / 2 {
                        assert_eq!(call(n).await.expect("it succeeds"), n);
                        give_way(n).await;
                    }
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        });
        done.await.expect("nobody cancels");
    })
}

fn bare(calls: u64) -> Work {
    two(calls, call)
}

fn tokio_timeout(calls: u64) -> Work {
    two(calls, |n| async move { tokio::time::timeout(TIME, call(n)).await.map_err(|_| Failed::Late)? })
}

fn backon_and_timeout(calls: u64) -> Work {
    two(calls, |n| {
        let attempt =
            move || async move { tokio::time::timeout(TIME, call(n)).await.map_err(|_| Failed::Late)? };
        attempt.retry(backon::ExponentialBuilder::default().with_jitter())
    })
}

fn their_breaker(calls: u64) -> Work {
    let layer = CircuitBreakerLayer::standard().build().expect("valid");
    let service = layer.layer(service_fn(call));
    through(calls, service)
}

fn their_stack(calls: u64) -> Work {
    let time = TimeLimiterLayer::builder().timeout_duration(TIME).build();
    let retry = RetryLayer::<u64, u64, _>::exponential_backoff().build();
    let breaker = CircuitBreakerLayer::standard().build().expect("valid");
    through(calls, retry.layer(breaker.layer(time.layer(service_fn(call)))))
}

/// As tower's clients do it: each task has a clone, and asks it whether it is ready before each call.
fn through<S>(calls: u64, service: S) -> Work
where
    S: Service<u64, Response = u64> + Clone + Send + 'static,
    S::Error: std::fmt::Debug + Send,
    S::Future: Send,
{
    Box::pin(async move {
        let done = scope("calls", async move |s| {
            for mut service in [service.clone(), service] {
                s.spawn("caller", async move {
                    for n in 0..calls / 2 {
                        let ready = service.ready().await.expect("it is ready");
                        assert_eq!(ready.call(n).await.expect("it succeeds"), n);
                        give_way(n).await;
                    }
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        });
        done.await.expect("nobody cancels");
    })
}

fn our_breaker(calls: u64) -> Work {
    let breaker = kept(Breaker::new("upstream"));
    two(calls, move |n| breaker.run(async move || call(n).await))
}

fn our_timeout(calls: u64) -> Work {
    two(calls, |n| async move { timeout(TIME, call(n)).await? })
}

fn our_retry(calls: u64) -> Work {
    let retry = kept(policy());
    two(calls, move |n| retry.run(move |_| call(n)))
}

fn ours(calls: u64) -> Work {
    let (breaker, retry) = (kept(Breaker::new("upstream")), kept(policy()));
    two(calls, move |n| retry.run(move |_| breaker.run(async move || timeout(TIME, call(n)).await?)))
}

fn our_stack(calls: u64) -> Work {
    let (breaker, time) = (BreakerLayer::new(&Breaker::new("upstream")), TimeoutLayer::new(TIME));
    through(
        calls,
        bowline::tower::RetryLayer::new(policy()).layer(breaker.layer(time.layer(service_fn(call)))),
    )
}

/// As in a static, where clients are kept.
fn kept<T>(client: T) -> &'static T {
    Box::leak(Box::new(client))
}

fn policy() -> Retry {
    let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));
    Retry::new(backoff, Attempts::at_most(3)).budget(&RetryBudget::new("upstream"))
}
