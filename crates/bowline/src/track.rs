//! The wrappers that make a future a task or a strand: they set the ambient record for every poll *and for the drop*,
//! apply the rule of cancellation, and catch panics at a task's root.
//!
//! # The rule of cancellation
//!
//! A cancelled task is polled once more, so that waits of ours can return [`Cancelled`] and the code can tidy up. If it is
//! then still pending, it sits at an await that knows nothing of contexts (a socket, a foreign lock), and is dropped
//! there. Sections under [`shielded`](crate::shielded) and scopes that wait for their own tasks hold the drop off; both
//! are bounded. An abort drops at the next poll without asking.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::cause::Cancelled;
use crate::node::Node;
use crate::panic::{Panic, caught};
use crate::put_off::{self, Opened};
use crate::record::{self, ABORT, CANCEL, Kind, Record};
use crate::span::TaskSpan;
use crate::sync::Arc;
use crate::sync::atomic::{Ordering, fence};
#[cfg(feature = "test-util")]
use crate::testing::trial;
use crate::wait::Wait;
use crate::waker::{self, Bell, Disowned};
use crate::watch;

/// What the end of a task means to the scope or group that owns it.
pub(crate) trait Ending {
    /// What the task's future returns.
    type Output;
    /// What the task's join handle carries.
    type Ended: Send + 'static;

    fn value(record: &Arc<Record>, value: Self::Output) -> Self::Ended;
    fn panicked(record: &Arc<Record>, panic: Panic) -> Self::Ended;
    fn cancelled(record: &Arc<Record>, cancelled: Cancelled) -> Self::Ended;
}

pin_project! {
    /// The root of a spawned task.
    pub(crate) struct Tracked<F, E> {
        #[pin]
        future: Option<F>,
        record: Option<Arc<Record>>,
        // Of the waker it is polled with, once it has parked.
        own: Option<Arc<Bell>>,
        span: TaskSpan,
        ending: PhantomData<fn() -> E>,
    }

    impl<F, E> PinnedDrop for Tracked<F, E> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(record) = this.record.as_ref() {
                let _in = this.span.enter();
                record.poll_begins(); // what its destructors do is done by a task that runs
                // Destructors see their own context.
                let dropped = record::enter_caught(this.record, || this.future.set(None));
                if let Some(record) = this.record {
                    finish(record);
                }
                // The runtime dropped it, and catches this. The task is gone, whatever its destructors did.
                dropped.unwrap_or_else(|payload| resume_unwind(payload));
            }
        }
    }
}

impl<F, E> Tracked<F, E> {
    pub(crate) fn new(record: Arc<Record>, future: F) -> Self {
        let span = TaskSpan::of(&record);
        Self { future: Some(future), record: Some(record), own: None, span, ending: PhantomData }
    }
}

impl<F, E> Future for Tracked<F, E>
where
    F: Future<Output = E::Output>,
    E: Ending,
{
    type Output = E::Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<E::Ended> {
        let mut this = self.project();
        #[cfg(feature = "test-util")]
        if this.record.as_ref().is_some_and(|record| trial::gives_turn_away(&record.node)) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let _in = this.span.enter();
        let future = &mut this.future;
        let flags = this.record.as_ref().map_or(0, |record| record.flags());
        let began = watch::poll_begins();
        if let Some(record) = this.record.as_ref() {
            record.poll_begins();
        }
        let is_first = this.own.is_none();
        let mut value = None;
        let polled = waker::lend(this.own, cx.waker(), |cx| {
            record::enter_caught(this.record, || {
                if flags & ABORT != 0 {
                    future.set(None); // dropped here, not asked; a destructor that panics is the task's panic
                    return Poll::Ready(());
                }
                step(future.as_mut(), flags, cx, &mut value)
            })
        });
        let Some(record) = this.record.as_ref() else {
            unreachable!("the record is taken only when the task ends, and an ended task is not polled");
        };
        record.poll_ends();
        let ended = match polled {
            Ok(Poll::Pending) => {
                if is_first {
                    record.set_future_bytes(size_of::<F>());
                    if let Some(own) = this.own {
                        record.hang_bell(Arc::clone(own), cx.waker());
                    }
                }
                if let Some(began) = began {
                    record.add_poll_time(began.elapsed());
                }
                park(record);
                return Poll::Pending;
            }
            Ok(Poll::Ready(())) => match value {
                Some(value) => E::value(record, value),
                None => E::cancelled(record, record.cancelled()),
            },
            Err(payload) => {
                let panic = caught(record, payload); // first: a destructor that panics too would hide its place
                // The future may be half-way: drop what is left of it under its own context.
                let future = &mut this.future;
                let _ = record::enter_caught(this.record, || future.set(None));
                let Some(record) = this.record.as_ref() else { unreachable!("`enter` puts the record back") };
                E::panicked(record, panic)
            }
        };
        if is_first {
            waker::give_back(this.own);
        }
        // "Gone" is when the future, its destructors and now the record are.
        if let Some(record) = this.record.take() {
            finish(&record);
        }
        Poll::Ready(ended)
    }
}

/// A blocking task: its closure, which nothing can drop half-way once it runs. A runtime that refuses it, or ends before its
/// turn, drops it unrun.
pub(crate) struct Blocking<W> {
    work: Option<W>,
    record: Option<Arc<Record>>,
    span: TaskSpan,
}

impl<W> Blocking<W> {
    pub(crate) fn new(record: Arc<Record>, work: W) -> Self {
        let span = TaskSpan::of(&record);
        Self { work: Some(work), record: Some(record), span }
    }

    /// Runs the closure: its context is ambient, and its panic is caught.
    pub(crate) fn run<E: Ending>(mut self) -> E::Ended
    where
        W: FnOnce() -> E::Output,
    {
        let Some(work) = self.work.take() else { unreachable!("it runs once, by value") };
        let span = self.span.clone();
        let _in = span.enter();
        if let Some(record) = &self.record {
            record.poll_begins();
        }
        let worked = record::enter_caught(&mut self.record, work);
        let Some(record) = &self.record else { unreachable!("`enter` puts the record back") };
        record.poll_ends();
        match worked {
            Ok(value) => E::value(record, value),
            Err(payload) => E::panicked(record, caught(record, payload)),
        }
    }
}

impl<W> Drop for Blocking<W> {
    fn drop(&mut self) {
        let work = self.work.take();
        let _in = self.span.enter();
        let dropped = record::enter_caught(&mut self.record, || drop(work));
        if let Some(record) = &self.record {
            finish(record);
        }
        dropped.unwrap_or_else(|payload| resume_unwind(payload));
    }
}

/// The end of a task, destructors and all. The count goes last: whoever waits for the node sees everything done.
fn finish(record: &Arc<Record>) {
    record.mark_ended();
    record.node.release(record.kind);
}

/// Polls once and applies the rule of cancellation: what has ended without a value was cancelled. Runs with the record ambient.
///
/// The value goes where it stays: what a poll returns is handed up through several calls, and most polls have none.
#[inline]
fn step<F: Future>(
    mut future: Pin<&mut Option<F>>,
    flags_before: u32,
    cx: &mut Context<'_>,
    value: &mut Option<F::Output>,
) -> Poll<()> {
    let Some(running) = future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
    match running.poll(cx) {
        Poll::Ready(ready) => {
            future.set(None); // before the record goes: "gone" means that destructors have run
            *value = Some(ready);
            Poll::Ready(())
        }
        Poll::Pending if flags_before & CANCEL == 0 => Poll::Pending,
        Poll::Pending => {
            if record::with_current(|current| current.is_some_and(|record| record.is_shielded())) {
                Poll::Pending
            } else {
                future.set(None);
                Poll::Ready(())
            }
        }
    }
}

/// After a poll that was pending: comes back at once if a cancel was missed meanwhile. How to wake the task is known by now.
#[inline]
fn park(record: &Arc<Record>) {
    // The canceller raised the flag before it looked for a waker, we stored the waker before we look for the flag, and both
    // took the record's lock in between: one of us sees the other. A waker stored by an earlier poll is seen in any case.
    let flags = record.flags();
    if flags & (CANCEL | ABORT) != 0 {
        come_back(record, flags);
    }
}

#[cold]
fn come_back(record: &Arc<Record>, flags: u32) {
    // Pairs with the fence in the drop of `Shield`: it sees that our poll has ended, or we see that it is down.
    fence(Ordering::SeqCst);
    if flags & ABORT != 0 || !record.is_shielded() {
        record.wake();
    }
}

/// Notes how to wake a strand that is pending: with its task, or, if somebody else polls it, as it was polled.
pub(crate) fn remember(record: &Record, cx: &Context<'_>) {
    if waker::is_own(cx.waker()) {
        record.remember_nobody();
    } else {
        record.remember_waker(cx.waker());
    }
}

/// To be asked before a strand is polled, and kept until that is over. The strand may lie in a future that has moved to another
/// task than the one it was opened in: then that one is not to be judged by its own words, and nothing in the strand is its
/// poller's own.
pub(crate) fn away_from_home(strand: &Record) -> Option<Disowned> {
    let is_at_home = record::with_current(|current| match (current, strand.node.parent()) {
        (Some(current), Some(opener)) => Arc::ptr_eq(current, opener) || is_same_task(current, opener),
        (None, None) => true,
        _ => false,
    });
    if is_at_home {
        return None;
    }
    strand.lend();
    Some(waker::disown())
}

pub(crate) fn is_same_task(one: &Record, other: &Record) -> bool {
    one.task().zip(other.task()).is_some_and(|(one, other)| std::ptr::eq(one, other))
}

/// How a strand ended.
pub(crate) enum End<T> {
    Value(T),
    /// Its context was cancelled and the rule of cancellation dropped it.
    Cancelled,
    Panicked(Panic),
}

pin_project! {
    /// A piece of a task under a context of its own.
    pub(crate) struct Strand<F> {
        #[pin]
        future: Option<F>,
        record: Option<Arc<Record>>,
    }

    impl<F> PinnedDrop for Strand<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.record.is_some() {
                record::enter(this.record, || this.future.set(None));
            }
            if let Some(record) = this.record {
                record.mark_ended();
            }
        }
    }
}

impl<F> Strand<F> {
    /// Opens a strand directly below `node`.
    pub(crate) fn new(node: &Arc<Node>, future: F) -> Self {
        Self { future: Some(future), record: Some(node.list_body()) }
    }

    /// A strand to be opened later, at its first poll; polled before, it ends as cancelled.
    pub(crate) fn unopened(future: F) -> Self {
        Self { future: Some(future), record: None }
    }

    pub(crate) fn open(self: Pin<&mut Self>, node: &Arc<Node>) {
        *self.project().record = Some(node.list_body());
    }
}

/// What the first poll of a strand came to whose context was put off.
pub(crate) enum First<T> {
    Value(T),
    Panicked(Panic),
    /// And the context, if somebody has looked at it.
    Pending(Option<Opened>),
}

impl<F: Future> Strand<F> {
    /// The first poll, under a deadline whose context is opened when somebody looks. The context below is not cancelled.
    pub(crate) fn poll_first(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        place: &'static Location<'static>,
        at: Option<Instant>,
    ) -> First<F::Output> {
        let mut this = self.project();
        let future = &mut this.future;
        let mut value = None;
        let (stepped, opened) = put_off::run(place, at, || {
            let stepped = catch_unwind(AssertUnwindSafe(|| step(future.as_mut(), 0, cx, &mut value)));
            if stepped.is_err() {
                put_off::open_all(); // a panic names the context it happened in
            }
            stepped
        });
        *this.record = opened.as_ref().map(|opened| Arc::clone(&opened.record));
        if let Some(record) = this.record {
            record.poll_ends();
        }
        match (stepped, value) {
            (Ok(_), Some(value)) => {
                if let Some(record) = this.record.take() {
                    record.mark_ended();
                }
                First::Value(value)
            }
            (Ok(_), None) => {
                if let Some(record) = this.record {
                    remember(record, cx);
                    park(record);
                }
                First::Pending(opened)
            }
            (Err(payload), _) => {
                let Some(record) = this.record else { unreachable!("it was opened for the panic") };
                let panic = caught(record, payload);
                let _ = record::enter_caught(this.record, || future.set(None));
                if let Some(record) = this.record.take() {
                    record.mark_ended();
                }
                First::Panicked(panic)
            }
        }
    }

    /// Opened after its first poll was pending.
    pub(crate) fn park(self: Pin<&mut Self>, cx: &Context<'_>) {
        if let Some(record) = self.project().record {
            remember(record, cx);
            park(record);
        }
    }
}

impl<F: Future> Future for Strand<F> {
    type Output = End<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End<F::Output>> {
        let mut this = self.project();
        let Some(record) = this.record.as_ref() else { return Poll::Ready(End::Cancelled) };
        let flags = record.flags();
        let _elsewhere = away_from_home(record);
        record.poll_begins();
        let future = &mut this.future;
        let mut value = None;
        let stepped = record::enter_caught(this.record, || {
            if flags & ABORT != 0 {
                future.set(None);
                return Poll::Ready(());
            }
            step(future.as_mut(), flags, cx, &mut value)
        });
        let Some(record) = this.record.as_ref() else { unreachable!("`enter` puts the record back") };
        record.poll_ends();
        let end = match stepped {
            Ok(Poll::Pending) => {
                remember(record, cx);
                park(record);
                return Poll::Pending;
            }
            Ok(Poll::Ready(())) => value.map_or(End::Cancelled, End::Value),
            Err(payload) => {
                let panic = caught(record, payload);
                let _ = record::enter_caught(this.record, || future.set(None));
                End::Panicked(panic)
            }
        };
        if let Some(record) = this.record.take() {
            record.mark_ended();
        }
        Poll::Ready(end)
    }
}

/// Holds off the drop at a cancel for every record from the current one up to its task's root.
pub(crate) struct Shield {
    records: Vec<Arc<Record>>,
}

impl Shield {
    pub(crate) fn raise() -> Self {
        let mut records = Vec::new();
        let mut at = record::current();
        while let Some(record) = at {
            record.shield();
            at = if record.kind == Kind::Strand { record.node.parent().cloned() } else { None };
            records.push(record);
        }
        Self { records }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        for record in &self.records {
            // Mostly within a poll of the task itself, which looks at its shields afterwards. But a future moves, and a context
            // is entered from elsewhere: then the task sits at an await where it was spared.
            if record.unshield() {
                // Pairs with the fence in `park`, and with that of a canceller, whose flag we see unless the task it wakes sees
                // no shield.
                fence(Ordering::SeqCst);
                if record.is_cancelled() && !record.is_running() {
                    record.wake();
                }
            }
        }
    }
}

/// The part every waiting primitive shares: it ends the wait when the task's current context is cancelled, says what the
/// task waits for, and makes sure that a cancel finds the leaf also under `FuturesUnordered` and the like.
///
/// The waker a primitive puts down comes from [`waker::leaf`]: a clone of the one in `cx` would be a foreign one.
#[derive(Default)]
pub(crate) struct Leaf {
    /// Where it is counted among the parked: the task's record.
    counted: Option<Arc<Record>>,
    /// Boxed because it is rare, and leaves lie in handles and futures.
    registered: Option<Box<(Arc<Record>, u64)>>,
}

impl Leaf {
    /// Returns the cause if the current context is cancelled. The context is looked up at every poll: it follows the poll.
    pub(crate) fn check() -> Result<(), Cancelled> {
        record::with_nearest(|current| match current {
            Some(record) if record.is_cancelled() => Err(record.cancelled()),
            _ => Ok(()),
        })
    }

    /// To be called when the primitive itself is pending, after it has stored the waker.
    pub(crate) fn park(&mut self, cx: &Context<'_>, wait: Wait) -> Result<(), Cancelled> {
        Self::check().inspect_err(|_| self.clear())?;
        self.stand_by(cx, wait);
        if self.registered.is_some() {
            // Not behind the lock of the record, as at a task's root: pairs with the fence in `Record::wake`.
            fence(Ordering::SeqCst);
        }
        Self::check().inspect_err(|_| self.clear())
    }

    /// As `park`, for a wait that a cancelled context does not end.
    pub(crate) fn stand_by(&mut self, cx: &Context<'_>, wait: Wait) {
        // Nothing foreign may run while the thread-local is borrowed: what goes, goes afterwards.
        let gone = record::with_current(|current| self.count(current?, wait));
        drop(gone);
        if waker::is_own(cx.waker()) {
            self.unregister(); // it is woken with its task
        } else if let Some(record) = record::current() {
            self.register(record, cx);
        }
    }

    /// Counts it as parked in the task of `current`. Returns where it was counted before, if that was another.
    fn count(&mut self, current: &Arc<Record>, wait: Wait) -> Option<Arc<Record>> {
        // Where no task of ours is around, all that counts is that it is balanced, and that no word is shared by many.
        let task = record::task_around(current).unwrap_or(current);
        if self.counted.as_ref().is_some_and(|counted| Arc::ptr_eq(counted, task)) {
            // Another leaf of the task may have taken the word with it: a race that was won while this one was kept.
            if current.wait().is_none() {
                current.set_wait(wait);
            }
            return None;
        }
        current.set_wait(wait);
        task.add_leaf();
        let before = self.counted.replace(Arc::clone(task));
        before.inspect(|before| before.remove_leaf())
    }

    #[cold]
    fn register(&mut self, record: Arc<Record>, cx: &Context<'_>) {
        match &self.registered {
            Some(leaf) if Arc::ptr_eq(&leaf.0, &record) => leaf.0.renew_leaf(leaf.1, cx.waker()),
            _ => {
                self.unregister();
                if let Some(key) = record.remember_leaf(cx.waker()) {
                    self.registered = Some(Box::new((record, key)));
                }
            }
        }
    }

    /// To be called when the wait is over.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.counted.is_some() || self.registered.is_some() {
            self.clear_slowly();
        }
    }

    fn clear_slowly(&mut self) {
        if let Some(counted) = self.counted.take() {
            counted.remove_leaf();
            record::with_current(|current| {
                if let Some(record) = current {
                    record.clear_wait();
                }
            });
        }
        self.unregister();
    }

    fn unregister(&mut self) {
        if let Some(leaf) = self.registered.take() {
            leaf.0.forget_leaf(leaf.1);
        }
    }
}

impl Drop for Leaf {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}
