//! B7, the sensors: a hundred and fifty channels in one select.
//!
//! A gateway had a channel for each of its sensors, and a loop that waited for all of them at once. Each reading woke the loop,
//! and each time it woke it asked a hundred and fifty channels: 15% of the processor went into channels of which all but one were
//! empty, and all the worse the more sensors there were.
//!
//! The leaky form is that loop, with the wake-up and the question to each.
//!
//! The tied form has one queue with a lane for each source. A reading is handed over at the same price whether there are
//! ten sources or ten thousand, each has room of its own, and they are taken in turns: one that floods fills its own lane.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use bowline::{Bound as Holds, Cancelled, Overflow, scope};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::load::ms;
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "B7",
    title: "the sensors",
    broke: "A loop waited for 150 channels at once and asked all of them at each reading: 15% of the processor in channel operations.",
    must: "Many named sources come in one bounded queue, at the price of one, and are taken in turns.",
    theirs: "15% of the processor in channel operations, then 3%",
    load: "150 sensors, of which one after the other sends a reading that takes 20 µs to work off, for 3 s (reduced: 0.5 s; full: 30 s)",
    remedy: "`Cx::merge` makes one queue with a lane for each source, received in turns.",
    needs: &[],
    bounds: &[
        Bound::at_most("asking", 3.0, Unit::Percent)
            .reduced(if cfg!(debug_assertions) { 40.0 } else { 10.0 })
            .broken_by_leaky(),
        Bound::at_least("worked off", 99.0, Unit::Percent),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("b7.rs"),
};

// ANCHOR: leaky
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let mut trial = Trial::new(&lab);
    let (senders, mut sensors): (Vec<_>, Vec<_>) = (0..SENSORS).map(|_| mpsc::channel(64)).unzip();
    trial.begin(senders.into_iter().map(|sensor| move |reading| sensor.try_send(reading).is_ok()));
    let mut next = 0;
    loop {
        // `select`: the first that has something, beginning after the one before.
        let select = poll_fn(|cx| {
            for _ in 0..sensors.len() {
                next = (next + 1) % sensors.len();
                match sensors[next].poll_recv(cx) {
                    Poll::Ready(Some(reading)) => return Poll::Ready(Some(reading)),
                    Poll::Ready(None) => drop(sensors.swap_remove(next)),
                    Poll::Pending => {}
                }
            }
            if sensors.is_empty() { Poll::Ready(None) } else { Poll::Pending }
        });
        let Some(reading) = trial.asking(select).await else { break };
        trial.work_off(reading);
    }
    trial.figures(&lab)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let mut trial = Trial::new(&lab);
    scope("gateway", async |s| {
        let (sources, readings) = s.cx().merge("readings", Holds::items(64), Overflow::Reject);
        let sources = sources.free(); // to the drivers, which are no tasks of ours
        let sensors = (0..SENSORS).map(|n| sources.source(format!("sensor {n}")));
        trial.begin(sensors.map(|sensor| move |reading| sensor.try_send(reading).is_ok()));
        drop(sources);
        while let Some(reading) = trial.asking(readings.recv()).await? {
            trial.work_off(reading.item);
        }
        Ok::<_, Cancelled>(())
    })
    .await?;
    trial.figures(&lab)
}
// ANCHOR_END: tied

const SENSORS: usize = 150;

/// A look at 150 channels takes some microseconds, ten times as many where nothing is optimized. What takes longer was interrupted.
const INTERRUPTED: Duration = Duration::from_micros(if cfg!(debug_assertions) { 200 } else { 25 });

/// What working off one reading takes.
const TAKES: Duration = Duration::from_micros(20);

struct Trial {
    lasts: Duration,
    asked: Duration,
    worked: Duration,
    taken: Arc<AtomicU64>,
    sent: Option<JoinHandle<u64>>,
}

impl Trial {
    fn new(lab: &Lab) -> Self {
        let lasts = lab.size(ms(500), ms(3_000), ms(30_000));
        Self { lasts, asked: Duration::ZERO, worked: Duration::ZERO, taken: Arc::default(), sent: None }
    }

    /// The drivers of the sensors: a thread that hands over what one of them has measured, and the next when that is worked off. So
    /// the loop is asleep before each reading, on a busy machine too: a backlog would hide what waking up costs.
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread beside the runtimes, as readings come from elsewhere"
    )]
    fn begin<S>(&mut self, sensors: impl Iterator<Item = S>)
    where
        S: Fn(usize) -> bool + Send + 'static,
    {
        let (sensors, lasts, taken) = (sensors.collect::<Vec<_>>(), self.lasts, Arc::clone(&self.taken));
        self.sent = Some(std::thread::spawn(move || {
            let (began, mut sent) = (Instant::now(), 0);
            while began.elapsed() < lasts {
                // In no order that the loop could know.
                let sensor = (sent as usize).wrapping_mul(7919) % sensors.len();
                if sensors[sensor](sensor) {
                    sent += 1;
                }
                while taken.load(Ordering::Acquire) < sent && began.elapsed() < lasts {
                    std::thread::yield_now();
                }
            }
            sent
        }));
    }

    /// Waits, and adds up what the asking costs: the time inside of polls.
    async fn asking<F: Future>(&mut self, wait: F) -> F::Output {
        let mut wait = pin!(wait);
        poll_fn(|cx| {
            let began = Instant::now();
            let answer = wait.as_mut().poll(cx);
            // Longer is no question but somebody else's time slice.
            self.asked += Some(began.elapsed()).filter(|took| *took < INTERRUPTED).unwrap_or_default();
            answer
        })
        .await
    }

    fn work_off(&mut self, sensor: usize) {
        let began = Instant::now();
        let mut sum = 0_u64;
        while began.elapsed() < TAKES {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(sensor as u64));
        }
        self.worked += TAKES;
        self.taken.fetch_add(1, Ordering::Release);
    }

    fn figures(self, lab: &Lab) -> Result<(), Trouble> {
        let sent = self.sent.and_then(|thread| thread.join().ok()).ok_or("the drivers have panicked")?;
        let (asked, worked) = (self.asked.as_secs_f64(), self.worked.as_secs_f64());
        lab.figure("asking", 100.0 * asked / (asked + worked));
        lab.figure("readings", sent as f64);
        lab.figure("worked off", 100.0 * self.taken.load(Ordering::Acquire) as f64 / sent.max(1) as f64);
        Ok(())
    }
}
