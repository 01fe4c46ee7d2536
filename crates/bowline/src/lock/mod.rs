//! Locks and signals between tasks, all alike: first come first served, ended by cancellation, and open to view.
//!
//! [`Mutex`], [`RwLock`] and [`Semaphore`] hand out permits; [`Notify`], [`Latch`] and barriers are fired by ends that tasks
//! hold ([`Notifier`], [`Count`], [`Seat`]). Each is a [`Rule`](core::Rule) around one line of waiters (`line`), and all wait with the same future (`core`).
//!
//! # Invariants
//!
//! 1. What is free, granted and held adds up to the total: a grant and its mark are one critical section, and so are giving
//!    up a place and passing on what was granted to it. No wake-up is lost.
//! 2. Nobody overtakes. Whoever comes while somebody waits, waits behind.
//! 3. Wakers are cloned, woken and dropped, and values dropped, outside the lock.
//! 4. An end's new place is booked before its old one goes.
//!
//! # End
//!
//! A lock that is dropped has no waiters: they borrow it. Signals outlive each other's halves: when the last end that could
//! fire one is gone, its waiters are told.

mod barrier;
pub(crate) mod core;
mod ends;
mod error;
mod latch;
pub(crate) mod line;
mod mutex;
mod notify;
mod permits;
mod rwlock;
mod semaphore;

pub(crate) use barrier::open as open_barrier;
pub use barrier::{Arrived, BarrierError, FreeSeat, Seat};
pub use error::{AcquireError, TryAcquireError};
pub(crate) use latch::open as open_latch;
pub use latch::{Count, FreeCount, Latch};
pub use mutex::{Mutex, MutexGuard};
pub(crate) use notify::open as open_notify;
pub use notify::{FreeNotifier, Notifier, Notify, NotifyError};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub(crate) use semaphore::KeptPermit;
pub use semaphore::{FreePermit, OwnedPermit, Semaphore, SemaphorePermit};
