//! The page of tasks: those that were asked for, sorted, or all of them as a stream.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::Body;
use super::best::Best;
use super::query::{Format, Limit, Query, Sort};
use super::text::{self, Set, Table, escape, short, short_or_dash, thousands};
use super::walk::{Seen, Totals, Walk};
use crate::clock;
use crate::record::{CANCEL, Kind, Record};
use crate::tree::{self, TaskState};
use crate::watch::PollTimes;

/// How many records one piece of a page looks at: some hundred microseconds.
pub(super) const LOOKED_AT: usize = 1_024;

/// How large a piece of a stream becomes, about.
const PIECE_BYTES: usize = 16 * 1_024;

/// Rows for people, unless they ask for more.
const ROWS: usize = 100;

/// A task in a list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) id: u64,
    /// Identity of the scope that owns it.
    pub(super) parent: u64,
    /// The task in which that scope was opened.
    pub(super) above: Option<u64>,
    pub(super) path: String,
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) place: String,
    pub(super) age_ms: u64,
    pub(super) polls: u32,
    pub(super) idle_ms: Option<u64>,
    pub(super) future_bytes: Option<usize>,
    /// Of a child of a supervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<u64>,
    /// If polls are timed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) poll_times: Option<PollTimes>,
    pub(super) cancelled: bool,
    pub(super) state: TaskState,
}

impl Row {
    /// The row of a task that `walk` has just seen.
    pub(super) fn of(walk: &Walk, task: &Record, state: TaskState) -> Self {
        Self {
            id: task.id(),
            parent: task.node.id,
            above: walk.above_task(),
            path: walk.path(),
            name: task.site.name,
            kind: kind(task.kind),
            place: tree::place(&task.site),
            age_ms: age_ms(task),
            polls: task.polls(),
            idle_ms: task.idle().map(tree::millis),
            future_bytes: task.future_bytes(),
            generation: task.generation(),
            poll_times: task.poll_times(),
            cancelled: task.flags() & CANCEL != 0,
            state,
        }
    }

    /// What it does, in some words.
    pub(super) fn doing(&self) -> String {
        let mut doing = match &self.state {
            TaskState::Waiting(wait) => match wait.on {
                Some(on) => format!("{} #{on}", wait.op),
                None => wait.op.to_owned(),
            },
            other => state_name(other).to_owned(),
        };
        if self.cancelled {
            doing.push_str(" (cancelled)");
        }
        doing
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Task => "task",
        Kind::Daemon => "daemon",
        Kind::Blocking => "blocking",
        Kind::Strand => "strand",
    }
}

pub(super) fn age_ms(task: &Record) -> u64 {
    tree::millis(clock::since(task.born()))
}

pub(super) fn state_name(state: &TaskState) -> &'static str {
    match state {
        TaskState::New => "new",
        TaskState::Running => "running",
        TaskState::Waiting(_) => "waiting",
        TaskState::Parked => "parked",
        TaskState::Blocking => "blocking",
        TaskState::Ended => "ended",
    }
}

fn wait_ms(state: &TaskState) -> u64 {
    match state {
        TaskState::Waiting(wait) => wait.for_ms,
        _ => 0,
    }
}

/// What all tasks together do.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Census {
    #[serde(flatten)]
    pub(super) totals: Totals,
    pub(super) states: BTreeMap<&'static str, usize>,
    /// Those that wait, by operation.
    pub(super) waits: BTreeMap<&'static str, usize>,
}

impl Census {
    pub(super) fn count(&mut self, walk: &Walk, task: &Record, state: &TaskState) {
        self.totals.count(walk, task);
        *self.states.entry(state_name(state)).or_default() += 1;
        if let TaskState::Waiting(wait) = state {
            *self.waits.entry(wait.op).or_default() += 1;
        }
    }

    /// The same in a sentence.
    fn line(&self) -> String {
        let Totals { total, blocking, foreign_tasks, .. } = &self.totals;
        let mut line = format!("{} tasks", thousands(*total as u64));
        if *blocking > 0 {
            let _ = write!(line, ", {} blocking", thousands(*blocking as u64));
        }
        if let Some(foreign) = foreign_tasks {
            let _ = write!(line, ", {} foreign", thousands(*foreign as u64));
        }
        let states: Vec<String> = self
            .states
            .iter()
            .map(|(state, count)| format!("{} {state}", thousands(*count as u64)))
            .collect();
        if !states.is_empty() {
            let _ = write!(line, ": {}", states.join(", "));
        }
        let mut waits: Vec<(&str, usize)> = self.waits.iter().map(|(op, count)| (*op, *count)).collect();
        waits.sort_by_key(|(_, count)| Reverse(*count));
        let waits: Vec<String> =
            waits.iter().map(|(op, count)| format!("{} {op}", thousands(*count as u64))).collect();
        if !waits.is_empty() {
            let _ = write!(line, " ({})", waits.join(", "));
        }
        line
    }
}

/// What the walk over all tasks has in common for lists and streams: who is asked for.
struct Selection {
    walk: Walk,
    census: Census,
    matched: usize,
    query: Query,
    /// At which depth the walk entered what the query is about.
    inside: Option<usize>,
}

impl Selection {
    fn new(query: Query) -> Self {
        Self { walk: Walk::new(), census: Census::default(), matched: 0, query, inside: None }
    }

    /// Goes on by one step; shows a task if it is asked for. `None` at the end.
    fn step<R>(&mut self, see: impl FnOnce(&Walk, &Record, TaskState) -> R) -> Option<Option<R>> {
        let seen = self.walk.next()?;
        let depth = self.walk.depth();
        let (task, id) = match seen {
            Seen::Task(task) => (Some(task.clone()), task.id()),
            Seen::Scope(node) => (None, node.id),
            Seen::Body(_) => return Some(None),
            Seen::End => {
                if self.inside == Some(depth + 1) {
                    self.inside = None;
                }
                return Some(None);
            }
        };
        let was_inside = self.inside.is_some();
        if !was_inside && self.query.below == Some(id) {
            self.inside = Some(depth);
        }
        let Some(task) = task else { return Some(None) };
        let state = tree::state(&task);
        self.census.count(&self.walk, &task, &state);
        let asked = (self.query.below.is_none() || was_inside) && self.asks_for(&task, &state);
        self.matched += usize::from(asked);
        Some(asked.then(|| see(&self.walk, &task, state)))
    }

    fn asks_for(&self, task: &Record, state: &TaskState) -> bool {
        let Query { name, op, state: asked_state, min_age_ms, min_wait_ms, .. } = &self.query;
        let op_is = match (op, state) {
            (None, _) => true,
            (Some(op), TaskState::Waiting(wait)) => op == wait.op,
            (Some(_), _) => false,
        };
        op_is
            && asked_state.as_ref().is_none_or(|asked| asked == state_name(state))
            && (*min_age_ms == 0 || age_ms(task) >= *min_age_ms)
            && (*min_wait_ms == 0 || wait_ms(state) >= *min_wait_ms)
            && (name.is_none() || self.query.takes_name(&self.walk.path()))
    }
}

/// A page of tasks: sorted, or as they come if there is no limit.
pub(super) fn page(query: Query) -> Body {
    match query.limit {
        Some(Limit::All) => Body::from_pieces(Stream::new(query)),
        _ => Body::from_pieces(List::new(query)),
    }
}

// ---- sorted

/// Keeps the rows of one page while it walks.
struct List {
    selection: Option<Selection>,
    /// By a number, the greatest first, and then by a text.
    best: Best<(Reverse<u64>, String), Row>,
}

impl List {
    fn new(query: Query) -> Self {
        let rows = query.rows(ROWS);
        Self { selection: Some(Selection::new(query)), best: Best::of(rows) }
    }
}

impl Iterator for List {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let selection = self.selection.as_mut()?;
        let (sort, best) = (selection.query.sort, &mut self.best);
        for _ in 0..LOOKED_AT {
            let step = selection.step(|walk, task, state| {
                let (number, text) = match sort {
                    // Of those that do not wait at ours, the oldest.
                    Sort::Wait => match &state {
                        TaskState::Waiting(wait) => ((1 << 63) | wait.for_ms, String::new()),
                        _ => (age_ms(task), String::new()),
                    },
                    Sort::Age => (age_ms(task), String::new()),
                    Sort::Polls => (task.polls().into(), String::new()),
                    Sort::Busy => (task.poll_times().map_or(0, |times| times.busy_us), String::new()),
                    Sort::Idle => (task.idle().map_or(0, tree::millis), String::new()),
                    Sort::Size => (task.future_bytes().unwrap_or(0) as u64, String::new()),
                    Sort::Name => (0, walk.path()),
                };
                best.offer((Reverse(number), text), || Row::of(walk, task, state));
            });
            if step.is_none() {
                let (rows, more) = std::mem::replace(best, Best::of(0)).finish();
                return self.selection.take().map(|selection| finished(selection, &rows, more));
            }
        }
        Some(Vec::new())
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    census: &'a Census,
    matched: usize,
    more: usize,
    tasks: &'a [Row],
}

fn finished(selection: Selection, rows: &[Row], more: usize) -> Vec<u8> {
    let Selection { mut census, matched, query, .. } = selection;
    census.totals.finish();
    match query.format {
        Format::Json => super::json(&Listed { census: &census, matched, more, tasks: rows }),
        Format::Text => {
            let mut page = query.complaint();
            text::wrap(&mut page, &census.line(), "");
            let first = match query.sort {
                Sort::Wait => "the longest wait first",
                Sort::Age => "the oldest first",
                Sort::Polls => "the most polled first",
                Sort::Busy => "the busiest first, if polls are timed",
                Sort::Idle => "the one first that was not polled for longest",
                Sort::Size => "the largest future first",
                Sort::Name => "by path",
            };
            let shown = thousands(rows.len() as u64);
            let line = match more {
                0 => format!("{shown} shown, {first}."),
                _ => format!(
                    "{shown} of {} shown, {first}; ?limit= ?name= ?op= ?age=5s ?sort=",
                    thousands(matched as u64)
                ),
            };
            text::wrap(&mut page, &line, "");
            page.push('\n');
            table(rows, query.sort).write(&mut page);
            if more > 0 {
                let _ = writeln!(page, "… {} more", thousands(more as u64));
            }
            page.into_bytes()
        }
    }
}

/// Rows for people.
pub(super) fn table(rows: &[Row], sort: Sort) -> Table {
    // Columns of their own would not fit, and be empty in most programs.
    let shown = match sort {
        Sort::Idle | Sort::Size | Sort::Polls => sort,
        _ if rows.iter().any(|row| row.poll_times.is_some()) => Sort::Busy,
        _ => Sort::Polls,
    };
    let title = match shown {
        Sort::Idle => "IDLE",
        Sort::Size => "BYTES",
        Sort::Busy => "BUSY",
        _ => "POLLS",
    };
    let mut table = Table::new(&[
        ("ID", Set::Left),
        ("WAITS", Set::Right),
        ("AGE", Set::Right),
        (title, Set::Right),
        ("DOES", Set::Left),
        ("TASK", Set::Path),
    ]);
    for row in rows {
        table.row([
            format!("#{}", row.id),
            short_or_dash(wait_ms(&row.state)),
            short(row.age_ms),
            match shown {
                Sort::Idle => row.idle_ms.map(short),
                Sort::Size => row.future_bytes.map(|bytes| bytes.to_string()),
                Sort::Busy => row.poll_times.as_ref().map(|times| short(times.busy_us / 1_000)),
                _ => Some(row.polls.to_string()),
            }
            .unwrap_or_else(|| "-".to_owned()),
            row.doing(),
            row.path.clone(),
        ]);
    }
    table
}

// ---- streamed

/// Writes rows as the walk comes to them, and keeps none.
pub(super) struct Stream {
    selection: Option<Selection>,
    has_begun: bool,
}

impl Stream {
    pub(super) fn new(query: Query) -> Self {
        Self { selection: Some(Selection::new(query)), has_begun: false }
    }
}

impl Iterator for Stream {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let selection = self.selection.as_mut()?;
        let format = selection.query.format;
        let mut piece = Vec::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            piece.extend(match format {
                Format::Json => b"{\"tasks\":[".to_vec(),
                Format::Text => format!("{}{}", selection.query.complaint(), line_of_titles()).into_bytes(),
            });
        }
        for _ in 0..LOOKED_AT {
            let is_first = selection.matched == 0;
            match selection.step(Row::of) {
                Some(Some(row)) => write_row(&mut piece, &row, format, is_first),
                Some(None) => {}
                None => {
                    let selection = self.selection.take()?;
                    piece.extend(end_of_stream(selection));
                    return Some(piece);
                }
            }
            if piece.len() >= PIECE_BYTES {
                break;
            }
        }
        Some(piece)
    }
}

fn write_row(piece: &mut Vec<u8>, row: &Row, format: Format, is_first: bool) {
    match format {
        Format::Json => {
            piece.extend(if is_first { b"\n".as_slice() } else { b",\n" });
            piece.extend(super::json(row));
        }
        // A Vec takes every byte.
        Format::Text => drop(piece.write_all(line(row).as_bytes())),
    }
}

fn line_of_titles() -> String {
    format!("{:<10}  {:>8}  {:>8}  {:>8}  {:<16}  TASK\n", "ID", "WAITS", "AGE", "POLLS", "DOES")
}

fn line(row: &Row) -> String {
    let (id, waits) = (format!("#{}", row.id), short_or_dash(wait_ms(&row.state)));
    let (age, polls, doing) = (short(row.age_ms), row.polls, row.doing());
    format!("{id:<10}  {waits:>8}  {age:>8}  {polls:>8}  {doing:<16}  {}\n", escape(&row.path))
}

#[derive(Serialize)]
struct EndOfStream<'a> {
    matched: usize,
    more: usize,
    #[serde(flatten)]
    census: &'a Census,
}

fn end_of_stream(selection: Selection) -> Vec<u8> {
    let Selection { mut census, matched, query, .. } = selection;
    census.totals.finish();
    match query.format {
        Format::Text => format!("\n{}\n", census.line()).into_bytes(),
        Format::Json => {
            let end = super::json(&EndOfStream { matched, more: 0, census: &census });
            // The fields of the end, after those of the beginning.
            [b"\n],".as_slice(), &end[1..]].concat()
        }
    }
}

/// Writes every live task as one JSON document, a task per line: the page `tasks?format=json&limit=all`.
///
/// It keeps one piece of the list at a time, so a million tasks take no more memory than a hundred. A task that lives throughout is
/// written once; one that comes or goes meanwhile may be missing.
///
/// # Errors
///
/// Those of `out`. What was written until then is no whole document.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let mut dump = Vec::new(); // a file, for more than some thousands
/// bowline::debug::write_tasks(&mut dump).unwrap();
/// assert!(dump.starts_with(b"{\"tasks\":["));
/// # });
/// ```
pub fn write_tasks(out: &mut impl Write) -> io::Result<()> {
    let query = Query { format: Format::Json, limit: Some(Limit::All), ..Query::none() };
    Stream::new(query).try_for_each(|piece| out.write_all(&piece))
}
