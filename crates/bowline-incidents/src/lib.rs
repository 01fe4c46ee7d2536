//! The incident gallery: every failure reproduced on bare tokio, every remedy measured beside it in the same run.
//!
//! A *row* is one production incident: what broke, under which load, and what must be true instead. It has two *forms*, the
//! *leaky* one as it was written, and the *tied* one on Bowline. [`run()`] runs both, one after the other in one process, each on
//! a runtime of its own with two workers, and holds their figures against the row's bounds: the tied form has to keep them,
//! the leaky one has to break those that are marked so. A leaky form that no longer fails is reported, not hidden.
//!
//! ```no_run
//! use bowline_incidents::{Scale, rows, run};
//!
//! let row = rows::find("B1").unwrap();
//! let outcome = run(row, Scale::Usual, &|_| {});
//! assert!(outcome.is_as_promised());
//! ```
//!
//! # Map
//!
//! | module | what it holds |
//! |---|---|
//! | [`row`] | what a row says of itself: [`Row`], [`Bound`], [`Unit`] |
//! | [`lab`] | what a form records into: [`Lab`], [`Counter`], [`Latency`] |
//! | [`sample`] | the thread that samples tasks, memory and gauges while a form runs |
//! | [`mod@run`] | runs both forms and judges |
//! | `alone` | a row in a process of its own, where there are several |
//! | [`rows`] | the rows, a file each |
//! | [`kit`] | what rows start and drive: the server, other processes, clients |
//! | [`report`] | what a run came to: text, JSON, HTML, pictures, the table of the README, the book |
//! | [`command`] | `bowline incidents` |

mod alone;
pub mod command;
pub mod kit;
pub mod lab;
pub mod report;
pub mod row;
pub mod rows;
pub mod run;
pub mod sample;

pub use lab::{Counter, Lab, Latency, Trouble};
pub use row::{Bound, Form, FormFuture, Limit, Need, Row, Unit};
pub use run::{Findings, Outcome, Progress, Verdict, run};

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// For continuous integration: a few seconds a row, on a machine that does other things as well.
    Reduced,
    /// At most 15 seconds a form.
    Usual,
    /// The sizes of the incident itself, at most ten minutes a form.
    Full,
}

impl Scale {
    /// Finds a scale by its [`word`](Self::word).
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::Reduced, Self::Usual, Self::Full].into_iter().find(|scale| scale.word() == word)
    }

    /// As in `usual sizes`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Reduced => "reduced",
            Self::Usual => "usual",
            Self::Full => "full",
        }
    }
}
