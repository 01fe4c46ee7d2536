//! What the end of a server costs: all its clients come back at once and recover what they missed.
//!
//! Clients subscribe, the server is killed and started again on the same data directory, half of what they miss is
//! published before that and half afterwards, and then all reconnect as fast as the server lets them. A publisher on a
//! thread of its own is timed before and meanwhile.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bowline::{Either, FailFast, group, race, scope};
use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::child::{BenchError, ServerUnderTest};
use super::directory::Scratch;
use super::http::{BlockingCaller, Caller};
use super::publish::percentile_ms;
use crate::client::Client;

/// Connections from one address: fewer than the ports a system gives.
const PER_ADDRESS: usize = 20_000;

/// How often it is told how many are connected: seldom enough to cost the load nothing.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// Publications in one request.
const BATCH: usize = 100;

/// How long the publisher that is timed waits between two publications.
const PAUSE: Duration = Duration::from_millis(2);

/// For how long it is timed before.
const BEFORE: Duration = Duration::from_secs(3);

/// Who comes back.
#[derive(Clone, Debug)]
pub struct RecoverLoad {
    /// Clients.
    pub clients: usize,
    /// Channels each is subscribed to.
    pub subscriptions: usize,
    /// Channels there are.
    pub channels: usize,
    /// Publications that each channel gets meanwhile.
    pub missed: usize,
    /// Clients that connect at the same time.
    pub at_once: usize,
    /// Where the data directory is made; `None` for the system's directory for temporary files.
    pub parent: Option<PathBuf>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct RecoverReport {
    /// Clients that came back.
    pub clients: usize,
    /// Channels each recovered.
    pub subscriptions: usize,
    /// Publications that were recovered, by all clients in all channels.
    pub recovered_publications: usize,
    /// From the kill until the server that was started again took connections.
    pub restart_ms: f64,
    /// From the first connection until everybody had recovered.
    pub all_recovered_ms: f64,
    /// From a client's connection until it had recovered: the median.
    pub p50_ms: f64,
    /// What 99% of the clients kept to.
    pub p99_ms: f64,
    /// Bytes of memory the server held with all clients idle.
    pub idle_resident_bytes: u64,
    /// Bytes the new one held at most.
    pub peak_resident_bytes: u64,
    /// The other publisher's time from request to answer before: 99% kept to it.
    pub publisher_before_p99_ms: f64,
    /// The same while the clients came back.
    pub publisher_meanwhile_p99_ms: f64,
    /// How often it published meanwhile.
    pub publisher_meanwhile: usize,
}

/// A subscription that is to be recovered.
#[derive(Clone, Debug)]
struct Place {
    channel: usize,
    offset: u64,
    epoch: String,
}

/// Brings `load.clients` back to a server that was killed, and checks that each gets exactly what it missed.
///
/// `progress` is told now and then how many clients are connected, first to the old server and then to the new.
///
/// # Errors
///
/// [`BenchError`] if the server does not start, a connection fails, or a client does not get exactly what it missed.
pub async fn recover(load: RecoverLoad, progress: impl Fn(usize)) -> Result<RecoverReport, BenchError> {
    // A client subscribes to a channel once.
    let load = RecoverLoad { subscriptions: load.subscriptions.min(load.channels), ..load };
    let scratch = Scratch::new(load.parent.as_deref())?;
    let settings = [
        format!("store.path={}", scratch.path().display()),
        // Nobody asks who else is there.
        "channel.without_namespace.presence=false".to_owned(),
    ];
    let server = ServerUnderTest::start_with(load.clients + 2, &settings)?;
    let nowhere = Arc::new(Vec::new());
    let (first, _) = connect_all(&load, server.address, &nowhere, &progress).await?;
    let idle_resident_bytes = server.resident_bytes()?;
    publish_all(&load, server.address, 0, load.missed / 2).await?;
    let before = timed(server.address, || tokio::time::sleep(BEFORE)).await?;

    let killed = Instant::now();
    drop(server);
    let server = ServerUnderTest::start_with(load.clients + 2, &settings)?;
    let restart = killed.elapsed();
    let places: Vec<Vec<Place>> = first.into_iter().map(|client| client.places).collect();
    publish_all(&load, server.address, load.missed / 2, load.missed).await?;

    let places = Arc::new(places);
    let mut all_recovered = Duration::ZERO;
    let mut back = None;
    let meanwhile = timed(server.address, async || {
        let began = Instant::now();
        back = Some(connect_all(&load, server.address, &places, &progress).await);
        all_recovered = began.elapsed();
    })
    .await?;
    let (clients, mut times) = back.ok_or(BenchError::Stopped)??;
    times.sort_unstable();
    let peak_resident_bytes = server.peak_resident_bytes()?;
    let report = RecoverReport {
        clients: clients.len(),
        subscriptions: load.subscriptions,
        recovered_publications: clients.iter().map(|client| client.recovered).sum(),
        restart_ms: restart.as_secs_f64() * 1_000.0,
        all_recovered_ms: all_recovered.as_secs_f64() * 1_000.0,
        p50_ms: percentile_ms(&times, 0.5),
        p99_ms: percentile_ms(&times, 0.99),
        idle_resident_bytes,
        peak_resident_bytes,
        publisher_before_p99_ms: percentile_ms(&before, 0.99),
        publisher_meanwhile_p99_ms: percentile_ms(&meanwhile, 0.99),
        publisher_meanwhile: meanwhile.len(),
    };
    Ok(report)
}

/// A client with its subscriptions.
struct Subscribed {
    /// Kept open: who is gone needs no memory.
    _client: Client,
    places: Vec<Place>,
    recovered: usize,
}

/// Connects all clients, with what each is to recover if it was there before, and answers how long each took.
async fn connect_all(
    load: &RecoverLoad,
    address: SocketAddr,
    places: &Arc<Vec<Vec<Place>>>,
    progress: impl Fn(usize),
) -> Result<(Vec<Subscribed>, Vec<Duration>), BenchError> {
    let open = Arc::new(AtomicUsize::new(0));
    let told = async {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            progress(open.load(Ordering::Relaxed));
        }
    };
    let (mut clients, mut times) = (Vec::with_capacity(load.clients), Vec::with_capacity(load.clients));
    let lanes = load.at_once.clamp(1, load.clients.max(1));
    let connected = group("clients", FailFast, async |g| {
        for lane in 0..lanes {
            let (load, places, open) = (load.clone(), Arc::clone(places), Arc::clone(&open));
            g.spawn("client", async move {
                let mut done = Vec::new();
                for number in (lane..load.clients).step_by(lanes) {
                    let began = Instant::now();
                    let client = subscribed(&load, address, number, places.get(number)).await?;
                    done.push((client, began.elapsed()));
                    open.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, BenchError>(done)
            });
        }
    });
    let connected = match race(connected, told).await {
        Either::Left(connected) => connected.all_ok()?,
        Either::Right(never) => never,
    };
    for (client, took) in connected.into_iter().flatten() {
        clients.push(client);
        times.push(took);
    }
    progress(open.load(Ordering::Relaxed));
    Ok((clients, times))
}

/// Opens one client, and subscribes it, from its places if it has some.
async fn subscribed(
    load: &RecoverLoad,
    address: SocketAddr,
    number: usize,
    places: Option<&Vec<Place>>,
) -> Result<Subscribed, BenchError> {
    let socket = TcpSocket::new_v4()?;
    let part = u8::try_from(number / PER_ADDRESS).unwrap_or(u8::MAX);
    if part > 0 {
        socket.bind((Ipv4Addr::new(127, 0, 0, 1 + part), 0).into())?;
    }
    let mut client = Client::open_on(socket, address, "/connection/websocket").await?;
    client.call(r#"{"id":1,"connect":{}}"#).await?;
    let fresh;
    let asked = match places {
        Some(places) => places,
        None => {
            let place =
                |at| Place { channel: (number + at) % load.channels.max(1), offset: 0, epoch: String::new() };
            fresh = (0..load.subscriptions).map(place).collect();
            &fresh
        }
    };
    let commands: Vec<String> = asked
        .iter()
        .enumerate()
        .map(|(index, Place { channel, offset, epoch })| {
            let id = index + 2;
            let from = match places {
                Some(_) => format!(r#","recover":true,"offset":{offset},"epoch":"{epoch}""#),
                None => String::new(),
            };
            format!(r#"{{"id":{id},"subscribe":{{"channel":"bench{channel}","recoverable":true{from}}}}}"#)
        })
        .collect();
    client.send(&commands.join("\n")).await?;
    let mut answers: Vec<Option<Place>> = vec![None; asked.len()];
    let (mut left, mut recovered) = (asked.len(), 0);
    while left > 0 {
        for line in client.next_text().await?.lines() {
            let reply: Reply = serde_json::from_str(line).map_err(|_| wrong(line))?;
            let Some(id) = reply.id else { continue };
            let index = (id as usize).checked_sub(2).filter(|index| *index < asked.len());
            let (Some(index), Some(subscribe)) = (index, reply.subscribe) else { return Err(wrong(line)) };
            let place = &asked[index];
            if places.is_some() {
                recovered += subscribe.check(place, load.missed).ok_or_else(|| wrong(line))?;
            }
            let Answer { offset, epoch, .. } = subscribe;
            answers[index] = Some(Place { channel: place.channel, offset, epoch });
            left -= 1;
        }
    }
    Ok(Subscribed { _client: client, places: answers.into_iter().flatten().collect(), recovered })
}

fn wrong(line: &str) -> BenchError {
    io::Error::other(format!("not what was missed: {line:.300}")).into()
}

/// As much of a reply as is needed.
#[derive(Deserialize)]
struct Reply {
    id: Option<u64>,
    subscribe: Option<Answer>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Answer {
    offset: u64,
    epoch: String,
    recovered: bool,
    publications: Vec<Missed>,
}

#[derive(Deserialize)]
struct Missed {
    offset: u64,
    data: usize,
}

impl Answer {
    /// How many publications were recovered; `None` unless they are exactly the `missed` behind `place`, in order.
    fn check(&self, place: &Place, missed: usize) -> Option<usize> {
        let offsets = self.publications.iter().map(|missed| missed.offset);
        let numbers = self.publications.iter().map(|missed| missed.data);
        let is_right = self.recovered
            && self.epoch == place.epoch
            && offsets.eq(place.offset + 1..=place.offset + missed as u64)
            && numbers.eq(0..missed);
        is_right.then_some(missed)
    }
}

/// Publishes the numbers `from..to` into every channel.
async fn publish_all(
    load: &RecoverLoad,
    address: SocketAddr,
    from: usize,
    to: usize,
) -> Result<(), BenchError> {
    let mut caller = Caller::open(address).await?;
    let all: Vec<(usize, usize)> =
        (from..to).flat_map(|number| (0..load.channels).map(move |channel| (channel, number))).collect();
    for part in all.chunks(BATCH) {
        let commands: Vec<String> = part
            .iter()
            .map(|(channel, number)| {
                format!(r#"{{"publish":{{"channel":"bench{channel}","data":{number}}}}}"#)
            })
            .collect();
        let answer = caller.call("batch", &format!(r#"{{"commands":[{}]}}"#, commands.join(","))).await?;
        if answer.contains(r#""error":"#) {
            return Err(io::Error::other(format!("refused: {answer:.300}")).into());
        }
    }
    Ok(())
}

/// Times a publisher of its own while `work` goes on; answers its times, sorted.
async fn timed(address: SocketAddr, work: impl AsyncFnOnce()) -> Result<Vec<Duration>, BenchError> {
    scope("timed", async |s| {
        let over = Arc::new(AtomicBool::new(false));
        let publisher = {
            let over = Arc::clone(&over);
            s.spawn_blocking("publisher", move || publish_until(address, &over).map_err(BenchError::Io))
        };
        work().await;
        // Relaxed: it carries nothing but itself.
        over.store(true, Ordering::Relaxed);
        let mut times = publisher.await?;
        times.sort_unstable();
        Ok(times)
    })
    .await
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, so that the load does not keep it waiting"
)]
fn publish_until(address: SocketAddr, over: &AtomicBool) -> io::Result<Vec<Duration>> {
    let mut caller = BlockingCaller::open(address)?;
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = caller.call("publish", r#"{"channel":"other","data":"x"}"#)?;
        if answer.contains(r#""error":"#) {
            return Err(io::Error::other(format!("refused: {answer:.300}")));
        }
        times.push(asked.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exactly_what_was_missed_counts() {
        let place = Place { channel: 1, offset: 7, epoch: "e".into() };
        let answer = |recovered: bool, epoch: &str, offsets: &[u64]| Answer {
            offset: 9,
            epoch: epoch.into(),
            recovered,
            publications: offsets
                .iter()
                .enumerate()
                .map(|(data, offset)| Missed { offset: *offset, data })
                .collect(),
        };
        assert_eq!(answer(true, "e", &[8, 9]).check(&place, 2), Some(2));
        for wrong in [
            answer(false, "e", &[8, 9]),
            answer(true, "f", &[8, 9]),
            answer(true, "e", &[8]),
            answer(true, "e", &[9, 8]),
            answer(true, "e", &[8, 9, 10]),
            answer(true, "e", &[8, 8]),
        ] {
            assert_eq!(wrong.check(&place, 2), None);
        }
    }
}
