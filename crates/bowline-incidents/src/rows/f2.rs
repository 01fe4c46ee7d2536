//! F2, the live view: what is the process doing?
//!
//! A service was slow and nobody knew why. The dashboard had one number about its insides, the count of tasks, and that was normal. A
//! debugger needed a build with special flags, which nobody dares to put into production on a bad day. In the end they restarted it and
//! the question went away, until the next week.
//!
//! Both forms are the same service in the same bad moment: requests that wait for a pool whose jobs are stuck, a queue that nobody empties and
//! that has begun to drop, a breaker that is open. Then the one who is on call asks six questions: how many requests are there, what do they wait for, how
//! deep is the queue, what did it drop, how busy is the pool, and is the breaker open?
//!
//! The leaky form answers with all that tokio knows. The tied form answers from the live tree, which is there in every build: a name,
//! an age, a place and a wait for each task, and the books of everything that is bounded.

use std::time::Duration;

use bowline::{Bound as Room, Breaker, Cancelled, Discard, Overflow, Pool, Workers, group, scope};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "F2",
    title: "live view",
    broke: "A service was slow, and all that was known of its insides was the number of its tasks.",
    must: "Task tree, waits, queue depths, drops, pool use and breaker states are there in production builds, without a special flag.",
    theirs: "none; here six questions are asked",
    load: "1,000 requests stuck behind a pool of five, and one look at it (reduced: 200; full: 50,000)",
    remedy: "`tree()`, `pools()`, `breakers()`: every task and everything that is bounded is in the books from its first moment; \
             `/debug/bowline` and `bowline top` show them.",
    needs: &[],
    bounds: &[
        Bound::at_least("questions answered", 6.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("time to look", 1.0, Unit::Seconds),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("f2.rs"),
};

const STUCK: Duration = Duration::from_secs(60);

// ANCHOR: leaky
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let slots = std::sync::Arc::new(Semaphore::new(5));
    let (events, _nobody_reads) = mpsc::channel::<u32>(10);
    for event in 0..13 {
        let _dropped = events.try_send(event);
    }
    let mut requests = JoinSet::new();
    for _ in 0..requests_of(&lab) {
        let (slots, running) = (slots.clone(), lab.counter("running"));
        requests.spawn(async move {
            let _slot = slots.acquire().await;
            running.add(1);
            sleep(STUCK).await;
        });
    }
    looked_at(&lab, || format!("{:?}", Handle::current().metrics())).await;
    requests.abort_all();
    Ok(())
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let ended = scope("service", async |s| {
        let (events, _nobody_reads) = s.queue::<u32>("events", Room::items(10), Overflow::DropOldest);
        for event in 0..13 {
            let _sent = events.send(event).await;
        }
        let database = Breaker::new("database");
        database.force_open("for the incident");
        let running = lab.counter("running");
        let work = Pool::new("work", Workers::fixed(5), Room::items(100_000), Overflow::Block).start(
            s,
            move |_request: u32| {
                running.add(1);
                bowline::sleep(STUCK)
            },
        );
        let requests = group("requests", Discard, async |g| {
            for number in 0..requests_of(&lab) {
                let work = work.clone();
                g.spawn("request", async move {
                    let _answer = work.call(number).await;
                    Ok::<_, Cancelled>(())
                });
            }
            looked_at(&lab, everything).await;
            g.cancel("seen");
        });
        let _outcome = requests.await;
        s.cancel("seen");
        Ok::<_, Cancelled>(())
    });
    // Whoever looked has cancelled it.
    let _cancelled = ended.await;
    Ok(())
}

/// What `/debug/bowline` shows.
fn everything() -> String {
    let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    [
        json(serde_json::to_string(&bowline::tree())),
        json(serde_json::to_string(&bowline::pools())),
        json(serde_json::to_string(&bowline::breakers())),
    ]
    .join("\n")
}
// ANCHOR_END: tied

fn requests_of(lab: &Lab) -> u32 {
    lab.size(200, 1_000, 50_000)
}

/// What is asked, and the words in which an answer would come.
const QUESTIONS: [(&str, &[&str]); 6] = [
    ("how many requests are there", &["\"name\":\"request\""]),
    ("what do they wait for", &["\"is\":\"waiting\",\"op\":"]),
    ("how deep is the queue", &["\"depth_items\":10"]),
    ("what did it drop", &["\"dropped\":3"]),
    ("how busy is the pool", &["\"running\":5"]),
    ("is the breaker open", &["\"state\":\"forced_open\"", "\"state\":\"open\""]),
];

async fn looked_at(lab: &Lab, look: impl Fn() -> String) {
    // All are on their way, and the pool has had its turn.
    while lab.tasks() < requests_of(lab) as usize || lab.counter("running").get() < 5 {
        sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    let seen = look();
    lab.figure("time to look", began.elapsed().as_secs_f64());
    let is_answered = |words: &[&str]| words.iter().any(|word| seen.contains(word));
    let answered = QUESTIONS.iter().filter(|(_, words)| is_answered(words)).count();
    lab.figure("questions answered", answered as f64);
}
