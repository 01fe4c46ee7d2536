//! The screen as text, for scripts and documents.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::time::Instant;

use super::model::Model;
use super::view::{self, Palette};

/// The screen of a model as lines without spaces at their ends.
pub(super) fn text(model: &Model, now: Instant) -> String {
    let (width, height) = model.size;
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    view::draw(model, Palette::Plain, now, &mut buffer);
    let mut text = String::new();
    for line in 0..height {
        let mut column = 0;
        let mut written = String::new();
        while column < width {
            let symbol = buffer[(column, line)].symbol();
            written.push_str(symbol);
            // A wide character stands in two cells, of which the second is empty.
            column += u16::try_from(super::words::width(symbol).max(1)).unwrap_or(1);
        }
        text.push_str(written.trim_end());
        text.push('\n');
    }
    text
}
