//! The thread that samples tasks, memory and gauges while a form runs.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::lab::Lab;
use crate::run::Now;

/// One thing over time: seconds since the form began, and its value then.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Series {
    /// `tasks`, `memory`, or the name of a gauge or counter.
    pub name: String,
    /// Seconds since the form began, and the value then.
    pub points: Vec<(f64, f64)>,
}

/// What was sampled so far, and its peaks.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) series: Vec<Series>,
    pub(crate) peak_tasks: usize,
    pub(crate) peak_memory: u64,
}

const PACE: Duration = Duration::from_millis(10);

/// Samples until `ended`, from a thread of its own: a runtime that stands still is one of the things to be seen.
pub(crate) fn sample(
    lab: &Lab,
    runtime: &Handle,
    ended: &Arc<AtomicBool>,
    tell: &dyn Fn(Now<'_>),
) -> Samples {
    let _inside = runtime.enter();
    let began = now();
    let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let mut samples = Samples::default();
    let mut told = 0.0;
    loop {
        let is_last = ended.load(Ordering::Acquire);
        let at = (now() - began).as_secs_f64();
        let tasks = lab.tasks();
        let memory = lab.memory();
        samples.peak_tasks = samples.peak_tasks.max(tasks);
        samples.peak_memory = samples.peak_memory.max(memory);
        let mut values = vec![("tasks".to_owned(), tasks as f64), ("memory".to_owned(), memory as f64)];
        values.extend(lab.read_gauges());
        for (name, value) in &values {
            series.entry(name.clone()).or_default().push((at, *value));
        }
        if at - told > 0.1 || is_last {
            told = at;
            tell(Now { seconds: at, values: &values, latencies: &lab.p99s() });
        }
        if is_last {
            break;
        }
        pause(PACE);
    }
    lab.take_gauges();
    samples.series = series.into_iter().map(|(name, points)| Series { name, points }).collect();
    samples
}

/// Tasks that are alive on the runtime this is called on.
pub(crate) fn tasks_alive() -> usize {
    Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks())
}

/// Memory of this process that is resident and its own: without pages of the program's file.
#[must_use]
pub fn resident_bytes() -> u64 {
    resident_bytes_of("self")
}

/// Memory of a process by its number that is resident and its own: pages of the program's file, which come as code is run for the
/// first time, are nobody's burden. 0 if there is no such process.
pub(crate) fn resident_bytes_of(process: &str) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{process}/statm")).ok();
    let pages = pages.and_then(|line| {
        let mut numbers = line.split(' ').skip(1).map_while(|number| number.parse::<u64>().ok());
        let (resident, of_files) = (numbers.next()?, numbers.next()?);
        resident.checked_sub(of_files)
    });
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[expect(clippy::disallowed_methods, reason = "an OS thread that measures beside the runtimes")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "an OS thread that measures beside the runtimes")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;

    #[tokio::test]
    async fn what_a_form_takes_before_the_first_sample_counts_as_its_own() {
        const BYTES: usize = 128 << 20;
        let lab = Lab::new(Scale::Reduced);
        let taken = std::hint::black_box(vec![1_u8; BYTES]);
        let ended = Arc::new(AtomicBool::new(true));
        let samples = sample(&lab, &Handle::current(), &ended, &|_| {});
        // Other tests of this process give memory back meanwhile, but not so much.
        assert!(samples.peak_memory > BYTES as u64 / 2, "{} bytes", samples.peak_memory);
        drop(taken);
    }
}
