//! Permits that tasks hold: how much of something is going on at once.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use super::core::{Ask, Core, Waiting};
use super::error::{AcquireError, TryAcquireError};
use super::line::Key;
use super::permits::{Content, Permits, Refusal};
use crate::carry::{Bind, Carry, Cx};
use crate::holders::{FREE, IN_TRANSIT};
use crate::resource::{Resource, ResourceInfo, ResourceKind, ResourceState, Who};
use crate::sync::Arc;
use crate::wait::Op;

/// A number of permits, handed out first come first served, in amounts.
///
/// Admission *is* the permit: there is no count to check first and raise afterwards, so it never admits more than it has, and
/// a permit that is dropped - by an error, a cancel, a panic - is given back. Nobody overtakes: a large request waits at the
/// head of the line until enough is free, and smaller ones wait behind it.
///
/// Take permits in one piece. A task that holds some and asks for more may wait for itself, or for another that does the
/// same.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{AcquireError, Semaphore};
///
/// let megabytes = Semaphore::new("upload memory, MiB", 64);
/// let room = megabytes.acquire(48).await?;
/// assert!(megabytes.try_acquire(32).is_err());
/// drop(room);
/// assert!(megabytes.try_acquire(32).is_ok());
/// # Ok::<_, AcquireError>(())
/// # }).unwrap();
/// ```
pub struct Semaphore {
    core: Arc<Core<Permits<Nothing>>>,
}

/// Nothing lies behind the permits.
struct Nothing;

impl Content for Nothing {
    type Out = ();
    const KIND: ResourceKind = ResourceKind::Semaphore;

    fn take(&mut self, _permits: usize) {}
}

const fn acquire(permits: usize) -> Ask {
    Ask { op: Op::Acquire, need: permits, calls: 0 }
}

impl Semaphore {
    /// Makes a semaphore of that many permits, known by `name` wherever somebody waits for it.
    ///
    /// # Panics
    ///
    /// If `permits` is 0: it does not mean "unlimited", and nobody would ever pass. To fill one later, say
    /// [`empty`](Self::empty); for no limit, use no semaphore.
    #[must_use]
    #[track_caller]
    pub fn new(name: &'static str, permits: usize) -> Self {
        assert!(
            permits > 0,
            "a semaphore without permits lets nobody pass: say `Semaphore::empty` to fill it later"
        );
        Self::at(name, Location::caller(), permits)
    }

    /// As `new`, for a part that was made at `place`.
    pub(crate) fn at(name: &'static str, place: &'static Location<'static>, permits: usize) -> Self {
        Self { core: Core::new(name, place, Permits::new(permits, Nothing)) }
    }

    /// Makes a semaphore without permits, to be filled by [`add_permits`](Self::add_permits). Since more may come, no request
    /// is too large for it.
    #[must_use]
    #[track_caller]
    pub fn empty(name: &'static str) -> Self {
        let mut rule = Permits::new(0, Nothing);
        rule.grows = true;
        Self { core: Core::new(name, Location::caller(), rule) }
    }

    /// Lets at most `max_waiting` wait; who comes when so many wait is refused at once with [`AcquireError::RoomFull`].
    #[must_use]
    pub fn with_waiting_room(self, max_waiting: usize) -> Self {
        self.core.with(|state, _| state.rule.max_waiting = max_waiting);
        self
    }

    /// Waits for `permits` permits, all at once, and holds them until the result is dropped.
    ///
    /// Asking for 0 waits for nobody and holds nothing.
    ///
    /// # Cancel safety
    ///
    /// The place in line is taken at the first poll. If the future is dropped, the place is given up, and permits granted to
    /// it go to the next.
    ///
    /// # Errors
    ///
    /// [`AcquireError`]; each variant says whether trying again can help. A request that can never be met fails at once.
    #[track_caller]
    pub fn acquire(&self, permits: usize) -> impl Future<Output = Result<SemaphorePermit<'_>, AcquireError>> {
        self.wait(permits, Location::caller(), false)
    }

    /// As [`acquire`](Self::acquire), with a permit that cannot leave the task of `cx`: its holder is known.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    #[track_caller]
    pub fn acquire_in<'t>(
        &'t self,
        _cx: &'t Cx,
        permits: usize,
    ) -> impl Future<Output = Result<SemaphorePermit<'t>, AcquireError>> {
        self.wait(permits, Location::caller(), true)
    }

    /// As [`acquire`](Self::acquire), with a permit that does not borrow the semaphore and can be handed to a task with
    /// [`spawn_with`](crate::Scope::spawn_with): wait for admission first, then spawn the work with its permit.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{AcquireError, Cancelled, Semaphore, scope};
    ///
    /// let slots = Semaphore::new("slots", 2);
    /// scope("requests", async |s| {
    ///     for request in 0..10 {
    ///         let slot = slots.acquire_owned(s.cx(), 1).await?; // at most two are running
    ///         s.spawn_with("request", slot, async move |_cx, _slot| {
    ///             println!("{request}");
    ///             Ok(())
    ///         });
    ///     }
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn acquire_owned<'t>(
        &self,
        cx: &'t Cx,
        permits: usize,
    ) -> impl Future<Output = Result<OwnedPermit<'t>, AcquireError>> + use<'_, 't> {
        Waiting::new(&self.core, acquire(permits), Location::caller(), true, self.lies_at()).then(
            move |passed| {
                let (key, ()) = passed.map_err(|stopped| AcquireError::new(stopped, permits))?;
                Ok(OwnedPermit { held: Held { core: Arc::clone(&self.core), key, permits }, cx })
            },
        )
    }

    /// Takes `permits` permits if so many are free and nobody is in line.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`]; only [`TryAcquireError::Busy`] can be better later.
    #[track_caller]
    pub fn try_acquire(&self, permits: usize) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        let who = Who::here(Location::caller(), false);
        match self.core.try_enter(acquire(permits), who, self.lies_at()) {
            Some(Ok((key, ()))) => Ok(SemaphorePermit { core: &self.core, key, permits }),
            None | Some(Err(Refusal::RoomFull { .. })) => Err(TryAcquireError::Busy),
            Some(Err(Refusal::Closed(reason))) => Err(TryAcquireError::Closed { reason }),
            Some(Err(Refusal::TooLarge { total })) => {
                Err(TryAcquireError::TooLarge { asked: permits, total })
            }
        }
    }

    /// Adds permits. Those in line get them, first come first served.
    ///
    /// # Panics
    ///
    /// If there would be more than [`usize::MAX`].
    pub fn add_permits(&self, permits: usize) {
        self.core.with(|state, wakes| {
            let rule = &mut state.rule;
            rule.total = rule.total.checked_add(permits).expect("a semaphore counts up to usize::MAX");
            rule.give(permits);
            rule.grant(&mut state.line, wakes);
        });
    }

    /// Lets nobody pass from here on: waits end with [`AcquireError::Closed`] and this reason. Permits in hand stay valid.
    ///
    /// The first reason stands.
    pub fn close(&self, reason: &'static str) {
        self.core.with(|state, wakes| {
            state.rule.closed.get_or_insert(reason);
            wakes.add_all(state.line.call_all());
        });
    }

    /// Returns the number of permits that nobody holds. By the time you read it, it may be another: to be admitted, take a
    /// permit.
    #[must_use]
    pub fn free_permits(&self) -> usize {
        self.core.with(|state, _| state.rule.free)
    }

    /// Returns who holds permits, who waits, and how often somebody had to.
    #[must_use]
    pub fn stats(&self) -> ResourceInfo {
        self.core.facts().into()
    }

    /// As [`acquire`](Self::acquire), for parts of the crate whose permits lie in things of their own.
    pub(crate) fn acquire_free(
        &self,
        permits: usize,
        at: &'static Location<'static>,
    ) -> impl Future<Output = Result<FreePermit, AcquireError>> + use<'_> {
        Waiting::new(&self.core, acquire(permits), at, false, self.lies_at()).then(move |passed| {
            let (key, ()) = passed.map_err(|stopped| AcquireError::new(stopped, permits))?;
            Ok(FreePermit { held: Held { core: Arc::clone(&self.core), key, permits } })
        })
    }

    /// Lets at most `max_waiting` wait from here on; who waits already may stay.
    pub(crate) fn set_waiting_room(&self, max_waiting: usize) {
        self.core.with(|state, _| state.rule.max_waiting = max_waiting);
    }

    /// Makes it as many permits in all as `total` says, which is asked under the lock: of several that change it, the
    /// last one to ask decides. Permits in hand stay valid.
    pub(crate) fn resize(&self, total: impl FnOnce() -> usize) {
        self.core.with(|state, wakes| {
            state.rule.resize(total());
            state.rule.grant(&mut state.line, wakes);
        });
    }

    /// Returns how many permits there are in all, are in hand, and are waited for.
    pub(crate) fn books(&self) -> (usize, usize, usize) {
        self.core.with(|state, _| {
            let Permits { total, free, owed, .. } = state.rule;
            (total, total + owed - free, state.line.waiting())
        })
    }

    /// Returns who has held permits for longest, without the copies that [`stats`](Self::stats) makes.
    pub(crate) fn oldest(&self) -> Option<Who> {
        self.core.with(|state, _| state.line.oldest())
    }

    fn wait(
        &self,
        permits: usize,
        at: &'static Location<'static>,
        branded: bool,
    ) -> impl Future<Output = Result<SemaphorePermit<'_>, AcquireError>> {
        Waiting::new(&self.core, acquire(permits), at, branded, self.lies_at()).then(move |passed| {
            let (key, ()) = passed.map_err(|stopped| AcquireError::new(stopped, permits))?;
            Ok(SemaphorePermit { core: &self.core, key, permits })
        })
    }

    /// Waits for permits that do not borrow the semaphore and stay booked to whoever took them, for parts of the crate that
    /// show their own holders.
    pub(crate) fn acquire_kept(
        &self,
        permits: usize,
        at: &'static Location<'static>,
    ) -> impl Future<Output = Result<KeptPermit, AcquireError>> + use<'_> {
        Waiting::new(&self.core, acquire(permits), at, false, self.lies_at()).then(move |passed| {
            let (key, ()) = passed.map_err(|stopped| AcquireError::new(stopped, permits))?;
            Ok(KeptPermit { _held: Held { core: Arc::clone(&self.core), key, permits } })
        })
    }

    /// As `acquire_kept`, if that is possible without waiting.
    pub(crate) fn try_acquire_kept(
        &self,
        permits: usize,
        at: &'static Location<'static>,
    ) -> Option<KeptPermit> {
        match self.core.try_enter(acquire(permits), Who::here(at, false), self.lies_at()) {
            Some(Ok((key, ()))) => {
                Some(KeptPermit { _held: Held { core: Arc::clone(&self.core), key, permits } })
            }
            None | Some(Err(_)) => None,
        }
    }

    fn lies_at(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state: ResourceState = self.core.facts().state;
        f.debug_struct("Semaphore").field("name", &self.core.site.name).field("state", &state).finish()
    }
}

fn release(core: &Core<Permits<Nothing>>, key: Key) {
    core.release(key, std::thread::panicking(), |_| {});
}

/// Takes permits out of circulation for good. Who now waits for more than there is learns it.
fn destroy(core: &Core<Permits<Nothing>>, key: Key) {
    core.with(|state, wakes| {
        let left = state.line.leave(key);
        state.rule.total -= left.need;
        wakes.add_all(state.line.call_all());
    });
}

/// Permits of a [`Semaphore`], given back when this is dropped.
#[must_use = "the permits are given back when this is dropped"]
pub struct SemaphorePermit<'a> {
    core: &'a Core<Permits<Nothing>>,
    key: Key,
    permits: usize,
}

impl SemaphorePermit<'_> {
    /// Returns how many permits it holds.
    #[must_use]
    pub fn permits(&self) -> usize {
        self.permits
    }

    /// Takes the permits out of circulation for good: the semaphore has so many fewer. Waits that can no longer be met end
    /// with [`AcquireError::TooLarge`].
    pub fn destroy(self) {
        destroy(self.core, self.key);
        std::mem::forget(self); // a reference and two numbers: nothing is leaked
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        release(self.core, self.key);
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit").field("permits", &self.permits).finish_non_exhaustive()
    }
}

/// Permits in a slot of the line, and the semaphore they go back to.
struct Held {
    core: Arc<Core<Permits<Nothing>>>,
    key: Key,
    permits: usize,
}

impl Held {
    /// The books change before the permit does.
    #[track_caller]
    fn moved_to(self, place: u64, branded: bool) -> Self {
        let mut who = Who::here(Location::caller(), branded);
        who.task = place;
        self.core.with(|state, _| state.line.hand_over(self.key, who));
        self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        release(&self.core, self.key);
    }
}

/// Permits that go back when this is dropped, wherever it lies; the books name who took them.
pub(crate) struct KeptPermit {
    _held: Held,
}

/// Permits of a [`Semaphore`] held by a task: they do not borrow the semaphore, and the holder is known.
///
/// Hand them to another task with [`spawn_with`](crate::Scope::spawn_with).
#[must_use = "the permits are given back when this is dropped"]
pub struct OwnedPermit<'t> {
    held: Held,
    cx: &'t Cx,
}

impl OwnedPermit<'_> {
    /// Returns how many permits it holds.
    #[must_use]
    pub fn permits(&self) -> usize {
        self.held.permits
    }

    /// Returns the id of the task that holds it.
    #[must_use]
    pub fn task_id(&self) -> u64 {
        self.cx.task_id()
    }

    /// Leaves the tracked world: the result may be kept and sent anywhere, and its holder counts as unknown.
    #[track_caller]
    pub fn free(self) -> FreePermit {
        FreePermit { held: self.held.moved_to(FREE, false) }
    }
}

impl fmt::Debug for OwnedPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedPermit").field("permits", &self.held.permits).finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`] that may be kept and sent anywhere. Their holder counts as unknown.
#[must_use = "the permits are given back when this is dropped"]
pub struct FreePermit {
    held: Held,
}

impl FreePermit {
    /// Returns how many permits it holds.
    #[must_use]
    pub fn permits(&self) -> usize {
        self.held.permits
    }
}

impl fmt::Debug for FreePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreePermit").field("permits", &self.held.permits).finish_non_exhaustive()
    }
}

impl Carry for OwnedPermit<'_> {
    type Packed = FreePermit;

    fn pack(self) -> FreePermit {
        FreePermit { held: self.held.moved_to(IN_TRANSIT, false) }
    }
}

impl Carry for FreePermit {
    type Packed = FreePermit;

    fn pack(self) -> FreePermit {
        FreePermit { held: self.held.moved_to(IN_TRANSIT, false) }
    }
}

impl Bind for FreePermit {
    type In<'c> = OwnedPermit<'c>;

    fn bind(self, cx: &Cx) -> OwnedPermit<'_> {
        OwnedPermit { held: self.held.moved_to(cx.task_id(), true), cx }
    }
}
