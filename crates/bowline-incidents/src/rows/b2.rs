//! B2, the fixed pool: workers that die one by one, and jobs that die with them.
//!
//! A service that needs predictable latency had fifty workers behind one queue. It was written by hand, and it was fine until
//! the input was not: a job that panics takes its worker with it. Nobody reads the handle of a worker, so nobody heard. The pool
//! had fifty workers on Monday and forty on Friday; the answers became slower, and one day there were none. A restart helped,
//! and lost what was in the queue each time.
//!
//! The leaky form is that pool: tasks around a shared receiver. One job in fifty panics. Watch the workers go.
//!
//! In the tied form a panic is the job's and not the worker's: it is caught, counted with its place, and the worker takes the
//! next job. The order to stop closes the pool first and waits for what was accepted second, which is one word, `drain`.

use std::sync::Arc;
use std::time::Duration;

use bowline::{Bound as Holds, Cancelled, Overflow, Pool, Workers, scope};
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use super::load::{Books, Event, Stretch, Swing, ms};
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "B2",
    title: "the fixed pool",
    broke: "A job that panicked took its worker with it. Workers became fewer, latency grew until nothing was answered, and a restart lost the queue.",
    must: "As many workers as were stated, from the start to the end, whatever jobs do; those accepted are done before the end.",
    theirs: "50 workers, p95 < 100 ms, memory within 10%",
    load: "3,000 jobs of 10 ms a second for 4 s, of which one in fifty panics, and 100 at once just before the stop (reduced: 1 s; full: 60 s)",
    remedy: "`Pool` catches a panic where the job ends, so the worker goes on; `drain` finishes what was accepted.",
    needs: &[],
    bounds: &[
        Bound::at_most("p95", 0.100, Unit::Seconds).reduced(0.250).broken_by_leaky(),
        Bound::at_least("workers left", 50.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("jobs lost", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("panics uncounted", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("memory swing", 10.0, Unit::Percent).reduced(20.0),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("b2.rs"),
};

const WORKERS: usize = 50;

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let (trial, mut events) = Trial::begin(&lab);
    let (jobs, queue) = mpsc::channel(100);
    let queue = Arc::new(Mutex::new(queue));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                loop {
                    let Some(job) = queue.lock().await.recv().await else { break };
                    render(job).await;
                }
            })
        })
        .collect();
    drop(queue);
    while let Some(event) = events.recv().await {
        if jobs.send(event).await.is_err() {
            break; // no worker is left
        }
    }
    // The order to stop.
    let left = workers.iter().filter(|worker| !worker.is_finished()).count();
    for worker in &workers {
        worker.abort();
    }
    trial.ends(&lab, left, 0)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let (trial, mut events) = Trial::begin(&lab);
    let (workers, queue) = (Workers::fixed(WORKERS), Holds::items(100));
    let (left, panics) = scope("pages", async |s| {
        let pool = Pool::new("render", workers, queue, Overflow::Block).start(s, render);
        while let Some(event) = events.recv().await {
            pool.submit(event).await?;
        }
        // The order to stop.
        let left = pool.stats().workers;
        pool.drain().await?;
        Ok::<_, Cancelled>((left, pool.stats().panicked))
    })
    .await?;
    trial.ends(&lab, left, panics)
}
// ANCHOR_END: tied

async fn render(event: Event) {
    sleep(Duration::from_millis(10)).await;
    if is_bad(event.number) {
        // A panic like any other, but for the lines on the screen: this one does not ask the panic hook.
        std::panic::resume_unwind(Box::new("index out of bounds"));
    }
    event.done();
}

/// One in fifty; none of the last, which come just before the stop.
fn is_bad(number: u64) -> bool {
    number % 50 == 25
}

struct Trial {
    books: Arc<Books>,
    swing: Swing,
}

impl Trial {
    fn begin(lab: &Lab) -> (Self, mpsc::Receiver<Event>) {
        let books = Books::new(lab);
        let lasts = lab.size(ms(1_000), ms(4_000), ms(60_000));
        let steady = Stretch { per_second: 3_000, lasts };
        let burst = Stretch { per_second: 50_000, lasts: ms(2) };
        let events = books.arrivals(&[steady, burst], 64);
        (Self { books, swing: Swing::watch(lab, lasts / 2) }, events)
    }

    fn ends(self, lab: &Lab, workers_left: usize, panics: u64) -> Result<(), Trouble> {
        let bad = (0..self.books.planned()).filter(|number| is_bad(*number)).count() as u64;
        let lost = self.books.planned() - bad - self.books.done.get();
        lab.figure("workers left", workers_left as f64);
        lab.figure("jobs lost", lost as f64);
        lab.figure("panics uncounted", bad.abs_diff(panics) as f64);
        lab.figure("memory swing", self.swing.percent());
        self.books.figures(lab);
        Ok(())
    }
}
