//! The thread: looks at the workers of each root 40 times a second, and walks its tree when there is a reason or it is time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, Once, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeMetrics};

use super::baseline::Baselines;
use super::census::{self, Census};
use super::intake::{Intake, Intakes};
use super::polls::{LongPolls, Suspect};
use super::settings::Watchdog;
use super::workers::{Frozen, RuntimeSample, WorkerSample, Workers};
use super::{Finding, Matter, Standing};
use crate::alert::{self, AlertKind, Subject};
use crate::node::Node;
use crate::record::Record;
use crate::root::{self, RootState};
use crate::site::Site;
use crate::sync::{Arc, LockExt};
use crate::{pipeline, pool};

/// Between two looks at the workers.
const TICK: Duration = Duration::from_millis(25);
/// Between two looks at the books of queues and pools, or a sixth of the time in which they are to move.
const BOOKS: Duration = Duration::from_secs(5);
/// What a look counts at most, however long ago the last was (invariant 3 of the module above).
const COUNTS_AT_MOST: u32 = 2;
/// After a walk it rests so many times as long: two kinds of walk, so a hundredth of a core together. (A third is taken only while
/// a worker is stuck with nobody who is known.)
const RESTS: u32 = 199;
/// A worker that is stuck for so long, and with none of our tasks, is with a foreign one.
const FOREIGN: Duration = Duration::from_secs(1);

/// One in so many tasks may come or go while they are counted.
const COUNTED_WRONG: usize = 1_000;

/// What was not taken over by the thread yet.
static ARRIVED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());
static ARRIVAL: Condvar = Condvar::new();

/// Watches a root, whose tasks run on this runtime, until it ends.
pub(crate) fn watch(root: &Arc<Record>, runtime: &Handle, settings: &Watchdog) {
    static START: Once = Once::new();
    if !settings.runs() {
        return;
    }
    ARRIVED.lock_unpoisoned().push(Watched::new(root, runtime, settings.clone()));
    ARRIVAL.notify_one();
    START.call_once(|| {
        // Without the thread (the system is out of threads) nobody is watched; nothing depends on it.
        let _ = std::thread::Builder::new().name("bowline-watch".into()).spawn(run);
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread outside of every runtime; it measures real time and sleeps by design"
)]
fn run() {
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        {
            let mut arrived = ARRIVED.lock_unpoisoned();
            while watched.is_empty() && arrived.is_empty() {
                arrived = ARRIVAL.wait(arrived).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            watched.append(&mut arrived);
        }
        // What panics here is a bug of ours, and not worth a program: that root is watched no more.
        watched.retain_mut(|root| {
            let looked = catch_unwind(AssertUnwindSafe(|| root.look(&Instant::now)));
            looked.unwrap_or_else(|_| {
                alert::say("bowline: the watchdog has panicked, and watches this root no more\n".to_owned());
                false
            })
        });
        std::thread::sleep(TICK);
    }
}

/// A time that comes again and again, and rests after what it was used for.
struct Pace {
    every: Duration,
    /// When it was used last, and the time until it was due again.
    last: Option<(Instant, Duration)>,
}

impl Pace {
    fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|(last, period)| now.saturating_duration_since(last) >= period)
    }

    /// It was used, from `now` until `until`. Returns the time since it was last used, as far as it counts.
    fn used(&mut self, now: Instant, until: Instant) -> Duration {
        let took = until.saturating_duration_since(now);
        let before = self.last.replace((now, self.every.max(took * (RESTS + 1))));
        before.map_or(Duration::ZERO, |(last, period)| {
            now.saturating_duration_since(last).min(period * COUNTS_AT_MOST)
        })
    }
}

/// A root, and what the rules know of it.
struct Watched {
    root: Weak<Record>,
    metrics: RuntimeMetrics,
    settings: Watchdog,
    last: Option<Instant>,
    /// How long the root was watched, as far as it counts.
    age: Duration,
    workers: Workers,
    frozen: Standing,
    polls: LongPolls,
    suspects: Vec<Suspect>,
    walks: Pace,
    counts: Pace,
    has_foreign: bool,
    long_polls: Standing,
    books: Pace,
    intakes: Intakes,
    in_books: Standing,
    counted_at: Duration,
    baselines: Baselines,
    grown: Standing,
}

impl Watched {
    fn new(root: &Arc<Record>, runtime: &Handle, settings: Watchdog) -> Self {
        Self {
            root: Arc::downgrade(root),
            metrics: runtime.metrics(),
            last: None,
            age: Duration::ZERO,
            workers: Workers::default(),
            frozen: Standing::default(),
            polls: LongPolls::default(),
            suspects: Vec::new(),
            walks: Pace::new(Duration::ZERO),
            counts: Pace::new(Duration::ZERO),
            has_foreign: false,
            long_polls: Standing::default(),
            books: Pace::new((settings.no_progress / 6).min(settings.counts).clamp(TICK, BOOKS)),
            intakes: Intakes::default(),
            in_books: Standing::default(),
            counted_at: Duration::ZERO,
            baselines: Baselines::default(),
            grown: Standing::default(),
            settings,
        }
    }

    /// Takes a look; `false` if the root is gone.
    fn look(&mut self, clock: &dyn Fn() -> Instant) -> bool {
        let now = clock();
        let Some(record) = self.root.upgrade() else { return false };
        let top = Arc::clone(&record.node);
        drop(record);
        let Some(state) = top.root.clone() else { return false };
        let passed =
            self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let passed = passed.min(TICK * COUNTS_AT_MOST);
        self.age += passed;
        let sample = sample(&self.metrics);
        self.workers.look(passed, &sample);
        let matters = self.look_at_polls(passed, clock, &top);
        tell(&state, self.long_polls.compare(matters));
        let matter = self.look_at_runtime(&top, &sample);
        tell(&state, self.frozen.compare(matter));
        if self.books.is_due(now) {
            self.look_at_books(clock, &state, &top);
        }
        true
    }

    /// Who is in a long poll: the tree is walked only if a worker is stuck with somebody who is not known.
    fn look_at_polls(
        &mut self,
        passed: Duration,
        clock: &dyn Fn() -> Instant,
        top: &Arc<Node>,
    ) -> Vec<Matter> {
        let stuck = self.workers.stuck(TICK / 2);
        self.suspects.retain(Suspect::is_in_it);
        let now = clock();
        if stuck > self.suspects.len() && self.walks.is_due(now) {
            let mut polled = census::polled(top, stuck + MORE_SUSPECTS);
            // Who is known stays as it is: its poll is the same.
            polled.retain(|new| self.suspects.iter().all(|known| known.poll.task != new.poll.task));
            self.suspects.append(&mut polled);
            self.walks.used(now, clock());
        }
        if stuck == 0 {
            self.suspects.clear();
        }
        let polled = self.suspects.iter().map(|suspect| &suspect.poll);
        let mut matters = self.polls.look(passed, self.settings.long_poll, polled);
        let stuck = self.workers.stuck(FOREIGN.max(self.settings.long_poll));
        let stuck = if self.has_foreign_tasks(stuck, clock, top) { stuck } else { 0 };
        let ours =
            self.suspects.iter().filter(|suspect| self.polls.seen_for(&suspect.poll) >= FOREIGN / 2).count();
        if stuck > ours {
            let foreign = stuck - ours;
            let workers = if foreign == 1 { "worker is" } else { "workers are" };
            let text = format!(
                "{foreign} {workers} in one poll, or in a row of slow ones, for more than {FOREIGN:?}, and of no task of ours: \
                 foreign tasks, spawned outside of any scope"
            );
            matters.push((of_root(AlertKind::LongPoll, "foreign task", top), text));
        }
        matters
    }

    /// Whether there is anybody whom a worker could be stuck with that is not ours. Slow polls of ours, one after the other, look
    /// the same from here, and so does a worker that the system gives no time.
    fn has_foreign_tasks(&mut self, stuck: usize, clock: &dyn Fn() -> Instant, top: &Arc<Node>) -> bool {
        let now = clock();
        if stuck > 0 && self.counts.is_due(now) {
            let before = self.metrics.num_alive_tasks();
            let ours = census::tasks(top);
            let alive = before.min(self.metrics.num_alive_tasks());
            self.has_foreign = alive > ours + ours / COUNTED_WRONG;
            self.counts.used(now, clock());
        }
        self.has_foreign
    }

    fn look_at_runtime(&self, top: &Node, sample: &RuntimeSample) -> Option<Matter> {
        let frozen = self.workers.frozen(self.settings.frozen, sample)?;
        let RuntimeSample { workers, queued, alive } = sample;
        let polled: Vec<_> = self.suspects.iter().map(|suspect| &suspect.poll).collect();
        let polled: Vec<_> = polled.iter().map(|poll| format!("`{}` #{}", poll.path, poll.task)).collect();
        let text = match frozen {
            Frozen::Busy(time) => format!(
                "none of {} workers has got on for {time:?}, with {queued} tasks queued and {alive} alive; timers and sockets \
                 stand still too. Being polled: {}",
                workers.len(),
                if polled.is_empty() { "no task of ours".to_owned() } else { polled.join(", ") }
            ),
            Frozen::Asleep(time) => format!(
                "all {} workers have slept for {time:?} with {queued} tasks queued, and nobody wakes them",
                workers.len()
            ),
        };
        Some((of_root(AlertKind::Frozen, top.site.name, top), text))
    }

    /// Queues, pools, the blocking lane; and every now and then the counts.
    fn look_at_books(&mut self, clock: &dyn Fn() -> Instant, state: &RootState, top: &Arc<Node>) {
        let now = clock();
        let alive = self.metrics.num_alive_tasks();
        let mut census = Census::take(top, self.settings.no_progress / 2);
        // These books know no root: they are looked at where there is only one.
        if root::all().len() == 1 {
            of_process(&mut census.intakes);
        }
        let passed = self.books.used(now, clock());
        let mut matters = self.intakes.look(passed, self.settings.no_progress, &census.intakes);
        matters.extend(self.blocking(&census, top));
        tell(state, self.in_books.compare(matters));
        if self.age.saturating_sub(self.counted_at) >= self.settings.counts {
            self.counted_at = self.age;
            let foreign = Site { name: "foreign tasks", place: top.site.place };
            let others = Site { name: "other names", place: top.site.place };
            let count = u32::try_from(alive.saturating_sub(census.tasks)).unwrap_or(u32::MAX);
            let counts = census.counts.into_values().chain([(foreign, count)]);
            let matters = self.baselines.look(counts, others);
            tell(state, self.grown.compare(matters));
        }
    }

    fn blocking(&self, census: &Census, top: &Node) -> Option<Matter> {
        let lane = &census.blocking;
        let is_full = lane.waiting > 0 && lane.oldest >= self.settings.blocking;
        is_full.then(|| {
            let whose = lane.runs.map_or(String::new(), |name| format!(", `{name}` among them"));
            let text = format!(
                "{} blocking tasks wait for a thread, the first for {:?}; {} of ours run{whose}",
                lane.waiting, lane.oldest, lane.running
            );
            (of_root(AlertKind::BlockingFull, "blocking lane", top), text)
        })
    }
}

/// Those that are being polled beside the ones that hold up a worker.
const MORE_SUSPECTS: usize = 64;

fn of_root(kind: AlertKind, name: &'static str, top: &Node) -> Subject {
    Subject { kind, name: name.into(), place: top.site.place }
}

fn tell(state: &RootState, news: Vec<Finding>) {
    for finding in news {
        match finding {
            Finding::Raised(subject, text) => alert::raise_at(state, subject, text),
            Finding::Over(subject, text) => alert::clear_at(state, &subject, text),
        }
    }
}

fn sample(metrics: &RuntimeMetrics) -> RuntimeSample {
    RuntimeSample {
        workers: workers(metrics),
        queued: metrics.global_queue_depth(),
        alive: metrics.num_alive_tasks(),
    }
}

#[cfg(target_has_atomic = "64")]
fn workers(metrics: &RuntimeMetrics) -> Vec<WorkerSample> {
    let sample = |worker| WorkerSample {
        sleeps: metrics.worker_park_unpark_count(worker),
        busy: metrics.worker_total_busy_duration(worker),
    };
    (0..metrics.num_workers()).map(sample).collect()
}

/// Tokio counts nothing here.
#[cfg(not(target_has_atomic = "64"))]
fn workers(_: &RuntimeMetrics) -> Vec<WorkerSample> {
    Vec::new()
}

/// Pools and the stages of pipelines, wherever they are.
fn of_process(intakes: &mut Vec<Intake>) {
    let intake = |id, what, name, place| Intake {
        id,
        what,
        name,
        place,
        waiting: 0,
        max: 0,
        tells_high: false,
        oldest: None,
        taken: 0,
        in_hands: 0,
        dropped: 0,
        refused: 0,
        takers: Vec::new(),
        receivers: Vec::new(),
    };
    for (place, pool) in pool::placed_pools() {
        intakes.push(Intake {
            waiting: pool.queued,
            max: pool.max_jobs,
            // That of one that a worker has taken along is not known.
            oldest: (pool.oldest_ms > 0).then(|| Duration::from_millis(pool.oldest_ms)),
            taken: pool.accepted.saturating_sub(pool.queued as u64),
            in_hands: pool.running,
            dropped: pool.dropped,
            refused: pool.refused,
            ..intake(pool.id, "pool", pool.name, place)
        });
    }
    for (number, place, stage) in pipeline::placed_stages() {
        intakes.push(Intake {
            waiting: stage.depth_items,
            max: stage.max_items,
            taken: stage.passed + stage.filtered + stage.failed + stage.cancelled,
            in_hands: stage.in_flight,
            ..intake(number, "stage", stage.name, place)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{Future, pending};

    use super::*;
    use crate::testing::harness::{self, Options};
    use crate::testing::yield_once;
    use crate::{Alert, Bound, Cancelled, Overflow, Semaphore, alerts, scope};

    /// A watchdog for the test that runs here, whose time is played.
    struct Played {
        watched: Watched,
        now: Cell<Instant>,
    }

    impl Played {
        #[expect(clippy::disallowed_methods, reason = "a moment to begin with")]
        fn new(settings: Watchdog) -> Self {
            let root = root::of_runtime().unwrap();
            let watched = Watched::new(&root, &Handle::current(), settings);
            Self { watched, now: Cell::new(Instant::now()) }
        }

        /// Looks until this time has passed, as often as the thread would.
        fn passes(&mut self, time: Duration) {
            let until = self.now.get() + time;
            while self.now.get() < until {
                self.now.set(self.now.get() + TICK);
                assert!(self.watched.look(&|| self.now.get()));
            }
        }
    }

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn example<F: Future>(body: F) -> F::Output {
        harness::run(Options::new("shop"), body)
    }

    fn standing(kind: AlertKind) -> Vec<Alert> {
        alerts().into_iter().filter(|alert| alert.kind == kind).collect()
    }

    #[test]
    fn tasks_of_one_name_that_grow_are_told_with_name_number_and_place() {
        example(async {
            let mut played = Played::new(Watchdog::new());
            let ended = scope("server", async |s| {
                (0..20).for_each(|_| drop(s.spawn("accept", pending::<Result<(), Cancelled>>())));
                played.passes(10 * MINUTE);
                assert_eq!(standing(AlertKind::TasksGrew).len(), 0, "they are learned");
                let line = line!() + 1;
                let expire = |_| drop(s.spawn("expiry", pending::<Result<(), Cancelled>>()));
                (0..60).for_each(expire);
                played.passes(10 * MINUTE);
                assert_eq!(
                    standing(AlertKind::TasksGrew).len(),
                    0,
                    "a name that is new is learned with what it has"
                );
                (0..60).for_each(expire);
                played.passes(MINUTE);
                assert_eq!(standing(AlertKind::TasksGrew).len(), 0, "it may be a burst");
                played.passes(3 * MINUTE);
                let told = standing(AlertKind::TasksGrew);
                let [alert] = &told[..] else { panic!("{told:?}") };
                assert_eq!((&*alert.name, alert.place.line()), ("expiry", line));
                assert_eq!(alert.text, "120 of them live, 60 more than the 60 that are usual");
                s.cancel("enough");
                Ok::<_, Cancelled>(())
            });
            ended.await.unwrap_err();
            played.passes(MINUTE);
            assert_eq!(standing(AlertKind::TasksGrew).len(), 0, "they are gone");
        });
    }

    #[test]
    fn foreign_tasks_that_grow_are_told() {
        example(async {
            let mut played = Played::new(Watchdog::new());
            played.passes(6 * MINUTE);
            #[expect(clippy::disallowed_methods, reason = "foreign tasks are what this is about")]
            let foreign: Vec<_> = (0..30).map(|_| tokio::spawn(pending::<()>())).collect();
            played.passes(3 * MINUTE);
            let told = standing(AlertKind::TasksGrew);
            let [alert] = &told[..] else { panic!("{told:?}") };
            assert_eq!(&*alert.name, "foreign tasks");
            assert_eq!(alert.text, "30 of them live, 30 more than the 0 that are usual");
            for task in foreign {
                task.abort();
                let _ = task.await;
            }
            played.passes(MINUTE);
            assert_eq!(standing(AlertKind::TasksGrew).len(), 0);
        });
    }

    #[test]
    fn slow_polls_of_ours_are_no_foreign_task_and_a_foreign_task_is_one() {
        example(async {
            let played = Played::new(Watchdog::new());
            let told = async |played: &mut Played| {
                for _ in 0..8 {
                    played.passes(2 * SECOND / 5);
                    yield_once().await;
                }
                let standing = standing(AlertKind::LongPoll);
                standing.iter().filter(|alert| alert.name == "foreign task").count()
            };
            // In a task, since the runtime writes nothing down between few polls of tasks: to the watchdog its worker stands
            // still, though nobody is in one poll for long.
            let slow_polls = scope("shop", async |s| {
                let polled = s.spawn("slow", async move {
                    let mut played = played;
                    let without = told(&mut played).await;
                    #[expect(clippy::disallowed_methods, reason = "foreign tasks are what this is about")]
                    let foreign = tokio::spawn(pending::<()>());
                    let with = told(&mut played).await;
                    foreign.abort();
                    let _ = foreign.await;
                    Ok::<_, Cancelled>((without, with))
                });
                polled.await
            });
            assert_eq!(slow_polls.await.unwrap(), (0, 1));
        });
    }

    #[test]
    fn a_receiver_that_stands_still_over_its_input_is_named_with_what_it_waits_for() {
        example(async {
            let mut played = Played::new(Watchdog::new().no_progress(Duration::ZERO));
            let gate = Arc::new(Semaphore::new("gate", 1));
            let ended = scope("orders", async |s| {
                let kept = gate.acquire(1).await.unwrap();
                let (tx, rx) = s.queue::<u32>("inbox", Bound::items(8), Overflow::Reject);
                let line = line!() - 1;
                let opens = Arc::clone(&gate);
                s.spawn_with("packer", rx, async move |_cx, rx| {
                    while rx.recv().await?.is_some() {
                        let _open = opens.acquire(1).await;
                    }
                    Ok(())
                });
                for n in 0..9 {
                    tx.send(n).await.unwrap();
                    yield_once().await;
                }
                played.passes(SECOND);
                let told = standing(AlertKind::NoProgress);
                let [alert] = &told[..] else { panic!("{told:?}") };
                assert_eq!((&*alert.name, alert.place.line()), ("inbox", line));
                assert!(alert.text.starts_with("8 wait in this queue"), "{alert}");
                assert!(alert.text.contains("`packer`, waiting to acquire #"), "{alert}");
                assert!(alert.text.ends_with("was not polled"), "{alert}");
                tx.send(9).await.unwrap_err();
                played.passes(SECOND);
                let dropping = &standing(AlertKind::Dropping)[0];
                assert_eq!(dropping.text, "1 refused: it is full, or was (8 of 8 wait)");
                played.passes(10 * SECOND);
                assert_eq!(standing(AlertKind::QueueHigh)[0].name, "inbox");
                drop((kept, tx));
                for _ in 0..30 {
                    yield_once().await;
                }
                played.passes(SECOND);
                assert_eq!(standing(AlertKind::NoProgress).len(), 0);
                assert_eq!(standing(AlertKind::QueueHigh).len(), 0);
                played.passes(2 * MINUTE);
                assert_eq!(standing(AlertKind::Dropping).len(), 0);
                Ok::<_, Cancelled>(())
            });
            ended.await.unwrap();
        });
    }

    #[test]
    fn a_root_that_is_gone_is_forgotten() {
        let mut watched = example(async { Played::new(Watchdog::new()).watched });
        #[expect(clippy::disallowed_methods, reason = "any moment")]
        let is_there = watched.look(&Instant::now);
        assert!(!is_there);
    }

    #[test]
    fn a_pace_rests_after_a_long_walk_and_counts_no_more_than_it_saw() {
        #[expect(clippy::disallowed_methods, reason = "a moment to begin with")]
        let start = Instant::now();
        let mut pace = Pace::new(BOOKS);
        assert!(pace.is_due(start));
        assert_eq!(pace.used(start, start + SECOND), Duration::ZERO);
        assert!(!pace.is_due(start + 199 * SECOND));
        assert!(pace.is_due(start + 200 * SECOND));
        let later = start + 201 * SECOND;
        assert_eq!(pace.used(later, later), 201 * SECOND);
        let asleep = later + 60 * MINUTE;
        assert_eq!(pace.used(asleep, asleep), 2 * BOOKS, "nobody looked for an hour");
    }
}
