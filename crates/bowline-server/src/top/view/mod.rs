//! Drawing, and nothing else: a [`Model`] onto a screen of any size.
//!
//! ```text
//! what is looked at, how many tasks, how fresh
//! the pages, and the filter
//! what must not be overlooked          only if there is something
//! titles of the columns                only where there are columns
//! rows
//! the keys
//! ```

mod chrome;
mod help;
mod palette;
mod rows;

pub(super) use palette::Palette;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::model::Model;
use tokio::time::Instant;

/// Draws the whole screen as it is at `now`.
pub(super) fn draw(model: &Model, palette: Palette, now: Instant, buffer: &mut Buffer) {
    let Rect { width, height, .. } = buffer.area;
    let mut pen = Pen { buffer, palette, width };
    let mut line = 0;
    chrome::header(model, now, &mut pen, line);
    chrome::pages(model, &mut pen, line + 1);
    line += 2;
    for banner in chrome::banners(model, now) {
        pen.banner(line, &banner);
        line += 1;
    }
    let last = height.saturating_sub(1);
    if model.is_help {
        help::draw(&mut pen, line, last);
    } else {
        rows::draw(model, &mut pen, line, last);
    }
    chrome::keys(model, &mut pen, last);
}

/// Lines that are not rows.
pub(super) fn lines_around(model: &Model) -> usize {
    let titles = usize::from(model.opened.is_empty());
    3 + chrome::banner_lines(model) + titles
}

/// Writes into the lines of the screen; what does not fit is left out.
struct Pen<'b> {
    buffer: &'b mut Buffer,
    palette: Palette,
    width: u16,
}

impl Pen<'_> {
    /// Writes at a column and returns the column behind it.
    fn write(&mut self, column: u16, line: u16, text: &str, style: ratatui::style::Style) -> u16 {
        if line >= self.buffer.area.height || column >= self.width {
            return column;
        }
        self.buffer.set_stringn(column, line, text, usize::from(self.width - column), style).0
    }

    /// Writes at the right edge.
    fn write_right(&mut self, line: u16, text: &str, style: ratatui::style::Style) {
        let columns = u16::try_from(super::words::width(text)).unwrap_or(u16::MAX);
        self.write(self.width.saturating_sub(columns), line, text, style);
    }

    fn fill(&mut self, line: u16, style: ratatui::style::Style) {
        if line < self.buffer.area.height {
            self.buffer.set_style(Rect::new(0, line, self.width, 1), style);
        }
    }

    fn banner(&mut self, line: u16, text: &str) {
        let style = self.palette.banner();
        self.write(0, line, &super::words::fit(text, usize::from(self.width)), style);
        self.fill(line, style);
    }
}
