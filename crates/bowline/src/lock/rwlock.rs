//! A lock around a value that many may read or one may change.

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

/// A lock around a value that many tasks may read or one may change, first come first served.
///
/// The line is one line: a reader that comes after a waiting writer waits behind it, so a stream of readers does not starve
/// writers. The other side of that: **do not read again while you read.** A task that holds a read guard and asks for a second
/// waits behind the writer, which waits for the first guard: both wait for ever. [`with_read`](Self::with_read) cannot
/// do it across an await; a callee that needs the value takes `&T`. Such a wait ends when its context is cancelled, and
/// [`contended`](crate::contended) shows the task among the waiters and the holders.
///
/// There is no upgrade from a read guard to a write guard: two tasks that try it wait for each other. Release, take the
/// write lock, and look again.
///
/// What is said at [`Mutex`](crate::Mutex) of handing over and of a holder that panics holds here; a panic of a reader
/// leaves no suspicion.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Cancelled, RwLock};
///
/// let prices = RwLock::new("prices", vec![3, 4]);
/// prices.with_write(|p| p.push(5)).await?;
/// assert_eq!(prices.with_read(|p| p.iter().sum::<u32>()).await?, 12);
/// # Ok::<_, Cancelled>(())
/// # }).unwrap();
/// ```
pub struct RwLock<T: Send + Sync + 'static> {
    core: Arc<Core<Permits<Inside<T>>>>,
}

/// As many as there can be readers; a writer takes all.
const ALL: usize = u32::MAX as usize;

const READ: Ask = Ask { op: Op::Read, need: 1, calls: 0 };
const WRITE: Ask = Ask { op: Op::Write, need: ALL, calls: 0 };

/// The value while no writer has it. Readers get a reference to it, the writer the one that is left.
struct Inside<T>(Option<Arc<T>>);

impl<T: Send + Sync + 'static> Content for Inside<T> {
    type Out = Option<Arc<T>>;
    const KIND: ResourceKind = ResourceKind::RwLock;

    fn take(&mut self, permits: usize) -> Option<Arc<T>> {
        if permits == ALL { self.0.take() } else { self.0.clone() }
    }
}

impl<T: Send + Sync + 'static> RwLock<T> {
    /// Makes a lock around `value`, known by `name` wherever somebody waits for it.
    #[must_use]
    #[track_caller]
    pub fn new(name: &'static str, value: T) -> Self {
        let rule = Permits::new(ALL, Inside(Some(Arc::new(value))));
        Self { core: Core::new(name, Location::caller(), rule) }
    }

    /// Waits for a read lock and holds it until the guard is dropped. Others may read meanwhile; see the type for why not
    /// to read again.
    ///
    /// # Cancel safety
    ///
    /// The place in line is taken at the first poll. If the future is dropped, the place is given up, and a lock granted to
    /// it is released.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled, also if the lock is free.
    #[track_caller]
    pub fn read(&self) -> impl Future<Output = Result<ReadGuard<'_, T>, Cancelled>> {
        self.wait_read(Location::caller(), false, |guard| guard)
    }

    /// As [`read`](Self::read), with a guard that cannot leave the task of `cx`: its holder is known.
    ///
    /// # Cancel safety
    ///
    /// As [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn read_in<'t>(&'t self, _cx: &'t Cx) -> impl Future<Output = Result<ReadGuard<'t, T>, Cancelled>> {
        self.wait_read(Location::caller(), true, |guard| guard)
    }

    /// Waits for a read lock and runs `look` with it; nothing can be held across an await.
    ///
    /// # Cancel safety
    ///
    /// As [`read`](Self::read) until the lock is granted; `look` then runs to its end in one piece.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled; `look` has not run.
    ///
    /// # Panics
    ///
    /// If `look` does.
    #[track_caller]
    pub fn with_read<R>(&self, look: impl FnOnce(&T) -> R) -> impl Future<Output = Result<R, Cancelled>> {
        self.wait_read(Location::caller(), true, |guard| look(&guard))
    }

    /// Takes a read lock if no writer has the lock and nobody is in line for it.
    #[track_caller]
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        let who = Who::here(Location::caller(), false);
        let (key, value) = self.core.try_enter(READ, who, self.lies_at())?.ok()?;
        Some(ReadGuard { core: &self.core, key, value })
    }

    /// Waits for the write lock and holds it until the guard is dropped.
    ///
    /// # Cancel safety
    ///
    /// As [`read`](Self::read): readers that waited behind a writer that gives up go on at once.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled, also if the lock is free.
    #[track_caller]
    pub fn write(&self) -> impl Future<Output = Result<WriteGuard<'_, T>, Cancelled>> {
        self.wait_write(Location::caller(), false, |guard| guard)
    }

    /// As [`write`](Self::write), with a guard that cannot leave the task of `cx`: its holder is known.
    ///
    /// # Cancel safety
    ///
    /// As [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn write_in<'t>(&'t self, _cx: &'t Cx) -> impl Future<Output = Result<WriteGuard<'t, T>, Cancelled>> {
        self.wait_write(Location::caller(), true, |guard| guard)
    }

    /// Waits for the write lock and runs `change` with it; nothing can be held across an await.
    ///
    /// # Cancel safety
    ///
    /// As [`write`](Self::write) until the lock is granted; `change` then runs to its end in one piece.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled; `change` has not run.
    ///
    /// # Panics
    ///
    /// If `change` does; the value is suspect then.
    #[track_caller]
    pub fn with_write<R>(
        &self,
        change: impl FnOnce(&mut T) -> R,
    ) -> impl Future<Output = Result<R, Cancelled>> {
        self.wait_write(Location::caller(), true, |mut guard| change(&mut guard))
    }

    /// Takes the write lock if nobody has the lock or is in line for it.
    #[track_caller]
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        let who = Who::here(Location::caller(), false);
        let (key, value) = self.core.try_enter(WRITE, who, self.lies_at())?.ok()?;
        Some(WriteGuard::new(&self.core, key, value))
    }

    /// Takes the value out of the lock.
    ///
    /// # Panics
    ///
    /// If a guard was forgotten ([`std::mem::forget`]): the value is gone with it.
    #[must_use]
    pub fn into_inner(self) -> T {
        let value = self.core.with(|state, _| state.rule.content.0.take());
        match value.and_then(Arc::into_inner) {
            Some(value) => value,
            None => panic!("a guard of lock `{}` was forgotten, and its value with it", self.core.site.name),
        }
    }

    /// Returns whether a writer panicked, and nobody has cleared the suspicion since.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.core.with(|state, _| state.rule.suspect)
    }

    /// Returns who holds it, who waits, and how often somebody had to.
    #[must_use]
    pub fn stats(&self) -> ResourceInfo {
        self.core.facts().into()
    }

    fn wait_read<'a, R>(
        &'a self,
        at: &'static Location<'static>,
        branded: bool,
        then: impl FnOnce(ReadGuard<'a, T>) -> R,
    ) -> impl Future<Output = Result<R, Cancelled>> {
        Waiting::new(&self.core, READ, at, branded, self.lies_at()).then(|passed| {
            let (key, value) = passed.map_err(cancelled)?;
            Ok(then(ReadGuard { core: &self.core, key, value }))
        })
    }

    fn wait_write<'a, R>(
        &'a self,
        at: &'static Location<'static>,
        branded: bool,
        then: impl FnOnce(WriteGuard<'a, T>) -> R,
    ) -> impl Future<Output = Result<R, Cancelled>> {
        Waiting::new(&self.core, WRITE, at, branded, self.lies_at()).then(|passed| {
            let (key, value) = passed.map_err(cancelled)?;
            Ok(then(WriteGuard::new(&self.core, key, value)))
        })
    }

    fn lies_at(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

fn cancelled<R>(stopped: Stopped<R>) -> Cancelled {
    match stopped {
        Stopped::Cancelled(cancelled) => cancelled,
        Stopped::Refused(_) => unreachable!("nobody closes a lock or asks it for more than there is"),
    }
}

impl<T: Send + Sync + 'static> Drop for RwLock<T> {
    fn drop(&mut self) {
        // Here, and not wherever the last reference goes: that may be in somebody who looks on.
        let value = self.core.with(|state, _| state.rule.content.0.take());
        drop(value);
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("name", &self.core.site.name).finish_non_exhaustive()
    }
}

const HELD: &str = "a guard has the value until it is dropped";

/// Shared access to the value of an [`RwLock`] until this is dropped.
#[must_use = "the lock is released when this is dropped"]
pub struct ReadGuard<'a, T: Send + Sync + 'static> {
    core: &'a Core<Permits<Inside<T>>>,
    key: Key,
    /// Absent only while this is dropped.
    value: Option<Arc<T>>,
}

impl<T: Send + Sync + 'static> ReadGuard<'_, T> {
    /// Returns whether an earlier writer panicked, and nobody has cleared the suspicion since.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.core.with(|state, _| state.rule.suspect)
    }
}

impl<T: Send + Sync + 'static> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect(HELD)
    }
}

impl<T: Send + Sync + 'static> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // First: the writer that comes next must have the only reference. It is not the last, the lock has one.
        self.value = None;
        self.core.release(self.key, false, |_| {});
    }
}

impl<T: Send + Sync + fmt::Debug + 'static> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Exclusive access to the value of an [`RwLock`] until this is dropped.
#[must_use = "the lock is released when this is dropped"]
pub struct WriteGuard<'a, T: Send + Sync + 'static> {
    core: &'a Core<Permits<Inside<T>>>,
    key: Key,
    /// Absent only while this is dropped.
    value: Option<Arc<T>>,
    /// Taken by a destructor, in the course of somebody else's panic.
    amid_panic: bool,
}

impl<'a, T: Send + Sync + 'static> WriteGuard<'a, T> {
    fn new(core: &'a Core<Permits<Inside<T>>>, key: Key, value: Option<Arc<T>>) -> Self {
        Self { core, key, value, amid_panic: std::thread::panicking() }
    }

    /// Returns whether an earlier writer panicked, and nobody has cleared the suspicion since.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.core.with(|state, _| state.rule.suspect)
    }

    /// Says that the value is in order again.
    pub fn clear_suspect(&mut self) {
        self.core.with(|state, _| state.rule.suspect = false);
    }
}

impl<T: Send + Sync + 'static> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect(HELD)
    }
}

impl<T: Send + Sync + 'static> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().and_then(Arc::get_mut).expect("readers gave theirs back before the writer got it")
    }
}

impl<T: Send + Sync + 'static> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        let value = self.value.take();
        let panicked = std::thread::panicking() && !self.amid_panic;
        self.core.release(self.key, panicked, |inside| inside.0 = value);
    }
}

impl<T: Send + Sync + fmt::Debug + 'static> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
