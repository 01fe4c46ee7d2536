//! How far something is, on standard error: a bar on a terminal, a line now and then elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Columns of the bar itself.
const COLUMNS: u64 = 28;

/// Between two pictures on a terminal: faster than that nobody can read.
const PICTURE: Duration = Duration::from_millis(100);

/// Between two lines elsewhere, where each stays.
const LINE: Duration = Duration::from_secs(10);

/// How far something is. What is drawn is gone once it is [finished](Self::finish) or dropped.
#[derive(Debug)]
pub(super) struct Bar {
    what: &'static str,
    place: Place,
    began: Instant,
    last: Mutex<Instant>,
}

/// Where the progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Lines,
    Terminal,
}

impl Bar {
    /// A bar for what is being done, such as `checking`; nothing is shown if the caller is a program.
    pub(super) fn new(what: &'static str, is_for_program: bool) -> Self {
        let place = match is_for_program {
            true => Place::Nowhere,
            false if io::stderr().is_terminal() => Place::Terminal,
            false => Place::Lines,
        };
        let began = Instant::now();
        Self { what, place, began, last: Mutex::new(began) }
    }

    /// Shows that `done` of `total` bytes are done, if the last time is long enough ago.
    pub(super) fn set(&self, done: u64, total: u64) {
        let every = match self.place {
            Place::Nowhere => return,
            Place::Lines => LINE,
            Place::Terminal => PICTURE,
        };
        let now = Instant::now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if now.duration_since(*last) < every {
                return;
            }
            *last = now;
        }
        let line = line(self.what, done, total, now.duration_since(self.began), self.place);
        // Nobody need be looking.
        let _ = io::stderr().write_all(line.as_bytes());
    }

    /// Takes away what was drawn.
    pub(super) fn finish(&self) {
        if self.place == Place::Terminal {
            let _ = io::stderr().write_all(b"\r\x1b[2K");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

fn line(what: &str, done: u64, total: u64, took: Duration, place: Place) -> String {
    let done = done.min(total);
    let part = |of: u64| (u128::from(done) * u128::from(of)).checked_div(total.into()).unwrap_or(0) as u64;
    let left = match (done, part(100)) {
        // What took less says little about the rest.
        (0, _) | (_, 0..2) => String::new(),
        _ => format!(", {} s left", (took.as_secs_f64() * (total - done) as f64 / done as f64).ceil()),
    };
    let figures = format!("{}%  {} of {}{left}", part(100), bytes(done), bytes(total));
    let mut line = String::new();
    let written = match place {
        Place::Terminal => {
            let full = part(COLUMNS) as usize;
            let empty = COLUMNS as usize - full;
            write!(line, "\r\x1b[2K  {what} [{}{}] {figures}", "#".repeat(full), ".".repeat(empty))
        }
        _ => writeln!(line, "{what}: {figures}"),
    };
    debug_assert!(written.is_ok(), "a string takes everything");
    line
}

/// Bytes as people read them: `512 B`, `3.1 MiB`.
pub(super) fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1023.95 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_digit_behind_the_point_and_a_unit() {
        assert_eq!([0, 1023, 1024, 1_047_552].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1023.0 KiB"]);
        assert_eq!([1_048_575, 32 << 20, 5 << 40].map(bytes), ["1.0 MiB", "32.0 MiB", "5.0 TiB"]);
    }

    #[test]
    fn a_bar_fits_a_line_and_tells_what_is_left() {
        let drawn = line("checking", 3 << 30, 12 << 30, Duration::from_secs(3), Place::Terminal);
        let expected = "  checking [#######.....................] 25%  3.0 GiB of 12.0 GiB, 9 s left";
        assert_eq!(drawn.strip_prefix("\r\x1b[2K"), Some(expected));
        assert!(expected.len() <= 80);
        let plain = line("checking", 0, 0, Duration::ZERO, Place::Lines);
        assert_eq!(plain, "checking: 0%  0 B of 0 B\n");
    }
}
