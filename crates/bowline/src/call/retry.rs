//! The same again, if that has a chance: bounded in attempts, in time, and in what it adds to the upstream's load.
//!
//! # Invariants
//!
//! 1. Between two attempts nothing of the first is left: what it held - a permit, a slot of a bulkhead, a probe of a
//!    breaker - was taken inside of it and went with it.
//! 2. A wait that would end after the deadline of the context is not begun.
//! 3. The budget is asked last, so that no retry is paid for that does not happen.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::budget::RetryBudget;
use super::class::{ByClosure, ByError, Class, Classifier};
use crate::cause::Cancelled;
use crate::context;
use crate::sleep;
use crate::wait::Op;

/// How many attempts a call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts(Option<NonZeroU32>);

impl Attempts {
    /// So many, the first included.
    ///
    /// # Panics
    ///
    /// If it is 0: a call that is never made cannot succeed.
    #[must_use]
    #[track_caller]
    pub const fn at_most(attempts: u32) -> Self {
        match NonZeroU32::new(attempts) {
            Some(attempts) => Self(Some(attempts)),
            None => panic!("0 attempts cannot succeed"),
        }
    }

    /// As many as it takes, until the deadline of the context or its cancellation: to connect at the start of a program,
    /// to deliver what must be delivered.
    #[must_use]
    pub const fn until_cancelled() -> Self {
        Self(None)
    }

    fn are_used_up_by(self, attempt: u32) -> bool {
        self.0.is_some_and(|most| attempt >= most.get())
    }
}

/// One attempt of several, as [`Retry::run`] tells it to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    number: u32,
    attempts: Attempts,
}

impl Attempt {
    /// Returns its number, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns whether no other will follow, however it ends.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.attempts.are_used_up_by(self.number)
    }
}

/// Makes a call again when it failed and that may help.
///
/// By the error's [`Class`]: network and overload are tried again, time-outs and broken connections only if the call is said
/// to be [idempotent](Self::idempotent), and everything else not. It waits as [`Backoff`] says, and at least as long
/// as the upstream asked for; it does not begin a wait that would end after the deadline of the context, and a cancel ends
/// it. During a wait nothing is held: what an attempt takes it takes inside of the closure.
///
/// It has no tasks and no name: make it once, or for every call.
///
/// # Examples
///
/// ```
/// # #[derive(Debug)] struct Invoice(u32);
/// # struct Client;
/// # impl Client { async fn charge(&self, cents: u32) -> std::io::Result<Invoice> { Ok(Invoice(cents)) } }
/// # bowline::testing::example_paused(async {
/// # let client = Client;
/// use bowline::{Attempts, Backoff, Retry, RetryBudget};
/// use std::time::Duration;
///
/// let budget = RetryBudget::new("billing");
/// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));
/// let retry = Retry::new(backoff, Attempts::at_most(3)).budget(&budget);
///
/// let invoice = retry.run(async |_attempt| client.charge(990).await).await?;
/// assert_eq!(invoice.0, 990);
/// # Ok::<_, bowline::RetryError<std::io::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Retry<C = ByError> {
    backoff: Backoff,
    attempts: Attempts,
    budget: Option<RetryBudget>,
    idempotent: bool,
    longest_wait: Duration,
    classifier: C,
}

impl Retry {
    /// The longest `Retry-After` that is waited for unless [set](Self::longest_wait): who is told to come back later than
    /// that has better things to do than to hold a request open.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

    /// Makes a policy with this back-off, and this many attempts.
    #[must_use]
    pub const fn new(backoff: Backoff, attempts: Attempts) -> Self {
        Self {
            backoff,
            attempts,
            budget: None,
            idempotent: false,
            longest_wait: Self::LONGEST_WAIT,
            classifier: ByError,
        }
    }

    /// Lets a closure say what class an error is of, where it does not implement [`Classify`](crate::Classify) itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example_paused(async {
    /// use bowline::{Attempts, Backoff, Class, Retry};
    /// use std::time::Duration;
    ///
    /// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));
    /// let retry = Retry::new(backoff, Attempts::at_most(3)).classify(|status: &u16| Class::of_status(*status, None));
    /// let answers = [503, 429, 404];
    /// let call = retry.run(async |attempt| Err::<(), u16>(answers[attempt.number() as usize - 1]));
    /// let failed = call.await.unwrap_err();
    /// assert_eq!((failed.last, failed.attempts), (404, 3));
    /// # });
    /// ```
    #[must_use]
    pub fn classify<E, F: Fn(&E) -> Class>(self, classify: F) -> Retry<ByClosure<E, F>> {
        let Self { backoff, attempts, budget, idempotent, longest_wait, classifier: ByError } = self;
        let classifier = ByClosure::new(classify);
        Retry { backoff, attempts, budget, idempotent, longest_wait, classifier }
    }
}

impl<C> Retry<C> {
    /// Bounds what all who share `budget` add to the load of their upstream. Without one, an upstream that fails gets up to
    /// as many times its load as there are attempts.
    #[must_use]
    pub fn budget(mut self, budget: &RetryBudget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// States that being done twice is the same as being done once: then time-outs and broken connections are tried again too.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sets the longest wait that an upstream may ask for; [`LONGEST_WAIT`](Retry::LONGEST_WAIT) unless set. A call that is told to come
    /// back later than that ends at once.
    #[must_use]
    pub fn longest_wait(mut self, longest: Duration) -> Self {
        self.longest_wait = longest;
        self
    }

    /// Runs `call` until it succeeds or trying again is no use.
    ///
    /// `call` is an `async` closure that uses what is around it by reference, or a closure that returns a future. One that
    /// changes what it captures keeps it in an atomic or a lock: attempts are futures of their own.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the attempt in progress is dropped, and there are no more.
    ///
    /// # Errors
    ///
    /// [`RetryError`] with the last error, how many attempts there were, and why there was no other ([`Stopped`]).
    pub async fn run<T, E, F, Fut>(&self, mut call: F) -> Result<T, RetryError<E>>
    where
        C: Classifier<E>,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.begin();
        let mut attempt = self.first();
        loop {
            let last = match call(attempt).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let class = self.classifier.class_of(&last);
            // Boxed, since few calls need it: the future of one that succeeds stays small, and cheap to move.
            let stopped = match Box::pin(self.pause(attempt, class, self.idempotent)).await {
                Ok(next) => {
                    attempt = next;
                    continue;
                }
                Err(stopped) => stopped,
            };
            return Err(RetryError { last, class, attempts: attempt.number, stopped });
        }
    }

    /// To be said once per call.
    #[inline]
    pub(super) fn begin(&self) {
        if let Some(budget) = &self.budget {
            budget.count_call();
        }
    }

    pub(super) fn first(&self) -> Attempt {
        Attempt { number: 1, attempts: self.attempts }
    }

    pub(super) fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    pub(super) fn shared_budget(&self) -> Option<&RetryBudget> {
        self.budget.as_ref()
    }

    /// Waits after `attempt` failed, and says which is the next; or why there is none.
    pub(super) async fn pause(
        &self,
        attempt: Attempt,
        class: Class,
        idempotent: bool,
    ) -> Result<Attempt, Stopped> {
        context::check().map_err(Stopped::Cancelled)?;
        if !class.is_retriable(idempotent) {
            return Err(Stopped::NotRetriable);
        }
        if attempt.is_last() {
            return Err(Stopped::Attempts);
        }
        if let Some(asked) = class.retry_after().filter(|asked| *asked > self.longest_wait) {
            return Err(Stopped::RetryAfter(asked));
        }
        let now = Instant::now();
        let until = now.checked_add(self.backoff.draw_after(attempt.number, class));
        let until = match (until, context::deadline()) {
            (Some(until), Some(deadline)) if until < deadline => until,
            (Some(until), None) => until,
            _ => return Err(Stopped::Deadline),
        };
        if self.budget.as_ref().is_some_and(|budget| !budget.grant(now)) {
            return Err(Stopped::Budget);
        }
        sleep::until(Op::Backoff, tokio::time::sleep_until(until)).await.map_err(Stopped::Cancelled)?;
        Ok(Attempt { number: attempt.number.saturating_add(1), ..attempt })
    }
}

/// Why there was no other attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// The class of the error says that it would be no use, or that it would be done twice.
    NotRetriable,
    /// It was the last one allowed.
    Attempts,
    /// The next would have begun after the deadline of the context.
    Deadline,
    /// The [`RetryBudget`] is spent: the upstream gets too many retries as it is.
    Budget,
    /// The upstream wants to be left alone for so long, and that is longer than [`Retry::longest_wait`].
    RetryAfter(Duration),
    /// A breaker or a bulkhead of the [`Call`](crate::Call) refused it: they know when it may help to come again.
    Refused,
    /// The context was cancelled.
    Cancelled(Cancelled),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRetriable => f.write_str("not to be tried again"),
            Self::Attempts => f.write_str("no attempts left"),
            Self::Deadline => f.write_str("no time left for another"),
            Self::Budget => f.write_str("the retry budget is spent"),
            Self::RetryAfter(asked) => write!(f, "asked to come back in {asked:?}"),
            Self::Refused => f.write_str("refused here"),
            Self::Cancelled(cancelled) => write!(f, "{cancelled}"),
        }
    }
}

/// A call failed, and trying again was no use or not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryError<E> {
    /// The error of the last attempt.
    pub last: E,
    /// What kind of failure that was.
    pub class: Class,
    /// How many attempts there were.
    pub attempts: u32,
    /// Why there was no other.
    pub stopped: Stopped,
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last, attempts, stopped, .. } = self;
        let s = if *attempts == 1 { "" } else { "s" };
        write!(f, "failed after {attempts} attempt{s} ({stopped}): {last}")
    }
}

impl<E: Error + 'static> Error for RetryError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last.source()
    }
}
