//! From a state of the model to what the detector is told of it.
//!
//! Each fact is read from a [`View`], which may take it from an instant of its own: a scan of a running program is like
//! that.

use super::program::{
    ABORT, LOCKS, LockKind, OBJECT, Op, Par, Program, QUEUES, RIGHT, RX, SIGNALS, STRANDS, Signal, TASKS, TX,
};
use super::state::{PINNED, Pin, Stage, State, Strands, bit};
use crate::detect::world::{
    Act, Cancel, CancelBy, InLine, Leaf, Object, Permits, Place, Resource, Right, Roles, Strand, Waiter,
    Waits, World,
};

/// What the detector knows of the holders of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Ends that tasks hold themselves.
    Moved,
    /// Also those in shared objects, and in messages.
    Shared,
}

/// How a task is shown of which some strand can go on, and another cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// As it is. The proof has more to do than in a process.
    Strand,
    /// Not at all, as the words of a task tell it: it is alive.
    Task,
}

/// Which of the protections of a scan are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Care {
    /// Whether a leaf has fired is asked under the lock of its resource.
    pub(super) looks_for_fired: bool,
    /// A holder that is no candidate is alive.
    pub(super) believes_the_unseen: bool,
    /// What was granted and not fetched goes to the next if whom it was granted to is dropped.
    pub(super) knows_what_is_owed: bool,
}

pub(super) const ALL_CARE: Care =
    Care { looks_for_fired: true, believes_the_unseen: true, knows_what_is_owed: true };

/// Where each fact is read.
#[derive(Clone, Copy)]
pub(super) struct View<'s> {
    pub(super) tasks: [&'s State; TASKS],
    /// The holders of the right to abort each task.
    pub(super) aborts: [&'s State; TASKS],
    pub(super) queues: [&'s State; QUEUES],
    pub(super) locks: [&'s State; LOCKS],
    pub(super) signals: [&'s State; SIGNALS],
    pub(super) object: &'s State,
}

impl<'s> View<'s> {
    /// Everything at one instant.
    pub(super) fn at(state: &'s State) -> Self {
        Self {
            tasks: [state; TASKS],
            aborts: [state; TASKS],
            queues: [state; QUEUES],
            locks: [state; LOCKS],
            signals: [state; SIGNALS],
            object: state,
        }
    }
}

/// A world, and which strand of the model each of its strands is.
pub(super) struct Translated {
    pub(super) world: World,
    pub(super) strands: Vec<(usize, usize)>,
}

impl Translated {
    /// The strands for which `which` holds of what is said of them.
    pub(super) fn those<T>(&self, of: &[T], which: impl Fn(&T) -> bool) -> Strands {
        let chosen = self.strands.iter().zip(of).filter(|(_, said)| which(said));
        chosen.fold(0, |set, ((task, strand), _)| set | bit(*task, *strand))
    }
}

pub(super) fn translate(
    program: &Program,
    view: &View<'_>,
    known: Known,
    grain: Grain,
    care: Care,
) -> Translated {
    let mut strands = Vec::new();
    for task in 0..program.tasks.len() {
        let state = view.tasks[task];
        let there =
            |strand: &usize| matches!(state.tasks[task].strands[*strand].stage, Stage::Fresh | Stage::Parked);
        let own = (0..STRANDS).filter(there).map(|strand| (task, strand)).collect::<Vec<_>>();
        let waits = |place: &(usize, usize)| is_waiting(program, view, *place, care);
        if state.is_alive(task) && (grain == Grain::Strand || own.iter().all(waits)) {
            strands.extend(own);
        }
    }
    let mut this = Translator { program, view, known, care, strands };
    let world = World {
        strands: (0..this.strands.len()).map(|at| this.strand(at)).collect(),
        resources: this.resources(),
        objects: vec![Object { holders: this.places(OBJECT, view.object) }],
    };
    Translated { world, strands: std::mem::take(&mut this.strands) }
}

/// Whether a strand is parked: seen in the same wait by its task and by the resource, and not fired there.
fn is_waiting(program: &Program, view: &View<'_>, (task, strand): (usize, usize), care: Care) -> bool {
    let seen = view.tasks[task];
    let Some(op) = seen.waiting(program, task, strand) else { return false };
    let resource = match op {
        Op::Sleep | Op::Spin => return false,
        Op::Send(queue) | Op::SendEnd(queue, _) | Op::Recv(queue) | Op::Closed(queue) => {
            view.queues[usize::from(*queue)]
        }
        Op::Acquire(lock, _) => view.locks[usize::from(*lock)],
        Op::Await => match seen.tasks[task].pin {
            Pin::Waiting { lock, .. } | Pin::Granted { lock, .. } => view.locks[usize::from(lock)],
            Pin::None => return false,
        },
        Op::Wait(signal) => view.signals[usize::from(*signal)],
        Op::Join(other) => view.tasks[usize::from(*other)],
        _ => seen,
    };
    // A resource knows who waits and for what, not which step of its program that is.
    let is_same = resource.waiting(program, task, strand) == Some(op);
    let fired = match op {
        Op::Close => living_children(program, view, task).next().is_none(),
        _ => resource.has_fired(program, task, strand),
    };
    is_same && !(fired && care.looks_for_fired)
}

fn living_children<'a>(
    program: &'a Program,
    view: &'a View<'_>,
    task: usize,
) -> impl Iterator<Item = usize> + use<'a> {
    (0..program.tasks.len())
        .filter(move |other| program.is_owned(*other, task) && view.tasks[*other].is_alive(*other))
}

fn id(task: usize) -> u64 {
    task as u64 + 1
}

/// One of the ends is used, or the last of them goes.
const ONE_OR_ALL: &[Act] = &[Act::Runs, Act::AllRunOrDrop];

/// A wait that ends when holders of a role do one of these.
fn any(on: usize, roles: Roles, acts: &[Act]) -> Waits {
    Waits::Any(acts.iter().map(|by| Leaf::Right { on, roles, by: *by }).collect())
}

struct Translator<'a> {
    program: &'a Program,
    view: &'a View<'a>,
    known: Known,
    care: Care,
    /// The candidates.
    strands: Vec<(usize, usize)>,
}

const QUEUE: usize = 0;
const LOCK: usize = QUEUE + QUEUES;
const SIGNAL: usize = LOCK + LOCKS;

impl Translator<'_> {
    fn strand(&self, at: usize) -> Strand {
        let (task, strand) = self.strands[at];
        let root = self.strands.iter().position(|place| *place == (task, 0));
        Strand {
            task: id(task),
            arm_of: if strand == 0 { None } else { root },
            waits: self.waits(task, strand),
            cancels: if strand == 0 { self.cancels(task) } else { Vec::new() },
        }
    }

    fn waits(&self, task: usize, strand: usize) -> Waits {
        if !is_waiting(self.program, self.view, (task, strand), self.care) {
            return Waits::Any(vec![Leaf::Unknown]);
        }
        let state = self.view.tasks[task];
        let leaf = match state.op(self.program, task, strand).expect("it waits in something") {
            Op::Par(par, _) => {
                let arms = &state.tasks[task].strands[1..];
                let ended = arms.iter().filter(|arm| arm.stage == Stage::Done).count();
                return if *par == Par::Race { Waits::Race { ended } } else { Waits::Join };
            }
            Op::Send(queue) | Op::SendEnd(queue, _) => {
                return any(QUEUE + usize::from(*queue), Roles::RECEIVER, ONE_OR_ALL);
            }
            Op::Closed(queue) => {
                return any(QUEUE + usize::from(*queue), Roles::RECEIVER, &[Act::AllRunOrDrop]);
            }
            Op::Recv(queue) => return any(QUEUE + usize::from(*queue), Roles::SENDER, ONE_OR_ALL),
            Op::Acquire(lock, _) => Leaf::Turn { on: LOCK + usize::from(*lock) },
            Op::Await => match state.tasks[task].pin {
                Pin::Waiting { lock, .. } | Pin::Granted { lock, .. } => {
                    Leaf::Turn { on: LOCK + usize::from(lock) }
                }
                Pin::None => Leaf::Unknown,
            },
            Op::Wait(signal) => {
                let kind = self.program.signals[usize::from(*signal)];
                let by: &[Act] = match kind {
                    Signal::Token => &[Act::Runs],
                    Signal::Latch => &[Act::AllRunOrDrop],
                    Signal::Barrier => &[Act::RunsOrDrops],
                    _ => ONE_OR_ALL,
                };
                return any(SIGNAL + usize::from(*signal), role(kind), by);
            }
            Op::Join(other) => Leaf::AllEnd(self.below(usize::from(*other))),
            Op::Close => {
                let children = living_children(self.program, self.view, task);
                Leaf::AllEnd(children.flat_map(|child| self.below(child)).collect())
            }
            _ => Leaf::Unknown,
        };
        Waits::Any(vec![leaf])
    }

    /// The task and all it has to outlive: it ends last.
    fn below(&self, task: usize) -> Vec<u64> {
        let children = living_children(self.program, self.view, task);
        std::iter::once(id(task)).chain(children.flat_map(|child| self.below(child))).collect()
    }

    fn cancels(&self, task: usize) -> Vec<Cancel> {
        let program = self.program;
        let holders = self.places(ABORT + task, self.view.aborts[task]);
        let abort = |place| Cancel { by: CancelBy::Holder(place), then: Act::RunsOrDrops };
        let cancel = |by| Cancel { by, then: Act::Runs };
        let mut cancels: Vec<Cancel> = holders.into_iter().map(abort).collect();
        if program.deadline[task] {
            cancels.push(cancel(CancelBy::Deadline));
        }
        if let Some(owner) = program.owner[task].map(usize::from) {
            cancels.push(cancel(CancelBy::Owner(id(owner))));
            if program.fail_fast {
                let siblings = living_children(program, self.view, owner).filter(|other| *other != task);
                cancels.extend(siblings.map(|other| cancel(CancelBy::Sibling(id(other)))));
            }
        }
        if program.fail_fast {
            let children = living_children(program, self.view, task);
            cancels.extend(children.map(|other| cancel(CancelBy::Sibling(id(other)))));
        }
        cancels
    }

    /// Where the ends of a role are, read at `state`.
    fn places(&self, role: usize, state: &State) -> Vec<Place> {
        let whole = self.known == Known::Shared;
        let known = |place| if whole { place } else { Place::Unknown };
        let holders = (0..self.program.tasks.len()).filter(|task| state.tasks[*task].ends[role] > 0);
        let mut places: Vec<Place> = holders.map(|task| self.task(task)).collect();
        if role != OBJECT && state.object && self.program.shared[role] > 0 {
            places.push(known(Place::Object(0)));
        }
        for (at, queue) in state.queues.iter().enumerate() {
            if State::among(queue, role) > 0 {
                places.push(known(Place::Buffer(QUEUE + at)));
            }
        }
        if state.free[role] > 0 {
            places.push(Place::Unknown);
        }
        if state.nobody[role] > 0 {
            places.push(Place::Nobody);
        }
        places
    }

    fn task(&self, task: usize) -> Place {
        let is_seen = self.strands.contains(&(task, 0));
        if is_seen || self.care.believes_the_unseen { Place::Task(id(task)) } else { Place::Nobody }
    }

    fn rights(&self, parts: &[(Roles, usize)], state: &State) -> Vec<Right> {
        let of = |(role, end): &(Roles, usize)| {
            let role = *role;
            self.places(*end, state).into_iter().map(move |place| Right { role, place })
        };
        parts.iter().flat_map(of).collect()
    }

    fn owing(&self, signal: usize, state: &State) -> impl Iterator<Item = Place> {
        let owes = |task: usize, strand: usize| {
            self.care.knows_what_is_owed
                && state.tasks[task].strands[strand].owes
                && matches!(state.waiting(self.program, task, strand), Some(Op::Wait(on)) if usize::from(*on) == signal)
        };
        let owing =
            (0..self.program.tasks.len()).filter(|task| (0..STRANDS).any(|strand| owes(*task, strand)));
        owing.map(|task| self.task(task)).collect::<Vec<_>>().into_iter()
    }

    fn resources(&self) -> Vec<Resource> {
        let queues = (0..QUEUES).map(|queue| Resource {
            rights: self.rights(
                &[(Roles::SENDER, TX + queue), (Roles::RECEIVER, RX + queue)],
                self.view.queues[queue],
            ),
            ..Resource::default()
        });
        let locks =
            (0..LOCKS).map(|lock| Resource { permits: Some(self.permits(lock)), ..Resource::default() });
        let signals = (0..SIGNALS).map(|signal| {
            let state = self.view.signals[signal];
            let role = role(self.program.signals[signal]);
            let mut rights = self.rights(&[(role, RIGHT + signal)], state);
            // A notification that was granted and not fetched goes to the next, if whom it was granted to is dropped.
            rights.extend(self.owing(signal, state).map(|place| Right { role, place }));
            Resource { rights, ..Resource::default() }
        });
        queues.chain(locks).chain(signals).collect()
    }

    fn permits(&self, lock: usize) -> Permits {
        let state = self.view.locks[lock];
        let mut held = Vec::new();
        for task in 0..self.program.tasks.len() {
            let mut permits = 0;
            for strand in 0..STRANDS {
                let this = &state.tasks[task].strands[strand];
                permits += this.guards[lock];
                if let Some(Op::Acquire(on, need)) = state.waiting(self.program, task, strand) {
                    if usize::from(*on) == lock && this.granted {
                        permits += (*need).min(self.program.locks[lock].permits());
                    }
                }
            }
            if let Pin::Granted { lock: on, need } = state.tasks[task].pin {
                permits += if usize::from(on) == lock { need } else { 0 };
            }
            if permits > 0 {
                held.push((self.task(task), usize::from(permits)));
            }
        }
        if state.lost[lock] > 0 {
            held.push((Place::Nobody, usize::from(state.lost[lock])));
        }
        let line = state.lines[lock].iter().map(|place| InLine {
            need: usize::from(place.need),
            waiter: self.waiter(lock, place.task, place.strand),
        });
        let extended_by = match (self.program.locks[lock], self.known) {
            (LockKind::Mutex | LockKind::RwLock, _) => Vec::new(),
            (LockKind::Semaphore, Known::Shared) if state.object => vec![Place::Object(0)],
            (LockKind::Semaphore, Known::Shared) => Vec::new(),
            (LockKind::Semaphore | LockKind::StaticSemaphore, _) => vec![Place::Unknown],
        };
        Permits { free: usize::from(state.permits[lock]), held, line: line.collect(), extended_by }
    }

    fn waiter(&self, lock: usize, task: usize, strand: usize) -> Waiter {
        let at_await = matches!(self.view.tasks[task].waiting(self.program, task, 0), Some(Op::Await));
        if strand == PINNED && !at_await {
            return Waiter::Unattended(id(task));
        }
        let place = (task, if strand == PINNED { 0 } else { strand });
        // Seen to wait here by its task too; else it has moved meanwhile.
        let waits_here = is_waiting(self.program, self.view, place, self.care)
            && matches!(self.waits(place.0, place.1), Waits::Any(leaves) if leaves == [Leaf::Turn { on: LOCK + lock }]);
        let listed = self.strands.iter().position(|known| *known == place);
        listed.filter(|_| waits_here).map_or(Waiter::Alive, Waiter::Strand)
    }
}

fn role(kind: Signal) -> Roles {
    match kind {
        Signal::Notify => Roles::NOTIFIER,
        Signal::Latch => Roles::COUNT,
        Signal::Barrier => Roles::SEAT,
        Signal::Watch | Signal::Broadcast | Signal::Oneshot => Roles::SENDER,
        Signal::Token => Roles::CANCEL,
    }
}
