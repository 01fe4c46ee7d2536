//! What it costs that everything is known: the path of a poll, the threads that look on, and memory.
//!
//! Each contestant runs in a process of its own: what is switched on in one stays on.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bowline::{Bound, Cancelled, Overflow, Runner, Scope, Watchdog, scope};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::child;
use crate::measure::{Column, rounds, table};
use crate::onlookers::{self, Onlooker};
use crate::parked::{resident_bytes, tasks};
use crate::polls;

/// Polls of a task in a round, and wake-ups by another task.
const POLLS: u64 = 1_000_000;
/// Wake-ups in each poll, where it is asked what one more costs.
const MORE: u64 = 9;

/// Row and the child's argument.
const POLLED: [(&str, &str); 4] = [
    ("`tokio::spawn`", "bare"),
    ("**scope**, detector and watchdog off", "off"),
    ("**scope**", "on"),
    ("**scope**, `Runner::time_polls`", "timed"),
];

/// Row and the child's arguments.
const LOOKED_ON: [(&str, &str, &str); 6] = [
    ("`tokio::spawn`, each at a `Notify` of tokio's", "bare", "notify"),
    ("**scope**, the same, detector and watchdog off", "off", "notify"),
    ("**scope**, the same", "on", "notify"),
    ("**scope**, all at one `Latch`, detector and watchdog off", "off", "latch"),
    ("**scope**, all at one `Latch`", "on", "latch"),
    ("**scope**, each at a queue of its own", "on", "queue"),
];

/// Prints the tables.
pub fn report(allocator: &str) {
    report_polls(allocator);
    for tasks in [1, 100_000, tasks()] {
        report_looked_on(allocator, tasks);
    }
}

fn report_polls(allocator: &str) {
    let mut figures: [Vec<Vec<f64>>; 3] = std::array::from_fn(|_| vec![Vec::new(); POLLED.len()]);
    for round in 0..=rounds() {
        for turn in 0..POLLED.len() {
            let at = (turn + round) % POLLED.len();
            let picoseconds = child::again(&["polled", POLLED[at].1]);
            for (figure, picoseconds) in figures.iter_mut().zip(picoseconds) {
                if round > 0 {
                    figure[at].push(picoseconds as f64 / 1_000.0);
                }
            }
        }
    }
    let headings =
        ["a poll and a wake-up by itself, ns", "each wake-up more, ns", "a turn woken by another task, ns"];
    let columns =
        headings.into_iter().zip(figures).map(|(heading, samples)| Column { heading, samples, digits: 1 });
    let columns: Vec<Column<'_>> = columns.collect();
    let title = format!("The path of a poll, {allocator}: processor time of the only worker.");
    table(&title, &POLLED.map(|(row, _)| row), &columns);
    let above = |column: usize, row: usize| {
        median(&columns[column].samples[row]) - median(&columns[column].samples[0])
    };
    println!(
        "\nAbove a bare poll: {:.1} ns with everything on, of which the wake-up through a waker of its own is {:.1} ns; \
         {:.1} ns with polls timed.",
        above(0, 2),
        above(1, 2),
        above(0, 3)
    );
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Columns of the second kind of table, as a child prints them: heading, unit, digits.
const COLUMNS: [(&str, f64, usize); 6] = [
    ("a poll beside them, ns", 1_000.0, 1),
    ("detector, % of a core", 10_000.0, 2),
    ("a scan, ms", 1_000_000.0, 2),
    ("watchdog, % of a core", 10_000.0, 2),
    ("resident bytes per task, before a scan", 1.0, 0),
    ("after it", 1.0, 0),
];

fn report_looked_on(allocator: &str, tasks: u64) {
    let mut figures: [Vec<Vec<f64>>; COLUMNS.len()] =
        std::array::from_fn(|_| vec![Vec::new(); LOOKED_ON.len()]);
    // With so many, a scan is followed by most of a minute without one.
    let rounds = if tasks > 100_000 { 1.max(rounds() / 3) } else { rounds() };
    for round in 0..rounds {
        for turn in 0..LOOKED_ON.len() {
            let at = (turn + round) % LOOKED_ON.len();
            let (_, which, place) = LOOKED_ON[at];
            let numbers = child::again(&["looked-on", which, place, &tasks.to_string()]);
            for ((figure, number), (_, unit, _)) in figures.iter_mut().zip(numbers).zip(COLUMNS) {
                if number != NONE {
                    figure[at].push(number as f64 / unit);
                }
            }
        }
    }
    let columns: Vec<Column<'_>> = figures
        .into_iter()
        .zip(COLUMNS)
        .map(|(samples, (heading, _, digits))| Column { heading, samples, digits })
        .filter(|column| tasks > 1 || column.digits > 0) // the bytes of one task are those of the process
        .collect();
    let title = format!(
        "Looked on, {allocator}: {tasks} parked tasks, and one that is polled all the time. One worker."
    );
    table(&title, &LOOKED_ON.map(|(row, ..)| row), &columns);
}

// ---- what a child process does

/// A figure that there is not.
const NONE: u64 = u64::MAX;

/// One worker, as everybody here has.
fn bare_runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("the system gives a runtime")
}

fn runner(which: &str) -> Runner {
    let runner = Runner::new("bench").worker_threads(1).without_signals();
    match which {
        "off" => runner.without_detector().watchdog(Watchdog::off()),
        "on" => runner,
        "timed" => runner.time_polls(true),
        _ => panic!("no contestant is called {which}"),
    }
}

/// Processor time of this thread: there is one worker, and on a busy machine the clock on the wall says nothing.
fn worker_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("processor time is not negative")
}

/// What a worker spends on `work`.
async fn spent_on(work: impl Future<Output = ()>) -> Duration {
    let began = worker_time();
    work.await;
    worker_time() - began
}

async fn poll_many(polls: u64, wakes: u64) -> Duration {
    spent_on(polls::polled(polls, wakes)).await
}

async fn turns(mine: Arc<Notify>, others: Arc<Notify>, turns: u64) -> Duration {
    spent_on(polls::turns(mine, others, turns)).await
}

fn picoseconds(took: Duration, operations: u64) -> u64 {
    u64::try_from(took.as_nanos() * 1_000 / u128::from(operations)).expect("no operation takes days")
}

fn print_polled(once: Duration, often: Duration, turned: Duration) {
    let (one, all) = (picoseconds(once, POLLS), picoseconds(often, POLLS));
    println!("{one} {} {}", all.saturating_sub(one) / (MORE - 1), picoseconds(turned, 2 * POLLS));
}

/// Measures the path of a poll and prints picoseconds.
///
/// # Panics
///
/// If there is no contestant of that name.
pub fn polled(which: &str) {
    let (a, b) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    if which == "bare" {
        bare_runtime().block_on(async {
            let joined = "the task does not panic";
            tokio::spawn(poll_many(POLLS, 1)).await.expect(joined);
            let once = tokio::spawn(poll_many(POLLS, 1)).await.expect(joined);
            let often = tokio::spawn(poll_many(POLLS, MORE)).await.expect(joined);
            let other = tokio::spawn(turns(Arc::clone(&b), Arc::clone(&a), POLLS));
            let turned = tokio::spawn(turns(a, b, POLLS)).await.expect(joined);
            other.await.expect(joined);
            print_polled(once, often, turned);
        });
        return;
    }
    let (_, report) = runner(which).run(scope("bench", async move |s| {
        let ok = |took| Ok::<_, Cancelled>(took);
        s.spawn("warm up", async move { ok(poll_many(POLLS, 1).await) }).await?;
        let once = s.spawn("once", async move { ok(poll_many(POLLS, 1).await) }).await?;
        let often = s.spawn("often", async move { ok(poll_many(POLLS, MORE).await) }).await?;
        let (mine, others) = (Arc::clone(&b), Arc::clone(&a));
        let other = s.spawn("other", async move { ok(turns(mine, others, POLLS).await) });
        let turned = s.spawn("one", async move { ok(turns(a, b, POLLS).await) }).await?;
        other.await?;
        print_polled(once, often, turned);
        Ok::<_, Cancelled>(())
    }));
    assert!(report.is_clean(), "{report}");
}

/// What the poller and the tasks that park say to whoever measures.
#[derive(Default)]
struct Seen {
    parked: AtomicU64,
    polls: AtomicU64,
    /// Processor time of the worker, in nanoseconds, now and then.
    worker: AtomicU64,
}

impl Seen {
    /// Is polled for ever.
    async fn poll_on(&self) {
        let mut polls = 0_u64;
        poll_fn(|cx| {
            polls += 1;
            if polls.is_multiple_of(4_096) {
                self.polls.store(polls, Ordering::Relaxed);
                let worker = u64::try_from(worker_time().as_nanos()).expect("no process runs for centuries");
                self.worker.store(worker, Ordering::Relaxed);
            }
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })
        .await;
    }

    /// Polls so far, and the processor time they took.
    fn so_far(&self) -> (u64, Duration) {
        (self.polls.load(Ordering::Relaxed), Duration::from_nanos(self.worker.load(Ordering::Relaxed)))
    }

    async fn wait_parked(&self, tasks: u64) {
        while self.parked.load(Ordering::Relaxed) < tasks {
            yield_now().await;
        }
    }

    async fn breathe(&self, spawned: u64) {
        if spawned.is_multiple_of(1_000) {
            yield_now().await; // a run queue that grows to a million would be weighed too
        }
    }
}

/// From a thread of its own, so that nothing of the program waits for it.
fn measure(seen: &Seen, detector: bool, tasks: u64, before: u64) {
    const LEAST: Duration = Duration::from_secs(2);
    const LONGEST: Duration = Duration::from_secs(180);
    let weigh = || (resident_bytes().saturating_sub(before)) / tasks;
    let fresh = weigh();
    let mut detectors = Onlooker::find(onlookers::DETECTOR).filter(|_| detector);
    let mut watchdogs = Onlooker::find(onlookers::WATCHDOG).filter(|_| detector);
    if let Some(detectors) = &mut detectors {
        detectors.wait_asleep(2, LONGEST); // the first scan that has met everybody is over
        detectors.restart();
    }
    if let Some(watchdogs) = &mut watchdogs {
        watchdogs.restart();
    }
    let (began, (polls, worker)) = (Instant::now(), seen.so_far());
    std::thread::sleep(LEAST);
    if let Some(detectors) = &detectors {
        detectors.wait_asleep(1, LONGEST); // a whole number of scans, and the rests between them
    }
    let (took, (polls_after, worker_after)) = (began.elapsed(), seen.so_far());
    let poll = picoseconds(worker_after - worker, (polls_after - polls).max(1));
    let millionths = |used: Duration| (used.as_secs_f64() / took.as_secs_f64() * 1e6) as u64;
    let share = |one: &Option<Onlooker>| one.as_ref().map_or(NONE, |one| millionths(one.used()));
    let scan =
        detectors.as_ref().map_or(NONE, |one| (one.used() / one.times_asleep().max(1)).as_nanos() as u64);
    let numbers = [poll, share(&detectors), scan, share(&watchdogs), fresh, weigh()];
    println!("{}", numbers.map(|number| number.to_string()).join(" "));
    std::process::exit(0); // a million destructors would only take time
}

/// Parks many tasks beside one that is polled all the time, and prints what it costs to look on.
///
/// # Panics
///
/// If there is no contestant of that name.
pub fn looked_on(which: &str, place: &str, tasks: &str) {
    let tasks: u64 = tasks.parse().expect("a number of tasks");
    let place = place.to_owned();
    let before = resident_bytes();
    let seen: &'static Seen = Box::leak(Box::default());
    if which == "bare" {
        bare_runtime().block_on(async {
            let notify = Arc::new(Notify::new());
            for n in 0..tasks {
                tokio::spawn(at_notify(seen, Arc::clone(&notify)));
                seen.breathe(n).await;
            }
            seen.wait_parked(tasks).await;
            tokio::spawn(seen.poll_on());
            let measuring = tokio::task::spawn_blocking(move || measure(seen, false, tasks, before));
            measuring.await.expect("it ends the process");
        });
        return;
    }
    let with_detector = which == "on";
    runner(which).run(scope("bench", async move |s: &Scope<Cancelled>| {
        let notify = Arc::new(Notify::new());
        let (_count, latch) = s.cx().latch("never");
        let latch = Arc::new(latch);
        let mut senders = Vec::new();
        for n in 0..tasks {
            match place.as_str() {
                "notify" => drop(s.spawn("parked", at_notify(seen, Arc::clone(&notify)))),
                "latch" => {
                    let latch = Arc::clone(&latch);
                    drop(s.spawn("parked", async move {
                        let mut waiting = pin!(latch.wait());
                        parks(seen, &mut waiting).await
                    }));
                }
                "queue" => {
                    let (tx, rx) = s.queue::<u64>("queue", Bound::items(1), Overflow::Block);
                    senders.push(tx);
                    drop(s.spawn_with("parked", rx, async move |_cx, rx| {
                        let mut waiting = pin!(rx.recv());
                        parks(seen, &mut waiting).await.map(drop)
                    }));
                }
                _ => panic!("no place is called {place}"),
            }
            seen.breathe(n).await;
        }
        seen.wait_parked(tasks).await;
        s.spawn("polled", async {
            seen.poll_on().await;
            Ok::<_, Cancelled>(())
        });
        let measuring = s.spawn_blocking("measure", move || {
            measure(seen, with_detector, tasks, before);
            Ok(())
        });
        measuring.await
    }));
}

/// Counts `waiting` as parked when it is.
async fn parks<F: Future + Unpin>(seen: &Seen, waiting: &mut F) -> F::Output {
    let mut counted = false;
    poll_fn(|cx| {
        let polled = std::pin::Pin::new(&mut *waiting).poll(cx);
        if polled.is_pending() && !std::mem::replace(&mut counted, true) {
            seen.parked.fetch_add(1, Ordering::Relaxed);
        }
        polled
    })
    .await
}

async fn at_notify(seen: &'static Seen, notify: Arc<Notify>) -> Result<(), Cancelled> {
    let mut waiting = pin!(notify.notified());
    parks(seen, &mut waiting).await;
    Ok(())
}
