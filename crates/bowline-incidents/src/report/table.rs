//! The table of the README: every row, its bounds, the figures of both forms, machine and date.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::words::{limit, maybe};
use super::{Record, RowRecord, State};
use crate::{Scale, rows};

/// Where the table begins in a file that has one.
pub const BEGIN: &str = "<!-- incidents:begin -->";

/// Where it ends.
pub const END: &str = "<!-- incidents:end -->";

const HEAD: &str = "| row | measured | leaky | tied | has to be | |\n|---|---|--:|--:|--:|---|\n";

/// What a line below the table begins with that is of a few rows only.
const AGAIN: &str = "Later, ";

/// The table as markdown: a line for each bound. What was missed or skipped stands in it as such.
#[must_use]
pub fn markdown(record: &Record) -> String {
    let mut table = HEAD.to_owned();
    for row in &record.rows {
        lines(&mut table, row);
    }
    let _ = write!(table, "\n{}", foot(record));
    table
}

/// When, of what, how large and where, and the command that does it again.
fn foot(record: &Record) -> String {
    let size = match record.scale {
        Scale::Usual => String::new(),
        other => format!(" --{}", other.word()),
    };
    let rows = if is_whole(record) { "--all".to_owned() } else { ids(record) };
    format!(
        "{}, commit {}, {} sizes. {}. Written by `bowline incidents {rows}{size} --write-table README.md`.\n",
        record.date,
        record.commit,
        record.scale.word(),
        record.machine
    )
}

fn is_whole(record: &Record) -> bool {
    rows::ALL.iter().all(|row| record.rows.iter().any(|ran| ran.id == row.id))
}

fn ids(record: &Record) -> String {
    record.rows.iter().map(|row| row.id).collect::<Vec<_>>().join(" ")
}

/// The table of a run of a few rows put into one of more: their lines are replaced, or added where they belong, and all others stay. A line
/// below the table says of them alone what its foot says of the rest.
fn merged(present: &str, record: &Record) -> String {
    let (head, below) = present.trim().split_once("\n\n").unwrap_or((present.trim(), ""));
    let mut groups: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in head.lines().skip(2) {
        // A row begins with its name; what follows without one is its as well.
        if let Some((id, _)) = line.strip_prefix("| **").and_then(|rest| rest.split_once("**")) {
            id.clone_into(&mut last);
        }
        let group = groups.entry(last.clone()).or_default();
        let _ = writeln!(group, "{line}");
    }
    for row in &record.rows {
        let mut group = String::new();
        lines(&mut group, row);
        groups.insert(row.id.to_owned(), group);
    }
    let mut table = HEAD.to_owned();
    table.extend(groups.into_values());
    let again = format!("{AGAIN}{}: ", ids(record));
    for line in below.lines().filter(|line| !line.is_empty() && !line.starts_with(&again)) {
        let _ = write!(table, "\n{line}\n");
    }
    let _ = write!(table, "\n{again}{}", foot(record));
    table
}

fn lines(table: &mut String, row: &RowRecord) {
    let name = format!("**{}** {}", row.id, cell(row.title));
    if row.verdicts.is_empty() {
        let why = cell(row.why.as_deref().unwrap_or_default());
        let said = if row.state == State::Skipped { "*skipped*" } else { "**missed**" };
        let _ = writeln!(table, "| {name} | | | | | {said}: {why} |");
        return;
    }
    for (at, verdict) in row.verdicts.iter().enumerate() {
        let said = match (verdict.kept, verdict.is_leaky_holding()) {
            (false, _) => "**missed**",
            (true, true) => "kept; the leaky form no longer fails",
            (true, false) => "kept",
        };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {said} |",
            if at == 0 { &name } else { "" },
            cell(verdict.figure),
            maybe(verdict.leaky, verdict.unit),
            maybe(verdict.tied, verdict.unit),
            limit(verdict.limit(), verdict.unit),
        );
    }
    if let Some(why) = &row.why {
        let _ = writeln!(table, "| | | | | | **{}** |", cell(why));
    }
}

/// Text that neither ends a cell nor a line.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// Puts the table of a run between the markers of a file. If it was of a few rows only, those of the others stay.
///
/// # Errors
///
/// What the system says, or [`io::ErrorKind::InvalidData`] if the file has no markers: nothing is written then.
pub fn write_into(file: &Path, record: &Record) -> io::Result<()> {
    let whole = fs::read_to_string(file)?;
    let none = || {
        let why = format!("{} has no {BEGIN} followed by {END}", file.display());
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    let present = inside(&whole).ok_or_else(none)?.trim();
    let table =
        if is_whole(record) || present.is_empty() { markdown(record) } else { merged(present, record) };
    fs::write(file, between(&whole, &table).ok_or_else(none)?)
}

fn inside(whole: &str) -> Option<&str> {
    Some(whole.split_once(BEGIN)?.1.split_once(END)?.0)
}

/// `whole` with `text` between its markers; `None` if it has none.
#[must_use]
pub fn between(whole: &str, text: &str) -> Option<String> {
    let (before, rest) = whole.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{ROW, record};

    #[test]
    fn the_table_has_every_bound_and_what_was_missed_or_skipped() {
        let crashed = RowRecord::crashed(&ROW, "signal: 9".to_owned());
        let rows = vec![record(161.0, 20_003.0), RowRecord::skipped(&ROW, "no a|b".to_owned()), crashed];
        let table = markdown(&Record::new(rows, Scale::Usual, false));
        assert!(
            table.contains("| **T1** a <row> of tests | tasks peak | 20,003 | 161 | ≤ 160 | **missed** |"),
            "{table}"
        );
        assert!(table.contains("|  | items done | 100% | 100% | ≥ 100% | kept |"), "{table}");
        assert!(table.contains("*skipped*: no a\\|b |"), "{table}");
        assert!(table.contains("| **T1** a <row> of tests | | | | | **missed**: signal: 9 |"), "{table}");
    }

    #[test]
    fn the_foot_says_which_rows_and_how_large() {
        let of = |scale| markdown(&Record::new(vec![record(100.0, 2e4)], scale, false));
        assert!(of(Scale::Usual).contains(", usual sizes. "));
        assert!(of(Scale::Usual).ends_with("`bowline incidents T1 --write-table README.md`.\n"));
        assert!(of(Scale::Reduced).contains("`bowline incidents T1 --reduced --write-table README.md`"));
        let all = rows::ALL.iter().map(|row| RowRecord::skipped(row, String::new())).collect();
        assert!(markdown(&Record::new(all, Scale::Full, false)).contains("`bowline incidents --all --full "));
    }

    #[test]
    fn a_run_of_one_row_replaces_its_lines_and_no_others() {
        let old = "| row | measured | leaky | tied | has to be | |\n|---|---|--:|--:|--:|---|\n\
                   | **A1** ghosts | left | 9 | 0 | ≤ 0 | kept |\n\
                   | **T1** tests | tasks peak | 9 | 1 | ≤ 2 | kept |\n|  | old | 9 | 1 | ≤ 2 | kept |\n\n\
                   2026-01-01, commit a. Written by `bowline incidents --all`.\n";
        let once = merged(old, &Record::new(vec![record(161.0, 20_003.0)], Scale::Usual, false));
        assert!(once.contains("| **A1** ghosts | left | 9 | 0 | ≤ 0 | kept |\n| **T1** a <row>"), "{once}");
        assert!(!once.contains("| old |"), "{once}");
        assert!(once.contains("\n\n2026-01-01, commit a. Written by `bowline incidents --all`.\n"), "{once}");
        assert!(once.contains("\n\nLater, T1: ") && once.contains("| 20,003 | 161 |"), "{once}");
        let twice = merged(&once, &Record::new(vec![record(99.0, 20_003.0)], Scale::Reduced, false));
        assert_eq!(twice.matches("Later, T1: ").count(), 1, "{twice}");
        assert!(twice.contains("| 20,003 | 99 |") && twice.contains(", reduced sizes. "), "{twice}");
    }

    #[test]
    fn what_is_between_the_markers_is_replaced_and_nothing_else() {
        let whole = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let written = between(&whole, "new\n").unwrap();
        assert_eq!(written, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(between(&written, "new\n").unwrap(), written);
        assert_eq!(between("no markers", "new"), None);
    }
}
