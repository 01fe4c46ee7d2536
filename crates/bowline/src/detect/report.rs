//! A proved deadlock, as data and in words.

use std::fmt;

use serde::Serialize;

use crate::resource::ResourceInfo;

/// Tasks that will never go on, with the proof: what each waits for, and why nobody can end that wait.
///
/// It is not a guess from how long something took. Every way to end each of these waits - a sender, a permit, a notifier, a
/// task that ends - is in the hands of tasks that are listed here, or of nobody.
///
/// `Display` writes it out for people; serialized, the field names are stable.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Deadlock {
    /// Which deadlock of the process it is, counted from 1.
    pub id: u64,
    /// Whether anything can still end it.
    pub verdict: Verdict,
    /// What the proof rests on.
    pub tier: Tier,
    /// What shape it has.
    pub kind: DeadlockKind,
    /// Who stands still: first those who cause it, then those who wait for them.
    pub tasks: Vec<DeadTask>,
    /// What they wait for.
    pub resources: Vec<ResourceInfo>,
    /// The wait that closed the circle: the last one to begin among those that cause it.
    pub closed_by: Option<ClosingEdge>,
    /// What it holds up.
    pub effects: HeldUp,
    /// What would mend it, in words.
    pub remedy: String,
}

/// Whether anything can end a wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing in the program will; somebody could say `cancel`, or shut it down.
    Dead,
    /// Only a cancel that may still come: the work will not be done, but it ends.
    OnlyCancel {
        /// From where.
        by: Vec<Canceller>,
    },
}

/// Where a cancel may come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[non_exhaustive]
pub enum Canceller {
    /// The deadline of a context around it.
    Deadline {
        /// From the report on.
        in_ms: u64,
    },
    /// A task of a scope in which the first failure cancels the others.
    Scope {
        /// The scope's name.
        name: &'static str,
    },
    /// The task that opened its scope.
    Owner {
        /// That task.
        task: u64,
    },
}

/// What a proof rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tier {
    /// On owners that are known by construction: tasks, scopes, guards and permits that cannot leave their task.
    Exact,
    /// On ends that are bound to their task.
    Bound,
    /// On objects whose holders are known.
    Shared,
    /// On nothing being left that could run: only where that is known, as in a test.
    ClosedWorld,
}

/// What shape a deadlock has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeadlockKind {
    /// A task waits for itself.
    SelfWait,
    /// Tasks wait for each other.
    Cycle,
    /// A task waits for what nobody is left to give.
    OrphanWait,
    /// A lock, permit or place in line belongs to a future that its task does not poll any more.
    Futurelock,
    /// A guard, permit or count was left behind by a task that has ended.
    ForgottenGuard,
    /// A task waits to be notified, and nobody is left to do it.
    LostNotifier,
}

/// A task that stands still.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DeadTask {
    /// Identity in the process.
    pub id: u64,
    /// The name given at its spawn.
    pub name: &'static str,
    /// The names from the root down to it, joined by `/`.
    pub path: String,
    /// `file:line` of its spawn.
    pub spawned_at: String,
    /// Since its spawn.
    pub age_ms: u64,
    /// Whether it is one of those that cause the deadlock; the others wait for them.
    pub is_cause: bool,
    /// What it waits for. Each of these would be enough.
    pub waits: Vec<DeadWait>,
    /// Whether it waits, besides or instead, for something that this toolkit does not know: a channel or lock of another crate.
    /// Only where nothing at all can move; elsewhere such a task is alive.
    pub waits_elsewhere: bool,
}

/// A wait that will never end.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DeadWait {
    /// The operation: `recv`, `lock`, `join`, …
    pub op: &'static str,
    /// What is waited for: a resource, or a task.
    pub on: u64,
    /// Its name.
    pub name: &'static str,
    /// `file:line` of the wait; of the thing waited for where that is not known.
    pub place: String,
    /// Since when.
    pub for_ms: u64,
    /// Why nothing ends it.
    pub why: Vec<String>,
}

/// The wait that closed the circle.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ClosingEdge {
    /// Who waits.
    pub task: u64,
    /// Its name.
    pub name: &'static str,
    /// The operation.
    pub op: &'static str,
    /// What is waited for.
    pub on: u64,
    /// `file:line` of the wait.
    pub place: String,
}

/// What a deadlock holds up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HeldUp {
    /// Permits and guards that its tasks hold.
    pub permits_held: usize,
    /// Scopes that cannot close.
    pub scopes_open: usize,
    /// Living tasks that wait in line at what it holds.
    pub others_waiting: usize,
}

impl fmt::Display for DeadlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SelfWait => "self-wait",
            Self::Cycle => "cycle",
            Self::OrphanWait => "orphan wait",
            Self::Futurelock => "futurelock",
            Self::ForgottenGuard => "forgotten guard",
            Self::LostNotifier => "lost notifier",
        })
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "each guard, permit, count and task has an owner, and none of those can go on",
            Self::Bound => "each end is bound to its task, and none of those can go on",
            Self::Shared => "each holder of the shared objects is known, and none of those can go on",
            Self::ClosedWorld => "nothing in the process can move: no task, no timer, no socket, no thread",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self {
            Self::Dead => return f.write_str("nothing will end it"),
            Self::OnlyCancel { by } => by,
        };
        f.write_str("only a cancel can end it")?;
        for (at, canceller) in by.iter().enumerate() {
            f.write_str(if at == 0 { ": " } else { ", or " })?;
            match canceller {
                Canceller::Deadline { in_ms } => write!(f, "its deadline in {in_ms} ms")?,
                Canceller::Scope { name } => write!(f, "a failure in scope `{name}`")?,
                Canceller::Owner { task } => write!(f, "task #{task}, which opened its scope")?,
            }
        }
        Ok(())
    }
}

impl Deadlock {
    /// One line: what it is, and who is in it.
    pub(super) fn headline(&self) -> String {
        let causes: Vec<&DeadTask> = self.tasks.iter().filter(|task| task.is_cause).collect();
        let shown = causes.iter().take(4).map(|task| format!("`{}` #{}", task.name, task.id));
        let mut names = shown.collect::<Vec<_>>().join(", ");
        if causes.len() > 4 {
            names += &format!(" and {} more", causes.len() - 4);
        }
        let behind = match self.tasks.len() - causes.len() {
            0 => String::new(),
            1 => "; 1 more task waits for them".to_owned(),
            more => format!("; {more} more tasks wait for them"),
        };
        format!("deadlock ({}) of {names}{behind}; {}", self.kind, self.verdict)
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        for task in &self.tasks {
            let DeadTask { name, id, path, spawned_at, .. } = task;
            let mark = if task.is_cause { "" } else { " (waits for the others)" };
            writeln!(f, "  {name} #{id}{mark}  {path}, spawned at {spawned_at}")?;
            for wait in &task.waits {
                let DeadWait { op, name, on, place, for_ms, .. } = wait;
                writeln!(f, "    {op} `{name}` #{on} at {place}, for {for_ms} ms")?;
                for why in &wait.why {
                    writeln!(f, "      {why}")?;
                }
            }
            if task.waits_elsewhere {
                let or = if task.waits.is_empty() { "waits" } else { "or" };
                writeln!(
                    f,
                    "    {or} for something that bowline does not know: a channel, lock or notify of another crate"
                )?;
            }
        }
        if let Some(ClosingEdge { name, task, op, place, .. }) = &self.closed_by {
            writeln!(f, "  closed by: `{name}` #{task}, {op} at {place}")?;
        }
        let HeldUp { permits_held, scopes_open, others_waiting } = self.effects;
        if permits_held + scopes_open + others_waiting > 0 {
            writeln!(
                f,
                "  holds up: {permits_held} permits held, {scopes_open} scopes open, {others_waiting} living tasks waiting"
            )?;
        }
        writeln!(f, "  proof: {}", self.tier)?;
        write!(f, "  remedy: {}", self.remedy)
    }
}
