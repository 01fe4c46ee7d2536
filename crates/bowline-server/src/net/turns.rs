//! Turns for those who arrive, so that thousands who come at once do not keep everybody else waiting, and [`make_way`] for those
//! who send without a pause.
//!
//! A handshake, a token and what a client has missed take many times as long as passing on a publication. When all clients come
//! back at once, hundreds of them are ready at the same time; a publisher would stand behind all of these again and again: when
//! its request is there, when the disk has it, and when it was delivered. So whoever arrives works in turns. Who waits for one
//! stands in line here and not among what is ready to run, and a turn ends when what was ready has run.
//!
//! # Invariants
//!
//! 1. A turn is held while somebody computes and until the runtime has come round, never while it waits for a peer, a disk or
//!    an application: so no peer can hold one.
//! 2. Only the first things that a connection does take turns: the first look at it, which sees the request if that is there by
//!    then, and the first [`ARRIVAL_READS`] reads of a WebSocket within [`ARRIVAL`]. Whoever is there longer is not held up by
//!    those who come.
//! 3. Nobody waits longer than [`LONGEST`] for a turn: where others leave no time for those who arrive, they go on without.
//!
//! # End
//!
//! There is none to wait for: a server that stops takes nobody in, and the line empties by itself.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::thread::available_parallelism;
use std::time::Duration;

use bowline::{Semaphore, SemaphorePermit};
use tokio::task::{coop, yield_now};
use tokio::time::Instant;

/// Turns at once for each processor, so that one who lets others run does not keep the next from running. Each more is one arrival
/// more for which everybody else waits.
const PER_PROCESSOR: usize = 2;

/// How long somebody waits for a turn. Clients give up after some seconds, and come again.
const LONGEST: Duration = Duration::from_secs(1);

/// For how long a WebSocket arrives: long enough for a client on a slow line, and over before the first ping.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Reads for which a WebSocket arrives: its connect request, its subscriptions with what they recover, and one more.
const ARRIVAL_READS: u8 = 3;

/// Bytes of commands for which a task gives up a part of its turn: of 128 parts, as the runtime has it.
const BYTES_PER_PART: usize = 128;

/// Gives up as much of the task's turn as handling `bytes` of commands is worth, so that a client which sends without a pause
/// gets through some hundreds before others run. A read or a request counts as one thing otherwise, and may hold dozens
/// or hundreds.
///
/// # Cancel safety
///
/// Nothing is lost if the future is dropped.
pub(crate) async fn make_way(bytes: usize) {
    for _ in 0..bytes / BYTES_PER_PART {
        coop::consume_budget().await;
    }
}

/// How far a WebSocket has arrived.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Reads that still take turns.
    reads: u8,
    until: Instant,
}

impl Arrival {
    pub(crate) fn begin() -> Self {
        Self { reads: ARRIVAL_READS, until: Instant::now() + ARRIVAL }
    }

    /// Counts a read, and answers whether it takes a turn. Of those who are there for long nobody asks the time.
    pub(crate) fn takes_turn(&mut self) -> bool {
        let is_arriving = self.reads > 0 && Instant::now() <= self.until;
        self.reads = if is_arriving { self.reads - 1 } else { 0 };
        is_arriving
    }
}

/// The turns of all who arrive.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

/// Leave to compute, until it [ends](Turn::end).
#[must_use = "dropped, it is over before the others had theirs"]
pub(crate) struct Turn<'a>(SemaphorePermit<'a>);

impl Default for Turns {
    fn default() -> Self {
        Self::of(available_parallelism().map_or(1, usize::from) * PER_PROCESSOR)
    }
}

impl Turns {
    fn of(at_once: usize) -> Self {
        Self(Semaphore::new("arrivals", at_once))
    }

    /// Waits for a turn. `None` if it takes too long, or if the task is to end: it waits for nothing any more.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, its place in line is given up.
    pub(crate) async fn take(&self) -> Option<Turn<'_>> {
        tokio::time::timeout(LONGEST, self.0.acquire(1)).await.ok()?.ok().map(Turn)
    }

    /// Begins `work` in a turn, as far as it goes without waiting; answers what came of it if that is all.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, `work` has been polled once, or not at all.
    pub(crate) async fn begin<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let turn = self.take().await;
        let polled = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        if let Some(turn) = turn {
            turn.end().await;
        }
        match polled {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }
}

impl Turn<'_> {
    /// Lets others run, and then the next in line.
    pub(crate) async fn end(self) {
        yield_now().await;
        drop(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bowline::{Cancelled, scope};

    use super::*;

    const ARRIVALS: usize = 100;
    const AT_ONCE: usize = 4;

    #[bowline::test]
    async fn between_two_looks_of_somebody_else_only_a_few_have_their_turn() -> Result<(), Cancelled> {
        let (turns, done) = (Arc::new(Turns::of(AT_ONCE)), Arc::<AtomicUsize>::default());
        scope("server", async |s| {
            for _ in 0..ARRIVALS {
                let (turns, done) = (Arc::clone(&turns), Arc::clone(&done));
                s.spawn("connection", async move {
                    let work = pin!(async {
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(turns.begin(work).await.is_some(), "there is nothing to wait for");
                    Ok(())
                });
            }
            let (mut seen, mut most) = (0, 0);
            while seen < ARRIVALS {
                yield_now().await;
                let now = done.load(Ordering::Relaxed);
                most = most.max(now - seen);
                seen = now;
            }
            assert!(most <= 2 * AT_ONCE, "{most} of {ARRIVALS} had a turn at once");
            Ok(())
        })
        .await
    }

    #[bowline::test(start_paused = true)]
    async fn who_has_waited_long_enough_goes_on_without_a_turn() {
        let turns = Turns::of(1);
        let _held = turns.take().await.expect("nobody is to end");
        let began = tokio::time::Instant::now();
        assert!(turns.take().await.is_none());
        assert!(began.elapsed() >= LONGEST);
    }

    #[bowline::test(start_paused = true)]
    async fn the_first_reads_take_turns_unless_they_come_late() {
        let mut prompt = Arrival::begin();
        let taken = (0..10).filter(|_| prompt.takes_turn()).count();
        assert_eq!(taken, usize::from(ARRIVAL_READS));

        let mut slow = Arrival::begin();
        assert!(slow.takes_turn());
        tokio::time::advance(ARRIVAL).await;
        assert!(slow.takes_turn(), "it is still arriving");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!slow.takes_turn(), "it is there for long");
    }

    #[bowline::test]
    async fn a_turn_that_is_dropped_goes_to_the_next() {
        let turns = Turns::of(AT_ONCE);
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(turns.take().await.expect("nobody is to end"));
        }
        let mut next = pin!(turns.take());
        assert!(poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
        drop(held.pop());
        assert!(next.await.is_some());
    }
}
