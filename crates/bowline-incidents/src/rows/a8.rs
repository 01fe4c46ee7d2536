//! A8, buffers held too long: a copy for each who gets it, kept until the slowest has read it.
//!
//! A relay of market data read messages of some ten kilobytes and sent each to everybody who listened. Each listener had a queue, and
//! each queue a copy. While all were fast nobody noticed. When the network of one office was slow, its listeners' queues filled with
//! copies of the same bytes, memory went up by gigabytes, and the p99 of everybody was 120 ms, most of it spent in the
//! allocator and in copying.
//!
//! The leaky form sends `message.clone()` of a `Vec`. The tied form sends a `Bytes` through a broadcast: a message is one allocation
//! however many get it, the ring holds the last so many and no more, and a listener that falls behind is told how much it
//! missed instead of being allowed to keep it.

use std::time::Duration;

use bowline::{BroadcastError, scope};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "A8",
    title: "buffers held too long",
    broke: "Each recipient's queue held a copy of its own of every message, and slow recipients held them for long: gigabytes, and a p99 \
            of 120 ms.",
    must: "Payloads are shared, never copied per recipient, and freed when the last queue lets go; what a slow recipient may hold is bounded.",
    theirs: "70% fewer allocations, p99 120 → 25 ms",
    load: "200 messages of 48 KB, 2 ms apart, to 100 recipients of which half take 50 ms for each (reduced: 50 messages; full: 2,000 \
           messages to 1,000)",
    remedy: "`Bytes` in a `broadcast` of bounded capacity: one buffer per message, and a slow receiver is told what it missed.",
    needs: &[],
    bounds: &[
        // 64 messages in the ring and 50 in the hands of the slow are 5.5 MB; the rest is the program's.
        Bound::at_most("memory peak", 12e6, Unit::Bytes).broken_by_leaky(),
        Bound::at_most("copies per message", 1.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("received by the fast", 100.0, Unit::Percent),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("a8.rs"),
};

// ANCHOR: leaky
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let copies = lab.counter("copies");
    let mut queues = Vec::new();
    let mut recipients = JoinSet::new();
    for recipient in Recipient::all(&lab) {
        let (queue, mut messages) = mpsc::channel::<Vec<u8>>(10_000);
        queues.push(queue);
        recipients.spawn(async move {
            while let Some(message) = messages.recv().await {
                recipient.take(&message).await;
            }
        });
    }
    for _ in 0..messages(&lab) {
        let message = message().await;
        for queue in &queues {
            copies.add(1);
            queue.send(message.clone()).await?;
        }
    }
    drop(queues);
    recipients.join_all().await;
    looked_at(&lab);
    Ok(())
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let copies = lab.counter("copies");
    scope("relay", async |s| {
        let (feed, messages_of_all) = s.broadcast::<Bytes>("feed", 64);
        for recipient in Recipient::all(&lab) {
            s.spawn_with("recipient", messages_of_all.clone(), async move |_cx, mut messages| {
                loop {
                    match messages.recv().await {
                        Ok(Some(message)) => recipient.take(&message).await,
                        Ok(None) => return Ok(()),
                        // It goes on with the oldest that is still there.
                        Err(BroadcastError::Lagged(lagged)) => recipient.missed.add(lagged.missed),
                        Err(other) => return Err(other),
                    }
                }
            });
        }
        drop(messages_of_all);
        for _ in 0..messages(&lab) {
            let message = Bytes::from(message().await);
            copies.add(1);
            feed.send(message);
        }
        Ok::<_, BroadcastError>(())
    })
    .await?;
    looked_at(&lab);
    Ok(())
}
// ANCHOR_END: tied

fn messages(lab: &Lab) -> u32 {
    lab.size(50, 200, 2_000)
}

/// The next message, when it is time for it.
async fn message() -> Vec<u8> {
    sleep(Duration::from_millis(2)).await;
    vec![b'x'; 48 * 1024]
}

/// Takes messages: every second one slowly.
struct Recipient {
    is_slow: bool,
    received: Counter,
    missed: Counter,
}

impl Recipient {
    fn all(lab: &Lab) -> Vec<Self> {
        let make = |number: u32| Self {
            is_slow: number % 2 == 1,
            received: lab.counter(if number % 2 == 1 {
                "received by the slow"
            } else {
                "received by the fast"
            }),
            missed: lab.counter("missed by the slow"),
        };
        (0..recipients(lab)).map(make).collect()
    }

    async fn take(&self, _message: &[u8]) {
        if self.is_slow {
            sleep(Duration::from_millis(50)).await;
        }
        self.received.add(1);
    }
}

fn recipients(lab: &Lab) -> u32 {
    lab.size(100, 100, 1_000)
}

fn looked_at(lab: &Lab) {
    let messages = f64::from(messages(lab));
    lab.figure("copies per message", lab.counter("copies").get() as f64 / messages);
    let expected = messages * f64::from(recipients(lab) / 2);
    let fast = lab.counter("received by the fast").get() as f64;
    lab.figure("received by the fast", 100.0 * fast / expected);
}
