//! Runs both forms of a row and judges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Scale;
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Form, Limit, Row};
use crate::sample::{Series, sample};

/// What a form is doing right now.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// Seconds since it began.
    pub seconds: f64,
    /// Tasks, memory, and every counter and gauge.
    pub values: &'a [(String, f64)],
    /// What 99 of 100 did not exceed so far, of each latency.
    pub latencies: &'a [(String, Duration)],
}

/// What happens while a row runs.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Whether it is the leaky form that runs.
    pub is_leaky: bool,
    /// Its state.
    pub now: Now<'a>,
}

/// What was seen of one form.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Findings {
    /// By name; the runner adds `tasks peak`, `tasks left` (100 ms after the form returned), `memory peak` and `seconds`.
    /// What never came to be is infinite, and `null` in JSON.
    #[serde(deserialize_with = "null_is_never")]
    pub figures: BTreeMap<String, f64>,
    /// Tasks, memory, counters and gauges over time.
    pub series: Vec<Series>,
    /// Upper ends of buckets in seconds, with how many fell into each.
    pub latencies: BTreeMap<String, Vec<(f64, u64)>>,
    /// Seconds that 99 of 100 did not exceed, of each latency.
    pub p99: BTreeMap<String, f64>,
    /// Why the form could not do its work.
    pub trouble: Option<String>,
}

fn null_is_never<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let figures = <BTreeMap<String, Option<f64>> as serde::Deserialize>::deserialize(from)?;
    Ok(figures.into_iter().map(|(name, figure)| (name, figure.unwrap_or(f64::INFINITY))).collect())
}

/// One bound, held against both forms.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What was asked.
    pub bound: Bound,
    /// Its limit at this scale.
    pub limit: Limit,
    /// The tied form's figure; `None` if it recorded none.
    pub tied: Option<f64>,
    /// The leaky form's.
    pub leaky: Option<f64>,
}

impl Verdict {
    /// Returns whether the tied form keeps the bound.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.tied.is_some_and(|figure| self.limit.keeps(figure))
    }

    /// Returns whether the leaky form does as it is there for: breaks the bound, where it has to.
    #[must_use]
    pub fn is_failure_shown(&self) -> bool {
        !self.bound.leaky_breaks || self.leaky.is_some_and(|figure| !self.limit.keeps(figure))
    }
}

/// How a row ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub row: &'static Row,
    /// How large.
    pub scale: Scale,
    /// What was seen of the tied form.
    pub tied: Findings,
    /// What was seen of the leaky form.
    pub leaky: Findings,
    /// One for each bound.
    pub verdicts: Vec<Verdict>,
}

impl Outcome {
    /// Returns whether the tied form kept every bound and the leaky one broke what it had to.
    #[must_use]
    pub fn is_as_promised(&self) -> bool {
        self.tied.trouble.is_none()
            && self.leaky.trouble.is_none()
            && self.verdicts.iter().all(|verdict| verdict.is_kept() && verdict.is_failure_shown())
    }
}

/// Runs the tied form of `row`, then the leaky one, and holds both against the bounds. `tell` hears of it ten times a second.
///
/// The tied form goes first: what the leaky one leaves behind cannot count against it. That other rows have left nothing behind either
/// is for the caller to see to; [`perform`](crate::command::perform) gives each of several rows a process of its own.
#[must_use]
pub fn run(row: &'static Row, scale: Scale, tell: &dyn Fn(Progress<'_>)) -> Outcome {
    run_within(row, scale, limit(scale), tell)
}

/// How long a form may take.
pub(crate) const fn limit(scale: Scale) -> Duration {
    match scale {
        Scale::Reduced | Scale::Usual => Duration::from_secs(15),
        Scale::Full => Duration::from_secs(600),
    }
}

fn run_within(row: &'static Row, scale: Scale, limit: Duration, tell: &dyn Fn(Progress<'_>)) -> Outcome {
    let tied = run_tied(row.tied, scale, limit, &|now| tell(Progress { is_leaky: false, now }));
    let leaky = run_leaky(row.leaky, scale, limit, &|now| tell(Progress { is_leaky: true, now }));
    judge(row, scale, tied, leaky)
}

/// Holds what was seen of both forms against the bounds.
pub(crate) fn judge(row: &'static Row, scale: Scale, tied: Findings, leaky: Findings) -> Outcome {
    let verdicts = row
        .bounds
        .iter()
        .map(|bound| Verdict {
            bound: *bound,
            limit: bound.limit_at(scale),
            tied: tied.figures.get(bound.figure).copied(),
            leaky: leaky.figures.get(bound.figure).copied(),
        })
        .collect();
    Outcome { row, scale, tied, leaky, verdicts }
}

const WORKERS: usize = 2;

/// How long a form has to be gone after it returned.
const SETTLE: Duration = Duration::from_millis(100);

fn run_tied(form: Form, scale: Scale, limit: Duration, tell: &dyn Fn(Now<'_>)) -> Findings {
    let runner = bowline::Runner::new("tied")
        .worker_threads(WORKERS)
        .without_signals()
        .shutdown_within(Duration::from_secs(5));
    measured(scale, tell, move |measure| {
        let (result, report) = runner.run(async move {
            let lab = measure.begin();
            let ended = bowline::timeout(limit, form(lab.clone())).await;
            let ended = match ended {
                Ok(result) => result,
                Err(error) => Err(Trouble::from(error.to_string())),
            };
            tokio::time::sleep(SETTLE).await;
            measure.end(&lab, ended)
        });
        result.unwrap_or_else(|| {
            let why = match (&report.panic, &report.cancelled) {
                (Some(panic), _) => format!("it panicked: {panic}"),
                (None, Some(cancelled)) => cancelled.to_string(),
                (None, None) => report.to_string(),
            };
            Findings { trouble: Some(why), ..Findings::default() }
        })
    })
}

fn run_leaky(form: Form, scale: Scale, limit: Duration, tell: &dyn Fn(Now<'_>)) -> Findings {
    measured(scale, tell, move |measure| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
        let runtime = runtime.expect("the system gives threads for a runtime");
        let findings = runtime.block_on(async move {
            let lab = measure.begin();
            let mut ended = Err(Trouble::from("it did not end in time"));
            if let Ok(result) = tokio::time::timeout(limit, form(lab.clone())).await {
                ended = result;
            }
            tokio::time::sleep(SETTLE).await;
            measure.end(&lab, ended)
        });
        // What it has leaked ends here, and not with the next row.
        runtime.shutdown_timeout(Duration::from_secs(1));
        findings
    })
}

/// Between the thread that runs a form and the one that measures it.
struct Measure {
    scale: Scale,
    began: std::sync::mpsc::SyncSender<(Lab, tokio::runtime::Handle)>,
    ended: Arc<AtomicBool>,
}

impl Measure {
    fn begin(&self) -> Lab {
        let lab = Lab::new(self.scale);
        let _ = self.began.send((lab.clone(), tokio::runtime::Handle::current()));
        lab
    }

    fn end(&self, lab: &Lab, ended: Result<(), Trouble>) -> Findings {
        lab.figure("tasks left", lab.tasks() as f64);
        let mut findings = lab.findings(Vec::new());
        findings.trouble = ended.err().map(|error| error.to_string());
        self.ended.store(true, Ordering::Release);
        findings
    }
}

fn measured(scale: Scale, tell: &dyn Fn(Now<'_>), form: impl FnOnce(Measure) -> Findings + Send) -> Findings {
    let (began, begun) = std::sync::mpsc::sync_channel(1);
    let ended = Arc::new(AtomicBool::new(false));
    let measure = Measure { scale, began, ended: Arc::clone(&ended) };
    std::thread::scope(|threads| {
        let running = threads.spawn(move || {
            let _tells = Tells(Arc::clone(&measure.ended));
            form(measure)
        });
        let samples = begun.recv().ok().map(|(lab, runtime)| sample(&lab, &runtime, &ended, tell));
        let mut findings = running
            .join()
            .unwrap_or_else(|panic| Findings { trouble: Some(message_of(&*panic)), ..Findings::default() });
        if let Some(samples) = samples {
            findings.figures.insert("tasks peak".to_owned(), samples.peak_tasks as f64);
            findings.figures.insert("memory peak".to_owned(), samples.peak_memory as f64);
            let seconds =
                samples.series.first().and_then(|one| one.points.last()).map_or(0.0, |point| point.0);
            findings.figures.insert("seconds".to_owned(), seconds);
            findings.series = samples.series;
        }
        findings
    })
}

/// What a panic said.
fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", message.unwrap_or("without a message"))
}

/// Ends the sampling also if the form panics.
struct Tells(Arc<AtomicBool>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unit;

    const BOUNDS: &[Bound] = &[Bound::at_most("held", 1.0, Unit::Count).broken_by_leaky()];

    const fn row(tied: Form, leaky: Form) -> Row {
        Row {
            id: "T1",
            title: "",
            broke: "",
            must: "",
            theirs: "",
            load: "",
            remedy: "",
            needs: &[],
            bounds: BOUNDS,
            leaky,
            tied,
            source: "",
        }
    }

    async fn holds(lab: Lab, value: f64) -> Result<(), Trouble> {
        lab.figure("held", value);
        Ok(())
    }

    fn run_shortly(row: &'static Row) -> Outcome {
        run_within(row, Scale::Reduced, Duration::from_millis(300), &|_| {})
    }

    #[test]
    fn both_forms_are_measured_and_judged() {
        static ROW: Row = row(|lab| Box::pin(holds(lab, 1.0)), |lab| Box::pin(holds(lab, 2.0)));
        let outcome = run_shortly(&ROW);
        assert!(outcome.is_as_promised(), "{outcome:?}");
        assert_eq!(outcome.leaky.figures["held"], 2.0);
        assert!(outcome.tied.figures.contains_key("tasks peak"));
        assert!(outcome.tied.figures["memory peak"] < 1e9);
        assert!(outcome.tied.series.iter().any(|series| series.name == "memory"));
    }

    #[test]
    fn findings_are_the_same_after_a_journey_through_json() {
        let mut findings = crate::report::tests::findings(20_003.0, 99.5);
        findings.figures.insert("reported within".to_owned(), f64::INFINITY);
        findings.trouble = Some("it was \"late\"\n".to_owned());
        let text = serde_json::to_string(&findings).unwrap();
        assert_eq!(serde_json::from_str::<Findings>(&text).unwrap(), findings);
    }

    #[test]
    fn a_form_that_panics_is_quoted_and_promises_nothing() {
        static ROW: Row =
            row(|_| Box::pin(async { panic!("tied broke") }), |_| Box::pin(async { panic!("leaky broke") }));
        let outcome = run_shortly(&ROW);
        assert!(!outcome.is_as_promised());
        let said = |findings: &Findings| findings.trouble.clone().unwrap_or_default();
        assert!(said(&outcome.tied).contains("tied broke"), "{outcome:?}");
        assert!(said(&outcome.leaky).contains("leaky broke"), "{outcome:?}");
    }

    #[test]
    fn a_form_that_never_ends_is_ended() {
        static ROW: Row = row(|_| Box::pin(std::future::pending()), |_| Box::pin(std::future::pending()));
        let outcome = run_shortly(&ROW);
        assert!(!outcome.is_as_promised());
        assert!(outcome.tied.trouble.is_some() && outcome.leaky.trouble.is_some(), "{outcome:?}");
    }

    #[test]
    fn a_form_without_its_figure_has_neither_kept_nor_broken_anything() {
        static ROW: Row = row(|_| Box::pin(async { Ok(()) }), |_| Box::pin(async { Ok(()) }));
        let outcome = run_shortly(&ROW);
        assert_eq!((outcome.verdicts[0].tied, outcome.verdicts[0].leaky), (None, None));
        assert!(!outcome.verdicts[0].is_kept() && !outcome.verdicts[0].is_failure_shown());
        assert!(!outcome.is_as_promised());
    }
}
