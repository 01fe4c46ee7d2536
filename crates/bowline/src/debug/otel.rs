//! The metrics as OpenTelemetry instruments, from the same source as the text for Prometheus.
//!
//! # Invariants
//!
//! 1. All instruments of one collection show one look at the program. A collection asks each instrument once: who is asked for the
//!    second time, or long after the last look, makes a new one.
//! 2. A look is taken on the thread of whoever collects, and with no lock held: it runs other people's code.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use tokio::runtime::Handle;

use super::metrics;
use super::samples::{Family, Kind, Labels};
use crate::clock;
use crate::sync::LockExt;

/// A collection takes less.
const ONE_COLLECTION: Duration = Duration::from_secs(1);

/// By the name in the text for Prometheus: the name here, and the unit as UCUM writes it. What labels are called begins like the
/// name: `bowline.queue.name`.
const NAMES: &[(&str, &str, &str)] = &[
    ("bowline_tasks", "bowline.task.count", "{task}"),
    ("bowline_task_states", "bowline.task.in_state", "{task}"),
    ("bowline_waiting_tasks", "bowline.task.waiting", "{task}"),
    ("bowline_task_polls", "bowline.task.polls", "{poll}"),
    ("bowline_task_busy_seconds", "bowline.task.busy", "s"),
    ("bowline_blocking_tasks", "bowline.task.blocking", "{task}"),
    ("bowline_runtime_tasks", "bowline.runtime.tasks", "{task}"),
    ("bowline_foreign_tasks", "bowline.runtime.foreign_tasks", "{task}"),
    ("bowline_queues", "bowline.queue.count", "{queue}"),
    ("bowline_queue_items", "bowline.queue.items", "{item}"),
    ("bowline_queue_capacity_items", "bowline.queue.capacity", "{item}"),
    ("bowline_queue_bytes", "bowline.queue.size", "By"),
    ("bowline_queue_waiting_senders", "bowline.queue.waiting_senders", "{task}"),
    ("bowline_queue_oldest_seconds", "bowline.queue.oldest", "s"),
    ("bowline_queue_sent_total", "bowline.queue.sent", "{item}"),
    ("bowline_queue_received_total", "bowline.queue.received", "{item}"),
    ("bowline_queue_dropped_total", "bowline.queue.dropped", "{item}"),
    ("bowline_queue_refused_total", "bowline.queue.refused", "{item}"),
    ("bowline_queue_abandoned_total", "bowline.queue.abandoned", "{item}"),
    ("bowline_waiters", "bowline.resource.waiters", "{task}"),
    ("bowline_permits_free", "bowline.permit.free", "{permit}"),
    ("bowline_permits_limit", "bowline.permit.limit", "{permit}"),
    ("bowline_alerts", "bowline.alert.count", "{alert}"),
    ("bowline_deadlocks", "bowline.deadlock.count", "{deadlock}"),
    ("bowline_panics_total", "bowline.task.panics", "{panic}"),
    ("bowline_pool_workers", "bowline.pool.workers", "{worker}"),
    ("bowline_pool_running_jobs", "bowline.pool.running", "{job}"),
    ("bowline_pool_queued_jobs", "bowline.pool.queued", "{job}"),
    ("bowline_pool_capacity_jobs", "bowline.pool.capacity", "{job}"),
    ("bowline_pool_waiting", "bowline.pool.waiting_submitters", "{task}"),
    ("bowline_pool_oldest_seconds", "bowline.pool.oldest", "s"),
    ("bowline_pool_jobs_total", "bowline.pool.jobs", "{job}"),
    ("bowline_pipeline_in_flight", "bowline.pipeline.in_flight", "{record}"),
    ("bowline_pipeline_records_total", "bowline.pipeline.records", "{record}"),
    ("bowline_bulkhead_in_flight", "bowline.bulkhead.in_flight", "{call}"),
    ("bowline_bulkhead_limit", "bowline.bulkhead.limit", "{call}"),
    ("bowline_bulkhead_waiting", "bowline.bulkhead.waiting", "{call}"),
    ("bowline_bulkhead_refused_total", "bowline.bulkhead.refused", "{call}"),
    ("bowline_cpu_running_jobs", "bowline.cpu.running", "{job}"),
    ("bowline_cpu_threads", "bowline.cpu.threads", "{thread}"),
    ("bowline_cpu_queued_jobs", "bowline.cpu.queued", "{job}"),
    ("bowline_cpu_completed_total", "bowline.cpu.completed", "{job}"),
    ("bowline_cpu_abandoned_total", "bowline.cpu.abandoned", "{job}"),
    ("bowline_buffers_held", "bowline.buffer.held", "{buffer}"),
    ("bowline_buffers_limit", "bowline.buffer.limit", "{buffer}"),
    ("bowline_buffers_resident_bytes", "bowline.buffer.resident", "By"),
    ("bowline_buffers_waiting", "bowline.buffer.waiting", "{task}"),
    ("bowline_leases", "bowline.lease.held", "{resource}"),
    ("bowline_leases_idle", "bowline.lease.idle", "{resource}"),
    ("bowline_leases_limit", "bowline.lease.limit", "{resource}"),
    ("bowline_leases_waiting", "bowline.lease.waiting", "{task}"),
    ("bowline_lease_oldest_seconds", "bowline.lease.oldest", "s"),
    ("bowline_lease_timeouts_total", "bowline.lease.timeouts", "{timeout}"),
    ("bowline_lease_make_failures_total", "bowline.lease.make_failures", "{failure}"),
    ("bowline_breaker_open", "bowline.breaker.open", "1"),
    ("bowline_breaker_calls_total", "bowline.breaker.calls", "{call}"),
    ("bowline_breaker_opened_total", "bowline.breaker.opened", "{opening}"),
    ("bowline_retry_budget_spent", "bowline.retry.budget_spent", "1"),
    ("bowline_retries_total", "bowline.retry.attempts", "{attempt}"),
    ("bowline_retries_refused_total", "bowline.retry.refused", "{attempt}"),
    ("bowline_effects_in_flight", "bowline.effect.in_flight", "{effect}"),
    ("bowline_effects_in_doubt_total", "bowline.effect.in_doubt", "{effect}"),
    ("bowline_supervisor_children", "bowline.supervisor.children", "{child}"),
    ("bowline_supervisor_restarts_total", "bowline.supervisor.restarts", "{restart}"),
    ("bowline_supervisors_gave_up", "bowline.supervisor.gave_up", "{supervisor}"),
    ("bowline_job_runs_total", "bowline.job.runs", "{run}"),
];

/// Registers every metric of the toolkit with `meter`, as observable instruments: what [`metrics()`](super::metrics()) has.
///
/// Call it once, in the runtime whose tasks are to be counted, with a meter of whatever SDK the program uses. A collection looks at
/// every live task, some 100 ns each, on the thread that collects. What adds up is a counter or an up-down counter; ages, and
/// whether something is open, are gauges. Names begin with `bowline.`, as do the keys of attributes: `bowline.queue.items` has
/// `bowline.queue.name`. (Feature `opentelemetry`.)
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use opentelemetry::metrics::MeterProvider as _;
/// use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
///
/// let exporter = InMemoryMetricExporter::default(); // OTLP, in a program
/// let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter).build();
/// bowline::debug::observe(&provider.meter("bowline"));
/// # provider.shutdown().unwrap();
/// # });
/// ```
pub fn observe(meter: &Meter) {
    let source = Arc::new(Source { runtime: Handle::try_current().ok(), look: Mutex::default() });
    for Family { name, help, kind, .. } in metrics::families() {
        register(meter, &source, name, help, kind);
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, which are whole")]
fn register(meter: &Meter, source: &Arc<Source>, family: &'static str, help: &'static str, kind: Kind) {
    let (name, unit) = name_of(family);
    let help = help.trim_end_matches('.');
    let prefix = name.rsplit_once('.').map_or(name, |(prefix, _)| prefix);
    let asked = Asked { source: Arc::clone(source), family, prefix };
    match kind {
        Kind::Counter => {
            let whole = move |to: &dyn AsyncInstrument<u64>| {
                asked.tell(|value, labels| to.observe(value as u64, labels))
            };
            meter
                .u64_observable_counter(name)
                .with_description(help)
                .with_unit(unit)
                .with_callback(whole)
                .build();
        }
        Kind::Gauge if unit != "s" => {
            let whole = move |to: &dyn AsyncInstrument<i64>| {
                asked.tell(|value, labels| to.observe(value as i64, labels))
            };
            let instrument = meter.i64_observable_up_down_counter(name).with_callback(whole);
            instrument.with_description(help).with_unit(unit).build();
        }
        Kind::Gauge | Kind::Greatest => {
            let told =
                move |to: &dyn AsyncInstrument<f64>| asked.tell(|value, labels| to.observe(value, labels));
            meter
                .f64_observable_gauge(name)
                .with_description(help)
                .with_unit(unit)
                .with_callback(told)
                .build();
        }
    }
}

fn name_of(family: &'static str) -> (&'static str, &'static str) {
    let known = NAMES.iter().find(|(of, ..)| *of == family);
    // A name without a row is a mistake that a test finds; the number is shown all the same.
    known.map_or((family, "1"), |(_, name, unit)| (*name, *unit))
}

/// What one instrument asks for.
struct Asked {
    source: Arc<Source>,
    family: &'static str,
    prefix: &'static str,
}

impl Asked {
    fn tell(&self, to: impl Fn(f64, &[KeyValue])) {
        for (labels, value) in self.source.samples(self.family) {
            let attributes: Vec<KeyValue> = labels
                .into_iter()
                .map(|(key, value)| KeyValue::new(format!("{}.{key}", self.prefix), value))
                .collect();
            to(value, &attributes);
        }
    }
}

/// Where the numbers come from.
struct Source {
    runtime: Option<Handle>,
    /// Std's own lock: it belongs to no task.
    look: Mutex<Look>,
}

/// One look at the program. What was asked for is no longer in it.
#[derive(Default)]
struct Look {
    families: HashMap<&'static str, BTreeMap<Labels, f64>>,
    taken_at: u32,
}

impl Source {
    fn samples(&self, family: &'static str) -> BTreeMap<Labels, f64> {
        {
            let mut look = self.look.lock_unpoisoned();
            if clock::since(look.taken_at) < ONE_COLLECTION {
                if let Some(samples) = look.families.remove(family) {
                    return samples;
                }
            }
        }
        // Whoever collects may be outside of the runtime; what is to be counted is inside.
        let _inside = self.runtime.as_ref().map(Handle::enter);
        let taken_at = clock::coarse_millis();
        let mut families: HashMap<_, _> =
            metrics::families().into_iter().map(|family| (family.name, family.samples)).collect();
        let samples = families.remove(family).unwrap_or_default();
        *self.look.lock_unpoisoned() = Look { families, taken_at };
        samples
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_metric_has_a_name_and_a_unit_of_its_own() {
        let families = crate::testing::example(async { metrics::families() });
        assert!(families.len() > 50);
        let names: HashSet<&str> = families.iter().map(|family| name_of(family.name).0).collect();
        assert_eq!(names.len(), families.len(), "two of one name");
        assert_eq!(NAMES.len(), families.len(), "a row for what there is not");
        for family in &families {
            let (name, unit) = name_of(family.name);
            assert!(name.starts_with("bowline."), "{} has no row", family.name);
            let is_fine = |c: char| c.is_ascii_lowercase() || c == '.' || c == '_';
            assert!(name.chars().all(is_fine) && !name.ends_with("total"), "{name}");
            assert_eq!(unit == "s", family.name.ends_with("_seconds"), "{name}: {unit}");
            assert_eq!(unit == "By", family.name.ends_with("_bytes"), "{name}: {unit}");
            let is_around = |other: &&&str| other.starts_with(&format!("{name}."));
            assert_eq!(names.iter().find(is_around), None, "{name} is also a part of a name");
        }
    }
}
