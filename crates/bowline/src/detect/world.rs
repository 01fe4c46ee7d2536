//! What is known of a program at one moment, as plain data: who waits for what, and who could end each wait.
//!
//! It is what the proof reads, and nothing else: whoever fills it in - a scan of the running process, a model in a test -
//! decides what is known. Indices stand for the things themselves.
//!
//! # Invariants
//!
//! 1. Only tasks that might be dead are in it: parked, with nothing that wakes them but the leaves listed here. A task that is
//!    named but not listed is alive, and so is whatever it can do.
//! 2. A leaf that has fired already is not listed: its task is alive.
//! 3. What is not known is [`Place::Unknown`], which is alive. Leaving a holder out is a claim that there is none.

/// Index of a strand in [`World::strands`].
pub(crate) type StrandId = usize;
/// Index of a resource in [`World::resources`].
pub(crate) type ResourceId = usize;
/// Index of a shared object in [`World::objects`].
pub(crate) type ObjectId = usize;
/// A task's identity in the process.
pub(crate) type TaskId = u64;

/// One moment of a program.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// The candidates: tasks that might be dead, and their arms. Each task has exactly one strand that is no arm, its root.
    pub(crate) strands: Vec<Strand>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) objects: Vec<Object>,
}

/// A sequential piece of a task: its root, or an arm of a race or join.
#[derive(Clone, Debug)]
pub(crate) struct Strand {
    pub(crate) task: TaskId,
    /// The strand whose race or join this is an arm of. An arm is dropped when that strand runs or is dropped.
    pub(crate) arm_of: Option<StrandId>,
    pub(crate) waits: Waits,
    /// What could cancel or abort it. Of an arm: nothing; it goes with its root.
    pub(crate) cancels: Vec<Cancel>,
}

/// What a strand waits for.
#[derive(Clone, Debug)]
pub(crate) enum Waits {
    /// One of these fires. Of none: it waits for ever.
    Any(Vec<Leaf>),
    /// One of its arms, as listed by [`Strand::arm_of`], runs. `ended`: how many have ended already.
    Race { ended: usize },
    /// Each of its arms has ended or runs.
    Join,
}

/// One wait of a strand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A holder of one of the rights acts: `recv` waits for a sender, `notified` for a notifier, a latch for a count.
    Right { on: ResourceId, roles: Roles, by: Act },
    /// Its turn in the line of a resource with permits; its entry in [`Permits::line`] names the strand.
    Turn { on: ResourceId },
    /// The task's root ends.
    End(TaskId),
    /// The roots of all of them end: a scope that closes.
    AllEnd(Vec<TaskId>),
    /// Nothing ever.
    Never,
    /// Somebody unknown: a timer, a socket, another thread. Its strand is alive.
    Unknown,
}

/// What a holder has to do for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    /// To be polled to progress again.
    Runs,
    /// That, or to be dropped with what it holds.
    RunsOrDrops,
    /// The same, but every holder has to: it takes the last.
    AllRunOrDrop,
}

/// A set of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Roles(u8);

impl Roles {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const SENDER: Self = Self(1);
    pub(crate) const RECEIVER: Self = Self(2);
    pub(crate) const NOTIFIER: Self = Self(4);
    pub(crate) const COUNT: Self = Self(8);
    pub(crate) const SEAT: Self = Self(16);
    /// Items delivered and not acknowledged: they come back when their holder drops them.
    pub(crate) const DELIVERY: Self = Self(32);
    /// The right to cancel a token.
    pub(crate) const CANCEL: Self = Self(64);
    /// Any other end, and every end of an unknown kind.
    pub(crate) const OTHER: Self = Self(128);

    pub(crate) const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Where a handle is, and so who can act with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Any strand of that task.
    Task(TaskId),
    /// Whoever holds the shared object.
    Object(ObjectId),
    /// An item in the buffer of a queue: whoever may receive from that, or drop it.
    Buffer(ResourceId),
    /// Nobody, for ever: left behind by a task that has ended.
    Nobody,
    /// Anybody.
    Unknown,
}

/// Something that is waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resource {
    /// Who can fire it, in which role. A place may occur more than once.
    pub(crate) rights: Vec<Right>,
    /// Of what has permits: a mutex has one, a read-write lock as many as there may be readers.
    pub(crate) permits: Option<Permits>,
    /// Whether a send into it, when full, drops the oldest item: then its senders drop what its buffer holds.
    pub(crate) drops_oldest: bool,
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) role: Roles,
    pub(crate) place: Place,
}

/// A count of permits, handed out first come first served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Permits {
    pub(crate) free: usize,
    /// In somebody's hands; also what was granted to a wait that is not looked at any more.
    pub(crate) held: Vec<(Place, usize)>,
    /// Who waits, first come first.
    pub(crate) line: Vec<InLine>,
    /// Who can add permits or close it, when they run.
    pub(crate) extended_by: Vec<Place>,
}

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InLine {
    pub(crate) need: usize,
    pub(crate) waiter: Waiter,
}

/// Who stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A strand that has this wait among its leaves.
    Strand(StrandId),
    /// A future that its task does not poll any more (and which is no leaf of it): it keeps what it will be granted until the
    /// task runs or is dropped.
    Unattended(TaskId),
    /// Somebody who is alive: it will have its turn and go.
    Alive,
}

/// An object that tasks share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    pub(crate) holders: Vec<Place>,
}

/// What could end a strand from outside, and never lets it do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cancel {
    pub(crate) by: CancelBy,
    /// A task that is cancelled is polled once more, and may do anything in that poll; one that is aborted is only dropped.
    pub(crate) then: Act,
}

/// Who or what could cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CancelBy {
    /// A deadline, which comes.
    Deadline,
    /// The holder of such a right, when it runs.
    Holder(Place),
    /// A sibling in a scope in which the first failure cancels the others, when it runs.
    Sibling(TaskId),
    /// The owner of its scope, when it runs or is dropped.
    Owner(TaskId),
}
