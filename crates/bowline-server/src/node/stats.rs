//! What the node counts: deliveries that must add up, the population, and outcomes by code.
//!
//! # Invariants
//!
//! 1. A *delivery* is one publication for one subscriber. It is *accepted* when a publication meets a subscriber
//!    and ends once: *delivered* (put into the connection's queue) or *refused* with a reason. In between it is *in
//!    flight*: `accepted = delivered + refused + in_flight` in every snapshot, and nothing is in flight at rest.
//! 2. A delivery is counted as accepted before it is counted as ended, and a snapshot reads the ended ones first,
//!    so it never sees more ended than accepted.

use std::array;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why an accepted delivery did not reach the connection's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The connection's queue was full: the client is too slow and is disconnected.
    Slow,
    /// The connection was ending.
    Closed,
    /// The client's position is at or after the publication's.
    AlreadySeen,
    /// The client's position was lost; it is told to recover.
    PositionLost,
    /// The subscription was not completed.
    NotSubscribed,
    /// The payload cannot be embedded in the connection's encoding.
    Inexpressible,
    /// The subscription's tags filter does not let it through.
    Filtered,
    /// The server failed while delivering.
    Internal,
}

impl Refusal {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 8] = [
        Self::Slow,
        Self::Closed,
        Self::AlreadySeen,
        Self::PositionLost,
        Self::NotSubscribed,
        Self::Inexpressible,
        Self::Filtered,
        Self::Internal,
    ];

    /// The reason as a label of a metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Closed => "closed",
            Self::AlreadySeen => "already_seen",
            Self::PositionLost => "position_lost",
            Self::NotSubscribed => "not_subscribed",
            Self::Inexpressible => "inexpressible",
            Self::Filtered => "filtered",
            Self::Internal => "internal",
        }
    }
}

/// What happened to the deliveries so far; see the [module](self) for how the numbers add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliveries {
    /// Publications that met a subscriber.
    pub accepted: u64,
    /// Those put into the subscriber's queue.
    pub delivered: u64,
    /// Those that were not, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Those not decided yet.
    pub in_flight: u64,
}

/// A snapshot of the node's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Deliveries since the start.
    pub deliveries: Deliveries,
    /// Authenticated connections.
    pub clients: u64,
    /// Distinct users of them, the anonymous user included.
    pub users: u64,
    /// Channels with at least one subscriber.
    pub channels: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Commands received since the start, pongs included.
    pub messages_in: u64,
    /// Messages put into connections' queues since the start.
    pub messages_out: u64,
    /// Publications accepted since the start, from clients and from the server API.
    pub publications: u64,
    /// Publications and reads since the start that the store refused.
    pub store_refusals: u64,
    /// Error replies to clients since the start, by code.
    pub errors: BTreeMap<u32, u64>,
    /// Connections ended since the start, by disconnect code.
    pub disconnects: BTreeMap<u16, u64>,
}

/// The counters behind [`Stats`]. Relaxed where nothing is concluded from two of them together.
#[derive(Debug)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    delivered: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    pub(crate) clients: Gauge,
    pub(crate) users: Gauge,
    pub(crate) channels: Gauge,
    pub(crate) subscriptions: Gauge,
    pub(crate) messages_in: Total,
    pub(crate) messages_out: Total,
    pub(crate) publications: Total,
    /// Appends and reads that the store refused.
    pub(crate) store_refusals: Total,
    errors: Codes<0, 128>,
    disconnects: Codes<3000, 512>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            accepted: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            refused: array::from_fn(|_| AtomicU64::new(0)),
            clients: Gauge::default(),
            users: Gauge::default(),
            channels: Gauge::default(),
            subscriptions: Gauge::default(),
            messages_in: Total::default(),
            messages_out: Total::default(),
            publications: Total::default(),
            store_refusals: Total::default(),
            errors: Codes::new(),
            disconnects: Codes::new(),
        }
    }

    /// Counts an error reply.
    pub(crate) fn count_error(&self, code: u32) {
        self.errors.count(code);
    }

    /// Counts a connection's end.
    pub(crate) fn count_disconnect(&self, code: u16) {
        self.disconnects.count(code.into());
    }

    /// Accepts `count` deliveries, which the returned tally must account for.
    pub(crate) fn accept(&self, count: usize) -> Tally<'_> {
        self.accepted.fetch_add(count as u64, Ordering::Relaxed);
        self.resume(count)
    }

    /// Takes up `count` deliveries that were accepted and deferred before.
    pub(crate) fn resume(&self, count: usize) -> Tally<'_> {
        Tally { counters: self, open: count as u64, delivered: 0, refused: [0; Refusal::ALL.len()] }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        // Acquire: pairs with the Release in the tally's drop, so that whoever sees an end sees its acceptance.
        let delivered = self.delivered.load(Ordering::Acquire);
        let refused = self.refused.each_ref().map(|counter| counter.load(Ordering::Acquire));
        let accepted = self.accepted.load(Ordering::Relaxed);
        let in_flight = accepted - delivered - refused.iter().sum::<u64>();
        let refused = Refusal::ALL.map(Refusal::as_str).into_iter().zip(refused).collect();
        Stats {
            deliveries: Deliveries { accepted, delivered, refused, in_flight },
            clients: self.clients.value(),
            users: self.users.value(),
            channels: self.channels.value(),
            subscriptions: self.subscriptions.value(),
            messages_in: self.messages_in.value(),
            messages_out: self.messages_out.value(),
            publications: self.publications.value(),
            store_refusals: self.store_refusals.value(),
            errors: self.errors.snapshot().collect(),
            disconnects: self
                .disconnects
                .snapshot()
                .filter_map(|(code, count)| Some((u16::try_from(code).ok()?, count)))
                .collect(),
        }
    }
}

/// Accounts for the deliveries of one publication, and writes the sums when dropped.
///
/// What was neither delivered nor refused nor deferred by then is refused as internal: also a panic half-way
/// through leaves no delivery unaccounted.
#[derive(Debug)]
pub(crate) struct Tally<'a> {
    counters: &'a Counters,
    open: u64,
    delivered: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl Tally<'_> {
    pub(crate) fn delivered(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.delivered += 1;
    }

    pub(crate) fn refused(&mut self, reason: Refusal) {
        self.open = self.open.saturating_sub(1);
        // The order of `ALL` is that of the variants.
        self.refused[reason as usize] += 1;
    }

    /// Leaves one delivery in flight; somebody resumes it.
    pub(crate) fn deferred(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Refuses all that is left for `reason`.
    pub(crate) fn refuse_rest(&mut self, reason: Refusal) {
        self.refused[reason as usize] += std::mem::take(&mut self.open);
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.refuse_rest(Refusal::Internal);
        // Release: pairs with the Acquire in `snapshot`.
        if self.delivered > 0 {
            self.counters.delivered.fetch_add(self.delivered, Ordering::Release);
            self.counters.messages_out.add(self.delivered);
        }
        for (counter, count) in self.counters.refused.iter().zip(self.refused) {
            if count > 0 {
                counter.fetch_add(count, Ordering::Release);
            }
        }
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Goes up by one unless it has reached `limit`; answers whether it did.
    pub(crate) fn increment_below(&self, limit: u64) -> bool {
        let next = |value| (value < limit).then_some(value + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that only goes up.
#[derive(Debug, Default)]
pub(crate) struct Total(AtomicU64);

impl Total {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts by code, for the `LENGTH` codes from `FIRST`; all others, which applications choose, are counted
/// together as the code after those, so that no application can make the table grow.
#[derive(Debug)]
struct Codes<const FIRST: u32, const LENGTH: usize>(Box<[AtomicU64]>);

impl<const FIRST: u32, const LENGTH: usize> Codes<FIRST, LENGTH> {
    fn new() -> Self {
        Self((0..=LENGTH).map(|_| AtomicU64::new(0)).collect())
    }

    fn count(&self, code: u32) {
        let index = code.checked_sub(FIRST).map_or(LENGTH, |index| LENGTH.min(index as usize));
        if let Some(counter) = self.0.get(index) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn snapshot(&self) -> impl Iterator<Item = (u32, u64)> {
        (FIRST..)
            .zip(&self.0)
            .map(|(code, counter)| (code, counter.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_the_order_of_their_counters() {
        for (index, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn what_a_tally_is_not_told_is_refused_as_internal() {
        let counters = Counters::new();
        let mut tally = counters.accept(5);
        tally.delivered();
        tally.refused(Refusal::Slow);
        tally.deferred();
        drop(tally);
        let deliveries = counters.snapshot().deliveries;
        assert_eq!((deliveries.accepted, deliveries.delivered, deliveries.in_flight), (5, 1, 1));
        assert_eq!((deliveries.refused["slow"], deliveries.refused["internal"]), (1, 2));

        counters.resume(1).delivered();
        let deliveries = counters.snapshot().deliveries;
        assert_eq!((deliveries.delivered, deliveries.in_flight), (2, 0));
    }

    #[test]
    fn codes_out_of_the_table_are_counted_together() {
        let counters = Counters::new();
        for code in [103, 103, 112, 4_000_000] {
            counters.count_error(code);
        }
        for code in [3501, 4000, 1] {
            counters.count_disconnect(code);
        }
        let stats = counters.snapshot();
        assert_eq!(stats.errors, BTreeMap::from([(103, 2), (112, 1), (128, 1)]));
        assert_eq!(stats.disconnects, BTreeMap::from([(3501, 1), (3512, 2)]));
    }
}
