//! How many handles of a resource each task holds. Exact for bound handles; `FREE` counts those whose holder is unknown.

/// The place of a handle that was freed: anybody may hold it.
pub(crate) const FREE: u64 = u64::MAX;
/// The place of a handle on its way into a task that was not polled yet.
pub(crate) const IN_TRANSIT: u64 = u64::MAX - 1;

/// A small multiset of places. Few tasks hold ends of one queue, so a list beats a map.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    places: Vec<(u64, u32)>,
    total: u32,
}

impl Holders {
    pub(crate) fn add(&mut self, place: u64) {
        self.total += 1;
        match self.places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, count)) => *count += 1,
            None => self.places.push((place, 1)),
        }
    }

    /// Takes one handle away from `place` and says how many are left in all.
    pub(crate) fn remove(&mut self, place: u64) -> u32 {
        if let Some(at) = self.places.iter().position(|(known, _)| *known == place) {
            self.places[at].1 -= 1;
            if self.places[at].1 == 0 {
                self.places.swap_remove(at);
            }
            self.total -= 1;
        }
        self.total
    }

    /// The new place is recorded before the old one goes.
    pub(crate) fn move_to(&mut self, from: u64, to: u64) {
        self.add(to);
        self.remove(from);
    }

    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    pub(crate) fn places(&self) -> Vec<(u64, u32)> {
        self.places.clone()
    }
}
