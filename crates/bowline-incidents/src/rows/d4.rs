//! D4, the gRPC stream: the client leaves, and what generates its stream goes on.
//!
//! A service streamed the quotes of an instrument for as long as somebody watched. The handler spawned a task that asked the exchange
//! and put what it got into a channel, and returned the receiving end as the stream, as the examples do it. A client that left took
//! that end with it, and the generator ended when it next had something to send: at once for an instrument that is traded, and never for
//! one that is not. Those were most of them. Each of these tasks went on asking the exchange for nobody, and the exchange
//! counted every one against the limit of its subscriptions.
//!
//! The leaky form even looks whether anybody receives; only not while it waits for something to send. In the tied form the call is a
//! scope, and the generator is spawned in it. Whoever writes to the client is the first to hear that it has left, the scope ends with
//! that, and the generator is cancelled where it stands, in the middle of its question to the exchange.
//!
//! Both forms speak real HTTP/2 and gRPC's framing over loopback. One client in four reads its stream to the end, one leaves an
//! instrument that is traded, one a quiet one, and one vanishes with its whole connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline::{Bound as Holds, Cancelled, Discard, Overflow, group, scope};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::kit::grpc::{Answers, Call, Caller, Connection, Left, connect};
use crate::lab::{Counter, Lab, Latency, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "D4",
    title: "gRPC stream",
    broke: "Each call spawned a task that generated its stream. The client left, and the generator went on until it next had something \
            to send, which for a quiet instrument was never.",
    must: "The stream owns its generator: the client's leaving, by a cancel or with its connection, cancels it.",
    theirs: "generators lived on after their clients; here all are gone within 1 s of the disconnect",
    load: "400 streams: a quarter are read to the end, a quarter each are cancelled while there is something to send and while there is \
           nothing, and a quarter vanish with their connection (reduced: 80; full: 4,000)",
    remedy: "A `scope` for the call with the generator in it: when the writer hears that the client has left, the scope cancels the generator.",
    needs: &[],
    bounds: &[
        // The promise, at every scale: a second is a hundred times what it takes to hear of a disconnect on loopback.
        Bound::at_most("last generator gone after", LIMIT.as_secs() as f64, Unit::Seconds).broken_by_leaky(),
        Bound::at_most("generators left", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("streams read to the end", 100.0, Unit::Percent),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("d4.rs"),
};

const LIMIT: Duration = Duration::from_secs(1);

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn watch_leaky(mut call: Call, exchange: Arc<Exchange>) -> Result<(), Left> {
    let instrument = call.asked().await?;
    let (tx, mut quotes) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut feed = Feed::open(exchange, instrument);
        while let Some(quote) = feed.next().await {
            if tx.send(quote).await.is_err() {
                return; // nobody watches any more
            }
        }
    });
    // What a framework does with the stream it is given.
    while let Some(quote) = call.unless_left(quotes.recv()).await? {
        call.send(quote).await?;
    }
    call.end()
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn watch_tied(mut call: Call, exchange: Arc<Exchange>) -> Result<(), Left> {
    let instrument = call.asked().await?;
    scope("watch", async |s| {
        let (tx, quotes) = s.queue("quotes", Holds::items(16), Overflow::Block);
        s.spawn_with("generate", tx, async move |_cx, tx| {
            let mut feed = Feed::open(exchange, instrument);
            while let Some(quote) = feed.next().await {
                tx.send(quote).await.map_err(Cancelled::from)?;
            }
            Ok(())
        });
        while let Some(quote) = call.unless_left(quotes.recv()).await?? {
            call.send(quote).await?;
        }
        call.end()
    })
    .await
}
// ANCHOR_END: tied

#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let (exchange, listener) = (Exchange::new(&lab), TcpListener::bind(("127.0.0.1", 0)).await?);
    let (server, offered) = (listener.local_addr()?, Arc::clone(&exchange));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let exchange = Arc::clone(&offered);
            tokio::spawn(async move {
                let Ok(mut connection) = Connection::begin(stream).await else { return };
                while let Some(call) = connection.next_call().await {
                    tokio::spawn(watch_leaky(call, Arc::clone(&exchange)));
                }
            });
        }
    });
    measured(&lab, server, exchange).await
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let (exchange, listener) = (Exchange::new(&lab), TcpListener::bind(("127.0.0.1", 0)).await?);
    let (server, offered) = (listener.local_addr()?, Arc::clone(&exchange));
    let server = scope("server", async |s| {
        let serving = s.spawn("accept", async move {
            let connections = group("connections", Discard, async |g| {
                while let Ok((stream, _)) = listener.accept().await {
                    g.spawn("connection", serve_tied(stream, Arc::clone(&offered)));
                }
            });
            let _each_for_itself = connections.await;
            Ok::<_, Cancelled>(())
        });
        let ended = measured(&lab, server, exchange).await;
        serving.cancel("measured");
        Ok::<_, Cancelled>(ended)
    });
    server.await?
}

async fn serve_tied(stream: tokio::net::TcpStream, exchange: Arc<Exchange>) -> Result<(), Left> {
    let mut connection = Connection::begin(stream).await?;
    let _calls = group("calls", Discard, async |g| {
        while let Some(call) = connection.next_call().await {
            g.spawn("call", watch_tied(call, Arc::clone(&exchange)));
        }
    })
    .await;
    Ok(())
}

/// Where quotes come from: counts who asks it, and for how long after their client has left.
struct Exchange {
    open: AtomicU64,
    /// When the client that watches the instrument of this number has left.
    left: Vec<Mutex<Option<Instant>>>,
    outlived: Latency,
}

impl Exchange {
    fn new(lab: &Lab) -> Arc<Self> {
        let clients = lab.size(80, 400, 4_000);
        let left = (0..clients).map(|_| Mutex::default()).collect();
        let outlived = lab.latency("generator after its client");
        let exchange = Arc::new(Self { open: AtomicU64::new(0), left, outlived });
        let watched = Arc::clone(&exchange);
        lab.gauge("generators", move || watched.open() as f64);
        exchange
    }

    fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    fn has_left(&self, instrument: u64) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.left[instrument as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription to one instrument.
struct Feed {
    exchange: Arc<Exchange>,
    instrument: u64,
    sent: u64,
}

impl Feed {
    fn open(exchange: Arc<Exchange>, instrument: u64) -> Self {
        exchange.open.fetch_add(1, Ordering::Relaxed);
        Self { exchange, instrument, sent: 0 }
    }

    /// The next quote, when there is one: the first at once, and of a quiet instrument no other. The first sort has five.
    async fn next(&mut self) -> Option<u64> {
        let kind = Kind::of(self.instrument);
        if kind == Kind::Reads && self.sent == QUOTES {
            return None;
        }
        if self.sent > 0 && matches!(kind, Kind::LeavesQuiet | Kind::Vanishes) {
            loop {
                ask_the_exchange().await;
            }
        }
        if self.sent > 0 {
            ask_the_exchange().await;
        }
        self.sent += 1;
        Some(self.sent)
    }
}

async fn ask_the_exchange() {
    sleep(Duration::from_millis(20)).await;
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.exchange.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(left) = *self.exchange.has_left(self.instrument) {
            self.exchange.outlived.record(left.elapsed());
        }
    }
}

const QUOTES: u64 = 5;

/// A hundred messages this short that nobody has read yet are an attack, says h2.
const CALLS_PER_CONNECTION: u64 = 20;

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    LeavesTraded,
    LeavesQuiet,
    Vanishes,
}

impl Kind {
    fn of(number: u64) -> Self {
        [Self::Reads, Self::LeavesTraded, Self::LeavesQuiet, Self::Vanishes][number as usize % 4]
    }
}

async fn measured(lab: &Lab, server: SocketAddr, exchange: Arc<Exchange>) -> Result<(), Trouble> {
    let read = lab.counter("streams read to the end");
    let (told, mut all_left) = mpsc::channel(1);
    apart(clients(server, Arc::clone(&exchange), read.clone(), told))?;
    all_left.recv().await.ok_or("the clients have panicked")??;
    // Half as long again as they have: whoever goes too late is seen to.
    let seen = Instant::now() + LIMIT.mul_f64(1.5);
    while exchange.open() > 0 && Instant::now() < seen {
        sleep(Duration::from_millis(5)).await;
    }
    let generators = exchange.open();
    let still_there = if generators > 0 { LIMIT.mul_f64(1.5) } else { Duration::ZERO };
    let last = exchange.outlived.percentile(100.0).max(still_there);
    lab.figure("last generator gone after", last.as_secs_f64());
    lab.figure("generators left", generators as f64);
    lab.figure("streams read to the end", 100.0 * read.get() as f64 / (exchange.left.len() / 4) as f64);
    Ok(())
}

/// Those who watch, on connections they share, but for those who vanish with their own. Tells when all have left; the connections
/// stay until nobody listens to that any more.
async fn clients(
    server: SocketAddr,
    exchange: Arc<Exchange>,
    read: Counter,
    told: mpsc::Sender<Result<(), Trouble>>,
) {
    let mut shared = JoinSet::new();
    let watched = async {
        let (mut caller, frames) = connect(server).await?;
        shared.spawn(frames);
        let mut clients = JoinSet::new();
        for number in 0..exchange.left.len() as u64 {
            if number > 0 && number.is_multiple_of(CALLS_PER_CONNECTION) {
                let (next, frames) = connect(server).await?;
                shared.spawn(frames);
                caller = next;
            }
            let (caller, exchange, read) = (caller.clone(), Arc::clone(&exchange), read.clone());
            clients.spawn(async move {
                match Kind::of(number) {
                    Kind::Vanishes => vanish(server, number, &exchange).await,
                    _ => watch(caller, number, &exchange, &read).await,
                }
            });
        }
        while let Some(watched) = clients.join_next().await {
            watched??;
        }
        Ok(())
    };
    let _ = told.send(watched.await).await;
    told.closed().await;
}

async fn watch(caller: Caller, number: u64, exchange: &Exchange, read: &Counter) -> Result<(), Trouble> {
    let mut quotes = caller.call(number).await?;
    first(&mut quotes).await?;
    if Kind::of(number) == Kind::Reads {
        let mut more = 1;
        while quotes.next().await?.is_some() {
            more += 1;
        }
        read.add(u64::from(more == QUOTES));
    }
    *exchange.has_left(number) = Some(Instant::now());
    Ok(())
}

/// Watches over a connection of its own, and is gone with it, without a word.
async fn vanish(server: SocketAddr, number: u64, exchange: &Exchange) -> Result<(), Trouble> {
    let (caller, frames) = connect(server).await?;
    let mut own = JoinSet::new();
    own.spawn(frames);
    let mut quotes = caller.call(number).await?;
    first(&mut quotes).await?;
    *exchange.has_left(number) = Some(Instant::now());
    own.shutdown().await;
    Ok(())
}

async fn first(quotes: &mut Answers) -> Result<(), Trouble> {
    quotes.next().await?.map(drop).ok_or_else(|| "a stream without a quote".into())
}

/// Runs `clients` on a thread and a runtime of their own: their tasks are not the form's.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread beside the runtimes, for those who come from elsewhere"
)]
fn apart(clients: impl Future<Output = ()> + Send + 'static) -> Result<(), Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(clients));
    Ok(())
}
