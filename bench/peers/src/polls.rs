//! A task that is polled again and again, woken by itself or by another. `knowing` measures how long a poll takes, the gate how many
//! instructions.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bowline::{Cancelled, scope};
use tokio::sync::Notify;

use crate::measure::Work;

/// Is polled `polls` times, and wakes itself `wakes` times in each.
pub(crate) async fn polled(polls: u64, wakes: u64) {
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        for _ in 0..wakes {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

/// Two tasks that wake each other: this is one of them.
pub(crate) async fn turns(mine: Arc<Notify>, others: Arc<Notify>, turns: u64) {
    for _ in 0..turns {
        others.notify_one();
        mine.notified().await;
    }
    others.notify_one(); // the other's last
}

/// `tokio::spawn`, woken by itself.
pub fn bare(polls: u64) -> Work {
    Box::pin(async move { tokio::spawn(polled(polls, 1)).await.expect("the task does not panic") })
}

/// Ours, woken by itself.
pub fn in_scope(polls: u64) -> Work {
    Box::pin(async move {
        scope("bench", async |s| {
            s.spawn("polled", async move {
                polled(polls, 1).await;
                Ok::<_, Cancelled>(())
            })
            .await
        })
        .await
        .expect("nothing is cancelled");
    })
}

/// `tokio::spawn`, twice, each woken by the other.
pub fn bare_turns(polls: u64) -> Work {
    Box::pin(async move {
        let (a, b) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let other = tokio::spawn(turns(Arc::clone(&b), Arc::clone(&a), polls / 2));
        tokio::spawn(turns(a, b, polls / 2)).await.expect("the task does not panic");
        other.await.expect("the task does not panic");
    })
}

/// Ours, twice, each woken by the other.
pub fn turns_in_scope(polls: u64) -> Work {
    Box::pin(async move {
        scope("bench", async move |s| {
            let (a, b) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            for (mine, others) in [(Arc::clone(&a), Arc::clone(&b)), (b, a)] {
                s.spawn("turns", async move {
                    turns(mine, others, polls / 2).await;
                    Ok::<_, Cancelled>(())
                });
            }
            Ok(())
        })
        .await
        .expect("nothing is cancelled");
    })
}
