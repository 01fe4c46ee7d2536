//! What is around the rows: the header, the pages, the banners and the keys.

use tokio::time::Instant;

use super::super::model::{Model, Page};
use super::super::table::Tone;
use super::super::words::{counted, fit, grouped, rate, short, width};
use super::Pen;

/// What is looked at, how many tasks, how fresh.
pub(super) fn header(model: &Model, now: Instant, pen: &mut Pen<'_>, line: u16) {
    let totals = &model.picture.totals;
    let fresh = match (&model.lost, model.taken) {
        (None, None) => "connecting".to_owned(),
        (_, Some(taken)) if model.is_paused => format!("paused for {}", age(taken, now)),
        (Some(_), _) => "no connection".to_owned(),
        (None, Some(_)) => format!("every {}", short(model.every.as_millis().try_into().unwrap_or(u64::MAX))),
    };
    let mut parts: Vec<(String, Tone)> = Vec::new();
    if let Some(tasks) = totals.tasks {
        parts.push((counted(tasks, "task"), Tone::Strong));
    }
    if let Some(foreign) = totals.foreign {
        let tone = if foreign > 0 { Tone::Warn } else { Tone::Faint };
        parts.push((format!("{} foreign", grouped(foreign)), tone));
    }
    let rates = model.history.tasks;
    match (rates.spawned, rates.growth) {
        (Some(spawned), _) => parts.push((format!("{} spawned", rate(Some(spawned))), Tone::Plain)),
        (None, Some(growth)) if growth.abs() >= 0.05 => {
            let sign = if growth < 0.0 { '-' } else { '+' };
            parts.push((format!("{sign}{}", rate(Some(growth.abs()))), Tone::Plain));
        }
        (None, _) => {}
    }
    if totals.blocking > 0 {
        parts.push((format!("{} blocking", grouped(totals.blocking)), Tone::Plain));
    }
    // Where the process does not say, what was there first is as old.
    let tops = || model.picture.tree.iter().filter(|tree| !tree.is_list).flat_map(|tree| &tree.roots);
    let oldest = || tops().flat_map(|root| &root.below.tasks).map(|task| task.age_ms).max();
    if let Some(uptime) = totals.uptime_ms.or_else(oldest) {
        parts.push((format!("up {}", short(uptime)), Tone::Plain));
    }
    if let Some(workers) = totals.workers {
        parts.push((counted(workers, "worker"), Tone::Plain));
    }
    if let Some(pid) = totals.pid {
        parts.push((format!("pid {pid}"), Tone::Faint));
    }
    let address = model.target.trim_start_matches("http://");
    let name = match (&totals.name, &totals.version) {
        (Some(name), Some(version)) => format!("{name} {version} at {address}"),
        (Some(name), None) => format!("{name} at {address}"),
        (None, _) => address.to_owned(),
    };
    let room = usize::from(pen.width).saturating_sub(width(&fresh) + 2);
    let name = fit(&name, room.min(46));
    let mut used = width(&name) + 1;
    let mut column = pen.write(1, line, &name, pen.palette.tone(Tone::Strong));
    for (part, tone) in parts {
        if used + 2 + width(&part) > room {
            break; // they stand in the order of their importance
        }
        used += 2 + width(&part);
        column = pen.write(column + 2, line, &part, pen.palette.tone(tone));
    }
    let tone = if model.lost.is_some() || model.is_paused { Tone::Warn } else { Tone::Good };
    pen.write_right(line, &format!("{fresh} "), pen.palette.tone(tone));
}

fn age(taken: Instant, now: Instant) -> String {
    short(now.saturating_duration_since(taken).as_millis().try_into().unwrap_or(u64::MAX))
}

/// The pages, with how much there is on each; the one that is shown stands in brackets.
pub(super) fn pages(model: &Model, pen: &mut Pen<'_>, line: u16) {
    let picture = &model.picture;
    let mut column = 0;
    for (at, page) in Page::ALL.into_iter().enumerate() {
        let (count, tone) = match page {
            Page::Tasks => (None, Tone::Plain),
            Page::Queues => (picture.queues.as_ref().map(Vec::len), Tone::Plain),
            Page::Waits => (picture.waits.as_ref().map(Vec::len), Tone::Plain),
            Page::Alerts => (picture.alerts.as_ref().map(Vec::len), Tone::Warn),
            Page::Deadlocks => (picture.deadlocks.as_ref().map(Vec::len), Tone::Bad),
        };
        let tone = if count.unwrap_or(0) == 0 { Tone::Plain } else { tone };
        let count = count.filter(|count| *count > 0).map(|count| format!(" {count}")).unwrap_or_default();
        let text = format!("{} {}{count}", at + 1, page.name());
        let (text, style) = if page == model.page {
            (format!("[{text}]"), pen.palette.tone(tone).add_modifier(ratatui::style::Modifier::BOLD))
        } else {
            (format!(" {text} "), pen.palette.tone(tone))
        };
        column = pen.write(column, line, &text, style);
    }
    let sorted = match model.page {
        Page::Tasks if model.shows_list() => format!("all, by {}", model.sort().name()),
        Page::Alerts | Page::Deadlocks => String::new(),
        _ => format!("by {}", model.sort().name()),
    };
    let reversed = if model.is_reversed && !sorted.is_empty() { ", reversed" } else { "" };
    let sorted = format!("{sorted}{reversed} ");
    let room = usize::from(pen.width.saturating_sub(column + 1));
    // That something is left out is more than how the rest is sorted.
    let filter = match &*model.filter_text {
        "" => String::new(),
        text => fit(&format!("/{text}  "), room),
    };
    let sorted = if width(&filter) + width(&sorted) <= room { sorted } else { String::new() };
    pen.write_right(line, &format!("{filter}{sorted}"), pen.palette.tone(Tone::Faint));
}

/// Lines of what must not be overlooked.
pub(super) fn banner_lines(model: &Model) -> usize {
    let has_deadlocks = model.picture.deadlocks.as_ref().is_some_and(|deadlocks| !deadlocks.is_empty());
    usize::from(model.lost.is_some()) + usize::from(has_deadlocks)
}

/// The same in words.
pub(super) fn banners(model: &Model, now: Instant) -> Vec<String> {
    let mut banners = Vec::new();
    if let Some(why) = &model.lost {
        let old = model.taken.map(|taken| format!(", this is {} old", age(taken, now))).unwrap_or_default();
        banners.push(format!(" no connection{old}: {why}; trying again"));
    }
    let deadlocks = model.picture.deadlocks.as_deref().unwrap_or_default();
    if let Some(first) = deadlocks.first() {
        let tasks: usize = deadlocks.iter().map(|deadlock| deadlock.tasks.len()).sum();
        let names: Vec<String> = first.causes().iter().map(|task| fit(task.name(), 24)).collect();
        let more =
            if deadlocks.len() > 1 { format!(", and {} more", deadlocks.len() - 1) } else { String::new() };
        let tasks = counted(tasks as u64, "task");
        banners.push(format!(
            " DEADLOCK (5): {tasks} can never go on: {} of {}{more}",
            first.kind,
            names.join(", ")
        ));
    }
    banners
}

/// The keys, or what is being typed.
pub(super) fn keys(model: &Model, pen: &mut Pen<'_>, line: u16) {
    if model.is_typing {
        let typed = pen.write(0, line, &format!("/{}▏", model.filter_text), pen.palette.tone(Tone::Strong));
        let help = "  name op:recv wait:5s age:1m   ⏎ keep  esc clear";
        pen.write(typed, line, help, pen.palette.tone(Tone::Faint));
        return;
    }
    let other = if model.is_list { "tree" } else { "list" };
    let page: Vec<(&str, &str)> = if model.is_help {
        vec![("any key", "back")]
    } else if !model.opened.is_empty() {
        vec![("↑↓", "move"), ("⏎", "follow →"), ("esc", "back"), ("p", "pause"), ("1-5", "page")]
    } else if model.page == Page::Tasks {
        let fold = if model.shows_list() { ("r", "reverse") } else { ("←→", "fold") };
        let like = ("w", "like this");
        vec![
            ("↑↓", "move"),
            fold,
            ("⏎", "open"),
            ("/", "filter"),
            ("s", "sort"),
            ("t", other),
            like,
            ("p", "pause"),
        ]
    } else {
        vec![("↑↓", "move"), ("⏎", "open"), ("/", "filter"), ("s", "sort"), ("r", "reverse"), ("p", "pause")]
    };
    // How to get help and how to get out is seen on every screen.
    let always = [("?", "help"), ("q", "quit")];
    let columns =
        |keys: &[(&str, &str)]| keys.iter().map(|(key, what)| width(key) + width(what) + 3).sum::<usize>();
    let room = usize::from(pen.width).saturating_sub(columns(&always));
    let mut column = 1;
    let mut write = |column: u16, (key, what): (&str, &str)| {
        let column = pen.write(column, line, key, pen.palette.tone(Tone::Strong));
        pen.write(column, line, &format!(" {what}  "), pen.palette.tone(Tone::Faint))
    };
    for key in page {
        if usize::from(column) + columns(&[key]) > room {
            break;
        }
        column = write(column, key);
    }
    for key in always {
        column = write(column, key);
    }
}
