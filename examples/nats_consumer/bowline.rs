//! A consumer of orders on NATS JetStream: a fixed number of workers, acknowledged after success only.
//!
//! Shown: what is taken from the broker is bounded by the workers and a queue of twice as many; an order that fails or takes too
//! long (it is cancelled at its I/O) comes again after a rest, and after some attempts goes to a subject for dead letters, with the
//! reason, also if it took the whole process down each time; Ctrl-C: no order is taken any more, what was taken is finished
//! and acknowledged, what was only fetched ahead goes back to the broker.
//!
//! The usual form, a task per message, takes whatever the broker has, and at its end drops what it took. Where messages are
//! acknowledged when they come, those are lost.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, AckKind, Message, stream};
use bowline::{Bound, Either, Overflow, Pool, Workers, draining, race, scope, timeout};
use bowline_examples::demo_wanted;
use futures_util::{FutureExt, StreamExt};

mod demo;

const STREAM: &str = "ORDERS";
const SUBJECT: &str = "orders";
const DEAD_LETTERS: &str = "dead.orders";

/// Orders that are worked on at once.
const WORKERS: usize = 5;
/// Orders that wait for a worker.
const WAITING: usize = 2 * WORKERS;
/// An attempt may take so long; then it is cancelled, and the order comes again.
const ATTEMPT_TAKES_AT_MOST: Duration = Duration::from_secs(30);
/// How long the broker waits for an acknowledgement: longer than an order can wait (fetched ahead, and then in line: four attempts
/// of others) and be worked on. A consumer that is there already keeps what it was made with.
const ACK_WAIT: Duration = Duration::from_secs(200);
/// Attempts before an order is given up. What was delivered and given back counts as one.
const ATTEMPTS: i64 = 3;
/// How long an order that failed rests before the next attempt.
const REST: Duration = Duration::from_millis(200);

#[bowline::main(name = "nats_consumer", shutdown_within = "180s")] // four fifths of it for what was taken
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".into());
    let client = async_nats::connect(&url).await.with_context(|| format!("no NATS at {url} (NATS_URL)"))?;
    println!("try: nats pub {SUBJECT} 'two ropes'    (Ctrl-C ends)");
    let packed = consume(client, draining(), ATTEMPT_TAKES_AT_MOST, pack).await?;
    println!("{packed} orders were packed");
    Ok(())
}

/// What this program is for.
async fn pack(order: String) -> Result<()> {
    println!("packing {order}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// Works on orders until `stop`, then finishes those in hand; returns how many succeeded.
async fn consume<F>(
    client: async_nats::Client,
    stop: impl Future<Output = ()>,
    limit: Duration,
    work: impl Fn(String) -> F + Clone + Send + Sync + 'static,
) -> Result<u64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut messages = subscribe(&client).await?.stream().max_messages_per_batch(WORKERS).messages().await?;
    let mut stop = pin!(stop);
    let succeeded = scope("consumer", async |s| {
        let broker = client.clone();
        let orders = Pool::new("orders", Workers::fixed(WORKERS), Bound::items(WAITING), Overflow::Block)
            .start_fallible(s, move |message| handle(broker.clone(), message, limit, work.clone()));
        while let Either::Right(message) = race(stop.as_mut(), messages.next()).await {
            let message = message.context("the broker has ended the stream")??;
            orders.submit(message).await?; // waits for room; it is in hand now, whatever stops meanwhile
        }
        // What the client has fetched ahead is for somebody else, soon and not after `ACK_WAIT`. All of it is taken before anything
        // is given back, and nothing is asked for any more: it would come back to us. What is on the wire at this moment
        // cannot be seen, and comes again only then.
        let mut ahead = Vec::new();
        while let Some(Some(message)) = messages.next().now_or_never() {
            ahead.push(message?);
        }
        drop(messages);
        for message in ahead {
            message.double_ack_with(AckKind::Nak(Some(REST))).await.map_err(|error| anyhow!(error))?;
        }
        orders.drain().await?;
        Ok::<_, anyhow::Error>(orders.stats().completed)
    })
    .await?;
    client.drain().await?;
    Ok(succeeded)
}

/// The stream and its consumer, made if they are not there.
async fn subscribe(client: &async_nats::Client) -> Result<PullConsumer> {
    let jetstream = jetstream::new(client.clone());
    let config = stream::Config {
        name: STREAM.into(),
        subjects: vec![SUBJECT.into(), DEAD_LETTERS.into()],
        ..stream::Config::default()
    };
    let stream = jetstream.get_or_create_stream(config).await?;
    let config = pull::Config {
        durable_name: Some("packers".into()),
        filter_subject: SUBJECT.into(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        ..pull::Config::default()
    };
    Ok(stream.get_or_create_consumer("packers", config).await?)
}

/// Makes one attempt, and says to the broker what became of it.
async fn handle<F>(
    broker: async_nats::Client,
    message: Message,
    limit: Duration,
    work: impl Fn(String) -> F + Send + Sync,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send,
{
    let order = String::from_utf8_lossy(&message.payload).into_owned();
    let attempt = message.info().map_err(|error| anyhow!(error))?.delivered;
    let error = if attempt > ATTEMPTS {
        // It panicked, or took the process with it: nobody has said a word about the attempts before.
        anyhow!("no attempt came to an end")
    } else {
        match timeout(limit, work(order)).await {
            Ok(Ok(())) => return message.double_ack().await.map_err(|error| anyhow!(error)),
            Ok(Err(error)) => error,
            Err(late) => late.into(),
        }
    };
    if attempt < ATTEMPTS {
        message.double_ack_with(AckKind::Nak(Some(REST))).await.map_err(|error| anyhow!(error))?;
        return Err(error);
    }
    // Kept elsewhere first: only then may the broker forget it.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Reason", format!("{error:#}").replace(['\r', '\n'], " "));
    let jetstream = jetstream::new(broker);
    jetstream.publish_with_headers(DEAD_LETTERS, headers, message.payload.clone()).await?.await?;
    message.double_ack_with(AckKind::Term).await.map_err(|error| anyhow!(error))?;
    Err(error.context("given up"))
}
