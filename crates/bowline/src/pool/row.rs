//! A row of things in the order of their numbers, out of whose middle one can go at a constant cost.
//!
//! Who goes leaves a hole; holes at the front go with the next that is taken, and when there are more holes than things the row
//! closes up.

use std::collections::VecDeque;

/// Holes that are not worth closing up.
const HOLES: usize = 16;

pub(super) struct Row<X> {
    places: VecDeque<(u64, Option<X>)>,
    holes: usize,
    next: u64,
}

impl<X> Default for Row<X> {
    fn default() -> Self {
        Self { places: VecDeque::new(), holes: 0, next: 0 }
    }
}

impl<X> Row<X> {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.holes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, thing: X) -> u64 {
        let number = self.next;
        self.next += 1;
        self.places.push_back((number, Some(thing)));
        number
    }

    pub(super) fn first(&mut self) -> Option<&mut X> {
        while let Some((_, None)) = self.places.front() {
            self.places.pop_front();
            self.holes -= 1;
        }
        self.places.front_mut()?.1.as_mut()
    }

    pub(super) fn first_number(&self) -> Option<u64> {
        self.places.iter().find(|(_, thing)| thing.is_some()).map(|(number, _)| *number)
    }

    pub(super) fn pop(&mut self) -> Option<(u64, X)> {
        loop {
            match self.places.pop_front()? {
                (number, Some(thing)) => return Some((number, thing)),
                (_, None) => self.holes -= 1,
            }
        }
    }

    /// Takes all out by an exchange for `empty`, if there is no hole.
    pub(super) fn take_all(&mut self, empty: &mut VecDeque<(u64, Option<X>)>) -> bool {
        let can = self.holes == 0 && empty.is_empty();
        if can {
            std::mem::swap(&mut self.places, empty);
        }
        can
    }

    /// Puts one back that was taken from the front: where it was.
    pub(super) fn put_back(&mut self, number: u64, thing: X) {
        let at = self.places.partition_point(|(other, _)| *other < number);
        self.places.insert(at, (number, Some(thing)));
    }

    pub(super) fn at(&mut self, number: u64) -> Option<&mut X> {
        let at = self.places.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.places[at].1.as_mut()
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<X> {
        let at = self.places.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let thing = self.places[at].1.take()?;
        self.holes += 1;
        if self.holes > self.len() + HOLES {
            self.places.retain(|(_, thing)| thing.is_some());
            self.holes = 0;
        }
        Some(thing)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &X> {
        self.places.iter().filter_map(|(_, thing)| thing.as_ref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut X> {
        self.places.iter_mut().filter_map(|(_, thing)| thing.as_mut())
    }

    /// Takes all out. The numbers go on.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = X> + use<X> {
        self.holes = 0;
        std::mem::take(&mut self.places).into_iter().filter_map(|(_, thing)| thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_its_order_through_every_coming_and_going() {
        let mut row = Row::default();
        let mut model: Vec<u64> = Vec::new();
        let mut taken: Vec<u64> = Vec::new();
        for step in 0..20_000 {
            match fastrand::u8(0..10) {
                0..5 => model.push(row.push(step)),
                5..7 => {
                    let popped = row.pop().map(|(number, _)| number);
                    assert_eq!(popped, (!model.is_empty()).then(|| model.remove(0)));
                    taken.extend(popped);
                }
                7..9 if !model.is_empty() => {
                    let gone = model.remove(fastrand::usize(..model.len()));
                    assert!(row.remove(gone).is_some());
                    assert!(row.remove(gone).is_none());
                }
                _ => {
                    if let Some(back) = taken.pop() {
                        row.put_back(back, 0);
                        model.push(back);
                        model.sort_unstable();
                    }
                }
            }
            assert_eq!((row.len(), row.first().is_none()), (model.len(), model.is_empty()));
            assert!(row.places.len() <= 2 * row.len() + HOLES + 1, "holes are kept");
        }
    }
}
