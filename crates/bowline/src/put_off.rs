//! Contexts that are opened when somebody looks.
//!
//! A call under a [`timeout`](crate::timeout()) that comes to its end in its first poll, and asks nothing of its context
//! meanwhile, cannot tell whether there was one. So during a first poll the context is only noted here, on the thread. Whoever asks
//! for the current record opens what is noted, from the outermost on; if nobody has when the poll returns pending, the owner
//! opens it then.
//!
//! # Invariants
//!
//! 1. What is noted and not opened stands above the current record of the thread: whoever makes another record current
//!    opens it first.
//! 2. A noted context has no timer and is listed nowhere, so nobody can cancel it: it is cancelled if the record below it is.
//! 3. Each poll takes its own note away again, also if it panics.

use std::cell::{Cell, RefCell};
use std::panic::Location;

use tokio::time::Instant;

use crate::node::{Alive, Node, NodeKind};
use crate::record::{self, Record};
use crate::site;
use crate::sync::Arc;

/// A context that somebody has looked at.
pub(crate) struct Opened {
    pub(crate) alive: Alive,
    /// The deadline around it.
    pub(crate) inherited: Option<Instant>,
    pub(crate) record: Arc<Record>,
}

struct Note {
    place: &'static Location<'static>,
    at: Option<Instant>,
    /// What came of it, and the record that was current before.
    opened: Option<(Alive, Option<Instant>, Option<Arc<Record>>)>,
}

/// The notes of the polls in progress, the innermost last.
type Notes = RefCell<Vec<Note>>;
/// How many of the last of them are not opened. Apart, because it is looked at very often.
type Unopened = Cell<u32>;

#[cfg(not(bowline_loom))]
crate::sync::thread_local! {
    static NOTES: Notes = const { RefCell::new(Vec::new()) };
}
#[cfg(not(bowline_loom))]
crate::sync::thread_local! {
    static UNOPENED: Unopened = const { Cell::new(0) };
}
#[cfg(bowline_loom)]
crate::sync::thread_local! {
    static NOTES: Notes = RefCell::new(Vec::new());
    static UNOPENED: Unopened = Cell::new(0);
}

/// Opens what is noted.
#[inline]
pub(crate) fn open_all() {
    if UNOPENED.with(Cell::get) > 0 {
        open_slowly();
    }
}

#[cold]
fn open_slowly() {
    let many = UNOPENED.with(|unopened| unopened.replace(0)) as usize;
    let first = NOTES.with(|notes| notes.borrow().len()) - many;
    for index in first..first + many {
        let (place, at) = NOTES.with(|notes| {
            let note = &notes.borrow()[index];
            (note.place, note.at)
        });
        let parent = record::current();
        let inherited = parent.as_ref().and_then(|parent| parent.node.deadline());
        let kind = NodeKind::Timeout;
        let alive = Node::open(site::intern(kind.name(), place), kind, parent, at, false);
        let record = alive.node().list_body();
        record.poll_begins();
        let before = record::replace_current(Some(record));
        NOTES.with(|notes| notes.borrow_mut()[index].opened = Some((alive, inherited, before)));
    }
}

/// Runs `first`, the first poll of something under a deadline `at`. Returns the context as well, if somebody looked at it.
///
/// `first` must not panic: it catches its own.
pub(crate) fn run<R>(
    place: &'static Location<'static>,
    at: Option<Instant>,
    first: impl FnOnce() -> R,
) -> (R, Option<Opened>) {
    NOTES.with(|notes| notes.borrow_mut().push(Note { place, at, opened: None }));
    UNOPENED.with(|unopened| unopened.set(unopened.get() + 1));
    let result = first();
    let note = NOTES.with(|notes| notes.borrow_mut().pop());
    let opened = match note.and_then(|note| note.opened) {
        None => {
            UNOPENED.with(|unopened| unopened.set(unopened.get() - 1));
            None
        }
        Some((alive, inherited, before)) => {
            record::replace_current(before).map(|record| Opened { alive, inherited, record })
        }
    };
    (result, opened)
}
