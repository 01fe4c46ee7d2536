//! A3, a burst by one peer: ten thousand messages at once, and everybody else waits.
//!
//! A gateway spawned a task for each message it read, because that is what one does. Then a peer came back after an hour in a tunnel and
//! sent all it had gathered, ten thousand messages in one second. Ten thousand tasks stood in line for the same lock, the processor
//! was busy with switching between them, and every other peer's request stood at the end of that line.
//!
//! In the leaky form the number of tasks is the peer's to choose. In the tied form a connection's messages are handled one after the other
//! by its own task, so that a burst costs no memory; but that alone would not help the others where the processor is what all wait for:
//! a peer that is served as fast as it can send takes all there is. So what one connection may send in a second has a limit, set to what
//! its clients ever need, and who sends more is closed with a code of its own.
//!
//! Five paths are measured, all at once, each with two clients of its own and an event every 20 ms: publish, direct message, request and
//! reply, history, presence. Seconds at rest and seconds of bursts take turns. The peer that bursts is a thread of its own, which sends
//! ten thousand messages in one piece, reads the answers, and sends the next ten thousand; sent away, it is back after a tenth of a second.

use std::net::SocketAddr;
use std::time::Duration;

use bowline_protocol::websocket::{Opcode, masked_frame};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::hub::Driven;
use crate::kit::apart::apart;
use crate::kit::{Client, Server};
use crate::lab::{Lab, Latency, Trouble};
use crate::row::{Bound, Need, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "A3",
    title: "burst by one peer",
    broke: "A task per message: a peer sent 10,000 at once, and every other peer's request waited behind them.",
    must: "A peer that bursts delays itself: on each of the five paths the latency of the others moves by 2× at most.",
    theirs: "\"consistent under load\" with 5 workers and a queue of 100; here a ratio for each path",
    load: "50 events a second on each of the five paths, 3 s at rest and 3 s while another peer sends bursts of 10,000 messages one after \
           the other (reduced: 2 s of each; full: 30 s)",
    remedy: "So many commands a second and connection, and whoever sends more is closed with 3013. What waits of the others is one message \
             at a time, for a connection's messages are handled in order by its one task.",
    needs: &[Need::Server],
    bounds: &[
        // Reduced runs share the machine with others, and at worst all of this has one core.
        Bound::at_most("slowest path", 2.0, Unit::Times).reduced(10.0).broken_by_leaky(),
        Bound::at_most("publish", 2.0, Unit::Times).reduced(10.0),
        Bound::at_most("direct message", 2.0, Unit::Times).reduced(10.0),
        Bound::at_most("request and reply", 2.0, Unit::Times).reduced(10.0),
        Bound::at_most("history", 2.0, Unit::Times).reduced(10.0),
        Bound::at_most("presence", 2.0, Unit::Times).reduced(10.0),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: concat!(include_str!("a3.rs"), include_str!("hub.rs")),
};

// ANCHOR: tied
async fn serve_tied() -> Result<Server, Trouble> {
    Server::start(&[
        ("channel.without_namespace.history_size", "10"),
        ("channel.without_namespace.history_ttl", "60s"),
        ("channel.without_namespace.presence", "true"),
        // What these clients ever need: so many commands a second, and ten times as many at once. Who sends more is closed with 3013.
        ("client.command_rate_limit", "100"),
    ])
    .await
}
// ANCHOR_END: tied

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    measured(lab, Driven::leaky().await?).await
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    measured(lab, Driven::Tied(serve_tied().await?)).await
}

const PATHS: [&str; 5] = ["publish", "direct message", "request and reply", "history", "presence"];

/// Between two events of one path.
const PACE: Duration = Duration::from_millis(20);

/// How long after the end of a lap an answer may still come; what has not come by then took at least until then.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many messages a burst has.
const BURST: u32 = 10_000;

/// After so long whoever was sent away is back: sooner than any client that means well.
const COMES_BACK: Duration = Duration::from_millis(100);

async fn measured(lab: Lab, server: Driven) -> Result<(), Trouble> {
    let (laps, seconds) = lab.size((2, 1), (3, 1), (10, 3));
    let length = Duration::from_secs(seconds);
    let latencies = |when: &str| PATHS.map(|path| lab.latency(&format!("{path}, {when}")));
    let (at_rest, during) = (latencies("at rest"), latencies("during bursts"));
    let (bursts, address) = (lab.counter("bursts"), server.address());
    // What is slow because it is the first is nobody's burst.
    lap(address, length / 4, &PATHS.map(|_| Latency::default())).await?;
    // In turns: a machine that has something else to do slows both.
    for _ in 0..laps {
        lap(address, length, &at_rest).await?;
        let until = Instant::now() + length;
        let rude = apart(move || rude(address, until));
        lap(address, length, &during).await?;
        bursts.add(rude.await??);
    }
    if bursts.get() == 0 {
        return Err("no burst was sent".into());
    }
    let mut slowest = 0.0_f64;
    for (path, (at_rest, during)) in PATHS.iter().zip(at_rest.iter().zip(&during)) {
        let p95 = |latency: &Latency| latency.percentile(95.0).as_secs_f64();
        let ratio = p95(during) / p95(at_rest);
        lab.figure(path, ratio);
        slowest = slowest.max(ratio);
    }
    lab.figure("slowest path", slowest);
    Ok(())
}

/// The peer that bursts: ten thousand messages in one piece, and when all are answered, the next. Returns how many it began.
fn rude(address: SocketAddr, until: Instant) -> Result<u64, Trouble> {
    let message = |number: u32| {
        let text = format!(r#"{{"id":{number},"publish":{{"channel":"flood","data":{number}}}}}"#);
        masked_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4])
    };
    let burst: Vec<u8> = (2..2 + BURST).flat_map(message).collect();
    let bursts = async {
        let mut begun = 0;
        while Instant::now() < until {
            if let Ok(mut peer) = Client::connect(address).await {
                let mut is_open = true;
                while is_open && Instant::now() < until {
                    begun += 1;
                    is_open = peer.burst(&burst, BURST as usize).await.is_ok();
                }
            }
            sleep(COMES_BACK).await;
        }
        begun
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async { timeout_at(until + 2 * PATIENCE, bursts).await })?)
}

/// All five paths at once, each with clients of its own and at its own pace.
async fn lap(address: SocketAddr, length: Duration, latencies: &[Latency; 5]) -> Result<(), Trouble> {
    let mut paths = JoinSet::new();
    let began = Instant::now() + PACE;
    for (path, latency) in latencies.iter().enumerate() {
        let pair = Pair::open(address, PATHS[path]).await?;
        let first = began + PACE / 5 * path as u32;
        paths.spawn(steadily(path, pair, first, began + length, latency.clone()));
    }
    while let Some(ended) = paths.join_next().await {
        ended??;
    }
    Ok(())
}

/// One event each [`PACE`], recorded from when it was due: one that begins late, because the one before took so long, has waited as
/// well.
async fn steadily(
    path: usize,
    mut pair: Pair,
    first: Instant,
    end: Instant,
    latency: Latency,
) -> Result<(), Trouble> {
    let mut due = first;
    let mut is_over = false;
    while due < end {
        sleep_until(due).await;
        if !is_over {
            match timeout_at(end + PATIENCE, pair.go(path)).await {
                Ok(done) => done?,
                Err(_) => is_over = true,
            }
        }
        latency.record(due.elapsed());
        due += PACE;
    }
    Ok(())
}

/// Who talk to each other on one path.
struct Pair {
    alice: Client,
    bob: Client,
    channel: String,
}

impl Pair {
    async fn open(address: SocketAddr, name: &str) -> Result<Self, Trouble> {
        let (mut alice, mut bob) = (Client::connect(address).await?, Client::connect(address).await?);
        bob.subscribe(name).await?;
        alice.subscribe("answers").await?;
        Ok(Self { alice, bob, channel: name.to_owned() })
    }

    async fn go(&mut self, path: usize) -> Result<(), Trouble> {
        let Self { alice, bob, channel } = self;
        match path {
            0 | 1 => {
                alice.publish(channel, &json!("hello")).await?;
                bob.recv().await?;
            }
            2 => {
                alice.publish(channel, &json!("why?")).await?;
                bob.recv().await?;
                bob.publish("answers", &json!("because")).await?;
                alice.recv().await?;
            }
            3 => drop(alice.call("history", json!({ "channel": channel, "limit": 10 })).await?),
            _ => drop(alice.call("presence", json!({ "channel": channel })).await?),
        }
        Ok(())
    }
}
