//! Every metric of the toolkit: its name, its meaning, and where its number comes from.
//!
//! All begin with `bowline_`. Labels are names that the program gave; how many there can be is bounded (`samples`).

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::samples::{Family, Kind, Memory, Samples, exposition};
use super::tasks::{LOOKED_AT, state_name};
use super::waits::snake;
use super::walk::{Seen, Totals, Walk};
use super::{Answer, Body, PROMETHEUS};
use crate::breaker::BreakerState;
use crate::queue::QueueStats;
use crate::record::Record;
use crate::resource::{self, ResourceState};
use crate::sync::LockExt;
use crate::tree::{self, TaskState};
use crate::{
    alerts, breakers, buffers, bulkheads, cpu_pools, deadlocks, effects, lease_pools, panics, pipelines,
    pools, retry_budgets, schedules, supervisors,
};

/// Of the process: std's own lock, as it outlives a model's run.
static MEMORY: Mutex<Option<Memory>> = Mutex::new(None);

/// Returns every metric of this program in the text format of Prometheus.
///
/// It looks at every live task, some 100 ns each; the page `/debug/bowline/metrics` does the same in pieces. Labels are the names
/// given in the program: the first hundred of each kind have series of their own, the others are summed up as `other`. Counters
/// are sums over the things of a name that live, and do not go down when one goes.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let text = bowline::debug::metrics();
/// assert!(text.contains("# TYPE bowline_foreign_tasks gauge"));
/// # });
/// ```
#[must_use]
pub fn metrics() -> String {
    exposition(&families())
}

/// The same, before it is written.
pub(super) fn families() -> Vec<Family> {
    let mut count = Count::new();
    while !count.step() {}
    count.finish()
}

/// The page. It is text whatever was asked for: that is what its readers read.
pub(super) fn answer() -> Answer {
    let mut count = Some(Count::new());
    let body = Body::from_pieces(std::iter::from_fn(move || match count.as_mut()?.step() {
        true => Some(exposition(&count.take()?.finish()).into_bytes()),
        false => Some(Vec::new()),
    }));
    Answer { status: 200, content_type: PROMETHEUS, body }
}

/// The walk over all tasks, summed up by name.
struct Count {
    walk: Walk,
    totals: Totals,
    tasks: BTreeMap<&'static str, usize>,
    /// By name, what those that live were polled and were busy in microseconds.
    polls: BTreeMap<&'static str, u64>,
    busy: BTreeMap<&'static str, u64>,
    states: BTreeMap<&'static str, usize>,
    waits: BTreeMap<&'static str, usize>,
    queues: BTreeMap<&'static str, Queues>,
}

/// The queues of one name.
#[derive(Default)]
struct Queues {
    count: usize,
    items: usize,
    capacity: usize,
    bytes: usize,
    waiting_senders: usize,
    oldest_ms: u64,
    sent: u64,
    received: u64,
    dropped: u64,
    refused: u64,
    abandoned: u64,
}

impl Count {
    fn new() -> Self {
        Self {
            walk: Walk::new(),
            totals: Totals::default(),
            tasks: BTreeMap::new(),
            polls: BTreeMap::new(),
            busy: BTreeMap::new(),
            states: BTreeMap::new(),
            waits: BTreeMap::new(),
            queues: BTreeMap::new(),
        }
    }

    /// Goes on for a while; `true` at the end.
    fn step(&mut self) -> bool {
        for _ in 0..LOOKED_AT {
            match self.walk.next() {
                None => return true,
                Some(Seen::Body(record)) => self.count_queues(&record),
                Some(Seen::Task(record)) => {
                    self.totals.count(&self.walk, &record);
                    let state = tree::state(&record);
                    *self.tasks.entry(record.site.name).or_default() += 1;
                    *self.polls.entry(record.site.name).or_default() += u64::from(record.polls());
                    if let Some(times) = record.poll_times() {
                        *self.busy.entry(record.site.name).or_default() += times.busy_us;
                    }
                    *self.states.entry(state_name(&state)).or_default() += 1;
                    if let TaskState::Waiting(wait) = state {
                        *self.waits.entry(wait.op).or_default() += 1;
                    }
                    self.count_queues(&record);
                }
                Some(_) => {}
            }
        }
        false
    }

    fn count_queues(&mut self, record: &Record) {
        for QueueStats {
            name,
            depth_items,
            max_items,
            depth_bytes,
            waiting_senders,
            oldest_ms,
            sent,
            received,
            dropped,
            refused,
            abandoned,
            ..
        } in record.queues().iter().map(|queue| queue.stats())
        {
            let sum = self.queues.entry(name).or_default();
            sum.count += 1;
            sum.items = sum.items.saturating_add(depth_items);
            sum.capacity = sum.capacity.saturating_add(max_items);
            sum.bytes = sum.bytes.saturating_add(depth_bytes);
            sum.waiting_senders += waiting_senders;
            sum.oldest_ms = sum.oldest_ms.max(oldest_ms);
            sum.sent = sum.sent.saturating_add(sent);
            sum.received = sum.received.saturating_add(received);
            sum.dropped = sum.dropped.saturating_add(dropped);
            sum.refused = sum.refused.saturating_add(refused);
            sum.abandoned = sum.abandoned.saturating_add(abandoned);
        }
    }

    fn finish(mut self) -> Vec<Family> {
        self.totals.finish();
        let things = Things::all();
        let mut memory = MEMORY.lock_unpoisoned();
        let mut out = Samples::new(memory.get_or_insert_default());
        self.write_tasks(&mut out);
        self.write_queues(&mut out);
        things.write(&mut out);
        out.finish()
    }

    fn write_tasks(&self, out: &mut Samples<'_>) {
        let Totals { blocking, runtime_tasks, foreign_tasks, .. } = self.totals;
        let counts = [
            ("bowline_tasks", "Live tasks, by name.", "name", &self.tasks),
            ("bowline_task_states", "Live tasks, by what they do.", "state", &self.states),
            ("bowline_waiting_tasks", "Tasks that wait, by operation.", "op", &self.waits),
        ];
        for (name, help, label, counts) in counts {
            out.family(Kind::Gauge, name, help);
            for (value, count) in counts {
                out.add(name, &[(label, value)], *count as f64);
            }
        }
        out.family(Kind::Gauge, "bowline_task_polls", "Polls so far of the tasks that live, by name.");
        for (name, polls) in &self.polls {
            out.add("bowline_tasks", &[("name", name)], *polls as f64);
        }
        out.family(
            Kind::Gauge,
            "bowline_task_busy_seconds",
            "Time in polls so far of the tasks that live, by name, if polls are timed.",
        );
        for (name, micros) in &self.busy {
            out.add("bowline_tasks", &[("name", name)], *micros as f64 / 1e6);
        }
        out.one(Kind::Gauge, "bowline_blocking_tasks", "Closures on the blocking lane.", blocking as f64);
        for (name, help, count) in [
            ("bowline_runtime_tasks", "Tasks the runtime runs, whoever owns them.", runtime_tasks),
            ("bowline_foreign_tasks", "Tasks of the runtime that nobody here owns.", foreign_tasks),
        ] {
            if let Some(count) = count {
                out.one(Kind::Gauge, name, help, count as f64);
            }
        }
    }

    fn write_queues(&self, out: &mut Samples<'_>) {
        let queues: Vec<(&str, &Queues)> = self.queues.iter().map(|(name, sum)| (*name, sum)).collect();
        let columns: &[Column<(&str, &Queues)>] = &[
            (Kind::Gauge, "bowline_queues", "Queues, by name.", |(_, q)| q.count as f64),
            (Kind::Gauge, "bowline_queue_items", "Items in the queues of a name.", |(_, q)| q.items as f64),
            (
                Kind::Gauge,
                "bowline_queue_capacity_items",
                "Items the queues of a name hold at most.",
                |(_, q)| q.capacity as f64,
            ),
            (
                Kind::Gauge,
                "bowline_queue_bytes",
                "Bytes in the queues of a name that count them.",
                |(_, q)| q.bytes as f64,
            ),
            (Kind::Gauge, "bowline_queue_waiting_senders", "Senders that wait for room.", |(_, q)| {
                q.waiting_senders as f64
            }),
            (
                Kind::Greatest,
                "bowline_queue_oldest_seconds",
                "How long the oldest item has waited.",
                |(_, q)| seconds(q.oldest_ms),
            ),
            (Kind::Counter, "bowline_queue_sent_total", "Items accepted.", |(_, q)| q.sent as f64),
            (Kind::Counter, "bowline_queue_received_total", "Items handed to receivers.", |(_, q)| {
                q.received as f64
            }),
            (
                Kind::Counter,
                "bowline_queue_dropped_total",
                "Accepted items dropped by the policy for full.",
                |(_, q)| q.dropped as f64,
            ),
            (
                Kind::Counter,
                "bowline_queue_refused_total",
                "Items refused because the queue was full.",
                |(_, q)| q.refused as f64,
            ),
            (
                Kind::Counter,
                "bowline_queue_abandoned_total",
                "Items queued when the last receiver went.",
                |(_, q)| q.abandoned as f64,
            ),
        ];
        write(out, "queues", &queues, |(name, _)| name, columns);
    }
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

/// A family with one number for each name.
type Column<T> = (Kind, &'static str, &'static str, fn(&T) -> f64);

fn write<T>(
    out: &mut Samples<'_>,
    of: &'static str,
    all: &[T],
    name: impl Fn(&T) -> &str,
    columns: &[Column<T>],
) {
    for (kind, family, help, value) in columns {
        out.family(*kind, family, help);
        for thing in all {
            out.add(of, &[("name", name(thing))], value(thing));
        }
    }
}

/// A counter for each of several ends.
type Ends<T> = [(&'static str, fn(&T) -> u64)];

fn write_ends<T>(
    out: &mut Samples<'_>,
    of: &'static str,
    all: &[T],
    name: impl Fn(&T) -> &str,
    (family, help): (&'static str, &'static str),
    ends: &Ends<T>,
) {
    out.family(Kind::Counter, family, help);
    for thing in all {
        for (end, count) in ends {
            out.add(of, &[("name", name(thing)), ("end", end)], count(thing) as f64);
        }
    }
}

/// What lives long and lists itself.
struct Things {
    pools: Vec<crate::PoolStats>,
    pipelines: Vec<crate::PipelineStats>,
    bulkheads: Vec<crate::BulkheadStats>,
    lanes: Vec<crate::CpuPoolStats>,
    buffers: Vec<crate::BuffersStats>,
    leases: Vec<crate::LeaseStats>,
    breakers: Vec<crate::BreakerStats>,
    retries: Vec<crate::RetryBudgetStats>,
    effects: Vec<crate::EffectsStats>,
    supervisors: Vec<crate::SupervisorStats>,
    schedules: Vec<crate::ScheduleStats>,
    panics: crate::PanicStats,
    alerts: Vec<crate::Alert>,
    deadlocks: usize,
    contended: BTreeMap<(String, &'static str), Contended>,
}

/// What somebody waits for, of one kind and name.
#[derive(Default)]
struct Contended {
    waiters: usize,
    permits: Option<(u64, u64)>,
}

/// Sums up what somebody waits for. What nobody waits for is in no books, and costs nothing.
fn contended() -> BTreeMap<(String, &'static str), Contended> {
    let mut contended: BTreeMap<_, Contended> = BTreeMap::new();
    resource::scan(|facts| {
        let of = contended.entry((snake(&facts.kind), facts.site.name)).or_default();
        of.waiters += facts.waiters.len();
        if let ResourceState::Permits { free, total } = facts.state {
            let (free_before, total_before) = of.permits.unwrap_or_default();
            of.permits = Some((free_before + free as u64, total_before + total as u64));
        }
    });
    contended
}

impl Things {
    /// Asks all of them, before any lock is taken: some run other people's code to say what they are at.
    fn all() -> Self {
        Self {
            pools: pools(),
            pipelines: pipelines(),
            bulkheads: bulkheads(),
            lanes: cpu_pools(),
            buffers: buffers(),
            leases: lease_pools(),
            breakers: breakers(),
            retries: retry_budgets(),
            effects: effects(),
            supervisors: supervisors(),
            schedules: schedules(),
            panics: panics(),
            alerts: alerts(),
            deadlocks: deadlocks().len(),
            contended: contended(),
        }
    }

    fn write(&self, out: &mut Samples<'_>) {
        self.write_alerts(out);
        self.write_contended(out);
        self.write_bounded_work(out);
        self.write_calls(out);
        self.write_long_lived(out);
    }

    fn write_alerts(&self, out: &mut Samples<'_>) {
        out.family(Kind::Gauge, "bowline_alerts", "Alerts that stand, by kind.");
        for alert in &self.alerts {
            out.add("alerts", &[("kind", &snake(&alert.kind))], 1.0);
        }
        out.one(
            Kind::Gauge,
            "bowline_deadlocks",
            "Deadlocks that are proved and stand.",
            self.deadlocks as f64,
        );
        out.family(Kind::Counter, "bowline_panics_total", "Panics of tasks that were caught, by class.");
        for (class, count) in [("unexpected", self.panics.unexpected), ("expected", self.panics.expected)] {
            out.add("panics", &[("class", class)], count as f64);
        }
    }

    fn write_contended(&self, out: &mut Samples<'_>) {
        out.family(
            Kind::Gauge,
            "bowline_waiters",
            "Tasks that wait for locks, queues and the like, by kind and name.",
        );
        for ((kind, name), contended) in &self.contended {
            out.add("contended", &[("kind", kind), ("name", name)], contended.waiters as f64);
        }
        let columns = [
            ("bowline_permits_free", "Permits nobody holds, where somebody waits for some."),
            ("bowline_permits_limit", "Permits there are, where somebody waits for some."),
        ];
        for (at, (family, help)) in columns.into_iter().enumerate() {
            out.family(Kind::Gauge, family, help);
            for ((kind, name), contended) in &self.contended {
                if let Some((free, total)) = contended.permits {
                    let value = if at == 0 { free } else { total };
                    out.add("contended", &[("kind", kind), ("name", name)], value as f64);
                }
            }
        }
    }

    fn write_bounded_work(&self, out: &mut Samples<'_>) {
        write(
            out,
            "pools",
            &self.pools,
            |pool| pool.name,
            &[
                (Kind::Gauge, "bowline_pool_workers", "Workers of pools.", |pool| pool.workers as f64),
                (Kind::Gauge, "bowline_pool_running_jobs", "Jobs that are worked on.", |pool| {
                    pool.running as f64
                }),
                (Kind::Gauge, "bowline_pool_queued_jobs", "Jobs that wait for a worker.", |pool| {
                    pool.queued as f64
                }),
                (Kind::Gauge, "bowline_pool_capacity_jobs", "Jobs that may wait.", |pool| {
                    pool.max_jobs as f64
                }),
                (Kind::Gauge, "bowline_pool_waiting", "Submitters that wait for room.", |pool| {
                    pool.waiting as f64
                }),
                (
                    Kind::Greatest,
                    "bowline_pool_oldest_seconds",
                    "How long the first job has waited.",
                    |pool| seconds(pool.oldest_ms),
                ),
            ],
        );
        write_ends(
            out,
            "pools",
            &self.pools,
            |pool| pool.name,
            ("bowline_pool_jobs_total", "Jobs of pools, by how they ended."),
            &[
                ("completed", |pool| pool.completed),
                ("failed", |pool| pool.failed),
                ("panicked", |pool| pool.panicked),
                ("timed_out", |pool| pool.timed_out),
                ("cancelled", |pool| pool.cancelled),
                ("dropped", |pool| pool.dropped),
                ("refused", |pool| pool.refused),
            ],
        );
        write(
            out,
            "pipelines",
            &self.pipelines,
            |pipeline| pipeline.name,
            &[(
                Kind::Gauge,
                "bowline_pipeline_in_flight",
                "Records between the source and their end.",
                |pipeline| pipeline.in_flight as f64,
            )],
        );
        write_ends(
            out,
            "pipelines",
            &self.pipelines,
            |pipeline| pipeline.name,
            ("bowline_pipeline_records_total", "Records of pipelines, by how they ended."),
            &[
                ("done", |pipeline| pipeline.done),
                ("failed", |pipeline| pipeline.failed),
                ("filtered", |pipeline| pipeline.filtered),
                ("cancelled", |pipeline| pipeline.cancelled),
            ],
        );
        write(
            out,
            "bulkheads",
            &self.bulkheads,
            |bulkhead| bulkhead.name,
            &[
                (Kind::Gauge, "bowline_bulkhead_in_flight", "Calls that have a place.", |b| {
                    b.in_flight as f64
                }),
                (Kind::Gauge, "bowline_bulkhead_limit", "Calls admitted at a time.", |b| b.at_most as f64),
                (Kind::Gauge, "bowline_bulkhead_waiting", "Callers that wait for a place.", |b| {
                    b.waiting as f64
                }),
                (Kind::Counter, "bowline_bulkhead_refused_total", "Callers that got no place.", |b| {
                    (b.refused_full + b.refused_timed_out) as f64
                }),
            ],
        );
        write(
            out,
            "cpu",
            &self.lanes,
            |lane| lane.name,
            &[
                (Kind::Gauge, "bowline_cpu_running_jobs", "Jobs on threads of a lane.", |lane| {
                    lane.running.len() as f64
                }),
                (Kind::Gauge, "bowline_cpu_threads", "Threads of a lane.", |lane| lane.threads as f64),
                (Kind::Gauge, "bowline_cpu_queued_jobs", "Jobs that wait for a thread.", |lane| {
                    lane.queued as f64
                }),
                (Kind::Counter, "bowline_cpu_completed_total", "Jobs that came to their end.", |lane| {
                    lane.completed as f64
                }),
                (
                    Kind::Counter,
                    "bowline_cpu_abandoned_total",
                    "Jobs whose callers left while they ran.",
                    |lane| lane.abandoned as f64,
                ),
            ],
        );
        write(
            out,
            "buffers",
            &self.buffers,
            |pool| pool.name,
            &[
                (Kind::Gauge, "bowline_buffers_held", "Buffers that are out.", |pool| pool.held as f64),
                (Kind::Gauge, "bowline_buffers_limit", "Buffers there may be.", |pool| pool.count as f64),
                (Kind::Gauge, "bowline_buffers_resident_bytes", "Memory of buffers.", |pool| {
                    pool.resident_bytes as f64
                }),
                (Kind::Gauge, "bowline_buffers_waiting", "Tasks that wait for a buffer.", |pool| {
                    pool.waiting as f64
                }),
            ],
        );
        write(
            out,
            "leases",
            &self.leases,
            |pool| pool.name,
            &[
                (Kind::Gauge, "bowline_leases", "Resources in somebody's hands.", |pool| pool.leased as f64),
                (Kind::Gauge, "bowline_leases_idle", "Resources in nobody's hands.", |pool| pool.idle as f64),
                (Kind::Gauge, "bowline_leases_limit", "Resources there may be.", |pool| pool.max as f64),
                (Kind::Gauge, "bowline_leases_waiting", "Those who wait for a lease.", |pool| {
                    pool.waiting as f64
                }),
                (
                    Kind::Greatest,
                    "bowline_lease_oldest_seconds",
                    "For how long the oldest lease is held.",
                    |pool| seconds(pool.holders.first().map_or(0, |oldest| oldest.held_for_ms)),
                ),
                (
                    Kind::Counter,
                    "bowline_lease_timeouts_total",
                    "Waits for a lease that took too long.",
                    |pool| pool.timed_out as f64,
                ),
                (
                    Kind::Counter,
                    "bowline_lease_make_failures_total",
                    "Resources that could not be made.",
                    |pool| pool.make_failures as f64,
                ),
            ],
        );
    }

    fn write_calls(&self, out: &mut Samples<'_>) {
        out.family(
            Kind::Greatest,
            "bowline_breaker_open",
            "1 for a breaker that refuses calls, 0.5 for one that probes.",
        );
        for breaker in &self.breakers {
            let open = match breaker.state {
                BreakerState::Open | BreakerState::ForcedOpen => 1.0,
                BreakerState::HalfOpen => 0.5,
                BreakerState::Closed | BreakerState::ForcedClosed => 0.0,
            };
            out.add("breakers", &[("name", &breaker.name)], open);
        }
        write_ends(
            out,
            "breakers",
            &self.breakers,
            |breaker| &breaker.name,
            ("bowline_breaker_calls_total", "Calls at breakers, by how they ended."),
            &[
                ("succeeded", |breaker| breaker.succeeded),
                ("failed", |breaker| breaker.failed),
                ("unknown", |breaker| breaker.unknown),
                ("refused", |breaker| breaker.refused),
            ],
        );
        write(
            out,
            "breakers",
            &self.breakers,
            |breaker| &breaker.name,
            &[(
                Kind::Counter,
                "bowline_breaker_opened_total",
                "How often a breaker opened by itself.",
                |breaker| breaker.opened as f64,
            )],
        );
        write(
            out,
            "retries",
            &self.retries,
            |budget| budget.name,
            &[
                (
                    Kind::Greatest,
                    "bowline_retry_budget_spent",
                    "1 if the last retry was refused.",
                    |budget| f64::from(u8::from(budget.is_spent)),
                ),
                (Kind::Counter, "bowline_retries_total", "Attempts beyond the first.", |budget| {
                    budget.retries as f64
                }),
                (Kind::Counter, "bowline_retries_refused_total", "Retries that were refused.", |budget| {
                    budget.refused as f64
                }),
            ],
        );
        write(
            out,
            "effects",
            &self.effects,
            |effects| effects.name,
            &[
                (Kind::Gauge, "bowline_effects_in_flight", "Effects on their way.", |effects| {
                    effects.in_flight as f64
                }),
                (
                    Kind::Counter,
                    "bowline_effects_in_doubt_total",
                    "Effects of which nobody knows.",
                    |effects| effects.in_doubt as f64,
                ),
            ],
        );
    }

    fn write_long_lived(&self, out: &mut Samples<'_>) {
        out.family(
            Kind::Gauge,
            "bowline_supervisor_children",
            "Children of supervisors, by what they are at.",
        );
        for supervisor in &self.supervisors {
            for child in &supervisor.children {
                let labels = [("name", supervisor.name), ("state", &snake(&child.state))];
                out.add("supervisors", &labels, 1.0);
            }
        }
        write(
            out,
            "supervisors",
            &self.supervisors,
            |supervisor| supervisor.name,
            &[
                (
                    Kind::Counter,
                    "bowline_supervisor_restarts_total",
                    "Children that were started again.",
                    |supervisor| supervisor.restarts as f64,
                ),
                (Kind::Gauge, "bowline_supervisors_gave_up", "Supervisors that gave up.", |supervisor| {
                    f64::from(u8::from(supervisor.gave_up.is_some()))
                }),
            ],
        );
        let jobs: Vec<_> = self
            .schedules
            .iter()
            .flat_map(|schedule| {
                schedule.jobs.iter().map(|job| (format!("{}/{}", schedule.name, job.name), job))
            })
            .collect();
        write_ends(
            out,
            "jobs",
            &jobs,
            |(name, _)| name,
            ("bowline_job_runs_total", "Runs of scheduled jobs, by how they ended."),
            &[
                ("ok", |(_, job)| job.ok),
                ("failed", |(_, job)| job.failed),
                ("panicked", |(_, job)| job.panicked),
                ("timed_out", |(_, job)| job.timed_out),
                ("cancelled", |(_, job)| job.cancelled),
                ("missed", |(_, job)| job.missed),
                ("skipped", |(_, job)| job.skipped),
            ],
        );
    }
}
