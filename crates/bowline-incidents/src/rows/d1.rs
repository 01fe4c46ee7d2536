//! D1, the record pipeline: validate, anonymise, apply the rules, load; and the database has four connections.
//!
//! It was one function, 800 ms a record, run by four workers because the last step needs a connection and there were four. So each
//! connection was in use for one part in sixteen of the time in which it was taken, and the whole did 45 records a second. More
//! workers did not help: they waited for a connection first. And one record that could not be validated was an error of the function,
//! somewhere.
//!
//! The leaky form gives the whole work the parallelism of its scarcest part. In the tied form each step has its own: many wait for
//! the rules, four load. A bounded buffer before each carries back-pressure to the source; failures leave sideways with their record; and
//! a stage is a value that can be tested alone (`Stage`). What limits now is the database, and the pipeline's books say so.
//!
//! Times are those of the incident divided by ten.

use std::sync::Arc;
use std::time::Duration;

use bowline::{Bound, Errors, Parallel, Pipeline, PipelineError, PipelineReport};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound as Limit, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "D1",
    title: "record pipeline",
    broke: "Validate, anonymise, rules and load ran as one function, 800 ms a record, in as many workers as the last step has \
            connections: 45 records a second.",
    must: "Stages with their own parallelism and bounded buffers, back-pressure from end to end, errors out of band with the record, each \
           stage testable alone.",
    theirs: "45 to 380 records per second (8.4 times), stages busy 95%",
    load: "3,000 records of 80 ms, the last 5 of them with one of four connections (reduced: 600; full: 30,000)",
    remedy: "`Pipeline`: parallelism and a bound per stage; its books name the stage that limits.",
    needs: &[],
    bounds: &[
        Limit::at_least("times the one function", 8.4, Unit::Times).reduced(4.0).broken_by_leaky(),
        Limit::at_least("busiest stage busy", 95.0, Unit::Percent).reduced(70.0),
        Limit::at_least("records accounted for", 100.0, Unit::Percent).broken_by_leaky(),
        Limit::at_most("connections at once", 4.0, Unit::Count),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("d1.rs"),
};

// ANCHOR: leaky
async fn load_all_leaky(records: Vec<Record>, steps: Steps) -> u64 {
    let records = Arc::new(Mutex::new(records.into_iter()));
    let mut workers = JoinSet::new();
    for _connection in 0..4 {
        let (records, steps) = (Arc::clone(&records), steps.clone());
        workers.spawn(async move {
            let mut loaded = 0;
            loop {
                let Some(mut record) = records.lock().await.next() else { return loaded };
                loaded += u64::from(one_function(&steps, &mut record).await.is_ok());
            }
        });
    }
    workers.join_all().await.into_iter().sum()
}

async fn one_function(steps: &Steps, record: &mut Record) -> Result<(), Invalid> {
    steps.validate(record).await?;
    steps.anonymise(record).await?;
    steps.rules(record).await?;
    steps.load(record).await
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn load_all_tied(records: Vec<Record>, steps: Steps) -> Result<PipelineReport, PipelineError> {
    let [validating, anonymising, ruling, loading] = std::array::from_fn(|_| steps.clone());
    Pipeline::new("records", records)
        .edit("validate", Parallel::unordered(8), Bound::items(64), async move |record: &mut Record| {
            validating.validate(record).await
        })
        .edit("anonymise", Parallel::unordered(16), Bound::items(64), async move |record: &mut Record| {
            anonymising.anonymise(record).await
        })
        .edit("rules", Parallel::unordered(64), Bound::items(64), async move |record: &mut Record| {
            ruling.rules(record).await
        })
        .sink("load", Parallel::unordered(4), Bound::items(16), async move |record: &Record| {
            loading.load(record).await
        })
        .errors(Errors::keep(100))
        .run()
        .await
}
// ANCHOR_END: tied

#[derive(Clone, Debug)]
struct Record {
    number: u64,
    name: String,
}

#[derive(Debug)]
struct Invalid;

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no name")
    }
}

impl std::error::Error for Invalid {}

/// What is done to a record, in both forms the same.
#[derive(Clone)]
struct Steps {
    loaded: Counter,
    connections: Connections,
}

impl Steps {
    fn of(lab: &Lab) -> Self {
        Self { loaded: lab.counter("loaded"), connections: Connections::default() }
    }

    async fn validate(&self, record: &mut Record) -> Result<(), Invalid> {
        sleep(Duration::from_millis(5)).await;
        if record.name.is_empty() { Err(Invalid) } else { Ok(()) }
    }

    async fn anonymise(&self, record: &mut Record) -> Result<(), Invalid> {
        sleep(Duration::from_millis(15)).await;
        record.name.truncate(1);
        Ok(())
    }

    async fn rules(&self, record: &mut Record) -> Result<(), Invalid> {
        sleep(Duration::from_millis(55)).await;
        record.name.push_str(if record.number.is_multiple_of(2) { "+" } else { "-" });
        Ok(())
    }

    async fn load(&self, _record: &Record) -> Result<(), Invalid> {
        let _connection = self.connections.take();
        sleep(Duration::from_millis(5)).await;
        self.loaded.add(1);
        Ok(())
    }
}

/// Counts how many connections are in use at once.
#[derive(Clone, Default)]
struct Connections(Arc<std::sync::Mutex<(u32, u32)>>);

struct Connection(Connections);

impl Connections {
    fn take(&self) -> Connection {
        let (now, most) = &mut *self.0.lock().unwrap();
        *now += 1;
        *most = (*most).max(*now);
        Connection(self.clone())
    }

    fn most(&self) -> u32 {
        self.0.lock().unwrap().1
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().0 -= 1;
    }
}

/// One in fifty has no name.
fn records(many: u64) -> Vec<Record> {
    let name = |number: u64| if number % 50 == 49 { String::new() } else { "Ada".to_owned() };
    (0..many).map(|number| Record { number, name: name(number) }).collect()
}

/// Records per second of the one function, for a short while of the same run.
async fn rate_of_one_function() -> f64 {
    const FEW: u64 = 40;
    let steps = Steps { loaded: Counter::default(), connections: Connections::default() };
    let began = Instant::now();
    load_all_leaky(records(FEW), steps).await;
    FEW as f64 / began.elapsed().as_secs_f64()
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let (steps, alone) = (Steps::of(&lab), rate_of_one_function().await);
    // A tenth of the records is enough to see how fast it is.
    let many = lab.size(60, 300, 3_000);
    let began = Instant::now();
    let loaded = load_all_leaky(records(many), steps.clone()).await;
    let rate = many as f64 / began.elapsed().as_secs_f64();
    lab.figure("records per second", rate);
    lab.figure("times the one function", rate / alone);
    lab.figure("records accounted for", 100.0 * loaded as f64 / many as f64);
    lab.figure("connections at once", steps.connections.most().into());
    Ok(())
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let (steps, alone) = (Steps::of(&lab), rate_of_one_function().await);
    let many = lab.size(600, 3_000, 30_000);
    let began = Instant::now();
    let stats = load_all_tied(records(many), steps.clone()).await?.stats;
    let rate = many as f64 / began.elapsed().as_secs_f64();
    lab.figure("records per second", rate);
    lab.figure("times the one function", rate / alone);
    lab.figure("records accounted for", 100.0 * (stats.done + stats.failed) as f64 / many as f64);
    lab.figure("busiest stage busy", 100.0 * stats.bottleneck().map_or(0.0, |stage| stage.busy_share));
    lab.figure("connections at once", steps.connections.most().into());
    Ok(())
}
