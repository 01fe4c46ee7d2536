//! C6, fifteen services: a region goes down, and everything that asks it goes with it.
//!
//! Fifteen services in several regions were asked with one rule for every failure: try again, at once, three times. When a region
//! went down, two in five requests failed, those that would have failed anyway were asked three times (a card that was declined,
//! too), services that were merely slow held up their callers, and the region that came up again found three times its usual
//! load.
//!
//! The leaky form knows one kind of failure. In the tied form each error says its *class*, and the layers of a `Call` read that:
//! what did not reach its service is tried again, after a pause with jitter and within a budget of a tenth of the calls; what takes
//! too long is cut; a region that is down is left alone by a breaker; a business answer is an answer and goes to the caller. Whatever
//! has no answer then gets the last known one: degraded, not down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline::{
    Attempts, Backoff, Breakers, Call, Class, Classify, CollectAll, Failure, Retry, RetryBudget, for_each,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::lab::{Counter, Lab, Latency, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "C6",
    title: "fifteen services",
    broke: "A region with six of them went down. Every failure was tried again three times at once, whatever it was: 40% of the requests \
            failed, slow services held up their callers, and the region was hit harder the worse it was.",
    must: "Per class of error: network is tried again with back-off and jitter within a budget, a time-out falls back, business is \
           reported; a breaker per upstream; degraded, never down.",
    theirs: "errors down by 85%; here at most 6% where the leaky form has 40%, and at most 1.2 attempts per call",
    load: "10,000 requests, 100 at a time, to 15 services, 6 of which are down (reduced: 2,000; full: 200,000)",
    remedy: "`Class` says what kind of failure it was, and `Call` does what is right for it: time-out, retry with a budget, breaker, \
             fallback, in the order that is right.",
    needs: &[],
    bounds: &[
        Bound::at_most("requests failed", 6.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("attempts per call", 1.2, Unit::Times).broken_by_leaky(),
        Bound::at_most("business answers asked again", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("p99", 0.5, Unit::Seconds).reduced(1.5).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("c6.rs"),
};

// ANCHOR: leaky
async fn ask_leaky(world: &World, request: u32) -> Result<Reply, AskError> {
    let mut tries = 0;
    loop {
        match world.ask(request).await {
            Ok(reply) => return Ok(reply),
            Err(error) if tries == 2 => return Err(error),
            Err(_) => tries += 1,
        }
    }
}
// ANCHOR_END: leaky

// ANCHOR: tied
impl Classify for AskError {
    fn class(&self) -> Class {
        match self {
            AskError::NotReached => Class::Network,
            AskError::Declined => Class::Business,
        }
    }
}

/// One call per service: the breaker is that of the service, the budget that of them all.
fn calls_tied() -> Vec<Call> {
    let backoff = Backoff::exponential(Duration::from_millis(5), Duration::from_millis(50));
    let retry = Retry::new(backoff, Attempts::at_most(3)).budget(&RetryBudget::new("services"));
    let breakers = Breakers::new("services");
    let call = |service: &str| {
        Call::new("service")
            .timeout(Duration::from_millis(100))
            .within(Duration::from_millis(250))
            .retry(retry.clone())
            .breaker(&breakers.of(service))
    };
    (0..SERVICES).map(|service| call(&service.to_string())).collect()
}

async fn ask_tied(world: &World, calls: &[Call], request: u32) -> Result<Reply, AskError> {
    let last_known = calls[service_of(request)]
        .fallback(async |_class| Ok(Reply::LastKnown))
        .when(|class| class != Class::Business);
    let answer = last_known.run(|| world.ask(request)).await;
    answer.map_err(|failed| match failed.failure {
        Failure::Error(error) => error,
        _ => AskError::NotReached,
    })
}
// ANCHOR_END: tied

const SERVICES: u32 = 15;

/// Those of the region that is down.
const DOWN: u32 = 6;

fn service_of(request: u32) -> usize {
    (request % SERVICES) as usize
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Answer,
    LastKnown,
}

#[derive(Debug)]
enum AskError {
    /// Connection refused, no route.
    NotReached,
    /// The service works, and the answer is no.
    Declined,
}

/// The services: of those that are up one attempt in 25 is lost on the way, one request in 50 takes two seconds, and one in 100
/// is declined.
#[derive(Clone, Default)]
struct World {
    requests: u32,
    begun: Arc<AtomicU32>,
    attempts: Counter,
    declined: Counter,
    failed: Counter,
    degraded: Counter,
    latency: Latency,
}

impl World {
    fn of(lab: &Lab) -> Self {
        Self {
            requests: lab.size(2_000, 10_000, 200_000),
            attempts: lab.counter("attempts"),
            failed: lab.counter("failed"),
            degraded: lab.counter("degraded"),
            latency: lab.latency("answer"),
            begun: Arc::default(),
            declined: Counter::default(),
        }
    }

    /// The next request, for whichever client is free.
    fn next(&self) -> Option<u32> {
        Some(self.begun.fetch_add(1, Ordering::Relaxed)).filter(|request| *request < self.requests)
    }

    async fn ask(&self, request: u32) -> Result<Reply, AskError> {
        self.attempts.add(1);
        sleep(Duration::from_millis(1)).await;
        // Spread over the services, which request % 15 says.
        let kind = request / SERVICES % 100;
        if request % SERVICES < DOWN || self.attempts.get().is_multiple_of(25) {
            return Err(AskError::NotReached);
        }
        if kind == 7 {
            self.declined.add(1);
            return Err(AskError::Declined);
        }
        if kind % 50 == 20 {
            sleep(Duration::from_secs(2)).await;
        }
        Ok(Reply::Answer)
    }

    fn book(&self, answer: Result<Reply, AskError>, began: Instant) {
        self.latency.record(began.elapsed());
        match answer {
            Ok(Reply::Answer) | Err(AskError::Declined) => {}
            Ok(Reply::LastKnown) => self.degraded.add(1),
            Err(AskError::NotReached) => self.failed.add(1),
        }
    }

    fn close(&self, lab: &Lab) {
        let percent = |part: u64| 100.0 * part as f64 / f64::from(self.requests);
        lab.figure("requests failed", percent(self.failed.get()));
        lab.figure("requests degraded", percent(self.degraded.get()));
        lab.figure("attempts per call", percent(self.attempts.get()) / 100.0);
        let declined =
            (0..self.requests).filter(|request| request / SERVICES % 100 == 7 && request % SERVICES >= DOWN);
        lab.figure(
            "business answers asked again",
            self.declined.get().saturating_sub(declined.count() as u64) as f64,
        );
        lab.figure("p99", self.latency.percentile(99.0).as_secs_f64());
    }
}

const AT_ONCE: u32 = 100;

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let world = World::of(&lab);
    let mut clients = JoinSet::new();
    for _client in 0..AT_ONCE {
        let world = world.clone();
        clients.spawn(async move {
            while let Some(request) = world.next() {
                let began = Instant::now();
                world.book(ask_leaky(&world, request).await, began);
            }
        });
    }
    clients.join_all().await;
    world.close(&lab);
    Ok(())
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let world = World::of(&lab);
    let calls = Arc::new(calls_tied());
    let clients = for_each("client", CollectAll.at_most(AT_ONCE as usize), 0..AT_ONCE, |_client| {
        let (world, calls) = (world.clone(), Arc::clone(&calls));
        async move {
            while let Some(request) = world.next() {
                let began = Instant::now();
                world.book(ask_tied(&world, &calls, request).await, began);
            }
            Ok::<_, Trouble>(())
        }
    });
    lab.figure("clients failed", clients.await.counts().failed as f64);
    world.close(&lab);
    Ok(())
}
