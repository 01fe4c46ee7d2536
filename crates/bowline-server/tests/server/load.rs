//! The server under load, on real sockets: nothing lost, nothing doubled, nothing left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{Running, config, eventually, tasks, with_server};
use bowline::{Cancelled, CollectAll, group, scope};
use bowline_server::client::Client;

const CONNECTIONS: usize = 1_000;
const CHANNELS: usize = 100;
const PUBLICATIONS_PER_CHANNEL: usize = 1_000;

/// 1,000 WebSockets in 100 channels, 100,000 publications: each subscriber gets each publication of its channel exactly
/// once and in order; at every sampling what was accepted is what was delivered plus what was refused. Then all clients
/// vanish at once, and the tasks are back at the baseline before anybody is pinged.
#[bowline::test(worker_threads = 2, timeout_secs = 300)]
async fn every_publication_reaches_every_subscriber_once_and_in_order_and_nothing_is_left_behind() {
    with_server(config(&[]), async |server| {
        let baseline = tasks(&server).await;
        let subscribers = open(&server).await;
        eventually("all are subscribed", || server.node.stats().subscriptions == CONNECTIONS as u64).await;
        assert_eq!(tasks(&server).await.named("connection"), CONNECTIONS);

        let done = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let subscribers = scope("load", async |s| {
            let sampler = s.spawn("sampler", sample(Arc::clone(&server), Arc::clone(&done)));
            for channel in 0..CHANNELS {
                s.spawn("publisher", publish(Arc::clone(&server), channel));
            }
            let received = Arc::clone(&received);
            let got = group("subscribers", CollectAll, async |g| {
                for client in subscribers {
                    g.spawn("subscriber", receive_all(client, Arc::clone(&received)));
                }
            });
            let clients = got.await.all_ok()?;
            done.store(true, Ordering::Relaxed);
            let samples = sampler.await?;
            assert!(samples > 10, "sampled {samples} times");
            Ok::<_, Cancelled>(clients)
        })
        .await
        .unwrap();

        let expected = (CONNECTIONS * PUBLICATIONS_PER_CHANNEL) as u64;
        assert_eq!(received.load(Ordering::Relaxed), expected);
        let deliveries = server.node.stats().deliveries;
        assert_eq!((deliveries.accepted, deliveries.delivered), (expected, expected));

        // Abruptly: no close frame.
        drop(subscribers);
        // Long before the first ping: the ends of the sockets have to do.
        let deadline = std::time::Duration::from_secs(60);
        let began = tokio::time::Instant::now();
        loop {
            let now = tasks(&server).await;
            if now.ours == baseline.ours {
                break;
            }
            assert!(
                began.elapsed() < deadline,
                "after a minute {} tasks, baseline {}",
                now.ours,
                baseline.ours
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let now = tasks(&server).await;
        assert_eq!(now.named("connection"), 0);
        assert_eq!(now.foreign, 0, "the JSON tree and the runtime's own count agree");
        assert_eq!(server.node.stats().clients, 0);
        assert_eq!(server.node.stats().subscriptions, 0);
    })
    .await;
}

async fn open(server: &Arc<Running>) -> Vec<Client> {
    let opened = group("open", CollectAll, async |g| {
        for lane in 0..20 {
            let server = Arc::clone(server);
            g.spawn("open", async move {
                let mut clients = Vec::new();
                for number in (lane..CONNECTIONS).step_by(20) {
                    clients.push(server.subscribe(&format!("load{}", number % CHANNELS)).await);
                }
                Ok::<_, Cancelled>(clients)
            });
        }
    });
    opened.await.all_ok().unwrap().into_iter().flatten().collect()
}

async fn publish(server: Arc<Running>, channel: usize) -> Result<(), Cancelled> {
    let mut publisher = server.connect().await;
    // Frames of several commands, as SDKs batch them.
    const BATCH: usize = 50;
    for first in (0..PUBLICATIONS_PER_CHANNEL).step_by(BATCH) {
        let commands: Vec<String> = (first..first + BATCH)
            .map(|n| format!(r#"{{"id":{},"publish":{{"channel":"load{channel}","data":{n}}}}}"#, n + 2))
            .collect();
        publisher.send(&commands.join("\n")).await.unwrap();
        for n in first..first + BATCH {
            let reply = next_but_pings(&mut publisher).await;
            assert_eq!(reply, format!(r#"{{"id":{},"publish":{{}}}}"#, n + 2));
        }
    }
    Ok(())
}

/// Answers pings and returns what else comes.
async fn next_but_pings(client: &mut Client) -> String {
    loop {
        let text = client.next_text().await.unwrap();
        if text != "{}" {
            return text;
        }
        client.send("{}").await.unwrap();
    }
}

/// Reads until every publication of the channel has come; panics at the first that is lost, doubled or out of order.
async fn receive_all(mut client: Client, received: Arc<AtomicU64>) -> Result<Client, Cancelled> {
    let mut next = 0;
    while next < PUBLICATIONS_PER_CHANNEL {
        let text = next_but_pings(&mut client).await;
        let data = text.split(r#""data":"#).nth(1).unwrap_or_else(|| panic!("not a publication: {text}"));
        let digits = data.bytes().take_while(u8::is_ascii_digit).count();
        assert_eq!(data[..digits].parse(), Ok(next), "in {text}");
        next += 1;
        received.fetch_add(1, Ordering::Relaxed);
    }
    Ok(client)
}

async fn sample(server: Arc<Running>, done: Arc<AtomicBool>) -> Result<usize, Cancelled> {
    let mut samples = 0;
    while !done.load(Ordering::Relaxed) {
        let deliveries = server.node.stats().deliveries;
        let refused: u64 = deliveries.refused.values().sum();
        assert_eq!(
            deliveries.accepted,
            deliveries.delivered + refused + deliveries.in_flight,
            "{deliveries:?}"
        );
        // What is accepted and delivered while a snapshot is being taken looks in flight in it: there is no bound but all.
        assert!(deliveries.accepted <= (CONNECTIONS * PUBLICATIONS_PER_CHANNEL) as u64, "{deliveries:?}");
        samples += 1;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Ok(samples)
}
