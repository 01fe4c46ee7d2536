//! Objects shared by several tasks, with their holders known.
//!
//! An object says in its [`Sharing`] where it lies in memory. What lies within that cannot move and is reached through the
//! object alone, so whoever holds the object is who can use the lock in it.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::books::Books;
use crate::carry::{Bind, Carry, Cx};
use crate::holders::{FREE, Holders, IN_TRANSIT};
use crate::site::Site;
use crate::sync::{Arc, LockExt, Mutex};

/// The objects that tasks share.
static OBJECTS: Books<Sharing> = Books::new();

/// Returns the books of all shared objects.
pub(crate) fn objects() -> Vec<std::sync::Arc<Sharing>> {
    OBJECTS.all()
}

/// The books of a shared object: who holds it, and where it lies. To keep them does not keep the object.
pub(crate) struct Sharing {
    site: &'static Site,
    holders: Mutex<Holders>,
    /// Its address; 0 from before its drop on.
    lies_at: AtomicUsize,
    bytes: usize,
}

impl Sharing {
    /// Where it lies, as a first address and a length; `None` if it is gone. The same answer twice: it was there in between.
    pub(crate) fn span(&self) -> Option<(usize, usize)> {
        // Acquire: pairs with the Release of the drop. Whatever has come to lie at the address since was put there after that.
        Some(self.lies_at.load(Ordering::Acquire)).filter(|at| *at != 0).map(|at| (at, self.bytes))
    }

    /// Who holds it, and how often; the places of the module `holders` too.
    pub(crate) fn places(&self) -> Vec<(u64, u32)> {
        self.holders.lock_unpoisoned().places()
    }
}

struct Object<S> {
    books: std::sync::Arc<Sharing>,
    value: S,
}

impl<S> Object<S> {
    fn new(site: &'static Site, holders: Holders, value: S) -> Arc<Self> {
        let holders = Mutex::new(holders);
        let books = Sharing { site, holders, lies_at: AtomicUsize::new(0), bytes: size_of::<S>() };
        let object = Arc::new(Self { books: std::sync::Arc::new(books), value });
        // Release: as in the drop.
        object.books.lies_at.store(std::ptr::from_ref(&object.value).addr(), Ordering::Release);
        OBJECTS.list(&object.books);
        object
    }
}

impl<S> Drop for Object<S> {
    fn drop(&mut self) {
        // Before anything else can lie there. Release: pairs with the Acquire in `span`.
        self.books.lies_at.store(0, Ordering::Release);
    }
}

/// One handle and the place it is booked at; the books change before the handle does.
struct Ref<S> {
    object: Arc<Object<S>>,
    place: u64,
}

impl<S> Ref<S> {
    fn moved_to(mut self, place: u64) -> Self {
        self.object.books.holders.lock_unpoisoned().move_to(self.place, place);
        self.place = place;
        self
    }
}

impl<S> Clone for Ref<S> {
    fn clone(&self) -> Self {
        self.object.books.holders.lock_unpoisoned().add(self.place);
        Self { object: Arc::clone(&self.object), place: self.place }
    }
}

impl<S> Drop for Ref<S> {
    fn drop(&mut self) {
        self.object.books.holders.lock_unpoisoned().remove(self.place);
    }
}

/// A shared object held by a task. Derefs to the object; clone it for this task, hand clones to others with
/// [`spawn_with`](crate::Scope::spawn_with).
pub struct Shared<'t, S> {
    object: Ref<S>,
    cx: &'t Cx,
}

impl<'t, S> Shared<'t, S> {
    pub(crate) fn new(cx: &'t Cx, site: &'static Site, value: S) -> Self {
        let place = cx.task_id();
        let mut holders = Holders::default();
        holders.add(place);
        Self { object: Ref { object: Object::new(site, holders, value), place }, cx }
    }

    /// Leaves the tracked world: the result may be kept and sent anywhere, and its holder counts as unknown.
    #[must_use]
    pub fn free(self) -> FreeShared<S> {
        FreeShared { object: self.object.moved_to(FREE) }
    }

    /// Returns the ids of the tasks that hold it and how often; handles whose holder is unknown are left out.
    #[must_use]
    pub fn holders(&self) -> Vec<(u64, u32)> {
        let mut places = self.object.object.books.places();
        places.retain(|(place, _)| *place < IN_TRANSIT);
        places
    }

    /// Returns the name given at its creation.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.object.object.books.site.name
    }
}

impl<S> Clone for Shared<'_, S> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), cx: self.cx }
    }
}

impl<S> Deref for Shared<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.object.object.value
    }
}

impl<S: fmt::Debug> fmt::Debug for Shared<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A [`Shared`] object whose holder is not known to the toolkit.
pub struct FreeShared<S> {
    object: Ref<S>,
}

impl<S> Clone for FreeShared<S> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone() }
    }
}

impl<S> Deref for FreeShared<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.object.object.value
    }
}

impl<S: fmt::Debug> fmt::Debug for FreeShared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<S: Send + Sync + 'static> Carry for Shared<'_, S> {
    type Packed = FreeShared<S>;

    fn pack(self) -> FreeShared<S> {
        FreeShared { object: self.object.moved_to(IN_TRANSIT) }
    }
}

impl<S: Send + Sync + 'static> Bind for FreeShared<S> {
    type In<'c> = Shared<'c, S>;

    fn bind(self, cx: &Cx) -> Shared<'_, S> {
        Shared { object: self.object.moved_to(cx.task_id()), cx }
    }
}

impl<S: Send + Sync + 'static> Carry for FreeShared<S> {
    type Packed = FreeShared<S>;

    fn pack(self) -> FreeShared<S> {
        FreeShared { object: self.object.moved_to(IN_TRANSIT) }
    }
}
