//! What stands still: found out by watching tasks for longer than any of their timers, without asking the detector.
//!
//! A task that is dead is never polled again. One that was granted what it does not look at is woken by the detector, to see
//! whether it will; that is over before it is called dead. So whoever was called so at some moment and was polled later was called
//! so wrongly, whatever else is known of the program; and who was not polled for [`HORIZON`] on a paused clock, on which
//! nothing is slow, and still has not ended, never will.
//!
//! # Invariants
//!
//! 1. Kernels have no timer longer than [`HORIZON`].
//! 2. Who only waits for its scope to be empty is not counted: it is the owner of what is dead, and says nothing of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline::{ScopeInfo, TaskInfo, TaskState};

/// Longer than any pause of any kernel.
pub const HORIZON: Duration = Duration::from_secs(600);

/// A task at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The name given at its spawn.
    pub name: &'static str,
    /// `file:line` of its spawn.
    pub place: String,
    /// How often it had been polled.
    pub polls: u32,
    /// Whether it waits for its scope to be empty.
    pub closes: bool,
}

/// All tasks of the run that goes on here, by id.
pub type Picture = BTreeMap<u64, Seen>;

/// Looks at all tasks of the runtime this is called in.
#[must_use]
pub fn look() -> Picture {
    let mut seen = Picture::new();
    bowline::tree().roots.iter().for_each(|scope| look_at(scope, &mut seen));
    seen
}

fn look_at(scope: &ScopeInfo, seen: &mut Picture) {
    for task in &scope.tasks {
        let TaskInfo { id, name, ref place, polls, ref state, ref scopes, .. } = *task;
        if *state != TaskState::Ended {
            let closes = matches!(state, TaskState::Waiting(wait) if wait.op == "close");
            seen.insert(id, Seen { name, place: place.clone(), polls, closes });
        }
        scopes.iter().for_each(|scope| look_at(scope, seen));
    }
    scope.scopes.iter().for_each(|scope| look_at(scope, seen));
}

/// What is left of a run.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Tasks that were not polled between two looks, without owners of others that only wait for those.
    pub stuck: Picture,
    /// Tasks that were.
    pub alive: Picture,
    /// What the stuck ones wait at, by name, sorted, each once.
    pub resources: Vec<&'static str>,
}

impl Left {
    /// Compares two looks, the second of which was taken just now.
    #[must_use]
    pub fn between(before: &Picture, after: &Picture) -> Self {
        let mut left = Self::default();
        for (id, seen) in after {
            match before.get(id) {
                Some(known) if known.polls == seen.polls && seen.closes => {}
                Some(known) if known.polls == seen.polls => drop(left.stuck.insert(*id, seen.clone())),
                _ => drop(left.alive.insert(*id, seen.clone())),
            }
        }
        left.resources = waited_for(&left.stuck);
        left
    }

    /// The names of the stuck, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        names(&self.stuck)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.stuck.is_empty() && self.alive.is_empty()
    }
}

/// The names of tasks, sorted.
#[must_use]
pub fn names(tasks: &Picture) -> Vec<&'static str> {
    let mut names: Vec<_> = tasks.values().map(|task| task.name).collect();
    names.sort_unstable();
    names
}

fn waited_for(tasks: &Picture) -> Vec<&'static str> {
    let waits = |id: Option<u64>| id.is_some_and(|id| tasks.contains_key(&id));
    let mut found: Vec<_> = bowline::contended()
        .into_iter()
        .filter(|resource| resource.waiters.iter().any(|waiter| waits(waiter.task)))
        .map(|resource| resource.name)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
