//! Where and under which name something was spawned or made; interned for those that are few and carry a pointer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::Mutex;

use crate::sync::LockExt;

/// A name and a place in the source. There are as many as there are spawn lines in a program, so they live for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) place: &'static Location<'static>,
}

impl Site {
    /// Whether both are the same name at the same place, by address.
    pub(crate) fn is(&self, other: Site) -> bool {
        std::ptr::eq(self.place, other.place) && std::ptr::eq(self.name, other.name)
    }
}

/// Identity of a (name, place) pair: two addresses, since both are `'static`.
type Key = (usize, usize, usize);

const CACHED_SITES_PER_THREAD: usize = 64;

thread_local! {
    static CACHE: RefCell<[Option<(Key, &'static Site)>; CACHED_SITES_PER_THREAD]> =
        const { RefCell::new([None; CACHED_SITES_PER_THREAD]) };
}

/// Returns the one [`Site`] of this name and place.
pub(crate) fn intern(name: &'static str, place: &'static Location<'static>) -> &'static Site {
    let key = (std::ptr::from_ref(place).addr(), name.as_ptr().addr(), name.len());
    let slot = (key.0 >> 3 ^ key.1 >> 2) % CACHED_SITES_PER_THREAD;
    CACHE.with(|cache| {
        let mut cache = cache.borrow_mut();
        match cache[slot] {
            Some((cached, site)) if cached == key => site,
            _ => {
                let site = intern_slowly(key, name, place);
                cache[slot] = Some((key, site));
                site
            }
        }
    })
}

fn intern_slowly(key: Key, name: &'static str, place: &'static Location<'static>) -> &'static Site {
    static SITES: Mutex<Option<HashMap<Key, &'static Site>>> = Mutex::new(None);
    let mut sites = SITES.lock_unpoisoned();
    sites.get_or_insert_default().entry(key).or_insert_with(|| Box::leak(Box::new(Site { name, place })))
}
