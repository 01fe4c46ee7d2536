//! What somebody does who is free to do anything with an end: the world outside, or a wild task.

use super::program::{ABORT, LOCKS, LockKind, OBJECT, Program, RIGHT, ROLES, RX, Signal, TX};
use super::state::{PLAIN, Side, State, bit, bits};
use super::step::{Cancels, Next};

impl State {
    /// The world outside acts with what it holds.
    pub(super) fn outside(&self, program: &Program, cancels: Cancels, out: &mut Vec<Next>) {
        for role in (0..ROLES).filter(|role| self.free[*role] > 0) {
            let mut state = *self;
            state.free[role] -= 1;
            state.settle(program);
            out.push(Next { state, moved: 0 });
            self.uses(program, role, cancels, None, out);
            if role == OBJECT && self.object {
                for inside in (0..OBJECT).filter(|inside| program.shared[*inside] > 0) {
                    self.uses(program, inside, cancels, None, out);
                }
                for lock in (0..LOCKS).filter(|lock| program.locks[*lock] == LockKind::Semaphore) {
                    self.adds(lock, out);
                }
            }
        }
        for lock in (0..LOCKS).filter(|lock| program.locks[*lock] == LockKind::StaticSemaphore) {
            self.adds(lock, out);
        }
    }

    /// A permit more, if somebody waits for one: more would only make more states.
    pub(super) fn adds(&self, lock: usize, out: &mut Vec<Next>) {
        if self.lines[lock].len() > 0 {
            let mut state = *self;
            state.release(lock, 1);
            out.push(Next { state, moved: 0 });
        }
    }

    /// Somebody free to do anything uses an end: the world outside, or a wild task (`by`), which receives what it takes.
    pub(super) fn uses(
        &self,
        program: &Program,
        role: usize,
        cancels: Cancels,
        by: Option<usize>,
        out: &mut Vec<Next>,
    ) {
        let mut push = |mut state: State, moved| {
            state.settle(program);
            out.push(Next { state, moved });
        };
        if role < RX {
            let queue = role - TX;
            if program.queues[queue] == 0 {
                for (other, strand) in self.partners(program, queue, Side::Receives, None) {
                    let mut state = *self;
                    state.advance(program, other, strand);
                    push(state, bit(other, strand));
                }
            } else if self.queues[queue].items().len() < usize::from(program.queues[queue])
                && self.total(program, RX + queue) > 0
            {
                let mut state = *self;
                state.queues[queue].push(PLAIN);
                push(state, 0);
            }
        } else if role < RIGHT {
            let queue = role - RX;
            if !self.queues[queue].items().is_empty() {
                let mut state = *self;
                let item = state.queues[queue].pop();
                state.hand_to(by, item);
                push(state, 0);
            }
            for (other, strand) in self.partners(program, queue, Side::Sends, None) {
                if program.queues[queue] == 0 {
                    let mut state = *self;
                    let item =
                        self.op(program, other, strand).map_or(PLAIN, |op| state.message(program, other, op));
                    state.hand_to(by, item);
                    state.advance(program, other, strand);
                    push(state, bit(other, strand));
                }
            }
        } else if role < OBJECT {
            let signal = role - RIGHT;
            let gives_away = program.signals[signal] == Signal::Oneshot;
            for everybody in [false, true] {
                let mut state = *self;
                if gives_away {
                    match by {
                        Some(task) => drop(state.take_end(program, task, role)),
                        None => state.free[role] = state.free[role].saturating_sub(1),
                    }
                }
                state.fire(program, signal, everybody);
                push(state, 0);
            }
        } else if role >= ABORT
            && cancels == Cancels::Happen
            && self.is_alive(role - ABORT)
            && by != Some(role - ABORT)
        {
            let mut state = *self;
            let gone = state.end(program, role - ABORT);
            push(state, gone | bits(role - ABORT));
        }
    }

    fn hand_to(&mut self, by: Option<usize>, item: u8) {
        if item == PLAIN {
            return;
        }
        match by {
            Some(task) => self.open(task, item),
            None => self.free[usize::from(item)] += 1,
        }
    }
}
