//! Spawning tasks in batches and waiting for each batch, in the forms a service would use. The gate counts the
//! instructions of the same code.

use std::hint::black_box;

use bowline::{Cancelled, CollectAll, Discard, group, scope};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::measure::Work;

/// Tasks in flight at once.
pub const BATCH: u64 = 1_000;

/// `tokio::spawn`; each handle is awaited.
pub fn bare(tasks: u64) -> Work {
    Box::pin(async move {
        let mut handles = Vec::with_capacity(BATCH as usize);
        for _ in 0..tasks / BATCH {
            handles.extend((0..BATCH).map(|n| tokio::spawn(async move { black_box(n) })));
            for handle in handles.drain(..) {
                black_box(handle.await.expect("the task does not panic"));
            }
        }
    })
}

/// `TaskTracker`; nobody sees results or panics.
pub fn tracker(tasks: u64) -> Work {
    Box::pin(async move {
        for _ in 0..tasks / BATCH {
            let tracker = TaskTracker::new();
            for n in 0..BATCH {
                tracker.spawn(async move { black_box(n) });
            }
            tracker.close();
            tracker.wait().await;
        }
    })
}

/// `JoinSet`; results come as they are ready.
pub fn join_set(tasks: u64) -> Work {
    Box::pin(async move {
        let mut set = JoinSet::new();
        for _ in 0..tasks / BATCH {
            for n in 0..BATCH {
                set.spawn(async move { black_box(n) });
            }
            while let Some(value) = set.join_next().await {
                black_box(value.expect("the task does not panic"));
            }
        }
    })
}

/// What a cancellable task is without a toolkit.
async fn until_cancelled(token: CancellationToken, n: u64) -> Option<u64> {
    tokio::select! {
        () = token.cancelled() => None,
        value = async { black_box(n) } => Some(value),
    }
}

/// `TaskTracker` and a child token per task.
pub fn tracker_token(tasks: u64) -> Work {
    Box::pin(async move {
        let parent = CancellationToken::new();
        for _ in 0..tasks / BATCH {
            let tracker = TaskTracker::new();
            for n in 0..BATCH {
                tracker.spawn(until_cancelled(parent.child_token(), n));
            }
            tracker.close();
            tracker.wait().await;
        }
    })
}

/// `JoinSet` and a child token per task: the nearest thing to a scope.
pub fn join_set_token(tasks: u64) -> Work {
    Box::pin(async move {
        let parent = CancellationToken::new();
        let mut set = JoinSet::new();
        for _ in 0..tasks / BATCH {
            for n in 0..BATCH {
                set.spawn(until_cancelled(parent.child_token(), n));
            }
            while let Some(value) = set.join_next().await {
                black_box(value.expect("the task does not panic"));
            }
        }
    })
}

/// Ours: a scope; each handle is awaited.
pub fn in_scope(tasks: u64) -> Work {
    Box::pin(async move {
        scope("bench", async |s| {
            let mut handles = Vec::with_capacity(BATCH as usize);
            for _ in 0..tasks / BATCH {
                handles.extend((0..BATCH).map(|n| s.spawn("child", async move { Ok(black_box(n)) })));
                for handle in handles.drain(..) {
                    black_box(handle.await?);
                }
            }
            Ok::<_, Cancelled>(())
        })
        .await
        .expect("nothing is cancelled");
    })
}

/// Ours: a group per batch; its results in order.
pub fn collected(tasks: u64) -> Work {
    Box::pin(async move {
        for _ in 0..tasks / BATCH {
            let outcome = group("bench", CollectAll, async |g| {
                for n in 0..BATCH {
                    g.spawn("child", async move { Ok::<_, Cancelled>(black_box(n)) });
                }
            });
            let values = outcome.await.all_ok().expect("nothing fails");
            assert_eq!(values.len() as u64, BATCH);
            black_box(values);
        }
    })
}

/// Ours: a group per batch that counts results and drops them.
pub fn discarded(tasks: u64) -> Work {
    Box::pin(async move {
        for _ in 0..tasks / BATCH {
            let outcome = group("bench", Discard, async |g| {
                for n in 0..BATCH {
                    g.spawn("child", async move { Ok::<_, Cancelled>(black_box(n)) });
                }
            });
            assert_eq!(outcome.await.counts().ok, BATCH);
        }
    })
}
