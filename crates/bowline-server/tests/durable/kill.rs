//! A server that is killed again and again under load: what it acknowledged is there, once, and in order.
//!
//! `BOWLINE_KILLS` says how often; ten if nothing does.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{Cancelled, scope};
use serde_json::{Value, json};

use super::support::{PATIENCE, Scratch, Server, api, messages, publication, subscribe};

const CHANNELS: [&str; 4] = ["one", "two", "three", "four"];

/// Publications in one request.
const BATCH: usize = 20;

/// What publishers and subscribers know. Everything that was sent differs.
#[derive(Default)]
struct Known {
    next: AtomicU64,
    sent: Mutex<HashMap<&'static str, HashSet<String>>>,
    acknowledged: Mutex<HashMap<&'static str, Vec<Acknowledged>>>,
    received: Mutex<HashMap<&'static str, Received>>,
    recoveries: AtomicU64,
    stopping: AtomicBool,
}

/// Where a publication is, if its publisher was told, and its data.
type Acknowledged = (Option<u64>, String);

/// What one subscriber was told over all lives of the server.
#[derive(Clone, Default)]
struct Received {
    epoch: String,
    data: Vec<String>,
}

impl Known {
    fn datum(&self, channel: &'static str) -> String {
        let datum = format!("datum-{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.sent.lock().unwrap().entry(channel).or_default().insert(datum.clone());
        datum
    }

    fn acknowledge(&self, channel: &'static str, offset: Option<u64>, datum: String) {
        self.acknowledged.lock().unwrap().entry(channel).or_default().push((offset, datum));
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// Publishes through the server API until the server is gone.
async fn publish_batches(known: Arc<Known>, server: SocketAddr) -> Result<(), Cancelled> {
    while !known.is_stopping() {
        let data: Vec<_> = (0..BATCH)
            .map(|number| CHANNELS[number % CHANNELS.len()])
            .map(|channel| (channel, known.datum(channel)))
            .collect();
        let commands: Vec<Value> = data
            .iter()
            .map(|(channel, datum)| json!({"publish": {"channel": channel, "data": datum}}))
            .collect();
        let Ok(replies) = api(server, "batch", &json!({"commands": commands})).await else { break };
        for ((channel, datum), reply) in data.into_iter().zip(replies.as_array().unwrap()) {
            match reply["publish"]["offset"].as_u64() {
                Some(offset) => known.acknowledge(channel, Some(offset), datum),
                None => panic!("{reply}"),
            }
        }
    }
    Ok(())
}

/// Publishes over a WebSocket, several at a time, until the server is gone.
async fn publish_commands(known: Arc<Known>, server: SocketAddr) -> Result<(), Cancelled> {
    let Ok((mut client, _)) = subscribe(server, "of the publisher", None).await else { return Ok(()) };
    let (mut id, mut waiting) = (10, HashMap::new());
    while !known.is_stopping() {
        while waiting.len() < 8 {
            id += 1;
            let channel = CHANNELS[id % CHANNELS.len()];
            let datum = known.datum(channel);
            let command = json!({"id": id, "publish": {"channel": channel, "data": datum}});
            waiting.insert(id, (channel, datum));
            if client.send(&command.to_string()).await.is_err() {
                return Ok(());
            }
        }
        let Ok(replies) = messages(&mut client).await else { return Ok(()) };
        for reply in replies {
            assert!(reply.get("error").is_none(), "{reply}");
            let id = reply["id"].as_u64().and_then(|id| usize::try_from(id).ok());
            if let Some((channel, datum)) = id.and_then(|id| waiting.remove(&id)) {
                known.acknowledge(channel, None, datum);
            }
        }
    }
    Ok(())
}

/// Recovers what was missed, and takes what comes until the server is gone.
async fn listen(known: Arc<Known>, server: SocketAddr, channel: &'static str) -> Result<(), Cancelled> {
    let mut own = known.received.lock().unwrap().get(channel).cloned().unwrap_or_default();
    // The first time from the beginning, of whatever epoch.
    let since = (own.data.len() as u64, &*own.epoch);
    let Ok((mut client, told)) = subscribe(server, channel, Some(since)).await else { return Ok(()) };
    let take = |own: &mut Received, (offset, datum): (u64, Value)| {
        assert_eq!(offset, own.data.len() as u64 + 1, "{channel}: a gap, or the same again");
        own.data.push(datum.as_str().unwrap().to_owned());
    };
    assert_eq!(told["recovered"], true, "{channel}: {told}");
    if !own.epoch.is_empty() {
        known.recoveries.fetch_add(1, Ordering::Relaxed);
    }
    own.epoch = told["epoch"].as_str().unwrap().to_owned();
    for found in told["publications"].as_array().into_iter().flatten() {
        take(&mut own, (found["offset"].as_u64().unwrap(), found["data"].clone()));
    }
    while let Ok(next) = messages(&mut client).await {
        next.iter().filter_map(publication).for_each(|found| take(&mut own, found));
    }
    known.received.lock().unwrap().insert(channel, own);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_every_kill_once_and_in_order() {
    let kills: u64 = std::env::var("BOWLINE_KILLS").ok().map_or(10, |kills| kills.parse().unwrap());
    let (scratch, known) = (Scratch::new("kill"), Arc::<Known>::default());
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for life in 1..=kills {
        let server = Server::start(&scratch.data(), &[]);
        let public = server.public;
        known.stopping.store(false, Ordering::Relaxed);
        // From the first answer to a third of a second later, at another moment each time.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(life);
        let moment = Duration::from_micros(2_000 + (seed >> 33) % 300_000);
        let life = scope("life", async |s| {
            for channel in CHANNELS {
                s.spawn("listener", listen(Arc::clone(&known), public, channel));
            }
            for _ in 0..2 {
                s.spawn("publisher", publish_batches(Arc::clone(&known), public));
            }
            s.spawn("publisher", publish_commands(Arc::clone(&known), public));
            tokio::time::sleep(moment).await;
            server.kill();
            known.stopping.store(true, Ordering::Relaxed);
            Ok::<_, Cancelled>(())
        });
        tokio::time::timeout(PATIENCE, life).await.expect("everybody notices").unwrap();
    }

    let server = Server::start(&scratch.data(), &[]);
    let (mut stored_in_all, mut acknowledged_in_all) = (0, 0);
    for channel in CHANNELS {
        let page = server.api("history", &json!({"channel": channel, "limit": -1})).await.unwrap();
        let stored: Vec<&str> = page["publications"]
            .as_array()
            .unwrap()
            .iter()
            .zip(1_u64..)
            .map(|(publication, offset)| {
                assert_eq!(publication["offset"], offset, "{channel}: a gap, or the same offset twice");
                publication["data"].as_str().unwrap()
            })
            .collect();
        let sent = known.sent.lock().unwrap();
        assert!(stored.iter().all(|datum| sent[channel].contains(*datum)), "{channel}: not whole");
        let once: HashSet<&str> = stored.iter().copied().collect();
        assert_eq!(once.len(), stored.len(), "{channel}: stored twice");
        let acknowledged = known.acknowledged.lock().unwrap();
        let acknowledged = acknowledged.get(channel).map(Vec::as_slice).unwrap_or_default();
        for (offset, datum) in acknowledged {
            assert!(once.contains(&**datum), "{channel}: {datum} was acknowledged and is lost");
            if let Some(offset) = offset {
                assert_eq!(stored[usize::try_from(*offset).unwrap() - 1], datum, "{channel}: moved");
            }
        }
        let received = known.received.lock().unwrap().get(channel).cloned().unwrap_or_default();
        if !received.epoch.is_empty() {
            assert_eq!(page["epoch"], received.epoch, "{channel}: another epoch");
            assert_eq!(received.data, stored[..received.data.len()], "{channel}: told otherwise");
        }
        stored_in_all += stored.len();
        acknowledged_in_all += acknowledged.len();
    }
    let recoveries = known.recoveries.load(Ordering::Relaxed);
    println!(
        "{kills} kills: {acknowledged_in_all} acknowledged, {stored_in_all} stored, {recoveries} recoveries"
    );
    assert!(acknowledged_in_all > 0 && (kills < 3 || recoveries > 0), "nothing was put to the test");
}
