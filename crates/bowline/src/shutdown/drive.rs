//! The clock of the shutdown: it waits for a reason to end, and takes the program through its end.
//!
//! It runs on a runtime of its own on the calling thread, so that tasks that block every worker cannot hold it up. Under a
//! paused clock it shares the program's runtime, and the whole end is one deterministic run.

use std::cell::{Cell, RefCell};
use std::sync::Weak;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use super::blockers::{OnBlockers, Stage, Straggler, Teller, stragglers};
use super::report::{PhaseTime, Reason, Report};
use super::signals::Signals;
use super::turns::Now;
use crate::cause::{Cancelled, Cause};
use crate::combine::{Either, race};
use crate::done::Done;
use crate::node::Node;
use crate::panic::Panic;
use crate::record::{ABORT, CANCEL};
use crate::root::{Phase, RootState};
use crate::runner::Root;
use crate::spawner::JoinHandle;
use crate::tree::{self, TaskState};

/// Share of the budget for draining.
pub(crate) const DRAIN_SHARE: f64 = 0.8;
/// Share of the budget from cancelling to aborting; the rest is for the aborted to go.
const CANCEL_SHARE: f64 = 0.15;
/// Share of a drain phase's time that its members get to clean up when they were cut off.
const CLEAN_UP_SHARE: f64 = 0.1;
/// How long the end waits for the answer of a main future that has ended, for foreign tasks that end just now, and for the
/// last word on standard error.
const LAST_WORD: Duration = Duration::from_millis(50);
/// How long after the beginning of the end somebody may first ask whether it has begun.
const ASKING: Duration = Duration::from_millis(100);
/// How long the aborted get after a second signal.
const FORCED_BUDGET: Duration = Duration::from_millis(200);

/// What the runner was told about the end.
pub(crate) struct Plan {
    pub(crate) budget: Duration,
    pub(crate) on_blockers: Option<OnBlockers>,
}

/// How the main future ended.
pub(crate) enum MainEnd<T> {
    Value(T),
    Panicked(Panic),
    Cancelled(Cancelled),
}

/// Drives a program from its running to its report.
pub(crate) async fn drive<T>(
    main: JoinHandle<MainEnd<T>>,
    root: Root,
    state: &RootState,
    plan: Plan,
    signals: Signals,
    workers: &Handle,
) -> (Option<MainEnd<T>>, Report) {
    let mut main = Main { running: Some(main), ended: None };
    let mut signals = signals;

    // Running, until main returns, a signal comes, or the program asks.
    let reason = match race(main.wait(), race(signals.next(), state.wait_requested())).await {
        // It may have asked, and been done before we looked.
        Either::Left(()) => state.requested().map_or(Reason::Finished, Reason::Requested),
        Either::Right(Either::Left(name)) => Reason::Signal(name),
        Either::Right(Either::Right(reason)) => Reason::Requested(reason),
    };
    let began = Instant::now();
    let stage = Cell::new(Stage { phase: Phase::Running, drain_phase: None });
    let teller = Teller {
        reason: &reason,
        began,
        budget: plan.budget,
        root: Weak::clone(&root.node),
        stage: &stage,
        on_blockers: plan.on_blockers,
        telling: RefCell::new(None),
    };
    let mut end = Shutdown {
        main,
        signals,
        state,
        teller: &teller,
        phases: Vec::new(),
        cut_off: Vec::new(),
        forced: false,
    };
    let stragglers = match race(end.run(root), teller.tell_blockers()).await {
        Either::Left(stragglers) => stragglers,
        Either::Right(never) => match never {},
    };
    let Shutdown { mut main, phases, cut_off, forced, .. } = end;
    let took = began.elapsed();
    if !main.has_ended() {
        // Its record is gone a moment before its handle has the answer; a main that does not stop has none.
        let _ = timeout(LAST_WORD, main.wait()).await;
    }
    let ours = teller.root.upgrade().map_or(0, |node| tree::picture(vec![node]).tasks);
    let foreign_tasks = foreign_tasks(workers, ours).await;
    teller.finish(LAST_WORD).await;
    let report = Report {
        phase: stage.get().phase.max(Phase::Cancelling),
        took,
        phases,
        stragglers,
        cut_off,
        forced_by_signal: forced,
        panic: None,
        cancelled: None,
        panics: state.panics().stats(),
        adopted: state.adopted(),
        foreign_tasks,
        reason,
    };
    (main.ended, report)
}

/// The main task's handle, which must not be polled again once it has answered.
struct Main<T> {
    running: Option<JoinHandle<MainEnd<T>>>,
    ended: Option<MainEnd<T>>,
}

impl<T> Main<T> {
    /// Returns when main has ended, once; after that it waits for ever.
    async fn wait(&mut self) {
        match &mut self.running {
            Some(running) => {
                self.ended = running.await.ok();
                self.running = None;
            }
            None => std::future::pending().await,
        }
    }

    fn has_ended(&self) -> bool {
        self.running.is_none()
    }
}

struct Shutdown<'a, T> {
    main: Main<T>,
    signals: Signals,
    state: &'a RootState,
    teller: &'a Teller<'a>,
    phases: Vec<PhaseTime>,
    cut_off: Vec<Straggler>,
    forced: bool,
}

impl<T> Shutdown<'_, T> {
    /// Takes the program through its end, and says who did not stop.
    async fn run(&mut self, root: Root) -> Vec<Straggler> {
        let (began, budget) = (self.teller.began, self.teller.budget);
        if *self.teller.reason != Reason::Finished || self.state.turns().has_members() {
            self.enter(Phase::Draining);
        }
        if self.somebody_drains().await {
            self.teller.say(format!(
                "{}: draining for at most {:.1} s; once more to force",
                self.teller.reason,
                budget.mul_f64(DRAIN_SHARE).as_secs_f64()
            ));
            let began = Instant::now();
            self.drain(&root.node).await;
            let is_cut_off = !self.cut_off.is_empty();
            self.note(Phase::Draining, began, is_cut_off);
        }

        // From here on only what lives keeps the root open.
        let Root { record, node, done } = root;
        drop(record);
        if !self.forced && !done.is_gone() {
            let entered = Instant::now();
            // Cancelled first and told second, or a phase whose turn never came could begin to finish in between.
            raise(&node, CANCEL);
            self.enter(Phase::Cancelling);
            let until = began + budget.mul_f64(DRAIN_SHARE + CANCEL_SHARE);
            let waited = timeout_at(until, race(is_gone(&done), self.signals.next())).await;
            if matches!(waited, Ok(Either::Right(_))) {
                self.forced = true;
                self.cut_off_whoever_is_left(&node);
            }
            self.note(Phase::Cancelling, entered, waited.is_err());
        }
        if !done.is_gone() {
            let entered = Instant::now();
            raise(&node, CANCEL | ABORT);
            self.enter(Phase::Aborting);
            let until = if self.forced { entered + FORCED_BUDGET } else { began + budget };
            let waited = timeout_at(until, is_gone(&done)).await;
            self.note(Phase::Aborting, entered, waited.is_err());
        }
        self.phases.splice(..0, self.state.turns().times());
        below(&node)
    }

    fn enter(&self, phase: Phase) {
        self.teller.stage.set(Stage { phase, drain_phase: None });
        self.state.set_phase(phase);
    }

    fn note(&mut self, phase: Phase, entered: Instant, is_cut_off: bool) {
        self.phases.push(PhaseTime { phase, drain_phase: None, took: entered.elapsed(), is_cut_off });
    }

    /// Where nobody asks whether draining has begun, nobody drains, and waiting would be a sleep.
    async fn somebody_drains(&self) -> bool {
        let at_most = ASKING.min(self.teller.budget.mul_f64(DRAIN_SHARE));
        self.state.turns().has_members()
            || !self.main.has_ended() && timeout(at_most, self.state.wait_drains()).await.is_ok()
    }

    /// Gives each phase its turn, and waits until main has returned.
    async fn drain(&mut self, root: &Weak<Node>) {
        let until = self.teller.began + self.teller.budget.mul_f64(DRAIN_SHARE);
        let mut changes = self.state.turns().watch_changes();
        loop {
            changes.mark_unchanged();
            if let Some(now) = self.state.turns().now() {
                self.take_turn(now, until, root).await;
            } else if self.main.has_ended() {
                return;
            } else {
                let change = async { changes.changed().await.is_ok() };
                let waiting = race(self.main.wait(), race(self.signals.next(), change));
                match timeout_at(until, waiting).await {
                    Ok(Either::Left(()) | Either::Right(Either::Right(_))) => {}
                    Ok(Either::Right(Either::Left(_))) => self.forced = true,
                    Err(_) => return self.cut_off_whoever_is_left(root),
                }
            }
            if self.forced {
                return self.cut_off_whoever_is_left(root);
            }
        }
    }

    fn cut_off_whoever_is_left(&mut self, root: &Weak<Node>) {
        let mut left = below(root);
        // Who was cut off with its phase, and still cleans up, is named once.
        left.retain(|task| self.cut_off.iter().all(|known| known.id != task.id));
        self.cut_off.extend(left);
    }

    /// Waits for the members of a phase, for its share of the time at most; then cancels those that are left, and waits for them a
    /// little longer.
    async fn take_turn(&mut self, now: Now, drain_until: Instant, root: &Weak<Node>) {
        self.teller.stage.set(Stage { phase: Phase::Draining, drain_phase: Some(now.name) });
        let began = Instant::now();
        let at_most = drain_until.saturating_duration_since(began).mul_f64(now.share);
        if !self.is_over(now, began + at_most.mul_f64(1.0 - CLEAN_UP_SHARE)).await {
            let mut left = below(root);
            left.retain(|task| task.drain_phase == Some(now.name));
            if left.is_empty() {
                left.push(never_run(now, self.teller.began));
            }
            self.cut_off.extend(left);
            self.state.turns().cut_off(now.turn);
            if !self.is_over(now, began + at_most).await {
                self.state.turns().give_up(now.turn);
            }
        }
        self.teller.stage.set(Stage { phase: Phase::Draining, drain_phase: None });
    }

    /// Waits until a turn is over or a second signal forces the end; says so if the time came first.
    async fn is_over(&mut self, now: Now, until: Instant) -> bool {
        let turns = self.state.turns();
        let mut changes = turns.watch_changes();
        loop {
            changes.mark_unchanged();
            if self.forced || !turns.is_turn_of(now.turn) {
                return true;
            }
            let change = async { changes.changed().await.is_ok() };
            match timeout_at(until, race(change, race(self.signals.next(), self.main.wait()))).await {
                Ok(Either::Right(Either::Left(_))) => self.forced = true,
                Ok(Either::Left(_) | Either::Right(Either::Right(()))) => {}
                Err(_) => return false,
            }
        }
    }
}

/// A member that holds up the turn of its phase and has no task to show: registered, neither run nor dropped.
fn never_run(now: Now, began: Instant) -> Straggler {
    Straggler {
        id: 0,
        path: format!("(drain phase {})", now.name),
        place: format!("{}:{}", now.place.file(), now.place.line()),
        age: began.elapsed(),
        state: TaskState::New,
        drain_phase: Some(now.name),
    }
}

fn below(node: &Weak<Node>) -> Vec<Straggler> {
    node.upgrade().map(|node| stragglers(&node)).unwrap_or_default()
}

fn raise(node: &Weak<Node>, bits: u32) {
    if let Some(node) = node.upgrade() {
        let phase = if bits & ABORT != 0 { Phase::Aborting } else { Phase::Cancelling };
        node.cancel(bits, &Cause::Shutdown(phase));
    }
}

async fn is_gone(done: &Done) {
    std::future::poll_fn(|cx| done.poll(cx)).await;
}

/// How many tasks of the program's runtime are nobody's here. Those that end just now get a moment to.
async fn foreign_tasks(workers: &Handle, ours: usize) -> usize {
    const LOOK_EVERY: Duration = Duration::from_millis(1);
    let until = Instant::now() + LAST_WORD;
    loop {
        let foreign = workers.metrics().num_alive_tasks().saturating_sub(ours);
        if foreign == 0 || Instant::now() >= until {
            return foreign;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
