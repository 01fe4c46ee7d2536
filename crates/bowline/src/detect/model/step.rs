//! What can happen next: all successors of a state.

use super::program::{Op, Par, Program, RIGHT, RX, STRANDS, Signal, TX};
use super::state::{Life, Pin, Side, Stage, State, Strand, Strands, bit};

/// A successor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) state: State,
    /// Whose progress, or drop, it is.
    pub(super) moved: Strands,
}

/// Whether cancels, aborts, failures and deadlines have their effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancels {
    Happen,
    Never,
}

impl State {
    /// Whether a strand that waits could go on now, with nobody else acting first.
    pub(super) fn has_fired(&self, program: &Program, task: usize, strand: usize) -> bool {
        let this = &self.tasks[task].strands[strand];
        let Some(op) = self.op(program, task, strand) else { return true };
        if self.tasks[task].cancelled && !matches!(op, Op::Close) {
            return true;
        }
        match op {
            Op::Send(queue) | Op::SendEnd(queue, _) => {
                let queue = usize::from(*queue);
                let capacity = usize::from(program.queues[queue]);
                self.total(program, RX + queue) == 0
                    || self.queues[queue].items().len() < capacity
                    || (capacity == 0 && self.has_partner(program, queue, Side::Receives, task, strand))
            }
            Op::Recv(queue) => {
                let queue = usize::from(*queue);
                !self.queues[queue].items().is_empty()
                    || self.total(program, TX + queue) == 0
                    || (program.queues[queue] == 0
                        && self.has_partner(program, queue, Side::Sends, task, strand))
            }
            Op::Closed(queue) => self.total(program, RX + usize::from(*queue)) == 0,
            Op::Acquire(..) => this.granted,
            Op::Wait(signal) => {
                let signal = usize::from(*signal);
                let gone = self.total(program, RIGHT + signal) == 0;
                let memory = &self.signals[signal];
                match program.signals[signal] {
                    Signal::Notify => this.granted || gone,
                    Signal::Latch => gone,
                    Signal::Barrier => this.granted || self.is_broken(program, signal),
                    Signal::Watch | Signal::Broadcast => memory.news[task] > 0 || gone,
                    Signal::Oneshot => memory.fired || gone,
                    Signal::Token => memory.fired,
                }
            }
            Op::Join(other) => self.tasks[usize::from(*other)].life == Life::Ended,
            Op::Close => self.closes_on(program, task).is_empty(),
            Op::Await => !matches!(self.tasks[task].pin, Pin::Waiting { .. }),
            Op::Par(par, arms) => {
                let ended =
                    self.tasks[task].strands[1..=arms.len()].iter().filter(|arm| arm.stage == Stage::Done);
                match par {
                    Par::Race => ended.count() > 0,
                    Par::Join => ended.count() == arms.len(),
                }
            }
            _ => true, // a timer, and what does not wait
        }
    }

    /// The living tasks that the closing scope of `task` waits for.
    pub(super) fn closes_on(&self, program: &Program, task: usize) -> Vec<usize> {
        (0..program.tasks.len())
            .filter(|other| program.is_owned(*other, task) && self.is_alive(*other))
            .collect()
    }

    fn has_partner(&self, program: &Program, queue: usize, side: Side, task: usize, strand: usize) -> bool {
        !self.partners(program, queue, side, Some((task, strand))).is_empty()
    }

    /// All that can happen next.
    pub(super) fn successors(&self, program: &Program, cancels: Cancels, out: &mut Vec<Next>) {
        out.clear();
        for task in (0..program.tasks.len()).filter(|task| self.is_alive(*task)) {
            for strand in 0..STRANDS {
                let before = *self;
                match self.tasks[task].strands[strand].stage {
                    Stage::Fresh => out.push(before.begins(program, task, strand, cancels)),
                    Stage::Parked if self.has_fired(program, task, strand) => {
                        before.goes_on(program, task, strand, out);
                    }
                    _ => {}
                }
            }
            if program.deadline[task] && cancels == Cancels::Happen && !self.tasks[task].cancelled {
                let mut state = *self;
                state.cancel(program, task);
                out.push(Next { state, moved: 0 }); // those cancelled can go on: that is their progress
            }
        }
        self.outside(program, cancels, out);
    }

    /// A strand begins its next step: does it, or parks in it.
    fn begins(mut self, program: &Program, task: usize, strand: usize, cancels: Cancels) -> Next {
        let mut moved = bit(task, strand);
        let Some(op) = self.op(program, task, strand) else {
            moved |= self.end(program, task);
            return Next { state: self, moved };
        };
        let cancelled = self.tasks[task].cancelled;
        let lacks = Self::needs(op).is_some_and(|role| !self.has(program, task, role));
        let this = &mut self.tasks[task].strands[strand];
        this.stage = Stage::Parked;
        if lacks {
            self.advance(program, task, strand);
            return Next { state: self, moved };
        }
        match op {
            // These wait, and say so before they look.
            Op::Send(_)
            | Op::SendEnd(..)
            | Op::Recv(_)
            | Op::Closed(_)
            | Op::Close
            | Op::Sleep
            | Op::Spin
            | Op::Await => {}
            Op::Join(other) if self.tasks[usize::from(*other)].life != Life::Unborn => {}
            Op::Acquire(lock, need) => {
                if !cancelled {
                    let need = (*need).min(program.locks[usize::from(*lock)].permits());
                    self.join_line(usize::from(*lock), task, strand, need);
                }
            }
            Op::Wait(signal) => self.begins_to_wait(program, usize::from(*signal), task, strand),
            Op::Par(_, arms) => {
                for arm in 1..=arms.len() {
                    self.tasks[task].strands[arm] = Strand { stage: Stage::Fresh, ..Strand::default() };
                    self.end_arm(program, task, arm);
                }
            }
            op => {
                self.advance(program, task, strand);
                moved |= self.acts(program, task, strand, op, cancels);
                self.settle(program);
            }
        }
        Next { state: self, moved }
    }

    fn begins_to_wait(&mut self, program: &Program, signal: usize, task: usize, strand: usize) {
        match program.signals[signal] {
            Signal::Notify if std::mem::take(&mut self.signals[signal].fired) => {
                let this = &mut self.tasks[task].strands[strand];
                (this.granted, this.owes) = (true, true);
            }
            Signal::Notify => self.wait_signal(signal, task, strand),
            Signal::Barrier => {
                let here = self.signals[signal].line.iter().filter(|place| place.task == task).count();
                if usize::from(self.tasks[task].ends[RIGHT + signal]) > here {
                    self.wait_signal(signal, task, strand);
                    self.end_round(program, signal);
                } else {
                    self.tasks[task].strands[strand].granted = true; // without a seat there is nothing to wait at
                }
            }
            _ => {}
        }
    }

    /// A wait that has fired ends.
    fn goes_on(mut self, program: &Program, task: usize, strand: usize, out: &mut Vec<Next>) {
        let mut moved = bit(task, strand);
        let Some(op) = self.op(program, task, strand) else { return };
        if self.tasks[task].cancelled && !matches!(op, Op::Close) {
            moved |= self.returns_cancelled(program, task, strand, op);
            out.push(Next { state: self, moved });
            return;
        }
        match op {
            Op::Send(queue) | Op::SendEnd(queue, _) => {
                let queue = usize::from(*queue);
                if self.total(program, RX + queue) == 0 {
                    self.advance(program, task, strand); // refused, and what it sent comes back
                } else if program.queues[queue] > 0 {
                    let item = self.message(program, task, op);
                    self.queues[queue].push(item);
                    self.advance(program, task, strand);
                } else {
                    for (other, receiver) in
                        self.partners(program, queue, Side::Receives, Some((task, strand)))
                    {
                        let mut state = self;
                        let item = state.message(program, task, op);
                        state.open(other, item);
                        state.advance(program, task, strand);
                        state.advance(program, other, receiver);
                        state.settle(program);
                        out.push(Next { state, moved: moved | bit(other, receiver) });
                    }
                    return;
                }
            }
            Op::Recv(queue) => {
                let queue = usize::from(*queue);
                if !self.queues[queue].items().is_empty() {
                    let item = self.queues[queue].pop();
                    self.open(task, item);
                } else if program.queues[queue] == 0
                    && self.has_partner(program, queue, Side::Sends, task, strand)
                {
                    return; // done as the sender's step
                }
                self.advance(program, task, strand);
            }
            Op::Acquire(lock, need) => {
                let need = (*need).min(program.locks[usize::from(*lock)].permits());
                self.tasks[task].strands[strand].guards[usize::from(*lock)] += need;
                self.advance(program, task, strand);
            }
            Op::Wait(signal) => {
                let news = &mut self.signals[usize::from(*signal)].news[task];
                *news = news.saturating_sub(1);
                self.signals[usize::from(*signal)].line.leave(task, strand);
                self.advance(program, task, strand);
            }
            Op::Await => {
                if let Pin::Granted { lock, need } = std::mem::take(&mut self.tasks[task].pin) {
                    self.tasks[task].strands[strand].guards[usize::from(lock)] += need;
                }
                self.advance(program, task, strand);
            }
            Op::Par(_, arms) => moved |= self.drops_arms(program, task, arms.len()),
            Op::Spin => {
                out.push(Next { state: self, moved });
                return;
            }
            _ => self.advance(program, task, strand),
        }
        self.settle(program);
        out.push(Next { state: self, moved });
    }

    /// The root goes on behind its arms; those that have not ended are dropped.
    fn drops_arms(&mut self, program: &Program, task: usize, arms: usize) -> Strands {
        let mut moved = 0;
        for arm in 1..=arms {
            moved |= bit(task, arm);
            self.drop_strand(program, task, arm);
        }
        self.advance(program, task, 0);
        moved
    }

    /// A cancelled wait gives up its place and returns.
    fn returns_cancelled(&mut self, program: &Program, task: usize, strand: usize, op: &Op) -> Strands {
        if let Op::Par(_, arms) = op {
            return self.drops_arms(program, task, arms.len());
        }
        if matches!(op, Op::Await) {
            self.unpin(task);
        }
        self.leave_wait(program, task, strand);
        self.advance(program, task, strand);
        0
    }
}
