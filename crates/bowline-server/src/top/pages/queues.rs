//! Queues: how full, since when, and how fast.

use std::cmp::Reverse;

use super::super::data::Queue;
use super::super::model::{Model, Sort};
use super::super::table::{Cell, Column, Key, Row, Side, Table, Tone};
use super::super::words::{brief, rate, short, sparkline};
use super::WIDE;

pub(super) fn table(model: &Model) -> Table {
    let width = usize::from(model.size.0);
    let is_wide = width >= WIDE;
    let bars = if is_wide { 40 } else { 16 };
    let mut columns = vec![
        Column::new("QUEUE", 0, Side::Left),
        Column::new("DEPTH", 11, Side::Right),
        Column::new("LAST DEPTHS", bars, Side::Right),
        Column::new("IN", 7, Side::Right),
        Column::new("OUT", 7, Side::Right),
        Column::new("OLDEST", 6, Side::Right),
        Column::new("LOST", 5, Side::Right),
    ];
    if is_wide {
        columns.insert(1, Column::new("MADE IN", if width >= 160 { 34 } else { 16 }, Side::End));
        columns.push(Column::new("IN LINE", 9, Side::Right));
        columns.push(Column::new("MADE AT", if width >= 160 { 36 } else { 24 }, Side::End));
    }
    let mut queues: Vec<&Queue> =
        model.picture.queues.iter().flatten().filter(|queue| model.filter.has_name(&queue.name)).collect();
    let speed = |queue: &Queue| {
        let past = model.history.of(queue.key);
        past.and_then(|past| past.sent_rate).unwrap_or(0.0)
            + past.and_then(|past| past.received_rate).unwrap_or(0.0)
    };
    match model.sort() {
        Sort::Rate => queues.sort_by(|a, b| speed(b).total_cmp(&speed(a))),
        Sort::Wait => queues.sort_by_key(|queue| Reverse(queue.oldest_ms)),
        Sort::Name => queues.sort_by(|a, b| a.name.cmp(&b.name)),
        _ => queues.sort_by_key(|queue| Reverse((queue.percent(), queue.depth_items, queue.oldest_ms))),
    }
    if model.is_reversed {
        queues.reverse();
    }
    let rows = queues.into_iter().map(|queue| row(model, queue, bars, is_wide)).collect();
    Table { columns, rows, if_empty: "no queues".to_owned() }
}

fn row(model: &Model, queue: &Queue, bars: usize, is_wide: bool) -> Row {
    let past = model.history.of(queue.key);
    let depths = past.map(|past| past.depths(bars)).unwrap_or_default();
    let tone = match queue.percent() {
        0..=50 => Tone::Plain,
        51..=89 => Tone::Warn,
        _ => Tone::Bad,
    };
    let name = match &queue.closed {
        Some(why) => format!("{} (closed: {})", queue.called(), why.replace('_', " ")),
        None => queue.called(),
    };
    // Against the most it ever held: a queue of a thousand that holds three shows how the three come and go.
    let most = depths.iter().copied().max().unwrap_or(0).max(queue.max_items.min(8));
    let mut cells = vec![
        Cell::new(name, Tone::Strong),
        Cell::new(format!("{}/{}", brief(queue.depth_items), brief(queue.max_items)), tone),
        Cell::new(sparkline(depths.iter().copied(), most), tone),
        rate(past.and_then(|past| past.sent_rate)).into(),
        rate(past.and_then(|past| past.received_rate)).into(),
        (if queue.oldest_ms > 0 { short(queue.oldest_ms) } else { String::new() }).into(),
        Cell::new(if queue.lost > 0 { brief(queue.lost) } else { String::new() }, Tone::Warn),
    ];
    if is_wide {
        let line = match (queue.waiting_senders, queue.waiting_receivers) {
            (0, 0) => String::new(),
            (0, receivers) => format!("{} recv", brief(receivers)),
            (senders, _) => format!("{} send", brief(senders)),
        };
        cells.insert(1, Cell::new(queue.path.clone(), Tone::Faint));
        cells.push(line.into());
        cells.push(Cell::new(queue.place.clone(), Tone::Faint));
    }
    Row::of(Key::Queue(queue.key), cells)
}
