//! What the queue says of itself: to people, and to whoever wants to know why the program stands still.

use std::panic::Location;

use super::super::lane::{Lane, age_ms};
use super::super::{Holder, ObservedQueue, QueueStats};
use super::Chan;
use crate::clock;
use crate::holders::{FREE, Holders, IN_TRANSIT};
use crate::resource::{Facts, HeldFact, Resource, ResourceKind, ResourceState, RightFact, Who};
use crate::site::Site;
use crate::sync::LockExt;
use crate::wait::Op;

impl<T: Send> ObservedQueue for Chan<T> {
    fn stats(&self) -> QueueStats {
        let state = self.state.lock_unpoisoned();
        let books = state.lanes.books();
        // The clock wraps, so the oldest is the one with the greatest age, not with the smallest stamp.
        let oldest = state.lanes.all().filter_map(Lane::oldest).max_by_key(|came| clock::since(*came));
        QueueStats {
            id: self.id,
            name: self.site.name,
            place: format!("{}:{}", self.site.place.file(), self.site.place.line()),
            depth_items: state.lanes.queued(),
            depth_bytes: state.lanes.all().map(Lane::bytes).fold(0, usize::saturating_add),
            max_items: state.lanes.max_items(),
            max_bytes: self.max_bytes,
            high_water_items: state.lanes.high_water(),
            oldest_ms: age_ms(oldest),
            overflow: self.overflow,
            closed: state.closed,
            sent: books.sent,
            received: books.received,
            in_flight: state.deliveries.total() as usize,
            redelivered: books.redelivered,
            dropped: books.dropped,
            refused: books.refused,
            abandoned: books.abandoned,
            waits: books.waits + state.receiver_waits,
            waiting_senders: state.lanes.all().map(|lane| lane.room_line.waiting()).sum(),
            waiting_receivers: state.item_line.waiting(),
            urgent: state.lanes.urgent_stats(),
            sources: state.lanes.source_stats(),
            senders: holders(&state.senders),
            receivers: holders(&state.receivers),
            deliveries: holders(&state.deliveries),
        }
    }

    fn place(&self) -> Option<&'static Location<'static>> {
        Some(self.site.place)
    }
}

impl<T: Send> Resource for Chan<T> {
    fn facts(&self) -> Facts {
        let state = self.state.lock_unpoisoned();
        let rights = |role, holders: &Holders| {
            holders.places().into_iter().map(move |(place, count)| RightFact { role, place, count })
        };
        let in_room_lines = state.lanes.all().flat_map(|lane| lane.room_line.facts(Op::Send));
        Facts {
            id: self.id,
            kind: ResourceKind::Channel,
            site: self.site,
            state: match state.closed {
                Some(reason) => ResourceState::Closed { reason: reason.as_str() },
                None if state.has_free_item() => ResourceState::Fired,
                None => ResourceState::Waiting,
            },
            waiters: (state.item_line.facts(Op::Recv))
                .chain(in_room_lines)
                .chain(state.close_line.facts(Op::Closed))
                .collect(),
            held: reserved(state.lanes.all().map(Lane::reserved).sum(), self.site),
            rights: rights("sender", &state.senders)
                .chain(rights("receiver", &state.receivers))
                .chain(rights("delivery", &state.deliveries))
                .collect(),
            handles: (state.senders.total() + state.receivers.total() + state.deliveries.total()) as usize,
            open_ended: false,
            receivers_close: true,
            lies_at: 0,
            waits: state.lanes.books().waits + state.receiver_waits,
            panicked: 0,
        }
    }

    fn unlist(&self) -> bool {
        let mut state = self.state.lock_unpoisoned();
        let nobody = state.item_line.is_empty()
            && state.close_line.is_empty()
            && state.lanes.all().all(|lane| lane.room_line.is_empty());
        state.listed &= !nobody;
        nobody
    }
}

/// Permits are borrowed from sending ends, and lie with a task that holds one; with which is not known.
fn reserved(amount: usize, site: &'static Site) -> Vec<HeldFact> {
    let who = Who { task: 0, polls: 0, at: site.place, since: clock::coarse_millis(), branded: false };
    Some(HeldFact { who, amount }).filter(|held| held.amount > 0).into_iter().collect()
}

fn holders(holders: &Holders) -> Vec<Holder> {
    let known = |place| if place == FREE || place == IN_TRANSIT { None } else { Some(place) };
    holders.places().into_iter().map(|(place, ends)| Holder { task: known(place), ends }).collect()
}
