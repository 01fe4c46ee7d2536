//! C9, coordination across nodes: everybody asks one, and that one is slow, gone, or of another mind.
//!
//! Nodes asked a coordinator where a channel lives, over one link each, and waited for the answer as long as it took. During an
//! update a coordinator of the next version answered in a form the nodes could not read; the task of the link took that for the
//! end and closed its channel, and everything that read from it stopped for a quarter of an hour. A partition did the same without
//! any error at all: whoever asked, waited.
//!
//! In the leaky form a node lives as well as its coordinator does. In the tied form every question has a deadline, a breaker stops
//! asking one that does not answer, and `LocalCopy` keeps what was said last: the reader gets that, with its age and the reason, and
//! an answer nobody can read is a failure of one question and not of the link.

use std::time::Duration;

use bowline::{Breaker, Cancelled, Class, Classify, Copies, LocalCopy, Owner, scope};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "C9",
    title: "coordination across nodes",
    broke: "A coordinator of another version answered in a form the nodes could not read. The link to it closed, and everything that \
            read from it stopped for 15 minutes; a partition had the same effect without an error.",
    must: "Every wait has a deadline; a breaker opens and the node falls back to its local copy; mixed versions and partitions are \
           tested.",
    theirs: "99.5% available in chaos; here 99.9%",
    load: "200 requests per second for 5 s, while the coordinator hangs, answers in another version, and is slow (reduced: 2 s; full: \
           5 min)",
    remedy: "`LocalCopy`: a deadline for each question, a breaker, and the last good answer with its age.",
    needs: &[],
    bounds: &[
        Bound::at_least("answered in time", 99.9, Unit::Percent).reduced(97.0).broken_by_leaky(),
        Bound::at_most("longest outage", 0.25, Unit::Seconds).reduced(0.5).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("c9.rs"),
};

// ANCHOR: leaky
type Question = (u32, oneshot::Sender<Route>);

#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
fn link_leaky(coordinator: Coordinator) -> mpsc::Sender<Question> {
    let (link, mut questions) = mpsc::channel::<Question>(100);
    tokio::spawn(async move {
        while let Some((channel, answer)) = questions.recv().await {
            match coordinator.clone().ask(channel).await {
                Ok(route) => drop(answer.send(route)),
                Err(UnknownVersion) => return, // and the link is closed
            }
        }
    });
    link
}

async fn route_leaky(link: &mpsc::Sender<Question>, channel: u32) -> Option<Route> {
    let (answer, route) = oneshot::channel();
    link.send((channel, answer)).await.ok()?;
    route.await.ok()
}
// ANCHOR_END: leaky

// ANCHOR: tied
impl Classify for UnknownVersion {
    fn class(&self) -> Class {
        Class::Bug
    }
}

fn routes_tied(owner: &impl Owner, coordinator: Coordinator) -> Copies<u32, Route, UnknownVersion> {
    LocalCopy::new("routes", Duration::from_secs(15 * 60))
        .fresh_for(Duration::from_millis(100))
        .wait(Duration::from_millis(50))
        .breaker(&Breaker::new("coordinator"))
        .start(owner, move |channel| coordinator.clone().ask(channel))
}

async fn route_tied(routes: &Copies<u32, Route, UnknownVersion>, channel: u32) -> Option<Route> {
    Some(*routes.read(channel).await.ok()?.value)
}
// ANCHOR_END: tied

/// The node a channel lives on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Route(u32);

/// The answer cannot be read.
#[derive(Debug)]
struct UnknownVersion;

const CHANNELS: u32 = 20;

/// The one that knows, through all that can happen to it.
#[derive(Clone)]
struct Coordinator {
    began: Instant,
    runs_for: Duration,
}

impl Coordinator {
    async fn ask(self, channel: u32) -> Result<Route, UnknownVersion> {
        sleep(Duration::from_millis(1)).await;
        let part = |of: f64| self.runs_for.mul_f64(of);
        let elapsed = self.began.elapsed();
        if (part(0.2)..part(0.4)).contains(&elapsed) {
            sleep_until(self.began + part(0.4)).await; // a partition
        } else if (part(0.5)..part(0.7)).contains(&elapsed) {
            return Err(UnknownVersion);
        } else if (part(0.8)..part(0.9)).contains(&elapsed) {
            sleep(Duration::from_millis(300)).await;
        }
        Ok(Route(channel % 7))
    }
}

/// Asks for a route 200 times per second, as `ask` does, whatever became of the earlier questions.
async fn measured<F>(lab: &Lab, coordinator: &Coordinator, ask: impl Fn(u32) -> F)
where
    F: Future<Output = Option<Route>> + Send + 'static,
{
    const PACE: Duration = Duration::from_millis(5);
    const IN_TIME: Duration = Duration::from_millis(250);
    let answered = lab.counter("answered in time");
    let latency = lab.latency("answer");
    let requests = (coordinator.runs_for.as_secs_f64() / PACE.as_secs_f64()) as u32;
    let mut running = JoinSet::new();
    for request in 0..requests {
        let intended = coordinator.began + PACE * request;
        sleep_until(intended).await;
        let (ask, answered, latency) = (ask(request % CHANNELS), answered.clone(), latency.clone());
        running.spawn(async move {
            let answer = tokio::time::timeout_at(intended + IN_TIME, ask).await;
            latency.record(intended.elapsed());
            let is_right = matches!(answer, Ok(Some(route)) if route == Route(request % CHANNELS % 7));
            answered.add(is_right.into());
            (intended, is_right)
        });
    }
    let mut answers = running.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    lab.figure("answered in time", 100.0 * answered.get() as f64 / f64::from(requests));
    lab.figure("longest outage", longest_outage(&answers).as_secs_f64());
}

/// The longest time in which no request was answered.
fn longest_outage(answers: &[(Instant, bool)]) -> Duration {
    let (mut longest, mut since) = (Duration::ZERO, None);
    for (at, is_right) in answers {
        if *is_right {
            since = None;
        } else {
            longest = longest.max(*at - *since.get_or_insert(*at));
        }
    }
    longest
}

fn coordinator(lab: &Lab) -> Coordinator {
    Coordinator { began: Instant::now(), runs_for: Duration::from_secs(lab.size(2, 5, 300)) }
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let coordinator = coordinator(&lab);
    let link = link_leaky(coordinator.clone());
    measured(&lab, &coordinator, |channel| {
        let link = link.clone();
        async move { route_leaky(&link, channel).await }
    })
    .await;
    Ok(())
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let coordinator = coordinator(&lab);
    let node = scope("node", async |s| {
        let routes = routes_tied(s, coordinator.clone());
        measured(&lab, &coordinator, |channel| {
            let routes = routes.clone();
            async move { route_tied(&routes, channel).await }
        })
        .await;
        Ok::<_, Cancelled>(())
    });
    Ok(node.await?)
}
