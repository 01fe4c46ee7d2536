//! A4, two tasks per request: one too many, and a watcher that stays.
//!
//! A gateway's send path grew over the years. It spawned a task to send a message, and inside of that another for the write, so that the
//! first could be timed; and a third, which slept for thirty seconds and then looked whether the message had gone. Nobody had
//! meant any of this. It was found because somebody printed the number of tasks every ten seconds and wondered.
//!
//! The leaky form is that path. The number of tasks is all that tokio tells, and 60 of them could be anything.
//!
//! In the tied form each task has a name and a parent, so the live tree says `publish: 1 per request` at a glance; and a time-out is a
//! deadline in the context of the task that is already there. There is nobody to leak.

use std::sync::Arc;
use std::time::Duration;

use bowline::{Cancelled, Discard, Tree, group, timeout};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "A4",
    title: "two tasks per request",
    broke: "The send path spawned two tasks where one was meant, and a third that watched for the time-out and stayed for 30 seconds.",
    must: "Tasks are counted by name and by parent, so that two per request are seen at a glance; a time-out costs no task.",
    theirs: "found by printing a count every 10 s; here a live table",
    load: "1,000 requests at once, each waits for its socket until somebody has looked at the tasks (reduced: 200; full: 20,000)",
    remedy: "`timeout` is a deadline in the context, not a task; and `tree()` knows every task by its name.",
    needs: &[],
    bounds: &[
        Bound::at_most("tasks per request", 1.01, Unit::Count).broken_by_leaky(),
        Bound::at_most("watchers left", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("tasks known by name", 99.0, Unit::Percent).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("a4.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
fn send_leaky(socket: Arc<Socket>) {
    tokio::spawn(async move {
        let writing = Arc::clone(&socket);
        let written = tokio::spawn(async move { writing.write().await });
        tokio::spawn(async move {
            sleep(Duration::from_secs(30)).await;
            if socket.sent.get() == 0 {
                eprintln!("a message was not sent in time");
            }
        });
        let _ = written.await;
    });
}
// ANCHOR_END: leaky

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let socket = Arc::new(Socket::new(&lab));
    for _ in 0..requests(&lab) {
        send_leaky(Arc::clone(&socket));
    }
    looked_at(&lab, &socket).await;
    watchers(&lab, &socket).await;
    Ok(())
}

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let socket = Arc::new(Socket::new(&lab));
    let _outcome = group("sending", Discard, async |g| {
        for _ in 0..requests(&lab) {
            let socket = Arc::clone(&socket);
            g.spawn("publish", async move {
                let _in_time = timeout(Duration::from_secs(30), socket.write()).await;
                Ok::<_, Cancelled>(())
            });
        }
        looked_at(&lab, &socket).await;
    })
    .await;
    watchers(&lab, &socket).await;
    Ok(())
}
// ANCHOR_END: tied

fn requests(lab: &Lab) -> u64 {
    lab.size(200, 1_000, 20_000)
}

/// A socket that takes nothing until it is told to.
struct Socket {
    waiting: Counter,
    sent: Counter,
    takes: Semaphore,
}

impl Socket {
    fn new(lab: &Lab) -> Self {
        Self { waiting: lab.counter("waiting"), sent: lab.counter("sent"), takes: Semaphore::new(0) }
    }

    async fn write(&self) {
        self.waiting.add(1);
        let _taken = self.takes.acquire().await;
        self.sent.add(1);
    }
}

/// What the one who is on call sees while all requests are under way.
async fn looked_at(lab: &Lab, socket: &Socket) {
    while socket.waiting.get() < requests(lab) {
        sleep(Duration::from_millis(1)).await;
    }
    let alive = lab.tasks();
    lab.figure("tasks per request", alive as f64 / requests(lab) as f64);
    lab.figure("tasks known by name", 100.0 * named(&bowline::tree()) as f64 / alive.max(1) as f64);
    socket.takes.add_permits(1);
}

/// How many tasks the tree can name.
fn named(tree: &Tree) -> usize {
    tree.tasks.min(tree.runtime_tasks.unwrap_or(tree.tasks))
}

/// What is left when all is sent: whoever is merely late has two seconds, and whoever only watches has thirty.
async fn watchers(lab: &Lab, socket: &Socket) {
    while socket.sent.get() < requests(lab) {
        sleep(Duration::from_millis(1)).await;
    }
    let until = Instant::now() + Duration::from_secs(2);
    while lab.tasks() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(10)).await;
    }
    lab.figure("watchers left", lab.tasks() as f64);
}
