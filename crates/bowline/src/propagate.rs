//! Deadlines across processes: what is left of one, in the form that gRPC and many HTTP services carry it.
//!
//! The caller sends [`header_value`] under the name [`GRPC_TIMEOUT`] (a header in HTTP, metadata in gRPC); the callee turns
//! it back with [`timeout_from`] and works under [`timeout`](crate::timeout()). So nobody works on an answer that no one waits
//! for any more. What travels is the time left, not a moment: two machines need not agree on the clock.
//!
//! # Format
//!
//! That of `grpc-timeout`: one to eight digits and a unit, `H` `M` `S` (hours, minutes, seconds), `m` `u` `n` (milli-, micro-,
//! nanoseconds). Writing takes the finest unit that fits and rounds down: a callee never believes that it has longer than its
//! caller. More than 99,999,999 hours are written as that many.
//!
//! # Examples
//!
//! ```
//! # bowline::testing::example_paused(async {
//! use bowline::propagate::{header_value, timeout_from};
//! use std::time::Duration;
//!
//! // the caller
//! let header = bowline::timeout(Duration::from_secs(2), async { header_value() }).await?;
//! assert_eq!(header.as_deref(), Some("2000000u"));
//!
//! // the callee
//! let limit = timeout_from(&header.unwrap()).unwrap();
//! let answer = bowline::timeout(limit, async { 7 }).await?;
//! # assert_eq!(answer, 7);
//! # Ok::<_, bowline::Cancelled>(())
//! # }).unwrap();
//! ```

use std::fmt;
use std::time::Duration;

/// The name of the header or metadata key.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The largest number that eight digits can say.
const MOST: u128 = 99_999_999;

/// Units from the finest to the coarsest, in nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3_600 * 1_000_000_000),
];

/// Returns what is left until the deadline of the current context, to be sent along; none if there is no deadline.
///
/// `0n` if it has passed: the callee is told so and need not begin.
#[must_use]
pub fn header_value() -> Option<String> {
    crate::context::time_left().map(format_timeout)
}

/// Writes a time-out, rounded down to eight digits of the finest unit that fits.
///
/// # Examples
///
/// ```
/// use bowline::propagate::format_timeout;
/// use std::time::Duration;
///
/// assert_eq!(format_timeout(Duration::from_millis(1500)), "1500000u");
/// assert_eq!(format_timeout(Duration::MAX), "99999999H");
/// ```
#[must_use]
pub fn format_timeout(timeout: Duration) -> String {
    let nanos = timeout.as_nanos();
    let fits = UNITS.iter().find(|(_, unit)| nanos / unit <= MOST);
    let (unit, amount) = fits.map_or((b'H', MOST), |(unit, in_nanos)| (*unit, nanos / in_nanos));
    format!("{amount}{}", char::from(unit))
}

/// Reads a time-out as it came in a header.
///
/// # Errors
///
/// [`InvalidTimeout`] if it is none. Answer that the request is malformed; to work without a limit is not what was asked for.
///
/// # Examples
///
/// ```
/// use bowline::propagate::timeout_from;
/// use std::time::Duration;
///
/// assert_eq!(timeout_from("1500m"), Ok(Duration::from_millis(1500)));
/// assert_eq!(timeout_from("1.5S").unwrap_err().to_string(), "invalid time-out `1.5S`: one to eight digits are expected");
/// ```
pub fn timeout_from(header: &str) -> Result<Duration, InvalidTimeout> {
    let invalid = |expected| Err(InvalidTimeout { header: shortened(header), expected });
    let Some((unit, digits)) = header.as_bytes().split_last() else {
        return invalid("it is empty");
    };
    let Some((_, in_nanos)) = UNITS.iter().find(|(known, _)| known == unit) else {
        return invalid("the unit H, M, S, m, u or n is expected at its end");
    };
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return invalid("one to eight digits are expected");
    }
    let amount = digits.iter().fold(0, |amount, digit| amount * 10 + u128::from(digit - b'0'));
    let nanos = amount * in_nanos;
    let second = 1_000_000_000;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "eight digits of hours are 4·10^11 seconds; the rest is below 10^9"
    )]
    Ok(Duration::new((nanos / second) as u64, (nanos % second) as u32))
}

/// How much of a bad header its error repeats: it came from outside.
const SHOWN: usize = 32;

fn shortened(header: &str) -> String {
    header.chars().take(SHOWN).flat_map(char::escape_default).collect()
}

/// A header that is no time-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTimeout {
    header: String,
    expected: &'static str,
}

impl fmt::Display for InvalidTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid time-out `{}`: {}", self.header, self.expected)
    }
}

impl std::error::Error for InvalidTimeout {}
