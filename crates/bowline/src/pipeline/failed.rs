//! Failures, out of band: with the record, bounded, and never in the way of the stages.
//!
//! # Invariants
//!
//! 1. A worker that has a failure never waits: it is kept, or dropped and counted.
//! 2. Whoever takes the failures runs in a task of its own; its panic is counted, and it goes on with the next.
//! 3. A failure is settled when it was handed on. One that was lost, or whose taker panicked, is not: the source keeps it.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;

use super::caught::caught;
use super::done::{Receipt, Teller, Watermark};
use crate::alert::{self, AlertKind, Subject};
use crate::carry::Cx;
use crate::cause::Cancelled;
use crate::panic::Panic;
use crate::queue::{self, Bound, FreeRx, FreeTx, Overflow};
use crate::site;
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Failures a pipeline keeps unless [`Errors`] says otherwise: enough to see what is wrong, and as much memory as so many records
/// take. What comes when it is full is dropped and counted.
pub(super) const DEFAULT_ERRORS: usize = 1_000;

/// A record that failed: which, where, and why.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, FailedBy, Parallel, Pipeline};
///
/// let report = Pipeline::new("numbers", ["1", "two", "3"])
///     .stage("parse", Parallel::ordered(2), Bound::items(8), async |text: &&str| text.parse::<u32>())
///     .sink("add", Parallel::ordered(1), Bound::items(8), async |_: &u32| Ok::<_, &str>(()))
///     .run()
///     .await?;
/// let failed = &report.errors[0];
/// assert_eq!((failed.stage, failed.seq, failed.record::<&str>()), ("parse", 1, Some(&"two")));
/// assert!(matches!(failed.by, FailedBy::Error(_)));
/// # Ok::<_, bowline::PipelineError>(())
/// # }).unwrap();
/// ```
#[non_exhaustive]
pub struct Failed {
    /// The name of the stage that failed.
    pub stage: &'static str,
    /// Which record of the source it was, counted from 0.
    pub seq: u64,
    /// What the stage said, or that it panicked.
    pub by: FailedBy,
    record: Box<dyn Any + Send + Sync>,
    pub(super) receipt: Receipt,
}

/// Why a record failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum FailedBy {
    /// The stage returned this error.
    Error(Box<dyn Error + Send + Sync>),
    /// The stage panicked. It goes on with the next record.
    Panicked(Panic),
}

impl Failed {
    pub(super) fn new<T: Send + Sync + 'static>(
        stage: &'static str,
        seq: u64,
        by: FailedBy,
        record: T,
        receipt: Receipt,
    ) -> Self {
        Self { stage, seq, by, record: Box::new(record), receipt }
    }

    /// Returns the record as the stage had got it, if that is a `T`. A stage made by `edit` may have changed it.
    #[must_use]
    pub fn record<T: 'static>(&self) -> Option<&T> {
        self.record.downcast_ref()
    }

    /// Takes the record out.
    ///
    /// # Errors
    ///
    /// The failure itself, if its record is not a `T`: another stage's input, see [`stage`](Self::stage).
    pub fn into_record<T: 'static>(self) -> Result<T, Self> {
        let Self { stage, seq, by, record, receipt } = self;
        match record.downcast() {
            Ok(record) => Ok(*record),
            Err(record) => Err(Self { stage, seq, by, record, receipt }),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, seq, by, .. } = self;
        match by {
            FailedBy::Error(error) => write!(f, "record {seq} failed in `{stage}`: {error}"),
            FailedBy::Panicked(panic) => write!(f, "record {seq} failed in `{stage}`: {panic}"),
        }
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.by {
            FailedBy::Error(error) => Some(&**error),
            FailedBy::Panicked(panic) => Some(panic),
        }
    }
}

type Taker = Box<dyn FnMut(Failed) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What a pipeline does with failures: how many are kept, and who takes them.
///
/// The stages never wait for it. What comes when it is full is dropped and counted
/// ([`PipelineStats::errors_lost`](crate::PipelineStats::errors_lost)): those kept are the first, which mostly tell why. When it
/// is more than half full, [`AlertKind::ErrorsHigh`] is raised, and cleared when it is read down to a quarter.
#[must_use = "give it to `Pipeline::errors`"]
pub struct Errors {
    max: usize,
    taker: Option<Taker>,
}

impl Errors {
    /// Keeps at most `max` failures, until they are taken by
    /// [`take_errors`](crate::PipelineHandle::take_errors) or come with the report.
    ///
    /// # Panics
    ///
    /// If `max` is 0.
    #[track_caller]
    pub fn keep(max: usize) -> Self {
        assert!(max > 0, "a record of errors needs room for at least one");
        Self { max, taker: None }
    }

    /// Hands each failure to `take`, one after the other, in a task of the pipeline; at most `max` wait for it.
    ///
    /// It may be slow: the stages do not wait for it. When they are done it has ten seconds more for what is left;
    /// what is left then comes with the report. It is cloned for each failure, so what it captures should be cheap to clone.
    ///
    /// # Panics
    ///
    /// If `max` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use std::sync::{Arc, Mutex};
    /// use bowline::{Bound, Errors, Failed, Parallel, Pipeline};
    ///
    /// let dead_letters = Arc::new(Mutex::new(Vec::new()));
    /// let letters = Arc::clone(&dead_letters);
    /// let report = Pipeline::new("numbers", ["1", "two", "3"])
    ///     .stage("parse", Parallel::ordered(2), Bound::items(8), async |text: &&str| text.parse::<u32>())
    ///     .errors(Errors::each(100, async move |failed: Failed| letters.lock().unwrap().push(failed.seq)))
    ///     .sink("add", Parallel::ordered(1), Bound::items(8), async |_: &u32| Ok::<_, &str>(()))
    ///     .run()
    ///     .await?;
    /// assert_eq!(*dead_letters.lock().unwrap(), [1]);
    /// assert!(report.errors.is_empty(), "they were handed on");
    /// # Ok::<_, bowline::PipelineError>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn each<F, Fut>(max: usize, take: F) -> Self
    where
        F: FnOnce(Failed) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let taker: Taker = Box::new(move |failed| Box::pin(take.clone()(failed)));
        Self { taker: Some(taker), ..Self::keep(max) }
    }
}

impl Default for Errors {
    /// Keeps the first 1,000 failures.
    fn default() -> Self {
        Self::keep(DEFAULT_ERRORS)
    }
}

impl fmt::Debug for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = f.debug_struct("Errors");
        errors.field("max", &self.max).field("handed_on", &self.taker.is_some()).finish()
    }
}

/// The failures of one pipeline.
pub(super) struct Record {
    max: usize,
    subject: Subject,
    handed_on: bool,
    /// Made by the pipeline's own task, below which it stands in views.
    ends: OnceLock<(FreeTx<Failed>, FreeRx<Failed>)>,
    high: Teller<bool>,
    lost: AtomicU64,
    unfinished: OnceLock<&'static str>,
    taker_panics: AtomicU64,
}

/// A failure in the hands of whoever takes them. Dropped there, it is lost, and counted.
struct Handing<'a> {
    record: &'a Record,
    stage: &'static str,
}

impl Drop for Handing<'_> {
    fn drop(&mut self) {
        self.record.lost.fetch_add(1, Ordering::Relaxed);
        let _ = self.record.unfinished.set(self.stage);
    }
}

impl Record {
    pub(super) fn new(
        errors: Errors,
        name: &'static str,
        place: &'static Location<'static>,
    ) -> (Self, Option<Taker>) {
        let record = Self {
            max: errors.max,
            subject: Subject { kind: AlertKind::ErrorsHigh, name: name.into(), place },
            handed_on: errors.taker.is_some(),
            ends: OnceLock::new(),
            high: Teller::new(false),
            lost: AtomicU64::new(0),
            unfinished: OnceLock::new(),
            taker_panics: AtomicU64::new(0),
        };
        (record, errors.taker)
    }

    pub(super) fn open(&self) {
        let cx = Cx::here();
        let site = site::intern("errors", self.subject.place);
        let (tx, rx) = queue::open(&cx, site, Bound::items(self.max), Overflow::Reject);
        let _ = self.ends.set((tx.free(), rx.free()));
    }

    /// Keeps a failure, or says that it was lost.
    pub(super) fn keep(&self, mut failed: Failed) -> Result<(), Lost> {
        // Whoever reads what is kept owes nothing more for it.
        let receipt = if self.handed_on { None } else { failed.receipt.take() };
        let kept = self.ends.get().map(|(tx, _)| tx.try_send(failed));
        let answer = match kept {
            Some(Ok(())) => {
                settle_receipt(receipt);
                Ok(())
            }
            lost => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                drop((lost, receipt)); // not settled: a delivery is received again
                Err(Lost)
            }
        };
        self.look();
        answer
    }

    /// Takes what is there now.
    pub(super) fn take_all(&self, watermark: Option<&Watermark>) -> Vec<Failed> {
        let mut all = Vec::new();
        if let Some((_, rx)) = self.ends.get() {
            while let Ok(mut failed) = rx.try_recv() {
                settle(failed.seq, failed.receipt.take(), watermark);
                all.push(failed);
            }
            self.look();
        }
        all
    }

    /// Hands each to the taker, until the stages are gone and nothing is left. Answers through `lost` what could not be.
    pub(super) async fn hand_on(
        &self,
        mut taker: Taker,
        watermark: Option<&Watermark>,
        lost: impl Fn(&'static str),
    ) -> Result<(), Cancelled> {
        let Some((_, rx)) = self.ends.get() else { return Ok(()) };
        while let Some(mut failed) = rx.recv().await? {
            self.look();
            let (seq, stage, receipt) = (failed.seq, failed.stage, failed.receipt.take());
            let handing = Handing { record: self, stage };
            let taken = caught(|| taker(failed)).await;
            std::mem::forget(handing);
            match taken {
                Ok(()) => settle(seq, receipt, watermark),
                Err(_panic) => {
                    self.taker_panics.fetch_add(1, Ordering::Relaxed);
                    lost(stage);
                }
            }
        }
        Ok(())
    }

    /// No more will come.
    pub(super) fn close(&self) {
        if let Some((_, rx)) = self.ends.get() {
            rx.close();
        }
    }

    /// The stage of a failure that whoever takes them did not come to an end with, if the pipeline did not wait for it.
    pub(super) fn unfinished(&self) -> Option<&'static str> {
        self.unfinished.get().copied()
    }

    pub(super) fn depth(&self) -> usize {
        self.ends.get().map_or(0, |(tx, _)| tx.depth())
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn taker_panics(&self) -> u64 {
        self.taker_panics.load(Ordering::Relaxed)
    }

    /// Raises the alert above the half, clears it at a quarter.
    fn look(&self) {
        let change = |high: &mut bool| {
            let depth = self.depth();
            *high = if *high { depth * 4 > self.max } else { depth * 2 > self.max };
        };
        self.high.change(change, |high| {
            let (depth, max) = (self.depth(), self.max);
            match high {
                true => {
                    alert::raise(self.subject.clone(), format!("{depth} failures of at most {max} are kept"))
                }
                false => alert::clear(&self.subject, format!("{depth} failures of at most {max} are left")),
            }
        });
    }
}

pub(super) struct Lost;

fn settle_receipt(receipt: Receipt) {
    if let Some(receipt) = receipt {
        receipt.settle();
    }
}

fn settle(seq: u64, receipt: Receipt, watermark: Option<&Watermark>) {
    settle_receipt(receipt);
    if let Some(watermark) = watermark {
        watermark.settle(seq);
    }
}
