//! Alerts, and deadlocks that are proved.

use super::super::data::{Alert, Deadlock};
use super::super::model::Model;
use super::super::table::{Cell, Column, Key, Row, Side, Table, Tone};
use super::super::words::short;
use super::{WIDE, no_page};

pub(super) fn alerts(model: &Model) -> Table {
    let is_wide = usize::from(model.size.0) >= WIDE;
    let mut columns = vec![
        Column::new("ALERT", 15, Side::Left),
        Column::new("ABOUT", if is_wide { 30 } else { 18 }, Side::Left),
        Column::new("WHAT IS THE MATTER", 0, Side::Left),
        Column::new("SINCE", 6, Side::Right),
    ];
    if is_wide {
        columns.push(Column::new("PLACE", 36, Side::End));
    }
    let known = model.picture.alerts.as_deref();
    let found = known.into_iter().flatten().filter(|alert| model.filter.has_name(&alert.name));
    let rows = found.map(|alert| {
        let mut cells = vec![
            Cell::new(alert.kind.clone(), Tone::Warn),
            Cell::new(alert.name.clone(), Tone::Strong),
            alert.text.clone().into(),
            alert.for_ms.map(short).unwrap_or_default().into(),
        ];
        if is_wide {
            cells.push(Cell::new(alert.place.clone(), Tone::Faint));
        }
        Row::of(Key::Alert(key(alert)), cells)
    });
    let if_empty =
        if known.is_some() { "nothing that a person should look at".to_owned() } else { no_page("alerts") };
    Table { columns, rows: rows.collect(), if_empty }
}

/// What tells an alert from others.
pub(super) fn key(alert: &Alert) -> String {
    format!("{}|{}|{}", alert.kind, alert.name, alert.place)
}

pub(super) fn deadlocks(model: &Model) -> Table {
    let is_wide = usize::from(model.size.0) >= WIDE;
    let columns = vec![
        Column::new("DEADLOCK", 16, Side::Left),
        Column::new("VERDICT", 12, Side::Left),
        Column::new("PROOF", if is_wide { 14 } else { 8 }, Side::Left),
        Column::new("TASKS", 5, Side::Right),
        Column::new("WHO WAITS FOR WHAT", 0, Side::Left),
    ];
    let known = model.picture.deadlocks.as_deref();
    let rows = known.into_iter().flatten().map(|deadlock| {
        let cells = vec![
            Cell::new(deadlock.kind.clone(), Tone::Bad),
            deadlock.verdict.clone().into(),
            deadlock.tier.clone().into(),
            deadlock.tasks.len().to_string().into(),
            said(deadlock).into(),
        ];
        Row::of(Key::Deadlock(deadlock.id), cells)
    });
    let if_empty = if known.is_some() { "no deadlock is proved".to_owned() } else { no_page("deadlocks") };
    Table { columns, rows: rows.collect(), if_empty }
}

/// Who waits for what, in one line.
fn said(deadlock: &Deadlock) -> String {
    let tasks = deadlock.causes().into_iter().map(|task| {
        let waits: Vec<String> = task.waits.iter().map(|wait| format!("{} {}", wait.op, wait.name)).collect();
        format!("{} {}", task.name(), waits.join(" or ")).trim_end().to_owned()
    });
    tasks.collect::<Vec<_>>().join("; ")
}
