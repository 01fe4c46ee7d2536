//! Every order in which the tasks of a program can take their turns.
//!
//! A turn is one step of one task, or one hand-over between two. Where the real thing is fair and it cannot matter - which of
//! several receivers gets an item - this one lets anybody; the line of a lock is a line, because it decides who
//! waits behind whom. A sleep may last for ever or no time.

use std::collections::{BTreeSet, HashSet};

use super::{LOCKS, Op, Program, QUEUES, Wait};

/// More states than this are not looked at.
const MOST_STATES: usize = 30_000;

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// Steps done, by task.
    done: Vec<usize>,
    /// Taken and not released, by task.
    held: Vec<Vec<(u8, u8)>>,
    /// Free permits, by lock.
    free: [u8; LOCKS.len()],
    /// Who waits for how many, by lock.
    line: [Vec<(usize, u8)>; LOCKS.len()],
    /// Items, by queue.
    items: [u8; QUEUES.len()],
}

/// Which sets of tasks can be left standing; T0 is left out if it only waits for the others. `None`: there are too many orders.
#[must_use]
pub fn possible(program: &Program) -> Option<BTreeSet<Vec<usize>>> {
    let count = program.tasks.len();
    let mut first = State {
        done: vec![0; count],
        held: vec![Vec::new(); count],
        free: LOCKS,
        line: Default::default(),
        items: [0; QUEUES.len()],
    };
    (0..count).for_each(|task| first.end_if_done(program, task));
    let mut seen = HashSet::from([first.clone()]);
    let mut open = vec![first];
    let mut left = BTreeSet::new();
    while let Some(state) = open.pop() {
        let next = state.turns(program);
        if next.is_empty() {
            left.insert((0..count).filter(|task| !state.has_ended(program, *task)).collect());
        }
        for state in next {
            if seen.len() > MOST_STATES {
                return None;
            }
            if seen.insert(state.clone()) {
                open.push(state);
            }
        }
    }
    Some(left)
}

impl State {
    fn op(&self, program: &Program, task: usize) -> Option<Op> {
        program.tasks[task].get(self.done[task]).copied()
    }

    fn has_ended(&self, program: &Program, task: usize) -> bool {
        self.op(program, task).is_none()
    }

    /// The states after one turn of anybody.
    fn turns(&self, program: &Program) -> Vec<Self> {
        let mut next = Vec::new();
        for task in 0..self.done.len() {
            match self.op(program, task) {
                None => {}
                Some(Op::Release) => {
                    next.push(self.after(program, task, |state| state.release(program, task)))
                }
                Some(Op::Join(target)) if self.has_ended(program, target.into()) => {
                    next.push(self.after(program, task, |_| {}));
                }
                Some(Op::Join(_)) => {}
                Some(Op::Wait(wait)) => self.try_wait(program, task, wait, true, &mut next),
                Some(Op::Race(left, right)) => {
                    self.try_wait(program, task, left, false, &mut next);
                    self.try_wait(program, task, right, false, &mut next);
                }
            }
        }
        next
    }

    /// `self` after `task` has done its step.
    fn after(&self, program: &Program, task: usize, act: impl FnOnce(&mut Self)) -> Self {
        let mut state = self.clone();
        act(&mut state);
        state.step(program, task);
        state
    }

    fn try_wait(&self, program: &Program, task: usize, wait: Wait, keeps: bool, next: &mut Vec<Self>) {
        let others = || (0..self.done.len()).filter(|other| *other != task);
        let lives = |other: &usize| !self.has_ended(program, *other);
        match wait {
            Wait::Sleep(_) => next.push(self.after(program, task, |_| {})),
            Wait::Take(lock, need) => {
                let at = usize::from(lock);
                if self.line[at].iter().any(|(waiter, _)| *waiter == task) {
                    return; // it is granted, not asked for twice
                }
                if self.line[at].is_empty() && need <= self.free[at] {
                    next.push(self.after(program, task, |state| {
                        if keeps {
                            state.free[at] -= need;
                            state.held[task].push((lock, need));
                        }
                    }));
                } else {
                    let mut state = self.clone();
                    state.line[at].push((task, need));
                    next.push(state);
                }
            }
            Wait::Send(queue) => {
                let at = usize::from(queue);
                // One that sends and receives holds both ends, and waits for others all the same.
                let is_open = (0..self.done.len()).filter(lives).any(|other| program.receives(other, queue));
                if !is_open {
                    next.push(self.after(program, task, |_| {}));
                } else if QUEUES[at] == 0 {
                    for other in others().filter(|other| self.offers(program, *other, Wait::Recv(queue))) {
                        let mut state = self.after(program, task, |_| {});
                        state.step(program, other);
                        next.push(state);
                    }
                } else if self.items[at] < QUEUES[at] {
                    next.push(self.after(program, task, |state| state.items[at] += 1));
                }
            }
            Wait::Recv(queue) => {
                let at = usize::from(queue);
                let is_open = (0..self.done.len()).filter(lives).any(|other| program.sends(other, queue));
                if self.items[at] > 0 {
                    next.push(self.after(program, task, |state| state.items[at] -= 1));
                } else if !is_open {
                    next.push(self.after(program, task, |_| {}));
                }
                // A hand-over is the turn of its sender.
            }
        }
    }

    fn offers(&self, program: &Program, task: usize, wait: Wait) -> bool {
        self.op(program, task).is_some_and(|op| op.waits().contains(&wait))
    }

    /// One step more; places in line that belonged to a race are given up.
    fn step(&mut self, program: &Program, task: usize) {
        self.done[task] += 1;
        for lock in 0..LOCKS.len() {
            let before = self.line[lock].len();
            self.line[lock].retain(|(waiter, _)| *waiter != task);
            if self.line[lock].len() < before {
                self.grant(program, lock);
            }
        }
        self.end_if_done(program, task);
    }

    fn end_if_done(&mut self, program: &Program, task: usize) {
        if self.has_ended(program, task) {
            while !self.held[task].is_empty() {
                self.release(program, task);
            }
        }
    }

    fn release(&mut self, program: &Program, task: usize) {
        if let Some((lock, permits)) = self.held[task].pop() {
            self.free[usize::from(lock)] += permits;
            self.grant(program, usize::from(lock));
        }
    }

    fn grant(&mut self, program: &Program, lock: usize) {
        while let Some((task, need)) =
            self.line[lock].first().copied().filter(|(_, need)| *need <= self.free[lock])
        {
            self.line[lock].remove(0);
            if let Some(Op::Wait(_)) = self.op(program, task) {
                self.free[lock] -= need;
                self.held[task].push((u8::try_from(lock).expect("there are few locks"), need));
            }
            self.step(program, task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Vec<usize> = Vec::new();
    const TAKE: [Op; 2] = [Op::Wait(Wait::Take(0, 1)), Op::Wait(Wait::Take(1, 1))];

    fn left(tasks: &[&[Op]]) -> Vec<Vec<usize>> {
        let tasks = tasks.iter().map(|ops| ops.to_vec()).collect();
        possible(&Program { tasks, everybody: false }).expect("it is small").into_iter().collect()
    }

    #[test]
    fn two_locks_in_two_orders_are_left_in_some_schedules_and_in_one_order_never() {
        assert_eq!(left(&[&TAKE, &[TAKE[1], TAKE[0]]]), [NOBODY, vec![0, 1]]);
        assert_eq!(left(&[&TAKE, &TAKE]), [NOBODY]);
    }

    #[test]
    fn a_second_read_behind_a_writer_is_left_with_the_writer() {
        let (read, write) = (Op::Wait(Wait::Take(2, 1)), Op::Wait(Wait::Take(2, LOCKS[2])));
        assert_eq!(left(&[&[read, read], &[write]]), [NOBODY, vec![0, 1]]);
    }

    #[test]
    fn the_end_of_the_last_sender_ends_a_receive_unless_the_receiver_sends_too() {
        let (send, recv) = (Op::Wait(Wait::Send(1)), Op::Wait(Wait::Recv(1)));
        assert_eq!(left(&[&[recv, recv], &[send]]), [NOBODY]);
        assert_eq!(left(&[&[recv, recv, send], &[send]]), [vec![0]]);
    }

    #[test]
    fn a_rendezvous_needs_both_and_a_race_with_a_timer_nobody() {
        let (send, recv) = (Wait::Send(0), Wait::Recv(0));
        assert_eq!(left(&[&[Op::Wait(send), Op::Wait(recv)], &[Op::Wait(recv), Op::Wait(send)]]), [NOBODY]);
        assert_eq!(
            left(&[&[Op::Wait(send), Op::Wait(recv)], &[Op::Wait(send), Op::Wait(recv)]]),
            [vec![0, 1]]
        );
        assert_eq!(left(&[&[Op::Race(send, Wait::Sleep(1)), Op::Wait(recv)], &[]]), [vec![0]]);
    }
}
