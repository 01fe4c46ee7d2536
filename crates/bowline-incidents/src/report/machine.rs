//! Where and when a run was.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Today in UTC, as `2026-11-21`.
#[must_use]
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds / 86_400)
}

/// The date so many days after 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> String {
    // Years that begin in March: the leap day is their last, and months are 153 days in five.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + later)
}

/// The commit that is checked out where this runs, if those are our sources; `unknown` otherwise. Whoever runs an older build has that
/// of the sources nevertheless: build before a run that is to be kept.
#[must_use]
pub fn commit() -> String {
    let is_ours = |root: &str| Path::new(root).join("crates/bowline-incidents").is_dir();
    let root = git(&["rev-parse", "--show-toplevel"]).filter(|root| is_ours(root));
    let commit = root.and_then(|_| git(&["rev-parse", "--short=10", "HEAD"]));
    commit.unwrap_or_else(|| "unknown".to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Cores, memory, system and kind of build: what the figures depend on, and nothing that says whose machine it was.
#[must_use]
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal").and_then(|value| {
        let kib: f64 = value.trim_end_matches("kB").trim().parse().ok()?;
        Some(format!(", {:.0} GiB", kib / f64::from(1 << 20)))
    });
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    format!("{cores} cores{}, {}, {build}", memory.unwrap_or_default(), std::env::consts::OS)
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        let dates = [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_778, "2026-11-21")];
        for (days, expected) in dates {
            assert_eq!(date(days), expected);
        }
    }
}
