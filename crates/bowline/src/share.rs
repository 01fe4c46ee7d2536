//! Objects shared by several tasks, with their holders known.

use std::fmt;
use std::ops::Deref;

use crate::carry::{Bind, Carry, Cx};
use crate::holders::{FREE, Holders, IN_TRANSIT};
use crate::site::Site;
use crate::sync::{Arc, LockExt, Mutex};

struct Object<S> {
    site: &'static Site,
    holders: Mutex<Holders>,
    value: S,
}

/// One handle and the place it is booked at; the books change before the handle does.
struct Ref<S> {
    object: Arc<Object<S>>,
    place: u64,
}

impl<S> Ref<S> {
    fn moved_to(mut self, place: u64) -> Self {
        self.object.holders.lock_unpoisoned().move_to(self.place, place);
        self.place = place;
        self
    }
}

impl<S> Clone for Ref<S> {
    fn clone(&self) -> Self {
        self.object.holders.lock_unpoisoned().add(self.place);
        Self { object: Arc::clone(&self.object), place: self.place }
    }
}

impl<S> Drop for Ref<S> {
    fn drop(&mut self) {
        self.object.holders.lock_unpoisoned().remove(self.place);
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
        let object = Arc::new(Object { site, holders: Mutex::new(holders), value });
        Self { object: Ref { object, place }, cx }
    }

    /// Leaves the tracked world: the result may be kept and sent anywhere, and its holder counts as unknown.
    #[must_use]
    pub fn free(self) -> FreeShared<S> {
        FreeShared { object: self.object.moved_to(FREE) }
    }

    /// Returns the ids of the tasks that hold it and how often; handles whose holder is unknown are left out.
    #[must_use]
    pub fn holders(&self) -> Vec<(u64, u32)> {
        let mut places = self.object.object.holders.lock_unpoisoned().places();
        places.retain(|(place, _)| *place < IN_TRANSIT);
        places
    }

    /// Returns the name given at its creation.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.object.object.site.name
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
