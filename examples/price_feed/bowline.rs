//! Prices over gRPC: the latest of an item on request, and a stream of them for whoever watches.
//!
//! Shown: a stream owns its generator, and the client's leaving ends that at once, also while it waits for a price that does
//! not come; a client that does not read holds its generator up, and after a while its stream is ended with a status that says
//! why; beyond a limit watchers are told that there is no room; a call has the deadline its client has; Ctrl-C ends every
//! stream, with a status as well.
//!
//! The usual form, a `tokio::spawn` that sends into a channel, notices that its client has left when it has the next price to send.
//! For an item without news that is never: the task, what it holds of the market, and its memory stay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request as Call;
use axum::middleware::{Next, from_fn};
use axum::response::Response as Reply;
use bowline::propagate::{GRPC_TIMEOUT, header_value, timeout_from};
use bowline::{
    AtMost, Bound, Cancelled, Discard, Either, GroupHandle, Overflow, Tx, draining, group, race, scope,
    timeout, until_draining,
};
use bowline_examples::{demo_wanted, listen, port_or};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

mod demo;
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated: prices.proto says what things are")]
#[rustfmt::skip]
mod pb;

use demo::Market;
use pb::prices_client::PricesClient;
use pb::prices_server::{Prices, PricesServer};
use pb::{Item, Price};

/// Streams at once; who comes then is told that there is no room.
const MAX_WATCHERS: usize = 1_000;
/// Prices that wait for a client; with this many its generator waits for it.
const PRICES_BEHIND: usize = 16;
/// For how long; then the client is too slow, and told so.
const WAITS_AT_MOST: Duration = Duration::from_secs(2);
/// A call takes no longer, whatever deadline its client has.
const LONGEST_CALL: Duration = Duration::from_secs(5);

#[bowline::main(name = "price_feed", shutdown_within = "10s")]
async fn main() -> anyhow::Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, item] = &arguments[..]
        && command == "watch"
    {
        return watch(SocketAddr::from(([127, 0, 0, 1], port_or(3005))), item.clone()).await;
    }
    let (listener, address) = listen(port_or(3005)).await?;
    println!(
        "try: PORT={} cargo run -p bowline-examples --example price_feed -- watch rope    (Ctrl-C ends either)",
        address.port()
    );
    serve(listener, Arc::default()).await
}

/// Serves until the shutdown begins; returns when every stream has ended.
async fn serve(listener: TcpListener, market: Arc<Market>) -> anyhow::Result<()> {
    let mut served = Ok(());
    let _ = group("watchers", Discard.at_most(MAX_WATCHERS), async |g| {
        let feed = Feed { market, watchers: g.handle() };
        let routes = Routes::new(PricesServer::new(feed)).into_axum_router();
        let app = routes.layer(from_fn(under_a_deadline));
        served = axum::serve(listener, app).with_graceful_shutdown(draining()).await;
    })
    .await;
    Ok(served?)
}

// ANCHOR: deadline
async fn under_a_deadline(call: Call, next: Next) -> Reply {
    let asked = call.headers().get(GRPC_TIMEOUT).map(|asked| timeout_from(asked.to_str().unwrap_or("")));
    let limit = match asked {
        None => LONGEST_CALL,
        Some(Ok(asked)) => asked.min(LONGEST_CALL),
        Some(Err(malformed)) => return Status::invalid_argument(malformed.to_string()).into_http(),
    };
    let answer = timeout(limit, next.run(call)).await;
    answer.unwrap_or_else(|late| Status::deadline_exceeded(late.to_string()).into_http())
}
// ANCHOR_END: deadline

/// What the calls of all clients share.
struct Feed {
    market: Arc<Market>,
    watchers: GroupHandle<(), Cancelled, AtMost<Discard>>,
}

#[tonic::async_trait]
impl Prices for Feed {
    async fn latest(&self, item: Request<Item>) -> Result<Response<Price>, Status> {
        let cents = self.market.latest(&item.get_ref().name).await;
        Ok(Response::new(Price { cents }))
    }

    type WatchStream = BoxStream<'static, Result<Price, Status>>;

    // ANCHOR: stream
    async fn watch(&self, item: Request<Item>) -> Result<Response<Self::WatchStream>, Status> {
        let no_room = |_| Status::resource_exhausted("as many watch as may");
        let place = self.watchers.try_reserve().map_err(no_room)?;
        let (prices, outgoing) = scope("watch", async |s| {
            let (tx, rx) = s.queue("prices", Bound::items(PRICES_BEHIND).and_urgent(1), Overflow::Block);
            Ok::<_, Cancelled>((tx.free(), rx.free())) // tonic keeps the one, the generator gets the other
        })
        .await
        .map_err(|cancelled| Status::unavailable(cancelled.to_string()))?;
        let (market, item) = (Arc::clone(&self.market), item.into_inner().name);
        place.spawn_with("watcher", prices, async move |_cx, prices| generate(&market, &item, prices).await);
        let lost = |cancelled: Cancelled| Err(Status::unavailable(cancelled.to_string()));
        Ok(Response::new(outgoing.into_stream().map(move |price| price.unwrap_or_else(lost)).boxed()))
    }
    // ANCHOR_END: stream
}

// ANCHOR: generator
/// Sends every price until the client has left, does not read, or the service stops.
async fn generate(
    market: &Market,
    item: &str,
    prices: Tx<'_, Result<Price, Status>>,
) -> Result<(), Cancelled> {
    let news = market.prices(item);
    let generating = async {
        loop {
            let cents = news.next().await; // may take for ever
            let sent = timeout(WAITS_AT_MOST, prices.send(Ok(Price { cents }))).await;
            match sent.and_then(|sent| Ok(sent?)) {
                Ok(()) => {}
                Err(late) if late.is_deadline() => return Ok(Status::resource_exhausted("too slow")),
                Err(cancelled) => return Err(cancelled),
            }
        }
    };
    let why = match race(prices.closed(), until_draining(generating)).await {
        Either::Left(client_has_left) => return client_has_left,
        Either::Right(Some(ended)) => ended?,
        Either::Right(None) => Status::unavailable("the service is stopping"),
    };
    // Overtakes the prices that nobody has read.
    Ok(prices.send_urgent(Err(why)).await?)
}
// ANCHOR_END: generator

// ANCHOR: interceptor
/// Sends what is left of the caller's deadline along.
fn pass_the_deadline_on(mut call: Request<()>) -> Result<Request<()>, Status> {
    if let Some(left) = header_value().and_then(|left| left.parse().ok()) {
        call.metadata_mut().insert(GRPC_TIMEOUT, left);
    }
    Ok(call)
}
// ANCHOR_END: interceptor

/// The other side: prints prices until the service ends the stream, or Ctrl-C this program.
async fn watch(service: SocketAddr, item: String) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{service}"))?.connect().await?;
    let mut client = PricesClient::with_interceptor(channel, pass_the_deadline_on);
    let mut prices = timeout(Duration::from_secs(2), client.watch(Item { name: item })).await??.into_inner();
    while let Some(price) = until_draining(prices.message()).await {
        let Some(price) = price? else { break };
        println!("{} cents", price.cents);
    }
    Ok(())
}
