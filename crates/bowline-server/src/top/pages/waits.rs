//! Locks, queues and the like that somebody waits for, and who holds them.

use std::cmp::Reverse;

use super::super::data::Resource;
use super::super::model::{Model, Sort};
use super::super::table::{Cell, Column, Key, Row, Side, Table, Tone};
use super::super::words::{brief, short};
use super::{WIDE, no_page};

pub(super) fn table(model: &Model) -> Table {
    let is_wide = usize::from(model.size.0) >= WIDE;
    let mut columns = vec![
        Column::new("WAITED FOR", 0, Side::Left),
        Column::new("STATE", if is_wide { 20 } else { 13 }, Side::Left),
        Column::new("WAITERS", 7, Side::Right),
        Column::new("OLDEST", 6, Side::Right),
        Column::new("HELD BY", if is_wide { 34 } else { 22 }, Side::Left),
    ];
    if is_wide {
        columns.insert(1, Column::new("ID", 8, Side::Right));
        columns.push(Column::new("TAKEN AT", 36, Side::End));
    }
    let waits = model.picture.waits.as_deref();
    let mut found: Vec<&Resource> =
        waits.into_iter().flatten().filter(|resource| model.filter.has_name(&resource.name)).collect();
    match model.sort() {
        Sort::Waiters => found.sort_by_key(|resource| Reverse(resource.waiters.len())),
        Sort::Name => found.sort_by(|a, b| a.name.cmp(&b.name)),
        _ => found.sort_by_key(|resource| Reverse(resource.oldest_ms())),
    }
    if model.is_reversed {
        found.reverse();
    }
    let rows = found.into_iter().map(|resource| row(model, resource, is_wide)).collect();
    let if_empty = if waits.is_some() {
        "nobody waits for a lock, queue or channel".to_owned()
    } else {
        no_page("waits")
    };
    Table { columns, rows, if_empty }
}

fn row(model: &Model, resource: &Resource, is_wide: bool) -> Row {
    let (held, place) = held_by(model, resource);
    let mut cells = vec![
        Cell::new(format!("{} {}", resource.kind, resource.name), Tone::Strong),
        resource.state.clone().into(),
        brief(resource.waiters.len() as u64).into(),
        short(resource.oldest_ms()).into(),
        held.into(),
    ];
    if is_wide {
        cells.insert(1, Cell::new(resource.id.to_string(), Tone::Faint));
        cells.push(Cell::new(place, Tone::Faint));
    }
    Row::of(Key::Resource(resource.id), cells)
}

/// Who holds it the longest, of how many, and where it was taken; or who could end the wait.
fn held_by(model: &Model, resource: &Resource) -> (String, String) {
    let named =
        |task: Option<u64>| task.map_or_else(|| "somebody unknown".to_owned(), |task| model.called(task));
    let more = |count: usize| if count > 1 { format!(" +{}", count - 1) } else { String::new() };
    if let Some(holder) = resource.holders.iter().max_by_key(|holder| holder.for_ms) {
        return (format!("{}{}", named(holder.task), more(resource.holders.len())), holder.place.clone());
    }
    let ends: Vec<_> = resource.ends.iter().filter(|end| end.ends > 0 && end.role != "receiver").collect();
    match ends.first() {
        Some(end) => (format!("{}: {}{}", end.role, named(end.task), more(ends.len())), String::new()),
        None => (String::new(), String::new()),
    }
}
