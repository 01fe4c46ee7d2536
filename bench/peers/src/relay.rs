//! Handing items over from some tasks to others, through a queue for [`CAPACITY`] items.

use std::hint::black_box;
use std::sync::Arc;

use bowline::{Bound, Cancelled, Overflow, scope};
use tokio::sync::{Mutex, mpsc};

use crate::measure::Work;

/// What every queue here holds.
pub const CAPACITY: usize = 100;

/// Lets `senders` tasks send their part of the items, and `receivers` take them until no more come.
///
/// `send` and `receive` make the tasks' futures and own the ends they clone, so that the queue closes when the tasks are
/// done. A receiver answers with how many items it took.
pub(crate) async fn relay<S, R>(
    (senders, receivers): (u64, u64),
    items: u64,
    mut send: impl FnMut(u64) -> S,
    mut receive: impl FnMut() -> R,
) where
    S: Future<Output = ()> + Send + 'static,
    R: Future<Output = u64> + Send + 'static,
{
    for _ in 0..senders {
        tokio::spawn(send(items / senders));
    }
    drop(send);
    let receivers: Vec<_> = (0..receivers).map(|_| tokio::spawn(receive())).collect();
    drop(receive);
    let mut received = 0;
    for receiver in receivers {
        received += receiver.await.expect("the task does not panic");
    }
    assert_eq!(received, items, "an item is handed over once");
}

/// `tokio::sync::mpsc`, one to one.
pub fn tokio_mpsc(items: u64) -> Work {
    Box::pin(async move {
        let (tx, mut rx) = mpsc::channel(CAPACITY);
        let sender = tokio::spawn(async move {
            for n in 0..items {
                tx.send(n).await.expect("the receiver is there");
            }
        });
        let receiver = tokio::spawn(async move {
            let mut received = 0;
            while let Some(n) = rx.recv().await {
                black_box(n);
                received += 1;
            }
            received
        });
        sender.await.expect("the task does not panic");
        assert_eq!(receiver.await.expect("the task does not panic"), items, "an item is handed over once");
    })
}

/// `tokio::sync::mpsc` whose receiver is shared through `tokio::sync::Mutex`, four to four.
pub fn tokio_mpsc_shared(items: u64) -> Work {
    Box::pin(async move {
        let (tx, rx) = mpsc::channel(CAPACITY);
        let rx = Arc::new(Mutex::new(rx));
        let send = move |share| {
            let tx = tx.clone();
            async move {
                for n in 0..share {
                    tx.send(n).await.expect("a receiver is there");
                }
            }
        };
        let receive = move || {
            let rx = Arc::clone(&rx);
            async move {
                let mut received = 0;
                loop {
                    let next = rx.lock().await.recv().await; // the lock goes at the end of the statement
                    let Some(n) = next else { return received };
                    black_box(n);
                    received += 1;
                }
            }
        };
        relay((4, 4), items, send, receive).await;
    })
}

/// Ours, one to one.
pub fn ours(items: u64) -> Work {
    Box::pin(ours_between((1, 1), items))
}

/// Ours, four to four.
pub fn ours_shared(items: u64) -> Work {
    Box::pin(ours_between((4, 4), items))
}

async fn ours_between((senders, receivers): (u64, u64), items: u64) {
    let received = scope("relay", async |s| {
        let (tx, rx) = s.queue("items", Bound::items(CAPACITY), Overflow::Block);
        for _ in 0..senders {
            let share = items / senders;
            s.spawn_with("send", tx.clone(), async move |_cx, tx| {
                for n in 0..share {
                    tx.send(n).await?;
                }
                Ok(())
            });
        }
        drop(tx);
        let mut tasks = Vec::new();
        for _ in 0..receivers {
            tasks.push(s.spawn_with("receive", rx.clone(), async |_cx, rx| {
                let mut received = 0;
                while let Some(n) = rx.recv().await? {
                    black_box(n);
                    received += 1;
                }
                Ok(received)
            }));
        }
        drop(rx);
        let mut received = 0;
        for task in tasks {
            received += task.await?;
        }
        Ok::<_, Cancelled>(received)
    })
    .await
    .expect("nothing is cancelled");
    assert_eq!(received, items, "an item is handed over once");
}
