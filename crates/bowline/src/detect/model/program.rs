//! The language of the model: what a random program can do.
//!
//! Small on purpose, so that all states of a program can be visited: up to four tasks, two arms each, two queues, two locks,
//! two signals, one shared object. There are no loops, so a program comes to rest; [`Op::Spin`] is the task that never does.

/// Tasks at most. Task 0 is the first and owns, directly or not, all others.
pub(super) const TASKS: usize = 4;
/// Strands of a task: its root and two arms.
pub(super) const STRANDS: usize = 3;
pub(super) const QUEUES: usize = 2;
pub(super) const LOCKS: usize = 2;
pub(super) const SIGNALS: usize = 2;

/// An end that can be held, moved and dropped.
pub(super) type Role = u8;
/// The sending end of a queue: `TX + queue`.
pub(super) const TX: usize = 0;
pub(super) const RX: usize = TX + QUEUES;
/// The right to fire a signal: a notifier, a count, a seat, …
pub(super) const RIGHT: usize = RX + QUEUES;
/// A handle of the shared object.
pub(super) const OBJECT: usize = RIGHT + SIGNALS;
/// The right to abort a task.
pub(super) const ABORT: usize = OBJECT + 1;
pub(super) const ROLES: usize = ABORT + TASKS;

/// What a signal is, and with it who can fire it by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// One notification may be stored; when the last notifier goes, the waits end.
    Notify,
    /// Opens when the last count goes.
    Latch,
    /// As many seats as were handed out at the start; a seat that is dropped breaks it.
    Barrier,
    /// Remembers per task that there is something new.
    Watch,
    /// Remembers per task up to two items.
    Broadcast,
    /// Fired once, by giving its one end away.
    Oneshot,
    /// Fired by whoever has the right; dropping the right fires nothing.
    Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockKind {
    Mutex,
    /// Two may read; a writer takes both permits.
    RwLock,
    /// Two permits; whoever reaches it by reference can add one. It lies in the shared object.
    Semaphore,
    /// A semaphore that anybody may reach.
    StaticSemaphore,
}

impl LockKind {
    pub(super) fn permits(self) -> u8 {
        if self == Self::Mutex { 1 } else { 2 }
    }
}

/// One step of a task. A step that lacks the end it needs does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Send(u8),
    /// Sends a message with an end in it.
    SendEnd(u8, Role),
    Recv(u8),
    /// Waits until no receiver is left.
    Closed(u8),
    Drop(Role),
    /// Gives an end to the world outside, which may do anything with it.
    Free(Role),
    /// Leaves an end behind for ever.
    Forget(Role),
    Acquire(u8, u8),
    Release(u8),
    /// Leaves a guard behind for ever.
    ForgetGuard(u8),
    /// Adds a permit to a semaphore.
    Add(u8),
    /// Notifies one, publishes, answers, cancels; drops a count; leaves a barrier in order.
    Fire(u8),
    /// The same to everybody who waits (`Notify`).
    FireAll(u8),
    Wait(u8),
    Join(u8),
    /// The scope closes: waits for the tasks spawned by this one. Every task ends with it.
    Close,
    Sleep,
    Abort(u8),
    /// The owner cancels a task of its own: waits of that return at once from here on.
    Cancel(u8),
    /// The task ends with an error.
    Fail,
    /// Arms: of a race, over when one has ended, or of a join.
    Par(Par, Vec<Vec<Op>>),
    /// Polls a wait for a lock once and keeps it beside.
    Pin(u8, u8),
    /// Awaits what was kept beside.
    Await,
    /// Drops it.
    Unpin,
    /// Never ends.
    Spin,
    /// Spawns a task with ends: moved (`true`) or cloned.
    Spawn(u8, Vec<(Role, bool)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Par {
    Race,
    Join,
}

/// A program and what it starts with. Printed by `{:?}` with `[` as `vec![` it is the literal it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) tasks: Vec<Vec<Op>>,
    /// Who spawns each task; nobody the first.
    pub(super) owner: Vec<Option<u8>>,
    /// The capacities of the queues; 0 is a rendezvous.
    pub(super) queues: Vec<u8>,
    pub(super) locks: Vec<LockKind>,
    pub(super) signals: Vec<Signal>,
    /// Ends in the hands of task 0, by role.
    pub(super) own: Vec<u8>,
    /// Ends that lie in the shared object.
    pub(super) shared: Vec<u8>,
    /// Ends in the hands of the world outside.
    pub(super) free: Vec<u8>,
    /// Tasks that have a deadline.
    pub(super) deadline: Vec<bool>,
    /// Whether a task that fails cancels the scope it is in.
    pub(super) fail_fast: bool,
}

impl Program {
    /// Nothing but its tasks; ends and kinds are to be filled in.
    pub(super) fn bare(tasks: usize) -> Self {
        Self {
            tasks: vec![Vec::new(); tasks],
            owner: vec![None; tasks],
            queues: vec![1; QUEUES],
            locks: vec![LockKind::Mutex, LockKind::RwLock],
            signals: vec![Signal::Notify; SIGNALS],
            own: vec![0; ROLES],
            shared: vec![0; ROLES],
            free: vec![0; ROLES],
            deadline: vec![false; tasks],
            fail_fast: false,
        }
    }

    /// Lets every task that spawns end by closing its scope.
    pub(super) fn close_scopes(&mut self) {
        for task in 0..self.tasks.len() {
            if self.owns_some(task) && self.tasks[task].last() != Some(&Op::Close) {
                self.tasks[task].push(Op::Close);
            }
        }
    }

    pub(super) fn owns_some(&self, task: usize) -> bool {
        (0..self.tasks.len()).any(|other| self.is_owned(other, task))
    }

    pub(super) fn is_owned(&self, task: usize, by: usize) -> bool {
        self.owner[task].map(usize::from) == Some(by)
    }

    /// Whether ends can be elsewhere than in the hands of a task.
    pub(super) fn shares(&self) -> bool {
        let sends = |op: &Op| matches!(op, Op::SendEnd(..));
        self.shared.iter().any(|count| *count > 0) || self.steps().any(sends)
    }

    /// All steps, those in arms too.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Op> {
        self.tasks.iter().flatten().flat_map(|op| match op {
            Op::Par(_, arms) => arms.iter().flatten().collect(),
            op => vec![op],
        })
    }

    /// Whether anything in it can be ended from outside.
    pub(super) fn has_cancels(&self) -> bool {
        let aborts = |ends: &[u8]| ends[ABORT..].iter().any(|count| *count > 0);
        let cancels = |op: &Op| matches!(op, Op::Cancel(_) | Op::Fail);
        self.deadline.contains(&true)
            || aborts(&self.own)
            || aborts(&self.shared)
            || aborts(&self.free)
            || self.steps().any(cancels)
    }

    /// As Rust, for `kept`.
    pub(super) fn literal(&self) -> String {
        format!("{self:?}").replace('[', "vec![")
    }
}
