//! Runs every form, counts, and prints the tables and what they come to.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use crate::generator::{self, NAMES, Program};
use crate::seeded::{self, Outcome, Watched};
use crate::{Class, Dead, Expected, Form, Kernel, Kind, bare, kernels, threads};

/// Told how much is done, of how much.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// The counts of one form.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Origin of the bug.
    pub kernel: &'static str,
    /// What becomes of it.
    pub class: Class,
    /// Spawn sites at which a task can end up dead.
    pub sites: u32,
    /// The form.
    pub form: String,
    /// Which way it is written in.
    pub kind: Kind,
    /// How often it was run.
    pub runs: u64,
    /// In how many of them tasks stood still for ever.
    pub manifested: u64,
    /// In how many all ended.
    pub ended: u64,
    /// In how many of those that manifested the dead were rightly named.
    pub proved: u64,
    /// In how many they were not.
    pub missed: u64,
    /// In how many somebody was called dead who lived.
    pub wrong: u64,
    /// What went wrong, the first of each kind.
    pub notes: Vec<String>,
    /// How long each proof took on real threads.
    pub latencies: Vec<Duration>,
}

impl Row {
    fn new(kernel: &Kernel, form: &Form) -> Self {
        Self {
            kernel: kernel.name,
            class: kernel.class,
            form: form.label(),
            sites: kernel.sites,
            kind: form.kind,
            runs: 0,
            manifested: 0,
            ended: 0,
            proved: 0,
            missed: 0,
            wrong: 0,
            notes: Vec::new(),
            latencies: Vec::new(),
        }
    }

    fn count(&mut self, outcome: Outcome, how: &str) {
        self.runs += 1;
        let note = match outcome {
            Outcome::Ended => return self.ended += 1,
            Outcome::Unjudged => return self.manifested += 1,
            Outcome::Proved { after } => {
                self.manifested += 1;
                self.proved += 1;
                return self.latencies.push(after);
            }
            Outcome::Missed(note) => {
                self.manifested += 1;
                self.missed += 1;
                format!("missed, {how}: {note}")
            }
            Outcome::False(note) => {
                self.wrong += 1;
                format!("false report, {how}: {note}")
            }
            Outcome::Broken(note) => format!("not the program that was meant, {how}: {note}"),
        };
        if self.notes.len() < 3 {
            self.notes.push(note);
        }
    }

    /// Whether nothing was missed, nothing false was said and every port did what its kernel says.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.notes.is_empty()
    }
}

/// Runs a form under the seeds from 0 on.
#[must_use]
pub fn by_seed(kernel: &Kernel, form: &Form, schedules: u64) -> Row {
    let mut row = Row::new(kernel, form);
    for seed in 0..schedules {
        let outcome = match form.kind {
            Kind::Tokio if bare::run(form, seed) == 0 => Outcome::Ended,
            Kind::Tokio => Outcome::Unjudged,
            _ => seeded::run(kernel, form, seed),
        };
        row.count(outcome, &format!("seed {seed}"));
    }
    let shows = matches!(form.expected, Expected::Dead { .. });
    // One bug in a hundred runs is the rarest there is.
    if shows && row.manifested == 0 && schedules >= 500 {
        row.notes.push("the bug never shows: no proof of anything".to_owned());
    }
    if form.kind == Kind::Tokio && !shows && row.manifested > 0 {
        row.notes.push("tasks are left that should have ended".to_owned());
    }
    row
}

/// Numbers of workers that forms are run on.
pub const WORKERS: [usize; 4] = [1, 2, 4, 10];

/// Runs a form on real threads, so often on each number of workers.
#[must_use]
pub fn on_threads(kernel: &'static Kernel, form: &'static Form, workers: &[usize], times: u64) -> Row {
    let mut row = Row::new(kernel, form);
    for &workers in workers {
        for seed in 0..times {
            row.count(threads::run(form, workers, seed), &format!("{workers} workers"));
        }
    }
    row
}

/// How many kernels are run at a time under seeds: they never wait.
const CORES: usize = 2;
/// How many at a time on real threads.
const SIDE_BY_SIDE: usize = 8;

/// Rows, one per form.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// One per form.
    pub rows: Vec<Row>,
}

impl Table {
    /// Runs all forms of kernels whose name contains `filter` under so many seeds each.
    #[must_use]
    pub fn by_seed(filter: &str, schedules: u64, progress: Progress<'_>) -> Self {
        Self::of(filter, CORES, progress, |kernel, form| Some(by_seed(kernel, form, schedules)))
    }

    /// Runs the same on real threads, plain tokio left out.
    #[must_use]
    pub fn on_threads(filter: &str, workers: &[usize], times: u64, progress: Progress<'_>) -> Self {
        Self::of(filter, SIDE_BY_SIDE, progress, |kernel, form| {
            seeded::runs(form).then(|| on_threads(kernel, form, workers, times))
        })
    }

    /// Runs kernels side by side: most of them wait most of the time.
    fn of(
        filter: &str,
        at_once: usize,
        progress: Progress<'_>,
        row: impl Fn(&'static Kernel, &'static Form) -> Option<Row> + Sync,
    ) -> Self {
        let kernels: Vec<_> = kernels::all().filter(|kernel| kernel.name.contains(filter)).collect();
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|threads| {
            for _ in 0..at_once {
                threads.spawn(|| {
                    while let Some((at, kernel)) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, kernels.get(at)?)))
                    {
                        let rows: Vec<_> = kernel.forms.iter().filter_map(|form| row(kernel, form)).collect();
                        let mut done = done.lock().expect("nobody panics with it");
                        done.push((at, rows));
                        progress(done.len(), kernels.len());
                    }
                });
            }
        });
        let mut rows = done.into_inner().expect("nobody panics with it");
        rows.sort_by_key(|(at, _)| *at);
        Self { rows: rows.into_iter().flat_map(|(_, rows)| rows).collect() }
    }

    /// Whether every row is clean.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.rows.iter().all(Row::is_clean)
    }

    /// The times from standing still to a proof, in order.
    #[must_use]
    pub fn latencies(&self) -> Vec<Duration> {
        let mut all: Vec<_> = self.rows.iter().flat_map(|row| row.latencies.iter().copied()).collect();
        all.sort_unstable();
        all
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        writeln!(
            text,
            "{:<22} {:<10} {:<26} {:>7} {:>10} {:>7} {:>7} {:>7} {:>6}",
            "kernel", "class", "form", "runs", "manifested", "ended", "proved", "missed", "false"
        )?;
        for row in &self.rows {
            let Row { kernel, form, runs, manifested, ended, wrong, .. } = row;
            let class = format!("{:?}", row.class);
            let of_detector =
                |count: u64| if row.kind == Kind::Tokio { "-".to_owned() } else { count.to_string() };
            writeln!(
                text,
                "{kernel:<22} {class:<10} {form:<26} {runs:>7} {manifested:>10} {ended:>7} {:>7} {:>7} {wrong:>6}",
                of_detector(row.proved),
                of_detector(row.missed),
            )?;
            row.notes.iter().try_for_each(|note| writeln!(text, "    {note}"))?;
        }
        f.write_str(&text)
    }
}

/// Random programs, and what came of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Generated {
    /// How many there were.
    pub programs: u64,
    /// Of these, too large for every order of their turns to be tried.
    pub too_large: u64,
    /// Runs in all: each program under a few seeds.
    pub runs: u64,
    /// Runs of which tasks were left.
    pub left: u64,
    /// Runs in which the detector called exactly those dead.
    pub proved: u64,
    /// What went wrong, the first of it: each with its program.
    pub notes: Vec<String>,
}

impl Generated {
    /// Runs the programs of these seeds, each under tokio's own order and two others.
    #[must_use]
    pub fn run(programs: Range<u64>, progress: Progress<'_>) -> Self {
        let mut generated = Self::default();
        let all = programs.clone().count();
        for (done, number) in programs.enumerate() {
            generated.add(number);
            progress(done + 1, all);
        }
        generated
    }

    fn add(&mut self, number: u64) {
        self.programs += 1;
        let program = Arc::new(Program::draw(number));
        let Some(possible) = generator::possible(&program) else {
            self.too_large += 1;
            return;
        };
        for seed in [0, 2 * number + 1, 2 * number + 2] {
            self.runs += 1;
            let watched = generator::run(&program, seed);
            let outcome = self.judge(&watched, &possible);
            if let Some(note) = outcome.filter(|_| self.notes.len() < 5) {
                self.notes.push(format!("program {number}, seed {seed}: {note}\n    {program:?}"));
            }
        }
    }

    fn judge(&mut self, watched: &Watched, possible: &BTreeSet<Vec<usize>>) -> Option<String> {
        if let Some(wrong) = watched.false_report(None) {
            return Some(format!("false report of {wrong}"));
        }
        let names = watched.left.names();
        // The names are sorted, and so are their numbers.
        let numbers: Vec<_> =
            names.iter().filter_map(|name| NAMES.iter().position(|known| known == name)).collect();
        if !possible.contains(&numbers) || !watched.left.alive.is_empty() {
            return Some(format!("{names:?} are left, and it can be {possible:?}"));
        }
        if numbers.is_empty() {
            return None;
        }
        self.left += 1;
        match watched.proof(&Dead::any()) {
            Outcome::Proved { .. } => self.proved += 1,
            Outcome::Missed(note) => return Some(format!("missed: {note}")),
            _ => {}
        }
        None
    }
}

impl fmt::Display for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { programs, too_large, runs, left, proved, notes } = self;
        writeln!(
            f,
            "{programs} random programs ({too_large} too large), {runs} runs; tasks left in {left}, proved in {proved}"
        )?;
        notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}
