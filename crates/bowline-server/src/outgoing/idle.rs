//! Connections to one server that wait for the next request.
//!
//! The pool owns them while they are idle and nobody else does: they are not polled, so they cost a socket each. Whoever
//! takes one owns it until its answer is read, and gives it back or drops it. Those that were idle for too long are dropped by
//! the next that takes or gives back, or by [`Idle::sweep`]; the others with the pool.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

use super::connection::Connection;

/// Connections that are kept at most: as many as a burst of questions is likely to need again.
const MAX_IDLE: usize = 64;

/// How old a connection may become: then the name is looked up anew.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The idle connections to one server.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Vec<Kept>>);

struct Kept {
    connection: Connection,
    made_at: Instant,
    until: Instant,
}

impl Idle {
    /// Takes the connection that was used last, with the time it was made.
    pub(super) fn take(&self) -> Option<(Connection, Instant)> {
        loop {
            let mut kept = {
                let mut all = self.lock();
                all.pop()?
            };
            // Outside of the lock: this looks at the socket.
            if Instant::now() < kept.until && kept.connection.is_open() {
                return Some((kept.connection, kept.made_at));
            }
        }
    }

    /// Takes a connection back that may lie idle for `time`.
    pub(super) fn put(&self, connection: Connection, made_at: Instant, time: Duration) {
        let now = Instant::now();
        if now >= made_at + MAX_AGE {
            return;
        }
        let kept = Kept { connection, made_at, until: now + time };
        let mut all = self.lock();
        if all.len() < MAX_IDLE {
            return all.push(kept);
        }
        drop(all); // before the connection
    }

    /// Closes those that were idle for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut all = self.lock();
        let (kept, late) = mem::take(&mut *all).into_iter().partition(|kept| now < kept.until);
        *all = kept;
        drop(all); // before those that are late
        drop::<Vec<Kept>>(late);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        // Nothing under the lock can stop half-way, so a poisoned list is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
