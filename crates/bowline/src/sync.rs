//! The crate's one way to take a std lock, and the one place from which the locks of `lock` take theirs.

use std::sync::{MutexGuard, PoisonError};

pub(crate) use std::sync::{Arc, Mutex};

/// Locking that ignores poison: no user code runs under a lock of this crate, so a panic cannot leave one half-changed.
pub(crate) trait LockExt<T> {
    fn lock_unpoisoned(&self) -> MutexGuard<'_, T>;
}

impl<T> LockExt<T> for Mutex<T> {
    fn lock_unpoisoned(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
