//! Time per item handed over through a queue.

use std::hint::black_box;

use crate::measure::{Contestant, Threads, Work, go, here, interleave, table, wall_and_cpu};
use crate::relay::{self, CAPACITY, relay};

/// Items per contestant and round.
const ITEMS: u64 = 500_000;

const ONE_TO_ONE: [Contestant; 7] = [
    here("`tokio::sync::mpsc`", relay::tokio_mpsc),
    here("async-channel", |items| async_channel_between((1, 1), items)),
    here("flume", |items| flume_between((1, 1), items)),
    here("kanal", |items| kanal_between((1, 1), items)),
    here("crossfire, spsc", crossfire_single),
    here("**queue**", relay::ours),
    go("Go: chan", "queue-1"),
];

const FOUR_TO_FOUR: [Contestant; 7] = [
    here("`tokio::sync::mpsc` behind `tokio::sync::Mutex`", relay::tokio_mpsc_shared),
    here("async-channel", |items| async_channel_between((4, 4), items)),
    here("flume", |items| flume_between((4, 4), items)),
    here("kanal", |items| kanal_between((4, 4), items)),
    here("crossfire, mpmc", |items| crossfire_between((4, 4), items)),
    here("**queue**", relay::ours_shared),
    go("Go: chan", "queue-4"),
];

/// Prints the tables.
pub fn report(allocator: &str) {
    crossfire::detect_backoff_cfg(); // as its authors advise for machines with few cores
    for (name, contestants) in [("1 → 1", ONE_TO_ONE), ("4 → 4", FOUR_TO_FOUR)] {
        let one = interleave(&contestants, Threads::One, ITEMS);
        let two = interleave(&contestants, Threads::Two, ITEMS);
        let [one, _] = wall_and_cpu("one thread, ns", "", &one, 0);
        let [wall, cpu] = wall_and_cpu("two workers, ns", "two workers, CPU ns", &two, 0);
        let title = format!("Queue {name}, {allocator}: time per item handed over, capacity {CAPACITY}.");
        table(&title, &contestants.map(|contestant| contestant.name), &[one, wall, cpu]);
    }
}

/// The four libraries have the same shape: `send` and `recv`, each with its own types.
macro_rules! between {
    ($tx:ident, $rx:ident, $many:ident, $items:ident, $send:ident, $receive:ident) => {
        Box::pin(async move {
            let send = move |share| {
                let $tx = $tx.clone();
                async move {
                    for n in 0..share {
                        $tx.$send(n).await.expect("a receiver is there");
                    }
                }
            };
            let receive = move || {
                let $rx = $rx.clone();
                async move {
                    let mut received = 0;
                    while let Ok(n) = $rx.$receive().await {
                        black_box(n);
                        received += 1;
                    }
                    received
                }
            };
            relay($many, $items, send, receive).await;
        })
    };
}

fn async_channel_between(many: (u64, u64), items: u64) -> Work {
    let (tx, rx) = async_channel::bounded::<u64>(CAPACITY);
    between!(tx, rx, many, items, send, recv)
}

fn flume_between(many: (u64, u64), items: u64) -> Work {
    let (tx, rx) = flume::bounded::<u64>(CAPACITY);
    between!(tx, rx, many, items, send_async, recv_async)
}

fn kanal_between(many: (u64, u64), items: u64) -> Work {
    let (tx, rx) = kanal::bounded_async::<u64>(CAPACITY);
    between!(tx, rx, many, items, send, recv)
}

fn crossfire_between(many: (u64, u64), items: u64) -> Work {
    let (tx, rx) = crossfire::mpmc::bounded_async::<u64>(CAPACITY);
    between!(tx, rx, many, items, send, recv)
}

/// Its queue for one sender and one receiver, whose ends cannot be cloned.
fn crossfire_single(items: u64) -> Work {
    let (tx, rx) = crossfire::spsc::bounded_async::<u64>(CAPACITY);
    Box::pin(async move {
        let sender = tokio::spawn(async move {
            for n in 0..items {
                tx.send(n).await.expect("the receiver is there");
            }
        });
        let receiver = tokio::spawn(async move {
            let mut received = 0;
            while let Ok(n) = rx.recv().await {
                black_box(n);
                received += 1;
            }
            received
        });
        sender.await.expect("the task does not panic");
        assert_eq!(receiver.await.expect("the task does not panic"), items, "an item is handed over once");
    })
}
