//! The two tasks of supervision: the supervisor's own, which does what the core says, and one around each incarnation of a
//! child, which says when that is gone.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use super::decide::{Action, How, MISSED_BEATS, News};
use super::life::Life;
use super::report::{ChildEnd, GaveUp};
use super::spec::{Child, ChildError};
use super::state::{Incarnation, Inner};
use crate::alert::{self, AlertKind, Subject};
use crate::cause::{Cancelled, Cause};
use crate::context;
use crate::done::Failure;
use crate::node::{Node, NodeKind};
use crate::opening::Opened;
use crate::record::{self, Kind};
use crate::resource;
use crate::scope;
use crate::track::{End, Leaf, Strand};
use crate::tree;
use crate::wait::{Op, Wait};
use crate::waker;

/// Says that the supervisor is over, however its task ends, and also if that never ran.
pub(super) struct EndsOver(pub(super) Arc<Inner>);

impl Drop for EndsOver {
    fn drop(&mut self) {
        self.0.is_over();
    }
}

/// The supervisor's task.
///
/// Its children live in a context that a cancel from outside does not reach: they are to stop one after the other. The
/// driver hears of the cancel and begins with that at once; an abort reaches everybody.
pub(super) async fn supervise(inner: Arc<Inner>) -> Result<(), Cancelled> {
    let outside = context::Context::current();
    let mut opened = Opened::new(inner.name, inner.place, NodeKind::Supervisor, false);
    let node = Arc::clone(opened.node());
    let ran = opened.run(pin!(Strand::unopened(drive(&inner, &node, &outside)))).await;
    if let Some(Failure::Panicked(panic)) = ran.failure {
        panic.resume(); // of the task around a child: an error that panicked when it was dropped
    }
    match ran.body {
        End::Panicked(panic) => panic.resume(),
        End::Value(Ended { gave_up: true }) => Err(Cancelled::new(Cause::SupervisorGaveUp(inner.name))),
        End::Value(_) | End::Cancelled => Ok(()),
    }
}

struct Ended {
    gave_up: bool,
}

async fn drive(inner: &Arc<Inner>, node: &Arc<Node>, outside: &context::Context) -> Ended {
    let mut stop = pin!(outside.cancelled());
    let mut stops = false;
    let mut alarm = Alarm::default();
    let mut leaf = Leaf::default();
    poll_fn(|cx| {
        loop {
            if !stops && waker::quietly(cx, |cx| stop.as_mut().poll(cx)).is_ready() {
                stops = true;
                inner.change(|state, now| state.core.end(now));
            }
            let now = Instant::now(); // one for both: what is due between two would be forgotten
            inner.with(|state| state.tick(now));
            let mut did_something = false;
            while let Some(action) = inner.with(|state| state.core.take_action()) {
                did_something = true;
                if let Action::Over { gave_up } = action {
                    leaf.clear();
                    return Poll::Ready(Ended { gave_up });
                }
                act(inner, node, action);
            }
            if did_something {
                inner.tell();
            }
            let next = waker::leaf(cx, |waker| {
                inner.with(|state| state.is_quiet(waker).then(|| state.core.next_tick(now)))
            });
            let Some(next) = next else { continue };
            if alarm.rings_at(next, cx) {
                continue;
            }
            leaf.stand_by(cx, Wait { op: Op::Supervise, on: 0 });
            return Poll::Pending;
        }
    })
    .await
}

/// One timer, made when it is needed for the first time.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn rings_at(&mut self, at: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(at) = at else {
            self.0 = None;
            return false;
        };
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx).is_ready()
    }
}

fn act(inner: &Arc<Inner>, node: &Arc<Node>, action: Action) {
    match action {
        Action::Start { key, incarnation } => start(inner, node, key, incarnation),
        Action::Cancel { key } => {
            if let Some(incarnation) = living(inner, key) {
                incarnation.cancel();
            }
        }
        Action::Abort { key } => {
            if let Some(incarnation) = living(inner, key) {
                incarnation.abort();
            }
        }
        Action::Forget { key } => {
            let entry = inner.with(|state| state.forget(key));
            // What the child captured is the user's, and its drop must not end the supervisor.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(entry)));
        }
        Action::Tell { key, news } => tell(inner, key, news),
        Action::Over { .. } => unreachable!("the driver returns with it"),
    }
}

fn living(inner: &Inner, key: u64) -> Option<Arc<Incarnation>> {
    inner.with(|state| state.entry(key)?.incarnation.clone())
}

fn start(inner: &Arc<Inner>, node: &Arc<Node>, key: u64, number: u64) {
    let incarnation = Incarnation::new(Instant::now());
    let child = inner.with(|state| {
        let entry = state.entry(key)?;
        entry.incarnation = Some(Arc::clone(&incarnation));
        Some(entry.child.clone())
    });
    let Some(child) = child else { return };
    match scope::list(node, child.task_name(), child.place, Kind::Task) {
        Ok(record) => {
            let life = live(Arc::clone(inner), child, key, number, incarnation);
            drop(scope::spawn_listed::<_, _, Cancelled>(record, life));
        }
        // Aborted: this is the end of us all.
        Err(closed) => inner.ended(key, number, ChildEnd::Cancelled, closed.to_string()),
    }
}

/// The task around an incarnation. Whatever is asked of the child is asked of the context inside, so this sees its end: the
/// future dropped, and everything it owned gone.
async fn live(
    inner: Arc<Inner>,
    child: Child,
    key: u64,
    number: u64,
    incarnation: Arc<Incarnation>,
) -> Result<(), Cancelled> {
    let (name, place) = (child.name.clone(), child.place);
    let ran = {
        let pulse = Arc::clone(&incarnation.pulse);
        let life = Life { inner: Arc::downgrade(&inner), key, incarnation: number, pulse };
        let mut opened = Opened::new(child.task_name(), child.place, NodeKind::Scope, false);
        if let Some(record) = record::current() {
            record.set_generation(number);
            incarnation.opened(opened.node(), record);
        }
        drop(incarnation);
        let run = async move {
            if child.terms.ready_within.is_none() {
                life.ready();
            }
            (child.make)(life).await
        };
        opened.run(pin!(Strand::unopened(run))).await
    };
    let end = end_of(ran.body);
    // Here, and not in the supervisor's task: it is the user's code, may panic and may take long.
    let text = catch_unwind(AssertUnwindSafe(|| end.to_string()));
    let text = text.unwrap_or_else(|_| "failed, and so did the text of its error".to_owned());
    inner.ended(key, number, end, text);
    for kind in [AlertKind::ChildHung, AlertKind::ChildStuck] {
        alert::clear(&Subject { kind, name: name.clone(), place }, "it is gone".to_owned());
    }
    Ok(())
}

fn end_of(end: End<Result<(), ChildError>>) -> ChildEnd {
    match end {
        End::Value(Ok(())) => ChildEnd::Returned,
        End::Value(Err(error)) => ChildEnd::Failed(error.into()),
        End::Cancelled => ChildEnd::Cancelled,
        End::Panicked(panic) => ChildEnd::Panicked(panic),
    }
}

/// Puts news into the books, and tells people.
fn tell(inner: &Inner, key: u64, news: News) {
    let Some((child, end, incarnation)) = inner.with(|state| {
        let entry = state.entry(key)?;
        Some((entry.child.clone(), entry.last_end.clone(), entry.incarnation.clone()))
    }) else {
        return;
    };
    let subject = |kind| Subject { kind, name: child.name.clone(), place: child.place };
    let fell = |how| {
        let (end, text) = match how {
            How::Hung => (ChildEnd::Hung, ChildEnd::Hung.to_string()),
            How::NotReady => (ChildEnd::NotReady, ChildEnd::NotReady.to_string()),
            How::Returned | How::Failed | How::Cancelled => {
                end.clone().unwrap_or_else(|| (ChildEnd::Cancelled, ChildEnd::Cancelled.to_string()))
            }
        };
        inner.with(|state| state.entry(key).map(|entry| entry.fell(&end, text.clone())));
        (end, text)
    };
    match news {
        News::Restarts { how, after } => {
            let (_, text) = fell(how);
            let recent = inner.with(|state| state.core.recent(Instant::now()));
            let (most, window) = (inner.restarts.at_most, inner.restarts.within);
            let counted = format!("restart {recent} of {most} in {window:?}");
            alert::raise(
                subject(AlertKind::ChildRestarted),
                format!("it {text}; again in {after:.0?}, {counted}"),
            );
        }
        News::LeftAlone { how } => {
            let (_, text) = fell(how);
            alert::raise(subject(AlertKind::GaveUp), format!("it {text}, and is not started again"));
        }
        News::Hung => {
            let every = child.terms.heartbeat.unwrap_or_default();
            let at = whereabouts(incarnation.as_deref());
            alert::raise(
                subject(AlertKind::ChildHung),
                format!("it missed {MISSED_BEATS} beats of {every:?}: {at}"),
            );
        }
        News::NotReady => {
            let limit = child.terms.ready_within.unwrap_or_default();
            let at = whereabouts(incarnation.as_deref());
            alert::raise(subject(AlertKind::ChildHung), format!("it was not ready within {limit:?}: {at}"));
        }
        News::Stuck => {
            let at = whereabouts(incarnation.as_deref());
            let text = format!("it was cancelled and aborted, and is still not gone: {at}");
            alert::raise(subject(AlertKind::ChildStuck), text);
        }
        News::Stable => {
            alert::clear(&subject(AlertKind::ChildRestarted), "it runs well again".to_owned());
        }
        News::GaveUp { how } => {
            let (last, last_text) = fell(how);
            let gave_up = GaveUp {
                supervisor: inner.name,
                child: child.name.clone(),
                restarts: inner.restarts.at_most,
                window: inner.restarts.within,
                last,
                last_text,
            };
            let text = gave_up.to_string();
            inner.with(|state| state.gives_up(gave_up));
            let name = inner.name.into();
            alert::raise(Subject { kind: AlertKind::GaveUp, name, place: inner.place }, text);
        }
    }
}

/// How many tasks below a child are named when it is hung.
const SHOWN_BELOW: usize = 5;

/// What a child waits for and where, and the tasks below it.
fn whereabouts(incarnation: Option<&Incarnation>) -> String {
    let Some((node, record)) = incarnation.and_then(Incarnation::at) else {
        return "it was never polled".to_owned();
    };
    let mut text = tree::state(&record).to_string();
    for lock in resource::contended() {
        let Some(waiter) = lock.waiters.iter().find(|waiter| waiter.task == Some(record.id())) else {
            continue;
        };
        let _ = write!(text, " at {}, for `{}` ({})", waiter.place, lock.name, lock.place);
        for holder in &lock.holders {
            let task = holder.task.map_or_else(|| "somebody".to_owned(), |task| format!("task #{task}"));
            let _ = write!(text, ", held by {task} since {} ms ({})", holder.for_ms, holder.place);
        }
    }
    let picture = tree::picture(vec![node]);
    let mut scopes: Vec<_> = picture.roots.iter().collect();
    let mut shown = 0;
    while let Some(scope) = scopes.pop() {
        for task in &scope.tasks {
            shown += 1;
            if shown <= SHOWN_BELOW {
                let _ = write!(text, "; below: `{}` {} ({})", task.name, task.state, task.place);
            }
            scopes.extend(&task.scopes);
        }
        scopes.extend(&scope.scopes);
    }
    if shown > SHOWN_BELOW {
        let _ = write!(text, "; and {} more", shown - SHOWN_BELOW);
    }
    text
}
