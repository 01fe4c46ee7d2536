//! The channels beside the queue: a single answer ([`Reply`], [`Answer`]), the latest value ([`WatchTx`], [`WatchRx`]), every
//! item to everybody ([`BroadcastTx`], [`BroadcastRx`]), and a meeting without a buffer ([`RendezvousTx`],
//! [`RendezvousRx`]).
//!
//! Each channel is a state machine of its own (`oneshot`, `watch`, `broadcast`, `rendezvous`) inside one common frame
//! (`core`): one lock, the books of who holds which end, and the list of who waits (`wait`). An end carries the lifetime
//! of the task that holds it; the free form of an end is the same type with `'static` in that place. The channel lives as
//! long as an end of it does.
//!
//! # Invariants
//!
//! 1. An end is booked at exactly one place from its making to its drop; its new place is recorded before the old one
//!    goes, in one critical section, and the drop of the last end of a side has its effects in the same one.
//! 2. What a wait was given it takes in the poll that returns it; a wait that is dropped earlier has taken nothing, and
//!    leaves no entry behind.
//! 3. No waker is woken, no item cloned, compared or dropped, and no closure of a user's called under the lock.
//! 4. Who can go on is woken in the critical section's wake, or nobody waits: an entry leaves the list when it is woken
//!    (`oneshot`, `watch`, `broadcast`) or is called by name (`rendezvous`).
//!
//! # End
//!
//! A side ends when its last end is gone, which is when the tasks that hold them are: the other side's waits end at once
//! and say so. What was sent before that still arrives.

mod broadcast;
mod core;
mod error;
mod oneshot;
mod rendezvous;
mod wait;
mod watch;

use serde::Serialize;

use crate::queue::Holder;

pub use broadcast::{BroadcastRx, BroadcastTx, FreeBroadcastRx, FreeBroadcastTx, Sent};
pub use error::{BroadcastError, Lagged, NoAnswer, WatchError};
pub use oneshot::{Answer, FreeAnswer, FreeReply, Reply};
pub use rendezvous::{FreeRendezvousRx, FreeRendezvousTx, RendezvousRx, RendezvousTx};
pub use watch::{FreeWatchRx, FreeWatchTx, WatchRx, WatchTx};

pub(crate) use broadcast::open as open_broadcast;
pub(crate) use oneshot::open as open_oneshot;
pub(crate) use rendezvous::open as open_rendezvous;
pub(crate) use watch::open as open_watch;

/// What a channel was and is, at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Identity in the process.
    pub id: u64,
    /// The name given at creation.
    pub name: &'static str,
    /// What it is: `oneshot`, `watch`, `broadcast`, `rendezvous`.
    pub kind: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// Items in it now: an answer nobody has taken, what some receiver of a broadcast has not read, what senders offer at a
    /// rendezvous. A watch always holds one.
    pub depth_items: usize,
    /// The most it holds: 0 for a rendezvous, whose items stay with their senders.
    pub max_items: usize,
    /// Items sent so far.
    pub sent: u64,
    /// Items handed to receivers so far; a broadcast counts each receiver.
    pub received: u64,
    /// Broadcast: items that were overwritten before a receiver had read them, counted for each such receiver.
    pub missed: u64,
    /// Items that nobody will receive: the receiver went first, or there was none. A broadcast counts each receiver.
    pub abandoned: u64,
    /// How often somebody had to wait.
    pub waits: u64,
    /// Sending ends that wait now.
    pub waiting_senders: usize,
    /// Receiving ends that wait now.
    pub waiting_receivers: usize,
    /// Who holds sending ends.
    pub senders: Vec<Holder>,
    /// Who holds receiving ends.
    pub receivers: Vec<Holder>,
}

/// A channel as the live tree sees it.
pub(crate) trait ObservedChannel: Send + Sync {
    fn stats(&self) -> ChannelStats;
}
