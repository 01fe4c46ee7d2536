//! What a belt says of itself: to the stage behind it, and to whoever wants to know why the program stands still.

use super::Belt;
use crate::holders::Holders;
use crate::resource::{Facts, Resource, ResourceKind, ResourceState, RightFact};
use crate::sync::LockExt;
use crate::wait::Op;

/// How full a belt is and was.
pub(in super::super) struct Depth {
    pub(in super::super) items: usize,
    pub(in super::super) bytes: usize,
    pub(in super::super) high_water: usize,
    pub(in super::super) put: u64,
    /// Of those, the ones that came when it was cleared.
    pub(in super::super) refused: u64,
}

/// A belt of whatever it carries.
pub(in super::super) trait BeltView: Send + Sync {
    fn depth(&self) -> Depth;
    fn max_items(&self) -> usize;
    /// See [`Belt::clear`].
    fn clear_all(&self, count: &dyn Fn(u64));
}

impl<T: Send + 'static> BeltView for Belt<T> {
    fn depth(&self) -> Depth {
        let state = self.state.lock_unpoisoned();
        Depth {
            items: state.occupied() + state.early,
            bytes: state.bytes,
            high_water: state.high_water,
            put: state.put,
            refused: state.refused,
        }
    }

    fn max_items(&self) -> usize {
        self.max_items
    }

    fn clear_all(&self, count: &dyn Fn(u64)) {
        self.clear(count);
    }
}

impl<T: Send> Resource for Belt<T> {
    fn facts(&self) -> Facts {
        let state = self.state.lock_unpoisoned();
        let rights = |role, holders: &Holders| {
            holders.places().into_iter().map(move |(place, count)| RightFact { role, place, count })
        };
        Facts {
            id: self.id,
            kind: ResourceKind::Channel,
            site: self.site,
            state: match () {
                () if state.closed => ResourceState::Closed { reason: "the stage before has ended" },
                () if state.queue.is_empty() => ResourceState::Waiting,
                () => ResourceState::Fired,
            },
            waiters: state.takers.facts(Op::Recv).chain(state.putters.facts(Op::Send)).collect(),
            held: Vec::new(),
            rights: rights("sender", &state.senders).chain(rights("receiver", &state.receivers)).collect(),
            handles: (state.senders.total() + state.receivers.total()) as usize,
            // Whoever ends the pipeline clears it.
            open_ended: true,
            receivers_close: true,
            lies_at: 0,
            waits: state.waits,
            panicked: 0,
        }
    }

    fn unlist(&self) -> bool {
        let mut state = self.state.lock_unpoisoned();
        let nobody = state.takers.is_empty() && state.putters.is_empty();
        state.listed &= !nobody;
        nobody
    }
}
