//! What all locks share: one lock around a line and a rule, and the one future that waits in it.
//!
//! A [`Rule`] is sequential: who may pass, who is granted what, what to do with what somebody leaves behind. Everything
//! subtle about waiting - cancellation, wakers, giving the place back - is in [`Waiting`], once.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use super::line::{Key, Left, Line, Stage};
use crate::cause::Cancelled;
use crate::record::next_id;
use crate::resource::{self, Facts, HeldFact, Resource, ResourceKind, ResourceState, RightFact, Who};
use crate::site::{self, Site};
use crate::sync::{Arc, LockExt, Mutex};
use crate::testing::trial;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// What somebody asks for.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) op: Op,
    pub(crate) need: usize,
    /// How many calls to everybody there had been when the question was asked (`Notify`).
    pub(crate) calls: u64,
}

/// Who passes a lock, who waits and who is refused. Runs under the lock; wakes nobody itself.
pub(crate) trait Rule: Send + 'static {
    /// What somebody who passes takes along.
    type Pass;
    /// Why somebody never will.
    type Refusal;

    const KIND: ResourceKind;

    /// Somebody asks. `None`: has to wait. It is asked again before joining the line, so "wait" must change nothing.
    fn enter(
        &mut self,
        line: &mut Line,
        ask: Ask,
        who: Who,
        wakes: &mut Wakes,
    ) -> Option<Result<Self::Pass, Self::Refusal>>;

    /// Somebody granted comes to fetch.
    fn fetch(&mut self, line: &mut Line, key: Key) -> Self::Pass;

    /// Why somebody who waits for `need` does so in vain, if it is in vain.
    fn refusal(&self, need: usize) -> Option<Self::Refusal>;

    /// A place that was waiting or granted has been given up.
    fn left(&mut self, line: &mut Line, left: &Left, wakes: &mut Wakes);

    fn state(&self, line: &Line) -> ResourceState;

    fn held(&self, line: &Line) -> Vec<HeldFact> {
        let _ = line;
        Vec::new()
    }

    fn rights(&self) -> Vec<RightFact> {
        Vec::new()
    }

    /// Whether whoever can reach it by reference can fire it.
    fn is_open_ended(&self) -> bool {
        false
    }
}

/// Whom to wake after the lock is released. The usual one needs no allocation.
#[derive(Default)]
pub(crate) struct Wakes {
    first: Option<Waker>,
    /// Empty as long as there is no first.
    more: Vec<Waker>,
}

impl Wakes {
    pub(crate) fn add(&mut self, waker: Option<Waker>) {
        if self.first.is_none() {
            self.first = waker;
        } else {
            self.more.extend(waker);
        }
    }

    pub(crate) fn add_all(&mut self, wakers: Vec<Waker>) {
        wakers.into_iter().for_each(|waker| self.add(Some(waker)));
    }

    fn run(self) {
        if let Some(first) = self.first {
            first.wake();
            self.more.into_iter().for_each(Waker::wake);
        }
    }
}

/// One lock of any kind.
pub(crate) struct Core<R> {
    pub(crate) id: u64,
    pub(crate) site: &'static Site,
    state: Mutex<State<R>>,
}

pub(crate) struct State<R> {
    pub(crate) line: Line,
    pub(crate) rule: R,
    /// Where the lock lay when it was last used by reference.
    lies_at: usize,
    /// Whether it stands in the registry.
    listed: bool,
    pub(crate) waits: u64,
    pub(crate) panicked: u64,
}

impl<R: Rule> Core<R> {
    pub(crate) fn new(name: &'static str, place: &'static Location<'static>, rule: R) -> Arc<Self> {
        let state = State { line: Line::default(), rule, lies_at: 0, listed: false, waits: 0, panicked: 0 };
        Arc::new(Self { id: next_id(), site: site::intern(name, place), state: Mutex::new(state) })
    }

    /// One critical section; wakes after it.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State<R>, &mut Wakes) -> T) -> T {
        let mut wakes = Wakes::default();
        let result = act(&mut self.state.lock_unpoisoned(), &mut wakes);
        wakes.run();
        result
    }

    /// Passes if that is possible without waiting. `lies_at` is the address of the lock's public front.
    pub(crate) fn try_enter(
        &self,
        ask: Ask,
        who: Who,
        lies_at: usize,
    ) -> Option<Result<R::Pass, R::Refusal>> {
        self.with(|state, wakes| {
            state.lies_at = lies_at;
            state.rule.enter(&mut state.line, ask, who, wakes)
        })
    }
}

impl<R: Rule> Resource for Core<R> {
    fn facts(&self) -> Facts {
        let state = self.state.lock_unpoisoned();
        let rights = state.rule.rights();
        let mut waiters = state.line.waiters();
        for waiter in &mut waiters {
            waiter.granted |= state.rule.refusal(waiter.need).is_some(); // it has its answer, and was woken
        }
        Facts {
            id: self.id,
            kind: R::KIND,
            site: self.site,
            state: state.rule.state(&state.line),
            waiters,
            held: state.rule.held(&state.line),
            handles: rights.iter().map(|right| right.count as usize).sum(),
            rights,
            open_ended: state.rule.is_open_ended(),
            receivers_close: false,
            lies_at: state.lies_at,
            waits: state.waits,
            panicked: state.panicked,
        }
    }

    fn unlist(&self) -> bool {
        let mut state = self.state.lock_unpoisoned();
        let idle = state.line.is_empty();
        state.listed &= !idle;
        idle
    }
}

/// Why a wait ended without a pass.
pub(crate) enum Stopped<R> {
    Cancelled(Cancelled),
    Refused(R),
}

/// A wait for a pass: a place in line from the first poll on, given up when dropped or cancelled.
pub(crate) struct Waiting<'a, R: Rule> {
    core: &'a Arc<Core<R>>,
    ask: Ask,
    at: &'static Location<'static>,
    branded: bool,
    lies_at: usize,
    key: Option<Key>,
    /// From the first poll that has to wait.
    leaf: Option<Leaf>,
}

impl<'a, R: Rule> Waiting<'a, R> {
    pub(crate) fn new(
        core: &'a Arc<Core<R>>,
        ask: Ask,
        at: &'static Location<'static>,
        branded: bool,
        lies_at: usize,
    ) -> Self {
        Self { core, ask, at, branded, lies_at, key: None, leaf: None }
    }

    /// The first poll: passes or joins the line.
    fn enter(&mut self, who: Who, cx: &Context<'_>) -> Option<Result<R::Pass, R::Refusal>> {
        let Self { core, ask, lies_at, .. } = *self;
        if let Some(answer) = core.try_enter(ask, who, lies_at) {
            return Some(answer);
        }
        let waker = waker::leaf_waker(cx); // outside the lock: it may be foreign code
        let mut unused = None;
        let (answer, list) = core.with(|state, wakes| {
            // Once more, in the critical section that joins: what came between would not know of us.
            if let Some(answer) = state.rule.enter(&mut state.line, ask, who, wakes) {
                unused = Some(waker);
                return (Some(answer), false);
            }
            self.key = Some(state.line.join(ask.need, who, ask.op, waker));
            state.waits += 1;
            (None, !std::mem::replace(&mut state.listed, true))
        });
        drop(unused);
        if list {
            let resource: Arc<dyn Resource> = core.clone();
            resource::list(core.id, Arc::downgrade(&resource));
        }
        answer
    }

    /// A later poll: the place may have been granted, or may never be.
    fn look(&mut self, key: Key, cx: &Context<'_>) -> Option<Result<R::Pass, R::Refusal>> {
        let mut fresh = None;
        loop {
            let mut stale = None; // a waker's drop may be foreign code: outside the lock
            let looked = self.core.with(|state, wakes| {
                let State { line, rule, .. } = state;
                if line.stage(key) == Stage::Granted {
                    return Some(Some(Ok(rule.fetch(line, key))));
                }
                if let Some(refusal) = rule.refusal(line.need(key)) {
                    let mut left = line.leave(key);
                    stale = left.waker.take();
                    rule.left(line, &left, wakes); // it may have stood in the way of smaller requests
                    return Some(Some(Err(refusal)));
                }
                if waker::leaf(cx, |waker| line.polled(key, waker)) {
                    return Some(None);
                }
                let fresh = fresh.take()?;
                stale = line.renew(key, fresh);
                Some(None)
            });
            drop(stale);
            if let Some(answer) = looked {
                if answer.is_some() {
                    self.key = None;
                    self.leaf = None;
                }
                return answer;
            }
            fresh = Some(waker::leaf_waker(cx));
        }
    }

    fn give_up(&mut self) {
        let Some(key) = self.key.take() else { return };
        self.leaf = None;
        let mut stale = None;
        self.core.with(|state, wakes| {
            let State { line, rule, .. } = state;
            let mut left = line.leave(key);
            stale = left.waker.take();
            rule.left(line, &left, wakes);
        });
    }
}

impl<R: Rule> Future for Waiting<'_, R> {
    type Output = Result<R::Pass, Stopped<R::Refusal>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.key.is_none() {
            ready!(trial::poll_turn(cx));
        }
        let answer = match this.key {
            // One look at the context serves both: whether it is cancelled, and whose it is.
            None => match Who::here_unless_cancelled(this.at, this.branded) {
                Ok(who) => this.enter(who, cx),
                Err(cancelled) => return Poll::Ready(Err(Stopped::Cancelled(cancelled))),
            },
            Some(key) => match Leaf::check() {
                Ok(()) => this.look(key, cx),
                Err(cancelled) => {
                    this.give_up();
                    return Poll::Ready(Err(Stopped::Cancelled(cancelled)));
                }
            },
        };
        if let Some(answer) = answer {
            return Poll::Ready(answer.map_err(Stopped::Refused));
        }
        let wait = Wait { op: this.ask.op, on: this.core.id };
        match this.leaf.get_or_insert_default().park(cx, wait) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => {
                this.give_up();
                Poll::Ready(Err(Stopped::Cancelled(cancelled)))
            }
        }
    }
}

impl<R: Rule> Drop for Waiting<'_, R> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<'a, R: Rule> Waiting<'a, R> {
    /// Goes on with `then` in the poll in which the wait is over: nothing can be dropped between the two.
    pub(crate) fn then<T, F>(self, then: F) -> Then<'a, R, F>
    where
        F: FnOnce(Result<R::Pass, Stopped<R::Refusal>>) -> T,
    {
        Then { waiting: self, then: Some(then) }
    }
}

/// A wait and what follows. Written out, because an `async` block would hold the wait twice.
pub(crate) struct Then<'a, R: Rule, F> {
    waiting: Waiting<'a, R>,
    then: Option<F>,
}

/// `then` is moved out to be called and never pinned.
impl<R: Rule, F> Unpin for Then<'_, R, F> {}

impl<R: Rule, F, T> Future for Then<'_, R, F>
where
    F: FnOnce(Result<R::Pass, Stopped<R::Refusal>>) -> T,
{
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.waiting).poll(cx) {
            Poll::Ready(passed) => {
                let then = self.then.take().expect("polled after it had ended");
                Poll::Ready(then(passed))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shut when it is looked at first, open from then on: as if somebody had released it between looking and joining.
    struct OpensMeanwhile {
        looked: bool,
    }

    impl Rule for OpensMeanwhile {
        type Pass = ();
        type Refusal = ();
        const KIND: ResourceKind = ResourceKind::Latch;

        fn enter(&mut self, _: &mut Line, _: Ask, _: Who, _: &mut Wakes) -> Option<Result<(), ()>> {
            std::mem::replace(&mut self.looked, true).then_some(Ok(()))
        }

        fn fetch(&mut self, line: &mut Line, key: Key) {
            line.leave(key);
        }

        fn refusal(&self, _: usize) -> Option<()> {
            None
        }

        fn left(&mut self, _: &mut Line, _: &Left, _: &mut Wakes) {}

        fn state(&self, _: &Line) -> ResourceState {
            ResourceState::Waiting
        }
    }

    /// bb8#122, as a commenter analyses it: a release that comes between "none is idle" and "enqueue the waiter" wakes nobody,
    /// and the waiter sleeps beside a free connection. Looking and joining are one step.
    #[test]
    fn a_release_between_looking_and_joining_the_line_is_not_lost() {
        let core = Core::new("meanwhile", Location::caller(), OpensMeanwhile { looked: false });
        let ask = Ask { op: Op::Latch, need: 1, calls: 0 };
        let mut waiting = Waiting::new(&core, ask, Location::caller(), false, 0);
        let polled = Pin::new(&mut waiting).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(()))));
    }
}
