//! Random programs: tasks that lock, send, receive, sleep, join and race in an order drawn by a seed, and what can be left
//! of them.
//!
//! An [interpreter](possible) tries every order in which the tasks can take their turns, and knows from that alone which sets
//! of tasks can be left standing. The same program as [real tasks](run) must come to one of those; whoever stands still then
//! must be called dead, all of them and nobody else, and nobody who moves again must ever have been.
//!
//! # Invariants
//!
//! 1. A program has no loop, so it ends or stands still.
//! 2. What a task holds goes when the task has ended, not before, except by [`Op::Release`].
//! 3. A handle is joined by one task at most, and by one that was spawned later, or by T0.
//! 4. A race that offers an item at the rendezvous waits for no other queue: the item may be taken a moment before the other
//!    arm wins, and then both have happened.

mod interpreter;
mod real;

use fastrand::Rng;

pub use self::interpreter::possible;
pub use self::real::run;

/// Names of tasks, by number. T0 spawns the others.
pub const NAMES: [&str; 5] = ["T0", "T1", "T2", "T3", "T4"];

/// Permits of each lock: two mutexes, a read-write lock, a semaphore. The third is taken whole to write.
pub const LOCKS: [u8; 4] = [1, 1, 9, 2];

/// Room of each queue. The first is a rendezvous.
pub const QUEUES: [u8; 3] = [0, 1, 2];

/// A step that may have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Takes so many permits of a lock.
    Take(u8, u8),
    /// Sends to a queue; goes on if nobody is left to receive.
    Send(u8),
    /// Receives from a queue; goes on if nobody is left to send.
    Recv(u8),
    /// Sleeps for so many milliseconds.
    Sleep(u8),
}

/// A step of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Waits.
    Wait(Wait),
    /// Gives back what was taken last.
    Release,
    /// Waits for the end of a task.
    Join(u8),
    /// Waits for whichever comes first. A lock that is taken so is released at once. The first is no lock.
    Race(Wait, Wait),
}

impl Op {
    fn waits(self) -> Vec<Wait> {
        match self {
            Op::Wait(wait) => vec![wait],
            Op::Race(left, right) => vec![left, right],
            Op::Release | Op::Join(_) => Vec::new(),
        }
    }
}

/// What tasks there are, and what each does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Steps by task.
    pub tasks: Vec<Vec<Op>>,
    /// Whether every task holds every end; else each holds those it uses.
    pub everybody: bool,
}

impl Program {
    /// Draws a program.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(2..=NAMES.len() - 1);
        // Few resources, or tasks would never meet.
        let locks = rng.u8(1..=4);
        let queues = rng.u8(1..=3);
        let mut joined = [false; NAMES.len()];
        let tasks = (0..count)
            .map(|task| {
                let mut taken = 0;
                (0..rng.usize(1..=5))
                    .map(|_| match rng.u8(0..20) {
                        0..3 if taken > 0 => {
                            taken -= 1;
                            Op::Release
                        }
                        3..5 => match joinable(task, count, &joined) {
                            Some(target) => {
                                joined[target] = true;
                                Op::Join(u8::try_from(target).expect("there are few tasks"))
                            }
                            None => Op::Wait(Wait::Sleep(rng.u8(1..30))),
                        },
                        5..8 => {
                            let (left, right) =
                                (draw_wait(&mut rng, 0, queues), draw_wait(&mut rng, locks, queues));
                            if left == Wait::Send(0) || right == Wait::Send(0) {
                                Op::Race(Wait::Send(0), Wait::Sleep(rng.u8(1..30))) // invariant 4
                            } else {
                                Op::Race(left, right)
                            }
                        }
                        _ => {
                            let wait = draw_wait(&mut rng, locks, queues);
                            taken += u32::from(matches!(wait, Wait::Take(..)));
                            Op::Wait(wait)
                        }
                    })
                    .collect()
            })
            .collect();
        Self { tasks, everybody: rng.bool() }
    }

    /// Whether a task holds a sending end of a queue.
    #[must_use]
    pub fn sends(&self, task: usize, queue: u8) -> bool {
        self.everybody || self.uses(task, Wait::Send(queue))
    }

    /// Whether a task holds a receiving end of a queue.
    #[must_use]
    pub fn receives(&self, task: usize, queue: u8) -> bool {
        self.everybody || self.uses(task, Wait::Recv(queue))
    }

    fn uses(&self, task: usize, wait: Wait) -> bool {
        self.tasks[task].iter().any(|op| op.waits().contains(&wait))
    }
}

/// Whom `task` can join by invariant 3: T0 any, another one an earlier one.
fn joinable(task: usize, count: usize, joined: &[bool]) -> Option<usize> {
    let last = if task == 0 { count } else { task };
    (1..last).find(|target| !joined[*target])
}

fn draw_wait(rng: &mut Rng, locks: u8, queues: u8) -> Wait {
    match rng.u8(0..10) {
        0..5 if locks > 0 => {
            let lock = rng.u8(0..locks);
            let need = match lock {
                2 if rng.bool() => LOCKS[2],
                3 => rng.u8(1..=LOCKS[3]),
                _ => 1,
            };
            Wait::Take(lock, need)
        }
        9 => Wait::Sleep(rng.u8(1..30)),
        5 | 7 => Wait::Send(rng.u8(0..queues)),
        _ => Wait::Recv(rng.u8(0..queues)),
    }
}
