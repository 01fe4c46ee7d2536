//! Who is woken when: for much work, for what is late, by who waits; and not for what others do in a moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use tokio::time::{Instant, advance};

use super::*;

const ROOM: usize = 64;

/// A worker, as the pool sees it.
struct Worker {
    at: usize,
    woken: Arc<Woken>,
    batch: Batch<u32, ()>,
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// Comes back from what it took, or comes for the first time.
    fn comes(&mut self, pool: &Arc<Core<u32, ()>>, per_job: Duration, most: usize) -> Next {
        self.batch.clear();
        let done = Done::default();
        let pace = Pace { per_job: Some(per_job), most };
        let waker = &mut Some(Waker::from(Arc::clone(&self.woken)));
        pool.take(self.at, done, pace, Instant::now(), &mut self.batch, waker, &mut After::default())
    }

    fn is_woken(&self) -> bool {
        self.woken.0.swap(0, Ordering::Relaxed) > 0
    }
}

/// A pool with two idle workers on two threads. The second is woken first.
fn pool() -> (Arc<Core<u32, ()>>, Worker, Worker) {
    let terms = Terms {
        max_jobs: ROOM,
        max_bytes: None,
        size_of: None,
        overflow: Overflow::Block,
        wait_at_most: None,
    };
    let core = Core::new(crate::site::intern("pool", std::panic::Location::caller()), terms);
    core.state.lock_unpoisoned().workers.threads = 2;
    core.want(2);
    let worker = || Worker { at: core.join(), woken: Arc::default(), batch: Batch::new() };
    let (mut first, mut second) = (worker(), worker());
    for worker in [&mut first, &mut second] {
        assert!(matches!(worker.comes(&core, SHORT, 1), Next::Idle));
    }
    (core, first, second)
}

const SHORT: Duration = Duration::from_micros(1);

fn submit(pool: &Arc<Core<u32, ()>>, jobs: u32) {
    for job in 0..jobs {
        let mut entry = Some(Entry { job, bytes: 0, called: None });
        assert!(matches!(pool.offer(&mut entry, None), Offered::Accepted));
    }
}

/// The second worker has taken a job, and the first sleeps.
fn one_at_hand() -> (Arc<Core<u32, ()>>, Worker, Worker) {
    let (pool, first, mut second) = pool();
    submit(&pool, 1);
    assert!(second.is_woken());
    assert!(matches!(second.comes(&pool, SHORT, 1), Next::Work { hands_over: false }));
    assert!(!first.is_woken());
    (pool, first, second)
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_at_hand_does_in_a_moment_wakes_nobody() {
    let (pool, first, mut second) = one_at_hand();
    submit(&pool, 20);
    assert!(matches!(second.comes(&pool, SHORT, 1), Next::Work { hands_over: false }));
    assert!(!first.is_woken(), "20 us are not worth a thread");
}

#[tokio::test(start_paused = true)]
async fn much_work_wakes_another_and_the_thread_is_given_to_it() {
    let (pool, mut first, second) = one_at_hand();
    submit(&pool, 30);
    assert!(first.is_woken(), "30 us are");
    submit(&pool, 10);
    assert!(!first.is_woken(), "it has not looked yet");
    assert!(matches!(first.comes(&pool, SHORT, 4), Next::Work { .. }));
    let mut entry = Some(Entry { job: 0, bytes: 0, called: None });
    while matches!(pool.offer(&mut entry, Some(&mut Some(Waker::noop().clone()))), Offered::Accepted) {
        entry = Some(Entry { job: 0, bytes: 0, called: None });
    }
    let mut hands = Vec::new();
    while pool.state.lock_unpoisoned().waiting_jobs() > ROOM / 2 {
        let Next::Work { hands_over } = first.comes(&pool, SHORT, 4) else { panic!("there is work") };
        hands.push(hands_over);
    }
    // Who waited is told at the half, and has the thread next.
    assert!(hands.len() > 2 && hands.iter().rposition(|over| !over) == Some(hands.len() - 2), "{hands:?}");
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn long_jobs_have_every_worker_woken() {
    let (pool, first, mut second) = pool();
    submit(&pool, 2);
    assert!(second.is_woken());
    assert!(matches!(second.comes(&pool, Duration::from_millis(1), 1), Next::Work { .. }));
    assert!(first.is_woken());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_late_has_another_woken_by_the_next_jobs() {
    let (pool, first, _second) = one_at_hand();
    advance(Duration::from_micros(300)).await;
    submit(&pool, 10); // one in eight of them looks at the clock
    assert!(first.is_woken());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_makes_way_for_another_worker() {
    let (pool, first, mut second) = one_at_hand();
    submit(&pool, 3);
    pool.pause(second.at, Done::default(), &mut second.batch, true);
    assert!(first.is_woken());
}

#[tokio::test(start_paused = true)]
async fn who_was_let_in_is_told_before_its_worker_waits_in_a_job() {
    let (pool, _first, mut second) = one_at_hand();
    submit(&pool, u32::try_from(ROOM).unwrap());
    let waits = Arc::new(Woken::default());
    let mut entry = Some(Entry { job: 0, bytes: 0, called: None });
    let offered = pool.offer(&mut entry, Some(&mut Some(Waker::from(Arc::clone(&waits)))));
    assert!(matches!(offered, Offered::Waits(_)));
    assert!(matches!(second.comes(&pool, SHORT, 1), Next::Work { .. }));
    assert_eq!((pool.state.lock_unpoisoned().line.len(), waits.0.load(Ordering::Relaxed)), (0, 0));
    pool.pause(second.at, Done::default(), &mut second.batch, true);
    assert_eq!(waits.0.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn who_has_to_wait_for_room_leaves_its_thread_to_a_worker() {
    let (pool, mut first, mut second) = one_at_hand();
    let very_short = Duration::from_nanos(100);
    assert!(matches!(second.comes(&pool, very_short, 1), Next::Idle));
    submit(&pool, 1);
    assert!(second.is_woken());
    assert!(matches!(second.comes(&pool, very_short, 1), Next::Work { .. }));
    submit(&pool, u32::try_from(ROOM).unwrap());
    assert!(!first.is_woken());
    let mut entry = Some(Entry { job: 0, bytes: 0, called: None });
    let offered = pool.offer(&mut entry, Some(&mut Some(Waker::noop().clone())));
    assert!(matches!(offered, Offered::Waits(_)) && first.is_woken());
    assert!(matches!(first.comes(&pool, very_short, 8), Next::Work { .. }));
}

#[tokio::test(start_paused = true)]
async fn more_workers_than_threads_are_not_at_short_jobs_at_once() {
    let (pool, mut first, second) = one_at_hand();
    submit(&pool, 40);
    assert!(first.is_woken());
    pool.state.lock_unpoisoned().workers.threads = 1;
    let third = Worker { at: pool.join(), woken: Arc::default(), batch: Batch::new() };
    {
        let mut state = pool.state.lock_unpoisoned();
        state.workers.slots[third.at].waker = Some(Waker::from(Arc::clone(&third.woken)));
        state.workers.idle.push(third.at);
    }
    assert!(matches!(first.comes(&pool, SHORT, 1), Next::Work { .. }));
    assert!(!third.is_woken() && !second.is_woken());
    assert!(matches!(first.comes(&pool, Duration::from_millis(1), 1), Next::Work { .. }));
    assert!(third.is_woken(), "long jobs may have threads of their own");
}
