//! Numbers and names as people read them, in few columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The longest text that is kept, in characters. No line of a terminal shows more.
const MAX_CHARS: usize = 1_000;

/// A time in at most six columns: `12 ms`, `3.2 s`, `14 m`, `3.5 h`, `12 d`.
pub(super) fn short(millis: u64) -> String {
    let seconds = millis as f64 / 1_000.0;
    match millis {
        0..=999 => format!("{millis} ms"),
        1_000..=99_949 => format!("{seconds:.1} s"),
        99_950..=5_999_999 => format!("{} m", millis / 60_000),
        6_000_000..=172_799_999 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{} d", millis / 86_400_000),
    }
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number in at most five columns: `999`, `12.3k`, `4.5M`.
pub(super) fn brief(number: u64) -> String {
    let scaled = |unit: f64, name: char| {
        let value = number as f64 / unit;
        if value < 99.95 { format!("{value:.1}{name}") } else { format!("{value:.0}{name}") }
    };
    match number {
        0..=9_999 => number.to_string(),
        10_000..=999_499 => scaled(1e3, 'k'),
        999_500..=999_499_999 => scaled(1e6, 'M'),
        999_500_000..=999_499_999_999 => scaled(1e9, 'G'),
        _ => scaled(1e12, 'T'),
    }
}

/// A rate per second in at most seven columns; a dash while it is unknown.
pub(super) fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 9.95 => format!("{rate:.1}/s"),
        Some(rate) => format!("{}/s", brief(rate.max(0.0).round() as u64)),
    }
}

/// `1 task`, `2 tasks`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// The columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The beginning of a text, in at most `columns`; what is left out shows as `…`.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > columns {
            break;
        }
        kept.push(c);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// The end of a text, in at most `columns`: a place in the program says most with its last part.
pub(super) fn fit_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept: Vec<char> = Vec::new();
    let mut used = 0;
    for c in text.chars().rev() {
        used += c.width().unwrap_or(0);
        if used + 1 > columns {
            break;
        }
        kept.push(c);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept.into_iter().rev().collect()
}

/// A text in lines of at most `columns`, broken between words where that is possible.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(10);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word.to_owned();
        while let Some(line) = lines.last_mut() {
            let room = columns.saturating_sub(if line.is_empty() { 0 } else { width(line) + 1 });
            if width(&word) <= room {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(&word);
                break;
            }
            if !line.is_empty() {
                lines.push(String::new());
                continue;
            }
            // A word longer than a line.
            let mut used = 0;
            let cut = word.char_indices().find(|(_, c)| {
                used += c.width().unwrap_or(0);
                used > columns
            });
            let at = cut.map_or(word.len(), |(at, _)| at);
            let rest = word.split_off(at);
            line.push_str(&word);
            lines.push(String::new());
            word = rest;
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// One column per number, as high as its part of `max`; anything above zero is seen.
pub(super) fn sparkline(numbers: impl Iterator<Item = u64>, max: u64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |number: u64| match number {
        0 => '·',
        _ => {
            let step = (number.min(max).saturating_mul(8)).div_ceil(max.max(1)).clamp(1, 8);
            BARS[usize::try_from(step - 1).unwrap_or(7)]
        }
    };
    numbers.map(bar).collect()
}

/// Text from outside, bounded, without control characters and without those that turn the direction of writing: it cannot move
/// the cursor, nor show a name as another.
pub(crate) fn clean(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' | '\r' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.chars().take(MAX_CHARS).map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let said = clean("evil\u{1b}[2J\r\n\u{202e}name");
        assert_eq!(said, "evil\u{fffd}[2J  \u{fffd}name");
        assert_eq!(clean(&"x".repeat(5_000)).len(), MAX_CHARS);
    }

    #[test]
    fn times_and_numbers_stay_in_their_columns() {
        let said: Vec<String> =
            [0, 999, 1_000, 99_949, 99_950, 5_999_999, 6_000_000, 172_800_000].map(short).into();
        assert_eq!(said, ["0 ms", "999 ms", "1.0 s", "99.9 s", "1 m", "99 m", "1.7 h", "2 d"]);
        let said: Vec<String> = [0, 9_999, 10_000, 999_499, 999_500, 12_345_678, u64::MAX].map(brief).into();
        assert_eq!(said, ["0", "9999", "10.0k", "999k", "1.0M", "12.3M", "18446744T"]);
        assert_eq!(
            [rate(None), rate(Some(0.0)), rate(Some(0.25)), rate(Some(12_345.0))],
            ["-", "0/s", "0.2/s", "12.3k/s"]
        );
        assert_eq!([grouped(7), grouped(1_234), grouped(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([counted(1, "task"), counted(1_000, "task")], ["1 task", "1,000 tasks"]);
    }

    #[test]
    fn wide_characters_are_cut_by_columns_and_not_by_bytes() {
        assert_eq!(fit("接続接続", 5), "接続…");
        assert_eq!(fit("接続接続", 8), "接続接続");
        assert_eq!(fit_end("crates/app/src/main.rs:12", 10), "…ain.rs:12");
        assert_eq!(fit_end("接続接続", 5), "…接続");
        assert_eq!((fit("abc", 0), fit_end("abc", 1)), (String::new(), "…".to_owned()));
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("one two three", 10), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghijklmno p", 10), ["abcdefghij", "klmno p"]);
        assert!(wrapped("", 10).is_empty());
    }

    #[test]
    fn a_sparkline_shows_the_least_and_the_most() {
        assert_eq!(sparkline([0, 1, 50, 100, 200].into_iter(), 100), "·▁▄██");
        assert_eq!(sparkline([0, 3].into_iter(), 0), "·▁", "a queue without room");
    }
}
