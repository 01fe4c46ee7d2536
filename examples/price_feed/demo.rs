//! A market, and clients that leave, that do not read, and that are too impatient.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bowline::{scope, timeout};
use bowline_examples::listen;
use tokio::sync::watch;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::pb::prices_client::PricesClient;
use super::pb::{Item, Price};
use super::{pass_the_deadline_on, serve};

/// What nobody trades: there is never a price.
const SILENT: &str = "a rope of sand";
/// What everybody trades: there is always a new price.
const BUSY: &str = "hemp";

/// Somebody else's, really: it knows what things cost, and how many wait for that.
#[derive(Default)]
pub(crate) struct Market {
    interested: watch::Sender<usize>,
}

impl Market {
    pub(crate) async fn latest(&self, item: &str) -> u64 {
        let _interest = self.interest();
        price_of(item).await
    }

    /// All prices of an item from now on.
    pub(crate) fn prices<'a>(&'a self, item: &'a str) -> Subscription<'a> {
        Subscription { item, _interest: self.interest() }
    }

    fn interest(&self) -> Interest<'_> {
        self.interested.send_modify(|interested| *interested += 1);
        Interest(self)
    }
}

async fn price_of(item: &str) -> u64 {
    if item == SILENT {
        std::future::pending::<()>().await;
    }
    10 * item.len() as u64
}

/// What [`Market::prices`] returns.
pub(crate) struct Subscription<'a> {
    item: &'a str,
    _interest: Interest<'a>,
}

impl Subscription<'_> {
    /// The next price; it may never come.
    pub(crate) async fn next(&self) -> u64 {
        match self.item {
            BUSY => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        price_of(self.item).await
    }
}

/// Somebody who waits for prices.
struct Interest<'a>(&'a Market);

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        self.0.interested.send_modify(|interested| *interested -= 1);
    }
}

type Client = PricesClient<
    InterceptedService<Channel, fn(tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status>>,
>;

async fn connect(service: SocketAddr) -> Result<Client> {
    // What a client may be sent before it reads; by default it is so much that not to read it takes long to be noticed.
    const WINDOW_BYTES: u32 = 4096;
    let endpoint =
        Endpoint::from_shared(format!("http://{service}"))?.initial_stream_window_size(WINDOW_BYTES);
    let channel = endpoint.connect().await?;
    Ok(PricesClient::with_interceptor(channel, pass_the_deadline_on as _))
}

fn item(name: &str) -> Item {
    Item { name: name.to_owned() }
}

/// Runs `serve` against clients that ask, that watch, and that leave; then begins the shutdown.
pub(crate) async fn run() -> Result<()> {
    let market = Arc::<Market>::default();
    let (listener, service) = listen(0).await?;
    scope("demonstration", async |s| {
        s.spawn("service", serve(listener, Arc::clone(&market)));
        let mut client = connect(service).await?;
        let mut interested = market.interested.subscribe();

        let price = client.latest(item("rope")).await?.into_inner();
        ensure!(price.cents == 40, "{price:?}");

        let impatient = timeout(Duration::from_millis(300), client.latest(item(SILENT))).await;
        let gave_up = match &impatient {
            Err(late) => late.is_deadline(),
            Ok(answer) => answer
                .as_ref()
                .is_err_and(|status| matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)),
        };
        ensure!(gave_up, "{impatient:?}");
        interested.wait_for(|interested| *interested == 0).await?;
        println!("a call without an answer: given up at its client's deadline, on both sides");

        let mut prices = client.watch(item("rope")).await?.into_inner();
        for _ in 0..3 {
            ensure!(prices.message().await?.is_some_and(|price| price.cents == 40), "a price was expected");
        }
        let silent = client.watch(item(SILENT)).await?.into_inner();
        interested.wait_for(|interested| *interested == 2).await?;
        drop(silent);
        interested.wait_for(|interested| *interested == 1).await?;
        println!("a client left a silent stream: its generator is gone");

        let mut unread = client.watch(item(BUSY)).await?.into_inner();
        interested.wait_for(|interested| *interested == 2).await?;
        interested.wait_for(|interested| *interested == 1).await?;
        let told = last_word(&mut unread).await;
        ensure!(told.as_ref().is_some_and(|status| status.message() == "too slow"), "{told:?}");
        println!("a client did not read: its generator is gone, and the stream says that it was too slow");

        bowline::shut_down("the demonstration is over");
        let told = last_word(&mut prices).await;
        ensure!(
            told.as_ref().is_some_and(|status| status.message() == "the service is stopping"),
            "{told:?}"
        );
        println!("the other stream was told: the service is stopping");
        Ok(())
    })
    .await
}

/// Reads what there still is; returns the status the stream ends with, if it is an error.
async fn last_word(prices: &mut Streaming<Price>) -> Option<Status> {
    loop {
        match prices.message().await {
            Ok(Some(_)) => {} // was on its way
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

#[cfg(test)]
#[bowline::test]
async fn does_what_it_says_and_leaves_no_task_behind() -> Result<()> {
    timeout(Duration::from_secs(50), Box::pin(run())).await?
}
