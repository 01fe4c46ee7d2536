//! The terminal: taken while top runs, and given back however it ends.
//!
//! # End
//!
//! Dropping [`Screen`] gives the terminal back: after `q`, a signal, an error. A panic gives it back before its message is
//! written, by the hook that ratatui sets.

use std::io;
use std::time::Duration;

use bowline::FreeTx;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::time::Instant;

use super::model::{Input, Model};
use super::view::{self, Palette};

/// How long the end may have to wait for the thread that reads the keys.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A terminal in raw mode, on its other screen.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    palette: Palette,
}

impl Screen {
    pub(super) fn take(palette: Palette) -> io::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()?, palette })
    }

    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        self.terminal.size().map(|size| (size.width, size.height))
    }

    pub(super) fn draw(&mut self, model: &Model) -> io::Result<()> {
        self.terminal.draw(|frame| view::draw(model, self.palette, Instant::now(), frame.buffer_mut()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Reads keys and sizes until nobody wants them. It blocks its thread.
pub(super) fn read_keys(to: &FreeTx<Input>) -> io::Result<()> {
    while !to.is_closed() {
        if !event::poll(LOOK_UP)? {
            continue;
        }
        let input = match event::read()? {
            Event::Key(key) => Input::Key(key),
            Event::Resize(columns, lines) => Input::Resized(columns, lines),
            _ => continue,
        };
        // Keys that come faster than they are drawn are left out.
        let _ = to.try_send(input);
    }
    Ok(())
}
