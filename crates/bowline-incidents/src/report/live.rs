//! What goes on while a row runs: redrawn on a terminal, a line now and then elsewhere.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use super::words::figure;
use crate::row::{Row, Unit};
use crate::run::{Now, Progress};

/// Where progress is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A terminal: the lines of both forms are drawn again and again.
    Terminal,
    /// A file or a pipe: a line when a form begins, and every few seconds.
    Plain,
}

impl Place {
    /// What standard error is.
    #[must_use]
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() { Self::Terminal } else { Self::Plain }
    }
}

/// Seconds between two lines where nothing can be redrawn.
const PLAIN_PACE: f64 = 5.0;

/// The progress of one row, on standard error.
#[derive(Debug)]
pub struct Live {
    id: &'static str,
    place: Place,
    drawn: RefCell<Drawn>,
}

#[derive(Debug, Default)]
struct Drawn {
    lines: [String; 2],
    height: usize,
    /// When a line was told last of the form that runs.
    told: Option<f64>,
}

impl Live {
    /// Nothing is drawn yet.
    #[must_use]
    pub fn new(row: &Row, place: Place) -> Self {
        Self { id: row.id, place, drawn: RefCell::default() }
    }

    /// Shows where a form is.
    pub fn tell(&self, progress: Progress<'_>) {
        let mut drawn = self.drawn.borrow_mut();
        let form = if progress.is_leaky { "leaky" } else { "tied" };
        let line = line(self.id, form, progress.now);
        match self.place {
            Place::Plain => {
                let at = progress.now.seconds;
                // Time that goes back is the other form's.
                if drawn.told.is_none_or(|told| at < told || at - told >= PLAIN_PACE) {
                    drawn.told = Some(at);
                    let _ = writeln!(io::stderr(), "{line}");
                }
            }
            Place::Terminal => {
                drawn.lines[usize::from(progress.is_leaky)] = line;
                let mut picture = erased(drawn.height);
                drawn.height = 0;
                for line in drawn.lines.iter().filter(|line| !line.is_empty()) {
                    let _ = writeln!(picture, "{line}");
                }
                drawn.height = drawn.lines.iter().filter(|line| !line.is_empty()).count();
                let _ = io::stderr().write_all(picture.as_bytes());
            }
        }
    }

    /// Takes what was drawn away: the verdict follows.
    pub fn end(self) {
        let drawn = self.drawn.into_inner();
        let _ = io::stderr().write_all(erased(drawn.height).as_bytes());
    }
}

/// Up so many lines, and everything below gone.
fn erased(height: usize) -> String {
    if height == 0 { String::new() } else { format!("\x1b[{height}A\x1b[J") }
}

/// At most 79 columns: a line that wraps could not be drawn over.
fn line(id: &str, form: &str, now: Now<'_>) -> String {
    let mut line = format!("{id:<3} {form:<5} {:>6.1} s", now.seconds);
    let values = now.values.iter().map(|(name, value)| {
        let unit = if name.ends_with("memory") { Unit::Bytes } else { Unit::Count };
        format!("{name} {}", figure(*value, unit))
    });
    let latencies = now
        .latencies
        .iter()
        .map(|(name, p99)| format!("{name} p99 {}", figure(p99.as_secs_f64(), Unit::Seconds)));
    // Latencies are few and say more than a third counter.
    let values: Vec<String> = values.collect();
    let (first, rest) = values.split_at(values.len().min(2));
    for part in first.iter().cloned().chain(latencies).chain(rest.iter().cloned()) {
        if line.chars().count() + 2 + part.chars().count() > 79 {
            break;
        }
        line.push_str("  ");
        line.push_str(&part);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_fits_the_terminal_and_keeps_what_matters_most() {
        let values: Vec<(String, f64)> = [("tasks", 12.0), ("memory", 1.2e6), ("depth", 1_000.0)]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .chain([("a counter of a very long name".to_owned(), 7.0)])
            .collect();
        let latencies = [("reply".to_owned(), Duration::from_millis(35))];
        let now = Now { seconds: 2.0, values: &values, latencies: &latencies };
        let line = line("B1", "tied", now);
        assert_eq!(line, "B1  tied     2.0 s  tasks 12  memory 1.2 MB  reply p99 35 ms  depth 1,000");
    }
}
