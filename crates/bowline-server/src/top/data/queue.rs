//! Queues.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::fields::Fields;

/// The books of a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Queue {
    /// What tells it from others: its number, or what is made of all that is known of one that has none. A program's own queues
    /// have none.
    pub(crate) key: u64,
    pub(crate) id: u64,
    /// The task it was made in, and where that stands.
    pub(crate) task: Option<u64>,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) depth_items: u64,
    pub(crate) max_items: u64,
    pub(crate) depth_bytes: u64,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) high_water_items: u64,
    pub(crate) oldest_ms: u64,
    pub(crate) overflow: String,
    pub(crate) closed: Option<String>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) in_flight: u64,
    /// Dropped, refused and abandoned items.
    pub(crate) lost: u64,
    pub(crate) waiting_senders: u64,
    pub(crate) waiting_receivers: u64,
    /// Tasks with sending ends, and with receiving ends; `None` is a task that is unknown.
    pub(crate) senders: Vec<Option<u64>>,
    pub(crate) receivers: Vec<Option<u64>>,
}

impl Queue {
    pub(crate) fn read(fields: Fields<'_>) -> Self {
        let holders = |name| fields.list(name, |holder| holder.some_number("task"));
        let id = fields.number("id");
        let (task, name, place) = (fields.some_number("task"), fields.text("name"), fields.text("place"));
        Self {
            key: id,
            id,
            task,
            path: fields.text("path"),
            name,
            place,
            depth_items: fields.number("depth_items"),
            max_items: fields.number("max_items"),
            depth_bytes: fields.number("depth_bytes"),
            max_bytes: fields.some_number("max_bytes"),
            high_water_items: fields.number("high_water_items"),
            oldest_ms: fields.number("oldest_ms"),
            overflow: fields.text("overflow"),
            closed: fields.some_text("closed"),
            sent: fields.number("sent"),
            received: fields.number("received"),
            in_flight: fields.number("in_flight"),
            lost: ["dropped", "refused", "abandoned"].iter().map(|name| fields.number(name)).sum(),
            waiting_senders: fields.number("waiting_senders"),
            waiting_receivers: fields.number("waiting_receivers"),
            senders: holders("senders"),
            receivers: holders("receivers"),
        }
        .told_apart()
    }

    /// The same, of which it is known that it was made in this task.
    pub(crate) fn in_task(self, task: u64) -> Self {
        Self { task: self.task.or(Some(task)), ..self }.told_apart()
    }

    fn told_apart(self) -> Self {
        let key = if self.id > 0 { self.id } else { key_of(&(self.task, &self.name, &self.place)) };
        Self { key, ..self }
    }

    /// Its name, and what tells it from others of that name.
    pub(crate) fn called(&self) -> String {
        match (self.id, self.task) {
            (0, Some(task)) => format!("{} of #{task}", self.name),
            (0, None) => self.name.clone(),
            (id, _) => format!("{} #{id}", self.name),
        }
    }

    /// How full it is, in percent: by items or by bytes, whichever is more.
    pub(crate) fn percent(&self) -> u64 {
        let part = |depth: u64, max: u64| depth.saturating_mul(100).checked_div(max).unwrap_or(0);
        part(self.depth_items, self.max_items).max(part(self.depth_bytes, self.max_bytes.unwrap_or(0)))
    }
}

/// A number above those that a process counts.
fn key_of(known: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    known.hash(&mut hasher);
    hasher.finish() | 1 << 63
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_program_s_own_queues_are_told_apart_by_their_tasks() {
        let read = |task: u64| {
            Queue::read(Fields(&json!({"id": 0, "name": "outbox", "place": "a.rs:1", "task": task})))
        };
        assert_eq!(read(1).key, read(1).key);
        assert_ne!(read(1).key, read(2).key);
        assert_eq!(read(7).called(), "outbox of #7");
        // The tree says by its place whose it is.
        let in_tree = Queue::read(Fields(&json!({"id": 0, "name": "outbox", "place": "a.rs:1"})));
        assert_eq!(in_tree.in_task(1).key, read(1).key);
        let numbered = Queue::read(Fields(&json!({"id": 9, "name": "orders", "task": 7})));
        assert_eq!((numbered.key, numbered.called()), (9, "orders #9".to_owned()));
    }
}
