//! Where the records of a pipeline come from.
//!
//! # Invariants
//!
//! 1. A source takes a record only when there is a place for it on the first belt; between the two there is no await. So no
//!    record is in flight outside of the bounds, and none is lost when the source is stopped.
//! 2. A source that is told to stop takes what is in its queue then, and no more: whoever goes on sending does not hold up the end.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, ready};

use futures_core::Stream;

use super::batch::{Outbox, Pace};
use super::belt::{End, OF_SOURCE, Riding};
use super::core::Core;
use super::done::Receipt;
use super::report::PipelineEnd;
use crate::cause::Cancelled;
use crate::queue::{FreeRx, SendError};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// A source that is always ready, and never waits for a place either, looks up whether it is to stop each time it has given so
/// many records. One that has waited looks up at once: its records may take seconds each.
const LOOKS_UP_EVERY: u32 = 64;

/// What [`Pipeline::new`](crate::Pipeline::new) takes records from: an iterator, a stream, or the receiving end of a queue. `K`
/// tells them apart and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of records",
    label = "neither an iterator, a stream nor a `FreeRx`, that can be sent to another task",
    note = "the end of a queue that belongs to this task leaves it with `rx.free()`; to feed by hand, use `Pipeline::fed`"
)]
pub trait Intake<K>: Send + 'static {
    /// What it yields.
    type Item: Send + Sync + 'static;
    #[doc(hidden)]
    fn run(self, gate: Gate<Self::Item>) -> impl Future<Output = Result<(), Cancelled>> + Send;
}

#[doc(hidden)]
pub enum ByIterator {}

#[doc(hidden)]
pub enum ByStream {}

#[doc(hidden)]
pub enum ByQueue {}

/// A source's side of the first belt.
#[doc(hidden)]
pub struct Gate<T> {
    end: End<T>,
    core: Arc<Core>,
}

/// A place on the first belt, given back if it is not filled.
struct Place<'a, T> {
    end: &'a End<T>,
    filled: bool,
}

impl<T> Gate<T> {
    pub(super) fn new(mut end: End<T>, core: &Arc<Core>) -> Self {
        end.arrive();
        Self { end, core: Arc::clone(core) }
    }

    async fn place(&self) -> Result<Place<'_, T>, Cancelled> {
        Ok(self.place_and_whether_it_waited().await?.0)
    }

    async fn place_and_whether_it_waited(&self) -> Result<(Place<'_, T>, bool), Cancelled> {
        let mut reserve = pin!(self.end.reserve());
        let mut waited = false;
        let reserved = poll_fn(|cx| {
            let polled = reserve.as_mut().poll(cx);
            waited |= polled.is_pending();
            polled
        });
        reserved.await?;
        Ok((Place { end: &self.end, filled: false }, waited))
    }

    fn stopped(&self) {
        self.core.note(PipelineEnd::Drained);
    }
}

impl<T> Place<'_, T> {
    /// The place is somebody else's to fill.
    fn pass_on(mut self) {
        self.filled = true;
    }

    fn fill(mut self, record: T, receipt: Receipt) {
        self.filled = true;
        self.end.fill(Riding { seq: OF_SOURCE, receipt, record });
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        if !self.filled {
            self.end.leave(1);
        }
    }
}

impl<I> Intake<ByIterator> for I
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: Send,
    I::Item: Send + Sync + 'static,
{
    type Item = I::Item;

    async fn run(self, gate: Gate<I::Item>) -> Result<(), Cancelled> {
        let mut items = self.into_iter();
        give_all(&gate, poll_fn_stream(move || items.next())).await
    }
}

/// An iterator as a stream that is always ready.
fn poll_fn_stream<T>(next: impl FnMut() -> Option<T>) -> impl Stream<Item = T> {
    struct Ready<F>(F);

    impl<F> Unpin for Ready<F> {}

    impl<T, F: FnMut() -> Option<T>> Stream for Ready<F> {
        type Item = T;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _cx: &mut std::task::Context<'_>,
        ) -> Poll<Option<T>> {
            Poll::Ready((self.0)())
        }
    }

    Ready(next)
}

impl<S> Intake<ByStream> for S
where
    S: Stream + Send + 'static,
    S::Item: Send + Sync + 'static,
{
    type Item = S::Item;

    async fn run(self, gate: Gate<S::Item>) -> Result<(), Cancelled> {
        give_all(&gate, self).await
    }
}

async fn give_all<S: Stream>(gate: &Gate<S::Item>, records: S) -> Result<(), Cancelled> {
    let mut records = pin!(records);
    let mut stopping = pin!(gate.core.stopping());
    let mut given = 0_u32;
    let mut pace = Pace::of(gate.end.places());
    let mut outbox = Outbox::new(&gate.end);
    loop {
        let mut looks_up = given % LOOKS_UP_EVERY == 0;
        if !outbox.has_place() {
            outbox.put_down();
            pace.end();
            let (place, waited) = gate.place_and_whether_it_waited().await?;
            place.pass_on();
            outbox.add_place();
            outbox.reserve(pace.begin());
            looks_up |= waited;
        }
        let next = poll_fn(|cx| {
            if gate.core.is_draining() || looks_up && stopping.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            match records.as_mut().poll_next(cx) {
                Poll::Ready(next) => Poll::Ready(Some(next)),
                Poll::Pending => {
                    outbox.put_down();
                    // Some of the waits above are not polled each time.
                    stopping.as_mut().poll(cx).map(|()| None)
                }
            }
        });
        match next.await {
            Some(Some(record)) => outbox.add(Riding { seq: OF_SOURCE, receipt: None, record }),
            Some(None) => return Ok(()),
            None => {
                gate.stopped();
                return Ok(());
            }
        }
        given = given.wrapping_add(1);
    }
}

impl<T: Send + Sync + 'static> Intake<ByQueue> for FreeRx<T> {
    type Item = T;

    async fn run(self, gate: Gate<T>) -> Result<(), Cancelled> {
        drain_queue(&gate, self).await
    }
}

/// A queue's records, with or without something owed for each.
trait Pull<T>: Send + Sync {
    fn next(&self) -> impl Future<Output = Result<Option<(T, Receipt)>, Cancelled>> + Send;
    fn now(&self) -> Option<(T, Receipt)>;
    /// Closes the queue if nobody else receives from it. Returns how many records are to be taken from it still.
    fn close_if_last(&self) -> usize;
}

impl<T: Send + 'static> Pull<T> for FreeRx<T> {
    async fn next(&self) -> Result<Option<(T, Receipt)>, Cancelled> {
        Ok(self.recv().await?.map(|record| (record, None)))
    }

    fn now(&self) -> Option<(T, Receipt)> {
        self.try_recv().ok().map(|record| (record, None))
    }

    fn close_if_last(&self) -> usize {
        let stats = self.stats();
        if stats.receivers.iter().map(|holder| holder.ends).sum::<u32>() == 1 {
            self.close();
            return usize::MAX;
        }
        stats.depth_items
    }
}

/// A queue whose records are acknowledged when they are done.
pub(super) struct Acknowledged<T>(pub(super) FreeRx<T>);

impl<T: Clone + Send + Sync + 'static> Acknowledged<T> {
    pub(super) async fn run(self, gate: Gate<T>) -> Result<(), Cancelled> {
        drain_queue(&gate, self).await
    }
}

impl<T: Clone + Send + Sync + 'static> Pull<T> for Acknowledged<T> {
    async fn next(&self) -> Result<Option<(T, Receipt)>, Cancelled> {
        let delivery = self.0.recv_delivery().await?;
        Ok(delivery.map(|delivery| (T::clone(&delivery), Some(Box::new(delivery) as Box<_>))))
    }

    fn now(&self) -> Option<(T, Receipt)> {
        let delivery = self.0.try_recv_delivery().ok()?;
        Some((T::clone(&delivery), Some(Box::new(delivery) as Box<_>)))
    }

    fn close_if_last(&self) -> usize {
        self.0.close_if_last()
    }
}

async fn drain_queue<T: Send + 'static>(gate: &Gate<T>, queue: impl Pull<T>) -> Result<(), Cancelled> {
    let mut stopping = pin!(gate.core.stopping());
    let mut given = 0_u32;
    loop {
        let (place, waited) = gate.place_and_whether_it_waited().await?;
        // A queue whose senders never rest is always ready.
        let looks_up = waited || given % LOOKS_UP_EVERY == 0;
        given = given.wrapping_add(1);
        let next = {
            let mut next = pin!(queue.next());
            poll_fn(|cx| {
                if looks_up && stopping.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(next) = next.as_mut().poll(cx) {
                    return Poll::Ready(Some(next));
                }
                ready!(stopping.as_mut().poll(cx));
                Poll::Ready(None)
            })
            .await
        };
        match next.transpose()? {
            Some(Some((record, receipt))) => place.fill(record, receipt),
            Some(None) => return Ok(()),
            None => {
                drop(place);
                break;
            }
        }
        if gate.core.is_draining() {
            break;
        }
    }
    gate.stopped();
    // What was accepted is taken, also when it is told to stop.
    for _ in 0..queue.close_if_last() {
        let place = gate.place().await?;
        let Some((record, receipt)) = queue.now() else { break };
        place.fill(record, receipt);
    }
    Ok(())
}

/// The way into a pipeline for a function that feeds it; see [`Pipeline::fed`](crate::Pipeline::fed).
pub struct Feed<T> {
    gate: Gate<T>,
}

impl<T: Send + 'static> Feed<T> {
    /// Gives a record, waiting for a place in the buffer of the first stage.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the record and the place in line are lost with it. A cancelled
    /// context does not drop it: the record comes back with the error.
    ///
    /// # Errors
    ///
    /// Each gives the record back. [`SendError::Closed`]: the pipeline drains and takes no more, so return.
    /// [`SendError::Cancelled`]: it was cancelled.
    pub async fn send(&self, record: T) -> Result<(), SendError<T>> {
        let core = &self.gate.core;
        if self.is_closed() {
            return Err(SendError::Closed(record));
        }
        let _feeding = Feeding::begin(core);
        match self.gate.place().await {
            Ok(place) => {
                place.fill(record, None);
                Ok(())
            }
            Err(cancelled) => Err(SendError::Cancelled(record, cancelled)),
        }
    }

    /// Returns whether the pipeline takes no more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.gate.core.is_draining()
    }
}

impl<T> std::fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Feed")
    }
}

struct Feeding<'a>(&'a Core);

impl<'a> Feeding<'a> {
    fn begin(core: &'a Core) -> Self {
        core.feeding.fetch_add(1, Ordering::AcqRel);
        Self(core)
    }
}

impl Drop for Feeding<'_> {
    fn drop(&mut self) {
        self.0.feeding.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs a function that feeds. Told to stop, it is dropped where it waits, but not in a send.
pub(super) async fn feed<T, F, Fut, E>(gate: Gate<T>, f: F) -> Result<(), Cancelled>
where
    F: FnOnce(Feed<T>) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let core = Arc::clone(&gate.core);
    let mut stopping = pin!(core.stopping());
    let mut stopped = false;
    let mut feeding = pin!(f(Feed { gate }));
    let fed = poll_fn(|cx| {
        if let Poll::Ready(fed) = feeding.as_mut().poll(cx) {
            return Poll::Ready(Some(fed));
        }
        if !stopped && stopping.as_mut().poll(cx).is_ready() {
            stopped = true;
            core.drain(); // sends from here on are refused, whoever asked for it
        }
        if stopped && core.feeding.load(Ordering::Acquire) == 0 { Poll::Ready(None) } else { Poll::Pending }
    });
    let fed = fed.await;
    if stopped {
        core.note(PipelineEnd::Drained);
    }
    if let Some(Err(error)) = fed {
        crate::track::Leaf::check()?; // its answer to a cancel
        core.note(PipelineEnd::SourceFailed(Arc::from(error.into())));
    }
    Ok(())
}
