//! What a run came to, for people and for programs.
//!
//! [`Record`] is a whole run as data; everything else is made of it, or of a row alone.
//!
//! | module | what it makes |
//! |---|---|
//! | [`words`] | figures as people write them |
//! | [`text`] | the verdict of a row on a terminal, the list of rows |
//! | [`live`] | what goes on while a row runs |
//! | [`chart`] | pictures, as SVG |
//! | [`page`] | a page of HTML that needs nothing else |
//! | [`table`] | the table of the README |
//! | [`chapter`] | the chapters of the book |
//! | [`machine`] | where and when a run was |

pub mod chapter;
pub mod chart;
pub mod live;
pub mod machine;
pub mod page;
pub mod table;
pub mod text;
pub mod words;

use serde::Serialize;

use crate::row::{Need, Row, Unit};
use crate::run::{Findings, Outcome, Verdict};
use crate::{Limit, Scale};

/// A whole run. As JSON, its field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// As `2026-11-21`, in UTC.
    pub date: String,
    /// What was checked out when it ran, or `unknown`.
    pub commit: String,
    /// Processor, cores, memory, system.
    pub machine: String,
    /// How large.
    pub scale: Scale,
    /// Whether every row that ran is as promised, and none was skipped if none may be.
    pub as_promised: bool,
    /// In their order.
    pub rows: Vec<RowRecord>,
}

/// What became of one row.
#[derive(Clone, Debug, Serialize)]
pub struct RowRecord {
    /// The row itself.
    #[serde(skip)]
    pub row: &'static Row,
    /// As in `B1`.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// How it ended.
    pub state: State,
    /// Why it was skipped, or which form could not do its work.
    pub why: Option<String>,
    /// One for each bound; none if it was skipped.
    pub verdicts: Vec<VerdictRecord>,
    /// What was seen of the tied form.
    pub tied: Option<Findings>,
    /// What was seen of the leaky form.
    pub leaky: Option<Findings>,
}

/// How a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The tied form kept every bound, and the leaky one failed as it did.
    AsPromised,
    /// The tied form missed a bound, or a form could not do its work.
    Missed,
    /// The tied form kept every bound, but the leaky one no longer fails.
    LeakyHolds,
    /// Something it needs is not here.
    Skipped,
}

/// One bound, held against both forms.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictRecord {
    /// What was measured.
    pub figure: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// The most it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// The least it has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The tied form's.
    pub tied: Option<f64>,
    /// The leaky form's.
    pub leaky: Option<f64>,
    /// Whether the tied form keeps the bound.
    pub kept: bool,
    /// Whether the leaky form has to break it.
    pub leaky_has_to_break: bool,
    /// Whether it does.
    pub leaky_breaks: bool,
}

impl VerdictRecord {
    /// What it was held against.
    #[must_use]
    pub fn limit(&self) -> Limit {
        match (self.at_most, self.at_least) {
            (_, Some(limit)) => Limit::AtLeast(limit),
            (limit, None) => Limit::AtMost(limit.unwrap_or_default()),
        }
    }

    /// Whether the leaky form was to fail here and did not.
    #[must_use]
    pub fn is_leaky_holding(&self) -> bool {
        self.leaky_has_to_break && !self.leaky_breaks
    }
}

impl Record {
    /// A run that ends here and now. If it `is_strict`, a row that was skipped is a promise not kept.
    #[must_use]
    pub fn new(rows: Vec<RowRecord>, scale: Scale, is_strict: bool) -> Self {
        let is_kept = |row: &RowRecord| match row.state {
            State::AsPromised => true,
            State::Skipped => !is_strict,
            State::Missed | State::LeakyHolds => false,
        };
        Self {
            date: machine::today(),
            commit: machine::commit(),
            machine: machine::describe(),
            scale,
            as_promised: rows.iter().all(is_kept),
            rows,
        }
    }

    /// How many rows ended so.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.rows.iter().filter(|row| row.state == state).count()
    }
}

impl RowRecord {
    /// A row that did not run, and why.
    #[must_use]
    pub fn skipped(row: &'static Row, why: String) -> Self {
        Self::without_findings(row, State::Skipped, why)
    }

    /// A row whose process ended before it had said what it found, and how.
    #[must_use]
    pub fn crashed(row: &'static Row, why: String) -> Self {
        Self::without_findings(row, State::Missed, why)
    }

    fn without_findings(row: &'static Row, state: State, why: String) -> Self {
        Self {
            row,
            id: row.id,
            title: row.title,
            state,
            why: Some(why),
            verdicts: Vec::new(),
            tied: None,
            leaky: None,
        }
    }
}

impl From<Outcome> for RowRecord {
    fn from(outcome: Outcome) -> Self {
        let is_kept = outcome.verdicts.iter().all(Verdict::is_kept);
        let trouble = [("tied", &outcome.tied), ("leaky", &outcome.leaky)];
        let trouble = trouble
            .into_iter()
            .find_map(|(form, findings)| Some(format!("the {form} form: {}", findings.trouble.as_deref()?)));
        let state = if outcome.is_as_promised() {
            State::AsPromised
        } else if is_kept && trouble.is_none() {
            State::LeakyHolds
        } else {
            State::Missed
        };
        let verdicts = outcome.verdicts.iter().map(|verdict| VerdictRecord {
            figure: verdict.bound.figure,
            unit: verdict.bound.unit,
            at_most: if let Limit::AtMost(limit) = verdict.limit { Some(limit) } else { None },
            at_least: if let Limit::AtLeast(limit) = verdict.limit { Some(limit) } else { None },
            tied: verdict.tied,
            leaky: verdict.leaky,
            kept: verdict.is_kept(),
            leaky_has_to_break: verdict.bound.leaky_breaks,
            leaky_breaks: verdict.leaky.is_some_and(|figure| !verdict.limit.keeps(figure)),
        });
        Self {
            row: outcome.row,
            id: outcome.row.id,
            title: outcome.row.title,
            state,
            why: trouble,
            verdicts: verdicts.collect(),
            tied: Some(outcome.tied),
            leaky: Some(outcome.leaky),
        }
    }
}

/// What something is called that a row needs.
#[must_use]
pub fn need(need: Need) -> &'static str {
    match need {
        Need::Server => "bowline serve",
        Need::Nats => "NATS",
        Need::Postgres => "PostgreSQL",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Bound;
    use crate::run::judge;

    pub(crate) static ROW: Row = Row {
        id: "T1",
        title: "a <row> of tests",
        broke: "It broke. Nobody saw it.",
        must: "It must not break.",
        theirs: "10 → 1",
        load: "none",
        remedy: "A bound.",
        needs: &[],
        bounds: &[
            Bound::at_most("tasks peak", 160.0, Unit::Count).broken_by_leaky(),
            Bound::at_least("items done", 100.0, Unit::Percent),
        ],
        leaky: |_| Box::pin(async { Ok(()) }),
        tied: |_| Box::pin(async { Ok(()) }),
        source: "//! A row & its story.\n//!\n//! In <two> parts.\n\nuse x;\n\n// ANCHOR: leaky\nasync fn leaky() { a < b }\n// ANCHOR_END: leaky\n\
                 // ANCHOR: tied\nasync fn tied() {}\n// ANCHOR_END: tied\n",
    };

    pub(crate) fn findings(tasks: f64, done: f64) -> Findings {
        let mut findings = Findings::default();
        findings.figures.insert("tasks peak".to_owned(), tasks);
        findings.figures.insert("items done".to_owned(), done);
        let points = (0..100).map(|at| (f64::from(at) / 10.0, tasks * f64::from(at) / 100.0)).collect();
        findings.series.push(crate::sample::Series { name: "tasks".to_owned(), points });
        findings.latencies.insert("reply".to_owned(), vec![(0.001, 90), (0.01, 10)]);
        findings.p99.insert("reply".to_owned(), 0.009);
        findings
    }

    pub(crate) fn record(tied: f64, leaky: f64) -> RowRecord {
        judge(&ROW, Scale::Usual, findings(tied, 100.0), findings(leaky, 100.0)).into()
    }

    #[test]
    fn a_row_is_as_promised_only_if_the_tied_form_holds_and_the_leaky_one_fails() {
        assert_eq!(record(100.0, 20_000.0).state, State::AsPromised);
        assert_eq!(record(161.0, 20_000.0).state, State::Missed);
        assert_eq!(record(100.0, 100.0).state, State::LeakyHolds);
        let troubled = Findings { trouble: Some("no room".to_owned()), ..findings(100.0, 100.0) };
        let troubled: RowRecord = judge(&ROW, Scale::Usual, troubled, findings(20_000.0, 100.0)).into();
        assert_eq!(troubled.state, State::Missed);
        assert_eq!(troubled.why.as_deref(), Some("the tied form: no room"));
    }

    #[test]
    fn a_skipped_row_fails_only_a_strict_run() {
        let skipped = || vec![RowRecord::skipped(&ROW, "no NATS".to_owned())];
        assert!(Record::new(skipped(), Scale::Reduced, false).as_promised);
        assert!(!Record::new(skipped(), Scale::Reduced, true).as_promised);
        assert!(!Record::new(vec![record(100.0, 100.0)], Scale::Reduced, false).as_promised);
    }

    #[test]
    fn the_document_has_the_names_that_programs_rely_on() {
        let record = Record::new(vec![record(100.0, 20_000.0)], Scale::Reduced, true);
        let document = serde_json::to_value(&record).unwrap();
        assert_eq!(document["scale"], "reduced");
        assert_eq!(document["as_promised"], true);
        let row = &document["rows"][0];
        assert_eq!((&row["id"], &row["state"]), (&"T1".into(), &"as_promised".into()));
        let verdict = &row["verdicts"][0];
        assert_eq!(verdict["figure"], "tasks peak");
        assert_eq!(verdict["unit"], "count");
        assert_eq!(verdict["at_most"], 160.0);
        assert_eq!((&verdict["tied"], &verdict["leaky"]), (&100.0.into(), &20_000.0.into()));
        assert_eq!(row["tied"]["series"][0]["name"], "tasks");
    }
}
