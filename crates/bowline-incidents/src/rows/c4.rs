//! C4, all results although some failed: what to do about a failure is part of the question.
//!
//! A report was put together from twenty services with the usual "all or the first error". One service failed now and then, and
//! nineteen good answers were thrown away with it. The same program asked three mirrors and took the fastest, and let the other
//! two calls run on; wrote to three replicas and waited for all three, so that one that hung held up every write; and sat out
//! the two seconds that one lookup in twenty took.
//!
//! These are four questions, and the leaky form has one answer to them. In the tied form a group says its policy where it is
//! opened: all of them, whatever happens to some (`CollectAll`); the first (`FirstSuccess`); two of three (`Quorum`); another
//! attempt if the first takes long (`hedged`). Whoever is not needed any more is cancelled, and gone before the answer is
//! returned. `FailFast` is there as well, for when one failure makes the others worthless.

use std::time::Duration;

use bowline::{Cancelled, CollectAll, FirstSuccess, Quorum, for_each, group, hedged, timeout};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout as tokio_timeout};

use crate::lab::{Counter, Lab, Latency, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "C4",
    title: "all results, some failed",
    broke: "One failure of twenty threw nineteen good answers away; the fastest mirror was taken and the others ran on; a write \
            waited for the replica that hung; a lookup sat out the slowest answer.",
    must: "A fan-out says what it wants: all, the first error, the first value, so many, or another attempt when it is slow.",
    theirs: "no figures; here nothing good is lost, nobody unneeded goes on, and one hung peer of three costs nothing",
    load: "200 requests, each a report, a fastest mirror, a replicated write and a lookup (reduced: 20; full: 5,000)",
    remedy: "The policy of a group: `CollectAll`, `FailFast`, `FirstSuccess`, `Quorum`; and `hedged`.",
    needs: &[],
    bounds: &[
        Bound::at_least("good answers kept", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("calls after the answer", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("writes acknowledged", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("p99 of lookups", 0.25, Unit::Seconds).reduced(1.0).broken_by_leaky(),
        Bound::at_most("tasks left", 0.0, Unit::Count).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("c4.rs"),
};

const PATIENCE: Duration = Duration::from_secs(1);

// ANCHOR: leaky
async fn report_leaky(peers: Peers) -> Result<Vec<u32>, Failed> {
    let mut calls = JoinSet::new();
    for service in 0..20 {
        calls.spawn(peers.clone().service(service));
    }
    let mut answers = Vec::new();
    while let Some(answer) = calls.join_next().await {
        answers.push(answer.expect("no call panics")?); // and the others are dropped
    }
    Ok(answers)
}

#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn fastest_leaky(peers: Peers) -> Option<u32> {
    let (tx, mut rx) = mpsc::channel(1);
    for mirror in 0..3 {
        let (peers, tx) = (peers.clone(), tx.clone());
        tokio::spawn(async move { tx.send(peers.mirror(mirror).await).await });
    }
    rx.recv().await?.ok()
}

async fn write_leaky(peers: Peers) -> bool {
    let mut writes: JoinSet<_> = (0..3).map(|replica| peers.clone().replica(replica)).collect();
    let all = async { while writes.join_next().await.is_some() {} };
    tokio_timeout(PATIENCE, all).await.is_ok()
}

async fn lookup_leaky(peers: Peers, key: u32) -> Result<u32, Failed> {
    peers.lookup(key, 1).await
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn report_tied(peers: Peers) -> Vec<u32> {
    let calls = group("report", CollectAll, async |g| {
        for service in 0..20 {
            g.spawn("service", peers.clone().service(service));
        }
    });
    calls.await.into_ok().collect()
}

async fn fastest_tied(peers: Peers) -> Option<u32> {
    let calls = group("fastest", FirstSuccess, async |g| {
        for mirror in 0..3 {
            g.spawn("mirror", peers.clone().mirror(mirror));
        }
    });
    calls.await.first_ok().ok()
}

async fn write_tied(peers: Peers) -> bool {
    let writes = group("write", Quorum(2), async |g| {
        for replica in 0..3 {
            g.spawn("replica", peers.clone().replica(replica));
        }
    });
    timeout(PATIENCE, writes).await.is_ok_and(|written| written.quorum().is_ok())
}

async fn lookup_tied(peers: Peers, key: u32) -> Result<u32, Failed> {
    hedged("lookup", Duration::from_millis(50), 2, |attempt| peers.clone().lookup(key, attempt)).await
}
// ANCHOR_END: tied

/// Services, mirrors, replicas and tables, some of which fail or hang. Counts the calls that are on their way.
#[derive(Clone, Default)]
struct Peers {
    begun: Counter,
    ended: Counter,
}

#[derive(Debug)]
struct Failed;

impl From<Cancelled> for Failed {
    fn from(_: Cancelled) -> Self {
        Self
    }
}

/// Counts the end of a call, also if it is cancelled.
struct OnItsWay(Counter);

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.add(1);
    }
}

impl Peers {
    async fn call(self, millis: u64, answer: u32) -> Result<u32, Failed> {
        self.begun.add(1);
        let _on_its_way = OnItsWay(self.ended);
        sleep(Duration::from_millis(millis)).await;
        Ok(answer)
    }

    async fn service(self, service: u32) -> Result<u32, Failed> {
        self.call(5, service).await?;
        if service == 7 { Err(Failed) } else { Ok(service) }
    }

    async fn mirror(self, mirror: u32) -> Result<u32, Failed> {
        self.call(if mirror == 1 { 5 } else { 30_000 }, mirror).await
    }

    async fn replica(self, replica: u32) -> Result<u32, Failed> {
        self.call(if replica == 2 { 60_000 } else { 5 }, replica).await
    }

    async fn lookup(self, key: u32, attempt: u32) -> Result<u32, Failed> {
        self.call(if key.is_multiple_of(20) && attempt == 1 { 2_000 } else { 5 }, key).await
    }

    fn on_their_way(&self) -> u64 {
        self.begun.get() - self.ended.get()
    }
}

/// What came of the requests.
#[derive(Clone)]
struct Books {
    requests: u32,
    good: Counter,
    after: Counter,
    written: Counter,
    lookups: Latency,
}

impl Books {
    fn of(lab: &Lab) -> Self {
        Self {
            requests: lab.size(20, 200, 5_000),
            good: lab.counter("good answers"),
            after: Counter::default(),
            written: lab.counter("writes"),
            lookups: lab.latency("lookup"),
        }
    }

    fn close(&self, lab: &Lab) {
        let requests = f64::from(self.requests);
        lab.figure("good answers kept", 100.0 * self.good.get() as f64 / (19.0 * requests));
        lab.figure("calls after the answer", self.after.get() as f64);
        lab.figure("writes acknowledged", 100.0 * self.written.get() as f64 / requests);
        lab.figure("p99 of lookups", self.lookups.percentile(99.0).as_secs_f64());
    }
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let books = Books::of(&lab);
    let mut requests = JoinSet::new();
    for request in 0..books.requests {
        let books = books.clone();
        requests.spawn(async move {
            books.good.add(report_leaky(Peers::default()).await.map_or(0, |answers| answers.len() as u64));
            let mirrors = Peers::default();
            let _ = fastest_leaky(mirrors.clone()).await;
            books.after.add(mirrors.on_their_way());
            books.written.add(write_leaky(Peers::default()).await.into());
            let began = Instant::now();
            let _ = lookup_leaky(Peers::default(), request).await;
            books.lookups.record(began.elapsed());
        });
    }
    requests.join_all().await;
    books.close(&lab);
    Ok(())
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let books = Books::of(&lab);
    let requests = for_each("request", CollectAll.at_most(5_000), 0..books.requests, |request| {
        let books = books.clone();
        async move {
            books.good.add(report_tied(Peers::default()).await.len() as u64);
            let mirrors = Peers::default();
            let _ = fastest_tied(mirrors.clone()).await;
            books.after.add(mirrors.on_their_way());
            books.written.add(write_tied(Peers::default()).await.into());
            let began = Instant::now();
            let _ = lookup_tied(Peers::default(), request).await;
            books.lookups.record(began.elapsed());
            Ok::<_, Cancelled>(())
        }
    });
    lab.figure("requests failed", requests.await.counts().failed as f64);
    books.close(&lab);
    Ok(())
}
