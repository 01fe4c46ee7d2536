//! `bowline incidents`: runs rows one after the other, shows how it goes, and says what they came to.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use crate::kit;
use crate::report::text::Colour;
use crate::report::{Record, RowRecord, page, table, text};
use crate::row::Row;
use crate::{Scale, alone, rows};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The rows, in the order in which they are run; [`select`] finds them.
    pub rows: Vec<&'static Row>,
    /// How large.
    pub scale: Scale,
    /// What is written to standard output.
    pub output: Output,
    /// Whether a row that had to be skipped is a promise not kept.
    pub is_strict: bool,
    /// Where a page of HTML and the pictures go.
    pub report: Option<PathBuf>,
    /// The file that gets the table between its markers; a run of a few rows replaces theirs there.
    pub table_in: Option<PathBuf>,
}

/// What is written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The verdict of each row as it ends.
    Text,
    /// One document at the end.
    Json,
    /// A table of markdown at the end.
    Table,
}

/// There is no row of this name. Ask for one of those there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRow(pub String);

impl fmt::Display for UnknownRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = rows::ALL.iter().map(|row| row.id).collect();
        write!(f, "there is no row {:?}: there are {}", self.0, known.join(", "))
    }
}

impl std::error::Error for UnknownRow {}

/// Finds rows by their names, in whatever case; all of them if none is named.
///
/// # Errors
///
/// [`UnknownRow`] names the first that is not there, and those that are.
pub fn select(ids: &[String]) -> Result<Vec<&'static Row>, UnknownRow> {
    if ids.is_empty() {
        return Ok(rows::ALL.to_vec());
    }
    ids.iter().map(|id| rows::find(id).ok_or_else(|| UnknownRow(id.clone()))).collect()
}

/// Runs what is asked for. Returns whether all of it is as promised.
///
/// # Errors
///
/// What the system says about writing the output. A reader that has seen enough is no error.
pub fn perform(request: &Request) -> io::Result<bool> {
    let is_text = request.output == Output::Text;
    let colour = colour();
    // What rows do on purpose is a figure, and not written between the lines.
    let _hush = bowline::on_alert(|_| {});
    let mut records = Vec::new();
    for row in &request.rows {
        let record = perform_row(row, request.scale, request.rows.len() > 1);
        if is_text {
            print(&text::verdict(&record, colour))?;
        }
        records.push(record);
    }
    let record = Record::new(records, request.scale, request.is_strict);
    match request.output {
        Output::Text => print(&text::sum(&record))?,
        Output::Json => print(&format!("{}\n", serde_json::to_string(&record).map_err(io::Error::other)?))?,
        Output::Table => print(&table::markdown(&record))?,
    }
    if let Some(directory) = &request.report {
        page::write(&record, directory)?;
    }
    if let Some(file) = &request.table_in {
        table::write_into(file, &record)?;
    }
    Ok(record.as_promised)
}

/// Of several rows each has a process of its own: none runs on what another has left, and one that crashes is one that has missed.
fn perform_row(row: &'static Row, scale: Scale, is_alone: bool) -> RowRecord {
    let missing: Vec<String> = row.needs.iter().filter_map(|need| kit::missing(*need)).collect();
    if !missing.is_empty() {
        return RowRecord::skipped(row, missing.join("; "));
    }
    if !is_alone {
        return alone::run_here(row, scale).into();
    }
    match alone::run_alone(row, scale) {
        Ok(outcome) => outcome.into(),
        Err(trouble) => RowRecord::crashed(row, trouble.to_string()),
    }
}

fn colour() -> Colour {
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if is_wanted && io::stdout().is_terminal() { Colour::On } else { Colour::Off }
}

/// Prints what was asked for. A reader that has seen enough, as in `… | head`, is no error.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_whatever_case_and_all_if_none_is_named() {
        assert_eq!(select(&["b8".to_owned()]).unwrap()[0].id, "B8");
        assert_eq!(select(&[]).unwrap().len(), rows::ALL.len());
        let unknown = select(&["B8".to_owned(), "Z9".to_owned()]).unwrap_err();
        assert!(unknown.to_string().starts_with("there is no row \"Z9\": there are "), "{unknown}");
    }

    #[test]
    fn rows_stand_in_their_order_each_once_with_both_programs() {
        let ids: Vec<&str> = rows::ALL.iter().map(|row| row.id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        for row in rows::ALL {
            for form in ["leaky", "tied"] {
                let region = crate::report::chapter::region(row.source, form);
                assert!(
                    region.is_some_and(|code| !code.trim().is_empty()),
                    "{} has no region {form}",
                    row.id
                );
            }
            assert!(row.source.starts_with("//!"), "{} tells no story", row.id);
            assert!(row.bounds.iter().any(|bound| bound.leaky_breaks), "{} shows no failure", row.id);
        }
    }
}
