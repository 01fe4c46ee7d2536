//! How a record is woken: by the bell of its task, by one of its own if it is polled elsewhere, and leaf by leaf where a combinator
//! polls with wakers of its own.

use std::task::Waker;

use futures_task::waker;

use super::{AT_HOME, BELL, IN_DOUBT, Kind, RUNG, Record};
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Arc, LockExt};
use crate::waker::Bell;

impl Record {
    /// The first poll of a task was pending: how to wake it from here on.
    pub(crate) fn hang_bell(&self, bell: Arc<Bell>, task: &Waker) {
        bell.hang(task);
        let was_rung = {
            let mut inside = self.inside.lock_unpoisoned();
            let was_rung = self.has(RUNG);
            self.change_has(BELL, RUNG);
            inside.bell = Some(bell);
            was_rung
        };
        if was_rung {
            self.wake(); // the one who could not do it is gone
        }
    }

    /// A strand is pending that is woken with its task.
    pub(crate) fn remember_nobody(&self) {
        if !self.has(AT_HOME) {
            let stale = {
                let mut inside = self.inside.lock_unpoisoned();
                let in_doubt = self.has(IN_DOUBT);
                self.change_has(AT_HOME, BELL | IN_DOUBT);
                inside.bell.take().map(|stale| (stale, in_doubt))
            };
            self.keep_if_in_doubt(stale);
        }
    }

    /// A strand is pending that is polled by somebody else than its task: how to wake it.
    pub(crate) fn remember_waker(&self, waker: &Waker) {
        let stale = {
            let mut inside = self.inside.lock_unpoisoned();
            let in_doubt = self.has(IN_DOUBT);
            self.change_has(BELL, IN_DOUBT | AT_HOME);
            match &inside.bell {
                Some(known) if known.tells(waker) => return,
                _ => inside.bell.replace(Bell::of(waker.clone())).map(|stale| (stale, in_doubt)),
            }
        };
        self.keep_if_in_doubt(stale);
    }

    /// In the first poll a leaf may have put a combinator's waker down as the strand's (see `remember_leaf`): keep it too.
    fn keep_if_in_doubt(&self, stale: Option<(Arc<Bell>, bool)>) {
        if let Some((stale, true)) = stale {
            self.list_leaf(waker(stale));
        }
    }

    /// Puts down the waker of a parking leaf, which is not the task's own. Returns a key if it has a list entry of its own, to be
    /// taken back later.
    pub(crate) fn remember_leaf(&self, waker: &Waker) -> Option<u64> {
        if self.kind == Kind::Strand {
            let mut inside = self.inside.lock_unpoisoned();
            match &inside.bell {
                Some(known) if known.tells(waker) => return None,
                Some(_) => {}
                None if self.has(AT_HOME) => {}
                // First poll: most probably this is the strand's waker. If not, that is mended when the poll ends.
                None => {
                    inside.bell = Some(Bell::of(waker.clone()));
                    self.change_has(BELL | IN_DOUBT, 0);
                    return None;
                }
            }
        }
        Some(self.list_leaf(waker.clone()))
    }

    fn list_leaf(&self, waker: Waker) -> u64 {
        self.with_extra(|extra| {
            let key = extra.next_leaf;
            extra.next_leaf += 1;
            extra.leaves.push_back((key, waker));
            key
        })
    }

    /// The leaf is polled again, perhaps with another waker: it may have moved from one combinator to another.
    pub(crate) fn renew_leaf(&self, key: u64, waker: &Waker) {
        let stale = self.look_extra(|extra| {
            let at = extra.leaves.binary_search_by_key(&key, |(known, _)| *known).ok()?;
            let known = &mut extra.leaves[at].1;
            (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()))
        });
        drop(stale); // outside the lock, as below
    }

    pub(crate) fn forget_leaf(&self, key: u64) {
        let forgotten = self.look_extra(|extra| {
            let at = extra.leaves.binary_search_by_key(&key, |(known, _)| *known).ok()?;
            extra.leaves.remove(at)
        });
        drop(forgotten); // outside the lock: a foreign waker's drop is user code
    }

    /// Wakes the task and every leaf that listens with a waker of its own.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `track`: either we see the waker, or the task sees the flag that was raised before this call.
        fence(Ordering::SeqCst);
        let (bell, leaves, followers) = {
            let inside = self.inside.lock_unpoisoned();
            if inside.bell.is_none() {
                self.change_has(RUNG, 0);
            }
            let extra = inside.extra.as_ref();
            let followers = extra.and_then(|extra| extra.followed.as_ref());
            let followers = followers.map(|followed| Arc::clone(followed.followers()));
            let leaves: Option<Vec<_>> =
                extra.map(|extra| extra.leaves.iter().map(|(_, waker)| waker.clone()).collect());
            (inside.bell.clone(), leaves.unwrap_or_default(), followers)
        };
        if let Some(followers) = followers.filter(|_| self.is_cancelled()) {
            followers.raise(|| self.cancelled());
        }
        match bell {
            Some(bell) => bell.ring(),
            None if self.kind == Kind::Strand => self.wake_task(),
            None => {}
        }
        leaves.into_iter().for_each(Waker::wake);
    }

    /// Wakes the task this strand is polled by.
    fn wake_task(&self) {
        let Some(task) = self.task() else { return };
        let bell = {
            let inside = task.inside.lock_unpoisoned();
            if inside.bell.is_none() {
                task.change_has(RUNG, 0);
            }
            inside.bell.clone()
        };
        if let Some(bell) = bell {
            bell.ring();
        }
    }
}
