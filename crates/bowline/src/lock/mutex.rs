//! A lock around a value, for tasks.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;

use super::core::{Ask, Core, Stopped, Waiting};
use super::line::Key;
use super::permits::{Content, Permits};
use crate::carry::Cx;
use crate::cause::Cancelled;
use crate::resource::{Resource, ResourceInfo, ResourceKind, Who};
use crate::sync::Arc;
use crate::wait::Op;

/// A lock around a value: one holder at a time, first come first served, and everybody can see who holds it.
///
/// Prefer [`with`](Self::with): its guard cannot be held across an await, which is what makes locks in asynchronous code
/// deadlock and crawl. Where an await under the lock is what you want, [`lock`](Self::lock) gives a guard.
///
/// Handing over is strict: a released lock belongs to the first in line from that moment on, so nobody starves; a waiter
/// that is dropped or cancelled passes it on. A future that was granted the lock and is then kept without being polled
/// holds everybody up (a *futurelock*); [`race`](crate::race()) drops its loser and cannot do that, and
/// [`contended`](crate::contended) shows such a place as `granted`.
///
/// A task that locks what it holds already waits for itself. It is not refused, but it is plain to see: the same task stands
/// among the waiters and the holders.
///
/// # A holder that panics
///
/// The lock is released and goes on working: an error at every later `lock` would only spread one failure that its scope
/// reports anyway, and be unwrapped. It is not forgotten either: the value is *suspect* until somebody says otherwise. Code
/// that depends on an invariant spanning several fields asks [`MutexGuard::is_suspect`], restores it and calls
/// [`MutexGuard::clear_suspect`]; others go on. [`stats`](Self::stats) counts the panics.
///
/// A holder that is *cancelled* at an await under the lock leaves the value as it was there, and nothing tells. That
/// cannot happen in `with`.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Cancelled, Mutex, scope};
///
/// struct Accounts { alice: u32, bob: u32 }
///
/// scope("transfers", async |s| {
///     let accounts = s.cx().share("accounts", Mutex::new("accounts", Accounts { alice: 10, bob: 0 }));
///     for _ in 0..3 {
///         s.spawn_with("transfer", accounts.clone(), async |_cx, accounts| {
///             accounts.with(|a| { a.alice -= 1; a.bob += 1; }).await
///         });
///     }
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
pub struct Mutex<T: Send + 'static> {
    core: Arc<Core<Permits<Inside<T>>>>,
}

/// The value when nobody holds the lock. The box itself is handed to the holder: no second lock and no unsafe code.
struct Inside<T>(Option<Box<T>>);

impl<T: Send + 'static> Content for Inside<T> {
    type Out = Option<Box<T>>;
    const KIND: ResourceKind = ResourceKind::Mutex;

    fn take(&mut self, _permits: usize) -> Option<Box<T>> {
        self.0.take()
    }
}

const LOCK: Ask = Ask { op: Op::Lock, need: 1, calls: 0 };

impl<T: Send + 'static> Mutex<T> {
    /// Makes a lock around `value`, known by `name` wherever somebody waits for it.
    #[must_use]
    #[track_caller]
    pub fn new(name: &'static str, value: T) -> Self {
        let rule = Permits::new(1, Inside(Some(Box::new(value))));
        Self { core: Core::new(name, Location::caller(), rule) }
    }

    /// Waits for the lock and holds it until the guard is dropped.
    ///
    /// Held across an await, it holds everybody else up for as long: prefer [`with`](Self::with).
    ///
    /// The guard could be handed to another task, so views show its holder as probable only. It cannot if the lock lies in a
    /// [`Shared`](crate::Shared) object: the compiler refuses it. Elsewhere, [`lock_in`](Self::lock_in) makes it certain.
    ///
    /// # Cancel safety
    ///
    /// The place in line is taken at the first poll. If the future is dropped, the place is given up, and a lock granted to
    /// it goes to the next.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled, also if the lock is free.
    #[track_caller]
    pub fn lock(&self) -> impl Future<Output = Result<MutexGuard<'_, T>, Cancelled>> {
        self.wait(Location::caller(), false, |guard| guard)
    }

    /// As [`lock`](Self::lock), with a guard that cannot leave the task of `cx`: its holder is known.
    ///
    /// # Cancel safety
    ///
    /// As [`lock`](Self::lock).
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    #[track_caller]
    pub fn lock_in<'t>(&'t self, _cx: &'t Cx) -> impl Future<Output = Result<MutexGuard<'t, T>, Cancelled>> {
        self.wait(Location::caller(), true, |guard| guard)
    }

    /// Waits for the lock and runs `change` with it. The lock is released when the closure returns: there is no guard
    /// that could be held across an await.
    ///
    /// # Cancel safety
    ///
    /// As [`lock`](Self::lock) until the lock is granted; `change` then runs to its end in one piece. If the future is dropped
    /// before, `change` is dropped without having run.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled; `change` has not run.
    ///
    /// # Panics
    ///
    /// If `change` does; the value is suspect then (see the type).
    #[track_caller]
    pub fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> impl Future<Output = Result<R, Cancelled>> {
        self.wait(Location::caller(), true, |mut guard| change(&mut guard))
    }

    /// Takes the lock if it is free and nobody is in line for it.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let who = Who::here(Location::caller(), false);
        match self.core.try_enter(LOCK, who, self.lies_at())? {
            Ok((key, value)) => Some(MutexGuard::new(&self.core, key, value)),
            Err(_) => None,
        }
    }

    /// Takes the value out of the lock.
    ///
    /// # Panics
    ///
    /// If a guard was forgotten ([`std::mem::forget`]): the value is gone with it.
    #[must_use]
    pub fn into_inner(self) -> T {
        match self.core.with(|state, _| state.rule.content.0.take()) {
            Some(value) => *value,
            None => {
                panic!("the guard of mutex `{}` was forgotten, and its value with it", self.core.site.name)
            }
        }
    }

    /// Returns whether a holder panicked, and nobody has cleared the suspicion since.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.core.with(|state, _| state.rule.suspect)
    }

    /// Returns who holds it, who waits, and how often somebody had to.
    #[must_use]
    pub fn stats(&self) -> ResourceInfo {
        self.core.facts().into()
    }

    fn wait<'a, R>(
        &'a self,
        at: &'static Location<'static>,
        branded: bool,
        then: impl FnOnce(MutexGuard<'a, T>) -> R,
    ) -> impl Future<Output = Result<R, Cancelled>> {
        Waiting::new(&self.core, LOCK, at, branded, self.lies_at()).then(|passed| match passed {
            Ok((key, value)) => Ok(then(MutexGuard::new(&self.core, key, value))),
            Err(Stopped::Cancelled(cancelled)) => Err(cancelled),
            Err(Stopped::Refused(_)) => {
                unreachable!("nobody closes a mutex or asks it for more than there is")
            }
        })
    }

    fn lies_at(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<T: Send + 'static> Drop for Mutex<T> {
    fn drop(&mut self) {
        // Here, and not wherever the last reference goes: that may be in somebody who looks on.
        let value = self.core.with(|state, _| state.rule.content.0.take());
        drop(value);
    }
}

impl<T: Send + fmt::Debug + 'static> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("name", &self.core.site.name).finish_non_exhaustive()
    }
}

/// The value of a [`Mutex`], and the lock on it until this is dropped.
#[must_use = "the lock is released when this is dropped"]
pub struct MutexGuard<'a, T: Send + 'static> {
    core: &'a Core<Permits<Inside<T>>>,
    key: Key,
    /// Absent only while this is dropped.
    value: Option<Box<T>>,
    /// Taken by a destructor, in the course of somebody else's panic.
    amid_panic: bool,
}

impl<'a, T: Send + 'static> MutexGuard<'a, T> {
    fn new(core: &'a Core<Permits<Inside<T>>>, key: Key, value: Option<Box<T>>) -> Self {
        Self { core, key, value, amid_panic: std::thread::panicking() }
    }

    /// Returns whether an earlier holder panicked, and nobody has cleared the suspicion since.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.core.with(|state, _| state.rule.suspect)
    }

    /// Says that the value is in order again.
    pub fn clear_suspect(&mut self) {
        self.core.with(|state, _| state.rule.suspect = false);
    }
}

const HELD: &str = "a guard has the value until it is dropped";

impl<T: Send + 'static> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect(HELD)
    }
}

impl<T: Send + 'static> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect(HELD)
    }
}

impl<T: Send + 'static> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        let value = self.value.take();
        let panicked = std::thread::panicking() && !self.amid_panic;
        self.core.release(self.key, panicked, |inside| inside.0 = value);
    }
}

impl<T: Send + fmt::Debug + 'static> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
