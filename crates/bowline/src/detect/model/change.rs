//! What changes a state: ends that go, permits that come back, waits that are given up, tasks that end.

use super::program::{LOCKS, OBJECT, Op, Program, QUEUES, RIGHT, ROLES, RX, STRANDS, Signal, TASKS};
use super::state::{InLine, Life, PINNED, Pin, Queue, Stage, State, Strand, Strands, bits, small};

impl State {
    /// What follows from ends that have gone: the object goes, with what lies in it; so do the messages of a queue.
    pub(super) fn settle(&mut self, program: &Program) {
        loop {
            let before = *self;
            self.object &= self.total(program, OBJECT) > 0;
            for queue in 0..QUEUES {
                if self.total(program, RX + queue) == 0 {
                    self.queues[queue] = Queue::default();
                }
            }
            if *self == before {
                return;
            }
        }
    }

    pub(super) fn join_line(&mut self, lock: usize, task: usize, strand: usize, need: u8) {
        self.lines[lock].push(task, strand, need);
        self.grant(lock);
    }

    fn grant(&mut self, lock: usize) {
        while let Some(InLine { task, strand, need }) = self.lines[lock].first() {
            if self.permits[lock] < need {
                return;
            }
            self.permits[lock] -= need;
            self.lines[lock].leave(task, strand);
            if strand == PINNED {
                self.tasks[task].pin = Pin::Granted { lock: small(lock), need };
            } else {
                self.tasks[task].strands[strand].granted = true;
            }
        }
    }

    pub(super) fn release(&mut self, lock: usize, permits: u8) {
        self.permits[lock] += permits;
        self.grant(lock);
    }

    fn release_all(&mut self, guards: [u8; LOCKS]) {
        for (lock, permits) in guards.into_iter().enumerate() {
            self.release(lock, permits);
        }
    }

    pub(super) fn leave_lock(&mut self, lock: usize, task: usize, strand: usize) {
        self.lines[lock].leave(task, strand);
        self.grant(lock);
    }

    pub(super) fn unpin(&mut self, task: usize) {
        match std::mem::take(&mut self.tasks[task].pin) {
            Pin::None => {}
            Pin::Waiting { lock, .. } => self.leave_lock(usize::from(lock), task, PINNED),
            Pin::Granted { lock, need } => self.release(usize::from(lock), need),
        }
    }

    pub(super) fn wait_signal(&mut self, signal: usize, task: usize, strand: usize) {
        self.signals[signal].line.push(task, strand, 1);
    }

    /// Lets the first in line, or all, go on.
    pub(super) fn call(&mut self, signal: usize, everybody: bool) -> bool {
        let mut called = false;
        while let Some(InLine { task, strand, .. }) = self.signals[signal].line.first() {
            self.signals[signal].line.leave(task, strand);
            let this = &mut self.tasks[task].strands[strand];
            (this.granted, this.owes) = (true, !everybody);
            called = true;
            if !everybody {
                break;
            }
        }
        called
    }

    /// Ends a round of a barrier if all seats are there.
    pub(super) fn end_round(&mut self, program: &Program, signal: usize) {
        let seats = usize::from(self.total(program, RIGHT + signal));
        if seats > 0 && self.signals[signal].line.len() >= seats && !self.is_broken(program, signal) {
            self.call(signal, true);
        }
    }

    pub(super) fn fire(&mut self, program: &Program, signal: usize, everybody: bool) {
        match program.signals[signal] {
            Signal::Notify if everybody => {
                self.call(signal, true);
            }
            Signal::Notify => {
                if !self.call(signal, false) {
                    self.signals[signal].fired = true;
                }
            }
            Signal::Watch => self.signals[signal].news = [1; TASKS],
            Signal::Broadcast => {
                self.signals[signal].news = self.signals[signal].news.map(|news| (news + 1).min(2));
            }
            Signal::Oneshot | Signal::Token => self.signals[signal].fired = true,
            Signal::Latch | Signal::Barrier => {} // by their ends alone
        }
    }

    /// Gives up what a strand waits for. What was granted goes to the next.
    pub(super) fn leave_wait(&mut self, program: &Program, task: usize, strand: usize) {
        let Some(op) = self.waiting(program, task, strand) else { return };
        let granted = self.tasks[task].strands[strand].granted;
        match op {
            Op::Acquire(lock, need) => {
                let lock = usize::from(*lock);
                if granted {
                    self.permits[lock] += (*need).min(program.locks[lock].permits());
                }
                self.leave_lock(lock, task, strand);
            }
            Op::Wait(signal) => {
                let signal = usize::from(*signal);
                self.signals[signal].line.leave(task, strand);
                if self.tasks[task].strands[strand].owes {
                    self.fire(program, signal, false);
                }
            }
            _ => {}
        }
    }

    /// Takes a strand away: what it waits for, and what it holds.
    pub(super) fn drop_strand(&mut self, program: &Program, task: usize, strand: usize) {
        self.leave_wait(program, task, strand);
        let dropped = std::mem::take(&mut self.tasks[task].strands[strand]);
        self.release_all(dropped.guards);
    }

    /// The task ends: its strands, what it kept beside, its ends; and the tasks it owns, which are dropped with their scope.
    /// Returns all strands that went.
    pub(super) fn end(&mut self, program: &Program, task: usize) -> Strands {
        let mut gone = bits(task);
        for strand in (0..STRANDS).rev() {
            self.drop_strand(program, task, strand);
        }
        self.unpin(task);
        self.tasks[task].life = Life::Ended;
        self.tasks[task].ends = [0; ROLES];
        self.tasks[task].cancelled = false;
        for other in 0..program.tasks.len() {
            if program.is_owned(other, task) && self.is_alive(other) {
                gone |= self.end(program, other);
            }
        }
        self.settle(program);
        gone
    }

    /// The task and those it owns are cancelled: their waits return.
    pub(super) fn cancel(&mut self, program: &Program, task: usize) {
        self.tasks[task].cancelled = true;
        for other in 0..program.tasks.len() {
            if program.is_owned(other, task) && self.is_alive(other) {
                self.cancel(program, other);
            }
        }
    }

    /// Goes on to the strand's next step; an arm that has none has ended.
    pub(super) fn advance(&mut self, program: &Program, task: usize, strand: usize) {
        let this = &mut self.tasks[task].strands[strand];
        this.at += 1;
        this.stage = Stage::Fresh;
        (this.granted, this.owes) = (false, false);
        self.end_arm(program, task, strand);
    }

    pub(super) fn end_arm(&mut self, program: &Program, task: usize, strand: usize) {
        if strand > 0 && self.op(program, task, strand).is_none() {
            let guards = self.tasks[task].strands[strand].guards;
            self.tasks[task].strands[strand] = Strand { stage: Stage::Done, ..Strand::default() };
            self.release_all(guards);
        }
    }
}
