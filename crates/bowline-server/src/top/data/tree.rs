//! The tree of tasks.

use serde_json::Value;

use super::Queue;
use super::fields::Fields;
use crate::top::words::clean;

/// What is known of the whole process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) tasks: Option<u64>,
    pub(crate) blocking: u64,
    /// Tasks nobody in the process owns.
    pub(crate) foreign: Option<u64>,
    /// Tasks ever spawned.
    pub(crate) spawned: Option<u64>,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) pid: Option<u64>,
    pub(crate) uptime_ms: Option<u64>,
    pub(crate) workers: Option<u64>,
}

impl Totals {
    pub(crate) fn read(page: &Value) -> Self {
        let (page, process) = (Fields(page), Fields(page).inside("process"));
        let number = |name: &str| process.some_number(name).or_else(|| page.some_number(name));
        Self {
            tasks: ["total", "tasks"].iter().find_map(|name| page.some_number(name)),
            blocking: page.number("blocking"),
            foreign: page.some_number("foreign_tasks"),
            spawned: number("spawned"),
            name: process.some_text("name"),
            version: process.some_text("version"),
            pid: number("pid"),
            uptime_ms: number("uptime_ms"),
            workers: number("workers"),
        }
    }
}

/// The scopes and tasks that live; or a list of those that were asked for, in the order they were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    pub(crate) roots: Vec<Scope>,
    pub(crate) is_list: bool,
    /// Tasks that the process did not send, and that are not counted where they belong.
    pub(crate) more: More,
}

/// How many tasks the process did not send, by name where it says so.
pub(crate) type More = Vec<(String, u64)>;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scope {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) place: String,
    pub(crate) cancelled: Option<String>,
    pub(crate) below: Below,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The names from the root down to it, if the process tells.
    pub(crate) path: Option<String>,
    pub(crate) place: String,
    pub(crate) age_ms: u64,
    pub(crate) state: State,
    pub(crate) polls: u64,
    pub(crate) busy_ms: Option<u64>,
    /// How long ago its last poll ended.
    pub(crate) idle_ms: Option<u64>,
    pub(crate) future_bytes: Option<u64>,
    /// Of a supervised child: which of its lives this is.
    pub(crate) generation: Option<u64>,
    pub(crate) is_cancelled: bool,
    pub(crate) below: Below,
}

/// What stands below a scope or task.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Below {
    pub(crate) tasks: Vec<Task>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) queues: Vec<Queue>,
    pub(crate) channels: Vec<Channel>,
    /// Tasks that the process did not send.
    pub(crate) more: More,
}

/// What a task does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum State {
    #[default]
    Unknown,
    Waiting(Wait),
    /// `running`, `parked` and so on.
    Is(String),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wait {
    pub(crate) op: String,
    pub(crate) on: Option<u64>,
    pub(crate) for_ms: u64,
}

/// A channel that is no queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Channel {
    pub(crate) id: u64,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) depth_items: u64,
    pub(crate) max_items: u64,
}

impl Tree {
    /// Reads the page, be it a tree or a list.
    pub(crate) fn read(page: &Value) -> Self {
        let fields = Fields(page);
        let (is_list, more) = (page.get("roots").is_none(), more(fields));
        let roots = if is_list {
            let below = Below { tasks: fields.list("tasks", Task::read), ..Below::default() };
            vec![Scope { below, ..Scope::default() }]
        } else {
            fields.list("roots", Scope::read)
        };
        Self { roots, is_list, more }
    }

    /// All queues of the tree.
    pub(crate) fn queues(&self) -> Vec<Queue> {
        let mut queues = Vec::new();
        self.roots.iter().for_each(|root| root.below.each_queue(&mut |queue| queues.push(queue.clone())));
        queues
    }

    /// Calls `see` for every task, with the tasks around it, the outermost first.
    pub(crate) fn each<'t>(&'t self, see: &mut impl FnMut(&'t Task, &[&'t Task])) {
        let mut around = Vec::new();
        for root in &self.roots {
            root.below.each(&mut around, see);
        }
    }

    /// The task of this identity, and the tasks around it.
    pub(crate) fn find(&self, id: u64) -> Option<(&Task, Vec<&Task>)> {
        let mut found = None;
        self.each(&mut |task, around| {
            if task.id == id && found.is_none() {
                found = Some((task, around.to_vec()));
            }
        });
        found
    }
}

impl Below {
    pub(crate) fn read(fields: Fields<'_>) -> Self {
        Self {
            tasks: fields.list("tasks", Task::read),
            scopes: fields.list("scopes", Scope::read),
            queues: fields.list("queues", Queue::read),
            channels: fields.list("channels", Channel::read),
            more: more(fields),
        }
    }

    fn each<'t>(&'t self, around: &mut Vec<&'t Task>, see: &mut impl FnMut(&'t Task, &[&'t Task])) {
        for task in &self.tasks {
            see(task, around);
            around.push(task);
            task.below.each(around, see);
            around.pop();
        }
        for scope in &self.scopes {
            scope.below.each(around, see);
        }
    }

    fn each_queue(&self, see: &mut impl FnMut(&Queue)) {
        self.queues.iter().for_each(&mut *see);
        self.tasks.iter().for_each(|task| task.below.each_queue(see));
        self.scopes.iter().for_each(|scope| scope.below.each_queue(see));
    }

    /// Tasks in it, at all depths, and those that were not sent.
    pub(crate) fn count(&self) -> u64 {
        let tasks: u64 = self.tasks.iter().map(|task| 1 + task.below.count()).sum();
        tasks + self.scopes.iter().map(|scope| scope.below.count()).sum::<u64>() + self.not_sent()
    }

    /// Tasks directly in it that were not sent.
    pub(crate) fn not_sent(&self) -> u64 {
        self.more.iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { tasks, scopes, queues, channels, more } = self;
        tasks.is_empty() && scopes.is_empty() && queues.is_empty() && channels.is_empty() && more.is_empty()
    }
}

/// `more: 7`, or `more: {"connection": 7}`.
fn more(fields: Fields<'_>) -> More {
    let by_name = fields.value("more").and_then(Value::as_object);
    let mut more: More = match by_name {
        Some(names) => names.iter().map(|(name, count)| (clean(name), count.as_u64().unwrap_or(0))).collect(),
        None => vec![(String::new(), fields.number("more"))],
    };
    more.retain(|(_, count)| *count > 0);
    more
}

impl Scope {
    fn read(fields: Fields<'_>) -> Self {
        Self {
            id: fields.number("id"),
            name: fields.text("name"),
            kind: fields.text("kind"),
            place: fields.text("place"),
            cancelled: fields.some_text("cancelled"),
            below: Below::read(fields),
        }
    }
}

impl Task {
    pub(crate) fn read(fields: Fields<'_>) -> Self {
        let (id, mut below) = (fields.number("id"), Below::read(fields));
        below.queues = below.queues.into_iter().map(|queue| queue.in_task(id)).collect();
        Self {
            id,
            name: fields.text("name"),
            path: fields.some_text("path"),
            place: fields.text("place"),
            age_ms: fields.number("age_ms"),
            state: State::read(fields.value("state")),
            polls: fields.number("polls"),
            busy_ms: fields.inside("poll_times").some_number("busy_us").map(|busy| busy / 1_000),
            idle_ms: fields.some_number("idle_ms"),
            future_bytes: fields.some_number("future_bytes"),
            generation: fields.some_number("generation"),
            is_cancelled: fields.is_true("cancelled"),
            below,
        }
    }

    /// What it waits for, if it waits at a primitive.
    pub(crate) fn wait(&self) -> Option<&Wait> {
        match &self.state {
            State::Waiting(wait) => Some(wait),
            State::Unknown | State::Is(_) => None,
        }
    }
}

impl State {
    fn read(state: Option<&Value>) -> Self {
        let Some(state) = state else { return Self::Unknown };
        let fields = Fields(state);
        match state.as_str().map(clean).or_else(|| fields.some_text("is")) {
            Some(is) if is == "waiting" => Self::Waiting(Wait {
                op: fields.text("op"),
                on: fields.some_number("on").filter(|on| *on != 0),
                for_ms: fields.number("for_ms"),
            }),
            Some(is) => Self::Is(is),
            None => Self::Unknown,
        }
    }
}

impl Channel {
    fn read(fields: Fields<'_>) -> Self {
        Self {
            id: fields.number("id"),
            kind: fields.text("kind"),
            name: fields.text("name"),
            depth_items: fields.number("depth_items"),
            max_items: fields.number("max_items"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_tree_of_this_very_program_is_read_whole() {
        let read = bowline::scope("read whole", async |s| {
            let (tx, rx) = s.queue::<u8>("words", bowline::Bound::items(4), bowline::Overflow::Block);
            tx.send(1).await?;
            s.spawn_daemon("waits", async { Err(bowline::cancelled().await) });
            tokio::task::yield_now().await;
            let page = serde_json::to_value(bowline::tree()).expect("a tree is JSON");
            drop((tx, rx));
            Ok::<_, bowline::Cancelled>((Tree::read(&page), Totals::read(&page)))
        });
        let (tree, totals) = read.await.expect("nobody cancels it");
        assert!(totals.tasks.is_some_and(|tasks| tasks >= 1), "other tests have tasks too");
        // The scope of this test is at the top, or in the body of what stands for the test.
        let below =
            |scope: &Scope| scope.below.scopes.iter().find(|scope| scope.name == "read whole").cloned();
        let own = tree
            .roots
            .iter()
            .find_map(|root| if root.name == "read whole" { Some(root.clone()) } else { below(root) });
        let own = own.expect("it is in the tree").below;
        assert_eq!(own.tasks.len(), 1);
        assert_eq!(
            (&*own.tasks[0].name, own.tasks[0].wait().map(|wait| &*wait.op)),
            ("waits", Some("cancelled"))
        );
        let queues: Vec<_> =
            own.queues.iter().map(|queue| (&*queue.name, queue.depth_items, queue.max_items)).collect();
        assert_eq!(queues, [("words", 1, 4)]);
    }

    #[test]
    fn a_list_of_tasks_is_read_too() {
        let page = json!({"total": 9_000, "more": 8_999,
            "tasks": [{"id": 4, "name": "a", "path": "main/a", "state": "running"}]});
        assert_eq!(Totals::read(&page).tasks, Some(9_000));
        let tree = Tree::read(&page);
        let (task, around) = tree.find(4).expect("it is there");
        assert_eq!((task.path.as_deref(), around.len()), (Some("main/a"), 0));
        assert_eq!(task.state, State::Is("running".to_owned()));
        assert_eq!((tree.is_list, tree.more), (true, vec![(String::new(), 8_999)]));
    }

    #[test]
    fn what_was_not_sent_is_counted() {
        let page = json!({"roots": [{"more": {"a": 2, "b": 3, "c": 0}, "tasks": [{"id": 1}], "scopes": [{"more": 4}]}]});
        let below = &Tree::read(&page).roots[0].below;
        assert_eq!((below.not_sent(), below.count()), (5, 10));
        assert_eq!(below.more, [("a".to_owned(), 2), ("b".to_owned(), 3)]);
    }

    #[test]
    fn a_newer_process_may_say_what_nobody_here_knows() {
        let page = json!({"tasks": "many", "roots": [{"tasks": [{"state": {"is": "waiting", "op": "levitate"}, "place": {"file": "x"}}, 7, null]}]});
        let tree = Tree::read(&page);
        let tasks = &tree.roots[0].below.tasks;
        assert_eq!(tasks.len(), 3);
        assert_eq!(tasks[0].wait().map(|wait| &*wait.op), Some("levitate"));
        assert_eq!((&tasks[1].state, &*tasks[1].name), (&State::Unknown, ""));
    }
}
