//! B5, the images: small ones, huge ones, and a task for each.
//!
//! A service made thumbnails, in a task per upload. Most pictures were small. Some had forty megapixels, and on the day when many
//! of those came together the memory followed the sum of what was uploaded, up to the limit of the container. And since decoding
//! computes and never awaits, it held the threads that should have answered everybody else: even a health check was late.
//!
//! The leaky form loads each picture in its task and decodes it there. All are loaded before the first is decoded.
//!
//! The tied form gives the work to a lane of threads of its own, and is admitted by weight: so many bytes at a time, however
//! many pictures that are. A picture is loaded by the job that decodes it, so what weighs is only there while it counts.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline::{Bound as Holds, Cancelled, CollectAll, CpuPool, for_each, scope};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::lab::{Lab, Latency, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "B5",
    title: "images",
    broke: "A task per picture, of uneven sizes: memory was the sum of all uploads, and decoding held the threads that answer everybody else.",
    must: "Work that computes runs on threads of its own and is admitted by weight: memory is flat, and the service answers meanwhile.",
    theirs: "processors busy to 85%, flat memory",
    load: "200 pictures of 0.25 to 8 MB, 25 million bytes to decode a second and thread; a request every 5 ms besides (reduced: 160, of up to 2 MB; full: 2,000)",
    remedy: "`CpuPool` runs jobs off the async threads; `Bound::items(…).and_bytes(…)` admits them by weight.",
    needs: &[],
    bounds: &[
        // What is admitted by weight (25 MB; reduced 4), and about as much again for code, stacks and what the allocator keeps.
        Bound::at_most("memory peak", 48e6, Unit::Bytes).reduced(16e6).broken_by_leaky(),
        // Who waits for the pictures waits for all of them: 269 MB of 40 ns on two threads are 5.4 s (reduced: 51 MB, 1 s). Who does
        // not waits for a turn of the processor: a fiftieth of that, and a quarter where others want the processor as well.
        Bound::at_most("p99 of other requests", 0.100, Unit::Seconds).reduced(0.250).broken_by_leaky(),
        // Theirs. Of a second, 50 ms of settings and the last large picture are a greater part.
        Bound::at_least("threads busy", 85.0, Unit::Percent).reduced(60.0),
        Bound::at_least("pictures", 100.0, Unit::Percent),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("b5.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let trial = Trial::new(&lab);
    let pinging = tokio::spawn(requests(Arc::clone(&trial)));
    let mut uploads = JoinSet::new();
    for picture in trial.pictures() {
        let trial = Arc::clone(&trial);
        uploads.spawn(async move {
            let loaded = picture.load();
            settings_of_its_owner().await;
            trial.decode(&loaded);
        });
    }
    while uploads.join_next().await.is_some() {}
    pinging.abort();
    trial.figures(&lab)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let trial = Trial::new(&lab);
    scope("uploads", async |s| {
        s.spawn_daemon("requests", requests(Arc::clone(&trial)));
        let decoding = Arc::clone(&trial);
        let lane = CpuPool::new(
            "decode",
            Holds::items(16).and_bytes(trial.budget, |picture: &Picture| picture.bytes),
        )
        .threads(THREADS)
        .start(s, move |picture| decoding.decode(&picture.load()));
        let outcome = for_each("upload", CollectAll.at_most(32), trial.pictures(), |picture| {
            let lane = lane.clone();
            async move {
                settings_of_its_owner().await;
                lane.call(picture).await
            }
        })
        .await;
        lab.figure("uploads failed", outcome.counts().failed as f64);
        Ok::<_, Cancelled>(())
    })
    .await?;
    trial.figures(&lab)
}
// ANCHOR_END: tied

const THREADS: usize = 2;

/// A query to somebody else.
async fn settings_of_its_owner() {
    sleep(Duration::from_millis(50)).await;
}

/// Requests of others to the same service: how late they are answered.
async fn requests(trial: Arc<Trial>) -> Result<Infallible, Cancelled> {
    loop {
        sleep_until(trial.next_request()).await;
        trial.answers_a_request();
    }
}

/// A picture that was not loaded yet.
#[derive(Clone, Copy)]
struct Picture {
    bytes: usize,
}

impl Picture {
    fn load(self) -> Vec<u8> {
        vec![7; self.bytes]
    }
}

struct Trial {
    others: Latency,
    /// Requests of others that were answered.
    answered: AtomicU64,
    pictures: usize,
    largest: usize,
    budget: usize,
    began: Instant,
    busy_micros: AtomicU64,
    decoded: AtomicU64,
}

impl Trial {
    fn new(lab: &Lab) -> Arc<Self> {
        let (pictures, largest, budget) =
            lab.size((160, 2 << 20, 4 << 20), (200, 8 << 20, 24 << 20), (2_000, 8 << 20, 24 << 20));
        let [answered, busy_micros, decoded] = std::array::from_fn(|_| AtomicU64::new(0));
        let (others, began) = (lab.latency("other requests"), Instant::now());
        Arc::new(Self { others, answered, pictures, largest, budget, began, busy_micros, decoded })
    }

    /// When the next request of others comes, or came.
    fn next_request(&self) -> Instant {
        self.began + Duration::from_micros(5_000 * (self.answered.load(Ordering::Relaxed) + 1))
    }

    fn answers_a_request(&self) {
        self.others.record(self.next_request().elapsed());
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// One in eight is of the largest kind, the others have a thirty-second of that.
    fn pictures(&self) -> impl Iterator<Item = Picture> + use<> {
        let largest = self.largest;
        (0..self.pictures).map(move |n| Picture { bytes: if n % 8 == 0 { largest } else { largest / 32 } })
    }

    /// Computes for as long as a decoder would, by the clock: 40 ms for a megabyte, on any machine.
    fn decode(&self, loaded: &[u8]) {
        let began = Instant::now();
        let takes = Duration::from_nanos(loaded.len() as u64 * 40);
        while began.elapsed() < takes {
            black_box(loaded.iter().take(65_536).map(|byte| u64::from(*byte)).sum::<u64>());
        }
        self.busy_micros.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        self.decoded.fetch_add(1, Ordering::Relaxed);
    }

    fn figures(&self, lab: &Lab) -> Result<(), Trouble> {
        let busy = self.busy_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let now = Instant::now();
        let threads = (now - self.began).as_secs_f64() * THREADS as f64;
        // Who has no answer by now has waited for so long: the task that answers may not have had a turn since the first picture.
        while self.next_request() <= now {
            self.answers_a_request();
        }
        lab.figure("threads busy", 100.0 * busy / threads);
        lab.figure("p99 of other requests", self.others.percentile(99.0).as_secs_f64());
        lab.figure("pictures", 100.0 * self.decoded.load(Ordering::Relaxed) as f64 / self.pictures as f64);
        Ok(())
    }
}
