//! What is held back for a member whose subscription is not answered yet.

use bowline_store::Position;

use super::LostPosition;
use crate::node::frame::Frame;

/// Publications and events held back for one pending member; more end its subscription. Answering takes well under
/// a millisecond, or some ten if the thread was preempted meanwhile: enough for a million publications per second,
/// at about 1.2 MB beside the payloads, which are shared.
const HELD_BACK: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct HeldBack {
    pub(super) frames: Vec<Held>,
    has_overflowed: bool,
}

#[derive(Debug)]
pub(super) enum Held {
    /// Without a frame, the member's filter did not let it through.
    Publication {
        frame: Option<Frame>,
        position: Option<Position>,
    },
    Event(Frame),
}

impl HeldBack {
    /// Holds a frame back; answers `false` if there is no room, after which the subscription cannot go live.
    pub(super) fn hold(&mut self, held: Held) -> bool {
        self.has_overflowed |= self.frames.len() >= HELD_BACK;
        if !self.has_overflowed {
            self.frames.push(held);
        }
        !self.has_overflowed
    }

    pub(super) fn publications(&self) -> usize {
        self.frames.iter().filter(|held| matches!(held, Held::Publication { .. })).count()
    }

    /// Checks that what is held back continues `start` without a hole; answers the offset that comes after
    /// `start`, 0 without one.
    pub(super) fn check(&self, start: Option<&Position>) -> Result<u64, LostPosition> {
        if self.has_overflowed {
            return Err(LostPosition);
        }
        let Some(start) = start else { return Ok(0) };
        let first = start.offset.checked_add(1).ok_or(LostPosition)?;
        let mut next = first;
        for held in &self.frames {
            let Held::Publication { position: Some(position), .. } = held else { continue };
            if position.epoch != start.epoch || position.offset > next {
                return Err(LostPosition);
            }
            next += u64::from(position.offset == next);
        }
        Ok(first)
    }
}
