//! What applications are told without being asked: that a channel has its first subscriber, or none any more, that a
//! subscription ended, that a connection did.
//!
//! ```text
//! node ── happens ──▶ Sink ──▶ queue ──▶ task "events": debounce ─▶ batch ─▶ POST, until it is taken
//! ```
//!
//! Each application that is told has a queue and a task. The node puts an event into the queue under the lock under which it
//! happens, and never waits: what one channel goes through is told in order, and an application that is slow slows nobody
//! down.
//!
//! # Invariants
//!
//! 1. Events of one channel, and of one connection, are told in the order in which they happened. A batch is sent again until
//!    the application has taken it, and the next only then: it may see a batch twice, and none in the wrong place.
//! 2. A full queue takes nothing more. What it refuses is counted, and an alert is raised. An application that was cut off
//!    compares with the server API, `channels` and `connections`, before it goes on.
//! 3. Nothing is kept over the end of the process. After a crash nobody is told that everybody left.
//!
//! # End
//!
//! When the last connection is gone, what is waiting is told, channels that were just left among it, as long as the shutdown
//! leaves time. What is not told then is counted in the log.

mod debounce;
mod notify;
mod sinks;
mod teller;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bowline::FreeTx;
use bowline_protocol::{ClientInfo, Disconnect};

pub(crate) use self::sinks::Events;
use self::teller::Teller;
#[cfg(test)]
use self::teller::{Failed, Post};
use crate::token::unix_now_millis;

/// Events that wait for one application: of a hundred bytes or so, and what they share with connections and channels.
pub(crate) const MAX_QUEUED: usize = 65_536;

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A channel has its first subscriber.
    Occupied(Arc<str>),
    /// A channel has no subscriber any more.
    Vacated(Arc<str>),
    /// A subscription ended, in whatever way.
    Unsubscribed { channel: Arc<str>, info: Arc<ClientInfo> },
    /// A connection ended.
    Disconnected { info: Arc<ClientInfo>, transport: &'static str, code: u16, reason: Cow<'static, str> },
}

/// An event and when it happened, in milliseconds since 1970.
#[derive(Debug)]
pub(crate) struct Happened {
    event: Event,
    time_ms: i64,
}

/// Where the events for one application go. It takes nothing before the server runs.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    queue: OnceLock<FreeTx<Happened>>,
    counts: Arc<Counts>,
}

/// What has become of events.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Taken by the application. Relaxed, as the others: for those who look.
    told: AtomicU64,
    /// Refused by a full queue, or left over at the end.
    lost: AtomicU64,
    /// Batches that were not taken, and are sent again.
    failed: AtomicU64,
}

impl Sink {
    /// Opens it: from here on it takes events.
    pub(crate) fn open(&self, queue: FreeTx<Happened>) {
        // Once: a server runs once.
        let _ = self.queue.set(queue);
    }

    /// Takes an event, unless the queue is full. It does not wait.
    pub(crate) fn tell(&self, event: Event) {
        let Some(queue) = self.queue.get() else { return };
        if queue.try_send(Happened { event, time_ms: unix_now_millis() }).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn tell_disconnected(&self, info: &Arc<ClientInfo>, transport: &'static str, why: Disconnect) {
        let Disconnect { code, reason } = why;
        self.tell(Event::Disconnected { info: Arc::clone(info), transport, code, reason });
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

impl Counts {
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Who is told of what happens in the channels of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChannelSinks {
    /// Occupied and vacated.
    pub(crate) state: Option<Arc<Sink>>,
    /// Unsubscribed.
    pub(crate) unsubscribe: Option<Arc<Sink>>,
}

impl ChannelSinks {
    /// Somebody is in a channel in which nobody was.
    pub(crate) fn occupied(&self, channel: &Arc<str>) {
        if let Some(sink) = &self.state {
            sink.tell(Event::Occupied(Arc::clone(channel)));
        }
    }

    /// A subscription ended; `is_last` if nobody is left.
    pub(crate) fn left(&self, channel: &Arc<str>, info: &Arc<ClientInfo>, is_last: bool) {
        if let Some(sink) = &self.unsubscribe {
            sink.tell(Event::Unsubscribed { channel: Arc::clone(channel), info: Arc::clone(info) });
        }
        if let Some(sink) = self.state.as_ref().filter(|_| is_last) {
            sink.tell(Event::Vacated(Arc::clone(channel)));
        }
    }
}
