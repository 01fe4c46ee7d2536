//! What a person should look at: alerts, and deadlocks that are proved.

use serde_json::Value;

use super::fields::{Fields, plain};
use crate::top::words::clean;

/// An alert that stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Alert {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) text: String,
    pub(crate) for_ms: Option<u64>,
    pub(crate) left_out: u64,
}

impl Alert {
    pub(crate) fn read(fields: Fields<'_>) -> Self {
        Self {
            kind: fields.text("kind").replace('_', " "),
            name: fields.text("name"),
            place: fields.text("place"),
            text: fields.text("text"),
            for_ms: ["for_ms", "since_ms", "age_ms"].iter().find_map(|name| fields.some_number(name)),
            left_out: fields.number("left_out"),
        }
    }
}

/// Tasks of which it is proved that they can never go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Deadlock {
    pub(crate) id: u64,
    pub(crate) verdict: String,
    pub(crate) tier: String,
    pub(crate) kind: String,
    pub(crate) tasks: Vec<DeadTask>,
    pub(crate) remedy: String,
    /// What else was said: by whom it may be cancelled, which wait closed the circle, what it holds up.
    pub(crate) more: Vec<(String, Value)>,
}

/// A task that stands still.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DeadTask {
    pub(crate) task: Option<u64>,
    pub(crate) path: String,
    /// Whether it is one of those that cause it; the others wait for them.
    pub(crate) is_cause: bool,
    pub(crate) waits: Vec<DeadWait>,
}

/// A wait that will never end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DeadWait {
    pub(crate) op: String,
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) for_ms: u64,
    /// Why nothing ends it.
    pub(crate) why: Vec<String>,
}

/// Fields that have a form of their own here; the resources are those of the waits.
const SHOWN: [&str; 6] = ["id", "tier", "kind", "tasks", "resources", "remedy"];

impl Deadlock {
    pub(crate) fn read(fields: Fields<'_>) -> Self {
        let words = |name: &str| fields.text(name).replace('_', " ");
        let mut more: Vec<(String, Value)> = Vec::new();
        for (name, value) in fields.0.as_object().into_iter().flatten() {
            match value.get("by").filter(|_| name == "verdict") {
                Some(by) => more.push(("cancelled by".to_owned(), by.clone())),
                None if name == "verdict" || SHOWN.contains(&&**name) => {}
                None => more.push((clean(name).replace('_', " "), value.clone())),
            }
        }
        Self {
            id: fields.number("id"),
            verdict: words("verdict"),
            tier: words("tier"),
            kind: words("kind"),
            tasks: fields.list("tasks", DeadTask::read),
            remedy: fields.text("remedy"),
            more,
        }
    }

    /// Who causes it; all, if nothing is said about that.
    pub(crate) fn causes(&self) -> Vec<&DeadTask> {
        let causes: Vec<&DeadTask> = self.tasks.iter().filter(|task| task.is_cause).collect();
        if causes.is_empty() { self.tasks.iter().collect() } else { causes }
    }
}

impl DeadTask {
    fn read(fields: Fields<'_>) -> Self {
        Self {
            task: fields.some_number("id"),
            path: fields.some_text("path").unwrap_or_else(|| fields.text("name")),
            is_cause: fields.is_true("is_cause"),
            waits: fields.list("waits", DeadWait::read),
        }
    }

    /// The last part of its path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl DeadWait {
    fn read(fields: Fields<'_>) -> Self {
        Self {
            op: fields.text("op"),
            name: fields.text("name"),
            place: fields.text("place"),
            for_ms: fields.number("for_ms"),
            why: fields.list("why", |why| plain(why.0)),
        }
    }
}
