//! Every page as a table of words: one file per page, and [`opened`] for a single thing.

mod findings;
mod opened;
mod queues;
mod tasks;
mod waits;

use super::data::{State, Task};
use super::model::{Model, Page};
use super::table::{Table, Tone};
use super::words::short;

/// From this width on there is room for places in the program.
const WIDE: usize = 120;

/// What is shown now.
pub(super) fn table(model: &Model) -> Table {
    if let Some(key) = model.opened.last() {
        return opened::table(model, key);
    }
    match model.page {
        Page::Tasks => tasks::table(model),
        Page::Queues => queues::table(model),
        Page::Waits => waits::table(model),
        Page::Alerts => findings::alerts(model),
        Page::Deadlocks => findings::deadlocks(model),
    }
}

/// What is said where the process has no such page.
fn no_page(name: &str) -> String {
    format!("this process does not serve /debug/bowline/{name}")
}

/// What a task does, in a few words, and since when.
fn doing(model: &Model, task: &Task) -> (String, String, Tone) {
    let tone = if task.is_cancelled { Tone::Warn } else { Tone::Plain };
    match &task.state {
        State::Waiting(wait) => {
            let on = match wait.on.map(|on| (on, model.name_of(on))) {
                Some((_, Some(name))) => format!(" {name}"),
                Some((on, None)) => format!(" #{on}"),
                None => String::new(),
            };
            let cancelled = if task.is_cancelled { "cancelled, " } else { "" };
            (format!("{cancelled}{}{on}", wait.op), short(wait.for_ms), tone)
        }
        State::Is(is) if task.is_cancelled => (format!("cancelled, {is}"), String::new(), tone),
        State::Is(is) if is == "running" => (is.clone(), String::new(), Tone::Good),
        State::Is(is) => (is.clone(), String::new(), Tone::Faint),
        State::Unknown => ("?".to_owned(), String::new(), Tone::Faint),
    }
}
