//! Pages for people: tables of eighty columns, ages in a few characters, and names that cannot disturb a terminal.

use std::fmt::Write as _;

/// How wide a page is, if its content allows it.
pub(super) const WIDTH: usize = 80;

/// A column that may be cut is not cut below this.
const NARROWEST: usize = 12;

/// What stands between two columns.
const GAP: &str = "  ";

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Numbers.
    Right,
    /// Words, whole.
    Left,
    /// A name, whose beginning says most: cut at its end if the page is too narrow.
    Name,
    /// A path, whose end says most: cut at its beginning.
    Path,
}

/// Rows below a line of titles, each with remarks that stand indented below it.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Set)>,
    rows: Vec<(Vec<String>, Vec<String>)>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Set)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Appends a row. Cells are escaped here: they are data.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push((cells.iter().map(|cell| escape(cell)).collect(), Vec::new()));
    }

    /// Puts a remark below the last row. An empty one is none.
    pub(super) fn remark(&mut self, text: &str) {
        if let Some((_, remarks)) = self.rows.last_mut().filter(|_| !text.is_empty()) {
            remarks.push(escape(text));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Appends the table to `page`.
    pub(super) fn write(&self, page: &mut String) {
        let mut widths: Vec<usize> = self.columns.iter().map(|(title, _)| title.len()).collect();
        for (cells, _) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        self.narrow(&mut widths);
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        self.line(page, &titles, &widths);
        for (cells, remarks) in &self.rows {
            self.line(page, cells, &widths);
            remarks.iter().for_each(|remark| wrap(page, remark, "    "));
        }
    }

    /// Takes from the widest column that may be cut until the page is wide enough.
    fn narrow(&self, widths: &mut [usize]) {
        let gaps = GAP.len() * self.columns.len().saturating_sub(1);
        loop {
            let total = widths.iter().sum::<usize>() + gaps;
            let may_be_cut =
                |at: &usize| matches!(self.columns[*at].1, Set::Name | Set::Path) && widths[*at] > NARROWEST;
            let widest = (0..widths.len()).filter(may_be_cut).max_by_key(|at| widths[*at]);
            match widest {
                Some(at) if total > WIDTH => widths[at] -= 1,
                _ => return,
            }
        }
    }

    fn line(&self, page: &mut String, cells: &[String], widths: &[usize]) {
        let mut line = String::new();
        for (at, ((cell, width), (_, set))) in cells.iter().zip(widths).zip(&self.columns).enumerate() {
            if at > 0 {
                line.push_str(GAP);
            }
            // Writing into a String does not fail.
            let _ = match set {
                Set::Right => write!(line, "{cell:>width$}"),
                Set::Left => write!(line, "{cell:<width$}"),
                Set::Name => write!(line, "{:<width$}", cut_end(cell, *width)),
                Set::Path => write!(line, "{:<width$}", cut_beginning(cell, *width)),
            };
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }
}

/// Appends `text` in lines of at most [`WIDTH`] columns that begin with `indent`. A word that is longer stays whole: it may be a
/// place, to be copied.
pub(super) fn wrap(page: &mut String, text: &str, indent: &str) {
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent.len() && column + 1 + length > WIDTH {
            page.push('\n');
            column = 0;
        }
        if column == 0 {
            page.push_str(indent);
            column = indent.len();
        } else {
            page.push(' ');
            column += 1;
        }
        page.push_str(word);
        column += length;
    }
    page.push('\n');
}

fn cut_end(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn cut_beginning(text: &str, width: usize) -> String {
    let length = text.chars().count();
    match length > width {
        true => ['…'].into_iter().chain(text.chars().skip(length + 1 - width)).collect(),
        false => text.to_owned(),
    }
}

/// Replaces what a terminal would obey instead of showing: control characters, and those that turn the direction of writing.
pub(super) fn escape(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !text.chars().any(obeyed) {
        return text.to_owned();
    }
    text.chars().fold(String::new(), |mut shown, c| {
        match obeyed(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
        shown
    })
}

/// A time, in at most six characters.
pub(super) fn short(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis} ms"),
        1_000..=119_999 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        120_000..=7_199_999 => format!("{} min", millis / 60_000),
        7_200_000..=172_799_999 => format!("{} h", millis / 3_600_000),
        _ => format!("{} d", millis / 86_400_000),
    }
}

/// The same, where 0 means that there is nothing.
pub(super) fn short_or_dash(millis: u64) -> String {
    if millis == 0 { "-".to_owned() } else { short(millis) }
}

/// A number with its thousands apart.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `of` for remarks: those that are not zero, as "2 failed, 1 panicked".
pub(super) fn counted(counts: &[(u64, &str)]) -> String {
    let some = counts.iter().filter(|(count, _)| *count > 0);
    some.map(|(count, what)| format!("{} {what}", thousands(*count))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(table: &Table) -> String {
        let mut page = String::new();
        table.write(&mut page);
        page
    }

    #[test]
    fn a_table_is_cut_to_eighty_columns_where_that_hurts_least() {
        let mut table = Table::new(&[("NAME", Set::Name), ("N", Set::Right), ("PATH", Set::Path)]);
        table.row(["short".to_owned(), "7".to_owned(), "a/b".to_owned()]);
        table.row(["n".repeat(70), "12345".to_owned(), format!("{}/end", "p".repeat(70))]);
        table.remark("below it");
        let page = page(&table);
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines.len(), 4, "{page}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{page}");
        assert_eq!(lines[2].chars().count(), WIDTH);
        assert!(lines[2].contains("nn…") && lines[2].contains("…pp") && lines[2].ends_with("/end"), "{page}");
        assert!(lines[1].starts_with("short ") && lines[1].ends_with("a/b"), "{page}");
        assert_eq!(lines[3], "    below it");
    }

    #[test]
    fn nothing_in_a_name_reaches_the_terminal() {
        let mut table = Table::new(&[("NAME", Set::Name)]);
        table.row(["a\x1b[2Jb\nc\u{202e}d".to_owned()]);
        table.remark("x\r\ny");
        let page = page(&table);
        assert_eq!(page, "NAME\na\\u{1b}[2Jb\\nc\\u{202e}d\n    x\\r\\ny\n");
    }

    #[test]
    fn long_remarks_go_on_in_the_next_line() {
        let mut page = String::new();
        wrap(&mut page, &"word ".repeat(30), "  ");
        assert!(
            page.lines().count() >= 2 && page.lines().all(|line| line.chars().count() <= WIDTH),
            "{page}"
        );
        assert!(page.lines().all(|line| line.starts_with("  w") || line.trim().is_empty()), "{page}");
    }

    #[test]
    fn times_are_short_and_numbers_readable() {
        let times = [0, 999, 1_000, 61_900, 120_000, 7_200_000, 200_000_000].map(short);
        assert_eq!(times, ["0 ms", "999 ms", "1.0 s", "61.9 s", "2 min", "2 h", "2 d"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(&[(2, "failed"), (0, "dropped"), (1_000, "lost")]), "2 failed, 1,000 lost");
    }
}
