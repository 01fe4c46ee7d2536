//! What all ends of a queue are inside: a reference and the place it is booked at. Bound and free ends are thin fronts of them.

use std::sync::Arc;

use super::core::{Chan, Mode};
use super::delivery::InFlight;
use super::lanes::{LaneId, MAIN, URGENT};
use super::waiting::{Closing, Receiving, Reserving, Sending};
use super::{SendError, TryRecvError};
use crate::cause::Cancelled;

pub(super) struct SendEnd<T> {
    pub(super) chan: Arc<Chan<T>>,
    pub(super) place: u64,
}

impl<T> SendEnd<T> {
    pub(super) fn new(chan: Arc<Chan<T>>, place: u64) -> Self {
        chan.add_sender(place);
        Self { chan, place }
    }

    pub(super) fn moved_to(mut self, place: u64) -> Self {
        self.chan.move_sender(self.place, place);
        self.place = place;
        self
    }

    #[inline]
    pub(super) fn send(&self, lane: LaneId, item: T) -> Sending<'_, T> {
        let bytes = self.chan.size(&item);
        Sending::new(&self.chan, lane, item, bytes)
    }

    pub(super) fn reserve(&self) -> Reserving<'_, T> {
        Reserving::new(&self.chan, MAIN)
    }

    pub(super) fn try_reserve(&self) -> Result<(), SendError<()>> {
        self.chan.ask_room(MAIN, None).map(|_| ())
    }

    pub(super) fn try_send(&self, lane: LaneId, item: T) -> Result<(), SendError<T>> {
        let bytes = self.chan.size(&item);
        try_send(&self.chan, lane, item, bytes)
    }

    pub(super) fn urgent(&self) -> LaneId {
        assert!(
            self.chan.has_urgent(),
            "the queue `{}` has no urgent lane: say `and_urgent`",
            self.chan.name()
        );
        URGENT
    }

    pub(super) fn closed(&self) -> Closing<'_, T> {
        Closing::new(&self.chan)
    }
}

pub(super) fn try_send<T>(chan: &Chan<T>, lane: LaneId, item: T, bytes: usize) -> Result<(), SendError<T>> {
    let mut item = Some(item);
    chan.offer(lane, &mut item, bytes, None).map(|_| ()).map_err(|error| error.with(item))
}

impl<T> Clone for SendEnd<T> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.chan), self.place)
    }
}

impl<T> Drop for SendEnd<T> {
    fn drop(&mut self) {
        self.chan.remove_sender(self.place);
    }
}

pub(super) struct RecvEnd<T> {
    pub(super) chan: Arc<Chan<T>>,
    place: u64,
}

impl<T> RecvEnd<T> {
    pub(super) fn new(chan: Arc<Chan<T>>, place: u64) -> Self {
        chan.add_receiver(place);
        Self { chan, place }
    }

    pub(super) fn moved_to(mut self, place: u64) -> Self {
        self.chan.move_receiver(self.place, place);
        self.place = place;
        self
    }

    fn deliver(&self) -> Mode {
        Mode::Deliver { place: self.place }
    }

    #[inline]
    pub(super) fn recv(&self) -> Receiving<&Chan<T>, T> {
        Receiving::new(&*self.chan, Mode::Take)
    }

    pub(super) async fn recv_delivery(&self) -> Result<Option<InFlight<T>>, Cancelled> {
        let taken = Receiving::new(&*self.chan, self.deliver()).await?;
        Ok(taken.map(|taken| InFlight::new(&self.chan, self.place, taken)))
    }

    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.chan.take(Mode::Take).map(|taken| taken.queued.item)
    }

    pub(super) fn try_recv_delivery(&self) -> Result<InFlight<T>, TryRecvError> {
        let taken = self.chan.take(self.deliver())?;
        Ok(InFlight::new(&self.chan, self.place, taken))
    }
}

impl<T> Clone for RecvEnd<T> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.chan), self.place)
    }
}

impl<T> Drop for RecvEnd<T> {
    fn drop(&mut self) {
        self.chan.remove_receiver(self.place);
    }
}

/// What a bound end and its free form have in common.
macro_rules! carried {
    ($bound:ident, $free:ident) => {
        impl<T: Send + 'static> Carry for $bound<'_, T> {
            type Packed = $free<T>;
            fn pack(self) -> $free<T> {
                $free { end: self.end.moved_to(IN_TRANSIT) }
            }
        }

        impl<T: Send + 'static> Carry for $free<T> {
            type Packed = $free<T>;
            fn pack(self) -> $free<T> {
                $free { end: self.end.moved_to(IN_TRANSIT) }
            }
        }

        impl<T: Send + 'static> Bind for $free<T> {
            type In<'c> = $bound<'c, T>;
            fn bind(self, cx: &Cx) -> $bound<'_, T> {
                $bound { end: self.end.moved_to(cx.task_id()), cx }
            }
        }

        impl<T> fmt::Debug for $bound<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($bound)).field("queue", &self.end.chan.name()).finish()
            }
        }

        impl<T> fmt::Debug for $free<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($free)).field("queue", &self.end.chan.name()).finish()
            }
        }
    };
}

pub(super) use carried;
