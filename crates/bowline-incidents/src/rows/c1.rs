//! C1, three services and one deadline: a page is put together from three services, and one of them hangs.
//!
//! A handler asked three services at once, each in a task of its own that sent its answer into a channel, and waited for the
//! three answers or for 400 ms, whichever came first. On time the handler left. The calls did not: nobody had told them, so
//! each sat in its `read` until the service hung up, which a service that hangs does not do, and held a connection. Under
//! load the connections ran out long before anything else, and the count of tasks was a staircase.
//!
//! The leaky form does just that: a time-out around a *wait* ends the wait, and nothing else. In the tied form the time-out is
//! around a *group*. At the deadline the calls in it are cancelled where they stand, in the middle of their I/O, their sockets
//! are closed as they are dropped, and the group returns when all are gone, with the answers that had come until then.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bowline::{Cancelled, CollectAll, group, map, timeout};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::kit::upstream::{Answer, Upstream, ask};
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "C1",
    title: "three services, one deadline",
    broke: "A page is put together from three services. One hung: the handler gave up in time, its calls did not, and each \
            held a task and a connection from then on.",
    must: "On expiry every call is cancelled at its I/O, the group returns only when all are gone, and the answers that came \
           are kept.",
    theirs: "calls lived on as zombies until the connections ran out; here 0 tasks and 0 open sockets 100 ms after the deadline",
    load: "200 pages, 50 at a time, of three services each, one of which hangs; deadline 400 ms (reduced: 50, 10 at a time; full: 2,000)",
    remedy: "`timeout` around a `group`: the deadline goes down to every call, and the group outlives none of them.",
    needs: &[],
    bounds: &[
        Bound::at_most("sockets left", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("calls left", 0.0, Unit::Count).broken_by_leaky(),
        // Two answer within 20 of the 400 ms: only a machine that stands still for longer loses one.
        Bound::at_least("answers kept", 99.0, Unit::Percent).reduced(80.0),
        // The deadline, and the promised 100 ms to be gone; five deadlines where others want the processor.
        Bound::at_most("slowest page", 0.5, Unit::Seconds).reduced(2.0),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("c1.rs"),
};

const DEADLINE: Duration = Duration::from_millis(400);

// ANCHOR: leaky
async fn page_leaky(services: Services) -> Vec<String> {
    let deadline = Instant::now() + DEADLINE;
    let (tx, mut rx) = mpsc::channel(services.len());
    for service in services {
        call_leaky(service, tx.clone());
    }
    drop(tx);
    let mut answers = Vec::new();
    while let Ok(Some(answer)) = timeout_at(deadline, rx.recv()).await {
        answers.push(answer);
    }
    answers
}

#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
fn call_leaky(service: SocketAddr, tx: mpsc::Sender<String>) {
    tokio::spawn(async move {
        if let Ok(answer) = ask(service).await {
            let _ = tx.send(answer).await; // nobody may be there any more
        }
    });
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn page_tied(services: Services) -> Result<Vec<String>, Cancelled> {
    let calls = group("page", CollectAll, async |g| {
        for service in services {
            g.spawn("call", ask(service));
        }
    });
    Ok(timeout(DEADLINE, calls).await?.into_ok().collect())
}
// ANCHOR_END: tied

/// Prices, stock, and the reviews, which hang.
type Services = [SocketAddr; 3];

struct Shop([Upstream; 3]);

impl Shop {
    fn open() -> io::Result<Self> {
        let at_once = || Answer::After(Duration::ZERO, "9.90");
        let in_a_while = || Answer::After(Duration::from_millis(20), "17");
        Ok(Self([Upstream::start(at_once)?, Upstream::start(in_a_while)?, Upstream::start(|| Answer::Hang)?]))
    }

    fn services(&self) -> Services {
        std::array::from_fn(|at| self.0[at].address())
    }

    fn open_connections(&self) -> usize {
        self.0.iter().map(Upstream::open_connections).sum()
    }

    /// Looks what is left 100 ms after the last page was answered.
    async fn close(self, lab: &Lab, answers: usize) {
        sleep(Duration::from_millis(100)).await;
        lab.figure("calls left", lab.tasks() as f64);
        lab.figure("sockets left", self.open_connections() as f64);
        lab.figure("slowest page", lab.latency("page").percentile(100.0).as_secs_f64());
        // Two of the three answer in time.
        lab.figure("answers kept", 100.0 * answers as f64 / f64::from(2 * pages(lab)));
    }
}

fn pages(lab: &Lab) -> u32 {
    lab.size(50, 200, 2_000)
}

fn at_once(lab: &Lab) -> usize {
    lab.size(10, 50, 50)
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let shop = Shop::open()?;
    let (mut requests, mut answers) = (JoinSet::new(), 0);
    for _ in 0..pages(&lab) {
        if requests.len() == at_once(&lab) {
            answers += requests.join_next().await.transpose()?.unwrap_or(0);
        }
        let (services, latency) = (shop.services(), lab.latency("page"));
        requests.spawn(async move {
            let began = Instant::now();
            let answers = page_leaky(services).await;
            latency.record(began.elapsed());
            answers.len()
        });
    }
    answers += requests.join_all().await.into_iter().sum::<usize>();
    shop.close(&lab, answers).await;
    Ok(())
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let shop = Shop::open()?;
    let requests = map("request", CollectAll.at_most(at_once(&lab)), 0..pages(&lab), |_| {
        let (services, latency) = (shop.services(), lab.latency("page"));
        async move {
            let began = Instant::now();
            let answers = page_tied(services).await?;
            latency.record(began.elapsed());
            Ok::<_, Cancelled>(answers.len())
        }
    });
    let answers = requests.await.into_ok().sum();
    shop.close(&lab, answers).await;
    Ok(())
}
