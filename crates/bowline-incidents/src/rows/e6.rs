//! E6, the shutdown: what had been accepted, and was not done.
//!
//! At each deployment some requests were lost. The process stopped listening at the signal and returned from `main`, and the
//! runtime went, with the tasks that were answering. A pause of some seconds was put there. It was too long for most deployments and
//! too short for some, and when a process had to be killed after all nobody knew what it had been waiting for.
//!
//! The leaky form has the pause: it stops accepting, sleeps, and returns.
//!
//! In the tied form the end has an order and a budget. Accepting stops first; requests are drained, then the writers they write to; what
//! is left at its deadline is cancelled; and what does not even stop then is named in the report, with its path and its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowline::{
    Bound as Holds, Cancelled, Discard, Overflow, Report, Runner, drain_phase, group, scope, shielded,
};
use bowline::{shut_down, until_draining};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::load::ms;
use crate::kit::apart::apart;
use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "E6",
    title: "the shutdown",
    broke: "At the signal the process returned after a pause; requests that took longer were lost, and nobody knew what it had waited for.",
    must: "Stop accepting, drain in order, cancel at the deadline, and name whoever did not stop.",
    theirs: "no figures",
    load: "a request every 2 ms of 5 to 600 ms, each written to a log at its end; a signal after 1 s; and one task that does not stop (reduced: after 0.5 s; full: after 10 s)",
    remedy: "`Runner` gives the end a budget, `drain_phase` an order, and the `Report` names who overran.",
    needs: &[],
    bounds: &[
        Bound::at_most("requests lost", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("stubborn tasks named", 1.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("seconds to the end", 2.5, Unit::Seconds),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("e6.rs"),
};

// ANCHOR: leaky
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let trial = Trial::new(&lab);
    let serving = trial.clone();
    apart(move || {
        let runtime = tokio::runtime::Runtime::new().expect("the system gives threads for a runtime");
        runtime.block_on(serve_leaky(serving));
        runtime.shutdown_background();
    })
    .await?;
    trial.figures(&lab, 0)
}

#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn serve_leaky(trial: Trial) {
    let (log, mut lines) = mpsc::channel(100);
    let written = trial.written.clone();
    tokio::spawn(async move {
        while let Some(()) = lines.recv().await {
            written.add(1);
        }
    });
    tokio::spawn(does_not_stop(trial.gone.clone()));
    let signal = Instant::now() + trial.signal_after;
    while let Ok(takes) = timeout_at(signal, trial.accept()).await {
        let log = log.clone();
        tokio::spawn(async move {
            sleep(takes).await;
            let _ = log.send(()).await;
        });
    }
    trial.signalled();
    sleep(Duration::from_millis(200)).await; // most are done by then
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let trial = Trial::new(&lab);
    let serving = trial.clone();
    let report = apart(move || {
        let runner = Runner::new("service").without_signals().shutdown_within(Duration::from_secs(2));
        // Who does not stop is in the report; here nobody has to read it while it happens.
        let (_, report) = runner.on_blockers(|_| {}).run(serve_tied(serving));
        report
    })
    .await?;
    trial.figures(&lab, named(&report, "stubborn"))
}

async fn serve_tied(trial: Trial) -> Result<(), Cancelled> {
    scope("service", async |s| {
        let (log, lines) = s.queue::<()>("log", Holds::items(100), Overflow::Block);
        let (written, writing) = (trial.written.clone(), drain_phase("log"));
        s.spawn_with("log", lines, async move |_cx, lines| {
            let write = async {
                while lines.recv().await?.is_some() {
                    written.add(1);
                }
                Ok(())
            };
            writing.run(write).await
        });
        s.spawn("stubborn", does_not_stop_shielded(trial.gone.clone()));
        s.spawn("signal", signal_after(trial.signal_after));
        let requests = drain_phase("requests"); // registered last: drained first
        let serving = async {
            let _all = group("requests", Discard, async |g| {
                while let Some(takes) = until_draining(trial.accept()).await {
                    g.spawn_with("request", log.clone(), async move |_cx, log| {
                        sleep(takes).await;
                        log.send(()).await.map_err(Cancelled::from)
                    });
                }
                trial.signalled();
            })
            .await;
            Ok::<_, Cancelled>(())
        };
        requests.run(serving).await
    })
    .await
}
// ANCHOR_END: tied

async fn signal_after(time: Duration) -> Result<(), Cancelled> {
    bowline::sleep(time).await?;
    shut_down("SIGTERM");
    Ok(())
}

/// Cleans up for longer than there is time.
async fn does_not_stop_shielded(gone: Arc<AtomicBool>) -> Result<(), Cancelled> {
    shielded(Duration::from_secs(60), does_not_stop(gone)).await
}

async fn does_not_stop(gone: Arc<AtomicBool>) {
    while !gone.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(50)).await;
    }
}

/// How many of this name the report has among those who did not finish or did not stop.
fn named(report: &Report, name: &str) -> usize {
    let late = report.cut_off.iter().chain(&report.stragglers);
    late.filter(|task| task.path.contains(name)).count()
}

#[derive(Clone)]
struct Trial {
    signal_after: Duration,
    accepted: Counter,
    written: Counter,
    gone: Arc<AtomicBool>,
    signal: Arc<std::sync::OnceLock<Instant>>,
}

impl Trial {
    fn new(lab: &Lab) -> Self {
        let signal_after = lab.size(ms(500), ms(1_000), ms(10_000));
        let (accepted, written) = (lab.counter("accepted"), lab.counter("written"));
        Self { signal_after, accepted, written, gone: Arc::default(), signal: Arc::default() }
    }

    /// The next request, and how long it will take.
    async fn accept(&self) -> Duration {
        sleep(Duration::from_millis(2)).await;
        self.accepted.add(1);
        ms(5 + self.accepted.get() * 37 % 596)
    }

    fn signalled(&self) {
        let _ = self.signal.set(Instant::now());
    }

    fn figures(&self, lab: &Lab, named: usize) -> Result<(), Trouble> {
        let took = self.signal.get().map_or(Duration::MAX, Instant::elapsed);
        self.gone.store(true, Ordering::Relaxed);
        lab.figure("requests lost", (self.accepted.get() - self.written.get()) as f64);
        lab.figure("stubborn tasks named", named as f64);
        lab.figure("seconds to the end", took.as_secs_f64());
        Ok(())
    }
}
