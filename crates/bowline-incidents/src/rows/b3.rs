//! B3, the elastic pool: two hundred workers for one hour a day.
//!
//! A pool was sized for its peak, as pools are. For the rest of the day most of its workers stood around with what each of
//! them holds: a connection, a buffer, a place at the service behind. The machines were busy to a third, and the bill was for the whole.
//! Making it smaller by hand was tried, and ended with the next peak.
//!
//! The leaky form is the pool that is sized for the peak: two hundred workers from the start to the end.
//!
//! The tied form states the range instead. The pool grows by a half when a job has waited for too long, which is what its callers
//! would feel, and lets workers go that a whole window did not need. That these are two different signals is why it does not
//! grow and shrink in turns: the row counts how often it turned round.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use bowline::{Bound as Holds, Overflow, Pool, Workers, scope};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};

use super::load::{Books, Event, Stretch, ms};
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "B3",
    title: "the elastic pool",
    broke: "A pool was sized for its peak, and two thirds of it idled for the rest of the day.",
    must: "A pool of 10 to 200 workers grows when jobs wait and shrinks when workers idle, and does not do both in turns.",
    theirs: "processors busy to 60–80% instead of 30–40%, 30% more work on the same machines",
    load: "jobs of 20 ms: 1,800 a second for 3.5 s, 7,000 for 1.5 s, 1,800 for 3.5 s (reduced: 250, 1,400, 250; full: ten times as long)",
    remedy: "`Workers::elastic(min, max)` grows on queue delay and shrinks on idleness.",
    needs: &[],
    bounds: &[
        // Theirs; sized for the peak they would be busy to a third. Short stretches have more of the growing and shrinking in them.
        Bound::at_least("workers busy", 60.0, Unit::Percent).reduced(45.0).broken_by_leaky(),
        // The job's 20 ms, and the growing: by half from the least to the most are 8 steps, each of a wait of 10 ms that is seen when the
        // next job is taken, 10 ms later. Twice that where others want the processor.
        Bound::at_most("p95", 0.200, Unit::Seconds).reduced(0.400),
        // The load turns round once, after its peak; one correction up and down besides. Reduced, each of the three stretches may have one.
        Bound::at_most("turned round", 3.0, Unit::Count).reduced(7.0),
        Bound::at_least("answered", 100.0, Unit::Percent),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("b3.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let (trial, mut events) = Trial::begin(&lab);
    let (jobs, queue) = mpsc::channel(1_000);
    let queue = Arc::new(Mutex::new(queue));
    let most = trial.most; // what the peak takes
    trial.staff.watch(&lab, move || most);
    for _ in 0..most {
        let (queue, staff) = (Arc::clone(&queue), Arc::clone(&trial.staff));
        tokio::spawn(async move {
            loop {
                let Some(event) = queue.lock().await.recv().await else { break };
                staff.work(event).await;
            }
        });
    }
    while let Some(event) = events.recv().await {
        jobs.send(event).await?;
    }
    drop(jobs);
    trial.ends(&lab).await
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let (trial, mut events) = Trial::begin(&lab);
    scope("service", async |s| {
        let workers = Workers::elastic(trial.least, trial.most)
            .grow_after(Duration::from_millis(10)) // a job may wait so long
            .shrink_after(trial.window); // so long a worker has had nothing to do
        let staff = Arc::clone(&trial.staff);
        let pool =
            Pool::new("render", workers, Holds::items(1_000), Overflow::Block).start(s, move |event| {
                let staff = Arc::clone(&staff);
                async move { staff.work(event).await }
            });
        let watched = pool.clone();
        trial.staff.watch(&lab, move || watched.stats().workers);
        while let Some(event) = events.recv().await {
            pool.submit(event).await?;
        }
        trial.books.all_answered().await;
        trial.staff.rest();
        pool.drain().await
    })
    .await?;
    trial.ends(&lab).await
}
// ANCHOR_END: tied

/// What workers were there, and what they did.
#[derive(Default)]
struct Staff {
    busy_micros: AtomicU64,
    seen: StdMutex<Seen>,
}

/// The number of workers over time.
#[derive(Default)]
struct Seen {
    last: Option<(Instant, usize)>,
    worker_seconds: f64,
    is_over: bool,
    /// Which way it went last, and how often it turned round.
    grew: Option<bool>,
    turned: u64,
}

impl Staff {
    async fn work(&self, event: Event) {
        let began = Instant::now();
        sleep(Duration::from_millis(20)).await;
        self.busy_micros.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        event.done();
    }

    fn watch(self: &Arc<Self>, lab: &Lab, workers: impl Fn() -> usize + Send + Sync + 'static) {
        let staff = Arc::clone(self);
        lab.gauge("workers", move || {
            let workers = workers();
            staff.seen.lock().unwrap_or_else(PoisonError::into_inner).look(workers);
            workers as f64
        });
    }

    /// The load is over: workers that go now have not idled.
    fn rest(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
    }
}

impl Seen {
    fn look(&mut self, workers: usize) {
        let now = Instant::now();
        if self.is_over {
            return;
        }
        if let Some((at, before)) = self.last.replace((now, workers)) {
            self.worker_seconds += before as f64 * (now - at).as_secs_f64();
            if workers != before {
                let grew = workers > before;
                self.turned += u64::from(self.grew.replace(grew).is_some_and(|last| last != grew));
            }
        }
    }
}

struct Trial {
    books: Arc<Books>,
    staff: Arc<Staff>,
    least: usize,
    most: usize,
    window: Duration,
}

impl Trial {
    fn begin(lab: &Lab) -> (Self, mpsc::Receiver<Event>) {
        let (low, high) = lab.size((250, 1_400), (1_800, 7_000), (1_800, 7_000));
        let calm = Stretch { per_second: low, lasts: lab.size(ms(1_000), ms(3_500), ms(35_000)) };
        let peak = Stretch { per_second: high, lasts: lab.size(ms(400), ms(1_500), ms(15_000)) };
        let books = Books::new(lab);
        let events = books.arrivals(&[calm, peak, calm], 64);
        let (least, most) = lab.size((2, 40), (10, 200), (10, 200));
        let window = lab.size(ms(200), ms(400), ms(2_000));
        (Self { books, staff: Arc::default(), least, most, window }, events)
    }

    async fn ends(self, lab: &Lab) -> Result<(), Trouble> {
        self.books.all_answered().await;
        self.staff.rest();
        let seen = self.staff.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = self.staff.busy_micros.load(Ordering::Relaxed) as f64 / 1e6;
        lab.figure("workers busy", 100.0 * busy / seen.worker_seconds);
        lab.figure("turned round", seen.turned as f64);
        self.books.figures(lab);
        Ok(())
    }
}
