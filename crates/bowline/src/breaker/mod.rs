//! Circuit breakers: an upstream that fails is left alone for a while, and asked by a few before all come back.
//!
//! A [`Breaker`] needs no task and no owner: it is a machine (`state`) under one short lock. While it is closed, admission is
//! one load of a word that says so, and a result is one reading of the clock and one critical section.
//!
//! # Invariants
//!
//! 1. Admission is the permit: in a half-open breaker a probe is counted in the step that admits it, and counted out by its
//!    permit's end, whichever that is. So there are never more than allowed, and no place is lost with who gave up.
//! 2. Every change of state is a new generation. A permit carries the generation that admitted it, and its end counts in
//!    that one only.
//! 3. The word that admits without the lock is written under it, after every change.
//! 4. Nobody is told of a change under the lock; whoever tells looks afterwards whether it is still true.
//!
//! # End
//!
//! A breaker lives as long as its handles and owns nothing but its alert, which is over when it is gone.

mod explain;
mod keyed;
#[cfg(test)]
mod model;
mod options;
mod permit;
mod state;
mod window;

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::explain::short;
pub use self::explain::{BreakerError, BreakerOpen, BreakerState, BreakerStats};
pub use self::keyed::Breakers;
pub use self::permit::BreakerPermit;
#[cfg(feature = "tower")]
pub(crate) use self::permit::Probe;
use self::state::{End, Mode, News, Settings, State, Ticket};
use self::window::Span;
use crate::alert::{self, AlertKind, Subject};
use crate::books::Books;
use crate::call::Classify;
use crate::dice;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, LockExt, Mutex};

/// How far back a breaker looks, unless told otherwise: long enough for a few calls, short enough to open within seconds.
const WINDOW: Duration = Duration::from_secs(10);

/// Calls in the window below which it does not judge: with fewer, two unlucky ones would be a trend.
const AT_LEAST: u32 = 20;

/// The share of failed calls that opens it: an upstream of which every other call fails is of little use.
const FAILURE_RATE: f64 = 0.5;

/// How long it is open the first time.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// How long it is open at most, after doubling: a minute is about as late as people notice that all is well again.
const OPEN_AT_MOST: Duration = Duration::from_secs(60);

/// Probes that may be under way at once: a second one, should the first be unlucky to hang.
const PROBES: u32 = 2;

/// Probes that have to succeed before it closes: one may be luck.
const CLOSE_AFTER: u32 = 3;

/// How long it waits for probes before it takes them for failed: longer than most time-outs.
const PROBE_TIME: Duration = Duration::from_secs(30);

/// Of the word: everybody is admitted.
const PASSES: u64 = 1;
/// Of the word: it wants to know how long calls take.
const TIMED: u64 = 2;
/// Above these, the generation.
const GENERATION_SHIFT: u32 = 2;

/// The breakers of this process.
static BREAKERS: Books<Inner> = Books::new();

/// Returns the books of all living breakers, in the order in which they were made.
///
/// # Examples
///
/// ```
/// let billing = bowline::Breaker::new("billing");
/// assert!(bowline::breakers().iter().any(|breaker| breaker.name == "billing"));
/// # drop(billing);
/// ```
#[must_use]
pub fn breakers() -> Vec<BreakerStats> {
    BREAKERS.all().iter().map(|inner| inner.stats()).collect()
}

/// Refuses calls to an upstream that fails, and finds out when it is back.
///
/// *Closed*, it lets every call pass and watches what they come to. When, among at least [20](Self::at_least) calls of the
/// last [10 s](Self::window), [half](Self::failure_rate) have failed, it *opens*: calls are refused at once, with an error that
/// says why and for how long. After [5 s](Self::open_for) the next calls are probes: at most [2](Self::probes) at a time. When
/// [3](Self::close_after) have succeeded it closes; as soon as one fails it is open again, twice as long, up to
/// [a minute](Self::open_at_most). Up to a quarter is added to each time at random, so that many processes do not come back at once.
///
/// What counts as a failure is the [`Class`](crate::Class) of an error: a network error, a time-out, an overload, a bug. An
/// upstream that says no ([`Class::Business`](crate::Class::Business)) works, and that counts as a success. A call that is cancelled or
/// dropped counts as nothing, unless it ran into the deadline of its context, which is a time-out.
///
/// Handles are clones of one breaker; keep one in a static or in your client, one per upstream ([`Breakers`] for hosts that are
/// not known beforehand). While it is open, the alert [`BreakerOpen`](crate::AlertKind::BreakerOpen) stands.
///
/// # Examples
///
/// ```
/// use bowline::{Breaker, BreakerError, Class};
///
/// # bowline::testing::example(async {
/// let billing = Breaker::new("billing");
/// let charged = billing.run(async || Err::<(), _>(Class::Business)).await; // "card declined"
/// assert_eq!(charged, Err(BreakerError::Failed(Class::Business)));
/// assert!(billing.explain().starts_with("closed"));
///
/// billing.force_open("ledger migration until 14:00");
/// let refused = billing.run(async || Ok::<_, Class>(())).await.unwrap_err();
/// assert!(refused.to_string().ends_with("ledger migration until 14:00; forced, until it is released"));
/// # });
/// ```
#[derive(Clone)]
pub struct Breaker {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    place: &'static Location<'static>,
    /// The generation, and whether its calls pass and are timed.
    word: AtomicU64,
    state: Mutex<State>,
}

impl Breaker {
    /// Makes a closed breaker, known by `name` in errors, alerts and statistics.
    #[must_use]
    #[track_caller]
    pub fn new(name: &'static str) -> Self {
        Self::named(name.into(), Location::caller())
    }

    fn named(name: Arc<str>, place: &'static Location<'static>) -> Self {
        let settings = Settings {
            span: Span::Time(WINDOW),
            at_least: AT_LEAST,
            failure_rate: FAILURE_RATE,
            slow: None,
            open_for: OPEN_FOR,
            open_at_most: OPEN_AT_MOST,
            probes: PROBES,
            close_after: CLOSE_AFTER,
            probe_time: PROBE_TIME,
            chance: dice::unit,
        };
        let state = Mutex::new(State::new(settings, Instant::now()));
        let inner = Arc::new(Inner { name, place, word: AtomicU64::new(PASSES), state });
        BREAKERS.list(&inner);
        Self { inner }
    }

    /// Admits one call, whose permit is told how it went.
    ///
    /// # Errors
    ///
    /// [`BreakerOpen`] while it is open, or half-open with all probes under way; it says when to try again.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn charge() -> Result<u64, bowline::Class> { Ok(7) }
    /// # bowline::testing::example(async {
    /// let billing = bowline::Breaker::new("billing");
    /// let permit = billing.admit()?;
    /// match charge().await {
    ///     Ok(_) => permit.succeeded(),
    ///     Err(class) => permit.failed(class),
    /// }
    /// # Ok::<_, bowline::BreakerOpen>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn admit(&self) -> Result<BreakerPermit<'_>, BreakerOpen> {
        self.inner.admit().map(|ticket| BreakerPermit::new(self, ticket))
    }

    /// Makes a call if it is admitted, and counts what it comes to.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call, which then counts as nothing: the place of a probe is free again at once. If the context's
    /// deadline was the cause it counts as a time-out: a breaker behind whose back all callers lose patience would never open.
    ///
    /// # Errors
    ///
    /// [`BreakerError::Open`]: it was not made; try again when the error says. [`BreakerError::Failed`]: the call's own error.
    ///
    /// # Panics
    ///
    /// If the call does; that counts as a bug.
    pub async fn run<T, E, F>(&self, call: F) -> Result<T, BreakerError<E>>
    where
        F: AsyncFnOnce() -> Result<T, E>,
        E: Classify + fmt::Display,
    {
        let permit = self.admit().map_err(BreakerError::Open)?;
        match call().await {
            Ok(value) => {
                permit.succeeded();
                Ok(value)
            }
            Err(error) => {
                permit.failed_because(error.class(), &error);
                Err(BreakerError::Failed(error))
            }
        }
    }

    /// Opens it until [`release`](Self::release), whatever calls come to: for an upstream that is known to be away.
    pub fn force_open(&self, reason: &'static str) {
        self.inner.force(|state, now| state.force_open(now, reason));
    }

    /// Closes it until [`release`](Self::release), whatever calls come to: for an upstream without which there is no service.
    pub fn force_closed(&self, reason: &'static str) {
        self.inner.force(|state, now| state.force_closed(now, reason));
    }

    /// Lets it judge by itself again after it was forced: it is closed and has seen nothing. Does nothing otherwise.
    pub fn release(&self) {
        self.inner.force(State::release);
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns what it does with calls now. By the time you read it, it may be something else: to be admitted, take a permit.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.inner.state.lock_unpoisoned().named()
    }

    /// Says in words what it does and why: `open since 12 s: 14 of 20 calls failed in the last 10 s (9 time-outs, 5 network;
    /// last: network: connection refused); next probe in 18 s`.
    #[must_use]
    pub fn explain(&self) -> String {
        self.inner.state.lock_unpoisoned().explain(Instant::now())
    }

    /// Returns its books.
    #[must_use]
    pub fn stats(&self) -> BreakerStats {
        self.inner.stats()
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.inner.name).field("is", &self.explain()).finish()
    }
}

impl Inner {
    #[inline]
    fn admit(&self) -> Result<Ticket, BreakerOpen> {
        // Acquire: pairs with the Release in `publish`; who sees the generation sees what was published with it.
        let word = self.word.load(Ordering::Acquire);
        if word & PASSES == 0 {
            return self.admit_slowly();
        }
        let at = if word & TIMED == 0 { None } else { Some(Instant::now()) };
        Ok(Ticket { generation: word >> GENERATION_SHIFT, at })
    }

    #[cold]
    fn admit_slowly(&self) -> Result<Ticket, BreakerOpen> {
        let now = Instant::now();
        let (admitted, news) = {
            let mut state = self.state.lock_unpoisoned();
            let admitted = state.admit(now);
            self.publish(&state);
            admitted
        };
        self.tell(news);
        admitted.map_err(|refusal| BreakerOpen {
            name: Arc::clone(&self.name),
            since: now.saturating_duration_since(refusal.since),
            retry_in: refusal.retry_in,
            why: refusal.why,
        })
    }

    #[inline]
    fn end(&self, ticket: Ticket, end: End, detail: Option<&str>) {
        let now = Instant::now();
        let news = {
            let mut state = self.state.lock_unpoisoned();
            let before = state.generation;
            let news = state.end(ticket, now, end, detail);
            if state.generation != before {
                self.publish(&state);
            }
            news
        };
        self.tell(news);
    }

    fn force(&self, change: impl FnOnce(&mut State, Instant) -> News) {
        let news = {
            let mut state = self.state.lock_unpoisoned();
            let news = change(&mut state, Instant::now());
            self.publish(&state);
            news
        };
        self.tell(news);
    }

    /// Writes the word; the lock is held (invariant 3).
    fn publish(&self, state: &State) {
        let passes = if state.mode.lets_pass() { PASSES } else { 0 };
        let timed = if state.settings.slow.is_some() { TIMED } else { 0 };
        self.word.store(state.generation << GENERATION_SHIFT | timed | passes, Ordering::Release);
    }

    #[inline]
    fn tell(&self, news: News) {
        if news != News::None {
            self.tell_truly(news);
        }
    }

    #[cold]
    fn tell_truly(&self, mut news: News) {
        loop {
            let told_open = matches!(news, News::Opened(_));
            match news {
                News::Opened(why) => alert::raise(self.subject(), why.to_string()),
                News::Closed(why) => alert::clear(&self.subject(), why.to_owned()),
                News::None => return,
            }
            // Another may have told the contrary of what is true now, before us (invariant 4).
            let state = self.state.lock_unpoisoned();
            news = match &state.mode {
                Mode::Open { why, .. } | Mode::HalfOpen { why, .. } => News::Opened(Arc::clone(why)),
                Mode::ForcedOpen { reason } => News::Opened(Arc::from(*reason)),
                Mode::Closed | Mode::ForcedClosed { .. } => News::Closed("closed meanwhile"),
            };
            if told_open == matches!(news, News::Opened(_)) {
                return;
            }
        }
    }

    fn subject(&self) -> Subject {
        let name = Cow::Owned(self.name.to_string());
        Subject { kind: AlertKind::BreakerOpen, name, place: self.place }
    }

    fn stats(&self) -> BreakerStats {
        let now = Instant::now();
        let mut state = self.state.lock_unpoisoned();
        let tally = state.tally(now);
        let totals = state.totals;
        BreakerStats {
            name: self.name.to_string(),
            place: format!("{}:{}", self.place.file(), self.place.line()),
            state: state.named(),
            for_ms: u64::try_from(now.saturating_duration_since(state.since).as_millis()).unwrap_or(u64::MAX),
            explained: state.explain(now),
            calls: tally.calls,
            failures: tally.failures(),
            slow: tally.slow,
            probes_in_flight: match state.mode {
                Mode::HalfOpen { in_flight, .. } => in_flight,
                _ => 0,
            },
            succeeded: totals.succeeded,
            failed: totals.failed,
            unknown: totals.unknown,
            stale: totals.stale,
            refused: totals.refused,
            opened: totals.opened,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.word.load(Ordering::Relaxed) & PASSES == 0 {
            alert::clear(&self.subject(), "the breaker is gone".to_owned());
        }
    }
}
