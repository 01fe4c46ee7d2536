//! A list of weak references that stays as small as what lives.

use crate::sync::{Arc, Weak};

/// References to things that come and go. The dead are swept when they may be half of it: a constant cost per insert.
pub(super) struct Weaks<T: ?Sized> {
    list: Vec<Weak<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Weaks<T> {
    fn default() -> Self {
        Self { list: Vec::new(), sweep_at: 0 }
    }
}

impl<T: ?Sized> Weaks<T> {
    pub(super) fn insert(&mut self, one: Weak<T>) {
        if self.list.len() >= self.sweep_at {
            self.list.retain(|known| known.strong_count() > 0);
            self.sweep_at = 2 * self.list.len() + 1;
        }
        self.list.push(one);
    }

    pub(super) fn any_living(&self) -> bool {
        self.list.iter().any(|known| known.strong_count() > 0)
    }

    pub(super) fn living(&self) -> Vec<Arc<T>> {
        self.list.iter().filter_map(Weak::upgrade).collect()
    }
}
