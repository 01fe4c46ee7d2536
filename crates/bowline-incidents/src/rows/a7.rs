//! A7, zombie sockets: the peer is gone, and nobody has noticed.
//!
//! A service with long-lived WebSockets lost one in a hundred of them a day, not by closing: laptops were shut, tunnels
//! were entered, routers forgot. TCP says nothing when nothing is sent. The reading task of such a socket waits for ever, its
//! connection stays in the table, and whatever else was spawned for it stays too. After three weeks the process was full of the dead, and
//! crashed.
//!
//! The leaky form does send pings. It does not look whether anybody answers, and the read has no deadline, so a ping to a dead peer is
//! one more write into a buffer that nobody empties.
//!
//! In the tied form silence is an answer: a peer that has not said a word for `pong_timeout` after a ping is gone, and the one
//! task of its connection ends at that deadline. It costs no task and no timer of its own to know that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::hub::{Driven, settled};
use crate::kit::{Client, Server};
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Need, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "A7",
    title: "zombie sockets",
    broke: "Tasks of sockets whose peers were gone stayed, 1% of all connections a day; after three weeks the process crashed.",
    must: "Whoever vanishes without a word is gone in one deadline, with every task that was theirs.",
    theirs: "1% a day; here 0 after the deadline",
    load: "1,000 clients connect, subscribe and fall silent with their sockets open; pings every second, 500 ms for the answer, \
           5 s for the goodbye (reduced: 50; full: 10,000 with pings every 25 s)",
    remedy: "One task per connection, with its deadline as a branch of the same `race` as its socket: time passes for whoever is silent.",
    needs: &[Need::Server],
    bounds: &[
        Bound::at_most("zombies left", 0.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("tasks over the baseline", 3.0, Unit::Count).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: concat!(include_str!("a7.rs"), include_str!("hub.rs")),
};

// ANCHOR: tied
async fn serve_tied(ping_interval: &str, pong_timeout: &str) -> Result<Server, Trouble> {
    Server::start(&[("client.ping_interval", ping_interval), ("client.pong_timeout", pong_timeout)]).await
}
// ANCHOR_END: tied

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    measured(lab, Driven::leaky().await?).await
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let (ping, pong) = lab.size(("1s", "500ms"), ("1s", "500ms"), ("25s", "8s"));
    measured(lab, Driven::Tied(serve_tied(ping, pong).await?)).await
}

async fn measured(lab: Lab, server: Driven) -> Result<(), Trouble> {
    let count = lab.size(50, 1_000, 10_000);
    // The interval, the time for an answer and the five seconds a close frame may wait for its own; and a third more for a
    // machine that does other things as well.
    let deadline = lab.size(Duration::from_secs(9), Duration::from_secs(9), Duration::from_secs(66));
    let opened = lab.counter("fallen silent");
    let seen = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&seen);
    lab.gauge("server tasks", move || shown.load(Ordering::Relaxed) as f64);
    let before = server.tasks().await?;
    let mut silent = Vec::new();
    for number in 0..count {
        let mut client = Client::connect(server.address()).await?;
        client.subscribe(&format!("room{}", number % 10)).await?;
        silent.push(client);
        opened.add(1);
    }
    let open = server.tasks().await?;
    seen.store(open, Ordering::Relaxed);
    let held = open.saturating_sub(before);
    sleep(deadline / 2).await;
    let after = settled(&server, before + 3, deadline / 2, &seen).await?.saturating_sub(before);
    lab.figure("tasks over the baseline", after as f64);
    // Three tasks are the noise of asking.
    let left = after.saturating_sub(3) as f64 / held.max(1) as f64;
    lab.figure("zombies left", 100.0 * left);
    drop(silent);
    Ok(())
}
