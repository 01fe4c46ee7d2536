//! Many named sources, one queue: a lane for each, taken in turns.
//!
//! Waiting for a hundred and fifty channels at once means to ask all of them at every wake-up. Here the sources put their
//! items into one queue, and a receiver asks that: a hand-over costs the same, however many sources there are.
//!
//! Each source has room of its own and a turn of its own, so one that floods fills its own lane and delays the others by one
//! item per round. [`Sources`] makes them, by name; a [`Source`] sends; the receiver is a plain [`Rx`] of [`FromSource`].
//!
//! # End
//!
//! A source that goes leaves behind what it has sent; when that is received it is forgotten. The queue ends when neither a
//! source nor a [`Sources`] is left.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::core::Chan;
use super::ends::{self, SendEnd, carried};
use super::lanes::LaneId;
use super::receiver::Rx;
use super::waiting::Sending;
use super::{Bound, LaneStats, ObservedQueue, Overflow, QueueStats, SendError, SizeOf, observe};
use crate::carry::{Bind, Carry, Cx};
use crate::holders::{FREE, IN_TRANSIT};
use crate::site::Site;

/// An item and the name of the source that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FromSource<T> {
    /// The source's name.
    pub source: Arc<str>,
    /// What it sent.
    pub item: T,
}

pub(crate) fn open<'t, T: Send + 'static>(
    cx: &'t Cx,
    site: &'static Site,
    per_source: Bound<T>,
    overflow: Overflow,
) -> (Sources<'t, T>, Rx<'t, FromSource<T>>) {
    assert!(per_source.urgent == 0, "a source has no urgent lane: make it a source of its own");
    let chan = Chan::merged(site, per_source.limits(), per_source.max_bytes(), overflow);
    observe(&chan);
    let end = Maker { end: SendEnd::new(Arc::clone(&chan), cx.task_id()), size_of: per_source.size_of() };
    (Sources { end, cx }, Rx::new(cx, chan))
}

// ---- inside

struct Maker<T> {
    end: SendEnd<FromSource<T>>,
    size_of: Option<SizeOf<T>>,
}

impl<T> Maker<T> {
    fn moved_to(self, place: u64) -> Self {
        Self { end: self.end.moved_to(place), size_of: self.size_of }
    }

    fn source(&self, name: impl Into<Arc<str>>) -> SourceEnd<T> {
        let (name, chan) = (name.into(), Arc::clone(&self.end.chan));
        let lane = chan.add_source(Arc::clone(&name), self.end.place);
        SourceEnd { chan, place: self.end.place, lane, name, size_of: self.size_of }
    }
}

impl<T> Deref for Maker<T> {
    type Target = SendEnd<FromSource<T>>;

    fn deref(&self) -> &Self::Target {
        &self.end
    }
}

impl<T> Clone for Maker<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), size_of: self.size_of }
    }
}

struct SourceEnd<T> {
    chan: Arc<Chan<FromSource<T>>>,
    place: u64,
    lane: LaneId,
    name: Arc<str>,
    size_of: Option<SizeOf<T>>,
}

impl<T> SourceEnd<T> {
    fn moved_to(mut self, place: u64) -> Self {
        self.chan.move_sender(self.place, place);
        self.place = place;
        self
    }

    fn sized(&self, item: T) -> (FromSource<T>, usize) {
        let bytes = self.size_of.map_or(0, |size_of| size_of(&item));
        (FromSource { source: Arc::clone(&self.name), item }, bytes)
    }

    async fn send(&self, item: T) -> Result<(), SendError<T>> {
        let (item, bytes) = self.sized(item);
        Sending::new(&self.chan, self.lane, item, bytes).await.map_err(|error| error.map(|sent| sent.item))
    }

    fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        let (item, bytes) = self.sized(item);
        ends::try_send(&self.chan, self.lane, item, bytes).map_err(|error| error.map(|sent| sent.item))
    }
}

impl<T> Clone for SourceEnd<T> {
    fn clone(&self) -> Self {
        let (chan, name) = (Arc::clone(&self.chan), Arc::clone(&self.name));
        let lane = chan.add_source(Arc::clone(&name), self.place);
        Self { chan, place: self.place, lane, name, size_of: self.size_of }
    }
}

impl<T> Drop for SourceEnd<T> {
    fn drop(&mut self) {
        self.chan.remove_source(self.lane, self.place);
    }
}

// ---- the public fronts

/// Makes the sources of a merged queue, held by a task.
///
/// Cloning it gives the same task a second one. Hand it over with [`spawn_with`](crate::Scope::spawn_with), or leave the
/// tracked world with [`free`](Self::free). As long as one is left there may be new sources, so the queue does not end.
pub struct Sources<'t, T> {
    end: Maker<T>,
    cx: &'t Cx,
}

/// [`Sources`] that may be kept and sent anywhere: in an accept loop's state. Their holder counts as unknown.
pub struct FreeSources<T> {
    end: Maker<T>,
}

/// A named source of a merged queue, held by a task. It has room of its own and a turn of its own.
pub struct Source<'t, T> {
    end: SourceEnd<T>,
    cx: &'t Cx,
}

/// A [`Source`] that may be kept and sent anywhere. Its holder counts as unknown.
pub struct FreeSource<T> {
    end: SourceEnd<T>,
}

impl<'t, T: Send + 'static> Sources<'t, T> {
    /// Makes the source of that name. If there is one, it is another handle of the same: they share room, turn and counts, and
    /// items that were sent before the source's last handle went are still in front.
    #[must_use]
    pub fn source(&self, name: impl Into<Arc<str>>) -> Source<'t, T> {
        Source { end: self.end.source(name), cx: self.cx }
    }

    /// Leaves the tracked world: whoever waits on this queue can no longer be proved dead while these live.
    #[must_use]
    pub fn free(self) -> FreeSources<T> {
        FreeSources { end: self.end.moved_to(FREE) }
    }
}

impl<T: Send + 'static> FreeSources<T> {
    /// As [`Sources::source`].
    #[must_use]
    pub fn source(&self, name: impl Into<Arc<str>>) -> FreeSource<T> {
        FreeSource { end: self.end.source(name) }
    }

    /// Binds them to the current task, which is their known holder from here on.
    #[must_use]
    pub fn bind_to(self, cx: &Cx) -> Sources<'_, T> {
        self.bind(cx)
    }
}

impl<T: Send + 'static> Source<'_, T> {
    /// Leaves the tracked world: whoever waits on this queue can no longer be proved dead while this end lives.
    #[must_use]
    pub fn free(self) -> FreeSource<T> {
        FreeSource { end: self.end.moved_to(FREE) }
    }
}

impl<T: Send + 'static> FreeSource<T> {
    /// Binds the end to the current task, which is its known holder from here on.
    #[must_use]
    pub fn bind_to(self, cx: &Cx) -> Source<'_, T> {
        self.bind(cx)
    }
}

macro_rules! making {
    ($($front:tt)*) => {
        impl<T: Send + 'static> $($front)* {
            /// Returns what the queue was and is, with each of its sources as a lane.
            #[must_use]
            pub fn stats(&self) -> QueueStats {
                self.end.chan.stats()
            }
        }
    };
}

macro_rules! sourcing {
    ($($front:tt)*) => {
        impl<T: Send + 'static> $($front)* {
            /// Returns the source's name.
            #[must_use]
            pub fn name(&self) -> &str {
                &self.end.name
            }

            /// Sends `item`, doing what the queue's [`Overflow`] says if this source's room is used up. The others' does not matter.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped before it completes, the queue is unchanged, and `item` and the place in line are lost
            /// with the future. A cancelled context, or a [`timeout`](crate::timeout()) around the send, does not drop the
            /// future: the item comes back with the error.
            ///
            /// # Errors
            ///
            /// Each gives the item back. [`SendError::Closed`]: no receiver is left. [`SendError::Full`]: the policy is to refuse.
            /// [`SendError::Cancelled`]: the sender's context was cancelled, or its deadline has passed.
            pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
                self.end.send(item).await
            }

            /// Sends `item` without waiting.
            ///
            /// # Errors
            ///
            /// [`SendError::Closed`] and [`SendError::Full`], with the item. A queue that drops is never full.
            pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
                self.end.try_send(item)
            }

            /// Returns whether sends are certain to fail: no receiver is left, or a receiver closed the queue.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.end.chan.close_reason().is_some()
            }

            /// Returns what this source was and is.
            #[must_use]
            pub fn stats(&self) -> LaneStats {
                self.end.chan.source_stats(self.end.lane, &self.end.name)
            }
        }
    };
}

making!(Sources<'_, T>);
making!(FreeSources<T>);
sourcing!(Source<'_, T>);
sourcing!(FreeSource<T>);

impl<T> Clone for Sources<'_, T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), cx: self.cx }
    }
}

impl<T> Clone for FreeSources<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone() }
    }
}

impl<T> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), cx: self.cx }
    }
}

impl<T> Clone for FreeSource<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone() }
    }
}

carried!(Sources, FreeSources);
carried!(Source, FreeSource);
