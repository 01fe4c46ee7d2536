//! The load of rows whose work comes from outside, at its own times, whether or not the earlier is done.
//!
//! It is made by a thread of its own, so its tasks and its waits are none of the form's, and a form that falls behind is not
//! spared: latency counts from when an event was *due*, not from when somebody got round to taking it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::lab::{Counter, Lab, Latency};
use crate::sample::resident_bytes;

/// How long senders wait for answers after the last event: longer than any of the bounds, and short enough for a row.
const PATIENCE: Duration = Duration::from_secs(6);

/// What becomes of the events of one form.
pub(crate) struct Books {
    offered: Counter,
    /// How many there will be in all.
    planned: AtomicU64,
    pub(crate) done: Counter,
    pub(crate) refused: Counter,
    pub(crate) latency: Latency,
}

/// Something that is to be worked off, and whose sender is to be told what became of it.
pub(crate) struct Event {
    /// Counted from 0.
    pub(crate) number: u64,
    pub(crate) body: Vec<u8>,
    due: Instant,
    books: Arc<Books>,
}

impl Event {
    /// Tells its sender that it is done.
    pub(crate) fn done(self) {
        self.books.latency.record(self.due.elapsed());
        self.books.done.add(1);
    }

    /// Tells its sender that it was not accepted.
    pub(crate) fn refused(self) {
        self.books.refused.add(1);
    }
}

/// So many per second, for so long.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) per_second: u32,
    pub(crate) lasts: Duration,
}

impl Stretch {
    fn events(&self) -> u64 {
        (f64::from(self.per_second) * self.lasts.as_secs_f64()).round() as u64
    }
}

impl Books {
    pub(crate) fn new(lab: &Lab) -> Arc<Self> {
        let (offered, done) = (lab.counter("offered"), lab.counter("done"));
        let (refused, latency) = (lab.counter("refused"), lab.latency("answer"));
        Arc::new(Self { offered, planned: AtomicU64::new(0), done, refused, latency })
    }

    /// Begins the load: events with bodies of `bytes`, until the last stretch is over or the receiver is gone.
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread beside the runtimes, as the load comes from elsewhere"
    )]
    pub(crate) fn arrivals(self: &Arc<Self>, stretches: &[Stretch], bytes: usize) -> mpsc::Receiver<Event> {
        /// As long as the backlog of a socket.
        const BACKLOG: usize = 1024;
        let (events, received) = mpsc::channel(BACKLOG);
        self.planned.store(stretches.iter().map(Stretch::events).sum(), Ordering::Relaxed);
        let (books, stretches) = (Arc::clone(self), stretches.to_vec());
        std::thread::spawn(move || {
            let (mut number, mut began) = (0, Instant::now());
            for stretch in stretches {
                let all = stretch.events();
                let mut sent = 0;
                while sent < all {
                    let now = Instant::now().saturating_duration_since(began).min(stretch.lasts);
                    let due = ((f64::from(stretch.per_second) * now.as_secs_f64()).round() as u64).min(all);
                    while sent < due {
                        let due = began + stretch.lasts.mul_f64(sent as f64 / all as f64);
                        let event = Event { number, body: vec![1; bytes], due, books: Arc::clone(&books) };
                        books.offered.add(1);
                        if events.blocking_send(event).is_err() {
                            return;
                        }
                        (sent, number) = (sent + 1, number + 1);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                began += stretch.lasts;
            }
        });
        received
    }

    /// How many were sent and not answered yet.
    pub(crate) fn waiting(&self) -> u64 {
        self.offered.get().saturating_sub(self.done.get() + self.refused.get())
    }

    /// How many events there will have been.
    pub(crate) fn planned(&self) -> u64 {
        self.planned.load(Ordering::Relaxed)
    }

    /// Waits until every event was answered, or until those who sent them have lost patience.
    pub(crate) async fn all_answered(&self) {
        let gone = Instant::now() + PATIENCE;
        while self.done.get() + self.refused.get() < self.planned() && Instant::now() < gone {
            sleep(Duration::from_millis(2)).await;
        }
        // Whoever has no answer by now has waited for at least so long.
        for _ in self.done.get() + self.refused.get()..self.planned() {
            self.latency.record(PATIENCE);
        }
    }

    /// Records what every such row asks for.
    pub(crate) fn figures(&self, lab: &Lab) {
        let (done, refused) = (self.done.get(), self.refused.get());
        let planned = self.planned() as f64;
        lab.figure("answered", 100.0 * (done + refused) as f64 / planned);
        lab.figure("refused", 100.0 * refused as f64 / planned);
        lab.figure("p50", self.latency.percentile(50.0).as_secs_f64());
        lab.figure("p95", self.latency.percentile(95.0).as_secs_f64());
        lab.figure("p99", self.latency.percentile(99.0).as_secs_f64());
    }
}

/// How far the memory of the process goes up and down, once it has warmed up.
pub(crate) struct Swing(Arc<Mutex<Option<(f64, f64)>>>);

impl Swing {
    /// Watches it from `warm` on, until the form ends.
    pub(crate) fn watch(lab: &Lab, warm: Duration) -> Self {
        let seen: Arc<Mutex<Option<(f64, f64)>>> = Arc::default();
        let (watched, began) = (Arc::clone(&seen), Instant::now());
        lab.gauge("resident", move || {
            let now = resident_bytes() as f64;
            if began.elapsed() >= warm {
                let mut seen = watched.lock().unwrap_or_else(PoisonError::into_inner);
                let (low, high) = seen.unwrap_or((now, now));
                *seen = Some((now.min(low), now.max(high)));
            }
            now
        });
        Self(seen)
    }

    /// How far it went from its middle, in percent of that.
    pub(crate) fn percent(&self) -> f64 {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.map_or(0.0, |(low, high)| 100.0 * (high - low) / (high + low))
    }
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
