//! What a form records into.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Scale;
use crate::sample::{Series, resident_bytes, tasks_alive};

/// Why a form could not do its work; not the failure it is there to show, which is a figure.
pub type Trouble = Box<dyn Error + Send + Sync>;

/// What a form records into. A clone is the same lab.
#[derive(Clone)]
pub struct Lab {
    inner: Arc<Inner>,
}

struct Inner {
    scale: Scale,
    baseline_tasks: usize,
    baseline_memory: u64,
    figures: Mutex<BTreeMap<String, f64>>,
    counters: Mutex<BTreeMap<String, Counter>>,
    gauges: Mutex<BTreeMap<String, Gauge>>,
    latencies: Mutex<BTreeMap<String, Latency>>,
}

type Gauge = Arc<dyn Fn() -> f64 + Send + Sync>;

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab").field("scale", &self.inner.scale).finish_non_exhaustive()
    }
}

impl Lab {
    /// A lab on the runtime this is called on. Its tasks now are the baseline, and so is the memory of the process.
    pub(crate) fn new(scale: Scale) -> Self {
        let inner = Inner {
            scale,
            baseline_tasks: tasks_alive(),
            baseline_memory: resident_bytes(),
            figures: Mutex::default(),
            counters: Mutex::default(),
            gauges: Mutex::default(),
            latencies: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// How large this run is.
    #[must_use]
    pub fn scale(&self) -> Scale {
        self.inner.scale
    }

    /// Returns what fits the scale: a reduced, a usual or a full size.
    #[must_use]
    pub fn size<T>(&self, reduced: T, usual: T, full: T) -> T {
        match self.inner.scale {
            Scale::Reduced => reduced,
            Scale::Usual => usual,
            Scale::Full => full,
        }
    }

    /// Records a figure; bounds name it. Of several values of one name the last counts.
    pub fn figure(&self, name: &str, value: f64) {
        lock(&self.inner.figures).insert(name.to_owned(), value);
    }

    /// Returns the counter of this name, which the live view and the picture show over time.
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        lock(&self.inner.counters).entry(name.to_owned()).or_default().clone()
    }

    /// Samples `read` from another thread, every few milliseconds, until the form ends: the depth of a queue, say.
    pub fn gauge(&self, name: &str, read: impl Fn() -> f64 + Send + Sync + 'static) {
        lock(&self.inner.gauges).insert(name.to_owned(), Arc::new(read));
    }

    /// Returns the latencies of this name.
    #[must_use]
    pub fn latency(&self, name: &str) -> Latency {
        lock(&self.inner.latencies).entry(name.to_owned()).or_default().clone()
    }

    /// Tasks alive on this form's runtime, without those that were there before the form began.
    #[must_use]
    pub fn tasks(&self) -> usize {
        tasks_alive().saturating_sub(self.inner.baseline_tasks)
    }

    /// Resident memory of the process, without what it had before the form began.
    pub(crate) fn memory(&self) -> u64 {
        resident_bytes().saturating_sub(self.inner.baseline_memory)
    }

    pub(crate) fn read_gauges(&self) -> Vec<(String, f64)> {
        let counters: Vec<_> = lock(&self.inner.counters)
            .iter()
            .map(|(name, counter)| (name.clone(), counter.get() as f64))
            .collect();
        // Read outside of the lock: what is read is the form's own code.
        let gauges: Vec<_> =
            lock(&self.inner.gauges).iter().map(|(name, gauge)| (name.clone(), Arc::clone(gauge))).collect();
        counters.into_iter().chain(gauges.into_iter().map(|(name, gauge)| (name, gauge()))).collect()
    }

    /// What 99 of 100 did not exceed so far, of each latency.
    pub(crate) fn p99s(&self) -> Vec<(String, Duration)> {
        let latencies = lock(&self.inner.latencies).clone();
        latencies.into_iter().map(|(name, latency)| (name, latency.percentile(99.0))).collect()
    }

    pub(crate) fn take_gauges(&self) {
        let _ends = std::mem::take(&mut *lock(&self.inner.gauges));
    }

    pub(crate) fn findings(&self, series: Vec<Series>) -> crate::Findings {
        let latencies = lock(&self.inner.latencies).clone();
        let p99 = |latency: &Latency| latency.percentile(99.0).as_secs_f64();
        crate::Findings {
            figures: lock(&self.inner.figures).clone(),
            series,
            p99: latencies.iter().map(|(name, latency)| (name.clone(), p99(latency))).collect(),
            latencies: latencies.into_iter().map(|(name, latency)| (name, latency.buckets())).collect(),
            ..crate::Findings::default()
        }
    }
}

/// Counts something; a clone counts the same.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Counts `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What was counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, many times over; a clone records into the same. Exact to 1%.
#[derive(Clone, Debug)]
pub struct Latency(Arc<Mutex<Histogram<u64>>>);

impl Default for Latency {
    fn default() -> Self {
        // Two digits, from a microsecond to an hour.
        let histogram = Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("the bounds are sound");
        Self(Arc::new(Mutex::new(histogram)))
    }
}

impl Latency {
    /// Records one.
    pub fn record(&self, took: Duration) {
        lock(&self.0).saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// The latency that `percentile` of 100 do not exceed; 0 if nothing was recorded.
    #[must_use]
    pub fn percentile(&self, percentile: f64) -> Duration {
        let histogram = lock(&self.0);
        if histogram.is_empty() {
            return Duration::ZERO;
        }
        Duration::from_micros(histogram.value_at_percentile(percentile))
    }

    /// Upper ends of buckets in seconds, with how many fell into each.
    fn buckets(&self) -> Vec<(f64, u64)> {
        lock(&self.0)
            .iter_log(1, 1.3)
            .filter(|step| step.count_since_last_iteration() > 0)
            .map(|step| (step.value_iterated_to() as f64 / 1e6, step.count_since_last_iteration()))
            .collect()
    }
}

/// A form that panics is a finding, and what it held is still to be read.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
