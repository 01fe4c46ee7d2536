//! What `bowline store` says: in words for 80 columns, and as JSON.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bowline_store::durable::{Checked, Consequence, Finding, Inspection, Report, StreamReport};
use humantime::format_rfc3339_seconds;
use serde_json::{Value, json};

use super::Compacted;
use crate::cli::bar::bytes;
use crate::top::words::{clean, counted, fit, grouped, width};

/// How many channels are named before the rest is counted.
const NAMED: usize = 5;

/// Columns for the name of a channel.
const CHANNEL: usize = 34;

/// An answer for people and for programs.
pub(super) struct Said {
    pub(super) text: String,
    pub(super) value: Value,
    pub(super) is_damaged: bool,
}

pub(super) fn stats(path: &Path, report: &Report) -> Said {
    let closed = if report.was_closed { "closed well" } else { "not closed: killed, or out of power" };
    let mut text = format!("{}: a store of format {}, {closed}\n\n", path.display(), report.format);
    let mut row = |name: &str, what: String| text.push_str(&format!("  {name:<14} {what}\n"));
    let (publications, streams) = (counted(report.publications as u64, "publication"), report.streams as u64);
    row(
        "kept",
        format!("{publications} in {}, {} of data", counted(streams, "stream"), bytes(report.payload_bytes)),
    );
    if let (Some(oldest), Some(newest)) = (report.oldest, report.newest) {
        row("published", format!("{} to {}", when(oldest), when(newest)));
    }
    let live = percent(report.live_bytes, report.log_bytes);
    row(
        "log",
        format!(
            "{}, {}: {} live ({live}%), {} dead",
            counted(report.files as u64, "file"),
            bytes(report.log_bytes),
            bytes(report.live_bytes),
            bytes(report.dead_bytes)
        ),
    );
    row("indexes", format!("{}, {}", counted(report.indexes as u64, "file"), bytes(report.index_bytes)));
    let weak = report.weak_streams as u64;
    row(
        "durability",
        format!(
            "{} synced before they are acknowledged, {} not",
            counted(streams.saturating_sub(weak), "stream"),
            grouped(weak)
        ),
    );
    row("keys", format!("{} remembered", counted(report.idempotency_keys as u64, "idempotency key")));
    if !report.largest.is_empty() {
        let heads = ["publications", "bytes", "top", "epoch"];
        let [publications, size, top, epoch] = heads;
        text.push_str(&format!(
            "\n  {:<CHANNEL$} {publications:>12} {size:>10} {top:>10} {epoch}\n",
            "largest streams"
        ));
        for stream in &report.largest {
            let name = fit(&clean(&stream.channel), CHANNEL);
            let room = CHANNEL - width(&name);
            let StreamReport { publications, top, epoch, bytes: size, .. } = stream;
            let (publications, size, top) = (grouped(*publications as u64), bytes(*size), grouped(*top));
            text.push_str(&format!("  {name}{:room$} {publications:>12} {size:>10} {top:>10} {epoch}\n", ""));
        }
    }
    let largest: Vec<Value> = report.largest.iter().map(stream_value).collect();
    let value = json!({
        "path": path.display().to_string(),
        "format": report.format,
        "was_closed": report.was_closed,
        "publications": report.publications,
        "streams": report.streams,
        "weak_streams": report.weak_streams,
        "payload_bytes": report.payload_bytes,
        "oldest_ms": report.oldest.map(millis),
        "newest_ms": report.newest.map(millis),
        "log_files": report.files,
        "log_bytes": report.log_bytes,
        "live_bytes": report.live_bytes,
        "dead_bytes": report.dead_bytes,
        "index_files": report.indexes,
        "index_bytes": report.index_bytes,
        "idempotency_keys": report.idempotency_keys,
        "largest": largest,
    });
    Said { text, value, is_damaged: false }
}

fn stream_value(stream: &StreamReport) -> Value {
    json!({
        "channel": stream.channel,
        "epoch": stream.epoch,
        "publications": stream.publications,
        "top": stream.top,
        "bytes": stream.bytes,
        "oldest_ms": stream.oldest.map(millis),
        "newest_ms": stream.newest.map(millis),
        "is_weak": stream.is_weak,
    })
}

pub(super) fn check(path: &Path, inspection: &Inspection, checked: &Checked) -> Said {
    let found = inspection.recovered();
    let read = format!(
        "{}, {}, {}",
        counted(found.files as u64, "file"),
        bytes(checked.bytes),
        counted(checked.records, "record")
    );
    let is_damaged = !checked.findings.is_empty();
    let damage = match checked.findings.len() {
        0 => "no damage".to_owned(),
        1 => "1 place is damaged".to_owned(),
        places => format!("{} places are damaged", grouped(places as u64)),
    };
    let mut text = format!("{}: {damage} ({read})\n", path.display());
    for finding in &checked.findings {
        let Finding { place, trouble, channels, consequence } = finding;
        let size = if place.bytes > 0 {
            format!("{} at byte {}", bytes(place.bytes), grouped(place.at))
        } else {
            format!("at byte {}", grouped(place.at))
        };
        text.push_str(&format!("\n  {}, {size}: {trouble}\n", place.file));
        if channels.is_empty() && *consequence == Consequence::RenewedAtStart {
            text.push_str("    the next start begins any stream anew of which nothing else is known\n");
        } else {
            text.push_str(&format!("    {consequence}\n"));
        }
        if !channels.is_empty() {
            text.push_str(&format!("    {}\n", names(channels.iter())));
        }
    }
    let renewed: BTreeSet<&String> = inspection.renewed().iter().collect();
    if found.torn_bytes > 0 {
        let torn = bytes(found.torn_bytes);
        text.push_str(&format!("\nThe next start cuts {torn} off the end that nobody was told are kept.\n"));
    }
    if !renewed.is_empty() {
        let streams = counted(renewed.len() as u64, "stream");
        text.push_str(&format!(
            "\nThe next start begins {streams} anew: {}\n",
            names(renewed.iter().copied())
        ));
    }
    let findings: Vec<Value> = checked.findings.iter().map(finding_value).collect();
    let value = json!({
        "path": path.display().to_string(),
        "log_files": found.files,
        "bytes": checked.bytes,
        "records": checked.records,
        "was_closed": found.was_closed,
        "torn_bytes": found.torn_bytes,
        "renewed_at_start": renewed,
        "findings": findings,
    });
    Said { text, value, is_damaged }
}

fn finding_value(finding: &Finding) -> Value {
    json!({
        "file": finding.place.file,
        "at": finding.place.at,
        "bytes": finding.place.bytes,
        "trouble": finding.trouble.code(),
        "text": finding.trouble.to_string(),
        "consequence": finding.consequence.code(),
        "channels": finding.channels,
    })
}

pub(super) fn compact(path: &Path, compacted: &Compacted) -> Said {
    let Compacted { before, done } = compacted;
    let place = path.display();
    let text = if done.freed_files == 0 {
        format!("{place}: nothing worth freeing, {} in all\n", bytes(done.bytes))
    } else {
        format!(
            "{place}: {} before, {} after\n  {} freed, {} of them written again\n",
            bytes(*before),
            bytes(done.bytes),
            counted(done.freed_files as u64, "file"),
            bytes(done.copied_bytes)
        )
    };
    let value = json!({
        "path": path.display().to_string(),
        "before_bytes": before,
        "after_bytes": done.bytes,
        "freed_files": done.freed_files,
        "freed_bytes": done.freed_bytes,
        "copied_bytes": done.copied_bytes,
    });
    Said { text, value, is_damaged: false }
}

/// The first few names, and how many more there are. A name is a client's: it must not move the cursor or turn the line.
fn names<'a>(channels: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = channels.len().saturating_sub(NAMED);
    let named: Vec<String> = channels.take(NAMED).map(|channel| fit(&clean(channel), CHANNEL)).collect();
    let named = named.join(", ");
    if more > 0 { format!("{named} and {} more", grouped(more as u64)) } else { named }
}

fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100).checked_div(whole.into()).unwrap_or(0) as u64
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn when(time: SystemTime) -> String {
    format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_neither_moves_the_cursor_nor_turns_the_line() {
        let channels = ["a\u{1b}[2J".to_owned(), "b\u{202e}c\u{2066}d".to_owned()];
        assert_eq!(names(channels.iter()), "a\u{fffd}[2J, b\u{fffd}c\u{fffd}d");
    }
}
