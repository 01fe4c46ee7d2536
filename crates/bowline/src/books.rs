//! The books of one kind of thing (pools, breakers, leases…): who is there to be looked at.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The living things of one kind. A table of the process, so std's own lock: it outlives a model's run.
pub(crate) struct Books<T: ?Sized>(Mutex<Vec<Weak<T>>>);

impl<T: ?Sized> Books<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Lists `thing` for as long as it lives.
    pub(crate) fn list(&self, thing: &Arc<T>) {
        let mut things = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only when the table would grow, so that each entry pays for its own removal.
        if things.len() == things.capacity() {
            things.retain(|known| known.strong_count() > 0);
        }
        things.push(Arc::downgrade(thing));
    }

    /// Returns all that live, in the order in which they were listed.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let things = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        things.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_leaves_the_books_and_they_do_not_grow() {
        let books = Books::new();
        let kept = Arc::new(7);
        books.list(&kept);
        for n in 0..10_000 {
            books.list(&Arc::new(n));
        }
        assert_eq!(books.all(), [kept]);
        assert!(books.0.lock().unwrap().capacity() <= 8);
    }
}
