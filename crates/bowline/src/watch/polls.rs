//! Which polls take too long: the same poll of the same task, seen again and again.

use std::time::Duration;

use crate::alert::{AlertKind, Subject};
use crate::record::Record;
use crate::site::Site;
use crate::sync::Arc;
use crate::tree;

use super::Matter;

/// Somebody who is being polled.
#[derive(Clone, Debug)]
pub(super) struct InPoll {
    pub(super) task: u64,
    /// Changes with every poll.
    pub(super) word: u32,
    pub(super) site: Site,
    pub(super) path: String,
    /// The innermost context that is being polled inside the task.
    pub(super) inside: Option<Site>,
}

impl InPoll {
    pub(super) fn of(task: &Record, innermost: &Record) -> Self {
        let is_itself = std::ptr::eq(task, innermost);
        Self {
            task: task.id(),
            word: task.polls(),
            site: task.site,
            path: tree::task_and_path(task).1,
            inside: (!is_itself).then_some(innermost.site),
        }
    }
}

/// Somebody who was being polled when the tree was walked. The record is kept, so its list cannot use it for another task.
pub(super) struct Suspect {
    pub(super) poll: InPoll,
    record: Arc<Record>,
}

impl Suspect {
    pub(super) fn new(task: &Arc<Record>, innermost: &Record) -> Self {
        Self { poll: InPoll::of(task, innermost), record: Arc::clone(task) }
    }

    /// Whether it is in the same poll still.
    pub(super) fn is_in_it(&self) -> bool {
        self.record.is_running() && self.record.polls() == self.poll.word
    }
}

/// The polls that are going on, and since when, as far as was seen.
#[derive(Default)]
pub(super) struct LongPolls {
    known: Vec<(u64, u32, Duration)>,
}

impl LongPolls {
    /// Takes a look at who is being polled; says which of them have been for `limit`.
    pub(super) fn look<'a>(
        &mut self,
        passed: Duration,
        limit: Duration,
        polled: impl IntoIterator<Item = &'a InPoll>,
    ) -> Vec<Matter> {
        let before = std::mem::take(&mut self.known);
        let mut matters = Vec::new();
        for poll in polled {
            let known = before.iter().find(|(task, word, _)| (*task, *word) == (poll.task, poll.word));
            let seen_for = known.map_or(Duration::ZERO, |(_, _, seen_for)| *seen_for + passed);
            self.known.push((poll.task, poll.word, seen_for));
            if seen_for >= limit {
                let subject = Subject {
                    kind: AlertKind::LongPoll,
                    name: poll.site.name.into(),
                    place: poll.site.place,
                };
                matters.push((subject, text(poll, seen_for)));
            }
        }
        matters
    }

    /// For how long a poll has been seen.
    pub(super) fn seen_for(&self, poll: &InPoll) -> Duration {
        let known = self.known.iter().find(|(task, word, _)| (*task, *word) == (poll.task, poll.word));
        known.map_or(Duration::ZERO, |(_, _, seen_for)| *seen_for)
    }
}

fn text(poll: &InPoll, seen_for: Duration) -> String {
    let InPoll { task, path, .. } = poll;
    let inside = match poll.inside {
        Some(Site { name, place }) => format!(", inside `{name}` ({place})"),
        None => String::new(),
    };
    format!(
        "one poll of task #{task} `{path}`{inside} has taken more than {seen_for:?}; other tasks of its thread wait. What \
         computes or blocks goes to `compute`, a `CpuPool` or `spawn_blocking`"
    )
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;

    const TICK: Duration = Duration::from_millis(25);
    const LIMIT: Duration = Duration::from_millis(100);

    fn poll(task: u64, word: u32) -> InPoll {
        let site = Site { name: "parse", place: Location::caller() };
        InPoll { task, word, site, path: "main/parse".to_owned(), inside: None }
    }

    fn how_many(polls: &mut LongPolls, polled: &[InPoll]) -> usize {
        polls.look(TICK, LIMIT, polled).len()
    }

    #[test]
    fn the_same_poll_over_the_limit_is_long_and_many_short_ones_are_not() {
        let mut polls = LongPolls::default();
        for word in 0..1_000 {
            assert_eq!(how_many(&mut polls, &[poll(1, word)]), 0);
        }
        for _ in 0..4 {
            assert_eq!(how_many(&mut polls, &[poll(1, 1_000), poll(2, 7)]), 0);
        }
        assert_eq!(how_many(&mut polls, &[poll(1, 1_000), poll(2, 8)]), 1);
        assert_eq!(how_many(&mut polls, &[poll(1, 1_000)]), 1, "it stands");
        assert_eq!(how_many(&mut polls, &[poll(1, 1_001)]), 0, "it is over");
        assert_eq!(how_many(&mut polls, &[]), 0);
        assert_eq!(how_many(&mut polls, &[poll(1, 1_000)]), 0, "what was not seen in between counts anew");
    }

    #[test]
    fn the_text_names_task_path_and_the_context_inside() {
        let inside =
            InPoll { inside: Some(Site { name: "timeout", place: Location::caller() }), ..poll(7, 1) };
        let mut polls = LongPolls::default();
        let matters: Vec<_> = (0..5).flat_map(|_| polls.look(TICK, LIMIT, [&inside])).collect();
        let [(subject, text)] = &matters[..] else { panic!("{matters:?}") };
        assert_eq!((subject.kind, &*subject.name), (AlertKind::LongPoll, "parse"));
        assert!(text.starts_with("one poll of task #7 `main/parse`, inside `timeout` ("), "{text}");
        assert!(text.contains("polls.rs:"), "{text}");
    }
}
