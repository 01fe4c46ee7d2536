//! A list that is nearly always of none or one: what an operation has to wake or drop once the lock is released.

use std::task::Waker;

pub(crate) struct Few<X> {
    first: Option<X>,
    more: Vec<X>,
}

impl<X> Default for Few<X> {
    fn default() -> Self {
        Self { first: None, more: Vec::new() }
    }
}

impl<X> Few<X> {
    pub(crate) fn add(&mut self, one: X) {
        match self.first {
            None => self.first = Some(one),
            Some(_) => self.more.push(one),
        }
    }
}

impl<X> Extend<X> for Few<X> {
    fn extend<I: IntoIterator<Item = X>>(&mut self, many: I) {
        many.into_iter().for_each(|one| self.add(one));
    }
}

impl Few<Waker> {
    pub(crate) fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
            self.more.into_iter().for_each(Waker::wake);
        }
    }
}
