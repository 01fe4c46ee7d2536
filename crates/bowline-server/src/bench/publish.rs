//! How many publications a second the server acknowledges to applications, and how long that takes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bowline::{FailFast, group};
use clap::ValueEnum;
use serde::Serialize;
use tokio::time::Instant;

use super::child::{BenchError, ServerUnderTest};
use super::directory::Scratch;
use super::http::Caller;

/// Left out of the measurement at its beginning.
const WARM_UP: Duration = Duration::from_secs(1);

/// What an acknowledgement of the server that is measured promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// Synced to the disk.
    Always,
    /// Written, and synced a little later.
    Interval,
    /// Written, and synced when the system likes.
    Never,
    /// Nothing: everything is in memory.
    Memory,
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Never => "never",
            Self::Memory => "memory",
        }
    }
}

/// What is published.
#[derive(Clone, Debug)]
pub struct PublishLoad {
    /// Publishers, each with one request under way.
    pub publishers: usize,
    /// Publications in a request.
    pub batch: usize,
    /// Channels they are spread over.
    pub channels: usize,
    /// Bytes of each publication's data.
    pub payload_bytes: usize,
    /// For how long.
    pub duration: Duration,
    /// What an acknowledgement promises.
    pub kept: Kept,
    /// Where the data directory is made; `None` for the system's directory for temporary files.
    pub parent: Option<PathBuf>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct PublishReport {
    /// What an acknowledgement promised.
    pub durability: Kept,
    /// Publishers, each with one request under way.
    pub publishers: usize,
    /// Publications in a request.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Bytes of each publication's data.
    pub payload_bytes: usize,
    /// Publications that were acknowledged while it was measured.
    pub acknowledged: usize,
    /// The same per second.
    pub acknowledged_per_second: f64,
    /// Time from a request to its answer: the median.
    pub p50_ms: f64,
    /// What 99% of the requests kept to.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Bytes of memory the server held at most.
    pub peak_resident_bytes: u64,
}

/// Publishes through the HTTP API for the time that is asked for, and counts what is acknowledged.
///
/// # Errors
///
/// [`BenchError`] if the server does not start, a connection fails, or a publication is refused.
pub async fn publish(load: PublishLoad) -> Result<PublishReport, BenchError> {
    let scratch = Scratch::new(load.parent.as_deref())?;
    let mut settings = vec![format!("store.durability={}", load.kept.name())];
    if load.kept == Kept::Memory {
        settings.clear();
    } else {
        settings.push(format!("store.path={}", scratch.path().display()));
    }
    let server = ServerUnderTest::start_with(load.publishers, &settings)?;
    let began = Instant::now();
    let from = began + WARM_UP;
    let until = from + load.duration;
    let data = Arc::new("x".repeat(load.payload_bytes.saturating_sub(2)));
    let publishers = group("publishers", FailFast, async |g| {
        for number in 0..load.publishers {
            let (data, address) = (Arc::clone(&data), server.address);
            let PublishLoad { batch, channels, .. } = load;
            g.spawn("publisher", async move {
                let mut caller = Caller::open(address).await?;
                // Each goes through all channels, from a place of its own.
                let mut next = number * channels / load.publishers.max(1);
                let mut latencies = Vec::new();
                loop {
                    let body = body(&mut next, channels, batch, &data);
                    let asked = Instant::now();
                    if asked >= until {
                        return Ok::<_, BenchError>(latencies);
                    }
                    let answer = caller.call("batch", &body).await?;
                    if answer.contains(r#""error":"#) || answer.matches(r#""publish":"#).count() != batch {
                        return Err(io::Error::other(format!("not all acknowledged: {answer:.300}")).into());
                    }
                    let answered = Instant::now();
                    if (from..until).contains(&answered) {
                        latencies.push(answered.duration_since(asked));
                    }
                }
            });
        }
    });
    let latencies: Vec<Vec<Duration>> = publishers.await.all_ok()?;
    let mut latencies: Vec<Duration> = latencies.into_iter().flatten().collect();
    latencies.sort_unstable();
    let acknowledged = latencies.len() * load.batch;
    let [p50_ms, p99_ms, max_ms] = [0.5, 0.99, 1.0].map(|share| percentile_ms(&latencies, share));
    Ok(PublishReport {
        durability: load.kept,
        publishers: load.publishers,
        batch: load.batch,
        channels: load.channels,
        payload_bytes: load.payload_bytes,
        acknowledged,
        acknowledged_per_second: acknowledged as f64 / load.duration.as_secs_f64(),
        p50_ms,
        p99_ms,
        max_ms,
        peak_resident_bytes: server.peak_resident_bytes()?,
    })
}

/// A batch for the next channels.
fn body(next: &mut usize, channels: usize, batch: usize, data: &str) -> String {
    let mut body = String::with_capacity(batch * (data.len() + 64) + 32);
    body.push_str(r#"{"commands":["#);
    for index in 0..batch {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&format!(r#"{{"publish":{{"channel":"bench{next}","data":"{data}"}}}}"#));
        *next = (*next + 1) % channels.max(1);
    }
    body.push_str("]}");
    body
}

/// What this share of the sorted times keeps to, in milliseconds.
pub(super) fn percentile_ms(sorted: &[Duration], share: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1)) as f64 * share;
    sorted.get(at.round() as usize).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_go_through_all_channels_in_turn() {
        let mut next = 2;
        let said = body(&mut next, 3, 2, "x");
        let expected = concat!(
            r#"{"commands":[{"publish":{"channel":"bench2","data":"x"}},"#,
            r#"{"publish":{"channel":"bench0","data":"x"}}]}"#
        );
        assert_eq!((said.as_str(), next), (expected, 1));
    }

    #[test]
    fn a_percentile_is_what_that_share_keeps_to() {
        let times: Vec<_> = (1..=101).map(Duration::from_millis).collect();
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|share| percentile_ms(&times, share)),
            [1.0, 51.0, 100.0, 101.0]
        );
        assert_eq!(percentile_ms(&[], 0.5), 0.0);
    }
}
