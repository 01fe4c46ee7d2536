//! All lanes of one queue, and whose turn it is.
//!
//! A plain queue has its main lane. One with an urgent lane has that besides, and it goes first. A merged queue has a lane
//! for each source, taken in turns; its main lane stays empty.
//!
//! # Invariants
//!
//! 1. `queued` is the number of items in all lanes.
//! 2. A lane besides the main one that holds items is in `turns`, once. It may stand there empty for a moment, and is
//!    passed over.
//! 3. A source's lane lives as long as it has a handle or anything of it is left; then its number may be used again, and
//!    its books are added to those of the gone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::LaneStats;
use super::lane::{Books, Lane, Limits, Queued};

/// The number of a lane: 0 is the main one.
pub(super) type LaneId = usize;
pub(super) const MAIN: LaneId = 0;
pub(super) const URGENT: LaneId = 1;

pub(super) struct Lanes<T> {
    main: Lane<T>,
    /// Few queues have more than one lane.
    more: Option<Box<More<T>>>,
    queued: usize,
}

struct More<T> {
    lanes: Vec<Lane<T>>,
    turns: VecDeque<LaneId>,
    /// The most items that were ever queued in all lanes.
    high_water: usize,
    sources: Option<Sources>,
}

/// The lanes of a merged queue.
struct Sources {
    limits: Limits,
    by_name: HashMap<Arc<str>, LaneId>,
    unused: Vec<LaneId>,
    /// The books of sources that are gone.
    gone: Books,
}

impl<T> Lanes<T> {
    pub(super) fn plain(limits: Limits, urgent_items: usize) -> Self {
        let more = (urgent_items > 0).then(|| {
            // Urgent items are counted, not weighed.
            let urgent = Lane::new(Limits { items: urgent_items, bytes: usize::MAX }, None);
            Box::new(More { lanes: vec![urgent], turns: VecDeque::new(), high_water: 0, sources: None })
        });
        Self { main: Lane::new(limits, None), more, queued: 0 }
    }

    pub(super) fn merged(limits: Limits) -> Self {
        let sources = Sources { limits, by_name: HashMap::new(), unused: Vec::new(), gone: Books::default() };
        let more = More { lanes: Vec::new(), turns: VecDeque::new(), high_water: 0, sources: Some(sources) };
        Self { main: Lane::new(limits, None), more: Some(Box::new(more)), queued: 0 }
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn has_urgent(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.sources.is_none())
    }

    #[inline]
    pub(super) fn lane(&mut self, id: LaneId) -> &mut Lane<T> {
        match (id, &mut self.more) {
            (MAIN, _) | (_, None) => &mut self.main,
            (id, Some(more)) => &mut more.lanes[id - 1],
        }
    }

    fn besides(&self) -> impl Iterator<Item = &Lane<T>> {
        self.more.iter().flat_map(|more| &more.lanes)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Lane<T>> {
        std::iter::once(&self.main).chain(self.besides())
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Lane<T>> {
        std::iter::once(&mut self.main).chain(self.more.iter_mut().flat_map(|more| &mut more.lanes))
    }

    // ---- items

    pub(super) fn push(&mut self, id: LaneId, item: T, bytes: usize) {
        self.queued += 1;
        self.lane(id).push(item, bytes);
        if let Some(more) = &mut self.more {
            more.high_water = more.high_water.max(self.queued);
            more.list(id);
        }
    }

    pub(super) fn put_back(&mut self, id: LaneId, queued: Queued<T>) {
        self.queued += 1;
        self.lane(id).put_back(queued);
        if let Some(more) = &mut self.more {
            more.list(id);
        }
    }

    /// Takes an item of the one lane there is, if nobody waits for its room.
    #[inline]
    pub(super) fn pop_quietly(&mut self) -> Option<Queued<T>> {
        if self.more.is_some() || self.main.room_line.waiting() > 0 {
            return None;
        }
        let queued = self.main.pop()?;
        self.main.books.received += 1;
        self.queued -= 1;
        Some(queued)
    }

    /// Takes the item whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(LaneId, Queued<T>)> {
        let first = self.more.as_deref_mut().and_then(More::pop);
        let popped = first.or_else(|| self.main.pop().map(|queued| (MAIN, queued)))?;
        self.queued -= 1;
        Some(popped)
    }

    /// Takes the oldest item of one lane.
    pub(super) fn pop_of(&mut self, id: LaneId) -> Option<Queued<T>> {
        let popped = self.lane(id).pop()?;
        self.queued -= 1;
        Some(popped)
    }

    /// Takes everything, counted as abandoned.
    pub(super) fn abandon(&mut self) -> Vec<VecDeque<Queued<T>>> {
        self.queued = 0;
        self.all_mut().map(Lane::abandon).filter(|items| !items.is_empty()).collect()
    }

    // ---- sources

    /// The lane of the source of that name, with one handle more.
    pub(super) fn add_source(&mut self, name: Arc<str>) -> LaneId {
        let Some((lanes, sources)) = self.sources() else { unreachable!("only a merged queue has sources") };
        if let Some(id) = sources.by_name.get(&name) {
            lanes[*id - 1].handles += 1;
            return *id;
        }
        let mut lane = Lane::new(sources.limits, Some(Arc::clone(&name)));
        lane.handles = 1;
        let id = match sources.unused.pop() {
            Some(id) => {
                lane.listed = lanes[id - 1].listed; // by invariant 2 its number may still be there
                lanes[id - 1] = lane;
                id
            }
            None => {
                lanes.push(lane);
                lanes.len()
            }
        };
        sources.by_name.insert(name, id);
        id
    }

    pub(super) fn remove_handle(&mut self, id: LaneId) {
        self.lane(id).handles -= 1;
        self.retire(id);
    }

    /// Removes a source's lane if nothing is left of the source.
    pub(super) fn retire(&mut self, id: LaneId) {
        let Some((lanes, sources)) = self.sources() else { return };
        let Some(lane) = id.checked_sub(1).and_then(|at| lanes.get_mut(at)) else { return };
        if lane.handles == 0 && lane.is_idle() {
            if let Some(name) = lane.source.take() {
                sources.by_name.remove(&name);
                sources.gone.add(&std::mem::take(&mut lane.books));
                sources.unused.push(id);
            }
        }
    }

    fn sources(&mut self) -> Option<(&mut Vec<Lane<T>>, &mut Sources)> {
        let more = self.more.as_deref_mut()?;
        Some((&mut more.lanes, more.sources.as_mut()?))
    }

    // ---- for views

    /// The books of all lanes, also of those that are gone.
    pub(super) fn books(&self) -> Books {
        let gone = self.more.as_ref().and_then(|more| more.sources.as_ref()).map(|sources| sources.gone);
        let mut sum = gone.unwrap_or_default();
        self.all().for_each(|lane| sum.add(&lane.books));
        sum
    }

    pub(super) fn urgent_stats(&self) -> Option<LaneStats> {
        let more = self.more.as_ref().filter(|more| more.sources.is_none())?;
        more.lanes.first().map(|lane| lane.stats("urgent"))
    }

    pub(super) fn source_stats(&self) -> Vec<LaneStats> {
        self.besides().filter_map(|lane| Some(lane.stats(lane.source.as_deref()?))).collect()
    }

    pub(super) fn high_water(&self) -> usize {
        self.more.as_ref().map_or(self.main.high_water(), |more| more.high_water)
    }

    /// How many items all lanes together may hold.
    pub(super) fn max_items(&self) -> usize {
        let lanes: Vec<_> = match &self.more {
            Some(more) if more.sources.is_some() => {
                self.besides().filter(|lane| lane.source.is_some()).collect()
            }
            _ => self.all().collect(),
        };
        lanes.into_iter().fold(0, |sum, lane| sum.saturating_add(lane.max_items()))
    }
}

impl<T> More<T> {
    fn list(&mut self, id: LaneId) {
        let Some(lane) = id.checked_sub(1).and_then(|at| self.lanes.get_mut(at)) else { return };
        if !lane.listed {
            lane.listed = true;
            self.turns.push_back(id);
        }
    }

    fn pop(&mut self) -> Option<(LaneId, Queued<T>)> {
        while let Some(id) = self.turns.front().copied() {
            let lane = &mut self.lanes[id - 1];
            let popped = lane.pop();
            if lane.len() == 0 {
                lane.listed = false;
                self.turns.pop_front();
            } else if self.sources.is_some() {
                self.turns.rotate_left(1);
            } // an urgent lane keeps its turn
            if let Some(queued) = popped {
                return Some((id, queued));
            }
        }
        None
    }
}
