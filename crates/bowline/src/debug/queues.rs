//! The page of queues and channels, those first whose items have waited for longest.

use std::cmp::Reverse;
use std::fmt::Write as _;

use serde::Serialize;

use super::Body;
use super::best::Best;
use super::query::{Format, Query};
use super::tasks::LOOKED_AT;
use super::text::{Set, Table, counted, short_or_dash, thousands};
use super::walk::{Seen, Walk};
use crate::channel::ChannelStats;
use crate::queue::QueueStats;
use crate::record::Record;

/// Rows for people, unless they ask for more.
const ROWS: usize = 40;

/// A queue or channel, and where it was made.
#[derive(Serialize)]
struct Row<T> {
    /// The task; none in the body of a root.
    task: Option<u64>,
    path: String,
    #[serde(flatten)]
    stats: T,
}

pub(super) fn page(query: Query) -> Body {
    let rows = query.rows(ROWS);
    Body::from_pieces(Page {
        walk: Some(Walk::new()),
        queues: Best::of(rows),
        channels: Best::of(rows),
        items: 0,
        query,
    })
}

struct Page {
    walk: Option<Walk>,
    /// By the age of the oldest item, how full it is in thousandths, and how many it holds.
    queues: Best<Reverse<(u64, usize, usize)>, Row<QueueStats>>,
    /// By those who wait to send, and what it holds.
    channels: Best<Reverse<(usize, usize)>, Row<ChannelStats>>,
    items: usize,
    query: Query,
}

impl Page {
    fn see(&mut self, walk: &Walk, record: &Record) {
        let (task, query) = (walk.task(), &self.query);
        for stats in record.queues().iter().map(|queue| queue.stats()) {
            if query.takes_name(stats.name) {
                self.items = self.items.saturating_add(stats.depth_items);
                let full = stats.depth_items.saturating_mul(1_000) / stats.max_items.max(1);
                let key = Reverse((stats.oldest_ms, full, stats.depth_items));
                self.queues.offer(key, || Row { task, path: walk.path(), stats });
            }
        }
        for stats in record.channels().iter().map(|channel| channel.stats()) {
            if query.takes_name(stats.name) {
                let key = Reverse((stats.waiting_senders, stats.depth_items));
                self.channels.offer(key, || Row { task, path: walk.path(), stats });
            }
        }
    }

    fn finish(&mut self) -> Vec<u8> {
        let (how_many, how_many_channels) = (self.queues.offered(), self.channels.offered());
        let (queues, more) = std::mem::replace(&mut self.queues, Best::of(0)).finish();
        let (channels, more_channels) = std::mem::replace(&mut self.channels, Best::of(0)).finish();
        match self.query.format {
            Format::Json => super::json(&Listed { queues, channels, more, more_channels }),
            Format::Text => {
                let mut page = self.query.complaint();
                let count = |count: usize| thousands(count as u64);
                let _ = writeln!(
                    page,
                    "{} queues, {} items in them, the oldest item first; {} other channels\n",
                    count(how_many),
                    count(self.items),
                    count(how_many_channels)
                );
                if !queues.is_empty() {
                    table_of_queues(&queues).write(&mut page);
                }
                for (more, what) in [(more, "queues"), (more_channels, "channels")] {
                    if more > 0 {
                        let _ = writeln!(page, "… {} more {what}; ?limit=, ?name=", count(more));
                    }
                }
                if !channels.is_empty() {
                    page.push('\n');
                    table_of_channels(&channels).write(&mut page);
                }
                page.into_bytes()
            }
        }
    }
}

impl Iterator for Page {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut walk = self.walk.take()?;
        for _ in 0..LOOKED_AT {
            match walk.next() {
                None => return Some(self.finish()),
                Some(Seen::Body(record) | Seen::Task(record)) => self.see(&walk, &record),
                Some(_) => {}
            }
        }
        self.walk = Some(walk);
        Some(Vec::new())
    }
}

#[derive(Serialize)]
struct Listed {
    queues: Vec<Row<QueueStats>>,
    channels: Vec<Row<ChannelStats>>,
    more: usize,
    more_channels: usize,
}

fn table_of_queues(rows: &[Row<QueueStats>]) -> Table {
    let mut table = Table::new(&[
        ("ID", Set::Left),
        ("QUEUE", Set::Name),
        ("ITEMS", Set::Right),
        ("OLDEST", Set::Right),
        ("HIGH", Set::Right),
        ("SENT", Set::Right),
        ("SENDERS WAIT", Set::Right),
        ("IN", Set::Path),
    ]);
    for Row { path, stats, .. } in rows {
        table.row([
            // A queue of the program's own may have none.
            if stats.id == 0 { "-".to_owned() } else { format!("#{}", stats.id) },
            stats.name.to_owned(),
            format!("{}/{}", stats.depth_items, stats.max_items),
            short_or_dash(stats.oldest_ms),
            stats.high_water_items.to_string(),
            stats.sent.to_string(),
            stats.waiting_senders.to_string(),
            if path.is_empty() { "-".to_owned() } else { path.clone() },
        ]);
        let mut remark = counted(&[
            (stats.in_flight as u64, "in flight"),
            (stats.redelivered, "redelivered"),
            (stats.dropped, "dropped"),
            (stats.refused, "refused"),
            (stats.abandoned, "abandoned"),
        ]);
        if let Some(max_bytes) = stats.max_bytes {
            let comma = if remark.is_empty() { "" } else { ", " };
            let _ = write!(remark, "{comma}{}/{max_bytes} bytes", stats.depth_bytes);
        }
        if let Some(reason) = stats.closed {
            let comma = if remark.is_empty() { "" } else { ", " };
            let _ = write!(remark, "{comma}closed: {reason}");
        }
        if !remark.is_empty() {
            remark.push_str("; ");
        }
        table.remark(&format!("{remark}made at {}", stats.place));
    }
    table
}

fn table_of_channels(rows: &[Row<ChannelStats>]) -> Table {
    let mut table = Table::new(&[
        ("ID", Set::Left),
        ("KIND", Set::Left),
        ("CHANNEL", Set::Name),
        ("ITEMS", Set::Right),
        ("SENT", Set::Right),
        ("WAITING", Set::Right),
        ("MISSED", Set::Right),
        ("IN", Set::Path),
    ]);
    for Row { path, stats, .. } in rows {
        table.row([
            format!("#{}", stats.id),
            stats.kind.to_owned(),
            stats.name.to_owned(),
            format!("{}/{}", stats.depth_items, stats.max_items),
            stats.sent.to_string(),
            (stats.waiting_senders + stats.waiting_receivers).to_string(),
            (stats.missed + stats.abandoned).to_string(),
            if path.is_empty() { "-".to_owned() } else { path.clone() },
        ]);
    }
    table
}
