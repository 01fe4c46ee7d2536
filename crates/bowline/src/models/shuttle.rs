//! Whole programs on the public interface, under random schedules: what must hold in every one of them.
//!
//! A model is a small program that checks itself. It may look on through std's atomics, which are no step of a schedule; what
//! it waits for must be ours, or shuttle would not see the wait. A lost wake-up shows as a deadlock, which shuttle reports.
//! There are no timers: a schedule has no time.
//!
//! # When one fails
//!
//! Shuttle prints the schedule. `shuttle::replay` runs it again: put it in the place of `check_random` in [`check`].

mod breaker;
mod calls;
mod channel;
mod cpu;
mod group;
mod lease;
mod lock;
mod pipeline;
mod pool;
mod queue;
mod scope;
mod supervise;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};

use crate::sync::Arc;

/// Schedules per model, or as many as `BOWLINE_SCHEDULES` says.
const SCHEDULES: usize = 10_000;

fn schedules() -> usize {
    match std::env::var("BOWLINE_SCHEDULES") {
        Ok(number) => number.parse().expect("BOWLINE_SCHEDULES is a number"),
        Err(_) => SCHEDULES,
    }
}

/// Runs `program` under random schedules.
fn check<F: Future<Output = ()>>(program: impl Fn() -> F + Send + Sync + 'static) {
    shuttle::check_random(move || block_on(program()), schedules());
}

/// Runs `program` under schedules that let one task run as long as it can and take the turn away at three random places:
/// what only a rare order brings out.
fn check_rare<F: Future<Output = ()>>(program: impl Fn() -> F + Send + Sync + 'static) {
    const TURNS_TAKEN_AWAY: usize = 3;
    shuttle::check_pct(move || block_on(program()), schedules(), TURNS_TAKEN_AWAY);
}

/// A number below `end`, drawn by the schedule.
fn draw(end: usize) -> usize {
    thread_rng().gen_range(0..end)
}

/// Lets others run, some times or not at all.
async fn dawdle() {
    for _ in 0..draw(3) {
        shuttle::future::yield_now().await;
    }
}

/// Polls `future` to its end, or drops it: after its first poll, or some turns later.
async fn give_up_early<F: Future>(future: F) -> Option<F::Output> {
    let mut turns = draw(4);
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if turns == 0 => Poll::Ready(None),
        Poll::Pending => {
            turns -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// How many of something there are: each [`One`] counts while it lives.
#[derive(Clone, Default)]
struct Tally(Arc<AtomicUsize>);

impl Tally {
    fn one(&self) -> One {
        self.0.fetch_add(1, Ordering::Relaxed);
        One(self.clone())
    }

    fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more for good, and says how many there were before.
    fn more(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

struct One(Tally);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
