//! The rows of a table, around the cursor.

use super::super::model::Model;
use super::super::table::{Column, Side, Tone};
use super::super::words::{fit, fit_end, width};
use super::Pen;

/// Draws the table into the lines from `first` up to and without `end`.
pub(super) fn draw(model: &Model, pen: &mut Pen<'_>, first: u16, end: u16) {
    let table = model.table();
    let widths = table.widths(usize::from(pen.width));
    let mut line = first;
    if model.opened.is_empty() {
        let style = pen.palette.titles();
        let titles = table.columns.iter().map(|column| column.title);
        let text = joined(&table.columns, &widths, titles);
        pen.write(0, line, &text, style);
        line += 1;
    }
    if table.rows.is_empty() {
        // Before the first picture nothing is known, not even that there is nothing.
        if model.taken.is_some() {
            pen.write(2, line, &table.if_empty, pen.palette.tone(Tone::Faint));
        }
        return;
    }
    let cursor = model.cursor();
    for (at, row) in table.rows.iter().enumerate().skip(cursor.top) {
        if line >= end {
            break;
        }
        let mut column = 0;
        for ((cell, columns), of) in row.cells.iter().zip(&widths).zip(&table.columns) {
            // A row of one cell is a remark: it may use the whole line.
            let columns = if row.cells.len() == 1 { usize::from(pen.width) } else { *columns };
            pen.write(column, line, &placed(&cell.text, columns, of.side), pen.palette.tone(cell.tone));
            column = column.saturating_add(u16::try_from(columns + 1).unwrap_or(u16::MAX));
        }
        if at == cursor.at {
            pen.fill(line, pen.palette.selected());
        }
        line += 1;
    }
}

/// A text on its side of a column.
fn placed(text: &str, columns: usize, side: Side) -> String {
    let text = match side {
        Side::Left | Side::Right => fit(text, columns),
        Side::End => fit_end(text, columns),
    };
    let free = columns.saturating_sub(width(&text));
    match side {
        Side::Right => format!("{:free$}{text}", ""),
        Side::Left | Side::End => format!("{text}{:free$}", ""),
    }
}

fn joined(columns: &[Column], widths: &[usize], texts: impl Iterator<Item = &'static str>) -> String {
    let placed: Vec<String> = columns
        .iter()
        .zip(widths)
        .zip(texts)
        .map(|((column, width), text)| placed(text, *width, column.side))
        .collect();
    placed.join(" ")
}
