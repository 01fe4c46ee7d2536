//! Layers for tower: readiness reserves nothing, admission is part of the call, and who was asked is called.

#![cfg(feature = "tower")]

mod support;

use std::convert::Infallible;
use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bowline::tower::{BreakerLayer, BulkheadLayer, RetryLayer, TimeoutError, TimeoutLayer};
use bowline::{
    Attempts, Backoff, Breaker, BreakerError, BreakerState, Bulkhead, BulkheadError, Class, Classify, Limit,
    NoSlot, Retry, Stopped, sleep,
};
use support::{parked, poll_once};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn retry(attempts: u32) -> Retry {
    Retry::new(Backoff::exponential(SECOND, SECOND), Attempts::at_most(attempts))
}

/// Fails until it is called for this time. As tower demands, each call needs to have been preceded by a question, and a clone has
/// not been asked.
struct Strict {
    asked: bool,
    calls: Arc<AtomicUsize>,
    succeeds_at: usize,
}

impl Strict {
    fn succeeding_at(call: usize) -> Self {
        Self { asked: false, calls: Arc::default(), succeeds_at: call }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { asked: false, calls: Arc::clone(&self.calls), succeeds_at: self.succeeds_at }
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = Class;
    type Future = std::future::Ready<Result<u32, Class>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Class>> {
        self.asked = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        assert!(std::mem::take(&mut self.asked), "called without having been asked");
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        ready(if call < self.succeeds_at { Err(Class::Network) } else { Ok(request) })
    }
}

/// tower#547: a layer calls another clone than the one that was asked, and the service below panics.
#[bowline::test(start_paused = true)]
async fn the_service_that_was_asked_is_called_and_asked_again_before_each_attempt() {
    let strict = Strict::succeeding_at(3);
    let mut service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry(3)))
        .layer(BreakerLayer::new(&Breaker::new("upstream")))
        .layer(BulkheadLayer::new(&Bulkhead::new("upstream", 1)))
        .layer(TimeoutLayer::new(SECOND))
        .service(strict.clone());
    assert_eq!(service.ready().await.unwrap().call(7).await.unwrap(), 7);
    assert_eq!(service.ready().await.unwrap().call(8).await.unwrap(), 8);
    assert_eq!(strict.calls.load(Ordering::Relaxed), 4);
}

/// tower#434: services that are ready and idle hold all places, and nobody who has work gets one.
#[bowline::test(start_paused = true)]
async fn a_clone_that_is_ready_and_never_calls_holds_no_place() {
    let bulkhead = Bulkhead::new("upstream", 2);
    let service = BulkheadLayer::new(&bulkhead);
    let service = ServiceBuilder::new().layer(service).service(Strict::succeeding_at(1));
    let mut idle: Vec<_> = (0..10).map(|_| service.clone()).collect();
    for one in &mut idle {
        one.ready().await.unwrap();
    }
    assert_eq!(bulkhead.stats().in_flight, 0);
    assert_eq!(service.oneshot(7).await, Ok(7));
}

/// zebra#1593: whoever asks two services and calls one of them leaks a place of the other at each request, and when none is left
/// everything hangs.
#[bowline::test(start_paused = true)]
async fn to_ask_two_and_call_one_leaks_nothing() {
    let shared = Bulkhead::new("state", 1).waiting(0);
    let layer = BulkheadLayer::new(&shared);
    let mut checkpoints = ServiceBuilder::new().layer(layer.clone()).service(Strict::succeeding_at(1));
    let mut blocks = ServiceBuilder::new().layer(layer).service(Strict::succeeding_at(1));
    for request in 0..100 {
        checkpoints.ready().await.unwrap();
        blocks.ready().await.unwrap();
        let chosen = if request % 3 == 0 { &mut checkpoints } else { &mut blocks };
        assert_eq!(chosen.call(request).await, Ok(request));
    }
}

/// tower-resilience#382, as its clones: all are told that there is room for a probe.
#[bowline::test(start_paused = true)]
async fn clones_of_a_half_open_service_make_one_probe_together_and_a_dropped_one_is_no_result() {
    let breaker = Breaker::new("upstream").at_least(1).probes(1).close_after(1).open_for(SECOND);
    let hangs = service_fn(|()| pending::<Result<(), Class>>());
    let service = ServiceBuilder::new().layer(BreakerLayer::new(&breaker)).service(hangs);
    breaker.admit().unwrap().failed(Class::Network);
    let mut ready = service.clone();
    ready.ready().await.expect("an open breaker refuses calls, not questions");
    assert!(matches!(ready.call(()).await, Err(BreakerError::Open(_))));
    tokio::time::advance(2 * SECOND).await;
    let probe = parked(service.clone().oneshot(())).await;
    let refused = service.clone().oneshot(()).await.unwrap_err();
    assert!(matches!(refused, BreakerError::Open(ref open) if open.retry_in.is_some()), "{refused:?}");
    assert_eq!(breaker.stats().probes_in_flight, 1);
    drop(probe);
    assert_eq!((breaker.state(), breaker.stats().probes_in_flight), (BreakerState::HalfOpen, 0));
    let probe = parked(service.oneshot(())).await;
    assert_eq!(breaker.stats().probes_in_flight, 1);
    drop(probe);
}

#[bowline::test(start_paused = true)]
async fn a_late_call_ends_with_all_that_is_below_it_and_counts_as_a_time_out() {
    let breaker = Breaker::new("upstream").at_least(1);
    let mut service = ServiceBuilder::new()
        .layer(BreakerLayer::new(&breaker))
        .layer(TimeoutLayer::new(SECOND))
        .service(service_fn(async |()| {
            assert_eq!(bowline::time_left(), Some(SECOND), "it inherits the deadline");
            sleep(10 * SECOND).await.map_err(|cancelled| cancelled.class())
        }));
    let late = service.ready().await.unwrap().call(()).await.unwrap_err();
    // It was told, and returned its own error.
    assert_eq!(late, BreakerError::Failed(TimeoutError::Failed(Class::Timeout)));
    assert!(breaker.explain().contains("1 time-out"), "{}", breaker.explain());
    let never = service_fn(|()| pending::<Result<(), Class>>());
    let late = ServiceBuilder::new().layer(TimeoutLayer::new(SECOND)).service(never).oneshot(()).await;
    assert!(
        matches!(late, Err(TimeoutError::Cancelled(ref cancelled)) if cancelled.is_deadline()),
        "{late:?}"
    );
}

#[bowline::test(start_paused = true)]
async fn no_place_is_held_between_two_attempts() {
    let bulkhead = Bulkhead::new("upstream", 1);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry(2)))
        .layer(BulkheadLayer::new(&bulkhead))
        .service(Strict::succeeding_at(2));
    let mut call = parked(service.oneshot(7)).await;
    assert_eq!(bulkhead.stats().in_flight, 0, "it waits for its second attempt");
    assert_eq!(bulkhead.stats().admitted, 1);
    assert_eq!(call.as_mut().await.unwrap(), 7);
}

#[bowline::test(start_paused = true)]
async fn answers_may_be_failures() {
    let statuses = Arc::new(AtomicUsize::new(0));
    let client = service_fn({
        let statuses = Arc::clone(&statuses);
        move |()| ready(Ok::<_, Infallible>(statuses.fetch_add(1, Ordering::Relaxed)))
    });
    fn by_status(answer: &Result<usize, Infallible>) -> Option<Class> {
        let status = answer.as_ref().ok().filter(|status| **status >= 400)?;
        Some(Class::of_status(u16::try_from(*status).unwrap(), None))
    }
    let bulkhead = Bulkhead::new("upstream", 1).adapt(Limit::aimd(1..=100));
    let limit = bulkhead.stats().at_most;
    let mut service =
        ServiceBuilder::new().layer(BulkheadLayer::new(&bulkhead).judge(by_status)).service(client.clone());
    statuses.store(503, Ordering::Relaxed);
    assert_eq!(service.ready().await.unwrap().call(()).await, Ok(503));
    assert!(bulkhead.stats().at_most < limit, "an overload shrinks the limit: {:?}", bulkhead.stats());
    // It is tried again until it is no use, and then the answer is what it is.
    statuses.store(503, Ordering::Relaxed);
    let again =
        ServiceBuilder::new().layer(RetryLayer::new(retry(2)).judge(by_status)).service(client.clone());
    assert_eq!(again.clone().oneshot(()).await.unwrap(), 504);
    statuses.store(404, Ordering::Relaxed);
    assert_eq!(again.oneshot(()).await.unwrap(), 404);
}

#[bowline::test(start_paused = true)]
async fn a_request_that_can_be_made_only_once_gets_one_attempt() {
    let strict = Strict::succeeding_at(3);
    let layer = RetryLayer::new(retry(3)).repeat(|request: &u32| (*request < 10).then_some(*request));
    let service = ServiceBuilder::new().layer(layer).service(strict.clone());
    let failed = service.clone().oneshot(10).await.unwrap_err();
    assert_eq!((failed.attempts, failed.class, failed.stopped), (1, Class::Network, Stopped::NotRetriable));
    assert_eq!(service.oneshot(9).await.unwrap(), 9);
    assert_eq!(strict.calls.load(Ordering::Relaxed), 3);
}

#[bowline::test(start_paused = true)]
async fn an_error_that_is_judged_no_failure_says_after_how_many_attempts_it_came() {
    let calls = Arc::new(AtomicUsize::new(0));
    let client = service_fn(move |()| {
        let first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        ready(Err::<(), _>(if first { "reset" } else { "empty" }))
    });
    let layer = RetryLayer::new(retry(3))
        .judge(|result: &Result<(), &str>| (*result == Err("reset")).then_some(Class::Network));
    let failed = ServiceBuilder::new().layer(layer).service(client).oneshot(()).await.unwrap_err();
    assert_eq!((failed.last, failed.attempts), ("empty", 2));
}

#[bowline::test(start_paused = true)]
async fn a_full_bulkhead_refuses_the_call_and_not_the_question() {
    let bulkhead = Bulkhead::new("upstream", 1).waiting(0);
    let _slot = bulkhead.enter().await.unwrap();
    let mut service =
        ServiceBuilder::new().layer(BulkheadLayer::new(&bulkhead)).service(Strict::succeeding_at(1));
    let refused = service.ready().await.unwrap().call(7).await.unwrap_err();
    let BulkheadError::NoSlot(NoSlot::Full(full)) = refused else { panic!("{refused:?}") };
    assert!(full.oldest.is_some_and(|oldest| oldest.place.contains("tower.rs")));
}

/// A service that is not ready is not called: the wait is the caller's, in its own readiness.
#[bowline::test(start_paused = true)]
async fn who_is_not_ready_below_is_not_ready_above() {
    #[derive(Clone)]
    struct Never;

    impl Service<()> for Never {
        type Response = ();
        type Error = Class;
        type Future = Pin<Box<dyn Future<Output = Result<(), Class>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Class>> {
            Poll::Pending
        }

        fn call(&mut self, (): ()) -> Self::Future {
            unreachable!("it is never ready")
        }
    }

    let mut service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry(2)))
        .layer(BreakerLayer::new(&Breaker::new("upstream")))
        .layer(BulkheadLayer::new(&Bulkhead::new("upstream", 1)))
        .layer(TimeoutLayer::new(SECOND))
        .service(Never);
    assert!(poll_once(&mut Box::pin(service.ready())).await.is_pending());
}
