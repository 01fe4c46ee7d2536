//! C8, payments: a client that hears nothing asks again, and may be charged twice, or not at all.
//!
//! Two nodes take payments. A client that has no answer after 100 ms asks the other node, up to three times. Each node kept a list of
//! the payments it had begun and answered "done" to what was on it. Under load one payment in twenty took longer than the client's
//! patience: the other node had never heard of it, and charged again. And one that failed stayed on the list, so that the next
//! attempt was told "done" although nothing had happened.
//!
//! The leaky form remembers that it *began*, on one node, and takes that for the result. In the tied form an effect belongs to its
//! key: `Idempotent` runs it in a task of its own, everybody who asks with the key gets what it came to, and what failed leaves the key
//! free. Where the keys are kept is a `KeyStore`, here a table both nodes share: `insert ... on conflict do nothing` decides who is first,
//! and who comes second is told that it is in doubt and asks again a little later.
//!
//! Charges are counted in the database (PostgreSQL), after everybody has his answer.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    Attempts, Backoff, Begun, Cancelled, Class, Classify, CollectAll, Effects, Ended, Idempotent, Keep,
    KeyStore, OnceError, Owner, Retry, StoreFailed, for_each, scope, timeout,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::kit::postgres::{Connection, Postgres};
use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Need, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "C8",
    title: "payments",
    broke: "Under load 5% of the payments took longer than their client waited. It asked again, the other node had never heard of it and \
            charged again; and what had failed was taken for done by the next attempt.",
    must: "Idempotency key and retry: exactly one effect per key, also when the retry races with the first try.",
    theirs: "5% of the requests lost or doubled under load; here 0 lost, 0 doubled",
    load: "800 payments, 50 at a time, on two nodes; one in twenty takes long, one in twenty fails twice (reduced: 200; full: 50,000)",
    remedy: "`Idempotent` with a `KeyStore` that all nodes share: an effect belongs to its key, and not to who asks for it.",
    needs: &[Need::Postgres],
    bounds: &[
        Bound::at_most("payments doubled", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("payments lost", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("clients without an answer", 0.0, Unit::Count),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("c8.rs"),
};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(100);

// ANCHOR: leaky
struct NodeLeaky {
    bank: Bank,
    begun: Arc<Mutex<HashSet<u64>>>,
}

impl NodeLeaky {
    /// Handles a request, in a task of its own: it goes on when the client has hung up.
    #[expect(clippy::disallowed_methods, reason = "the form as it broke")]
    async fn pay(&self, order: u64) -> Result<(), BankError> {
        if !self.begun.lock().unwrap().insert(order) {
            return Ok(()); // it is done already, is it not?
        }
        let bank = self.bank.clone();
        tokio::spawn(async move { bank.charge(order).await }).await.expect("a charge does not panic")
    }
}

async fn client_leaky(nodes: &[NodeLeaky; 2], order: u64) -> Result<(), BankError> {
    for attempt in 0..3 {
        if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, nodes[attempt % 2].pay(order)).await {
            return Ok(());
        }
    }
    Err(BankError::NotReached)
}
// ANCHOR_END: leaky

// ANCHOR: tied
/// Keys in a table that all nodes share.
struct Keys(Arc<Connection>);

impl KeyStore<u64, ()> for Keys {
    async fn begin(&self, order: &u64) -> Result<Begun<()>, StoreFailed> {
        let begin = format!("insert into keys values ({order}, false) on conflict do nothing");
        if self.0.run(&begin).await.map_err(StoreFailed::new)?.changed == 1 {
            return Ok(Begun::First);
        }
        let is_done = format!("select 1 from keys where id = {order} and done");
        let done = self.0.run(&is_done).await.map_err(StoreFailed::new)?;
        Ok(if done.rows.is_empty() { Begun::InDoubt(Class::Timeout) } else { Begun::Done(Arc::new(())) })
    }

    async fn end(&self, order: &u64, ended: Ended<()>) -> Result<(), StoreFailed> {
        let end = match ended {
            Ended::Done(_) => format!("update keys set done = true where id = {order}"),
            Ended::NotDone => format!("delete from keys where id = {order}"),
            Ended::InDoubt(_) => return Ok(()), // as it is
        };
        self.0.run(&end).await.map_err(StoreFailed::new).map(drop)
    }
}

type Payments = Effects<u64, (), BankError, Keys>;

fn node_tied(owner: &impl Owner, keys: Arc<Connection>) -> Payments {
    let keep = Keep { time: Duration::from_secs(24 * 3600), at_most_keys: 100_000 };
    Idempotent::new("payments", keep).start_with(owner, Keys(keys))
}

async fn client_tied(nodes: &[Payments; 2], bank: &Bank, order: u64) -> bool {
    let backoff = Backoff::exponential(Duration::from_millis(20), Duration::from_millis(200));
    // In doubt is also what the other node is doing just now: asking again never runs it again.
    let retry =
        Retry::new(backoff, Attempts::at_most(30)).idempotent().classify(
            |error: &OnceError<_>| match error {
                OnceError::InDoubt { .. } => Class::Timeout,
                error => error.class(),
            },
        );
    let paid =
        retry.run(|attempt| {
            let (node, bank) = (&nodes[attempt.number() as usize % 2], bank.clone());
            async move {
                timeout(PATIENCE, node.once(order, move || async move { bank.charge(order).await })).await?
            }
        });
    paid.await.is_ok()
}
// ANCHOR_END: tied

#[derive(Debug)]
enum BankError {
    NotReached,
}

impl Classify for BankError {
    fn class(&self) -> Class {
        Class::Network
    }
}

impl std::fmt::Display for BankError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the bank was not reached")
    }
}

impl std::error::Error for BankError {}

/// One payment in twenty takes four times as long as a client waits, one in twenty does not reach the bank the first two times.
#[derive(Clone)]
struct Bank {
    ledger: Arc<Connection>,
    attempts: Arc<Vec<Counter>>,
}

impl Bank {
    async fn charge(&self, order: u64) -> Result<(), BankError> {
        let attempts = &self.attempts[order as usize];
        attempts.add(1);
        if order % 20 == 10 && attempts.get() <= 2 {
            return Err(BankError::NotReached);
        }
        let is_slow = order.is_multiple_of(20);
        sleep(if is_slow { 4 * PATIENCE } else { Duration::from_millis(1) }).await;
        let charge = format!("insert into ledger values ({order})");
        self.ledger.run(&charge).await.map(drop).map_err(|_| BankError::NotReached)
    }
}

/// The database, a connection for each node, and the bank.
struct World {
    postgres: Postgres,
    nodes: [Arc<Connection>; 2],
    bank: Bank,
    orders: u64,
}

impl World {
    async fn start(lab: &Lab) -> Result<Self, Trouble> {
        let orders = lab.size(200, 800, 50_000);
        let postgres = Postgres::start().await?;
        let (one, other) = (Arc::new(postgres.connect().await?), Arc::new(postgres.connect().await?));
        one.run("create table ledger (id bigint not null)").await?;
        one.run("create table keys (id bigint primary key, done boolean not null)").await?;
        let ledger = Arc::new(postgres.connect().await?);
        let attempts = Arc::new((0..orders).map(|_| Counter::default()).collect());
        let bank = Bank { ledger, attempts };
        Ok(Self { postgres, nodes: [one, other], bank, orders })
    }

    /// Looks into the ledger when nobody charges any more.
    async fn close(self, lab: &Lab) -> Result<(), Trouble> {
        while lab.tasks() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        let look = self.postgres.connect().await?;
        let count = async |what: &str| -> Result<f64, Trouble> {
            let counted = look.run(what).await?;
            Ok(counted.rows.first().and_then(|row| row.first()).ok_or("no count")?.parse()?)
        };
        let charged = count("select count(distinct id) from ledger").await?;
        lab.figure("payments lost", self.orders as f64 - charged);
        lab.figure("payments doubled", count("select count(*) from ledger").await? - charged);
        Ok(())
    }
}

const AT_ONCE: usize = 50;

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let world = World::start(&lab).await?;
    let node = || NodeLeaky { bank: world.bank.clone(), begun: Arc::default() };
    let nodes = Arc::new([node(), node()]);
    let (mut clients, mut without) = (JoinSet::new(), 0);
    for order in 0..world.orders {
        if clients.len() == AT_ONCE {
            without += u64::from(clients.join_next().await.transpose()?.is_some_and(|paid: bool| !paid));
        }
        let nodes = Arc::clone(&nodes);
        clients.spawn(async move { client_leaky(&nodes, order).await.is_ok() });
    }
    without += clients.join_all().await.into_iter().filter(|paid| !paid).count() as u64;
    lab.figure("clients without an answer", without as f64);
    world.close(&lab).await
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let world = World::start(&lab).await?;
    let without = Counter::default();
    let shop = scope("shop", async |s| {
        let nodes = Arc::new(world.nodes.clone().map(|keys| node_tied(s, keys)));
        let clients = for_each("client", CollectAll.at_most(AT_ONCE), 0..world.orders, |order| {
            let (nodes, bank, without) = (Arc::clone(&nodes), world.bank.clone(), without.clone());
            async move {
                without.add(u64::from(!client_tied(&nodes, &bank, order).await));
                Ok::<_, Cancelled>(())
            }
        });
        lab.figure("clients failed", clients.await.counts().failed as f64);
        Ok::<_, Cancelled>(())
    });
    shop.await?;
    lab.figure("clients without an answer", without.get() as f64);
    world.close(&lab).await
}
