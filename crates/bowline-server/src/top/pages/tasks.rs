//! The tree of tasks, or all of them in one list.

use std::cmp::{Ordering, Reverse};

use super::super::data::{Below, More, Scope, Task, Tree};
use super::super::model::{Model, Sort};
use super::super::table::{Cell, Column, Key, Row, Side, Table, Tone};
use super::super::words::{brief, counted, fit, grouped, short};
use super::{WIDE, doing};

/// A scope with more tasks than this is folded until the reader opens it.
const MANY_TASKS: u64 = 12;

pub(super) fn table(model: &Model) -> Table {
    let width = usize::from(model.size.0);
    let is_wide = width >= WIDE;
    let mut columns = vec![
        Column::new("TASK", 0, Side::Left),
        Column::new("STATE", if is_wide { 32 } else { 20 }, Side::Left),
        Column::new("SINCE", 6, Side::Right),
        Column::new("AGE", 6, Side::Right),
        Column::new("POLLS", 6, Side::Right),
    ];
    if is_wide {
        columns.insert(1, Column::new("ID", 8, Side::Right));
        columns.push(Column::new("SPAWNED AT", if width >= 160 { 44 } else { 28 }, Side::End));
    }
    let Some(tree) = &model.picture.tree else { return Table { columns, ..Table::default() } };
    let is_list = model.shows_list();
    let mut rows = Rows { model, is_wide, is_list, rows: Vec::new() };
    if is_list {
        rows.list(tree);
    } else {
        for root in &tree.roots {
            rows.scope(root, 0);
        }
    }
    rows.more(&tree.more, 0, 0);
    let if_empty =
        if model.filter.is_empty() { "nothing lives here" } else { "no task is like that; esc shows all" };
    Table { columns, rows: rows.rows, if_empty: if_empty.to_owned() }
}

struct Rows<'m> {
    model: &'m Model,
    is_wide: bool,
    is_list: bool,
    rows: Vec<Row>,
}

impl<'m> Rows<'m> {
    /// All tasks, in one order.
    fn list(&mut self, tree: &'m Tree) {
        let mut tasks: Vec<(&Task, String)> = Vec::new();
        tree.each(&mut |task, around| {
            if self.model.filter.takes(task) {
                let around = around.iter().map(|task| format!("{}/", task.name)).collect::<String>();
                tasks.push((task, format!("{around}{}", task.name)));
            }
        });
        tasks.sort_by(|(a, _), (b, _)| self.order(a, b));
        for (task, path) in tasks {
            // Its own name says most: with a path too long for the column, the beginning goes.
            let path = task.path.clone().unwrap_or(path);
            self.task_row(task, path, 0, None);
        }
    }

    fn order(&self, a: &Task, b: &Task) -> Ordering {
        let waited = |task: &Task| task.wait().map(|wait| wait.for_ms);
        let order = match self.model.sort() {
            Sort::Wait => Reverse(waited(a)).cmp(&Reverse(waited(b))),
            Sort::Age => Reverse(a.age_ms).cmp(&Reverse(b.age_ms)),
            Sort::Polls => Reverse(a.polls).cmp(&Reverse(b.polls)),
            Sort::Name => a.name.cmp(&b.name),
            _ => Ordering::Equal,
        };
        if self.model.is_reversed { order.reverse() } else { order }
    }

    /// Whether anything below is to be shown under the filter.
    fn is_of_interest(&self, below: &Below) -> bool {
        below.tasks.iter().any(|task| self.model.filter.takes(task) || self.is_of_interest(&task.below))
            || below.scopes.iter().any(|scope| self.is_of_interest(&scope.below))
    }

    fn scope(&mut self, scope: &'m Scope, depth: usize) {
        let is_filtered = !self.model.filter.is_empty();
        let helper = matches!(&*scope.kind, "timeout" | "shielded" | "value" | "token" | "job");
        if (is_filtered && !self.is_of_interest(&scope.below)) || (helper && scope.below.is_empty()) {
            return;
        }
        let key = Key::Scope(scope.id);
        let direct = scope.below.tasks.len() as u64 + scope.below.not_sent();
        let is_folded = !is_filtered && self.model.is_folded(&key, direct > MANY_TASKS && depth > 0);
        let state = match &scope.cancelled {
            Some(why) => Cell::new(format!("cancelled: {why}"), Tone::Warn),
            None => Cell::new(counted(scope.below.count(), "task"), Tone::Faint),
        };
        let name = if scope.kind == "root" {
            format!("root {}", scope.name)
        } else {
            format!("[{}] {}", scope.kind, scope.name)
        };
        let fold = (!scope.below.is_empty()).then_some(is_folded);
        let mut cells = vec![self.named(&name, depth, fold, Tone::Plain), state];
        cells.extend(["", "", ""].map(Cell::from));
        self.push(key, cells, depth, fold, scope.id, &scope.place);
        if !is_folded {
            self.below(&scope.below, depth + 1, scope.id);
        }
    }

    fn below(&mut self, below: &'m Below, depth: usize, id: u64) {
        if self.model.filter.is_empty() {
            for queue in &below.queues {
                let tone = if queue.percent() > 50 { Tone::Warn } else { Tone::Plain };
                let fill =
                    Cell::new(format!("{}/{}", brief(queue.depth_items), brief(queue.max_items)), tone);
                let since =
                    Cell::from(if queue.oldest_ms > 0 { short(queue.oldest_ms) } else { String::new() });
                let name = format!("<queue> {}", queue.name);
                let cells =
                    vec![self.named(&name, depth, None, Tone::Faint), fill, since, "".into(), "".into()];
                self.push(Key::Queue(queue.key), cells, depth, None, queue.id, &queue.place);
            }
            for channel in &below.channels {
                let name = format!("<{}> {}", channel.kind, channel.name);
                let fill = Cell::from(format!("{}/{}", brief(channel.depth_items), brief(channel.max_items)));
                let cells =
                    vec![self.named(&name, depth, None, Tone::Faint), fill, "".into(), "".into(), "".into()];
                self.push(Key::Channel(channel.id), cells, depth, None, channel.id, "");
            }
        }
        let mut tasks: Vec<&Task> = below.tasks.iter().collect();
        tasks.sort_by(|a, b| self.order(a, b));
        for task in tasks {
            self.task(task, depth);
        }
        for scope in &below.scopes {
            self.scope(scope, depth);
        }
        self.more(&below.more, depth, id);
    }

    fn task(&mut self, task: &'m Task, depth: usize) {
        let is_filtered = !self.model.filter.is_empty();
        if is_filtered && !self.model.filter.takes(task) && !self.is_of_interest(&task.below) {
            return;
        }
        let is_folded = !is_filtered && self.model.is_folded(&Key::Task(task.id), false);
        let fold = (!task.below.is_empty()).then_some(is_folded);
        self.task_row(task, task.name.clone(), depth, fold);
        if !is_folded {
            self.below(&task.below, depth + 1, task.id);
        }
    }

    fn task_row(&mut self, task: &Task, name: String, depth: usize, fold: Option<bool>) {
        let (state, since, tone) = doing(self.model, task);
        let name_tone = if self.model.filter.is_empty() || self.model.filter.takes(task) {
            Tone::Strong
        } else {
            Tone::Faint
        };
        let cells = vec![
            self.named(&name, depth, fold, name_tone),
            Cell::new(state, tone),
            since.into(),
            short(task.age_ms).into(),
            brief(task.polls).into(),
        ];
        self.push(Key::Task(task.id), cells, depth, fold, task.id, &task.place);
    }

    fn more(&mut self, more: &More, depth: usize, id: u64) {
        for (at, (name, count)) in more.iter().enumerate() {
            let tasks =
                if name.is_empty() { counted(*count, "task") } else { format!("{} {name}", grouped(*count)) };
            let hint = if self.is_list { "narrow them with /" } else { "t lists them" };
            let cells = vec![self.named(&format!("… {tasks} more; {hint}"), depth, None, Tone::Faint)];
            self.rows.push(Row { key: Key::More(id, at), cells, opens: None, is_folded: None, depth });
        }
    }

    /// A name behind its mark, as deep as it stands. A tree that is deeper than the screen is wide goes on at its edge.
    fn named(&self, name: &str, depth: usize, fold: Option<bool>, tone: Tone) -> Cell {
        let mark = match fold {
            Some(true) => "▸",
            Some(false) => "▾",
            None => " ",
        };
        let depth = if self.is_list { 0 } else { depth };
        let indent = depth.min(if self.is_wide { 30 } else { 12 });
        Cell::new(format!("{}{mark} {}", "  ".repeat(indent), fit(name, 200)), tone)
    }

    fn push(
        &mut self,
        key: Key,
        mut cells: Vec<Cell>,
        depth: usize,
        fold: Option<bool>,
        id: u64,
        place: &str,
    ) {
        if self.is_wide {
            cells.insert(1, Cell::new(id.to_string(), Tone::Faint));
            cells.push(Cell::new(place, Tone::Faint));
        }
        let opens = matches!(key, Key::Task(_) | Key::Queue(_)).then(|| key.clone());
        self.rows.push(Row { key, cells, opens, is_folded: fold, depth });
    }
}
