//! What the tables come to: of how many bugs how many cannot be written, end by construction, or are proved.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::score::{Generated, Row, Table};
use crate::{Class, Kind, unwritable};

/// Everything that was run.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// Under how many seeds.
    pub seeds: u64,
    /// On which numbers of workers.
    pub workers: Vec<usize>,
    /// The forms under seeds.
    pub seeded: Table,
    /// The forms on real threads.
    pub threads: Table,
    /// Random programs.
    pub generated: Generated,
}

impl Score {
    /// Whether nothing was missed, nothing false was said and every port did what its kernel says.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.seeded.is_clean() && self.threads.is_clean() && self.generated.notes.is_empty()
    }
}

/// What a bug comes to in one way of writing it, from best to worst. One of which forms differ counts as its worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Unwritable,
    Ends,
    /// It stands still, and an end of it is where anybody may have it: that nothing is said is right.
    Unknown,
    Proved,
    /// It stands still, and nobody says so: a miss, or plain tokio.
    Silent,
}

fn mark(row: &Row) -> Mark {
    match row {
        Row { missed: 0, manifested: 0, .. } => Mark::Ends,
        Row { missed: 0, proved: 1.., .. } => Mark::Proved,
        Row { missed: 0, kind, .. } if *kind != Kind::Tokio && row.is_clean() => Mark::Unknown,
        _ => Mark::Silent,
    }
}

/// The counts of one way of writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    kernels: u32,
    sites: u32,
    marks: [u32; 5],
    wrong: u64,
}

impl Line {
    fn add(&mut self, sites: u32, mark: Mark, wrong: u64) {
        self.kernels += 1;
        self.sites += sites;
        self.marks[mark as usize] += 1;
        self.wrong += wrong;
    }
}

/// What the kernels of GoBench are: its classes, the expected end of each.
fn is_go(class: Class) -> bool {
    matches!(class, Class::D | Class::L | Class::O | Class::R | Class::S)
}

/// The bugs of a choice, by a way of writing.
fn line<'a>(rows: impl Iterator<Item = &'a Row>) -> Line {
    let mut by_kernel: BTreeMap<&str, (u32, Mark, u64)> = BTreeMap::new();
    for row in rows {
        let known = by_kernel.entry(row.kernel).or_insert((row.sites, Mark::Unwritable, 0));
        known.1 = known.1.max(mark(row));
        known.2 += row.wrong;
    }
    let mut line = Line::default();
    by_kernel.values().for_each(|(sites, mark, wrong)| line.add(*sites, *mark, *wrong));
    line
}

const WAYS: [(Kind, &str); 6] = [
    (Kind::Moved, "ends moved into tasks"),
    (Kind::Shared, "ends shared by all"),
    (Kind::Lock, "guards held across awaits"),
    (Kind::Fixed, "repaired"),
    (Kind::Slow, "repaired, and slow"),
    (Kind::Tokio, "plain tokio"),
];

fn heading(f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
    let dashes = "-".repeat(what.len());
    writeln!(f, "{what}\n{dashes}")?;
    writeln!(
        f,
        "{:<28} {:>7} {:>5} {:>10} {:>7} {:>7} {:>7} {:>7}",
        "", "kernels", "sites", "unwritable", "end", "proved", "missed", "false"
    )
}

fn show(f: &mut fmt::Formatter<'_>, name: &str, line: Line, is_bare: bool) -> fmt::Result {
    let Line { kernels, sites, marks: [unwritable, ends, unknown, proved, silent], wrong } = line;
    let of_detector = |count: String| if is_bare { "-".to_owned() } else { count };
    let (proved, missed) = (of_detector(proved.to_string()), of_detector(silent.to_string()));
    let wrong = of_detector(wrong.to_string());
    write!(
        f,
        "{name:<28} {kernels:>7} {sites:>5} {unwritable:>10} {ends:>7} {proved:>7} {missed:>7} {wrong:>7}"
    )?;
    if is_bare {
        write!(f, "   {silent} stand still in silence")?;
    }
    if unknown > 0 {
        write!(f, "   {unknown} of which nobody can know")?;
    }
    writeln!(f)
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, workers, seeded, threads, generated } = self;
        writeln!(f, "under {seeds} seeds, paused clock:\n\n{seeded}")?;
        writeln!(f, "on {workers:?} workers:\n\n{threads}")?;
        let rows = || seeded.rows.iter().chain(&threads.rows);
        let go = || rows().filter(|row| is_go(row.class));
        let all = line(go());
        heading(
            f,
            &format!(
                "the open half of GoBench's blocking bugs: {} kernels with {} sites",
                all.kernels, all.sites
            ),
        )?;
        let mut closures = Line::default();
        for (name, sites) in go()
            .filter(|row| unwritable::KERNELS.contains(&row.kernel))
            .map(|row| (row.kernel, row.sites))
            .collect::<BTreeMap<_, _>>()
        {
            debug_assert!(!name.is_empty());
            closures.add(sites, Mark::Unwritable, 0);
        }
        show(f, "closures under a lock", closures, false)?;
        for (kind, name) in WAYS {
            let of_kind = line(go().filter(|row| row.kind == kind));
            if of_kind.kernels > 0 {
                show(f, name, of_kind, kind == Kind::Tokio)?;
            }
        }
        writeln!(f)?;
        heading(f, "other bugs, in all ways that are not repaired")?;
        for (class, name) in [
            (Class::Futurelock, "futurelock"),
            (Class::Golf, "what reachability misses"),
            (Class::Uber, "leak patterns"),
            (Class::Rust, "bugs of Rust programs"),
            (Class::Pool, "pools and supervisors"),
            (Class::Control, "nothing wrong: controls"),
        ] {
            let is_written = |row: &&Row| {
                row.class == class
                    && (class == Class::Control
                        || matches!(row.kind, Kind::Moved | Kind::Shared | Kind::Lock))
            };
            let of_class = line(rows().filter(is_written));
            if of_class.kernels > 0 {
                show(f, name, of_class, false)?;
            }
        }
        let wrong: u64 = rows().map(|row| row.wrong).sum();
        let runs: u64 = rows().filter(|row| row.kind != Kind::Tokio).map(|row| row.runs).sum();
        writeln!(f, "\nfalse reports: {wrong} in {runs} runs of kernels\n{generated}")?;
        let latencies = threads.latencies();
        let at = |hundredth: usize| {
            latencies.get((latencies.len() * hundredth / 100).min(latencies.len().saturating_sub(1)))
        };
        if let (Some(median), Some(late)) = (at(50), at(95)) {
            writeln!(
                f,
                "from standing still to a report, on real threads: median {median:.0?}, 95 % within {late:.0?} ({} proofs)",
                latencies.len()
            )?;
        }
        f.write_str(PUBLISHED)
    }
}

/// What others have published.
pub const PUBLISHED: &str = "
published by others:  goleak 43 of 68 (63.2 %), go-deadlock 28 of 68 (41.2 %), dingo-hunter 1 of 68 (1.5 %) of the blocking
                      kernels of GoBench; GOLF 94.8 % of 121 sites (the same kernels and six patterns), 107 in every run
These are not the same programs: theirs are in Go, and ours are written anew in Rust, of the open half of the kernels, where
the language itself ends some that a goroutine waits in for ever. That is counted apart, as unwritable or as an end.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kernel: &'static str, kind: Kind, manifested: u64, proved: u64, missed: u64) -> Row {
        Row {
            kernel,
            class: Class::R,
            sites: 2,
            form: kind.name().to_owned(),
            kind,
            runs: 10,
            manifested,
            ended: 10 - manifested,
            proved,
            missed,
            wrong: 0,
            notes: Vec::new(),
            latencies: Vec::new(),
        }
    }

    #[test]
    fn a_bug_counts_once_and_as_the_worst_of_its_forms() {
        let rows = [
            row("a", Kind::Shared, 5, 5, 0),
            row("a", Kind::Shared, 0, 0, 0),
            row("b", Kind::Shared, 5, 4, 1),
            row("c", Kind::Shared, 0, 0, 0),
        ];
        assert_eq!(line(rows.iter()), Line { kernels: 3, sites: 6, marks: [0, 1, 0, 1, 1], wrong: 0 });
    }

    #[test]
    fn a_plain_program_that_stands_still_does_so_in_silence() {
        assert_eq!(mark(&row("a", Kind::Tokio, 10, 0, 0)), Mark::Silent);
    }
}
