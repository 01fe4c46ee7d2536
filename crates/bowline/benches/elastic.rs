//! A day of load on an elastic pool and on a fixed one of peak size, in simulated time.
//!
//! `cargo bench -p bowline --bench elastic`. The clock is tokio's, paused: the same day each time, in seconds. What is counted
//! is what an operator pays and what a caller feels: workers held and used, how often their number changed, and how long jobs waited.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline::{Bound, Cancelled, Overflow, Pool, Runner, Workers, scope};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// What a job takes on average; how long exactly is drawn from an exponential distribution.
const JOB: Duration = Duration::from_secs(2);
const MIN: usize = 10;
const PEAK: usize = 200;
/// Room in the queue: ten seconds of work at the peak.
const ROOM: usize = 1_000;

fn main() {
    println!(
        "A day: {MIN} to {PEAK} workers, jobs of {JOB:?} on average, 25% to 85% of the peak from night to day, two bursts to 97%\n"
    );
    println!(
        "| | workers, mean | utilisation | changes per hour | at most in an hour | jobs | wait p50 | p95 | p99 | refused |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (name, workers) in [
        ("fixed, of peak size", Workers::fixed(PEAK)),
        ("fixed, of the day's mean", Workers::fixed(PEAK * 55 / 100)),
        ("**elastic**", Workers::elastic(MIN, PEAK)),
    ] {
        let (day, report) = Runner::new("day").run_paused(async move {
            bowline::on_alert(|_| {}).forever(); // a queue that is half full is what the day is about
            day(workers).await
        });
        assert!(report.is_clean(), "{report}");
        println!("| {name} | {} |", day.expect("nobody stops it"));
    }
}

/// How busy the pool is to be at this time of the day, as a share of its peak.
fn load(at: Duration) -> f64 {
    let hours = at.as_secs_f64() / 3_600.0;
    // Lowest at four in the morning, highest at four in the afternoon, with a second rise in the evening.
    let day = 0.55 - 0.27 * ((hours - 4.0) / 24.0 * TAU).cos() + 0.05 * (hours / 6.0 * TAU).sin();
    let burst = [9.5, 20.0].iter().any(|from| (*from..from + 1.0 / 6.0).contains(&hours));
    if burst { 0.97 } else { day.min(0.85) }
}

async fn day(workers: Workers) -> String {
    let waits = Arc::new(Waits::default());
    let noted = Arc::clone(&waits);
    let began = Instant::now();
    let books = scope("day", async |s| {
        let pool = Pool::new("work", workers, Bound::items(ROOM), Overflow::Reject).start(
            s,
            move |(submitted, takes): (Instant, Duration)| {
                noted.note(submitted.elapsed());
                tokio::time::sleep(takes)
            },
        );
        let watched = pool.clone();
        let watch = s.spawn("watch", async move {
            let mut books = Books::default();
            while began.elapsed() < DAY {
                bowline::sleep(Duration::from_secs(1)).await?;
                let stats = watched.stats();
                books.note(began.elapsed(), stats.workers, stats.running);
            }
            Ok(books)
        });
        let mut random = Random(7);
        while began.elapsed() < DAY {
            #[expect(clippy::cast_precision_loss, reason = "it is 200")]
            let per_second = load(began.elapsed()) * PEAK as f64 / JOB.as_secs_f64();
            bowline::sleep(Duration::from_secs_f64(random.exponential() / per_second)).await?;
            let takes = JOB.mul_f64(random.exponential());
            if pool.try_submit((Instant::now(), takes)).is_err() {
                waits.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        pool.drain().await?;
        watch.await
    })
    .await;
    let books = books.unwrap_or_else(|cancelled: Cancelled| panic!("{cancelled}"));
    format!("{books} | {waits}")
}

#[derive(Default)]
struct Books {
    worker_seconds: u64,
    busy_seconds: u64,
    seconds: u64,
    workers: usize,
    changes: [u32; 24],
}

impl Books {
    fn note(&mut self, at: Duration, workers: usize, busy: usize) {
        self.seconds += 1;
        self.worker_seconds += workers as u64;
        self.busy_seconds += busy as u64;
        if self.workers != workers && self.seconds > 1 {
            let hour = usize::try_from(at.as_secs() / 3_600).unwrap_or(usize::MAX).min(23);
            self.changes[hour] += 1;
        }
        self.workers = workers;
    }
}

impl std::fmt::Display for Books {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let changes: u32 = self.changes.iter().sum();
        write!(
            f,
            "{:.0} | {:.0}% | {:.1} | {}",
            self.worker_seconds as f64 / self.seconds as f64,
            100.0 * self.busy_seconds as f64 / self.worker_seconds as f64,
            f64::from(changes) / 24.0,
            self.changes.iter().max().unwrap_or(&0),
        )
    }
}

/// How long jobs waited, in milliseconds; the last counts all that are longer.
struct Waits {
    millis: Box<[AtomicU64]>,
    refused: AtomicU64,
}

impl Default for Waits {
    fn default() -> Self {
        Self { millis: (0..20_000).map(|_| AtomicU64::new(0)).collect(), refused: AtomicU64::new(0) }
    }
}

impl Waits {
    fn note(&self, waited: Duration) {
        let at = usize::try_from(waited.as_millis()).unwrap_or(usize::MAX).min(self.millis.len() - 1);
        self.millis[at].fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.millis.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The wait that so many percent of the jobs did not exceed.
    fn quantile(&self, percent: u64) -> usize {
        let mut rest = self.count() * percent / 100;
        self.millis
            .iter()
            .position(|count| {
                let here = count.load(Ordering::Relaxed);
                let reached = rest < here;
                rest = rest.saturating_sub(here);
                reached
            })
            .unwrap_or(0)
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p95, p99] = [50, 95, 99].map(|percent| self.quantile(percent));
        let refused = self.refused.load(Ordering::Relaxed);
        write!(f, "{} | {p50} ms | {p95} ms | {p99} ms | {refused}", self.count())
    }
}

/// SplitMix64: the same day each time.
struct Random(u64);

impl Random {
    /// Of mean 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    fn exponential(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let unit = ((z ^ (z >> 31)) >> 11) as f64 / 9_007_199_254_740_992.0;
        -(1.0 - unit).ln()
    }
}
