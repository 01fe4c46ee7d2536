//! E1, the supervisor: a worker that is there, and does nothing.
//!
//! A worker hung. It had not crashed: it waited for an answer that nobody would ever send, and each 100 ms of that cost money. What
//! restarted workers saw a worker that was alive. Seven times in a month somebody noticed in the evening, from the figures.
//!
//! The leaky form restarts its worker whenever that ends. A worker that hangs does not end.
//!
//! In the tied form the worker says that it gets on, once per turn of its loop. Who misses three beats is taken for hung: the
//! incarnation is cancelled, an alert says which child and for how long, and the next one starts when the last has let go of
//! everything. The supervisor only ever asks and is told, so no child can hold it up.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline::{AlertKind, Backoff, Cancelled, Child, Restarts, Strategy, Supervisor, on_alert, scope};
use tokio::time::{Instant, sleep};

use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "E1",
    title: "the supervisor",
    broke: "A worker waited for an answer that never came. What restarts workers restarts those that end, and this one did not.",
    must: "A worker that misses three beats is named and started again; nothing a child does holds up its supervisor.",
    theirs: "7 hangs found in a month",
    load: "a worker that hangs every ten turns, 7 times, with a beat of 100 ms (reduced: 2 times, 150 ms; full: 100 times)",
    remedy: "`Child::heartbeat` says how often a child gets on, and `Supervisor` starts it again when it does not.",
    needs: &[],
    bounds: &[
        Bound::at_least("hangs ended", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_least("hangs counted", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_least("alerts", 1.0, Unit::Count).broken_by_leaky(),
        // That three were missed is known when the third is over; the fourth must not be missed. A busy machine may double each.
        Bound::at_most("beats of standstill", 4.0, Unit::Count).reduced(8.0).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("e1.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let prices = Prices::new(&lab);
    let restarted = Arc::clone(&prices);
    tokio::spawn(async move {
        loop {
            let feed = Arc::clone(&restarted);
            let worker = tokio::spawn(async move {
                feed.begins();
                loop {
                    feed.turn().await;
                }
            });
            let _ = worker.await; // it has panicked or returned: once more
        }
    });
    sleep(prices.beat * 10 * prices.hangs).await; // until somebody looks at the figures
    prices.figures(&lab, 0)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let prices = Prices::new(&lab);
    let alerts = lab.counter("alerts");
    let hung = alerts.clone();
    let _hook =
        on_alert(move |alert| hung.add(u64::from(alert.kind == AlertKind::ChildHung && alert.raised)));
    let feeds = scope("service", async |s| {
        let feed = Arc::clone(&prices);
        let worker = Child::new("prices", move |life| {
            let feed = Arc::clone(&feed);
            async move {
                feed.begins();
                loop {
                    feed.turn().await;
                    life.beat();
                }
            }
        });
        let feeds = Supervisor::new("feeds", Strategy::OneForOne)
            .intensity(Restarts::at_most(prices.hangs + 1))
            .backoff(Backoff::exponential(Duration::from_millis(1), Duration::from_millis(10)))
            .child_with(worker.heartbeat(prices.beat))
            .start(s);
        if let Some(worker) = feeds.child("prices") {
            let _ = worker.wait_beyond(u64::from(prices.hangs)).await;
        }
        Ok::<_, Cancelled>(feeds.stats())
    })
    .await?;
    prices.figures(&lab, feeds.children.iter().map(|child| child.hangs).sum())
}
// ANCHOR_END: tied

/// The feed a worker follows, and what is seen of the worker from outside.
struct Prices {
    hangs: u32,
    beat: Duration,
    lives: AtomicU64,
    turns: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    hung: Option<Instant>,
    ended: u32,
    longest: Duration,
}

impl Prices {
    fn new(lab: &Lab) -> Arc<Self> {
        let (hangs, beat) = lab.size((2, 150), (7, 100), (100, 100));
        let beat = Duration::from_millis(beat);
        let (lives, turns) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { hangs, beat, lives, turns, seen: Mutex::default() })
    }

    /// A life of the worker begins.
    fn begins(&self) {
        self.lives.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hung) = seen.hung.take() {
            seen.ended += 1;
            seen.longest = seen.longest.max(hung.elapsed());
        }
    }

    /// A turn of its loop. Every tenth waits for an answer that will not come, as long as there are hangs to be had.
    async fn turn(&self) {
        sleep(Duration::from_millis(5)).await;
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
        if turn.is_multiple_of(10) && self.lives.load(Ordering::Relaxed) <= u64::from(self.hangs) {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).hung = Some(Instant::now());
            pending::<()>().await;
        }
    }

    fn figures(&self, lab: &Lab, counted: u64) -> Result<(), Trouble> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (hangs, still) = (f64::from(self.hangs), seen.hung.map_or(Duration::ZERO, |hung| hung.elapsed()));
        lab.figure("hangs ended", 100.0 * f64::from(seen.ended) / hangs);
        lab.figure("hangs counted", 100.0 * counted as f64 / hangs);
        lab.figure("alerts", lab.counter("alerts").get() as f64);
        lab.figure("beats of standstill", seen.longest.max(still).div_duration_f64(self.beat));
        Ok(())
    }
}
