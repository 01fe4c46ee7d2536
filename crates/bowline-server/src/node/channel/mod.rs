//! One channel: its members, and the order in which things reach them.
//!
//! The channel's lock is held while a publication gets its offset and while it is put into every member's queue: in one
//! go, unless it waits for the disk in between, where `line` keeps the order. Putting a frame into a queue never waits, so
//! the lock is held for the fan-out and nothing else, and a slow member costs the others nothing.
//!
//! # Invariants
//!
//! 1. Publications reach the queues of one channel's members in the order of their offsets.
//! 2. A *pending* member's publications are held back until its subscription is answered, then follow the answer
//!    in order: no gap, none twice, none before the answer.
//! 3. A positioned member is given exactly the offset after its last one. Anything else ends its seat, and the
//!    client is told to recover.
//! 4. A member is a seat at `members[member.slot]`, or it has ended. Seats move when others are removed.
//! 5. A channel that was removed from the table stays empty; whoever meets it looks the name up again.
//! 6. The data that a chained member has is `State::previous`, so that a delta made from that fits every chained one.
//! 7. Locks are taken in the order table shard, channel, queue.

mod held_back;
mod members;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_protocol::ClientInfo;
use bowline_protocol::filter::TagsFilter;

pub(crate) use self::members::State;
use crate::events::ChannelSinks;

/// One channel with at least one member or a publication on its way.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: Arc<str>,
    state: Mutex<State>,
    /// Live members, for those who only want the number. Relaxed: written under the lock.
    live: AtomicUsize,
    /// Who is told of what happens in the channel.
    sinks: Option<Arc<ChannelSinks>>,
}

/// One subscription of one connection, shared between the channel and the session.
#[derive(Debug)]
pub(crate) struct Member {
    /// Who it is, as others see it in this channel.
    pub(crate) info: Arc<ClientInfo>,
    pub(crate) role: Role,
    pub(crate) intake: Intake,
    /// Invariant 4. Relaxed: guarded by the channel's lock.
    slot: AtomicUsize,
    /// Whether the seat is gone. Relaxed: a session that reads an old value is told by its next look, and no other
    /// data hangs on it.
    has_ended: AtomicBool,
}

/// What a member shows to others and sees of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Role {
    /// Others see it in the channel's presence.
    pub(crate) is_present: bool,
    /// Others hear of its joining and leaving.
    pub(crate) announces: bool,
    /// It hears of the joining and leaving of others.
    pub(crate) listens: bool,
    /// The server made the subscription: losing it closes the connection.
    pub(crate) is_server_side: bool,
}

/// Which publications a member takes, and in what form.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// It negotiated deltas.
    pub(crate) takes_delta: bool,
    /// It takes only those that pass.
    pub(crate) filter: Option<Box<TagsFilter>>,
}

/// A subscription could not go live: publications were lost on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LostPosition;

impl Channel {
    pub(crate) fn new(name: &str, sinks: Option<Arc<ChannelSinks>>) -> Self {
        Self { name: name.into(), state: Mutex::default(), live: AtomicUsize::new(0), sinks }
    }

    /// Locks the channel, or answers `None` if it was removed from the table meanwhile.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, State>> {
        // A panic under the lock can leave a publication delivered to some members only. Positioned members notice
        // by invariant 3; for the others a message may be lost, which is what they were promised.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (!state.is_removed()).then_some(state)
    }

    /// Counts one more live member. Under the lock, so that what is told is in the order in which it happens.
    fn enter(&self) {
        if self.live.fetch_add(1, Ordering::Relaxed) == 0
            && let Some(sinks) = &self.sinks
        {
            sinks.occupied(&self.name);
        }
    }

    /// Counts one live member less.
    fn leave(&self, info: &Arc<ClientInfo>) {
        let is_last = self.live.fetch_sub(1, Ordering::Relaxed) == 1;
        if let Some(sinks) = &self.sinks {
            sinks.left(&self.name, info, is_last);
        }
    }

    /// Number of live members.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }
}

impl Member {
    pub(crate) fn new(info: Arc<ClientInfo>, role: Role, intake: Intake) -> Arc<Self> {
        Arc::new(Self { info, role, intake, slot: AtomicUsize::new(0), has_ended: AtomicBool::new(false) })
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}
