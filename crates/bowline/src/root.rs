//! What the scopes of one process, or of one test, have in common: how far the shutdown has come, and what was adopted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::node::Node;
use crate::record::Record;
use crate::sync::LockExt;
use crate::testing::trial::Trial;

/// How far an ordered shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// No shutdown.
    Running,
    /// Take nothing new; finish what was accepted.
    Draining,
    /// The time for draining is over: every context is cancelled.
    Cancelling,
    /// What is left is dropped at its next poll.
    Aborting,
}

pub(crate) struct RootState {
    phase: watch::Sender<Phase>,
    /// Whether anybody ever waited for the draining to begin. If not, there is nothing to wait for.
    drains: watch::Sender<bool>,
    /// Why the program itself asked for its end.
    requested: OnceLock<&'static str>,
    /// Tasks that outlived the future of their scope.
    adopted: AtomicU64,
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
        Arc::new(Self {
            phase: watch::Sender::new(Phase::Running),
            drains: watch::Sender::new(false),
            requested: OnceLock::new(),
            adopted: AtomicU64::new(0),
            trial,
        })
    }

    pub(crate) fn trial(&self) -> Option<&Trial> {
        self.trial.as_ref()
    }

    /// Begins the draining because the program asks for it; the first reason counts.
    pub(crate) fn request(&self, reason: &'static str) {
        let _ = self.requested.set(reason);
        self.set_phase(Phase::Draining);
    }

    /// Waits until the program asks for its end.
    pub(crate) async fn wait_requested(&self) -> &'static str {
        let mut phases = self.phase.subscribe();
        loop {
            if let Some(reason) = self.requested.get() {
                return reason;
            }
            // The sender is ours and outlives this.
            let _ = phases.changed().await;
        }
    }

    pub(crate) fn requested(&self) -> Option<&'static str> {
        self.requested.get().copied()
    }

    /// Waits until somebody asks whether the draining has begun; returns at once if somebody ever did.
    pub(crate) async fn wait_drains(&self) {
        let mut drains = self.drains.subscribe();
        // The sender is ours and outlives this.
        let _ = drains.wait_for(|drains| *drains).await;
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.send_if_modified(|known| {
            let later = phase > *known;
            *known = phase.max(*known);
            later
        });
    }

    pub(crate) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.drains.send_if_modified(|drains| !std::mem::replace(drains, true));
        self.phase.subscribe()
    }

    pub(crate) fn add_adopted(&self, tasks: u64) {
        self.adopted.fetch_add(tasks, Ordering::Relaxed);
    }

    pub(crate) fn adopted(&self) -> u64 {
        self.adopted.load(Ordering::Relaxed)
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
        roots.insert(handle.id(), Arc::downgrade(record));
    }
}

/// The record of the root that owns the current runtime.
pub(crate) fn of_runtime() -> Option<Arc<Record>> {
    let id = Handle::try_current().ok()?.id();
    ROOTS.lock_unpoisoned().as_ref()?.get(&id)?.upgrade()
}

pub(crate) fn list_orphan(node: &Arc<Node>) {
    let mut orphans = ORPHANS.lock_unpoisoned();
    orphans.retain(|known| known.strong_count() > 0);
    orphans.push(Arc::downgrade(node));
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
