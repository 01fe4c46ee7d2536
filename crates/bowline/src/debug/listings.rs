//! The pages of things that are few and live long: what their listing functions return, the worst first.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Body;
use super::best::Best;
use super::query::{Format, Query};
use super::text::{Set, Table, counted, escape, short, short_or_dash, thousands, wrap};
use super::waits::snake;
use crate::breaker::BreakerState;
use crate::supervise::{ChildState, ChildStats};
use crate::{
    Deadlock, alerts as all_alerts, breakers as all_breakers, buffers as all_buffers,
    bulkheads as all_bulkheads, copies as all_copies, cpu_pools, effects as all_effects, lease_pools,
    pipelines as all_pipelines, pools as all_pools, retry_budgets, schedules as all_schedules,
    supervisors as all_supervisors,
};

/// Rows for people, unless they ask for more.
const ROWS: usize = 100;

/// What a page of a list says: its name, what a row is called, and how it is shown.
struct Page<T> {
    key: &'static str,
    /// One of them, and several.
    called: (&'static str, &'static str),
    name: fn(&T) -> &str,
    table: fn(&[T]) -> Table,
}

impl<T: Serialize> Page<T> {
    /// Sorts by `rank`, the greatest first.
    fn of<K: Ord>(self, query: &Query, all: Vec<T>, rank: impl Fn(&T) -> K) -> Body {
        let mut best = Best::of(query.rows(ROWS));
        for thing in all {
            if query.takes_name((self.name)(&thing)) {
                best.offer(std::cmp::Reverse(rank(&thing)), || thing);
            }
        }
        let (rows, more) = best.finish();
        Body::whole(match query.format {
            Format::Json => super::json(&serde_json::json!({ self.key: rows, "more": more })),
            Format::Text => {
                let mut page = query.complaint();
                // Writing into a String does not fail.
                let _ = match rows.len() + more {
                    0 => writeln!(page, "no {} here", self.called.0),
                    1 => writeln!(page, "1 {}\n", self.called.0),
                    many => writeln!(page, "{} {}\n", thousands(many as u64), self.called.1),
                };
                if !rows.is_empty() {
                    (self.table)(&rows).write(&mut page);
                }
                if more > 0 {
                    let _ = writeln!(page, "… {} more; ?limit=, ?name=", thousands(more as u64));
                }
                page.into_bytes()
            }
        })
    }
}

/// `done` of `all`, for columns of things that are bounded.
fn of(done: usize, all: usize) -> String {
    format!("{done}/{all}")
}

/// A remark and the place of the thing it is about.
fn at(remark: String, place: &str) -> String {
    match remark.is_empty() {
        true => format!("at {place}"),
        false => format!("{remark}; at {place}"),
    }
}

pub(super) fn alerts(query: Query) -> Body {
    let page = Page {
        key: "alerts",
        called: ("alert stands", "alerts stand"),
        name: |alert: &crate::Alert| &alert.name,
        table: |rows| {
            let mut table = Table::new(&[("ALERT", Set::Left), ("ABOUT", Set::Name)]);
            for alert in rows {
                table.row([alert.kind.to_string(), alert.name.to_string()]);
                table.remark(&alert.text);
                let place = format!("{}:{}", alert.place.file(), alert.place.line());
                table.remark(&at(counted(&[(alert.left_out, "times more")]), &place));
            }
            table
        },
    };
    page.of(&query, all_alerts(), |_| ())
}

/// Each as its report says: it is read whole.
pub(super) fn deadlocks(query: Query) -> Body {
    those(query, crate::deadlocks())
}

pub(super) fn those(query: Query, mut all: Vec<Deadlock>) -> Body {
    all.retain(|deadlock| deadlock.tasks.iter().any(|task| query.takes_name(&task.path)));
    let more = all.len().saturating_sub(query.rows(ROWS));
    all.truncate(query.rows(ROWS));
    Body::whole(match query.format {
        Format::Json => super::json(&serde_json::json!({ "deadlocks": all, "more": more })),
        Format::Text => {
            let mut page = query.complaint();
            if all.is_empty() {
                page.push_str(
                    "no deadlock is proved here; `waits` and `suspicions` show who waits for long\n",
                );
            }
            for deadlock in &all {
                for line in deadlock.to_string().lines() {
                    let text = line.trim_start();
                    wrap(&mut page, &escape(text), &line[..line.len() - text.len()]);
                }
                page.push('\n');
            }
            if more > 0 {
                let _ = writeln!(page, "… {} more; ?limit=, ?name=", thousands(more as u64));
            }
            page.into_bytes()
        }
    })
}

/// Waits of a task are told as suspicious from here on, unless somebody asks for others with `wait=`.
const LONG_MS: u64 = 10_000;

pub(super) fn suspicions(query: Query) -> Body {
    let at_least = if query.min_wait_ms == 0 { LONG_MS } else { query.min_wait_ms };
    let page = Page {
        key: "suspicions",
        called: ("long wait", "long waits, which may be all right"),
        name: |suspicion: &crate::Suspicion| &suspicion.path,
        table: |rows| {
            let mut table = Table::new(&[
                ("ID", Set::Left),
                ("WAITS", Set::Right),
                ("AGE", Set::Right),
                ("WAITS TO", Set::Left),
                ("TASK", Set::Path),
            ]);
            for suspicion in rows {
                let on = suspicion.wait.on.map_or(String::new(), |on| format!(" #{on}"));
                table.row([
                    format!("#{}", suspicion.task),
                    short(suspicion.wait.for_ms),
                    short(suspicion.age_ms),
                    format!("{}{on}", suspicion.wait.op),
                    suspicion.path.clone(),
                ]);
            }
            table
        },
    };
    page.of(&query, crate::suspicions(Duration::from_millis(at_least)), |_| ())
}

pub(super) fn pools(query: Query) -> Body {
    let page = Page {
        key: "pools",
        called: ("pool", "pools"),
        name: |pool: &crate::PoolStats| pool.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("POOL", Set::Name),
                ("STATE", Set::Left),
                ("BUSY", Set::Right),
                ("QUEUED", Set::Right),
                ("OLDEST", Set::Right),
                ("WAIT", Set::Right),
                ("DONE", Set::Right),
                ("REFUSED", Set::Right),
            ]);
            for pool in rows {
                table.row([
                    pool.name.to_owned(),
                    snake(&pool.state),
                    of(pool.running, pool.workers),
                    of(pool.queued, pool.max_jobs),
                    short_or_dash(pool.oldest_ms),
                    pool.waiting.to_string(),
                    pool.completed.to_string(),
                    pool.refused.to_string(),
                ]);
                let ends = [
                    (pool.dropped, "dropped"),
                    (pool.failed, "failed"),
                    (pool.panicked, "panicked"),
                    (pool.timed_out, "timed out"),
                    (pool.cancelled, "cancelled"),
                ];
                table.remark(&at(counted(&ends), &pool.place));
            }
            table
        },
    };
    page.of(&query, all_pools(), |pool| (pool.oldest_ms, pool.queued))
}

pub(super) fn pipelines(query: Query) -> Body {
    let all = all_pipelines().into_iter().filter(|pipeline| query.takes_name(pipeline.name));
    let all: Vec<_> = all.take(query.rows(ROWS)).collect();
    Body::whole(match query.format {
        Format::Json => super::json(&serde_json::json!({ "pipelines": all, "more": 0 })),
        Format::Text if all.is_empty() => format!("{}no pipeline here\n", query.complaint()).into_bytes(),
        Format::Text => {
            let mut page = query.complaint();
            for pipeline in all {
                let shown = pipeline.to_string();
                shown.lines().for_each(|line| page.extend([escape(line).as_str(), "\n"]));
                if let Some(ended) = pipeline.ended {
                    wrap(&mut page, &escape(&format!("ended: {ended}")), "  ");
                }
                wrap(&mut page, &format!("at {}", pipeline.place), "  ");
                page.push('\n');
            }
            page.into_bytes()
        }
    })
}

pub(super) fn bulkheads(query: Query) -> Body {
    let page = Page {
        key: "bulkheads",
        called: ("bulkhead", "bulkheads"),
        name: |bulkhead: &crate::BulkheadStats| bulkhead.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("BULKHEAD", Set::Name),
                ("IN", Set::Right),
                ("WAIT", Set::Right),
                ("OLDEST", Set::Right),
                ("ADMITTED", Set::Right),
                ("FULL", Set::Right),
                ("TOO LATE", Set::Right),
            ]);
            for bulkhead in rows {
                table.row([
                    bulkhead.name.to_owned(),
                    of(bulkhead.in_flight, bulkhead.at_most),
                    bulkhead.waiting.to_string(),
                    short_or_dash(bulkhead.oldest_ms.unwrap_or(0)),
                    bulkhead.admitted.to_string(),
                    bulkhead.refused_full.to_string(),
                    bulkhead.refused_timed_out.to_string(),
                ]);
                table.remark(&at(String::new(), &bulkhead.place));
            }
            table
        },
    };
    page.of(&query, all_bulkheads(), |bulkhead| (bulkhead.waiting, bulkhead.oldest_ms))
}

pub(super) fn cpu(query: Query) -> Body {
    let page = Page {
        key: "cpu",
        called: ("lane", "lanes"),
        name: |lane: &crate::CpuPoolStats| lane.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("LANE", Set::Name),
                ("BUSY", Set::Right),
                ("QUEUED", Set::Right),
                ("OLDEST", Set::Right),
                ("WAIT", Set::Right),
                ("DONE", Set::Right),
                ("ABANDONED", Set::Right),
            ]);
            for lane in rows {
                table.row([
                    lane.name.to_owned(),
                    of(lane.running.len(), lane.threads),
                    lane.queued.to_string(),
                    short_or_dash(lane.oldest_queued_ms),
                    lane.waiting.to_string(),
                    lane.completed.to_string(),
                    lane.abandoned.to_string(),
                ]);
                let mut remark = counted(&[(lane.panicked, "panicked"), (lane.withdrawn, "withdrawn")]);
                if let Some(max) = lane.max_bytes {
                    let comma = if remark.is_empty() { "" } else { ", " };
                    let _ = write!(remark, "{comma}{}/{max} bytes", lane.bytes);
                }
                for job in lane.running.iter().filter(|job| job.abandoned) {
                    let comma = if remark.is_empty() { "" } else { ", " };
                    let _ =
                        write!(remark, "{comma}#{} runs for nobody since {}", job.task, short(job.for_ms));
                }
                table.remark(&at(remark, &lane.place));
            }
            table
        },
    };
    page.of(&query, cpu_pools(), |lane| (lane.oldest_queued_ms, lane.queued))
}

pub(super) fn buffers(query: Query) -> Body {
    let page = Page {
        key: "buffers",
        called: ("pool of buffers", "pools of buffers"),
        name: |pool: &crate::BuffersStats| pool.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("BUFFERS", Set::Name),
                ("HELD", Set::Right),
                ("BYTES EACH", Set::Right),
                ("RESIDENT", Set::Right),
                ("HIGH", Set::Right),
                ("WAIT", Set::Right),
                ("TAKEN", Set::Right),
            ]);
            for pool in rows {
                table.row([
                    pool.name.to_owned(),
                    of(pool.held, pool.count),
                    pool.size_bytes.to_string(),
                    pool.resident_bytes.to_string(),
                    pool.high_water.to_string(),
                    pool.waiting.to_string(),
                    pool.taken.to_string(),
                ]);
                if let Some(oldest) = pool.holders.iter().max_by_key(|holder| holder.for_ms) {
                    let task = oldest.task.map_or("somebody".to_owned(), |task| format!("#{task}"));
                    let line =
                        format!("held for longest: {} by {task}, {}", short(oldest.for_ms), oldest.place);
                    table.remark(&line);
                }
                table.remark(&at(String::new(), &pool.place));
            }
            table
        },
    };
    page.of(&query, all_buffers(), |pool| (pool.waiting, pool.held))
}

pub(super) fn leases(query: Query) -> Body {
    let page = Page {
        key: "leases",
        called: ("pool of leases", "pools of leases"),
        name: |pool: &crate::LeaseStats| pool.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("POOL", Set::Name),
                ("LEASED", Set::Right),
                ("IDLE", Set::Right),
                ("WAIT", Set::Right),
                ("MAX WAIT", Set::Right),
                ("TIMED OUT", Set::Right),
                ("MADE", Set::Right),
                ("FAILED", Set::Right),
            ]);
            for pool in rows {
                table.row([
                    pool.name.to_owned(),
                    of(pool.leased, pool.max),
                    pool.idle.to_string(),
                    pool.waiting.to_string(),
                    short_or_dash(pool.waited_max_ms),
                    pool.timed_out.to_string(),
                    pool.made.to_string(),
                    pool.make_failures.to_string(),
                ]);
                for holder in pool.holders.iter().take(3) {
                    let task = holder.task_id.map_or(String::new(), |task| format!(" #{task}"));
                    let name = holder.task.unwrap_or("somebody");
                    table.remark(&format!(
                        "leased to {name}{task} for {}, at {}",
                        short(holder.held_for_ms),
                        holder.place
                    ));
                }
                if let Some(error) = &pool.last_error {
                    table.remark(&format!("making one fails: {error}"));
                }
                let closed = pool.closed.map_or(String::new(), |why| format!("closed: {why}"));
                let held = counted(&[(pool.held_too_long, "held too long so far")]);
                let remark = [closed, held].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
                table.remark(&at(remark.join(", "), &pool.place));
            }
            table
        },
    };
    page.of(&query, lease_pools(), |pool| (pool.waiting, pool.leased))
}

pub(super) fn breakers(query: Query) -> Body {
    let page = Page {
        key: "breakers",
        called: ("breaker", "breakers"),
        name: |breaker: &crate::BreakerStats| &breaker.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("BREAKER", Set::Name),
                ("STATE", Set::Left),
                ("FOR", Set::Right),
                ("CALLS", Set::Right),
                ("FAILED", Set::Right),
                ("REFUSED", Set::Right),
                ("OPENED", Set::Right),
            ]);
            for breaker in rows {
                table.row([
                    breaker.name.clone(),
                    breaker.state.to_string(),
                    short(breaker.for_ms),
                    breaker.calls.to_string(),
                    breaker.failures.to_string(),
                    breaker.refused.to_string(),
                    breaker.opened.to_string(),
                ]);
                table.remark(&breaker.explained);
                table.remark(&at(String::new(), &breaker.place));
            }
            table
        },
    };
    let rank = |breaker: &crate::BreakerStats| match breaker.state {
        BreakerState::Open | BreakerState::ForcedOpen => (3, breaker.refused),
        BreakerState::HalfOpen => (2, breaker.refused),
        BreakerState::Closed | BreakerState::ForcedClosed => (1, breaker.failures.into()),
    };
    page.of(&query, all_breakers(), rank)
}

pub(super) fn retries(query: Query) -> Body {
    let page = Page {
        key: "retries",
        called: ("retry budget", "retry budgets"),
        name: |budget: &crate::RetryBudgetStats| budget.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("BUDGET", Set::Name),
                ("STATE", Set::Left),
                ("CALLS", Set::Right),
                ("RETRIES", Set::Right),
                ("REFUSED", Set::Right),
                ("ALLOWS", Set::Left),
            ]);
            for budget in rows {
                table.row([
                    budget.name.to_owned(),
                    if budget.is_spent { "spent" } else { "ok" }.to_owned(),
                    budget.calls.to_string(),
                    budget.retries.to_string(),
                    budget.refused.to_string(),
                    format!("{}% + {}/s", budget.extra_percent, budget.min_per_second),
                ]);
            }
            table
        },
    };
    page.of(&query, retry_budgets(), |budget| (budget.is_spent, budget.refused))
}

pub(super) fn effects(query: Query) -> Body {
    let page = Page {
        key: "effects",
        called: ("kind of effect", "kinds of effects"),
        name: |effects: &crate::EffectsStats| effects.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("EFFECT", Set::Name),
                ("NOW", Set::Right),
                ("KEYS", Set::Right),
                ("RUN", Set::Right),
                ("REPEATED", Set::Right),
                ("FAILED", Set::Right),
                ("IN DOUBT", Set::Right),
                ("REFUSED", Set::Right),
            ]);
            for effect in rows {
                table.row([
                    effect.name.to_owned(),
                    effect.in_flight.to_string(),
                    of(effect.done_keys + effect.undecided_keys, effect.at_most_keys),
                    effect.run.to_string(),
                    effect.repeated.to_string(),
                    effect.failed.to_string(),
                    effect.in_doubt.to_string(),
                    effect.refused.to_string(),
                ]);
            }
            table
        },
    };
    page.of(&query, all_effects(), |effects| (effects.in_doubt, effects.in_flight))
}

pub(super) fn copies(query: Query) -> Body {
    let page = Page {
        key: "copies",
        called: ("set of copies", "sets of copies"),
        name: |copies: &crate::CopiesStats| copies.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("COPIES", Set::Name),
                ("KEYS", Set::Right),
                ("ASKING", Set::Right),
                ("FRESH", Set::Right),
                ("STALE", Set::Right),
                ("WITHOUT", Set::Right),
                ("FAILED", Set::Right),
            ]);
            for copies in rows {
                table.row([
                    copies.name.to_owned(),
                    copies.keys.to_string(),
                    copies.refreshing.to_string(),
                    copies.fresh.to_string(),
                    copies.stale.to_string(),
                    copies.without.to_string(),
                    copies.failed.to_string(),
                ]);
            }
            table
        },
    };
    page.of(&query, all_copies(), |copies| (copies.without, copies.stale))
}

/// How much a person should look at a child.
fn trouble(child: &ChildStats) -> u8 {
    match child.state {
        ChildState::Stuck => 3,
        ChildState::BackingOff => 2,
        _ => u8::from(!child.ready),
    }
}

pub(super) fn supervisors(query: Query) -> Body {
    let page = Page {
        key: "supervisors",
        called: ("supervisor", "supervisors"),
        name: |supervisor: &crate::SupervisorStats| supervisor.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("SUPERVISOR", Set::Name),
                ("STATE", Set::Left),
                ("FOR", Set::Right),
                ("RESTARTS", Set::Right),
                ("ERRORS", Set::Right),
                ("PANICS", Set::Right),
                ("HANGS", Set::Right),
                ("BEAT", Set::Right),
            ]);
            for supervisor in rows {
                let state = match (&supervisor.gave_up, supervisor.ended) {
                    (Some(_), _) => "gave up",
                    (None, true) => "ended",
                    (None, false) => "running",
                };
                let dash = || "-".to_owned();
                table.row([
                    supervisor.name.to_owned(),
                    state.to_owned(),
                    dash(),
                    supervisor.restarts.to_string(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                ]);
                let budget = format!(
                    "{}; {} of {} restarts within {}",
                    snake(&supervisor.strategy),
                    supervisor.recent_restarts,
                    supervisor.max_restarts,
                    short(supervisor.window_ms)
                );
                table.remark(&at(budget, &supervisor.place));
                if let Some(why) = &supervisor.gave_up {
                    table.remark(why);
                }
                let mut children: Vec<&ChildStats> = supervisor.children.iter().collect();
                children.sort_by_key(|child| std::cmp::Reverse(trouble(child)));
                for child in children {
                    table.row([
                        format!("  {}", child.name),
                        snake(&child.state),
                        short(child.since_ms),
                        child.restarts.to_string(),
                        child.errors.to_string(),
                        (child.panics_unexpected + child.panics_expected).to_string(),
                        child.hangs.to_string(),
                        child.beat_age_ms.map_or_else(dash, short),
                    ]);
                    table.remark(child.last_failure.as_deref().unwrap_or(""));
                }
            }
            table
        },
    };
    let rank = |supervisor: &crate::SupervisorStats| {
        (
            supervisor.gave_up.is_some(),
            supervisor.children.iter().map(trouble).max(),
            supervisor.recent_restarts,
        )
    };
    page.of(&query, all_supervisors(), rank)
}

pub(super) fn schedules(query: Query) -> Body {
    let page = Page {
        key: "schedules",
        called: ("schedule", "schedules"),
        name: |schedule: &crate::ScheduleStats| schedule.name,
        table: |rows| {
            let mut table = Table::new(&[
                ("JOB", Set::Name),
                ("STATE", Set::Left),
                ("OK", Set::Right),
                ("FAILED", Set::Right),
                ("MISSED", Set::Right),
                ("LAST", Set::Right),
                ("NEXT", Set::Right),
            ]);
            for schedule in rows {
                let state = if schedule.stopped {
                    "stopped".to_owned()
                } else {
                    of(schedule.running, schedule.at_most_running)
                };
                let dash = || "-".to_owned();
                table.row([schedule.name.to_owned(), state, dash(), dash(), dash(), dash(), dash()]);
                table.remark(&at(String::new(), &schedule.place));
                for job in &schedule.jobs {
                    let state = match (job.paused, job.running, job.waiting) {
                        (true, ..) => "paused",
                        (_, 1.., _) => "running",
                        (_, 0, 1..) => "due",
                        _ => "idle",
                    };
                    table.row([
                        format!("  {}", job.name),
                        state.to_owned(),
                        job.ok.to_string(),
                        (job.failed + job.panicked + job.timed_out).to_string(),
                        (job.missed + job.skipped).to_string(),
                        job.last_duration.map_or_else(dash, |took| short(millis(took))),
                        job.next.map_or_else(dash, from_now),
                    ]);
                    let last =
                        job.last_end.as_ref().map_or(String::new(), |end| format!("; the last run {end}"));
                    table.remark(&format!("{}{last}", job.when));
                }
            }
            table
        },
    };
    let rank =
        |schedule: &crate::ScheduleStats| schedule.jobs.iter().map(|job| job.failed + job.missed).max();
    page.of(&query, all_schedules(), rank)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock may have been set meanwhile: what is past is now.
fn from_now(time: SystemTime) -> String {
    short(time.duration_since(SystemTime::now()).map_or(0, millis))
}

pub(super) fn panics(query: Query) -> Body {
    let mut panics = crate::panics();
    panics.by_task.retain(|task| query.takes_name(task.task));
    Body::whole(match query.format {
        Format::Json => super::json(&serde_json::json!({ "panics": panics, "more": 0 })),
        Format::Text => {
            let mut page = query.complaint();
            let _ = writeln!(page, "{} bugs, {} of bad input", panics.unexpected, panics.expected);
            let mut table =
                Table::new(&[("TASK", Set::Name), ("BUGS", Set::Right), ("BAD INPUT", Set::Right)]);
            for task in &panics.by_task {
                table.row([task.task.to_owned(), task.unexpected.to_string(), task.expected.to_string()]);
            }
            if !table.is_empty() {
                page.push('\n');
                table.write(&mut page);
            }
            page.into_bytes()
        }
    })
}
