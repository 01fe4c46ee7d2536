//! The judgement: what the detector says in each state, held against what can happen.

use super::graph::{Graph, MOST_STATES};
use super::program::Program;
use super::state::{Stage, State, Strands};
use super::step::Cancels;
use super::translate::{ALL_CARE, Care, Grain, Known, Translated, View, translate};
use crate::detect::prove::{Fate, Proof, Rules};

/// What the detector says of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Nothing can end them.
    pub(super) dead: Strands,
    /// Those, and what only a cancel can end.
    pub(super) stuck: Strands,
}

/// The detector, as it is or with something taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Detector {
    pub(super) rules: Rules,
    pub(super) care: Care,
    pub(super) grain: Grain,
}

impl Detector {
    pub(super) const WHOLE: Self = Self { rules: Rules::ALL, care: ALL_CARE, grain: Grain::Strand };

    /// What it says of a state.
    pub(super) fn says(&self, program: &Program, state: &State, known: Known) -> Said {
        fates(&translate(program, &View::at(state), known, self.grain, self.care), self.rules)
    }
}

pub(super) fn fates(translated: &Translated, rules: Rules) -> Said {
    if translated.strands.is_empty() {
        return Said { dead: 0, stuck: 0 };
    }
    let fates = Proof::with(&translated.world, rules).finish();
    Said {
        dead: translated.those(&fates, |fate| *fate == Fate::Dead),
        stuck: translated.those(&fates, |fate| matches!(fate, Fate::Dead | Fate::OnlyCancel)),
    }
}

/// How the detector was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Said to be dead, and can go on or be ended.
    NotDead,
    /// Said that only a cancel ends it, and it can go on without.
    NotStuck,
    /// Everything is at rest, and somebody dead was not found.
    Missed,
}

/// A difference, and the state it is in.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) wrong: Wrong,
    pub(super) known: Known,
    pub(super) strands: Strands,
    pub(super) state: State,
}

/// What every strand of a state is at, for people.
pub(super) fn describe(program: &Program, state: &State) -> String {
    let mut text = String::new();
    for (at, task) in state.tasks.iter().enumerate().take(program.tasks.len()) {
        text += &format!("  task {at} {:?}, ends {:?}, pin {:?}", task.life, task.ends, task.pin);
        text += if task.cancelled { ", cancelled\n" } else { "\n" };
        for (strand, this) in task.strands.iter().enumerate().filter(|(_, this)| this.stage != Stage::Off) {
            let op = state.op(program, at, strand);
            text += &format!("    {strand}: {:?} in {op:?}, guards {:?}\n", this.stage, this.guards);
        }
    }
    let State { free, nobody, queues, permits, object, .. } = state;
    text + &format!(
        "  free {free:?}, left behind {nobody:?}, object {object}, queues {queues:?}, permits {permits:?}\n"
    )
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) programs: usize,
    /// Programs with too many states to be judged.
    pub(super) left_out: usize,
    pub(super) states: usize,
    /// Dead strands, summed over all states, and how many of them were found, with all ends known.
    pub(super) dead: usize,
    pub(super) found: usize,
    /// The same in states at rest.
    pub(super) dead_at_rest: usize,
    pub(super) found_at_rest: usize,
    pub(super) only_cancel: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.programs += more.programs;
        self.left_out += more.left_out;
        self.states += more.states;
        self.dead += more.dead;
        self.found += more.found;
        self.dead_at_rest += more.dead_at_rest;
        self.found_at_rest += more.found_at_rest;
        self.only_cancel += more.only_cancel;
    }
}

fn count(strands: Strands) -> usize {
    strands.count_ones() as usize
}

/// All states of a program, with cancels and without. The states of the first are the first of the second.
pub(super) struct Truth {
    pub(super) graph: Graph,
    without: Option<Graph>,
}

impl Truth {
    pub(super) fn of(program: &Program) -> Option<Self> {
        let graph = Graph::from(program, &[State::start(program)], Cancels::Happen)?;
        if graph.states.len() > MOST_STATES {
            return None;
        }
        let without = if program.has_cancels() {
            Some(Graph::from(program, &graph.states, Cancels::Never)?)
        } else {
            None
        };
        Some(Self { graph, without })
    }

    pub(super) fn dead(&self, program: &Program, at: usize) -> Strands {
        self.graph.dead(program, at)
    }

    /// Who waits and makes no progress without a cancel.
    pub(super) fn stuck(&self, program: &Program, at: usize) -> Strands {
        self.without.as_ref().unwrap_or(&self.graph).dead(program, at)
    }
}

/// Judges every state of a program.
pub(super) fn judge(program: &Program, detector: &Detector) -> Result<Tally, Box<Difference>> {
    let Some(truth) = Truth::of(program) else { return Ok(Tally { left_out: 1, ..Tally::default() }) };
    let kinds: &[Known] = if program.shares() { &[Known::Moved, Known::Shared] } else { &[Known::Shared] };
    let mut tally = Tally { programs: 1, states: truth.graph.states.len(), ..Tally::default() };
    for (at, state) in truth.graph.states.iter().enumerate() {
        let parked = state.parked(program);
        if parked == 0 {
            continue;
        }
        let (dead, stuck) = (truth.dead(program, at), truth.stuck(program, at));
        for known in kinds.iter().copied() {
            let differs = |wrong, strands| Err(Box::new(Difference { wrong, known, strands, state: *state }));
            let said = detector.says(program, state, known);
            if said.dead & !dead != 0 {
                return differs(Wrong::NotDead, said.dead & !dead);
            }
            if said.stuck & !stuck != 0 {
                return differs(Wrong::NotStuck, said.stuck & !stuck);
            }
            if known == Known::Moved {
                continue;
            }
            tally.dead += count(dead);
            tally.found += count(said.dead);
            tally.only_cancel += count(said.stuck & !said.dead);
            if truth.graph.is_at_rest(at) {
                tally.dead_at_rest += count(dead);
                tally.found_at_rest += count(said.dead);
                if said.dead != dead {
                    return differs(Wrong::Missed, dead & !said.dead);
                }
            }
        }
    }
    Ok(tally)
}
