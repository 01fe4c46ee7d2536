//! A bug, the forms it is written in, and what is expected of each.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bowline::Cancelled;
use serde::Serialize;

/// How a task of a kernel ends. An error is a cancel and nothing else: in Go no task takes its siblings with it.
pub type End = Result<(), Cancelled>;

/// Starts a form. It becomes the body of a task named `T0`, and opens the scopes it needs itself.
pub type Run = fn(Env) -> Pin<Box<dyn Future<Output = End> + Send>>;

/// A bug.
#[derive(Debug)]
pub struct Kernel {
    /// Origin, as `project#pull`.
    pub name: &'static str,
    /// What becomes of it.
    pub class: Class,
    /// Spawn sites at which a task can end up dead, the main body being one.
    pub sites: u32,
    /// The ways it is written in.
    pub forms: &'static [Form],
}

/// What ends a bug, or reveals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It must be detected at run time, whatever the interface is.
    D,
    /// A lock held across an await: a closure cannot contain one; a guard can, and then it must be detected.
    L,
    /// Lock order and re-entry: closures cannot nest; guards can, and then it must be detected.
    O,
    /// It ends when what a task owned is dropped with the task.
    R,
    /// It ends because of the scope.
    S,
    /// A future that was granted something is kept and not polled.
    Futurelock,
    /// Reachability of resources does not show it.
    Golf,
    /// One of seven patterns by which goroutines leak.
    Uber,
    /// From a study of bugs in Rust programs.
    Rust,
    /// Pools and supervisors.
    Pool,
    /// There is nothing wrong: any report is an error.
    Control,
}

/// One way in which a bug is written.
#[derive(Debug)]
pub struct Form {
    /// Which way.
    pub kind: Kind,
    /// Tells forms of one kind apart; empty if there is only one.
    pub variant: &'static str,
    /// The program.
    pub run: Run,
    /// What is left of it.
    pub expected: Expected,
}

/// The ways in which kernels are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Literally, with plain tokio: the base line. It runs in a world without Bowline.
    Tokio,
    /// Each end is moved into the task that uses it.
    Moved,
    /// Every task holds both ends, as every goroutine that knows a channel does; locks and gates lie in one shared object.
    Shared,
    /// With guards that are held across awaits.
    Lock,
    /// Repaired.
    Fixed,
    /// Repaired, with pauses longer than any suspicion.
    Slow,
}

impl Kind {
    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tokio => "tokio",
            Kind::Moved => "moved",
            Kind::Shared => "shared",
            Kind::Lock => "lock",
            Kind::Fixed => "fixed",
            Kind::Slow => "slow",
        }
    }
}

/// What a form is told about its run.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    /// Which form is wanted, for bodies that serve several.
    pub kind: Kind,
    /// How long [`pause`](Self::pause) lasts in the slow form.
    pub slow: Duration,
}

impl Env {
    /// Whether the repaired program is wanted.
    #[must_use]
    pub fn is_fixed(self) -> bool {
        matches!(self.kind, Kind::Fixed | Kind::Slow)
    }

    /// Whether every task is to hold every end.
    #[must_use]
    pub fn is_shared(self) -> bool {
        self.kind == Kind::Shared
    }

    /// Work: a turn given to others; in the slow form, a long time.
    pub async fn pause(self) {
        if self.kind == Kind::Slow {
            tokio::time::sleep(self.slow).await;
        } else {
            tokio::task::yield_now().await;
        }
    }

    /// A turn of a loop that does not wait for anything: others run meanwhile, and in the slow form time passes.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] when the context was: a loop without a wait would not learn it.
    pub async fn tick(self) -> End {
        if self.kind == Kind::Slow {
            return bowline::sleep(self.slow / 50).await;
        }
        tokio::task::yield_now().await;
        bowline::check()
    }

    /// `ends` for a task that has no use for them, in the shared form: it holds them because everybody does.
    pub fn also<T>(self, ends: impl FnOnce() -> T) -> Option<T> {
        self.is_shared().then(ends)
    }

    /// The same in every form but the moved one: what ends the repaired program is to be its repair, and not who owns what.
    pub fn both<T>(self, ends: impl FnOnce() -> T) -> Option<T> {
        (self.kind != Kind::Moved).then(ends)
    }
}

/// What is left of a form when nothing moves any more.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// Nothing, in every schedule, and there is no report.
    Ends,
    /// One of these sets of dead tasks; nothing in those schedules in which the bug does not show.
    Dead {
        /// Which tasks, by what they wait at.
        sets: &'static [Dead],
        /// Whether the bug shows in every schedule.
        always: bool,
    },
    /// Tasks that are alive and not dead, such as loops on timers; any report is an error.
    Outlives(&'static [&'static str]),
    /// Nothing, in every schedule; and these tasks end only because their scope does. To report them before is right, and not needed.
    ByScope(&'static [&'static str]),
    /// One of these sets stands still in every schedule, and an end that anybody may have could wake it. A report is an error
    /// unless it rests on nothing moving at all.
    Unprovable(&'static [Dead]),
}

/// Tasks that nobody can wake.
#[derive(Clone, Copy, Debug)]
pub struct Dead {
    /// Their names, sorted; two of one name are named twice. Who only waits for its scope to be empty is left out.
    pub tasks: &'static [&'static str],
    /// The names of the resources they wait at, sorted. A task waited for is none.
    pub resources: &'static [&'static str],
    /// What the proof rests on, its weakest part; `None` if that is not known beforehand.
    pub tier: Option<Tier>,
}

/// What a proof rests on, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Owners that are known exactly: guards, permits, counts, joins, scopes.
    Exact,
    /// Ends bound to the tasks that hold them.
    Bound,
    /// The holders of shared objects.
    Shared,
    /// Nothing at all moves in the program.
    ClosedWorld,
}

impl Dead {
    /// Tasks and the resources they wait at, both sorted, with a proof by exact owners.
    #[must_use]
    pub const fn new(tasks: &'static [&'static str], resources: &'static [&'static str]) -> Self {
        Self { tasks, resources, tier: Some(Tier::Exact) }
    }

    /// Tasks that are named elsewhere, with any proof.
    #[must_use]
    pub const fn any() -> Self {
        Self { tasks: &[], resources: &[], tier: None }
    }

    /// The same, proved by the ends that are bound to tasks.
    #[must_use]
    pub const fn bound(self) -> Self {
        Self { tier: Some(Tier::Bound), ..self }
    }

    /// The same, proved by the holders of shared objects.
    #[must_use]
    pub const fn shared(self) -> Self {
        Self { tier: Some(Tier::Shared), ..self }
    }
}

impl Form {
    /// A form that ends in every schedule.
    #[must_use]
    pub const fn ends(kind: Kind, run: Run) -> Self {
        Self { kind, variant: "", run, expected: Expected::Ends }
    }

    /// A form in which the bug shows in some schedules.
    #[must_use]
    pub const fn dead(kind: Kind, run: Run, sets: &'static [Dead]) -> Self {
        Self { kind, variant: "", run, expected: Expected::Dead { sets, always: false } }
    }

    /// A form in which the bug shows in every schedule.
    #[must_use]
    pub const fn always_dead(kind: Kind, run: Run, sets: &'static [Dead]) -> Self {
        Self { kind, variant: "", run, expected: Expected::Dead { sets, always: true } }
    }

    /// A form of which tasks outlive their work without being dead.
    #[must_use]
    pub const fn outlives(kind: Kind, run: Run, tasks: &'static [&'static str]) -> Self {
        Self { kind, variant: "", run, expected: Expected::Outlives(tasks) }
    }

    /// A form of which these tasks end with their scope, and not before.
    #[must_use]
    pub const fn by_scope(kind: Kind, run: Run, tasks: &'static [&'static str]) -> Self {
        Self { kind, variant: "", run, expected: Expected::ByScope(tasks) }
    }

    /// A form that stands still, and of which nobody can know that it always will.
    #[must_use]
    pub const fn unprovable(kind: Kind, run: Run, sets: &'static [Dead]) -> Self {
        Self { kind, variant: "", run, expected: Expected::Unprovable(sets) }
    }

    /// The same under a name of its own.
    #[must_use]
    pub const fn variant(self, variant: &'static str) -> Self {
        Self { variant, ..self }
    }

    /// The name in tables.
    #[must_use]
    pub fn label(&self) -> String {
        let kind = self.kind.name();
        if self.variant.is_empty() { kind.to_owned() } else { format!("{kind} ({})", self.variant) }
    }
}
