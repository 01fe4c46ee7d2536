//! Drain phases: parts of a program that finish one after the other.
//!
//! A member is whatever was started under a [`DrainPhase`]. Its node ends the membership when everything below is gone:
//! adopted tasks included, without a list that could miss a late one.
//!
//! # Invariants
//!
//! 1. It is the turn of at most one phase. A phase whose turn is over never gets another.
//! 2. A phase has its turn only while it has members, so a phase without any takes no time.
//! 3. Whose turn it is changes under the table's lock; who waits for it is woken after the lock is released.
//!
//! # End
//!
//! When the draining is over, every phase is told, so that nobody waits for a turn that will not come.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::time::Instant;

use super::report::PhaseTime;
use crate::cause::{Cancelled, Cause};
use crate::node::{Alive, Node, NodeKind};
use crate::record::{self, CANCEL, Kind};
use crate::root::{self, Membership, Phase};
use crate::site;
use crate::sync::LockExt;
use crate::track::{End, Strand};

/// Registers the caller in the drain phase of this name: at the shutdown, phases finish one after the other, **the one that
/// was registered last first**.
///
/// So a program that starts its store, then its workers, then its accept loop, stops the accept loop first, then the
/// workers, and closes the store when nobody uses it any more:
///
/// - [`draining`](crate::draining()) inside of a phase returns when its turn has come; outside of any phase, when the
///   shutdown begins.
/// - A turn is over when everything that was registered in the phase has ended, tasks below it included, or its time is
///   up: what is left is then cancelled, gets another tenth of that time to clean up, and is named in the report.
/// - The time for draining is shared evenly by the phases still to come ([`Runner::drain_phase`](crate::Runner::drain_phase)
///   gives one more, or another place). What a phase does not use is left to the others, and one without members takes none.
///
/// The place in the order is that of the first registration of the name; several may register under one name. What is
/// registered must be [`run`](DrainPhase::run) or dropped, or else its turn lasts until its time is up. Without a
/// [`Runner`](crate::Runner), as in tests, [`shut_down`](crate::shut_down()) begins the turns, and they have no time limit.
/// Where nothing of ours runs, no turn ever comes.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, Overflow, drain_phase, draining, scope};
///
/// let stored = scope("service", async |s| {
///     let (save, saved) = s.queue::<u32>("saved", Bound::items(8), Overflow::Block);
///     let (submit, submitted) = s.queue::<u32>("submitted", Bound::items(8), Overflow::Block);
///
///     let phase = drain_phase("store");
///     let store = s.spawn_with("store", saved, async |_cx, saved| {
///         phase
///             .run(async {
///                 let mut rows = 0;
///                 while let Some(row) = saved.recv().await? {
///                     rows += row;
///                 }
///                 Ok(rows) // nobody writes any more: flush, close
///             })
///             .await
///     });
///     let phase = drain_phase("workers");
///     s.spawn_with("worker", (submitted, save), async |_cx, (submitted, save)| {
///         phase
///             .run(async {
///                 while let Some(job) = submitted.recv().await? {
///                     save.send(2 * job).await?;
///                 }
///                 Ok(())
///             })
///             .await
///     });
///     let phase = drain_phase("accept");
///     s.spawn_with("accept", submit, async |_cx, submit| {
///         phase
///             .run(async {
///                 submit.send(21).await?;
///                 draining().await; // the first to stop, because it was the last to start
///                 Ok(())
///             })
///             .await
///     });
///     bowline::shut_down("enough");
///     Ok::<_, Cancelled>(store.await?)
/// })
/// .await;
/// assert_eq!(stored, Ok(42));
/// # });
/// ```
#[track_caller]
#[must_use = "its turn lasts until what was registered is run or dropped"]
pub fn drain_phase(name: &'static str) -> DrainPhase {
    let place = Location::caller();
    let record = record::current().or_else(root::of_runtime);
    let root = record.as_ref().and_then(|record| record.node.root.as_ref());
    DrainPhase { name, place, member: root.map(|root| root.join_drain_phase(name, place)) }
}

/// A membership in a drain phase, from [`drain_phase`] on: run what belongs to the phase under it.
#[must_use = "its turn lasts until what was registered is run or dropped"]
pub struct DrainPhase {
    name: &'static str,
    place: &'static Location<'static>,
    member: Option<Membership>,
}

impl DrainPhase {
    /// Runs `future` as a member of the phase; the membership ends when it and every task below it are gone.
    ///
    /// If the turn's time is up before that, the context inside is cancelled. Where a task is nothing but this, the *task* is
    /// cancelled: its answer to that does not fail its scope.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `future` and ends the membership.
    ///
    /// # Errors
    ///
    /// `future`'s own; `E::from(Cancelled)` if it was cancelled and came to no end by itself.
    ///
    /// # Panics
    ///
    /// With the panic of `future`.
    pub fn run<T, E, F>(self, future: F) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Cancelled>,
    {
        InPhase { strand: Strand::unopened(future), state: State::New(self), output: PhantomData }
    }
}

impl std::fmt::Debug for DrainPhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DrainPhase").field("name", &self.name).finish_non_exhaustive()
    }
}

pin_project! {
    /// A future that is a member of a phase. Written out, because an `async` block would hold the future twice.
    struct InPhase<F, T, E> {
        #[pin]
        strand: Strand<F>,
        state: State,
        output: PhantomData<fn() -> Result<T, E>>,
    }
}

enum State {
    New(DrainPhase),
    Open(Alive),
    Ended,
}

impl<F, T, E> Future for InPhase<F, T, E>
where
    F: Future<Output = Result<T, E>>,
    E: From<Cancelled>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let State::New(phase) = this.state {
            let parent = record::current().or_else(root::of_runtime);
            let site = site::intern(phase.name, phase.place);
            let alive = match phase.member.take() {
                Some(member) => Node::open_in_phase(site, parent, member),
                // Registered where no root runs, it belongs to that of the parent, outside of any phase.
                None => Node::open(site, NodeKind::Drain, parent, None, false),
            };
            let node = alive.node();
            match (&node.root, node.parent()) {
                (Some(root), _) => root.list_member(node),
                (None, None) => root::list_orphan(node),
                (None, Some(_)) => {}
            }
            this.strand.as_mut().open(node);
            *this.state = State::Open(alive);
        }
        let Poll::Ready(end) = this.strand.poll(cx) else { return Poll::Pending };
        let State::Open(alive) = std::mem::replace(this.state, State::Ended) else {
            unreachable!("the strand is polled only while the node is open");
        };
        match end {
            End::Value(value) => Poll::Ready(value),
            End::Cancelled => Poll::Ready(Err(E::from(
                alive.node().why().unwrap_or_else(|| Cancelled::new(Cause::Aborted)),
            ))),
            End::Panicked(panic) => panic.resume(),
        }
    }
}

/// The drain phases of one root.
pub(crate) struct Turns {
    table: Mutex<Table>,
    /// Tells the clock of the shutdown that the table has changed.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Table {
    /// The first so many phases were declared to the runner and come first, in that order.
    declared: usize,
    turns: Vec<Turn>,
    /// Whether the draining has begun, and whether it is over.
    begun: bool,
    over: bool,
    now: Option<usize>,
    /// Those that had a turn, in that order.
    had: Vec<usize>,
}

struct Turn {
    name: &'static str,
    place: &'static Location<'static>,
    weight: u32,
    /// What `draining` inside of the phase waits for.
    told: Arc<watch::Sender<Phase>>,
    members: usize,
    /// The members' nodes, to cancel them; the dead are swept when they may be half of it.
    nodes: Vec<Weak<Node>>,
    sweep_at: usize,
    began: Option<Instant>,
    ended: Option<Instant>,
    is_cut_off: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) turn: usize,
    pub(crate) name: &'static str,
    pub(crate) place: &'static Location<'static>,
    /// Its share of the time that is left for draining.
    pub(crate) share: f64,
}

/// To be told after the table's lock is released (invariant 3).
#[must_use]
struct ToTell(Vec<Arc<watch::Sender<Phase>>>);

impl Turns {
    pub(crate) fn new() -> Self {
        Self { table: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn change<R>(&self, change: impl FnOnce(&mut Table) -> (R, ToTell)) -> R {
        let (result, ToTell(told)) = change(&mut self.table.lock_unpoisoned());
        for phase in told {
            phase.send_replace(Phase::Draining);
        }
        self.changed.send_replace(());
        result
    }

    pub(crate) fn declare(&self, name: &'static str, place: &'static Location<'static>, weight: u32) {
        self.change(|table| {
            let turn = table.find(name, place);
            table.turns[turn].weight = weight;
            table.declared = table.turns.len();
            ((), ToTell(Vec::new()))
        });
    }

    pub(crate) fn join(&self, name: &'static str, place: &'static Location<'static>) -> usize {
        self.change(|table| {
            let turn = table.find(name, place);
            table.turns[turn].members += 1;
            (turn, table.advance())
        })
    }

    pub(crate) fn leave(&self, turn: usize) {
        self.change(|table| {
            table.turns[turn].members -= 1;
            ((), table.advance())
        });
    }

    pub(crate) fn list(&self, turn: usize, node: &Arc<Node>) {
        let mut table = self.table.lock_unpoisoned();
        let turn = &mut table.turns[turn];
        if turn.nodes.len() >= turn.sweep_at {
            turn.nodes.retain(|node| node.strong_count() > 0);
            turn.sweep_at = 2 * turn.nodes.len() + 1;
        }
        turn.nodes.push(Arc::downgrade(node));
    }

    /// What `draining` inside of a phase waits for.
    pub(crate) fn watch(&self, turn: usize) -> watch::Receiver<Phase> {
        self.table.lock_unpoisoned().turns[turn].told.subscribe()
    }

    pub(crate) fn begin(&self) {
        self.change(|table| {
            table.begun = true;
            ((), table.advance())
        });
    }

    /// No more turns: tells everybody.
    pub(crate) fn end(&self) {
        self.change(|table| {
            table.over = true;
            if let Some(now) = table.now.take() {
                table.turns[now].ended = Some(Instant::now());
            }
            ((), ToTell(table.turns.iter().map(|turn| Arc::clone(&turn.told)).collect()))
        });
    }

    pub(crate) fn watch_changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn has_members(&self) -> bool {
        self.table.lock_unpoisoned().turns.iter().any(|turn| turn.members > 0)
    }

    pub(crate) fn now(&self) -> Option<Now> {
        let table = self.table.lock_unpoisoned();
        let turn = table.now?;
        let Turn { name, place, weight, .. } = table.turns[turn];
        let to_come = table.turns.iter().filter(|turn| turn.began.is_none() && turn.members > 0);
        let all = f64::from(weight) + to_come.map(|turn| f64::from(turn.weight)).sum::<f64>();
        Some(Now { turn, name, place, share: f64::from(weight) / all })
    }

    pub(crate) fn is_turn_of(&self, turn: usize) -> bool {
        self.table.lock_unpoisoned().now == Some(turn)
    }

    /// Its time is up: cancels what is left of it.
    pub(crate) fn cut_off(&self, turn: usize) {
        let nodes: Vec<Arc<Node>> = {
            let mut table = self.table.lock_unpoisoned();
            table.turns[turn].is_cut_off = true;
            table.turns[turn].nodes.iter().filter_map(Weak::upgrade).collect()
        };
        for node in nodes {
            match node.parent() {
                // The task is the member: cancelled alone, its answer stays between it and us, and the scope it shares with
                // the phases to come does not fail.
                Some(task) if matches!(task.kind, Kind::Task | Kind::Daemon) => {
                    task.cancel(CANCEL, &Cause::Shutdown)
                }
                _ => node.cancel(CANCEL, &Cause::Shutdown),
            }
        }
    }

    /// Goes on to the next phase, whatever is left of this one.
    pub(crate) fn give_up(&self, turn: usize) {
        self.change(|table| {
            let told = if table.now == Some(turn) { table.next() } else { ToTell(Vec::new()) };
            ((), told)
        });
    }

    /// How long each turn took, in the order of the turns.
    pub(crate) fn times(&self) -> Vec<PhaseTime> {
        let table = self.table.lock_unpoisoned();
        let turns = table.had.iter().map(|turn| &table.turns[*turn]);
        turns
            .filter_map(|turn| {
                let took = turn.ended?.saturating_duration_since(turn.began?);
                Some(PhaseTime {
                    phase: Phase::Draining,
                    drain_phase: Some(turn.name),
                    took,
                    is_cut_off: turn.is_cut_off,
                })
            })
            .collect()
    }
}

impl Table {
    fn find(&mut self, name: &'static str, place: &'static Location<'static>) -> usize {
        if let Some(known) = self.turns.iter().position(|turn| turn.name == name) {
            return known;
        }
        let told = if self.over { Phase::Draining } else { Phase::Running };
        self.turns.push(Turn {
            name,
            place,
            weight: 1,
            told: Arc::new(watch::Sender::new(told)),
            members: 0,
            nodes: Vec::new(),
            sweep_at: 0,
            began: None,
            ended: None,
            is_cut_off: false,
        });
        self.turns.len() - 1
    }

    /// Goes on to the next phase if it is nobody's turn, or the turn of one without members (invariant 2).
    fn advance(&mut self) -> ToTell {
        let is_idle = self.now.is_none_or(|now| self.turns[now].members == 0);
        if self.begun && !self.over && is_idle { self.next() } else { ToTell(Vec::new()) }
    }

    fn next(&mut self) -> ToTell {
        let at = Instant::now();
        if let Some(now) = self.now.take() {
            self.turns[now].ended = Some(at);
        }
        let mut order = (0..self.declared).chain((self.declared..self.turns.len()).rev());
        self.now = order.find(|turn| self.turns[*turn].began.is_none() && self.turns[*turn].members > 0);
        let Some(now) = self.now else { return ToTell(Vec::new()) };
        self.turns[now].began = Some(at);
        self.had.push(now);
        ToTell(vec![Arc::clone(&self.turns[now].told)])
    }
}
