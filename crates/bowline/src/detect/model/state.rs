//! One state of a running program, and what can be asked of it.

use std::hash::{Hash, Hasher};

use super::program::{
    ABORT, LOCKS, LockKind, OBJECT, Op, Program, QUEUES, RIGHT, ROLES, RX, SIGNALS, STRANDS, TASKS, TX,
};

/// A message without an end in it.
pub(super) const PLAIN: u8 = u8::MAX;
/// The strand number of a wait kept beside ([`Op::Pin`]).
pub(super) const PINNED: usize = STRANDS;
/// More places in a line than there can be waits at once.
const LINE: usize = TASKS * STRANDS;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Stage {
    /// Not there.
    #[default]
    Off,
    /// About to do its next step.
    Fresh,
    /// Waits in it.
    Parked,
    /// An arm that has ended.
    Done,
    /// May do anything with what its task holds: only for the structural oracle.
    Wild,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Strand {
    pub(super) stage: Stage,
    /// Its next step, or the one it is in.
    pub(super) at: u8,
    pub(super) granted: bool,
    /// Granted a notification that goes to the next if it is not fetched.
    pub(super) owes: bool,
    pub(super) guards: [u8; LOCKS],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Life {
    #[default]
    Unborn,
    Alive,
    Ended,
}

/// A wait kept beside, not polled: `Futurelock` is made of these.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Pin {
    #[default]
    None,
    Waiting {
        lock: u8,
        need: u8,
    },
    Granted {
        lock: u8,
        need: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Task {
    pub(super) life: Life,
    /// Its waits return at once.
    pub(super) cancelled: bool,
    pub(super) strands: [Strand; STRANDS],
    pub(super) ends: [u8; ROLES],
    pub(super) pin: Pin,
}

/// Somebody in a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InLine {
    pub(super) task: usize,
    /// Or [`PINNED`].
    pub(super) strand: usize,
    pub(super) need: u8,
}

/// Who waits, first come first; a byte each, so that a state is quick to copy and to compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Line {
    len: u8,
    places: [u8; LINE],
}

impl Line {
    pub(super) fn iter(&self) -> impl Iterator<Item = InLine> + '_ {
        self.places[..self.len()].iter().map(|place| InLine {
            task: usize::from(place & 3),
            strand: usize::from(place >> 2 & 3),
            need: place >> 4,
        })
    }

    pub(super) fn first(&self) -> Option<InLine> {
        self.iter().next()
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn push(&mut self, task: usize, strand: usize, need: u8) {
        self.places[self.len()] = small(task | strand << 2) | need << 4;
        self.len += 1;
    }

    pub(super) fn leave(&mut self, task: usize, strand: usize) {
        let mut left = Self::default();
        for place in self.iter().filter(|place| (place.task, place.strand) != (task, strand)) {
            left.push(place.task, place.strand, place.need);
        }
        *self = left;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Queue {
    len: u8,
    items: [u8; 2],
}

impl Queue {
    /// The messages, oldest first: [`PLAIN`] or the end in it.
    pub(super) fn items(&self) -> &[u8] {
        &self.items[..usize::from(self.len)]
    }

    pub(super) fn push(&mut self, item: u8) {
        self.items[usize::from(self.len)] = item;
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> u8 {
        let first = self.items[0];
        self.items = [self.items[1], 0];
        self.len -= 1;
        first
    }
}

/// What a signal remembers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Memory {
    /// Stored, answered, cancelled.
    pub(super) fired: bool,
    /// Seats that left in order.
    pub(super) left: u8,
    /// New values or items, by task.
    pub(super) news: [u8; TASKS],
    pub(super) line: Line,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct State {
    pub(super) tasks: [Task; TASKS],
    /// Ends held by the world outside, which may act with them at any time.
    pub(super) free: [u8; ROLES],
    /// Ends left behind, which nobody can act with.
    pub(super) nobody: [u8; ROLES],
    /// Permits left behind.
    pub(super) lost: [u8; LOCKS],
    /// Whether the shared object is there.
    pub(super) object: bool,
    pub(super) queues: [Queue; QUEUES],
    pub(super) permits: [u8; LOCKS],
    pub(super) lines: [Line; LOCKS],
    pub(super) signals: [Memory; SIGNALS],
}

/// What differs in most states, in few words: hashing everything would take most of the time of the model.
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for task in &self.tasks {
            let strand = |word, strand: &Strand| {
                word << 10
                    | u64::from(strand.at) << 5
                    | (strand.stage as u64) << 2
                    | u64::from(strand.granted)
            };
            let word = task.strands.iter().fold(u64::from(task.cancelled), strand);
            let ends = task.ends.iter().fold(task.life as u64, |word, end| word << 2 | u64::from(*end));
            hasher.write_u64(word << 28 ^ ends);
        }
        let items = self.queues.iter().flat_map(|queue| queue.items);
        let word = self.permits.into_iter().chain(items).fold(0, |word, byte| word << 8 | u64::from(byte));
        hasher.write_u64(word);
        for signal in &self.signals {
            hasher.write_u64(u64::from(signal.line.places[0]) << 8 | u64::from(signal.fired));
        }
    }
}

/// A set of strands, a bit each.
pub(super) type Strands = u16;

pub(super) fn bit(task: usize, strand: usize) -> Strands {
    1 << (task * STRANDS + strand)
}

pub(super) fn bits(task: usize) -> Strands {
    bit(task, 0) | bit(task, 1) | bit(task, 2)
}

pub(super) fn small(number: usize) -> u8 {
    u8::try_from(number).expect("the model is small")
}

impl State {
    pub(super) fn start(program: &Program) -> Self {
        let mut state = Self { object: true, ..Self::default() };
        state.tasks[0].life = Life::Alive;
        state.tasks[0].strands[0].stage = Stage::Fresh;
        for role in 0..ROLES {
            state.tasks[0].ends[role] = program.own[role];
            state.free[role] = program.free[role];
        }
        for lock in 0..LOCKS {
            state.permits[lock] = program.locks[lock].permits();
        }
        state.settle(program);
        state
    }

    pub(super) fn op<'p>(&self, program: &'p Program, task: usize, strand: usize) -> Option<&'p Op> {
        let strands = &self.tasks[task].strands;
        let root = program.tasks[task].get(usize::from(strands[0].at));
        match (strand, root) {
            (0, op) => op,
            (arm, Some(Op::Par(_, arms))) => arms.get(arm - 1)?.get(usize::from(strands[arm].at)),
            _ => None,
        }
    }

    /// How many of an end there are, wherever.
    pub(super) fn total(&self, program: &Program, role: usize) -> u8 {
        let held: u8 = self.tasks.iter().map(|task| task.ends[role]).sum();
        let shared = if self.object { program.shared[role] } else { 0 };
        held + shared + self.free[role] + self.nobody[role] + self.in_messages(role)
    }

    pub(super) fn in_messages(&self, role: usize) -> u8 {
        self.queues.iter().map(|queue| Self::among(queue, role)).sum()
    }

    pub(super) fn among(queue: &Queue, role: usize) -> u8 {
        small(queue.items().iter().filter(|item| usize::from(**item) == role).count())
    }

    /// Whether a task can act with an end: its own, or one in the object it holds.
    pub(super) fn has(&self, program: &Program, task: usize, role: usize) -> bool {
        let ends = &self.tasks[task].ends;
        ends[role] > 0 || (self.object && ends[OBJECT] > 0 && program.shared[role] > 0)
    }

    pub(super) fn is_alive(&self, task: usize) -> bool {
        self.tasks[task].life == Life::Alive
    }

    /// A barrier is broken once a seat has gone out of order.
    pub(super) fn is_broken(&self, program: &Program, signal: usize) -> bool {
        let role = RIGHT + signal;
        let seats = program.own[role] + program.shared[role] + program.free[role];
        self.total(program, role) + self.signals[signal].left < seats
    }

    /// A strand that waits for the other side of a rendezvous, and is not `but`.
    pub(super) fn partners(
        &self,
        program: &Program,
        queue: usize,
        side: Side,
        but: Option<(usize, usize)>,
    ) -> Vec<(usize, usize)> {
        let queue = small(queue);
        let mut found = Vec::new();
        for task in 0..program.tasks.len() {
            for strand in 0..STRANDS {
                let waits = match (self.waiting(program, task, strand), side) {
                    (Some(Op::Send(at) | Op::SendEnd(at, _)), Side::Sends) => *at == queue,
                    (Some(Op::Recv(at)), Side::Receives) => *at == queue,
                    _ => false,
                };
                if waits && Some((task, strand)) != but {
                    found.push((task, strand));
                }
            }
        }
        found
    }

    /// What a parked strand of a living task waits in.
    pub(super) fn waiting<'p>(&self, program: &'p Program, task: usize, strand: usize) -> Option<&'p Op> {
        let parked = self.is_alive(task) && self.tasks[task].strands[strand].stage == Stage::Parked;
        if parked { self.op(program, task, strand) } else { None }
    }

    /// The strands that wait.
    pub(super) fn parked(&self, program: &Program) -> Strands {
        let mut parked = 0;
        for task in 0..program.tasks.len() {
            for strand in 0..STRANDS {
                if self.waiting(program, task, strand).is_some() {
                    parked |= bit(task, strand);
                }
            }
        }
        parked
    }

    /// Whether a task may abort another.
    pub(super) fn may_abort(&self, program: &Program, task: usize, other: usize) -> bool {
        task != other && self.has(program, task, ABORT + other)
    }

    /// Whether a task can add permits to a lock.
    pub(super) fn may_add(&self, program: &Program, task: usize, lock: usize) -> bool {
        match program.locks[lock] {
            LockKind::Mutex | LockKind::RwLock => false,
            LockKind::Semaphore => self.object && self.tasks[task].ends[OBJECT] > 0,
            LockKind::StaticSemaphore => true,
        }
    }

    /// The end that a step needs.
    pub(super) fn needs(op: &Op) -> Option<usize> {
        match op {
            Op::Send(queue) | Op::SendEnd(queue, _) | Op::Closed(queue) => Some(TX + usize::from(*queue)),
            Op::Recv(queue) => Some(RX + usize::from(*queue)),
            Op::Fire(signal) | Op::FireAll(signal) => Some(RIGHT + usize::from(*signal)),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Sends,
    Receives,
}
