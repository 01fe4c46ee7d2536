//! B6, the logistics spikes: a queue without an end, in a container with one.
//!
//! Vans report where they are. The service that takes the reports put them into a channel, and a few tasks wrote them on. The
//! channel was unbounded, which nobody had decided: it is what one gets. Every morning at seven all vans leave at once, and the
//! reports of ten minutes stood in memory. The container was killed at its limit, and started again, empty, in front of the same vans.
//!
//! The leaky form has that channel. Its memory is what comes minus what goes, and no line of it says how much that may be.
//!
//! The tied form says it where the queue is made: so many bytes. At the bound the sender waits, and with it the socket it reads from, and with that the
//! van, which has a memory of its own. What stays in the process is what was configured, whatever comes.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline::{Bound as Holds, Cancelled, Overflow, scope};
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use super::load::{Books, Event, Stretch, ms};
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "B6",
    title: "the logistics spikes",
    broke: "Reports stood in a channel without a bound; at each spike the container exceeded its memory and was killed.",
    must: "Memory under overload is what was configured: a queue is bounded in bytes, and at the bound who sends waits.",
    theirs: "60% less memory",
    load: "1,000 reports of 16 KiB a second, then 20,000 for 1.5 s, at twenty writers that take 1 ms each, in a container of 64 MB (reduced: of 8 KiB, for 0.4 s, in 20 MB; full: for 6 s)",
    remedy: "A queue cannot be made without a bound, and `and_bytes` states it in what runs out.",
    needs: &[],
    bounds: &[
        Bound::at_most("memory peak", 64e6, Unit::Bytes).reduced(20e6).broken_by_leaky(),
        Bound::at_most("bytes waiting", 24e6, Unit::Bytes).reduced(12e6).broken_by_leaky(),
        Bound::at_least("answered", 100.0, Unit::Percent),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("b6.rs"),
};

const WRITERS: usize = 20;

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let trial = Trial::new(&lab);
    let mut vans = trial.vans();
    let (reports, queue) = mpsc::unbounded_channel();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..WRITERS {
        let (queue, takes) = (Arc::clone(&queue), trial.takes);
        tokio::spawn(async move {
            loop {
                let Some(report) = queue.lock().await.recv().await else { break };
                write(report, takes).await;
            }
        });
    }
    while let Some(report) = vans.recv().await {
        reports.send(report)?;
    }
    drop(reports);
    trial.ends(&lab).await
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let trial = Trial::new(&lab);
    let mut vans = trial.vans();
    scope("positions", async |s| {
        let room = Holds::items(10_000).and_bytes(trial.max_bytes, |report: &Event| report.body.len());
        let (reports, queue) = s.queue("reports", room, Overflow::Block);
        let takes = trial.takes;
        for _ in 0..WRITERS {
            s.spawn_with("writer", queue.clone(), async move |_cx, queue| {
                while let Some(report) = queue.recv().await? {
                    write(report, takes).await;
                }
                Ok(())
            });
        }
        drop(queue);
        while let Some(report) = vans.recv().await {
            reports.send(report).await?; // no room: the van waits
        }
        Ok::<_, Cancelled>(())
    })
    .await?;
    trial.ends(&lab).await
}
// ANCHOR_END: tied

async fn write(report: Event, takes: Duration) {
    black_box(&report.body);
    sleep(takes).await;
    report.done();
}

struct Trial {
    books: Arc<Books>,
    stretches: [Stretch; 2],
    report_bytes: usize,
    max_bytes: usize,
    takes: Duration,
    waiting: Arc<AtomicU64>,
}

impl Trial {
    fn new(lab: &Lab) -> Self {
        let calm = Stretch { per_second: 1_000, lasts: lab.size(ms(200), ms(1_000), ms(2_000)) };
        let spike = Stretch { per_second: 20_000, lasts: lab.size(ms(400), ms(1_500), ms(6_000)) };
        let report_bytes = lab.size(8 << 10, 16 << 10, 16 << 10);
        let (books, waiting) = (Books::new(lab), Arc::new(AtomicU64::new(0)));
        // What was sent and is not written: in the queue, and a thousand in the sockets.
        let (sent, most) = (Arc::clone(&books), Arc::clone(&waiting));
        lab.gauge("bytes waiting", move || {
            let bytes = sent.waiting() * report_bytes as u64;
            most.fetch_max(bytes, Ordering::Relaxed);
            bytes as f64
        });
        let max_bytes = lab.size(512 << 10, 4 << 20, 4 << 20);
        Self { books, stretches: [calm, spike], report_bytes, max_bytes, takes: ms(1), waiting }
    }

    fn vans(&self) -> mpsc::Receiver<Event> {
        self.books.arrivals(&self.stretches, self.report_bytes)
    }

    async fn ends(self, lab: &Lab) -> Result<(), Trouble> {
        self.books.all_answered().await;
        lab.figure("bytes waiting", self.waiting.load(Ordering::Relaxed) as f64);
        self.books.figures(lab);
        Ok(())
    }
}
