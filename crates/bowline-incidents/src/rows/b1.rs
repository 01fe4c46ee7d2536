//! B1, the viral event: a task per event, and fifty times as many events.
//!
//! A service stored events in a database, and spawned a task for each. For a year there were a thousand a minute. Then
//! something went viral, and there were fifty thousand. The database took as many at a time as it had connections; whoever
//! came when all were taken waited, in a task of its own with the body of its event in its arms. There were 120,000 of
//! them in the end, 8 GB, and 40% of the processor went into scheduling tasks that could do nothing but wait. Nobody was
//! refused, so nobody slowed down, and every event was late.
//!
//! The leaky form has that line: `tokio::spawn(store(event))`. It has no place at which it could say "no": the queue in
//! front of the database is the scheduler's, and the scheduler's has no end.
//!
//! The tied form does the same work in a pool: as many workers as there are connections, half as many events in front of them,
//! and a policy for the one that comes then, which is to be refused. Its sender hears that at once, while there is still something
//! it can do about it, and those that were accepted are done in time.
//!
//! The word that makes the difference is `Overflow::Reject`. It is not possible to make a [`Pool`] without an answer to that question.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Bound as Holds, Cancelled, Overflow, Pool, Workers, scope};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::load::{Books, Event, Stretch, ms};
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "B1",
    title: "the viral event",
    broke: "A task was spawned for each event. Fifty times as many came: 120,000 tasks, 8 GB, 40% of the processor in the scheduler.",
    must: "A fixed pool with a bounded queue does the work; what is too much is refused, counted and told to its sender at once.",
    theirs: "100,000 events a minute, p95 < 50 ms, < 3 GB",
    load: "1,000 events of 8 KiB a second, then 50,000, for which the database takes 200 at a time of 10 ms each (reduced: 12,000, 50 at a time; full: 3,000, then 150,000, 1 ms each, of which 100,000 a second have to be done)",
    remedy: "`Pool` states workers, room and what happens when there is none (`Overflow::Reject`) before it takes the first job.",
    needs: &[],
    bounds: &[
        Bound::at_most("p95", 0.050, Unit::Seconds).reduced(0.250).broken_by_leaky(),
        Bound::at_most("tasks peak", 205.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("memory peak", 300e6, Unit::Bytes).reduced(10e6).broken_by_leaky(),
        Bound::at_least("of the rate", 100.0, Unit::Percent),
        Bound::at_least("answered", 100.0, Unit::Percent),
        Bound::at_most("refused uncounted", 0.0, Unit::Count),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("b1.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let (trial, mut events) = Trial::begin(&lab);
    let database = Database::new(&trial);
    while let Some(event) = events.recv().await {
        let database = Arc::clone(&database);
        tokio::spawn(async move {
            database.store(&event).await;
            event.done();
        });
    }
    trial.ends(&lab, 0).await
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let (trial, mut events) = Trial::begin(&lab);
    let database = Database::new(&trial);
    let refused = scope("ingest", async |s| {
        let (workers, queue) = (Workers::fixed(trial.connections), Holds::items(trial.connections / 2));
        let pool = Pool::new("event", workers, queue, Overflow::Reject).start(s, move |event: Event| {
            let database = Arc::clone(&database);
            async move {
                database.store(&event).await;
                event.done();
            }
        });
        while let Some(event) = events.recv().await {
            if let Err(full) = pool.try_submit(event) {
                full.into_inner().refused(); // "503, try again later", and its sender can
            }
        }
        pool.drain().await?;
        Ok::<_, Cancelled>(pool.stats().refused)
    })
    .await?;
    trial.ends(&lab, refused).await
}
// ANCHOR_END: tied

/// The database both forms store into: so many connections, and so long for each event.
struct Database {
    connections: Semaphore,
    takes: Duration,
}

impl Database {
    fn new(trial: &Trial) -> Arc<Self> {
        Arc::new(Self { connections: Semaphore::new(trial.connections), takes: trial.takes })
    }

    async fn store(&self, event: &Event) {
        let _connection = self.connections.acquire().await;
        black_box(&event.body);
        sleep(self.takes).await;
    }
}

/// The sizes of one run, and its measurements.
struct Trial {
    books: Arc<Books>,
    connections: usize,
    takes: Duration,
    /// Events a second that have to be done while it is viral.
    rate: u32,
    viral: Stretch,
    viral_from: Instant,
}

impl Trial {
    fn begin(lab: &Lab) -> (Self, mpsc::Receiver<Event>) {
        const BODY_BYTES: usize = 8192;
        let per_second = lab.size(12_000, 50_000, 150_000);
        let calm = Stretch { per_second: per_second / 50, lasts: lab.size(ms(200), ms(1000), ms(2000)) };
        let viral = Stretch { per_second, lasts: lab.size(ms(500), ms(2000), ms(5000)) };
        let books = Books::new(lab);
        let viral_from = Instant::now() + calm.lasts;
        let events = books.arrivals(&[calm, viral], BODY_BYTES);
        let trial = Self {
            books,
            connections: lab.size(50, 200, 200),
            takes: lab.size(ms(10), ms(10), ms(1)),
            rate: lab.size(1_000, 10_000, 100_000),
            viral,
            viral_from,
        };
        (trial, events)
    }

    async fn ends(self, lab: &Lab, counted: u64) -> Result<(), Trouble> {
        self.books.all_answered().await;
        let viral =
            (self.books.done.get() as f64) / self.viral_from.elapsed().max(self.viral.lasts).as_secs_f64();
        lab.figure("done per second", viral);
        lab.figure("of the rate", 100.0 * viral / f64::from(self.rate));
        lab.figure("refused uncounted", self.books.refused.get().abs_diff(counted) as f64);
        self.books.figures(lab);
        Ok(())
    }
}
