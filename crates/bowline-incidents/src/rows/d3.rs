//! D3, the analytics sink: each request tells it what happened, and one day it does not answer.
//!
//! The request handler spawned a task that sent the event, so that nobody waited for analytics. The sink was put behind a new load
//! balancer, which took connections and did nothing with them. The call had no time-out: at a thousand requests per second there
//! were 1.5 million tasks and as many connections waiting after 25 minutes, and then there was no memory. Nothing in the handler was
//! slow until that moment.
//!
//! What the leaky form leaves out is every bound there is: on tasks, on time, on what waits. In the tied form ten workers send, a
//! thousand events wait, the oldest makes room and is counted, a call has 200 ms, and a breaker leaves the sink alone after it has
//! not answered for a while. The request path only ever does `try_submit`, which does not wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline::{
    Bound, Breaker, Call, CallFailed, Cancelled, Overflow, Owner, Pool, PoolHandle, Workers, scope,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::kit::upstream::{Answer, Upstream, ask};
use crate::lab::{Lab, Latency, Trouble};
use crate::row::{Bound as Limit, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "D3",
    title: "analytics sink",
    broke: "A task per request told the analytics sink, without a time-out. The sink hung: 1.5 million tasks, out of memory in 25 \
            minutes.",
    must: "10 workers, a queue of 1,000, drop and count, a time-out, a breaker: the request path never waits for the sink.",
    theirs: "1.5 million tasks; here at most 10 calls at once, and the p99 of the request path moves by at most 1.1 times",
    load: "1,000 requests per second, the sink hangs every other half second for 5 s (reduced: 2 s; full: 5 min)",
    remedy: "A `Pool` with a bound and `Overflow::DropOldest`, and in it a `Call` with a time-out and a breaker.",
    needs: &[],
    bounds: &[
        // One per worker.
        Limit::at_most("calls to the sink at once", 10.0, Unit::Count).broken_by_leaky(),
        // Clients, workers, and a constant. The leaky form has 500 more after each half second.
        Limit::at_most("tasks peak", (CLIENTS + 10 + 10) as f64, Unit::Count).broken_by_leaky(),
        // The promise, against the half seconds in which the sink is well: 10 of 1,000 requests decide where it is reduced.
        Limit::at_most("p99 while it hangs", 1.1, Unit::Times).reduced(2.0),
        Limit::at_least("events accounted for", 100.0, Unit::Percent).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("d3.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn request_leaky(sink: Sink) {
    handle().await;
    tokio::spawn(async move { sink.tell().await }); // fire and forget
}
// ANCHOR_END: leaky

// ANCHOR: tied
type Analytics = PoolHandle<Event, Result<(), CallFailed<io::Error>>>;

fn analytics_tied(owner: &impl Owner, sink: Sink) -> Analytics {
    let breaker = Breaker::new("analytics");
    Pool::new("analytics", Workers::fixed(10), Bound::items(1_000), Overflow::DropOldest).start_fallible(
        owner,
        move |_event| {
            let call = Call::new("analytics").timeout(Duration::from_millis(200)).breaker(&breaker);
            let sink = sink.clone();
            async move { call.run(|| sink.tell()).await }
        },
    )
}

async fn request_tied(analytics: &Analytics) {
    handle().await;
    let _full_or_closed_is_counted = analytics.try_submit(Event);
}
// ANCHOR_END: tied

struct Event;

/// What a request is there for.
async fn handle() {
    sleep(Duration::from_millis(3)).await;
}

/// Requests come from so many clients, which take turns.
const CLIENTS: u32 = 32;

const HALF_SECOND: Duration = Duration::from_millis(500);

fn hangs_at(elapsed: Duration) -> bool {
    (elapsed.as_millis() / HALF_SECOND.as_millis()) % 2 == 1
}

/// A sink that takes connections and does nothing with them, in every other half second.
#[derive(Clone)]
struct Sink {
    upstream: Arc<Upstream>,
    calls: Arc<Semaphore>,
    most: Arc<AtomicUsize>,
}

/// More than there will ever be: what is taken of them is a count.
const CALLS: usize = 1 << 20;

impl Sink {
    fn open(began: Instant) -> io::Result<Self> {
        let answer = move || match hangs_at(began.elapsed()) {
            true => Answer::Hang,
            false => Answer::After(Duration::from_millis(1), "thanks"),
        };
        let upstream = Arc::new(Upstream::start(answer)?);
        Ok(Self { upstream, calls: Arc::new(Semaphore::new(CALLS)), most: Arc::default() })
    }

    async fn tell(&self) -> io::Result<()> {
        let _one_more = self.calls.try_acquire();
        self.most.fetch_max(self.at_once(), Ordering::Relaxed);
        ask(self.upstream.address()).await.map(drop)
    }

    fn at_once(&self) -> usize {
        CALLS - self.calls.available_permits()
    }
}

/// Makes a thousand requests per second, and measures each from when it was meant to come. Returns how many there were.
async fn measured<F>(lab: &Lab, sink: &Sink, began: Instant, request: impl Fn() -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let requests = 1_000 * lab.size(2, 5, 300);
    let (well, hung) = (lab.latency("request, sink well"), lab.latency("request, sink hangs"));
    let of_gauge = sink.clone();
    lab.gauge("calls to the sink", move || of_gauge.at_once() as f64);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (well, hung) = (well.clone(), hung.clone());
        let turns: Vec<_> =
            (client..requests).step_by(CLIENTS as usize).map(|turn| (turn, request())).collect();
        clients.spawn(async move {
            for (turn, request) in turns {
                let intended = began + Duration::from_millis(turn.into());
                sleep_until(intended).await;
                request.await;
                let latency = if hangs_at(intended - began) { &hung } else { &well };
                latency.record(intended.elapsed());
            }
        });
    }
    clients.join_all().await;
    let p99 = |latency: Latency| latency.percentile(99.0).as_secs_f64();
    lab.figure("p99 while it hangs", p99(hung) / p99(well));
    lab.figure("calls to the sink at once", sink.most.load(Ordering::Relaxed) as f64);
    requests.into()
}

/// When the requests begin: a little later, so that the beginning of everything is not in the figures.
fn soon() -> Instant {
    Instant::now() + Duration::from_millis(200)
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let began = soon();
    let sink = Sink::open(began)?;
    let requests = measured(&lab, &sink, began, || request_leaky(sink.clone())).await;
    // What was sent: of the others nobody knows whether they still will be.
    lab.figure("events accounted for", 100.0 * sink.upstream.answered() as f64 / requests);
    Ok(())
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let began = soon();
    let sink = Sink::open(began)?;
    let service = scope("service", async |s| {
        let analytics = analytics_tied(s, sink.clone());
        let requests = measured(&lab, &sink, began, || {
            let analytics = analytics.clone();
            async move { request_tied(&analytics).await }
        })
        .await;
        analytics.drain().await?;
        let stats = analytics.stats();
        let known = stats.completed
            + stats.failed
            + stats.dropped
            + stats.cancelled
            + stats.panicked
            + stats.timed_out;
        lab.figure("events accounted for", 100.0 * known as f64 / requests);
        lab.figure("events sent", 100.0 * sink.upstream.answered() as f64 / requests);
        Ok::<_, Cancelled>(())
    });
    Ok(service.await?)
}
