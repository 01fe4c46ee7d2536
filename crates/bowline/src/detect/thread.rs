//! The detector's own thread.
//!
//! It judges from outside: a program that stands still altogether does not hold it up. It looks often while tasks come to rest
//! that could be dead, and twenty times a second otherwise. Each look is followed by a hundred times as long without one, so it costs a
//! hundredth of a core at most, however large the program is.
//!
//! Tests are left alone: they are over before it comes round, and ask with
//! [`deadlocks_now`](crate::testing::deadlocks_now) themselves.
//!
//! # Invariants
//!
//! 1. What is found is told once: a strand is a task and its number of polls, and one that goes on has another number.
//! 2. Nobody is told under a lock of the detector: a hook is a stranger.
//! 3. A panic in a scan ends that scan and is told of; the next one begins with no memory.
//!
//! # End
//!
//! The thread ends with the process. It owns no task, and holds no lock while it sleeps.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use super::gather::Memory;
use super::policy::{self, Cancelled};
use super::report::Deadlock;
use super::scan::{self, Case};
use super::tell::{self, Standing};
use super::walk::Whose;
use crate::alert::{self, AlertKind, Subject};
use crate::root::RootState;
use crate::sync::LockExt;
use crate::testing::closed_world::{self, Own};

/// While tasks come to rest, at least this lies between two scans.
const BUSY: Duration = Duration::from_millis(25);
/// Between two scans when nothing has changed: what comes to rest meanwhile is known within a tenth of a second, and a small program
/// pays some thousandths of a core.
const IDLE: Duration = Duration::from_millis(50);
/// A scan is followed by so many times the time it took.
const REST: u32 = 100;

/// Whether somebody has said that it is not wanted.
static OFF: AtomicBool = AtomicBool::new(false);

/// What stands still now.
static STANDING: Mutex<Vec<Deadlock>> = Mutex::new(Vec::new());

pub(crate) fn switch_off() {
    OFF.store(true, Ordering::Relaxed); // read at the next scan
}

/// Returns the deadlocks that were proved and still stand.
///
/// A thread of the toolkit looks for them from the first root or top scope on, and raises an
/// [alert](crate::AlertKind::Deadlock) for each. A proof takes two looks, 25 ms apart at least. Nothing is found while
/// [`Runner::without_detector`](crate::Runner::without_detector) is in force, or `BOWLINE_DETECTOR=off` in the environment;
/// and in tests, which ask with [`deadlocks_now`](crate::testing::deadlocks_now).
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// for deadlock in bowline::deadlocks() {
///     eprintln!("{deadlock}");
/// }
/// # });
/// ```
#[must_use]
pub fn deadlocks() -> Vec<Deadlock> {
    STANDING.lock_unpoisoned().clone()
}

/// Starts the thread, once per process.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread outside of the runtime that it judges; it measures real time and sleeps by design"
)]
pub(crate) fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        if std::env::var_os("BOWLINE_DETECTOR").is_some_and(|value| value == "off") {
            return;
        }
        let looking = || {
            let _own = closed_world::own(Own::Detector);
            let mut detector = Detector::default();
            let mut pause = BUSY;
            loop {
                std::thread::sleep(pause);
                if OFF.load(Ordering::Relaxed) {
                    pause = IDLE;
                    continue;
                }
                let started = std::time::Instant::now();
                let least = catch_unwind(AssertUnwindSafe(|| detector.look())).unwrap_or_else(|_| {
                    eprintln!("bowline: the detector of deadlocks panicked; it goes on with no memory");
                    detector = Detector::default();
                    IDLE
                });
                pause = least.max(started.elapsed().saturating_mul(REST));
            }
        };
        // Without the thread (the system is out of threads) nothing is found; nothing else depends on it.
        let _ = std::thread::Builder::new().name("bowline-detector".into()).spawn(looking);
    });
}

#[derive(Default)]
struct Detector {
    memory: Memory,
    names: Names,
    /// What was told and stands.
    told: HashMap<u64, (Subject, Option<Arc<RootState>>)>,
    cancelled: Vec<Cancelled>,
}

impl Detector {
    /// One scan, and what follows from it. Returns how long to wait at least.
    fn look(&mut self) -> Duration {
        let scanned = scan::scan(Whose::Programs, &mut self.memory);
        let named = scanned.case.as_ref().map_or_else(Vec::new, |case| self.names.name(tell::tell(case)));
        *STANDING.lock_unpoisoned() = named.iter().map(|(deadlock, _)| deadlock.clone()).collect();
        self.clear_what_is_over(&named);
        if let Some(case) = &scanned.case {
            for (deadlock, is_new) in &named {
                if *is_new {
                    self.tell(case, deadlock);
                }
            }
        }
        if scanned.newly_parked == 0 { IDLE } else { BUSY }
    }

    fn tell(&mut self, case: &Case, deadlock: &Deadlock) {
        let Some(cause) = deadlock.tasks.first() else { return };
        let Some(record) = case.record(cause.id) else { return };
        let root = record.node.root.clone();
        let subject =
            Subject { kind: AlertKind::Deadlock, name: cause.name.into(), place: record.site.place };
        match &root {
            Some(root) => alert::raise_at(root, subject.clone(), deadlock.to_string()),
            None => alert::raise(subject.clone(), deadlock.to_string()),
        }
        self.told.insert(deadlock.id, (subject, root.clone()));
        if policy::cancels(root.as_ref()) {
            self.cancelled.extend(policy::cancel(case, deadlock));
        }
    }

    fn clear_what_is_over(&mut self, named: &[(Deadlock, bool)]) {
        let over: Vec<u64> = self
            .told
            .keys()
            .filter(|id| named.iter().all(|(deadlock, _)| deadlock.id != **id))
            .copied()
            .collect();
        for id in over {
            let cancelled = self.cancelled.iter().position(|cancelled| cancelled.deadlock == id);
            let words = match cancelled.map(|at| &self.cancelled[at]) {
                // It is not over before all of it is gone.
                Some(cancelled) if !cancelled.is_gone() => continue,
                Some(cancelled) => cancelled.epilogue(),
                None => "those in it go on, or have ended".to_owned(),
            };
            if let Some(at) = cancelled {
                self.cancelled.swap_remove(at);
            }
            if let Some((subject, root)) = self.told.remove(&id) {
                match root {
                    Some(root) => alert::clear_at(&root, &subject, words),
                    None => alert::clear(&subject, words),
                }
            }
        }
    }
}

/// Numbers deadlocks, so that one that stands keeps its number (invariant 1).
#[derive(Default)]
pub(super) struct Names {
    of: HashMap<Standing, u64>,
}

impl Names {
    /// Gives each its number, and says whether somebody is in it who was not before.
    pub(super) fn name(&mut self, found: Vec<(Deadlock, Vec<Standing>)>) -> Vec<(Deadlock, bool)> {
        let before = std::mem::take(&mut self.of);
        let mut named = Vec::with_capacity(found.len());
        for (deadlock, standing) in found {
            let known = standing.iter().filter_map(|strand| before.get(strand).copied()).min();
            let is_new = standing.iter().any(|strand| !before.contains_key(strand));
            let id = known.unwrap_or_else(next_number);
            self.of.extend(standing.into_iter().map(|strand| (strand, id)));
            named.push((Deadlock { id, ..deadlock }, is_new));
        }
        named
    }
}

/// Numbers of deadlocks in this process, from 1 on.
fn next_number() -> u64 {
    use std::sync::atomic::AtomicU64;
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
