//! Scans of a program that runs on meanwhile: every fact is read at an instant of its own.
//!
//! The protocol is that of the detector: the words of all tasks, then each resource alone, the proof, and then the words of
//! those it names again. A random run goes on between any two of these steps.

use super::check::{Truth, fates};
use super::program::{LOCKS, Program, QUEUES, SIGNALS, TASKS};
use super::state::{State, Strands, bits};
use super::translate::{ALL_CARE, Care, Grain, Known, View, translate};
use crate::detect::prove::{Proof, Rules};

/// How the scan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) care: Care,
    /// Whether the words of those found dead are read again.
    pub(super) reads_again: bool,
}

pub(super) const WHOLE: Protocol = Protocol { care: ALL_CARE, reads_again: true };

/// Larger programs are seldom at the same place twice: not worth the time.
const MOST_STATES: usize = 1_500;
const RUNS: usize = 16;

/// What came of the scans.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Torn {
    pub(super) scans: usize,
    /// Scans that reported somebody.
    pub(super) reports: usize,
    /// Scans whose proof did not survive the second look.
    pub(super) withdrawn: usize,
    /// Reports of somebody who went on afterwards, or could have.
    pub(super) wrong: usize,
}

impl std::ops::AddAssign for Torn {
    fn add_assign(&mut self, more: Self) {
        self.scans += more.scans;
        self.reports += more.reports;
        self.withdrawn += more.withdrawn;
        self.wrong += more.wrong;
    }
}

/// A run of a program, one random step after the other.
struct Run<'a> {
    truth: &'a Truth,
    at: usize,
    /// How often each task has been polled, or dropped.
    polls: [u32; TASKS],
    dice: fastrand::Rng,
    /// How likely something happens between two facts, in percent.
    haste: u32,
}

impl<'a> Run<'a> {
    fn goes_on(&mut self, steps: usize) {
        for _ in 0..steps {
            let edges = &self.truth.graph.edges[self.at];
            if edges.is_empty() {
                return;
            }
            let (to, moved) = edges[self.dice.usize(..edges.len())];
            for (task, polls) in self.polls.iter_mut().enumerate() {
                *polls += u32::from(moved & bits(task) != 0);
            }
            self.at = to;
        }
    }

    /// Something may happen between two facts.
    fn maybe_goes_on(&mut self) -> &'a State {
        let steps = if self.dice.u32(..100) < self.haste { 1 + self.dice.usize(..3) } else { 0 };
        self.goes_on(steps);
        &self.truth.graph.states[self.at]
    }
}

/// Scans several runs of a program.
pub(super) fn scan_runs(program: &Program, seed: u64, protocol: Protocol) -> Torn {
    let mut torn = Torn::default();
    let Some(truth) = Truth::of(program).filter(|truth| truth.graph.states.len() < MOST_STATES) else {
        return torn;
    };
    let mut dice = fastrand::Rng::with_seed(seed);
    for round in 0..RUNS {
        let mut run = Run {
            truth: &truth,
            at: 0,
            polls: [0; TASKS],
            dice: dice.fork(),
            haste: [5, 15, 30, 60][round % 4],
        };
        let first = run.dice.usize(..20);
        run.goes_on(first);
        scan(program, &mut run, protocol, &mut torn);
    }
    torn
}

fn scan(program: &Program, run: &mut Run<'_>, protocol: Protocol, torn: &mut Torn) {
    torn.scans += 1;
    let mut words = [0; TASKS];
    let mut view = View::at(&run.truth.graph.states[run.at]);
    for (task, word) in words.iter_mut().enumerate() {
        view.tasks[task] = &run.truth.graph.states[run.at];
        *word = run.polls[task];
        run.maybe_goes_on();
    }
    // Resources come in no order.
    let mut order: Vec<usize> = (0..TASKS + QUEUES + LOCKS + SIGNALS + 1).collect();
    run.dice.shuffle(&mut order);
    for fact in order {
        let state = run.maybe_goes_on();
        match fact {
            0..TASKS => view.aborts[fact] = state,
            4..6 => view.queues[fact - 4] = state,
            6..8 => view.locks[fact - 6] = state,
            8..10 => view.signals[fact - 8] = state,
            _ => view.object = state,
        }
    }
    run.maybe_goes_on();
    let facts = translate(program, &view, Known::Shared, Grain::Task, protocol.care);
    let found = fates(&facts, Rules::ALL).dead;
    if found == 0 {
        return;
    }
    let reported = if protocol.reads_again { second_look(run, &facts, found, words) } else { found };
    if reported == 0 {
        torn.withdrawn += 1;
        return;
    }
    torn.reports += 1;
    torn.wrong += usize::from(reported & !run.truth.dead(program, run.at) != 0);
}

/// Reads the words of those found dead again, one after the other; those who have moved are alive, and so is whom they wake.
fn second_look(
    run: &mut Run<'_>,
    facts: &super::translate::Translated,
    found: Strands,
    words: [u32; TASKS],
) -> Strands {
    let mut moved = Vec::new();
    for task in (0..TASKS).filter(|task| found & bits(*task) != 0) {
        if run.polls[task] != words[task] {
            let strands = facts.strands.iter().enumerate();
            moved.extend(strands.filter(|(_, place)| place.0 == task).map(|(at, _)| at));
        }
        run.maybe_goes_on();
    }
    let mut proof = Proof::with(&facts.world, Rules::ALL);
    proof.revive(moved);
    let fates = proof.finish();
    facts.those(&fates, |fate| *fate == crate::detect::prove::Fate::Dead)
}

const _: () =
    assert!(TASKS == 4 && QUEUES == 2 && LOCKS == 2 && SIGNALS == 2, "the facts are numbered by hand");
