//! Steps that do not wait, and what a task may do with its ends.

use super::program::{OBJECT, Op, Program, RIGHT, SIGNALS, STRANDS, Signal};
use super::state::{Life, PINNED, PLAIN, Pin, Stage, State, Strands};
use super::step::Cancels;

impl State {
    /// A step that does not wait.
    pub(super) fn acts(
        &mut self,
        program: &Program,
        task: usize,
        strand: usize,
        op: &Op,
        cancels: Cancels,
    ) -> Strands {
        let happens = cancels == Cancels::Happen;
        match op {
            Op::Drop(role) => {
                self.take_end(program, task, usize::from(*role));
            }
            Op::Free(role) => {
                let taken = self.take_end(program, task, usize::from(*role));
                self.free[usize::from(*role)] += u8::from(taken);
            }
            Op::Forget(role) => {
                let taken = self.take_end(program, task, usize::from(*role));
                self.nobody[usize::from(*role)] += u8::from(taken);
            }
            Op::Release(lock) => {
                let lock = usize::from(*lock);
                let permits = std::mem::take(&mut self.tasks[task].strands[strand].guards[lock]);
                self.release(lock, permits);
            }
            Op::ForgetGuard(lock) => {
                let lock = usize::from(*lock);
                self.lost[lock] += std::mem::take(&mut self.tasks[task].strands[strand].guards[lock]);
            }
            Op::Add(lock) if self.may_add(program, task, usize::from(*lock)) => {
                self.release(usize::from(*lock), 1);
            }
            Op::Fire(signal) => self.fires(program, task, usize::from(*signal), false),
            Op::FireAll(signal) => self.fires(program, task, usize::from(*signal), true),
            Op::Unpin => self.unpin(task),
            Op::Pin(lock, need) if self.tasks[task].pin == Pin::None && !self.tasks[task].cancelled => {
                let need = (*need).min(program.locks[usize::from(*lock)].permits());
                self.tasks[task].pin = Pin::Waiting { lock: *lock, need };
                self.join_line(usize::from(*lock), task, PINNED, need);
            }
            Op::Abort(other) => {
                let other = usize::from(*other);
                if happens && self.may_abort(program, task, other) && self.is_alive(other) {
                    return self.end(program, other);
                }
            }
            Op::Cancel(other) => {
                let other = usize::from(*other);
                if happens && program.is_owned(other, task) && self.is_alive(other) {
                    self.cancel(program, other);
                }
            }
            Op::Fail => {
                let gone = self.end(program, task);
                if let Some(owner) = program.owner[task].map(usize::from) {
                    if happens && program.fail_fast && self.is_alive(owner) {
                        self.cancel(program, owner);
                    }
                }
                return gone;
            }
            Op::Spawn(other, ends) => self.spawn(program, task, usize::from(*other), ends),
            _ => {}
        }
        0
    }

    /// Takes an end out of a task's hands, unless one of its strands waits by it: that borrows it.
    pub(super) fn take_end(&mut self, program: &Program, task: usize, role: usize) -> bool {
        let takes = self.tasks[task].ends[role] > self.lent(program, task, role);
        self.tasks[task].ends[role] -= u8::from(takes);
        takes
    }

    /// How many of a task's ends its waiting strands need.
    pub(super) fn lent(&self, program: &Program, task: usize, role: usize) -> u8 {
        let mut lent = 0;
        for op in (0..STRANDS).filter_map(|strand| self.waiting(program, task, strand)) {
            match (op, Self::needs(op)) {
                // A seat each.
                (Op::Wait(signal), _) if usize::from(*signal) + RIGHT == role => {
                    lent += u8::from(program.signals[usize::from(*signal)] == Signal::Barrier);
                }
                (_, Some(needed)) if needed == role => lent = 1,
                (_, Some(needed)) if role == OBJECT && self.tasks[task].ends[needed] == 0 => lent = 1,
                _ => {}
            }
        }
        lent
    }

    /// Fires by right; where that gives the end away, only by one's own.
    fn fires(&mut self, program: &Program, task: usize, signal: usize, everybody: bool) {
        let kind = program.signals[signal];
        let gives_away = matches!(kind, Signal::Latch | Signal::Barrier | Signal::Oneshot);
        let was_broken = self.is_broken(program, signal);
        if gives_away && !self.take_end(program, task, RIGHT + signal) {
            return;
        }
        if kind == Signal::Barrier && !was_broken {
            self.signals[signal].left += 1;
            self.end_round(program, signal);
        }
        self.fire(program, signal, everybody);
    }

    fn spawn(&mut self, program: &Program, task: usize, other: usize, ends: &[(u8, bool)]) {
        if self.tasks[other].life != Life::Unborn {
            return;
        }
        self.tasks[other].life = Life::Alive;
        self.tasks[other].cancelled = self.tasks[task].cancelled;
        self.tasks[other].strands[0].stage = Stage::Fresh;
        for (role, moved) in ends {
            let role = usize::from(*role);
            if self.tasks[task].ends[role] == 0 {
                continue;
            }
            self.tasks[other].ends[role] += 1;
            let unique = (RIGHT..RIGHT + SIGNALS).contains(&role)
                && matches!(program.signals[role - RIGHT], Signal::Barrier | Signal::Oneshot);
            self.tasks[task].ends[role] -= u8::from(*moved || unique);
        }
    }

    /// What a send puts in: a plain message, or the end it takes from its task.
    pub(super) fn message(&mut self, program: &Program, task: usize, op: &Op) -> u8 {
        match op {
            Op::SendEnd(_, role) if self.take_end(program, task, usize::from(*role)) => *role,
            _ => PLAIN,
        }
    }

    /// What comes out at the receiving task.
    pub(super) fn open(&mut self, task: usize, item: u8) {
        if item != PLAIN {
            self.tasks[task].ends[usize::from(item)] += 1;
        }
    }
}
