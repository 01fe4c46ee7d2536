//! A1, the ghost message: accepted, processed, and never answered.
//!
//! A handler of messages reported each one it had finished on a channel of completions, and answered its sender afterwards. The
//! reader of that channel had been removed with the feature it belonged to; the receiver stayed, held by a struct. For the first hundred
//! messages nothing was wrong. From then on every handler waited for room that nobody would make: the message was processed, its
//! effect was in the database, and the sender never heard of it. No error, no log line, no task that failed.
//!
//! The leaky form is that handler. It shows two things that are easy to write and hard to see: a wait without an end, and an answer that
//! is owed by a task nobody waits for.
//!
//! In the tied form the queue of completions has to say what happens when it is full, and for a report that nobody may ever read the
//! answer is `DropOldest`. The messages themselves go to a pool by `call`, which ends in exactly one of three ways: answered, refused with a
//! reason, or failed with one. A handler that hangs is cut by its time-out, and its caller is told so.

use std::time::Duration;

use bowline::{Bound as Room, Cancelled, Overflow, Pool, Workers, scope};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "A1",
    title: "ghost message",
    broke: "A handler waited for room in a channel of completions that nobody read: messages were processed, and no reply ever came.",
    must: "Every accepted message ends in exactly one of delivered, answered, or refused with a reason.",
    theirs: "messages vanished; here 0 unaccounted, of 10 million at full size",
    load: "50,000 messages from 64 senders, each waits for its answer at most a second (reduced: 2,000; full: 10,000,000)",
    remedy: "`Pool::call`: an answer is owed by something that has an owner. And no queue without a policy for when it is full.",
    needs: &[],
    bounds: &[
        Bound::at_most("unaccounted", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("answered or refused", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("tasks left", 0.0, Unit::Count).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("a1.rs"),
};

// ANCHOR: leaky
#[derive(Clone)]
struct Handlers {
    completed: mpsc::Sender<u64>,
}

impl Handlers {
    #[expect(clippy::disallowed_methods, reason = "the form as it broke")]
    async fn ask(&self, message: u64) -> Option<u64> {
        let (reply, answer) = oneshot::channel();
        let completed = self.completed.clone();
        tokio::spawn(async move {
            let result = process(message).await;
            completed.send(message).await.ok()?;
            reply.send(result).ok()
        });
        answer.await.ok()
    }
}
// ANCHOR_END: leaky

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let (completed, held_and_never_read) = mpsc::channel(100);
    let handlers = Handlers { completed };
    let ask = move |message| {
        let handlers = handlers.clone();
        async move { handlers.ask(message).await.map(|_| Ended::Answered) }
    };
    measured(&lab, ask).await;
    // A struct held it for weeks, in the incident: it outlives the form, like the tasks that wait for it.
    std::mem::forget(held_and_never_read);
    Ok(())
}

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    scope("service", async |s| {
        let (completed, _held_and_never_read) = s.queue("completed", Room::items(100), Overflow::DropOldest);
        let completed = completed.free();
        let handlers = Pool::new("handle", Workers::fixed(8), Room::items(100), Overflow::Block)
            .job_timeout(Duration::from_secs(5))
            .start(s, move |message: u64| {
                let completed = completed.clone();
                async move {
                    let result = process(message).await;
                    let _ = completed.send(message).await;
                    result
                }
            });
        let ask = move |message| {
            let handlers = handlers.clone();
            async move {
                match handlers.call(message).await {
                    Ok(_answer) => Some(Ended::Answered),
                    Err(_reason) => Some(Ended::Refused),
                }
            }
        };
        measured(&lab, ask).await;
        Ok::<_, Cancelled>(())
    })
    .await?;
    Ok(())
}
// ANCHOR_END: tied

async fn process(message: u64) -> u64 {
    tokio::task::yield_now().await;
    message + 1
}

enum Ended {
    Answered,
    Refused,
}

const SENDERS: u64 = 64;

/// Sends from 64 senders at once. One that hears nothing for a second stops asking, as people do.
async fn measured<F, Asked>(lab: &Lab, ask: F)
where
    F: Fn(u64) -> Asked + Clone + Send + 'static,
    Asked: Future<Output = Option<Ended>> + Send,
{
    let messages: u64 = lab.size(2_000, 50_000, 10_000_000);
    let [accepted, answered, refused] = ["accepted", "answered", "refused"].map(|name| lab.counter(name));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (ask, accepted) = (ask.clone(), accepted.clone());
        let (answered, refused): (Counter, Counter) = (answered.clone(), refused.clone());
        senders.spawn(async move {
            for message in (sender..messages).step_by(SENDERS as usize) {
                accepted.add(1);
                match timeout(Duration::from_secs(1), ask(message)).await {
                    Ok(Some(Ended::Answered)) => answered.add(1),
                    Ok(Some(Ended::Refused)) => refused.add(1),
                    Ok(None) | Err(_) => return,
                }
            }
        });
    }
    drop(ask);
    senders.join_all().await;
    let ended = answered.get() + refused.get();
    lab.figure("unaccounted", (accepted.get() - ended) as f64);
    lab.figure("answered or refused", 100.0 * ended as f64 / messages as f64);
}
