//! The state all of a supervisor share: its handles, its driver, and the incarnations of its children.
//!
//! # Invariants
//!
//! 1. The core is asked and told under the lock; nothing foreign runs there. What it wants done, the driver does outside.
//! 2. Whoever changes the state wakes the driver and everybody who waits for a change, after the lock is released. Who waits
//!    begins to listen before it looks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::decide::{self, Core, How, Look};
use super::error::AddChildError;
use super::life::Pulse;
use super::report::{ChildEnd, ChildState, ChildStats, Ends, GaveUp, SupervisorStats};
use super::spec::{Child, Restarts, Strategy};
use crate::books::Books;
use crate::carry::Cx;
use crate::cause::{Cancelled, Cause};
use crate::lock::{FreeNotifier, Notify, NotifyError};
use crate::node::Node;
use crate::record::{ABORT, CANCEL, Record};
use crate::sync::{LockExt, Mutex};

pub(super) static SUPERVISORS: Books<Inner> = Books::new();

pub(super) struct Inner {
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    strategy: Strategy,
    pub(super) restarts: Restarts,
    max_children: usize,
    state: Mutex<State>,
    changed: Notify,
    notifier: FreeNotifier,
}

pub(super) struct State {
    pub(super) core: Core,
    entries: BTreeMap<u64, Entry>,
    /// Told when the supervisor is over: why it gave up, if it did.
    over: Option<Option<GaveUp>>,
    /// The child that failed once too often, while the others still stop.
    gives_up: Option<GaveUp>,
    driver: Option<Waker>,
}

/// What is known of a child besides its seat in the core.
pub(super) struct Entry {
    pub(super) child: Child,
    pub(super) incarnation: Option<Arc<Incarnation>>,
    ends: Ends,
    /// How the last incarnation ended, and that in words.
    pub(super) last_end: Option<(ChildEnd, String)>,
    last_failure: Option<String>,
}

/// The task of a living incarnation, as far as one has to reach it.
pub(super) struct Incarnation {
    pub(super) pulse: Arc<Pulse>,
    reach: Mutex<Reach>,
}

#[derive(Default)]
struct Reach {
    /// Its own context and its task; none until the first poll.
    at: Option<(Arc<Node>, Arc<Record>)>,
    asked: u32,
}

/// Why a child is stopped, as it sees it.
const STOPPED: Cause = Cause::Requested("stopped by its supervisor");

impl Incarnation {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self { pulse: Arc::new(Pulse::new(now)), reach: Mutex::default() })
    }

    /// The task has begun. What was asked of it before is asked again.
    pub(super) fn opened(&self, node: &Arc<Node>, record: Arc<Record>) {
        let asked = {
            let mut reach = self.reach.lock_unpoisoned();
            reach.at = Some((Arc::clone(node), record));
            reach.asked
        };
        if asked != 0 {
            node.cancel(asked, &STOPPED);
        }
    }

    /// Asks what is inside to go, never the task around it: that one sees everything below gone and says so.
    fn ask(&self, bits: u32) {
        let node = {
            let mut reach = self.reach.lock_unpoisoned();
            reach.asked |= bits;
            reach.at.as_ref().map(|(node, _)| Arc::clone(node))
        };
        if let Some(node) = node {
            node.cancel(bits, &STOPPED);
        }
    }

    pub(super) fn cancel(&self) {
        self.ask(CANCEL);
    }

    pub(super) fn abort(&self) {
        self.ask(CANCEL | ABORT);
    }

    pub(super) fn at(&self) -> Option<(Arc<Node>, Arc<Record>)> {
        self.reach.lock_unpoisoned().at.clone()
    }
}

/// What a supervisor is made with.
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    pub(super) rules: decide::Rules,
    pub(super) max_children: usize,
    pub(super) children: Vec<Child>,
}

impl Inner {
    pub(super) fn new(plan: Plan) -> Arc<Self> {
        let now = Instant::now();
        let mut core = Core::new(plan.rules);
        let mut entries = BTreeMap::new();
        for child in plan.children {
            entries.insert(core.add(child.terms, true, now), Entry::new(child));
        }
        let cx = Cx::here();
        let (notifier, changed) = crate::lock::open_notify(&cx, plan.name, plan.place);
        let inner = Arc::new(Self {
            name: plan.name,
            place: plan.place,
            strategy: plan.rules.strategy,
            restarts: plan.rules.restarts,
            max_children: plan.max_children,
            state: Mutex::new(State { core, entries, over: None, gives_up: None, driver: None }),
            changed,
            notifier: notifier.free(),
        });
        SUPERVISORS.list(&inner);
        inner
    }

    /// Changes the state, and tells everybody (invariant 2).
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State, Instant) -> R) -> R {
        let (result, driver) = {
            let mut state = self.state.lock_unpoisoned();
            let result = change(&mut state, Instant::now());
            (result, state.driver.take())
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        self.notifier.notify_all();
        result
    }

    /// Looks at the state, or changes what nobody waits for.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock_unpoisoned())
    }

    /// Waits until `look` finds what it looks for.
    pub(super) async fn wait_until<R>(&self, look: impl Fn(&State) -> Option<R>) -> Result<R, Cancelled> {
        loop {
            let changed = self.changed.notified(); // counts from here on (invariant 2)
            if let Some(found) = self.with(|state| look(state)) {
                return Ok(found);
            }
            match changed.await {
                Ok(()) => {}
                // What was waited for may be what cancelled us: a supervisor that gave up.
                Err(NotifyError::Cancelled(cancelled)) => {
                    return self.with(|state| look(state)).ok_or(cancelled);
                }
                Err(NotifyError::NoNotifier) => unreachable!("the notifier is ours"),
            }
        }
    }

    pub(super) fn add(&self, child: Child) -> Result<u64, AddChildError> {
        self.change(|state, now| {
            if state.over.is_some() || state.core.is_closing() {
                return Err(AddChildError::Ended(child));
            }
            if state.key_of(&child.name).is_some() {
                return Err(AddChildError::NameTaken(child));
            }
            if state.entries.len() >= self.max_children {
                return Err(AddChildError::Full(child));
            }
            let key = state.core.add(child.terms, false, now);
            state.entries.insert(key, Entry::new(child));
            state.core.settle(now);
            Ok(key)
        })
    }

    /// An incarnation is gone, destructors and all.
    pub(super) fn ended(&self, key: u64, incarnation: u64, end: ChildEnd, text: String) {
        let how = match &end {
            ChildEnd::Returned => How::Returned,
            ChildEnd::Cancelled => How::Cancelled,
            _ => How::Failed,
        };
        let _former = self.change(|state, now| {
            let entry = state.entries.get_mut(&key)?;
            let former = (entry.incarnation.take(), entry.last_end.replace((end, text)));
            state.core.ended(key, incarnation, how, now);
            Some(former) // dropped outside of the lock: an error's drop is user code
        });
    }

    /// The supervisor has ended, or could not start.
    pub(super) fn is_over(&self) {
        let _captured: Vec<_> = self.change(|state, now| {
            state.core.end(now);
            state.over.get_or_insert_with(|| state.gives_up.clone());
            // What the children captured goes: a queue whose end they held is closed. Dropped outside of the lock.
            state.entries.values_mut().map(|entry| entry.child.retire()).collect()
        });
    }

    /// Tells those who wait that something has changed.
    pub(super) fn tell(&self) {
        self.notifier.notify_all();
    }

    pub(super) fn stats(&self) -> SupervisorStats {
        self.with(|state| {
            let now = Instant::now();
            let children = state.core.keys().filter_map(|key| state.child_stats(key)).collect();
            let gave_up = state.gives_up.as_ref().map(ToString::to_string);
            SupervisorStats {
                name: self.name,
                place: place(self.place),
                strategy: self.strategy,
                restarts: state.core.restarts(),
                recent_restarts: state.core.recent(now),
                max_restarts: self.restarts.at_most,
                window_ms: millis(self.restarts.within),
                max_children: self.max_children,
                gave_up,
                ended: state.over.is_some(),
                children,
            }
        })
    }
}

impl State {
    /// Whether there is something for the driver to do; it is woken when there is.
    pub(super) fn is_quiet(&mut self, driver: &Waker) -> bool {
        if self.core.has_actions() {
            return false;
        }
        self.driver = Some(driver.clone());
        true
    }

    pub(super) fn entry(&mut self, key: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&key)
    }

    pub(super) fn forget(&mut self, key: u64) -> Option<Entry> {
        self.entries.remove(&key)
    }

    pub(super) fn key_of(&self, name: &str) -> Option<u64> {
        self.entries.iter().find(|(_, entry)| entry.child.name == name).map(|(key, _)| *key)
    }

    pub(super) fn name_of(&self, key: u64) -> Option<Cow<'static, str>> {
        self.entries.get(&key).map(|entry| entry.child.name.clone())
    }

    /// What can be seen of a child; none if it has no seat any more.
    pub(super) fn look(&self, key: u64) -> Option<Look> {
        self.core.look(key).filter(|_| self.over.is_none())
    }

    pub(super) fn over(&self) -> Option<&Option<GaveUp>> {
        self.over.as_ref()
    }

    pub(super) fn gave_up(&self) -> Option<&GaveUp> {
        self.gives_up.as_ref()
    }

    pub(super) fn gives_up(&mut self, gave_up: GaveUp) {
        self.gives_up = Some(gave_up);
    }

    /// When a child has made progress.
    pub(super) fn tick(&mut self, now: Instant) {
        let Self { core, entries, .. } = self;
        core.tick(now, |key| match entries.get(&key).and_then(|entry| entry.incarnation.as_ref()) {
            Some(incarnation) => incarnation.pulse.see(),
            None => decide::Pulse::Beat(now), // it is just being started
        });
    }

    pub(super) fn child_stats(&self, key: u64) -> Option<ChildStats> {
        let now = Instant::now();
        let (look, entry) = (self.core.look(key)?, self.entries.get(&key)?);
        let Child { name, place: at, terms, .. } = &entry.child;
        let pulse = entry.incarnation.as_ref().filter(|_| terms.heartbeat.is_some() && look.ready);
        let beat_age_ms = pulse.and_then(|incarnation| match incarnation.pulse.peek() {
            decide::Pulse::Idle => None,
            decide::Pulse::Beat(at) => Some(millis(now.saturating_duration_since(at))),
        });
        let Ends { errors, panics_unexpected, panics_expected, hangs, early_returns, cancelled } = entry.ends;
        Some(ChildStats {
            name: name.clone(),
            place: place(at),
            restart: terms.restart,
            state: if self.over.is_some() { ChildState::Gone } else { look.state },
            since_ms: millis(now.saturating_duration_since(look.since)),
            incarnation: look.incarnation,
            ready: look.ready,
            beat_age_ms,
            restarts: look.restarts,
            errors,
            panics_unexpected,
            panics_expected,
            hangs,
            early_returns,
            cancelled,
            last_failure: entry.last_failure.clone(),
        })
    }
}

impl Entry {
    fn new(child: Child) -> Self {
        Self { child, incarnation: None, ends: Ends::default(), last_end: None, last_failure: None }
    }

    /// Puts a failure into the books.
    pub(super) fn fell(&mut self, end: &ChildEnd, text: String) {
        self.ends.count(end, self.child.terms.restart);
        self.last_failure = Some(text);
    }
}

fn place(at: &Location<'_>) -> String {
    format!("{}:{}", at.file(), at.line())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
