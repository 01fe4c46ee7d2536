//! What outsiders look at, and are woken by, when a record is cancelled or ends.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::cause::{Cancelled, Cause};
use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::{Arc, LockExt, Mutex, OnceLock};

/// One per record that anybody follows.
#[derive(Default)]
pub(crate) struct Followers {
    raised: AtomicBool,
    /// Set before the word is raised. It stays when the record has gone.
    why: OnceLock<Cancelled>,
    wakers: Mutex<BTreeMap<u64, Waker>>,
    #[cfg(feature = "tokio-util")]
    token: OnceLock<tokio_util::sync::CancellationToken>,
}

impl std::fmt::Debug for Followers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followers").field("raised", &self.is_raised()).finish_non_exhaustive()
    }
}

impl Followers {
    pub(crate) fn is_raised(&self) -> bool {
        // Acquire: pairs with the Release in `raise`; whoever sees it finds the cause.
        self.raised.load(Ordering::Acquire)
    }

    /// Why it was raised.
    pub(crate) fn why(&self) -> Option<&Cancelled> {
        self.why.get().filter(|_| self.is_raised())
    }

    pub(crate) fn raise(&self, why: impl FnOnce() -> Cancelled) {
        if self.why.get().is_none() {
            let _ = self.why.set(why()); // the first cause wins; asked for outside of the cell, since it takes a lock
        }
        self.raised.store(true, Ordering::Release);
        fence(Ordering::SeqCst); // pairs with the fence in `listen` and `token`: they see the word, or we see them
        let wakers = std::mem::take(&mut *self.wakers.lock_unpoisoned());
        wakers.into_values().for_each(Waker::wake);
        #[cfg(feature = "tokio-util")]
        if let Some(token) = self.token.get() {
            token.cancel();
        }
    }

    /// Puts down whom to wake. The caller looks at the word afterwards.
    pub(crate) fn listen(&self, key: u64, waker: &Waker) {
        let waker = waker.clone();
        let stale = self.wakers.lock_unpoisoned().insert(key, waker);
        drop(stale); // outside the lock: a waker is foreign code
        fence(Ordering::SeqCst);
    }

    pub(crate) fn forget(&self, key: u64) {
        let forgotten = self.wakers.lock_unpoisoned().remove(&key);
        drop(forgotten);
    }

    /// A token that is cancelled when the word is raised.
    #[cfg(feature = "tokio-util")]
    pub(crate) fn token(&self) -> tokio_util::sync::CancellationToken {
        let token = self.token.get_or_init(tokio_util::sync::CancellationToken::new);
        fence(Ordering::SeqCst);
        if self.is_raised() {
            token.cancel();
        }
        token.child_token()
    }
}

/// The record's own end of it, dropped when the record's future has ended.
#[derive(Default)]
pub(crate) struct Followed {
    followers: Arc<Followers>,
}

impl Followed {
    pub(crate) fn followers(&self) -> &Arc<Followers> {
        &self.followers
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.followers.raise(|| Cancelled::new(Cause::ScopeClosed));
    }
}
