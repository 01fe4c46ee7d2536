//! What top shows and where the reader is in it: pure state. Keys, answers and sizes go in ([`Model::take`]); what is wanted
//! of the process next ([`Model::wanted`]) and tables of words ([`Model::table`]) come out.
//!
//! # Invariants
//!
//! 1. The cursor is at a row that exists, if there is any, and that row is on the screen.
//! 2. A lost connection changes nothing of the last picture but what is said of its age.

mod keys;

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::client::{FetchError, Wanted, WantedTasks};
use super::data::Picture;
use super::filter::Filter;
use super::history::History;
use super::pages;
use super::table::{Key, Table};

/// What the reader folded or unfolded, as far as it is remembered.
const MAX_FOLDS: usize = 50_000;

/// Tasks of one name in one scope that the tree has; the list has them all.
const EACH: usize = 50;

/// Something that happened.
pub(super) enum Input {
    Key(ratatui::crossterm::event::KeyEvent),
    /// Columns and lines of the screen.
    Resized(u16, u16),
    /// What the process answered.
    Answer(Box<Result<Picture, FetchError>>),
}

/// What to do after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Quit,
}

/// The pages, in the order of their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Page {
    /// The tree of tasks.
    #[default]
    Tasks,
    /// Queues, with their depths and rates.
    Queues,
    /// Locks and other things that are waited for.
    Waits,
    /// What a person should look at.
    Alerts,
    /// Tasks of which it is proved that they can never go on.
    Deadlocks,
}

impl Page {
    pub(super) const ALL: [Self; 5] = [Self::Tasks, Self::Queues, Self::Waits, Self::Alerts, Self::Deadlocks];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tasks => "Tasks",
            Self::Queues => "Queues",
            Self::Waits => "Waits",
            Self::Alerts => "Alerts",
            Self::Deadlocks => "Deadlocks",
        }
    }

    /// What its rows can be sorted by; the first is the default.
    pub(super) fn sorts(self) -> &'static [Sort] {
        match self {
            Self::Tasks => &[Sort::Spawn, Sort::Wait, Sort::Age, Sort::Polls, Sort::Name],
            Self::Queues => &[Sort::Fill, Sort::Rate, Sort::Wait, Sort::Name],
            Self::Waits => &[Sort::Wait, Sort::Waiters, Sort::Name],
            Self::Alerts | Self::Deadlocks => &[Sort::Spawn],
        }
    }
}

/// What rows are sorted by; the greatest comes first, names in the order of the alphabet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// As the process sent them.
    Spawn,
    Wait,
    Age,
    Polls,
    Name,
    Fill,
    Rate,
    Waiters,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::Wait => "wait",
            Self::Age => "age",
            Self::Polls => "polls",
            Self::Name => "name",
            Self::Fill => "fullest",
            Self::Rate => "rate",
            Self::Waiters => "waiters",
        }
    }
}

/// Where the reader is in a list.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    pub(super) at: usize,
    key: Option<Key>,
    /// The first row on the screen.
    pub(super) top: usize,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) target: String,
    pub(super) every: Duration,
    max_tasks: usize,
    pub(super) size: (u16, u16),
    pub(super) picture: Picture,
    /// When the picture was taken.
    pub(super) taken: Option<Instant>,
    /// Why there is no newer one.
    pub(super) lost: Option<String>,
    pub(super) is_paused: bool,
    pub(super) history: History,
    /// What things are called: tasks, queues, locks, by their numbers.
    names: HashMap<u64, String>,
    pub(super) page: Page,
    /// What is opened over the page, each from the one before.
    pub(super) opened: Vec<Key>,
    cursors: Vec<Cursor>,
    opened_cursors: Vec<Cursor>,
    sorts: [Sort; Page::ALL.len()],
    pub(super) is_reversed: bool,
    /// All tasks in one list, instead of the tree.
    pub(super) is_list: bool,
    folds: HashMap<Key, bool>,
    pub(super) filter_text: String,
    pub(super) filter: Filter,
    /// Whether the filter is being typed.
    pub(super) is_typing: bool,
    pub(super) is_help: bool,
}

impl Model {
    pub(super) fn new(target: String, every: Duration, max_tasks: usize) -> Self {
        Self {
            target,
            every,
            max_tasks,
            size: (80, 24),
            picture: Picture::default(),
            taken: None,
            lost: None,
            is_paused: false,
            history: History::default(),
            names: HashMap::new(),
            page: Page::default(),
            opened: Vec::new(),
            cursors: vec![Cursor::default(); Page::ALL.len()],
            opened_cursors: Vec::new(),
            sorts: Page::ALL.map(|page| page.sorts()[0]),
            is_reversed: false,
            is_list: false,
            folds: HashMap::new(),
            filter_text: String::new(),
            filter: Filter::default(),
            is_typing: false,
            is_help: false,
        }
    }

    /// Takes something into account that happened at `now`.
    pub(super) fn take(&mut self, input: Input, now: Instant) -> Then {
        let then = match input {
            Input::Key(key) => self.press(key),
            Input::Resized(columns, lines) => {
                self.size = (columns, lines);
                Then::GoOn
            }
            Input::Answer(answer) => {
                // What was under way when the reader stopped the picture does not change it any more.
                if !(self.is_paused && self.taken.is_some()) {
                    self.answered(*answer, now);
                }
                Then::GoOn
            }
        };
        self.settle();
        then
    }

    fn answered(&mut self, answer: Result<Picture, FetchError>, now: Instant) {
        match answer {
            Ok(picture) => {
                let queues = picture.queues();
                self.history.add(now, &picture.totals, &queues);
                if self.folds.len() > MAX_FOLDS {
                    self.folds.clear(); // of things that are long gone, most of them
                }
                self.picture = Picture { queues: Some(queues), ..picture };
                self.names = names(&self.picture);
                self.taken = Some(now);
                self.lost = None;
            }
            Err(error) => {
                self.lost = Some(error.to_string());
                self.history.interrupt();
            }
        }
    }

    /// What the next picture should show.
    pub(super) fn wanted(&self) -> Wanted {
        let opened = match self.opened.last() {
            Some(Key::Task(task)) => Some(*task),
            _ => None,
        };
        let tasks = if self.is_list || !self.filter.is_empty() {
            let by = match self.sorts[Page::Tasks as usize] {
                Sort::Age => "&sort=age",
                Sort::Polls => "&sort=polls",
                Sort::Name => "&sort=name",
                _ => "&sort=wait",
            };
            WantedTasks::List { max: self.max_tasks, query: format!("{}{by}", self.filter.query()) }
        } else {
            WantedTasks::Tree { each: EACH }
        };
        Wanted { tasks, opened }
    }

    pub(super) fn sort(&self) -> Sort {
        match self.sorts[self.page as usize] {
            // A list has no order of its own: those that wait the longest are what it is for.
            Sort::Spawn if self.page == Page::Tasks && self.shows_list() => Sort::Wait,
            sort => sort,
        }
    }

    /// Whether the tasks are shown as a list, and not as a tree.
    pub(super) fn shows_list(&self) -> bool {
        self.is_list || self.picture.tree.as_ref().is_some_and(|tree| tree.is_list)
    }

    /// Sorts by what comes next.
    fn sort_otherwise(&mut self) {
        let sorts = self.page.sorts();
        let at = sorts.iter().position(|sort| *sort == self.sort()).unwrap_or(0);
        self.sorts[self.page as usize] = sorts[(at + 1) % sorts.len()];
    }

    /// What is shown: the page, or what is opened over it.
    pub(super) fn table(&self) -> Table {
        pages::table(self)
    }

    /// What a thing is called: `name #7`, or `#7`.
    pub(super) fn called(&self, id: u64) -> String {
        match self.names.get(&id) {
            Some(name) => format!("{name} #{id}"),
            None => format!("#{id}"),
        }
    }

    /// The name of a thing, if it is known.
    pub(super) fn name_of(&self, id: u64) -> Option<&str> {
        self.names.get(&id).map(|name| &**name)
    }

    pub(super) fn cursor(&self) -> &Cursor {
        self.opened_cursors.last().unwrap_or(&self.cursors[self.page as usize])
    }

    fn cursor_mut(&mut self) -> &mut Cursor {
        let page = self.page as usize;
        self.opened_cursors.last_mut().unwrap_or(&mut self.cursors[page])
    }

    /// Whether what is below a row is hidden; `by_default` if the reader has not said.
    pub(super) fn is_folded(&self, key: &Key, by_default: bool) -> bool {
        self.folds.get(key).copied().unwrap_or(by_default)
    }

    /// Lines for rows, below and above what is always there.
    pub(super) fn body_lines(&self) -> usize {
        usize::from(self.size.1).saturating_sub(super::view::lines_around(self))
    }

    /// Puts the cursor where its row is now (invariant 1).
    fn settle(&mut self) {
        let table = self.table();
        let lines = self.body_lines().max(1);
        let cursor = self.cursor_mut();
        // Where it is already, first: rows that nobody can tell apart must not hold it.
        let is_here =
            cursor.key.is_some() && table.rows.get(cursor.at).map(|row| &row.key) == cursor.key.as_ref();
        let find = |key: &Key| if is_here { None } else { table.rows.iter().position(|row| row.key == *key) };
        let moved = cursor.key.as_ref().and_then(find);
        cursor.at = moved.unwrap_or(cursor.at).min(table.rows.len().saturating_sub(1));
        cursor.key = table.rows.get(cursor.at).map(|row| row.key.clone());
        cursor.top = cursor.top.min(cursor.at).max((cursor.at + 1).saturating_sub(lines));
        // No empty lines below while there are rows above.
        cursor.top = cursor.top.min(table.rows.len().saturating_sub(lines));
    }
}

fn names(picture: &Picture) -> HashMap<u64, String> {
    let last = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut names: HashMap<u64, String> = picture.names.iter().map(|(id, path)| (*id, last(path))).collect();
    let mut add = |id: u64, name: &str| {
        if id != 0 && !name.is_empty() {
            names.insert(id, name.to_owned());
        }
    };
    if let Some(tree) = &picture.tree {
        tree.each(&mut |task, _| {
            add(task.id, &task.name);
            task.below.channels.iter().for_each(|channel| add(channel.id, &channel.name));
        });
    }
    picture.queues.iter().flatten().for_each(|queue| add(queue.id, &queue.name));
    picture.waits.iter().flatten().for_each(|resource| add(resource.id, &resource.name));
    let dead = picture.deadlocks.iter().flatten().flat_map(|deadlock| &deadlock.tasks);
    dead.for_each(|task| add(task.task.unwrap_or(0), task.name()));
    names
}
