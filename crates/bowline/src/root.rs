//! What the scopes of one process, or of one test, have in common: how far the shutdown has come, and what was adopted.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::alert::Board;
use crate::detect::DeadlockPolicy;
use crate::node::Node;
use crate::panic::Panics;
use crate::record::Record;
use crate::shutdown::Turns;
use crate::sync::LockExt;
use crate::testing::trial::Trial;

/// How far an ordered shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// No shutdown.
    Running,
    /// Take nothing new; finish what was accepted, one drain phase after the other.
    Draining,
    /// The time for draining is over: every context is cancelled.
    Cancelling,
    /// What is left is dropped at its next poll.
    Aborting,
}

/// What the nodes below one root know of it: the state all share, and the drain phase they belong to.
pub(crate) struct RootState {
    shared: Arc<Shared>,
    /// The drain phase this is a membership in.
    turn: Option<usize>,
}

struct Shared {
    phase: watch::Sender<Phase>,
    /// Whether anybody ever waited for the draining to begin. If not, there is nothing to wait for.
    drains: watch::Sender<bool>,
    turns: Turns,
    /// Why the program itself asked for its end.
    requested: OnceLock<&'static str>,
    /// Tasks that outlived the future of their scope.
    adopted: AtomicU64,
    panics: Panics,
    alerts: Board,
    /// What happens when tasks below it stand still for ever.
    deadlock_policy: OnceLock<DeadlockPolicy>,
    /// What a test asks of this run.
    trial: Option<Trial>,
}

impl RootState {
    pub(crate) fn new() -> Arc<Self> {
        Self::with(None)
    }

    pub(crate) fn of_test(trial: Trial) -> Arc<Self> {
        Self::with(Some(trial))
    }

    fn with(trial: Option<Trial>) -> Arc<Self> {
        let shared = Arc::new(Shared {
            phase: watch::Sender::new(Phase::Running),
            drains: watch::Sender::new(false),
            turns: Turns::new(),
            requested: OnceLock::new(),
            adopted: AtomicU64::new(0),
            panics: Panics::new(),
            alerts: Board::default(),
            deadlock_policy: OnceLock::new(),
            trial,
        });
        Arc::new(Self { shared, turn: None })
    }

    pub(crate) fn trial(&self) -> Option<&Trial> {
        self.shared.trial.as_ref()
    }

    pub(crate) fn deadlock_policy(&self) -> DeadlockPolicy {
        self.shared.deadlock_policy.get().copied().unwrap_or_default()
    }

    /// The first counts.
    pub(crate) fn set_deadlock_policy(&self, policy: DeadlockPolicy) {
        let _ = self.shared.deadlock_policy.set(policy);
    }

    pub(crate) fn alerts(&self) -> &Board {
        &self.shared.alerts
    }

    /// Begins the draining because the program asks for it; the first reason counts.
    pub(crate) fn request(&self, reason: &'static str) {
        let _ = self.shared.requested.set(reason);
        self.set_phase(Phase::Draining);
    }

    /// Waits until the program asks for its end.
    pub(crate) async fn wait_requested(&self) -> &'static str {
        let mut phases = self.shared.phase.subscribe();
        loop {
            if let Some(reason) = self.requested() {
                return reason;
            }
            // The sender is ours and outlives this.
            let _ = phases.changed().await;
        }
    }

    pub(crate) fn requested(&self) -> Option<&'static str> {
        self.shared.requested.get().copied()
    }

    /// Waits until somebody asks whether the draining has begun; returns at once if somebody ever did.
    pub(crate) async fn wait_drains(&self) {
        let mut drains = self.shared.drains.subscribe();
        // The sender is ours and outlives this.
        let _ = drains.wait_for(|drains| *drains).await;
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.shared.phase.send_if_modified(|known| {
            let later = phase > *known;
            *known = phase.max(*known);
            later
        });
        match phase {
            Phase::Running => {}
            Phase::Draining => self.shared.turns.begin(),
            Phase::Cancelling | Phase::Aborting => self.shared.turns.end(),
        }
    }

    /// The phase as it is felt here: in a drain phase, the draining begins with its turn.
    pub(crate) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.somebody_drains();
        match self.turn {
            Some(turn) => self.shared.turns.watch(turn),
            None => self.shared.phase.subscribe(),
        }
    }

    fn somebody_drains(&self) {
        self.shared.drains.send_if_modified(|drains| !std::mem::replace(drains, true));
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.shared.turns
    }

    /// A new membership in the drain phase of this name.
    pub(crate) fn join_drain_phase(
        &self,
        name: &'static str,
        place: &'static Location<'static>,
    ) -> Membership {
        self.somebody_drains();
        let turn = self.shared.turns.join(name, place);
        Membership { state: Some(Arc::new(Self { shared: Arc::clone(&self.shared), turn: Some(turn) })) }
    }

    /// Ends a membership; called once for each, by the node it was handed over to.
    pub(crate) fn leave_drain_phase(&self) {
        if let Some(turn) = self.turn {
            self.shared.turns.leave(turn);
        }
    }

    /// Notes the node of a member, so that it can be cancelled when its time is up.
    pub(crate) fn list_member(&self, node: &Arc<Node>) {
        if let Some(turn) = self.turn {
            self.shared.turns.list(turn, node);
        }
    }

    pub(crate) fn add_adopted(&self, tasks: u64) {
        self.shared.adopted.fetch_add(tasks, Ordering::Relaxed);
    }

    pub(crate) fn adopted(&self) -> u64 {
        self.shared.adopted.load(Ordering::Relaxed)
    }

    pub(crate) fn panics(&self) -> &Panics {
        &self.shared.panics
    }
}

/// A membership in a drain phase. Dropped, it ends; handed over to a node, it ends when everything below that is gone.
pub(crate) struct Membership {
    state: Option<Arc<RootState>>,
}

impl Membership {
    pub(crate) fn hand_over(mut self) -> Arc<RootState> {
        let Some(state) = self.state.take() else { unreachable!("handed over once, by value") };
        state
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            state.leave_drain_phase();
        }
    }
}

/// The roots by runtime: where a scope opened in a foreign task (an axum handler, say) is hung in.
static ROOTS: Mutex<Option<HashMap<tokio::runtime::Id, Weak<Record>>>> = Mutex::new(None);

/// Scopes opened where no root runs, so that views still show them.
static ORPHANS: Mutex<Vec<Weak<Node>>> = Mutex::new(Vec::new());

pub(crate) fn register(record: &Arc<Record>) {
    let mut roots = ROOTS.lock_unpoisoned();
    let roots = roots.get_or_insert_default();
    roots.retain(|_, known| known.strong_count() > 0);
    if let Ok(handle) = Handle::try_current() {
        let before = roots.insert(handle.id(), Arc::downgrade(record));
        // A runtime may have a second root while the first still lives: walks are to meet both.
        if let Some(before) = before.and_then(|before| before.upgrade()) {
            list_orphan(&before.node);
        }
    }
}

/// The record of the root that owns the current runtime.
pub(crate) fn of_runtime() -> Option<Arc<Record>> {
    let id = Handle::try_current().ok()?.id();
    ROOTS.lock_unpoisoned().as_ref()?.get(&id)?.upgrade()
}

/// The root of whoever is polled, or of the runtime it is polled in.
pub(crate) fn here() -> Option<Arc<RootState>> {
    crate::record::current().or_else(of_runtime)?.node.root.clone()
}

pub(crate) fn list_orphan(node: &Arc<Node>) {
    let mut orphans = ORPHANS.lock_unpoisoned();
    // Only when the list would grow, so that each entry pays for its own removal.
    if orphans.len() == orphans.capacity() {
        orphans.retain(|known| known.strong_count() > 0);
        let room = orphans.len();
        orphans.reserve(room.max(8));
    }
    orphans.push(Arc::downgrade(node));
}

/// As [`list_orphan`], if nothing is above it: walks are to meet what is opened below.
pub(crate) fn list_if_orphan(node: &Arc<Node>) {
    if node.parent().is_none() {
        list_orphan(node);
    }
}

/// The top nodes of everything that lives in this process.
pub(crate) fn all() -> Vec<Arc<Node>> {
    let mut nodes: Vec<Arc<Node>> = match &*ROOTS.lock_unpoisoned() {
        Some(roots) => {
            roots.values().filter_map(Weak::upgrade).map(|record| Arc::clone(&record.node)).collect()
        }
        None => Vec::new(),
    };
    nodes.extend(ORPHANS.lock_unpoisoned().iter().filter_map(Weak::upgrade));
    nodes
}
