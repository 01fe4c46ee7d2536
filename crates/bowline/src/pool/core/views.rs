//! What can be seen of a pool from outside.

use std::panic::Location;

use super::super::stats::{Listed, PoolState, PoolStats};
use super::{Core, State};
use crate::resource::{Facts, HeldFact, Resource, ResourceKind, ResourceState, WaiterFact};
use crate::sync::LockExt;
use crate::wait::Op;

use tokio::time::Instant;

impl<J, R> State<J, R> {
    fn oldest_ms(&mut self) -> u64 {
        let Some(number) = self.queue.first_number() else { return 0 };
        u64::try_from(self.marks.age(number, Instant::now()).as_millis()).unwrap_or(u64::MAX)
    }

    fn running(&self) -> usize {
        self.workers.slots.iter().filter(|slot| slot.busy.is_some()).count() + self.books.in_place
    }
}

impl<J: Send + 'static, R: Send + 'static> Listed for Core<J, R> {
    fn stats(&self) -> PoolStats {
        let mut state = self.state.lock_unpoisoned();
        let state = &mut *state;
        let books = &state.books;
        let done = books.done;
        PoolStats {
            id: self.id,
            name: self.site.name,
            place: format!("{}:{}", self.site.place.file(), self.site.place.line()),
            state: state.phase,
            workers: state.workers.alive,
            idle: state.workers.idle.len(),
            resized: state.workers.resized,
            queued: state.waiting_jobs(),
            queued_bytes: state.bytes + state.held_bytes,
            max_jobs: self.terms.max_jobs,
            max_bytes: self.terms.max_bytes,
            high_water: books.high_water,
            overflow: self.terms.overflow,
            running: state.running(),
            accepted: books.accepted,
            refused: books.refused,
            dropped: books.dropped,
            completed: done.completed,
            failed: done.failed,
            panicked: done.panicked,
            timed_out: done.timed_out,
            cancelled: done.cancelled,
            waiting: state.line.len(),
            waits: books.waits,
            waited_ms: u64::try_from(books.waited.as_millis()).unwrap_or(u64::MAX),
            oldest_ms: state.oldest_ms(),
        }
    }

    fn place(&self) -> &'static Location<'static> {
        self.site.place
    }
}

/// For those who wait for room: who waits, and which workers are at a job, the end of which makes it.
impl<J: Send + 'static, R: Send + 'static> Resource for Core<J, R> {
    fn facts(&self) -> Facts {
        let state = self.state.lock_unpoisoned();
        let waiters = state.line.iter().map(|waiter| WaiterFact {
            who: waiter.who,
            op: Op::Submit.name(),
            need: 1,
            granted: waiter.waker.is_none(), // called: the pool is closed
        });
        let busy = state.workers.slots.iter().filter_map(|slot| slot.busy);
        let taken = state.waiting_jobs();
        Facts {
            id: self.id,
            kind: ResourceKind::Pool,
            site: self.site,
            state: match state.phase {
                PoolState::Open => ResourceState::Permits {
                    free: self.terms.max_jobs.saturating_sub(taken),
                    total: self.terms.max_jobs,
                },
                PoolState::Draining => ResourceState::Closed { reason: "the pool drains" },
                PoolState::Ended => ResourceState::Closed { reason: "the pool has ended" },
            },
            waiters: waiters.collect(),
            held: busy.map(|who| HeldFact { who, amount: 1 }).collect(),
            rights: Vec::new(),
            handles: 0,
            // A caller that leaves, or a worker that comes, makes room too.
            open_ended: true,
            receivers_close: false,
            lies_at: 0,
            waits: state.books.waits,
            panicked: state.books.done.panicked,
        }
    }

    fn unlist(&self) -> bool {
        let mut state = self.state.lock_unpoisoned();
        let idle = state.line.is_empty();
        state.listed &= !idle;
        idle
    }
}
