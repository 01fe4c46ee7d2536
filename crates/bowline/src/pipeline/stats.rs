//! What a pipeline says of itself.

use std::fmt;

use serde::Serialize;

use super::meter::RATE_WINDOW;

/// What a pipeline was and is, at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PipelineStats {
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// The stages, from the first to the sink.
    pub stages: Vec<StageStats>,
    /// Records that the source has given so far.
    pub received: u64,
    /// Records for which the sink has succeeded.
    pub done: u64,
    /// Records that failed in any stage.
    pub failed: u64,
    /// Records that a stage has dropped on purpose.
    pub filtered: u64,
    /// Records that were dropped because the pipeline was cancelled.
    pub cancelled: u64,
    /// Records between the source and their end: on belts and in hands.
    pub in_flight: usize,
    /// The most records that can be in flight: all buffers and all workers.
    pub max_in_flight: usize,
    /// Records of the source that are done without a gap; absent without [`on_done`](crate::Pipeline::on_done).
    pub done_without_gap: Option<u64>,
    /// Failures that are kept now and wait to be taken.
    pub errors_kept: usize,
    /// Failures that could not be kept.
    pub errors_lost: u64,
    /// How often whoever takes the failures panicked.
    pub error_taker_panics: u64,
    /// How it ended, in words, if it has.
    pub ended: Option<String>,
}

/// What one stage of a pipeline was and is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StageStats {
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// How many records it works on at once.
    pub workers: usize,
    /// Whether results are given on in the order of the records.
    pub ordered: bool,
    /// Records that have come so far. Once the pipeline has ended, that is
    /// `passed + filtered + failed + cancelled`.
    pub received: u64,
    /// Records for which it has given something on.
    pub passed: u64,
    /// Records it has dropped on purpose.
    pub filtered: u64,
    /// Records that have failed in it: by an error or a panic.
    pub failed: u64,
    /// Records that were dropped, before it or in it, because the pipeline was cancelled.
    pub cancelled: u64,
    /// Records in the hands of its workers: worked on, or waiting for a place in the next buffer.
    pub in_flight: usize,
    /// Records in its buffer, also early ones.
    pub depth_items: usize,
    /// Bytes in its buffer, 0 if it does not count them.
    pub depth_bytes: usize,
    /// The most records that were ever in its buffer.
    pub high_water_items: usize,
    /// The bound of its buffer, in records.
    pub max_items: usize,
    /// Records finished per second, over the last ten seconds.
    pub per_second: f64,
    /// The part of its workers' time in which they had a record and did not wait to hand it on, `0.0..=1.0`.
    pub busy_share: f64,
    /// The part in which they waited for a record: those before it are slower.
    pub input_wait_share: f64,
    /// The part in which they waited for a place in the next buffer: those behind it are slower.
    pub output_wait_share: f64,
}

impl PipelineStats {
    /// Returns the stage that holds up the others: the busiest, if its workers are busy for at least half of their time. `None`
    /// means that the source brings no more than the stages can take.
    ///
    /// More workers help there, if its work waits; if it computes, the cores are the limit.
    #[must_use]
    pub fn bottleneck(&self) -> Option<&StageStats> {
        let busiest = self.stages.iter().max_by(|a, b| a.busy_share.total_cmp(&b.busy_share))?;
        Some(busiest).filter(|busiest| busiest.busy_share >= 0.5)
    }
}

impl fmt::Display for PipelineStats {
    /// Writes a table, a line for each stage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, received, done, failed, filtered, cancelled, in_flight, max_in_flight, .. } = self;
        writeln!(
            f,
            "pipeline `{name}`: {received} in, {done} done, {failed} failed, {filtered} filtered, {cancelled} cancelled, \
             {in_flight} of at most {max_in_flight} in flight"
        )?;
        let wide = self.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0).max(5);
        let seconds = RATE_WINDOW.as_secs();
        writeln!(
            f,
            "  {:wide$}  {:>7}  {:>10}  {:>8}  {:>11}  {:>9}  {:>5}  {:>5}  {:>5}",
            "stage", "workers", "passed", "failed", "queue", "/s", "busy", "in", "out"
        )?;
        let bottleneck = self.bottleneck().map(std::ptr::from_ref);
        for stage in &self.stages {
            let queue = format!("{}/{}", stage.depth_items, stage.max_items);
            let percent = |share: f64| format!("{:.0}%", share * 100.0);
            let mark = if bottleneck == Some(std::ptr::from_ref(stage)) { "  <- bottleneck" } else { "" };
            writeln!(
                f,
                "  {:wide$}  {:>7}  {:>10}  {:>8}  {queue:>11}  {:>9.1}  {:>5}  {:>5}  {:>5}{mark}",
                stage.name,
                stage.workers,
                stage.passed,
                stage.failed,
                stage.per_second,
                percent(stage.busy_share),
                percent(stage.input_wait_share),
                percent(stage.output_wait_share),
            )?;
        }
        write!(
            f,
            "  (/s over {seconds} s; busy, waiting for input, waiting for output: parts of the workers' time)"
        )
    }
}
