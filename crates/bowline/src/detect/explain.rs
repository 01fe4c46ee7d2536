//! Why a wait is not proved to be for ever: what could still end it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::gather::{self, Memory};
use super::prove::Proof;
use super::report::Deadlock;
use super::scan;
use super::tell;
use super::thread::Names;
use super::walk::{self, Whose};
use super::world::{Act, Leaf, Place, TaskId, Waits};
use crate::node::Node;
use crate::record::{Kind, Record};
use crate::root;
use crate::tree::{self, TaskState};

/// What keeps a task from being proved dead, or the proof that it is; see [`explain`].
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[non_exhaustive]
pub enum Explanation {
    /// There is no such task, or it has ended.
    Gone,
    /// It runs, or is about to, or waits for something nobody knows enough about.
    Alive {
        /// What it does.
        state: TaskState,
        /// Why that is no proof.
        because: Vec<String>,
    },
    /// It is parked, and all its waits are understood: this is what could still end them.
    Waiting {
        /// What it does.
        state: TaskState,
        /// Who or what could.
        because: Vec<String>,
    },
    /// It will never go on.
    Dead {
        /// The proof.
        deadlock: Box<Deadlock>,
    },
}

/// How many reasons are given one by one.
const NAMED: usize = 8;

/// Explains why the wait of a task is not proved to be for ever: who could still end it, and what is not known.
///
/// A proof needs to know who holds every end, guard and permit; what it lacks is named here, with the place to mend it: an
/// end that was freed, a lock outside of a shared object, a foreign timer or socket. It looks at everything that lives,
/// twice, so it is for a person who asks.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, Explanation, Overflow, Scope, explain, scope};
///
/// scope("shop", async |s: &Scope<Cancelled>| {
///     let (orders, inbox) = s.queue::<u32>("orders", Bound::items(8), Overflow::Block);
///     let clerk = s.spawn_with("clerk", inbox, async |_cx, inbox| inbox.recv().await);
///     tokio::task::yield_now().await;
///     let Explanation::Waiting { because, .. } = explain(clerk.id().unwrap()) else { panic!() };
///     assert!(because[0].contains("holds a sender"), "{because:?}"); // this task does, and runs
///     drop(orders);
///     clerk.await
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use]
pub fn explain(task: u64) -> Explanation {
    let Some(record) = find(task) else { return Explanation::Gone };
    let state = tree::state(&record);
    let because = why_not_judged(&record);
    if !because.is_empty() {
        return Explanation::Alive { state, because };
    }
    let mut memory = Memory::default();
    scan::scan(Whose::Everybodys, &mut memory);
    let scanned = scan::scan(Whose::Everybodys, &mut memory);
    if let Some(case) = &scanned.case {
        let found = tell::tell(case).into_iter();
        let mut with = found.filter(|(_, standing)| standing.iter().any(|(of, _)| *of == task));
        if let Some(found) = with.next() {
            let named = Names::default().name(vec![found]);
            if let Some((deadlock, _)) = named.into_iter().next() {
                return Explanation::Dead { deadlock: Box::new(deadlock) };
            }
        }
    }
    let because = who_could(task, &memory);
    Explanation::Waiting { state, because }
}

/// Why a task is no candidate.
fn why_not_judged(record: &Record) -> Vec<String> {
    let signals = record.signals();
    let mut because = Vec::new();
    let mut say = |words: &str| because.push(words.to_owned());
    if record.kind == Kind::Blocking {
        say("it is a closure on a thread: what that does is not known");
    } else if record.is_running() {
        say("it is being polled");
    } else if record.polls() == 0 {
        say("it was not polled yet");
    } else if record.is_cancelled() {
        say("it was cancelled, and is about to end");
    } else if signals.foreign {
        say(
            "somebody unknown can wake it: a timer, a socket, a channel or a combinator of another crate has its waker",
        );
    } else if !signals.is_quiescent() {
        say("it was woken, and is about to be polled");
    } else if signals.leaves == 0 {
        say("it waits for nothing that this toolkit knows");
    }
    because
}

/// Who could end the waits of a task that is parked.
fn who_could(task: TaskId, memory: &Memory) -> Vec<String> {
    let walked = walk::walk(Whose::Everybodys, memory.places.clone());
    let gathered = gather::gather(&walked, memory, true);
    let Some(strand) = walked.index.get(&task).copied() else { return vec!["it has just moved".to_owned()] };
    if walked.parked[strand].has_timer {
        return vec!["it is under a time-out of its own, and goes on when that is over".to_owned()];
    }
    let mut proof = Proof::of(&gathered.world);
    let mut because: Vec<String> = Vec::new();
    let world = &gathered.world;
    let Waits::Any(leaves) = &world.strands[strand].waits else { return because };
    for leaf in leaves {
        match leaf {
            Leaf::Right { on, roles, by } => {
                let facts = &gathered.facts[*on];
                let mut places: BTreeSet<(&'static str, u64)> = BTreeSet::new();
                for (right, fact) in world.resources[*on].rights.iter().zip(&facts.rights) {
                    if right.role.overlaps(*roles) && proof.acts(right.place, *by) {
                        places
                            .insert((fact.role, if right.place == Place::Unknown { 0 } else { fact.place }));
                    }
                }
                if *by == Act::Runs {
                    // What matters is said where all that they do is.
                    places.retain(|(role, _)| *role != "receiver");
                }
                for (role, place) in places.into_iter().take(NAMED) {
                    let what = format!("of `{}` #{} ({})", facts.site.name, facts.id, facts.site.place);
                    because.push(match place {
                        0 => format!("a {role} {what} was freed: anybody may hold it"),
                        place => format!("{} holds a {role} {what}, and may use or drop it", named(place)),
                    });
                }
            }
            Leaf::Turn { on } => {
                let facts = &gathered.facts[*on];
                let Some(permits) = &world.resources[*on].permits else { continue };
                let what = format!("`{}` #{} ({})", facts.site.name, facts.id, facts.site.place);
                for ((place, _), held) in permits.held.iter().zip(&facts.held).take(NAMED) {
                    if *place == Place::Unknown {
                        because.push(format!(
                            "{what} was taken at {} in a way that lets the guard leave its task: lock it in a shared object, or with the context",
                            held.who.at
                        ));
                    } else if proof.acts(*place, Act::RunsOrDrops) {
                        because.push(format!(
                            "{} holds {what}, taken at {}",
                            named(held.who.task),
                            held.who.at
                        ));
                    }
                }
                for place in &permits.extended_by {
                    if proof.acts(*place, Act::Runs) {
                        because.push(format!("whoever can reach {what} may add permits or close it"));
                    }
                }
            }
            Leaf::End(other) => because.push(format!("{}, which it joins, may end", named(*other))),
            Leaf::AllEnd(others) => {
                because.push(format!("the {} tasks of the scope that it closes may end", others.len()));
            }
            Leaf::Never | Leaf::Unknown => {}
        }
    }
    if because.is_empty() {
        because.push("one of its waits is of a kind, or in a state, of which nothing is proved".to_owned());
    }
    let mut seen = BTreeSet::new();
    because.retain(|words| seen.insert(words.clone()));
    because
}

/// A task as an explanation names it.
fn named(task: TaskId) -> String {
    match find(task) {
        Some(record) => format!("`{}` #{task}", record.site.name),
        None => format!("task #{task}"),
    }
}

/// A task that lives.
fn find(task: TaskId) -> Option<Arc<Record>> {
    let mut nodes: Vec<Arc<Node>> = root::all();
    let mut found = None;
    while let (Some(node), None) = (nodes.pop(), &found) {
        node.each_child(|record| {
            if record.kind != Kind::Strand && record.id() == task && !record.has_ended() {
                found = Some(Arc::clone(record));
            }
            nodes.extend(record.nested());
        });
    }
    found
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("there is no such task any more"),
            Self::Dead { deadlock } => deadlock.fmt(f),
            Self::Alive { state, because } | Self::Waiting { state, because } => {
                write!(f, "{state}")?;
                because.iter().try_for_each(|words| write!(f, "\n  {words}"))
            }
        }
    }
}
