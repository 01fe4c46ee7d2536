//! The structural oracle: whoever lives may do *anything* with what it holds, not only what its program says.
//!
//! It is what a detector that does not know the code can know at best. So the detector has to equal it, in every state.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use super::check::Detector;
use super::graph::Quick;
use super::program::{LOCKS, Program, QUEUES, ROLES, RX, STRANDS, TX};
use super::state::{Side, Stage, State, Strand, Strands, bit, small};
use super::step::{Cancels, Next};
use super::translate::Known;

const MOST_STATES: usize = 6_000;

impl State {
    /// Strands that have moved may do anything from now on; so may those about to begin a step.
    fn set_loose(&mut self, program: &Program, moved: Strands) {
        for task in 0..program.tasks.len() {
            for strand in 0..STRANDS {
                let this = &mut self.tasks[task].strands[strand];
                // An arm whose program is at its end may do something else instead.
                let has_moved =
                    moved & bit(task, strand) != 0 && matches!(this.stage, Stage::Parked | Stage::Done);
                if has_moved || this.stage == Stage::Fresh {
                    *this = Strand { stage: Stage::Wild, guards: this.guards, ..Strand::default() };
                }
            }
        }
    }

    fn wild_successors(&self, program: &Program, cancels: Cancels, out: &mut Vec<Next>) {
        self.successors(program, cancels, out);
        for task in (0..program.tasks.len()).filter(|task| self.is_alive(*task)) {
            for strand in 0..STRANDS {
                if self.tasks[task].strands[strand].stage == Stage::Wild {
                    self.does_anything(program, cancels, task, strand, out);
                }
            }
        }
        for Next { state, moved } in out {
            state.settle(program);
            state.set_loose(program, *moved);
        }
    }

    fn does_anything(
        &self,
        program: &Program,
        cancels: Cancels,
        task: usize,
        strand: usize,
        out: &mut Vec<Next>,
    ) {
        let mut push = |state: State, moved| out.push(Next { state, moved });
        for lock in 0..LOCKS {
            for holder in 0..STRANDS {
                let mut state = *self;
                let permits = std::mem::take(&mut state.tasks[task].strands[holder].guards[lock]);
                if permits > 0 {
                    state.release(lock, permits);
                    push(state, 0);
                }
            }
        }
        let mut state = *self;
        state.unpin(task);
        push(state, 0);
        let mut state = *self;
        if strand == 0 && self.closes_on(program, task).is_empty() {
            let moved = state.end(program, task);
            push(state, moved);
            self.fails(program, cancels, task, &mut push);
        } else if strand > 0 {
            let guards = std::mem::take(&mut state.tasks[task].strands[strand]).guards;
            state.tasks[task].strands[strand].stage = Stage::Done;
            guards.into_iter().enumerate().for_each(|(lock, permits)| state.release(lock, permits));
            push(state, 0);
        }
        self.gives_away(program, task, &mut push);
        for role in (0..ROLES).filter(|role| self.has(program, task, *role)) {
            self.uses(program, role, cancels, Some(task), out);
        }
        for lock in (0..LOCKS).filter(|lock| self.may_add(program, task, *lock)) {
            self.adds(lock, out);
        }
        for other in self.closes_on(program, task) {
            if cancels == Cancels::Happen && !self.tasks[other].cancelled {
                let mut state = *self;
                state.cancel(program, other);
                out.push(Next { state, moved: 0 });
            }
        }
    }

    fn fails(&self, program: &Program, cancels: Cancels, task: usize, push: &mut impl FnMut(State, Strands)) {
        let owner = program.owner[task].map(usize::from).filter(|owner| self.is_alive(*owner));
        if let (Some(owner), true, Cancels::Happen) = (owner, program.fail_fast, cancels) {
            let mut state = *self;
            let moved = state.end(program, task);
            state.cancel(program, owner);
            push(state, moved);
        }
    }

    /// Drops each of its ends, and sends it wherever it can.
    fn gives_away(&self, program: &Program, task: usize, push: &mut impl FnMut(State, Strands)) {
        let spare = |role: &usize| self.tasks[task].ends[*role] > self.lent(program, task, *role);
        for role in (0..ROLES).filter(spare) {
            let mut without = *self;
            without.tasks[task].ends[role] -= 1;
            push(without, 0);
            for queue in (0..QUEUES).filter(|queue| self.has(program, task, TX + queue)) {
                let room = usize::from(program.queues[queue]);
                if room == 0 {
                    for (other, strand) in self.partners(program, queue, Side::Receives, None) {
                        let mut state = without;
                        state.open(other, small(role));
                        state.advance(program, other, strand);
                        push(state, bit(other, strand));
                    }
                } else if self.queues[queue].items().len() < room && self.total(program, RX + queue) > 0 {
                    let mut state = without;
                    state.queues[queue].push(small(role));
                    push(state, 0);
                }
            }
        }
    }
}

/// What the detector and this oracle make of a state, with cancels or without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opinions {
    pub(super) said: Strands,
    pub(super) dead: Strands,
}

/// Both opinions of a state, with cancels and without; less if too much can happen from there.
pub(super) fn opinions(program: &Program, state: &State, detector: &Detector) -> Vec<Opinions> {
    let said = detector.says(program, state, Known::Shared);
    let parked = state.parked(program);
    let each = [(Cancels::Happen, said.dead), (Cancels::Never, said.stuck)].into_iter();
    let opinions = each.map(|(cancels, said)| {
        let progress = wild_progress(program, state, cancels)?;
        Some(Opinions { said, dead: parked & !progress })
    });
    opinions.flatten().collect()
}

/// Of those who wait in a state, who can go on if everybody alive does anything; `None` if that is too much to see.
fn wild_progress(program: &Program, from: &State, cancels: Cancels) -> Option<Strands> {
    let parked = from.parked(program);
    let mut start = *from;
    start.set_loose(program, 0);
    let mut seen: HashSet<State, BuildHasherDefault<Quick>> = HashSet::default();
    seen.insert(start);
    let mut open = vec![start];
    let mut out = Vec::new();
    let mut progress = 0;
    while let Some(state) = open.pop() {
        state.wild_successors(program, cancels, &mut out);
        for Next { state, moved } in &out {
            progress |= moved & parked;
            if progress == parked {
                return Some(progress);
            }
            if seen.insert(*state) {
                open.push(*state);
            }
        }
        if seen.len() > MOST_STATES {
            return None;
        }
    }
    Some(progress)
}
