//! C7, the error storm: when everything fails, the way errors take is the first to be full.
//!
//! Workers sent what failed into a channel of a thousand, and one task took it from there to the service that collects errors.
//! One evening a feed changed its format and half of the records failed, and the collector, which was asked for by everybody that
//! evening, stood still. The channel filled, and the workers waited for room in it: records that were perfectly good stood
//! still behind the errors of others.
//!
//! The leaky form makes the flow of work depend on the flow of errors. In the tied form failures leave the pipeline out of band
//! and with their record, into a bounded store that never makes a stage wait: what does not fit is counted, an alert is raised when
//! it is half full, and whoever takes them may be as slow as he likes.

use std::sync::Arc;
use std::time::Duration;

use bowline::{AlertKind, Bound, Errors, Failed, Parallel, Pipeline, PipelineError, on_alert};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound as Limit, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "C7",
    title: "error storm",
    broke: "Half of the records failed, whoever collects errors stood still, the channel to it filled, and the workers waited for room \
            in it: the errors of some records stopped all of them.",
    must: "Errors flow apart from results, bounded, and never block a worker; what does not fit is counted; alert at half full.",
    theirs: "no figures; here every record goes through while nobody takes errors, and every failure is reported or counted",
    load: "20,000 records, every second one fails, the collector stands still as long as records go through \
           (reduced: 5,000; full: 1,000,000)",
    remedy: "`Errors` of a `Pipeline`: out of band, bounded, with the record, never waited for.",
    needs: &[],
    bounds: &[
        Limit::at_least("records through in the storm", 100.0, Unit::Percent).broken_by_leaky(),
        Limit::at_least("failures accounted for", 100.0, Unit::Percent),
        Limit::at_least("alerts at half full", 1.0, Unit::Count).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("c7.rs"),
};

// ANCHOR: leaky
async fn convert_leaky(records: u64, feed: Feed, collector: Collector) {
    let records = Arc::new(Mutex::new(0..records));
    let (errors, mut failures) = mpsc::channel(1_000);
    let mut tasks = JoinSet::new();
    for _worker in 0..8 {
        let (records, feed, errors) = (Arc::clone(&records), feed.clone(), errors.clone());
        tasks.spawn(async move {
            loop {
                let Some(record) = records.lock().await.next() else { return };
                if let Err(error) = feed.convert(&record).await {
                    errors.send((record, error)).await.expect("the collector goes last");
                }
            }
        });
    }
    drop(errors);
    tasks.spawn(async move {
        while let Some((_record, _error)) = failures.recv().await {
            collector.collect().await;
        }
    });
    tasks.join_all().await;
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn convert_tied(records: u64, feed: Feed, collector: Collector) -> Result<u64, PipelineError> {
    let collect = async move |_failed: Failed| collector.collect().await;
    let report = Pipeline::new("records", 0..records)
        .sink("convert", Parallel::unordered(8), Bound::items(16), async move |record: &u64| {
            feed.convert(record).await
        })
        .errors(Errors::each(1_000, collect))
        .run()
        .await?;
    Ok(report.stats.errors_lost)
}
// ANCHOR_END: tied

/// Records whose format has changed in every second one.
#[derive(Clone)]
struct Feed {
    through: Counter,
    failed: Counter,
}

#[derive(Debug)]
struct UnknownFormat;

impl std::fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unknown format")
    }
}

impl std::error::Error for UnknownFormat {}

impl Feed {
    async fn convert(&self, record: &u64) -> Result<(), UnknownFormat> {
        yield_now().await;
        self.through.add(1);
        if record.is_multiple_of(2) {
            return Ok(());
        }
        self.failed.add(1);
        Err(UnknownFormat)
    }
}

/// Who collects errors: stands still until the storm is over.
#[derive(Clone)]
struct Collector {
    /// Closed when it is back.
    away: Arc<Semaphore>,
    collected: Counter,
}

impl Collector {
    async fn collect(&self) {
        let _it_is_back = self.away.acquire().await;
        self.collected.add(1);
    }
}

/// Runs `convert`, and looks just before the collector is back: when all records are through, or none has come through for a
/// second. `convert` returns what was counted as lost.
async fn measured(
    lab: Lab,
    convert: impl AsyncFnOnce(u64, Feed, Collector) -> Result<u64, Trouble>,
) -> Result<(), Trouble> {
    let records = lab.size(5_000, 20_000, 1_000_000);
    let feed = Feed { through: lab.counter("records"), failed: lab.counter("failures") };
    let collector = Collector { away: Arc::new(Semaphore::new(0)), collected: lab.counter("collected") };
    let alerts = lab.counter("alerts");
    let raised = alerts.clone();
    let _listens = on_alert(move |alert| {
        if alert.kind == AlertKind::ErrorsHigh && alert.raised {
            raised.add(1);
        }
    });
    let look = async {
        let (mut through, mut since) = (0, Instant::now());
        while through < records && since.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(5)).await;
            let now = feed.through.get();
            if now > through {
                (through, since) = (now, Instant::now());
            }
        }
        collector.away.close();
        through
    };
    let (through, lost) = tokio::join!(look, convert(records, feed.clone(), collector.clone()));
    let (lost, collected) = (lost?, collector.collected.get());
    lab.figure("records through in the storm", 100.0 * through as f64 / records as f64);
    lab.figure("failures accounted for", 100.0 * (collected + lost) as f64 / feed.failed.get() as f64);
    lab.figure("alerts at half full", alerts.get() as f64);
    Ok(())
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    measured(lab, async |records, feed, collector| {
        convert_leaky(records, feed, collector).await;
        Ok(0)
    })
    .await
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    measured(lab, async |records, feed, collector| Ok(convert_tied(records, feed, collector).await?)).await
}
