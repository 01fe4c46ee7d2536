//! How many handles of a resource each task holds. Exact for bound handles; `FREE` counts those whose holder is unknown.

use std::collections::HashMap;

/// The place of a handle that was freed: anybody may hold it.
pub(crate) const FREE: u64 = u64::MAX;
/// The place of a handle on its way into a task that was not polled yet.
pub(crate) const IN_TRANSIT: u64 = u64::MAX - 1;

/// So many places are gone through one by one: below, a list is faster than a map, and takes less memory.
const FEW: usize = 16;

/// A multiset of places. Mostly few tasks hold ends of one queue; a broadcast may have a receiver in each of a hundred thousand.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    few: Vec<(u64, u32)>,
    /// All of them, once they were more than [`FEW`], until there is none.
    #[expect(clippy::box_collection, reason = "each queue has several of these, and nearly all are few")]
    many: Option<Box<HashMap<u64, u32>>>,
    total: u32,
}

impl Holders {
    pub(crate) fn add(&mut self, place: u64) {
        self.total += 1;
        if let Some(many) = &mut self.many {
            *many.entry(place).or_insert(0) += 1;
            return;
        }
        if let Some((_, count)) = self.few.iter_mut().find(|(known, _)| *known == place) {
            *count += 1;
        } else if self.few.len() < FEW {
            self.few.push((place, 1));
        } else {
            let all = std::mem::take(&mut self.few).into_iter().chain([(place, 1)]);
            self.many = Some(Box::new(all.collect()));
        }
    }

    /// Takes one handle away from `place` and says how many are left in all.
    pub(crate) fn remove(&mut self, place: u64) -> u32 {
        let was_there = match &mut self.many {
            Some(many) => remove_from_map(many, place),
            None => remove_from_list(&mut self.few, place),
        };
        self.total -= u32::from(was_there);
        if self.total == 0 {
            self.many = None;
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
        match &self.many {
            Some(many) => many.iter().map(|(place, count)| (*place, *count)).collect(),
            None => self.few.clone(),
        }
    }
}

fn remove_from_list(list: &mut Vec<(u64, u32)>, place: u64) -> bool {
    let Some(at) = list.iter().position(|(known, _)| *known == place) else { return false };
    list[at].1 -= 1;
    if list[at].1 == 0 {
        list.swap_remove(at);
    }
    true
}

fn remove_from_map(map: &mut HashMap<u64, u32>, place: u64) -> bool {
    let Some(count) = map.get_mut(&place) else { return false };
    *count -= 1;
    if *count == 0 {
        map.remove(&place);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The same steps, on a map from the beginning.
    #[test]
    fn few_and_many_places_are_counted_alike() {
        let (mut holders, mut model) = (Holders::default(), BTreeMap::<u64, u32>::new());
        let mut state = 7_u64;
        for step in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = (state >> 33) % 40;
            // It grows beyond a few and shrinks to nothing again.
            let grows = (step / 200) % 2 == 0;
            if grows {
                holders.add(place);
                *model.entry(place).or_insert(0) += 1;
            } else {
                holders.remove(place);
                if let Some(count) = model.get_mut(&place) {
                    *count -= 1;
                }
                model.retain(|_, count| *count > 0);
            }
            let mut places = holders.places();
            places.sort_unstable();
            assert_eq!(places, model.iter().map(|(place, count)| (*place, *count)).collect::<Vec<_>>());
            assert_eq!(holders.total(), model.values().sum::<u32>());
        }
        for (place, count) in model {
            (0..count).for_each(|_| _ = holders.remove(place));
        }
        assert_eq!((holders.total(), holders.places()), (0, Vec::new()));
        assert!(holders.many.is_none(), "what nobody holds keeps no map");
    }
}
