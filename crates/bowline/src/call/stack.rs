//! The layers around a call, in the one order that is right.
//!
//! | layer, from outside | why here |
//! |---|---|
//! | fallback | it answers for whatever the others did not |
//! | time of the whole call ([`Call::within`]) | it bounds the attempts and the pauses between them |
//! | retry, with its budget | a pause holds nothing of what is below |
//! | hedge | both attempts ask below for themselves |
//! | breaker | it counts attempts, and refuses before anybody waits |
//! | bulkhead | who waits for a slot does so before the clock of the attempt begins |
//! | time-out of an attempt ([`Call::timeout`]) | it measures the upstream and nothing else |
//!
//! # Invariants
//!
//! 1. A permit of the breaker and a slot of the bulkhead live inside of one attempt (`attempt`), so none is held during a
//!    pause, nor by a call that has returned.
//! 2. What a layer refuses here never reached the upstream: it is not tried again, and counts nowhere.
//! 3. The losing attempt of a hedge is dropped before its call returns, and counts as nothing.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::class::{ByClosure, ByError, Class, Classifier};
use super::failed::{CallFailed, Failure};
use super::fallback::FallbackCall;
use super::gate::{Gate as _, Pass};
use super::hedge::Hedge;
use super::retry::{Retry, Stopped};
use crate::breaker::Breaker;
use crate::bulkhead::Bulkhead;
use crate::cause::Cancelled;
use crate::context;
use crate::node::NodeKind;
use crate::timeout::{Limit, Under};

/// A call to something that may fail, with what is to be done about it: say what you want in any order, it is applied in the
/// right one.
///
/// From outside to inside: [fallback](Self::fallback), [time of the whole](Self::within), [retry](Self::retry),
/// [hedge](Self::hedge), [breaker](Self::breaker), [bulkhead](Self::bulkhead), [time-out of an attempt](Self::timeout). What
/// is not said is not there. It has no tasks; keep one per upstream, or make one for every call.
///
/// # Examples
///
/// ```
/// # #[derive(Debug, PartialEq)] struct Invoice(u32);
/// # async fn ask_billing(_: u64) -> std::io::Result<Invoice> { Ok(Invoice(990)) }
/// # fn last_known(_: u64) -> std::io::Result<Invoice> { Ok(Invoice(0)) }
/// # bowline::testing::example_paused(async {
/// use bowline::{Attempts, Backoff, Breaker, Bulkhead, Call, Retry, RetryBudget};
/// use std::time::Duration;
///
/// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));
/// let billing = Call::new("billing")
///     .timeout(Duration::from_secs(2))
///     .within(Duration::from_secs(5))
///     .retry(Retry::new(backoff, Attempts::at_most(3)).budget(&RetryBudget::new("billing")))
///     .breaker(&Breaker::new("billing"))
///     .bulkhead(&Bulkhead::new("billing", 20));
///
/// let order = 4711;
/// let invoice = billing.run(async || ask_billing(order).await).await?;
/// assert_eq!(invoice, Invoice(990));
///
/// let cautious = billing.fallback(async |_class| last_known(order));
/// cautious.run(async || ask_billing(order).await).await?;
/// # Ok::<_, bowline::CallFailed<std::io::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Call<C = ByError> {
    name: &'static str,
    place: &'static Location<'static>,
    timeout: Option<Duration>,
    within: Option<Duration>,
    retry: Option<Retry>,
    hedge: Option<Hedge>,
    breaker: Option<Breaker>,
    bulkhead: Option<Bulkhead>,
    idempotent: bool,
    classifier: C,
}

impl Call {
    /// Makes a call without any layer.
    #[must_use]
    #[track_caller]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            place: Location::caller(),
            timeout: None,
            within: None,
            retry: None,
            hedge: None,
            breaker: None,
            bulkhead: None,
            idempotent: false,
            classifier: ByError,
        }
    }

    /// Lets a closure say what class an error is of, where it does not implement [`Classify`](crate::Classify) itself.
    #[must_use]
    pub fn classify<E, F: Fn(&E) -> Class>(self, classify: F) -> Call<ByClosure<E, F>> {
        let Self {
            name,
            place,
            timeout,
            within,
            retry,
            hedge,
            breaker,
            bulkhead,
            idempotent,
            classifier: ByError,
        } = self;
        let classifier = ByClosure::new(classify);
        Call { name, place, timeout, within, retry, hedge, breaker, bulkhead, idempotent, classifier }
    }
}

impl<C> Call<C> {
    /// Ends an attempt that takes longer than this, from when it has its slot.
    #[must_use]
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }

    /// Ends the whole call, pauses and all, when it takes longer than this. The fallback is asked after it.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// Tries again as `retry` says; errors are classified by the call.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// States that being done twice is the same as being done once: then time-outs and broken connections are tried again.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Makes a second attempt when the first is slow, and takes the first answer.
    ///
    /// # Panics
    ///
    /// If the call is not said to be [`idempotent`](Self::idempotent): both attempts may happen.
    #[must_use]
    #[track_caller]
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        assert!(self.idempotent, "a hedge may do it twice: say `idempotent()` first");
        self.hedge = Some(hedge);
        self
    }

    /// Asks this breaker before every attempt, and tells it how that went.
    #[must_use]
    pub fn breaker(mut self, breaker: &Breaker) -> Self {
        self.breaker = Some(breaker.clone());
        self
    }

    /// Takes a slot of this bulkhead for every attempt.
    #[must_use]
    pub fn bulkhead(mut self, bulkhead: &Bulkhead) -> Self {
        self.bulkhead = Some(bulkhead.clone());
        self
    }

    /// Asks `fallback` for an answer when the call has none, whatever the reason but two: the upstream's own answer
    /// ([`Class::Business`]), and the end of the caller ([`Class::Cancelled`]). [`FallbackCall::when`] says otherwise.
    ///
    /// It is told the class, and runs after the time of the whole call.
    pub fn fallback<F>(&self, fallback: F) -> FallbackCall<'_, C, F> {
        let when = |class| !matches!(class, Class::Business | Class::Cancelled);
        FallbackCall { call: self, when, fallback }
    }

    /// Makes the call.
    ///
    /// `call` is an `async` closure that uses what is around it by reference, or a closure that returns a future.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the attempt in progress is dropped and gives back what it holds; there are no more.
    ///
    /// # Errors
    ///
    /// [`CallFailed`].
    pub async fn run<T, E, F, Fut>(&self, call: F) -> Result<T, CallFailed<E>>
    where
        C: Classifier<E>,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match self.within {
            None => self.with_retries(&call, &AtomicU32::new(0)).await,
            // What few calls need is boxed: the future of a plain one is small, and cheap to move.
            Some(within) => Box::pin(self.limited(within, &call)).await,
        }
    }

    async fn limited<T, E, F, Fut>(&self, within: Duration, call: &F) -> Result<T, CallFailed<E>>
    where
        C: Classifier<E>,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let attempts = AtomicU32::new(0);
        let limited = Under::new(
            self.place,
            Limit::After(within),
            NodeKind::Timeout,
            self.with_retries(call, &attempts),
        );
        match limited.await {
            Ok(Err(failed)) if context::check().is_ok() => Err(failed.ended_by(within)),
            Ok(answer) => answer,
            Err(cancelled) => {
                let failure = self.cut_by(within, cancelled);
                let class = failure.class_by(|_| Class::Timeout);
                let attempts = attempts.load(Ordering::Relaxed);
                Err(CallFailed {
                    name: self.name,
                    failure,
                    class,
                    attempts,
                    stopped: Stopped::Deadline,
                    fallback: None,
                })
            }
        }
    }

    async fn with_retries<T, E, F, Fut>(&self, call: &F, attempts: &AtomicU32) -> Result<T, CallFailed<E>>
    where
        C: Classifier<E>,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        if let Some(retry) = &self.retry {
            retry.begin();
        }
        let mut attempt = self.retry.as_ref().map(Retry::first);
        loop {
            attempts.fetch_add(1, Ordering::Relaxed); // read by the same task
            let failed = match &self.hedge {
                None => self.attempt(call).await,
                Some(hedge) => Box::pin(self.hedged(hedge, call)).await, // boxed, as `limited`
            };
            let failure = match failed {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let class = failure.class_by(|error| self.classifier.class_of(error));
            let stopped = match (&self.retry, attempt) {
                _ if failure.is_refusal() => Stopped::Refused, // invariant 2
                (Some(retry), Some(last)) => {
                    let idempotent = self.idempotent || retry.is_idempotent();
                    match Box::pin(retry.pause(last, class, idempotent)).await {
                        Ok(next) => {
                            attempt = Some(next);
                            continue;
                        }
                        Err(stopped) => stopped,
                    }
                }
                _ => Stopped::Attempts,
            };
            let attempts = attempts.load(Ordering::Relaxed);
            return Err(CallFailed { name: self.name, failure, class, attempts, stopped, fallback: None });
        }
    }

    /// Two attempts, the second when the first is slow. The first value counts, or the first failure if both fail.
    async fn hedged<T, E, F, Fut>(&self, hedge: &Hedge, call: &F) -> Result<T, Failure<E>>
    where
        C: Classifier<E>,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let began = hedge.listens().then(Instant::now);
        let mut first = pin!(self.attempt(call));
        let mut delay = pin!(tokio::time::sleep(hedge.delay()));
        let early = poll_fn(|cx| match first.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending => delay.as_mut().poll(cx).map(|()| None),
        })
        .await;
        let budget = self.retry.as_ref().and_then(Retry::shared_budget);
        let ended = match early {
            Some(ended) => ended,
            // The first goes on, whatever the budget says.
            None if budget.is_some_and(|budget| !budget.grant(Instant::now())) => first.await,
            None => {
                let mut second = pin!(self.attempt(call));
                let mut failed = None;
                let (mut first_runs, mut second_runs) = (true, true);
                poll_fn(|cx| {
                    if first_runs {
                        match first.as_mut().poll(cx) {
                            Poll::Ready(Err(failure)) => {
                                first_runs = false;
                                failed.get_or_insert(failure);
                            }
                            ended @ Poll::Ready(Ok(_)) => return ended,
                            Poll::Pending => {}
                        }
                    }
                    if second_runs {
                        match second.as_mut().poll(cx) {
                            Poll::Ready(Err(failure)) => {
                                second_runs = false;
                                failed.get_or_insert(failure);
                            }
                            ended @ Poll::Ready(Ok(_)) => return ended,
                            Poll::Pending => {}
                        }
                    }
                    match failed.take_if(|_| !first_runs && !second_runs) {
                        Some(failure) => Poll::Ready(Err(failure)),
                        None => Poll::Pending,
                    }
                })
                .await
            }
        };
        if let (Some(began), true) = (began, ended.is_ok()) {
            hedge.succeeded_in(began.elapsed());
        }
        ended
    }

    /// One attempt, with all that belongs to it (invariant 1).
    async fn attempt<T, E, F, Fut>(&self, call: &F) -> Result<T, Failure<E>>
    where
        C: Classifier<E>,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let permit = self.breaker.as_ref().map(Breaker::admit).transpose().map_err(Failure::Open)?;
        let slot = match &self.bulkhead {
            None => None,
            Some(bulkhead) => match bulkhead.admit().await {
                Ok(slot) => Some(slot),
                Err(refused) => {
                    tell(permit, Some(Class::Cancelled)); // it says nothing about the upstream
                    return Err(Failure::of_slot(refused));
                }
            },
        };
        let ended = match self.timeout {
            None => call().await.map_err(Failure::Error),
            Some(after) => {
                match Under::new(self.place, Limit::After(after), NodeKind::Timeout, call()).await {
                    Ok(answer) => answer.map_err(Failure::Error),
                    Err(cancelled) => Err(self.cut_by(after, cancelled)),
                }
            }
        };
        let failed = ended.as_ref().err();
        let failed = failed.map(|failure| failure.class_by(|error| self.classifier.class_of(error)));
        tell(slot, failed);
        tell(permit, failed);
        ended
    }

    /// What a limit of ours that ended with `cancelled` means: it has passed, or somebody above has cancelled us.
    fn cut_by<E>(&self, limit: Duration, cancelled: Cancelled) -> Failure<E> {
        match context::check() {
            Err(above) => Failure::Cancelled(above),
            Ok(()) if cancelled.is_deadline() => Failure::TimedOut(limit),
            Ok(()) => Failure::Cancelled(cancelled),
        }
    }
}

/// Says how the attempt went for which `pass` was given.
fn tell(pass: Option<impl Pass>, failed: Option<Class>) {
    match (pass, failed) {
        (None, _) => {}
        (Some(pass), None) => pass.succeeded(),
        (Some(pass), Some(class)) => pass.failed(class),
    }
}
