//! The calls of one connection, polled by its task: a call has the owner, the bound and the end of its connection, and no
//! task is spawned.
//!
//! hyper hands each call to an executor as a future of which nothing is known. Ours keeps it for the task that drives the
//! connection. What answers a call may *attach* a companion to it, a future that lives beside the answer and decides what
//! is in it: a stream is such a thing, which has a clock of its own and must also be able to end while the peer takes
//! nothing and hyper therefore asks for nothing.
//!
//! # Invariants
//!
//! 1. A call and its companion end together: a call that the peer resets drops its companion, and a companion that ends
//!    first drops the call, which resets it.
//! 2. Nothing of a call refers to [`Calls`], so that what was begun and never polled ends with the connection.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Executor;

type CallFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

tokio::task_local! {
    /// What the call that is being polled attaches to itself.
    static ATTACHED: RefCell<Option<CallFuture>>;
}

/// Calls that were begun and are not polled yet. They stay with the connection: see the [module](self).
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<CallFuture>>>);

impl Calls {
    fn take(&self) -> Vec<CallFuture> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, future: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(future));
    }
}

/// Gives the call that is being polled a companion.
///
/// # Errors
///
/// The companion, if no call is being polled.
pub(super) fn attach<F: Future<Output = ()> + Send + 'static>(companion: F) -> Result<(), F> {
    let mut companion = Some(companion);
    let attached = ATTACHED.try_with(|attached| {
        *attached.borrow_mut() = companion.take().map(|companion| Box::pin(companion) as CallFuture);
    });
    match (attached, companion) {
        (Err(_), Some(companion)) => Err(companion),
        _ => Ok(()),
    }
}

/// The calls in hand of one connection.
#[derive(Default)]
pub(crate) struct Running {
    begun: Calls,
    calls: FuturesUnordered<Call>,
}

impl Running {
    /// The executor for the connection whose calls these are.
    pub(crate) fn executor(&self) -> Calls {
        self.begun.clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Polls `connection`, then the calls in hand, those that the connection has just begun among them.
    pub(crate) fn poll_with<C: Future>(
        &mut self,
        connection: Pin<&mut C>,
        cx: &mut Context<'_>,
    ) -> Poll<C::Output> {
        let served = connection.poll(cx);
        loop {
            let begun = self.begun.take();
            let has_begun = !begun.is_empty();
            self.calls.extend(begun.into_iter().map(|answer| Call { answer, companion: None }));
            while let Poll::Ready(Some(())) = self.calls.poll_next_unpin(cx) {}
            // A call may begin another future, which nobody would wake.
            if !has_begun {
                return served;
            }
        }
    }

    /// Drives `connection` and its calls until it ends.
    pub(crate) async fn drive<C: Future>(&mut self, mut connection: Pin<&mut C>) -> C::Output {
        poll_fn(|cx| self.poll_with(connection.as_mut(), cx)).await
    }
}

/// One call: hyper's side of it, and its companion.
struct Call {
    answer: CallFuture,
    companion: Option<CallFuture>,
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let call = &mut *self;
        let (answered, attached) = ATTACHED
            .sync_scope(RefCell::default(), || (call.answer.as_mut().poll(cx), ATTACHED.with(RefCell::take)));
        if answered.is_ready() {
            return Poll::Ready(()); // by invariant 1
        }
        if attached.is_some() {
            call.companion = attached;
        }
        match &mut call.companion {
            Some(companion) => companion.as_mut().poll(cx), // by invariant 1
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::Waker;

    use super::*;

    fn poll(running: &mut Running) {
        let mut connection = pending::<()>();
        let polled = running.poll_with(Pin::new(&mut connection), &mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }

    /// Says whether it was dropped.
    fn dropped(held: Arc<()>) -> impl Fn() -> bool {
        let held = Arc::downgrade(&held);
        move || held.upgrade().is_none()
    }

    #[test]
    fn a_call_and_its_companion_end_together() {
        for ends_first in ["answer", "companion"] {
            let (mut running, ends) = (Running::default(), Arc::new(Mutex::new(false)));
            let (answer, companion) = (Arc::new(()), Arc::new(()));
            let gone = (dropped(Arc::clone(&answer)), dropped(Arc::clone(&companion)));
            let until = |name: &str| {
                let (ends, is_it) = (Arc::clone(&ends), name == ends_first);
                poll_fn(move |_| if is_it && *ends.lock().unwrap() { Poll::Ready(()) } else { Poll::Pending })
            };
            let (until_answered, until_done) = (until("answer"), until("companion"));
            running.executor().execute(async move {
                let done = async move {
                    until_done.await;
                    drop(companion);
                };
                assert!(attach(done).is_ok());
                until_answered.await;
                drop(answer);
            });
            poll(&mut running);
            assert!(!gone.0() && !gone.1() && !running.is_empty(), "{ends_first}");
            *ends.lock().unwrap() = true;
            // Woken by nobody: put in anew, as hyper would wake it.
            for call in running.calls.iter_mut() {
                assert!(Pin::new(call).poll(&mut Context::from_waker(Waker::noop())).is_ready());
            }
            drop(running);
            assert!(gone.0() && gone.1(), "{ends_first}");
        }
    }

    #[test]
    fn what_was_begun_and_never_polled_ends_with_the_connection() {
        let (running, held) = (Running::default(), Arc::new(()));
        let gone = dropped(Arc::clone(&held));
        running.executor().execute(async move { drop(held) });
        drop(running);
        assert!(gone());
    }

    #[test]
    fn outside_of_a_call_nothing_can_be_attached() {
        assert!(attach(ready(())).is_err());
    }
}
