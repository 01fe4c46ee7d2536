//! D2, the queue consumer: orders come from a broker, and those who ship them come and go.
//!
//! The consumer acknowledged an order when it had received it, and spawned a task that shipped it. Whatever tasks were on their way
//! when the process went - a deployment, the out-of-memory killer - was acknowledged and never done: the broker had no reason to
//! deliver it again. When a second process came and took over some partitions, the first gave them up at once, and its tasks went on
//! shipping for them: two processes worked on one partition, and their orders overtook each other. And an order that could not be
//! read made its task panic, and nobody heard of it.
//!
//! In the tied form a pipeline per partition takes as many orders as it has workers and a buffer of twice that, ships them side by side,
//! and commits *after* that and in their order. A partition that is revoked is no longer received; its pipeline finishes what it has in
//! hand, commits, and only its end gives the partition up. What is killed on its way was not acknowledged, so the broker
//! delivers it again: to be shipped twice are at most those between the work and its commit. What cannot be read goes to a dead letter
//! with its payload, and is committed as well, so that it does not come back for ever.
//!
//! Broker (NATS with JetStream) and both consumers are processes of their own here. After a third of the orders the first consumer
//! gives half of the partitions to the second; after two thirds it is killed with SIGKILL, and the second takes the rest.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bowline::{
    Bound, Cancelled, CollectAll, Counts, Errors, Failed, Feed, Parallel, Pipeline, Runner, SendError, group,
    timeout,
};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::kit::nats::{Admin, Message, Nats, Publisher, Subscriber, connect};
use crate::kit::{Process, Scratch, child};
use crate::lab::{Lab, Trouble};
use crate::row::{Bound as Limit, Need, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "D2",
    title: "queue consumer",
    broke: "Orders were acknowledged when they came, and each was shipped in a task of its own. The process was killed: acknowledged \
            orders were never shipped. Partitions it had given up it still worked on. What could not be read vanished in a panic.",
    must: "Fixed workers, a queue of twice as many, commit only after success and in order per partition, a time-out; what is revoked is \
           finished before it is given up; poison messages go to a dead letter.",
    theirs: "lost and doubled orders after each deployment; here 0 acknowledged orders lost by kill -9, and duplicates only of what was \
             not committed",
    load: "2,000 orders in 4 partitions, one in a hundred cannot be read; after a third, half of the partitions go to a second \
           process, after two thirds SIGKILL for the first (reduced: 600; full: 100,000)",
    remedy: "A `Pipeline` per partition: an ordered stage does the work, its sink commits, `Errors::each` hands on what is poison.",
    needs: &[Need::Nats],
    bounds: &[
        Limit::at_most("acknowledged and lost", 0.0, Unit::Count).broken_by_leaky(),
        Limit::at_most("shipped after giving up", 0.0, Unit::Count).broken_by_leaky(),
        // What was not committed of the two partitions that the killed process had.
        Limit::at_most("shipped twice", (PARTITIONS / 2 * WINDOW) as f64, Unit::Count),
        Limit::at_least("poison in the dead letter", 100.0, Unit::Percent).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(measured(lab, "d2-leaky", 1_000)),
    tied: |lab| Box::pin(measured(lab, "d2-tied", WINDOW)),
    source: include_str!("d2.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn consumer_leaky(broker: SocketAddr, mut coordinator: Coordinator, shop: Shop) -> io::Result<()> {
    let mut held = HashMap::new();
    loop {
        match coordinator.next().await? {
            Assigned::Take(partition) => {
                let (commits, orders) = take(broker, partition).await?;
                held.insert(partition, commits.clone());
                tokio::spawn(consume_leaky(commits, orders, shop.clone()));
            }
            Assigned::Give(partition) => {
                if let Some(commits) = held.remove(&partition) {
                    commits.unsubscribe().await?;
                }
                coordinator.says.given(partition).await?; // and its tasks?
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn consume_leaky(commits: Publisher, mut orders: Subscriber, shop: Shop) -> io::Result<()> {
    loop {
        let order = orders.next().await?;
        commits.acknowledge(&order).await?;
        let shop = shop.clone();
        tokio::spawn(async move { shop.ship(&order).await.expect("it can be read") });
    }
}
// ANCHOR_END: leaky

// ANCHOR: tied
const WORKERS: usize = 2;

async fn consumer_tied(broker: SocketAddr, mut coordinator: Coordinator, shop: Shop) -> Counts {
    let partitions = group("partitions", CollectAll, async |g| -> io::Result<()> {
        let mut held = HashMap::new();
        loop {
            match coordinator.next().await? {
                Assigned::Take(partition) => {
                    let (commits, orders) = take(broker, partition).await?;
                    held.insert(partition, commits.clone());
                    let (shop, says) = (shop.clone(), coordinator.says.clone());
                    g.spawn("partition", async move {
                        consume_tied(commits, orders, shop).await?;
                        says.given(partition).await // nothing of it is in hand any more
                    });
                }
                Assigned::Give(partition) => {
                    if let Some(commits) = held.remove(&partition) {
                        commits.unsubscribe().await?; // its pipeline ends when it has done what has come
                    }
                }
            }
        }
    });
    partitions.await.counts()
}

async fn consume_tied(commits: Publisher, mut orders: Subscriber, shop: Shop) -> io::Result<()> {
    let receive = async move |feed: Feed<Message>| {
        while let Ok(order) = orders.next().await {
            feed.send(order).await?;
        }
        Ok::<_, SendError<Message>>(())
    };
    let ship = async move |order: &mut Message| timeout(Duration::from_secs(30), shop.ship(order)).await?;
    let dead_letters = commits.clone();
    let bury = async move |failed: Failed| {
        if let Ok(order) = failed.into_record::<Message>() {
            let _ = dead_letters.publish("dead", "", &order.payload).await;
            let _ = dead_letters.acknowledge(&order).await;
        }
    };
    let commit = async move |order: &Message| commits.acknowledge(order).await;
    let ended = Pipeline::fed("orders", receive)
        .edit("ship", Parallel::ordered(WORKERS), Bound::items(2 * WORKERS), ship)
        .sink("commit", Parallel::ordered(1), Bound::items(WORKERS), commit)
        .errors(Errors::each(100, bury))
        .run()
        .await;
    ended.map(drop).map_err(io::Error::other)
}
// ANCHOR_END: tied

const PARTITIONS: usize = 4;

/// Orders of a partition that the broker delivers without having heard of them: buffer, workers, and those to be committed.
const WINDOW: usize = 8;

fn is_poison(number: u64) -> bool {
    number % 100 == 50
}

const SHIPPING: Duration = Duration::from_millis(10);

/// What an order has an effect on. It takes eight at once.
#[derive(Clone)]
struct Shop {
    shipped: PathBuf,
    at_once: Arc<Semaphore>,
}

#[derive(Debug)]
enum NotShipped {
    Unreadable,
    Shop(io::Error),
    InTime(Cancelled),
}

impl std::fmt::Display for NotShipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable => f.write_str("the order cannot be read"),
            Self::Shop(error) => error.fmt(f),
            Self::InTime(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for NotShipped {}

impl From<Cancelled> for NotShipped {
    fn from(cancelled: Cancelled) -> Self {
        Self::InTime(cancelled)
    }
}

impl Shop {
    async fn ship(&self, order: &Message) -> Result<(), NotShipped> {
        let text = std::str::from_utf8(&order.payload).ok();
        let number: u64 = text.and_then(|text| text.parse().ok()).ok_or(NotShipped::Unreadable)?;
        let _one_of_eight = self.at_once.acquire().await;
        sleep(SHIPPING).await;
        // In one write, which a kill does not cut in two.
        let mut file =
            OpenOptions::new().append(true).create(true).open(&self.shipped).map_err(NotShipped::Shop)?;
        file.write_all(format!("{number}\n").as_bytes()).map_err(NotShipped::Shop)
    }
}

fn shipped(file: &Path) -> Vec<u64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// What the coordinator says to a consumer.
#[derive(Clone, Copy)]
enum Assigned {
    Take(usize),
    /// Tell when it is given up, by [`Says::given`].
    Give(usize),
}

/// A consumer's line to who assigns the partitions.
struct Coordinator {
    says: Says,
    hears: Subscriber,
}

#[derive(Clone)]
struct Says(Publisher);

impl Coordinator {
    async fn join(broker: SocketAddr, name: &str) -> io::Result<Self> {
        let (says, mut hears) = connect(broker).await?;
        hears.subscribe(&format!("assign.{name}")).await?;
        says.publish("coordinator", "", format!("joined {name}").as_bytes()).await?;
        Ok(Self { says: Says(says), hears })
    }

    async fn next(&mut self) -> io::Result<Assigned> {
        let said = self.hears.next().await?;
        let said = String::from_utf8_lossy(&said.payload);
        let (what, partition) = said.split_once(' ').unwrap_or_default();
        let partition = partition.parse().map_err(io::Error::other)?;
        Ok(if what == "take" { Assigned::Take(partition) } else { Assigned::Give(partition) })
    }
}

impl Says {
    async fn given(&self, partition: usize) -> io::Result<()> {
        self.0.publish("coordinator", "", format!("given {partition}").as_bytes()).await
    }
}

/// Has the broker deliver a partition.
async fn take(broker: SocketAddr, partition: usize) -> io::Result<(Publisher, Subscriber)> {
    let (commits, mut orders) = connect(broker).await?;
    orders.subscribe(&format!("deliver.{partition}")).await?;
    Ok((commits, orders))
}

/// What a consumer process is told: the broker, its name, and where to write down what it has shipped.
fn told(with: &str) -> Result<(SocketAddr, String, Shop), Trouble> {
    let [broker, name, file] = with.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        return Err("a broker, a name and a file".into());
    };
    let shop = Shop { shipped: file.into(), at_once: Arc::new(Semaphore::new(8)) };
    Ok((broker.parse()?, name.to_owned(), shop))
}

pub(super) fn leaky_child(with: &str) -> Result<(), Trouble> {
    let (broker, name, shop) = told(with)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let coordinator = Coordinator::join(broker, &name).await?;
        consumer_leaky(broker, coordinator, shop).await
    })?;
    Err("the broker is gone".into())
}

pub(super) fn tied_child(with: &str) -> Result<(), Trouble> {
    let (broker, name, shop) = told(with)?;
    let (ended, report) = Runner::new("consumer").worker_threads(2).run(async move {
        let coordinator = Coordinator::join(broker, &name).await?;
        io::Result::Ok(consumer_tied(broker, coordinator, shop).await)
    });
    Err(format!("the broker is gone: {ended:?}, {report:?}").into())
}

/// A consumer process, seen from outside.
struct Consumer {
    name: &'static str,
    file: PathBuf,
    process: Process,
    _scratch: Scratch,
}

impl Consumer {
    fn start(name: &'static str, form: &'static str, broker: SocketAddr) -> Result<Self, Trouble> {
        let scratch = Scratch::new()?;
        let file = scratch.path().join("shipped");
        let process = child::start(form, &format!("{broker} {name} {}", file.display()), &scratch)?;
        Ok(Self { name, file, process, _scratch: scratch })
    }

    fn shipped_of(&self, partition: usize) -> usize {
        shipped(&self.file).iter().filter(|number| **number % PARTITIONS as u64 == partition as u64).count()
    }
}

/// Who assigns the partitions.
struct Control(Publisher, Subscriber);

impl Control {
    async fn open(broker: SocketAddr) -> io::Result<Self> {
        let (says, mut hears) = connect(broker).await?;
        hears.subscribe("coordinator").await?;
        let mut control = Self(says, hears);
        // Heard by itself, it hears everybody who comes later.
        control.0.publish("coordinator", "", b"open").await?;
        control.hear(&["open"]).await?;
        Ok(control)
    }

    async fn assign(&self, consumer: &Consumer, assigned: Assigned) -> io::Result<()> {
        let said = match assigned {
            Assigned::Take(partition) => format!("take {partition}"),
            Assigned::Give(partition) => format!("give {partition}"),
        };
        self.0.publish(&format!("assign.{}", consumer.name), "", said.as_bytes()).await
    }

    /// Waits until all of this was said, in whatever order.
    async fn hear(&mut self, what: &[&str]) -> io::Result<()> {
        let mut missing: HashSet<&[u8]> = what.iter().map(|what| what.as_bytes()).collect();
        while !missing.is_empty() {
            missing.remove(&self.1.next().await?.payload[..]);
        }
        Ok(())
    }
}

fn shipped_by(consumers: [&Consumer; 2]) -> u64 {
    consumers.iter().map(|consumer| shipped(&consumer.file).len() as u64).sum()
}

/// Waits until both together have shipped so many.
async fn wait_shipped(consumers: [&Consumer; 2], many: u64) -> Result<(), Trouble> {
    while shipped_by(consumers) < many {
        for Consumer { name, process, .. } in consumers {
            if !process.is_running() {
                return Err(format!("consumer {name} has ended: {}", process.said()).into());
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn measured(lab: Lab, form: &'static str, window: usize) -> Result<(), Trouble> {
    let orders: u64 = lab.size(600, 2_000, 100_000);
    let broker = Nats::start().await?;
    let mut admin = Admin::connect(broker.address()).await?;
    set_up(&mut admin, orders, window).await?;
    let mut control = Control::open(broker.address()).await?;
    let first = Consumer::start("first", form, broker.address())?;
    let second = Consumer::start("second", form, broker.address())?;
    let files = [first.file.clone(), second.file.clone()];
    let of_gauge = files.clone();
    lab.gauge("shipped", move || of_gauge.iter().map(|file| shipped(file).len()).sum::<usize>() as f64);

    control.hear(&["joined first", "joined second"]).await?;
    for partition in 0..PARTITIONS {
        control.assign(&first, Assigned::Take(partition)).await?;
    }
    wait_shipped([&first, &second], orders / 3).await?;
    let revoked = PARTITIONS / 2..PARTITIONS;
    let mut when_given = 0;
    for partition in revoked.clone() {
        control.assign(&first, Assigned::Give(partition)).await?;
        control.hear(&[&format!("given {partition}")]).await?;
        when_given += first.shipped_of(partition);
        control.assign(&second, Assigned::Take(partition)).await?;
    }
    // Two thirds, but some after it has given up what it has given up: that is when it must not work on that any more.
    let at_that = shipped_by([&first, &second]) + orders / 10;
    wait_shipped([&first, &second], at_that.clamp(2 * orders / 3, orders * 19 / 20)).await?;
    first.process.kill();
    for partition in 0..PARTITIONS / 2 {
        control.assign(&second, Assigned::Take(partition)).await?;
    }
    wait_until_all_is_acknowledged(&mut admin).await?;
    wait_until_still(&second).await;
    second.process.kill();

    let all: Vec<u64> = files.iter().flat_map(|file| shipped(file)).collect();
    let once: HashSet<u64> = all.iter().copied().collect();
    let poison = (0..orders).filter(|number| is_poison(*number)).count();
    let after: usize = revoked.map(|partition| first.shipped_of(partition)).sum();
    lab.figure("acknowledged and lost", orders as f64 - poison as f64 - once.len() as f64);
    lab.figure("shipped after giving up", (after - when_given) as f64);
    lab.figure("shipped twice", (all.len() - once.len()) as f64);
    let dead = admin.ask("STREAM.INFO.DEAD", &json!({})).await?;
    let dead = dead["state"]["messages"].as_u64().unwrap_or(0);
    lab.figure("poison in the dead letter", 100.0 * dead as f64 / poison as f64);
    Ok(())
}

/// Whoever has acknowledged before it was done has the time for that: as long as anything comes, each within that of 50 orders.
async fn wait_until_still(consumer: &Consumer) {
    let mut seen = None;
    loop {
        let now = shipped(&consumer.file).len();
        if seen.replace(now) == Some(now) {
            return;
        }
        sleep(50 * SHIPPING).await;
    }
}

/// A stream with the orders, a consumer for each partition, and a stream for dead letters.
async fn set_up(admin: &mut Admin, orders: u64, window: usize) -> Result<(), Trouble> {
    for (stream, subject) in [("ORDERS", "orders.*"), ("DEAD", "dead")] {
        let config = json!({ "name": stream, "subjects": [subject], "storage": "memory", "max_age": 0, "retention": "limits" });
        admin.ask(&format!("STREAM.CREATE.{stream}"), &config).await?;
    }
    for partition in 0..PARTITIONS {
        let name = format!("partition-{partition}");
        let config = json!({
            "durable_name": name,
            "filter_subject": format!("orders.{partition}"),
            "deliver_subject": format!("deliver.{partition}"),
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": Duration::from_secs(1).as_nanos() as u64,
            "max_ack_pending": window,
        });
        let request = json!({ "stream_name": "ORDERS", "config": config });
        admin.ask(&format!("CONSUMER.DURABLE.CREATE.ORDERS.{name}"), &request).await?;
    }
    for number in 0..orders {
        let payload = if is_poison(number) { "?".to_owned() } else { number.to_string() };
        admin.store(&format!("orders.{}", number % PARTITIONS as u64), payload.as_bytes()).await?;
    }
    Ok(())
}

async fn wait_until_all_is_acknowledged(admin: &mut Admin) -> Result<(), Trouble> {
    for partition in 0..PARTITIONS {
        let question = format!("CONSUMER.INFO.ORDERS.partition-{partition}");
        loop {
            let info = admin.ask(&question, &json!({})).await?;
            if info["num_pending"] == 0 && info["num_ack_pending"] == 0 {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}
