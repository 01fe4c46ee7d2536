//! A2, connect/disconnect churn: clients come and go, and what was begun for them stays.
//!
//! A messaging server for phones kept two or three tasks for each connection: one that read, one that kept the connection
//! alive, one for each request under way. When a phone lost its network, the reading task ended. The others were never told. After
//! five hundred cycles of connecting and vanishing the server's memory had ballooned, and nobody could say what the tasks
//! were: tokio gives a number, and no names.
//!
//! In the leaky form `keep_alive` hears of the end at its next tick. That is 25 seconds later, and in those seconds a busy server
//! gathers thousands of them. `handle` is worse: it knows nothing at all of the connection it works for. Both are spawned, and
//! a spawned task of tokio's has no owner: it ends when it likes.
//!
//! The tied form is the server of this project. A connection is *one* task there, which reads, writes and keeps time. Nothing
//! has to be told to anybody, because there is nobody else; and the group of connections it belongs to has it in its books until it is
//! gone. `/debug/bowline/tree` shows it by name all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::hub::{Driven, settled};
use crate::kit::{Client, Server};
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Need, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "A2",
    title: "connect/disconnect churn",
    broke: "Time-outs and disconnects did not reach the tasks of a connection: after 500 cycles of connecting and vanishing, memory had \
            ballooned.",
    must: "Abrupt connect/disconnect cycles leave tasks at the baseline, and memory within 5% of what it was after the first thousand.",
    theirs: "40% fewer tasks once time-outs reached them; here, back to the baseline",
    load: "2,500 clients connect, subscribe and vanish with a reset, 16 at a time; the first 500 are the warm-up (reduced: 200 and \
           50; full: 100,000 and 1,000)",
    remedy: "A connection is one task in a group (`group`, `Discard`), and everything it waits for (socket, queue, clock) is a branch of \
             its one `race`: its end is the end of all of it.",
    needs: &[Need::Server],
    bounds: &[
        Bound::at_most("tasks over the baseline", 3.0, Unit::Count).broken_by_leaky(),
        // On a heap of a few megabytes a hundred kilobytes are several per cent.
        Bound::at_most("memory grown", 5.0, Unit::Percent).reduced(25.0),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: concat!(include_str!("a2.rs"), include_str!("hub.rs")),
};

// ANCHOR: tied
async fn serve_tied() -> Result<Server, Trouble> {
    // `bowline serve` as it is: 25 s between pings, no time-out that would clean up behind the clients of this row.
    Server::start(&[("client.ping_interval", "25s")]).await
}
// ANCHOR_END: tied

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    measured(lab, Driven::leaky().await?).await
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    measured(lab, Driven::Tied(serve_tied().await?)).await
}

const LANES: u64 = 16;

async fn measured(lab: Lab, server: Driven) -> Result<(), Trouble> {
    let (warm_up, cycles) = lab.size((50, 200), (500, 2_500), (1_000, 100_000));
    let seen = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&seen);
    lab.gauge("server tasks", move || shown.load(Ordering::Relaxed) as f64);
    let before = server.tasks().await?;
    churn(&lab, &server, warm_up, &seen).await?;
    settled(&server, before + 3, Duration::from_secs(2), &seen).await?;
    let warm = server.resident_bytes();
    churn(&lab, &server, cycles - warm_up, &seen).await?;
    // A busy machine may be late; what stays stays for 25 s.
    let after = settled(&server, before + 3, Duration::from_secs(5), &seen).await?;
    lab.figure("tasks over the baseline", after.saturating_sub(before) as f64);
    let grown = server.resident_bytes() as f64 / warm.max(1) as f64 - 1.0;
    lab.figure("memory grown", 100.0 * grown.max(0.0));
    Ok(())
}

/// So many clients connect, subscribe, and vanish without a word.
async fn churn(lab: &Lab, server: &Driven, cycles: u64, seen: &AtomicU64) -> Result<(), Trouble> {
    let address = server.address();
    let vanished = lab.counter("vanished");
    for batch in (0..cycles).step_by(100) {
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let vanished = vanished.clone();
            lanes.spawn(async move {
                for number in (batch + lane..cycles.min(batch + 100)).step_by(LANES as usize) {
                    let mut client = Client::connect(address).await?;
                    client.subscribe(&format!("churn{}", number % 100)).await?;
                    client.vanish();
                    vanished.add(1);
                }
                std::io::Result::Ok(())
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane??;
        }
        seen.store(server.tasks().await?, Ordering::Relaxed);
    }
    Ok(())
}
