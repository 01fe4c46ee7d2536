//! The crate's locks and atomics: those of std, or of a model checker in builds made for one.
//!
//! Everything that waits, counts or cancels takes them from here. What is only a table of the process (sites, roots, the
//! clock) uses std's own: it outlives a model's run.

use std::sync::PoisonError;

#[cfg(not(any(bowline_loom, bowline_shuttle)))]
mod of {
    pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
    pub(crate) use std::thread_local;
}

#[cfg(bowline_loom)]
mod of {
    pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
    pub(crate) use loom::thread_local;
}

#[cfg(bowline_shuttle)]
mod of {
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use shuttle::thread_local;

    pub(crate) mod atomic {
        pub(crate) use shuttle::sync::atomic::*;
    }
}

pub(crate) use of::{Mutex, MutexGuard, atomic, thread_local};
pub(crate) use std::sync::{Arc, OnceLock, Weak};

/// Locking that ignores poison: no user code runs under a lock of this crate, so a panic cannot leave one half-changed.
pub(crate) trait LockExt {
    type Guard<'a>
    where
        Self: 'a;

    fn lock_unpoisoned(&self) -> Self::Guard<'_>;
}

impl<T> LockExt for std::sync::Mutex<T> {
    type Guard<'a>
        = std::sync::MutexGuard<'a, T>
    where
        T: 'a;

    #[inline]
    fn lock_unpoisoned(&self) -> std::sync::MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(any(bowline_loom, bowline_shuttle))]
impl<T> LockExt for Mutex<T> {
    type Guard<'a>
        = MutexGuard<'a, T>
    where
        T: 'a;

    fn lock_unpoisoned(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
