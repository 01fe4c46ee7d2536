//! Very many tasks that wait for ever, until they are cancelled: what they weigh, and how they fall.
//!
//! Every contestant runs in a process of its own. It spawns, waits until all are parked, and then either says what they weigh
//! and ends the process, or cancels them and says how long that took.

use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bowline::{Cancelled, Discard, group, scope};
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many; `PARKED` in the environment says otherwise.
pub fn tasks() -> u64 {
    std::env::var("PARKED").ok().and_then(|tasks| tasks.parse().ok()).unwrap_or(1_000_000)
}

/// The spawner lets the others run so often: a run queue that grows to a million would be weighed too.
const YIELD_EVERY: u64 = 1_000;

/// What is asked when all are parked.
#[derive(Clone, Copy)]
pub enum Ask {
    /// Resident bytes above those before: printed, and the process ends.
    Weight {
        /// Resident bytes before the first task.
        before: u64,
    },
    /// Nothing: go on and cancel them.
    Fall,
}

/// How long a cancellation took.
pub struct Fall {
    /// The call that cancels.
    pub call: Duration,
    /// From the call until all are gone.
    pub all: Duration,
}

/// A contestant of a process of its own; it is told how many tasks, and what is asked.
pub type Parking = fn(u64, Ask) -> Pin<Box<dyn Future<Output = Fall> + Send>>;

static STANDING: AtomicU64 = AtomicU64::new(0);

/// Counts a task from its first poll until its destructors run. It has no size.
struct Standing;

impl Standing {
    fn new() -> Self {
        STANDING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        STANDING.fetch_sub(1, Ordering::Release);
    }
}

/// Resident memory of this process, in bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux says what a process weighs");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    pages * rustix::param::page_size() as u64
}

async fn breathe(spawned: u64) {
    if spawned.is_multiple_of(YIELD_EVERY) {
        yield_now().await;
    }
}

async fn all_parked(tasks: u64, ask: Ask) {
    while STANDING.load(Ordering::Relaxed) < tasks {
        yield_now().await;
    }
    if let Ask::Weight { before } = ask {
        println!("{}", resident_bytes() - before);
        std::process::exit(0); // a million destructors would only take time
    }
}

fn fallen(call: Duration, began: Instant) -> Fall {
    let all = began.elapsed();
    assert_eq!(STANDING.load(Ordering::Acquire), 0, "gone means that destructors have run");
    Fall { call, all }
}

fn not_cancellable() -> Fall {
    panic!("this contestant can only be weighed")
}

/// `tokio::spawn`, handles dropped: nobody can cancel or wait for these.
pub fn bare(tasks: u64, ask: Ask) -> Pin<Box<dyn Future<Output = Fall> + Send>> {
    Box::pin(async move {
        for n in 0..tasks {
            tokio::spawn(async {
                let _standing = Standing::new();
                pending::<()>().await;
            });
            breathe(n).await;
        }
        all_parked(tasks, ask).await;
        not_cancellable()
    })
}

/// `TaskTracker`: they can be waited for, not cancelled.
pub fn tracker(tasks: u64, ask: Ask) -> Pin<Box<dyn Future<Output = Fall> + Send>> {
    Box::pin(async move {
        let tracker = TaskTracker::new();
        for n in 0..tasks {
            tracker.spawn(async {
                let _standing = Standing::new();
                pending::<()>().await;
            });
            breathe(n).await;
        }
        all_parked(tasks, ask).await;
        not_cancellable()
    })
}

/// `TaskTracker` and a child token per task.
pub fn tracker_token(tasks: u64, ask: Ask) -> Pin<Box<dyn Future<Output = Fall> + Send>> {
    Box::pin(async move {
        let (tracker, parent) = (TaskTracker::new(), CancellationToken::new());
        for n in 0..tasks {
            let token = parent.child_token();
            tracker.spawn(async move {
                let _standing = Standing::new();
                token.cancelled().await;
            });
            breathe(n).await;
        }
        all_parked(tasks, ask).await;
        let began = Instant::now();
        parent.cancel();
        let call = began.elapsed();
        tracker.close();
        tracker.wait().await;
        fallen(call, began)
    })
}

/// `JoinSet` and a child token per task.
pub fn join_set_token(tasks: u64, ask: Ask) -> Pin<Box<dyn Future<Output = Fall> + Send>> {
    Box::pin(async move {
        let (mut set, parent) = (JoinSet::new(), CancellationToken::new());
        for n in 0..tasks {
            let token = parent.child_token();
            set.spawn(async move {
                let _standing = Standing::new();
                token.cancelled().await;
            });
            breathe(n).await;
        }
        all_parked(tasks, ask).await;
        let began = Instant::now();
        parent.cancel();
        let call = began.elapsed();
        while let Some(joined) = set.join_next().await {
            joined.expect("the task does not panic");
        }
        fallen(call, began)
    })
}

async fn watched() -> Result<(), Cancelled> {
    let _standing = Standing::new();
    pending().await
}

/// Ours: a scope, handles dropped. The tasks do nothing for being cancellable.
pub fn in_scope(tasks: u64, ask: Ask) -> Pin<Box<dyn Future<Output = Fall> + Send>> {
    Box::pin(async move {
        let (mut began, mut call) = (Instant::now(), Duration::ZERO);
        let ended = scope("parked", async |s| {
            for n in 0..tasks {
                s.spawn("child", watched());
                breathe(n).await;
            }
            all_parked(tasks, ask).await;
            began = Instant::now();
            s.cancel("enough");
            call = began.elapsed();
            Ok::<_, Cancelled>(())
        });
        ended.await.expect_err("the scope was cancelled");
        fallen(call, began)
    })
}

/// Ours: a group that discards results.
pub fn discarded(tasks: u64, ask: Ask) -> Pin<Box<dyn Future<Output = Fall> + Send>> {
    Box::pin(async move {
        let (mut began, mut call) = (Instant::now(), Duration::ZERO);
        let outcome = group("parked", Discard, async |g| {
            for n in 0..tasks {
                g.spawn("child", watched());
                breathe(n).await;
            }
            all_parked(tasks, ask).await;
            began = Instant::now();
            g.cancel("enough");
            call = began.elapsed();
        })
        .await;
        assert_eq!(outcome.counts().cancelled, tasks);
        fallen(call, began)
    })
}
