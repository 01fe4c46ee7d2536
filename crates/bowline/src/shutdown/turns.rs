//! Whose turn it is to finish: the drain phases of one root, one after the other.
//!
//! The table moves on by itself, when the draining begins and when the last member of a phase leaves. The clock of the
//! shutdown only watches it, and cuts a turn off when its time is up.
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

use std::panic::Location;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::watch;
use tokio::time::Instant;

use super::report::PhaseTime;
use crate::cause::Cause;
use crate::node::Node;
use crate::record::{CANCEL, Kind};
use crate::root::Phase;
use crate::sync::LockExt;

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
                    task.cancel(CANCEL, &Cause::Shutdown(Phase::Draining))
                }
                _ => node.cancel(CANCEL, &Cause::Shutdown(Phase::Draining)),
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
