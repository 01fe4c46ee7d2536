//! Figures as people write them.

use crate::row::{Limit, Unit};

/// A figure with its unit: `20,003`, `1.2 MB`, `35 ms`, `1.1×`, `99.5%`, `1,200/s`.
#[must_use]
pub fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => count(value),
        Unit::Bytes => bytes(value),
        Unit::Seconds => seconds(value),
        Unit::Times => format!("{}×", short(value)),
        Unit::Percent => format!("{}%", short(value)),
        Unit::PerSecond => format!("{}/s", count(value)),
    }
}

/// A figure that may be missing: `none` then.
#[must_use]
pub fn maybe(value: Option<f64>, unit: Unit) -> String {
    value.map_or_else(|| "none".to_owned(), |value| figure(value, unit))
}

/// What a figure is held against: `≤ 160`.
#[must_use]
pub fn limit(limit: Limit, unit: Unit) -> String {
    match limit {
        Limit::AtMost(limit) => format!("≤ {}", figure(limit, unit)),
        Limit::AtLeast(limit) => format!("≥ {}", figure(limit, unit)),
    }
}

fn count(value: f64) -> String {
    if value.abs() < 100.0 {
        return short(value);
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("-{grouped}") } else { grouped }
}

fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = value;
    let mut unit = 0;
    while value.abs() >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{} {}", short(value), UNITS[unit])
}

fn seconds(value: f64) -> String {
    match value {
        0.0 => "0 s".to_owned(),
        f64::INFINITY => "never".to_owned(),
        value if value.abs() < 1e-6 => format!("{} ns", short(value * 1e9)),
        value if value.abs() < 1e-3 => format!("{} µs", short(value * 1e6)),
        value if value.abs() < 1.0 => format!("{} ms", short(value * 1e3)),
        value => format!("{} s", short(value)),
    }
}

/// As many digits after the point as say something: three in all, and none that are zero.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        value if (99.5..100.0).contains(&value) => 2,
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Escapes what stands between tags of HTML, or in the value of an attribute.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_say_their_unit() {
        let said = [
            (0.0, Unit::Count, "0"),
            (20_003.0, Unit::Count, "20,003"),
            (1_234_567.0, Unit::Count, "1,234,567"),
            (999.0, Unit::Count, "999"),
            (1.5, Unit::Count, "1.5"),
            (1_234_567.0, Unit::Bytes, "1.23 MB"),
            (12.0, Unit::Bytes, "12 B"),
            (0.0352, Unit::Seconds, "35.2 ms"),
            (0.000_001_5, Unit::Seconds, "1.5 µs"),
            (12.0, Unit::Seconds, "12 s"),
            (f64::INFINITY, Unit::Seconds, "never"),
            (1.1, Unit::Times, "1.1×"),
            (100.0, Unit::Percent, "100%"),
            (99.97, Unit::Percent, "99.97%"),
            (1_200.4, Unit::PerSecond, "1,200/s"),
        ];
        for (value, unit, expected) in said {
            assert_eq!(figure(value, unit), expected);
        }
        assert_eq!(limit(Limit::AtLeast(5.0), Unit::Count), "≥ 5");
    }
}
