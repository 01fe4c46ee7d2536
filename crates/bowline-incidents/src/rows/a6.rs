//! A6, fifty thousand WebSocket users: one lock around the table of connections.
//!
//! A trading floor pushed prices to its users over WebSockets. All connections were in one table behind one lock, and whoever
//! published took the lock, went through the table and wrote to each socket. That is correct, easy to read, and fast in every test. At
//! five thousand users the p95 was 220 ms, and when one of them went into a tunnel it was minutes: a write to a peer that does not read
//! waits until there is room in its socket, and here it waited *with the lock in its hand*.
//!
//! The leaky form is that server. One user does not read, and is sent four megabytes; from then on nobody gets anything.
//!
//! The tied form gives each connection a queue of its own, bounded in bytes, and a publisher only ever puts a message there. Routing
//! is in shards, a message is encoded once for all who get it, and a user whose queue is full is disconnected with a code that tells the
//! client to come back. Slowness stays with whoever is slow.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::hub::Driven;
use crate::kit::{Client, Server};
use crate::lab::{Counter, Lab, Latency, Trouble};
use crate::row::{Bound, Need, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "A6",
    title: "50,000 WebSocket users",
    broke: "One global lock around the table of connections collapsed at 5,000 users, and stood still when one of them did not read.",
    must: "A bounded queue per connection and sharded routing: p99 below 35 ms, at most 6 KiB of memory per connection, and a user who \
           does not read holds up nobody.",
    theirs: "p95 220 ms → 35 ms; here the p99",
    load: "1,000 users in 100 channels, 100 publications a second for 3 s, one user who does not read and is owed 4 MB (reduced: 200 \
           users and 1 s; full: 8,000 users and 20 s, by the limit of open files)",
    remedy: "One outgoing queue per connection, bounded in bytes, with a stated policy for when it is full (disconnect); no lock is held \
             across an await anywhere.",
    needs: &[Need::Server],
    bounds: &[
        Bound::at_least("delivered", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("delivery p99", 0.035, Unit::Seconds).reduced(1.0).broken_by_leaky(),
        Bound::at_most("memory per connection", 6_144.0, Unit::Bytes).reduced(40_000.0),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: concat!(include_str!("a6.rs"), include_str!("hub.rs")),
};

// ANCHOR: tied
async fn serve_tied() -> Result<Server, Trouble> {
    // 1 MiB may wait for one client; whoever is owed more is disconnected with 3008, and others do not notice.
    Server::start(&[("client.queue_max_size", "1048576")]).await
}
// ANCHOR_END: tied

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    measured(lab, Driven::leaky().await?).await
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    measured(lab, Driven::Tied(serve_tied().await?)).await
}

const CHANNELS: usize = 100;

/// Between two publications.
const PACE: Duration = Duration::from_millis(10);

/// How long a publication may be under way before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(4);

async fn measured(lab: Lab, server: Driven) -> Result<(), Trouble> {
    let (users, seconds) = lab.size((200, 1), (1_000, 3), (8_000, 20));
    let address = server.address();
    // What is allocated once is not charged to the connections that are counted.
    let mut listeners = open(&server, lab.size(50, 100, 800)).await?;
    let before = server.resident_bytes();
    listeners.extend(open(&server, users).await?);
    if let Driven::Tied(server) = &server {
        let held = server.resident_bytes().saturating_sub(before);
        lab.figure("memory per connection", held as f64 / users as f64);
    }
    let mut stalled = Client::connect(address).await?;
    stalled.subscribe("prices of everything").await?;

    let (received, latency) = (lab.counter("received"), lab.latency("delivery"));
    let began = Instant::now();
    let publications = seconds * 100;
    let end = began + Duration::from_secs(seconds as u64) + PATIENCE;
    let mut tasks = JoinSet::new();
    let mut members = [0; CHANNELS];
    for (channel, client) in listeners {
        members[channel] += 1;
        tasks.spawn(listen(client, end, began, received.clone(), latency.clone()));
    }
    let expected: usize = (0..publications).map(|number| members[number % CHANNELS]).sum();
    let mut burdens = JoinSet::new();
    burdens.spawn(burden(address));
    publish(address, began, publications, end, &mut burdens).await?;
    while received.get() < expected as u64 && Instant::now() < end {
        sleep(Duration::from_millis(5)).await;
    }
    tasks.shutdown().await;
    lab.figure("delivered", 100.0 * received.get() as f64 / expected as f64);
    let missed = (expected as u64).saturating_sub(received.get());
    // What never came took at least until now.
    (0..missed).for_each(|_| latency.record(end - began));
    lab.figure("delivery p99", latency.percentile(99.0).as_secs_f64());
    drop(stalled);
    Ok(())
}

async fn open(server: &Driven, count: usize) -> Result<Vec<(usize, Client)>, Trouble> {
    let address = server.address();
    let mut opening = JoinSet::new();
    for lane in 0..16 {
        opening.spawn(async move {
            let mut clients = Vec::new();
            for number in (lane..count).step_by(16) {
                let channel = number % CHANNELS;
                let mut client = Client::connect(address).await?;
                client.subscribe(&format!("prices{channel}")).await?;
                clients.push((channel, client));
            }
            std::io::Result::Ok(clients)
        });
    }
    let mut clients = Vec::new();
    while let Some(opened) = opening.join_next().await {
        clients.extend(opened??);
    }
    Ok(clients)
}

/// Four megabytes for the one who does not read.
async fn burden(address: std::net::SocketAddr) {
    let data = Arc::new(Value::String("x".repeat(32 * 1024)));
    let Ok(mut publisher) = Client::connect(address).await else { return };
    for _ in 0..128 {
        let published = publisher.publish("prices of everything", &data);
        if !matches!(timeout(Duration::from_secs(1), published).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// One publication every [`PACE`], each with the time at which it was meant to be sent.
async fn publish(
    address: std::net::SocketAddr,
    began: Instant,
    publications: usize,
    end: Instant,
    burdens: &mut JoinSet<()>,
) -> Result<(), Trouble> {
    let mut publisher = Client::connect(address).await?;
    for number in 0..publications {
        if number == publications / 2 {
            // On a busy machine as well there is somebody who does not read by now.
            while burdens.join_next().await.is_some() {}
        }
        let due = began + PACE * number as u32;
        sleep_until(due).await;
        let data = json!((due - began).as_micros() as u64);
        let channel = format!("prices{}", number % CHANNELS);
        let published = publisher.publish(&channel, &data);
        match timeout_at(end, published).await {
            Ok(published) => published?,
            // Nobody gets anything any more: that is what is measured.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

async fn listen(mut client: Client, end: Instant, began: Instant, received: Counter, latency: Latency) {
    while let Ok(Ok(push)) = timeout_at(end, client.recv()).await {
        let due = Duration::from_micros(push["pub"]["data"].as_u64().unwrap_or_default());
        latency.record((Instant::now() - began).saturating_sub(due));
        received.add(1);
    }
}
