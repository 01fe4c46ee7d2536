//! The verdict of a row on a terminal, and the list of rows. 80 columns.

use std::fmt::Write as _;

use super::words::{figure, limit, maybe};
use super::{Record, RowRecord, State, VerdictRecord, need};
use crate::kit;
use crate::row::{Row, Unit};

/// Whether words are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For a terminal.
    On,
    /// For everything else.
    Off,
}

impl Colour {
    fn paint(self, word: &str, code: &str) -> String {
        match self {
            Self::On => format!("\x1b[{code}m{word}\x1b[0m"),
            Self::Off => word.to_owned(),
        }
    }
}

/// The rows there are: id, title, what is needed, and whether it is here.
#[must_use]
pub fn list(rows: &[&Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let needs: Vec<&str> = row.needs.iter().map(|one| need(*one)).collect();
        let absent = row.needs.iter().any(|need| kit::missing(*need).is_some());
        let needs = match (needs.is_empty(), absent) {
            (true, _) => String::new(),
            (false, false) => format!("needs {}", needs.join(", ")),
            (false, true) => format!("needs {} (not here)", needs.join(", ")),
        };
        let line = format!("{:<4}{:<40}{needs}", row.id, row.title);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("\n`bowline incidents B1` runs one, `--all` runs all of them.\n");
    text
}

/// What a row came to: a line for each bound, and one for the whole.
#[must_use]
pub fn verdict(record: &RowRecord, colour: Colour) -> String {
    let mut text = format!("{} {}\n", colour.paint(record.id, "1"), colour.paint(record.title, "1"));
    if record.state == State::Skipped {
        let why = record.why.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  {} {why}\n", colour.paint("SKIPPED:", "33"));
        return text;
    }
    let _ = writeln!(text, "  {:<24}{:>11}{:>11}{:>13}", "", "tied", "leaky", "limit");
    for verdict in &record.verdicts {
        let said = said(verdict, colour);
        let (tied, leaky) = (maybe(verdict.tied, verdict.unit), maybe(verdict.leaky, verdict.unit));
        let limit = limit(verdict.limit(), verdict.unit);
        let _ = writeln!(text, "  {:<24}{tied:>11}{leaky:>11}{limit:>13}  {said}", verdict.figure);
    }
    if let Some(why) = &record.why {
        let _ = writeln!(text, "  {} {why}", colour.paint("TROUBLE:", "31"));
    }
    let _ = writeln!(text, "  {}\n", conclusion(record, colour));
    text
}

fn said(verdict: &VerdictRecord, colour: Colour) -> String {
    match (verdict.kept, verdict.is_leaky_holding()) {
        (false, _) => colour.paint("MISSED", "31"),
        (true, true) => format!("{}, {}", colour.paint("kept", "32"), colour.paint("LEAKY HOLDS", "33")),
        (true, false) => colour.paint("kept", "32"),
    }
}

fn conclusion(record: &RowRecord, colour: Colour) -> String {
    let seconds = |findings: &Option<crate::Findings>| {
        let seconds = findings.as_ref().and_then(|findings| findings.figures.get("seconds").copied());
        figure(seconds.unwrap_or_default(), Unit::Seconds)
    };
    let took = format!("tied {}, leaky {}", seconds(&record.tied), seconds(&record.leaky));
    let word = match record.state {
        State::AsPromised => colour.paint("as promised: the tied form holds, the leaky one fails", "32"),
        State::Missed => colour.paint("NOT AS PROMISED", "31"),
        State::LeakyHolds => colour.paint("A FINDING: the leaky form no longer fails", "33"),
        State::Skipped => String::new(),
    };
    format!("{word} ({took})")
}

/// The last line of a run.
#[must_use]
pub fn sum(record: &Record) -> String {
    let mut parts = vec![format!("{} as promised", record.count(State::AsPromised))];
    let others =
        [(State::Missed, "missed"), (State::LeakyHolds, "no longer failing"), (State::Skipped, "skipped")];
    for (state, word) in others {
        let count = record.count(state);
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    format!("{} rows: {}\n", record.rows.len(), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{ROW, record};

    #[test]
    fn the_verdict_has_a_line_for_each_bound_and_one_for_the_whole() {
        let text = verdict(&record(101.0, 20_003.0), Colour::Off);
        assert_eq!(
            text,
            "T1 a <row> of tests\n\
             \u{20}                                tied      leaky        limit\n\
             \u{20} tasks peak                      101     20,003        ≤ 160  kept\n\
             \u{20} items done                     100%       100%       ≥ 100%  kept\n\
             \u{20} as promised: the tied form holds, the leaky one fails (tied 0 s, leaky 0 s)\n\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn what_is_not_as_promised_cannot_be_overlooked() {
        assert!(verdict(&record(161.0, 20_003.0), Colour::Off).contains("MISSED"));
        assert!(verdict(&record(101.0, 101.0), Colour::Off).contains("kept, LEAKY HOLDS"));
        let skipped = RowRecord::skipped(&ROW, "no `nats-server`".to_owned());
        assert!(verdict(&skipped, Colour::Off).contains("SKIPPED: no `nats-server`"));
        let run = Record::new(vec![record(161.0, 2e4), skipped], crate::Scale::Reduced, false);
        assert_eq!(sum(&run), "2 rows: 0 as promised, 1 missed, 1 skipped\n");
    }
}
