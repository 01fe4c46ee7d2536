//! One thing, with all that is known of it: lines, some of which lead on to other things.

use super::super::data::{Below, Deadlock, Fields, Queue, Resource, Task, Tree, outline};
use super::super::model::Model;
use super::super::table::{Cell, Column, Key, Row, Side, Table, Tone};
use super::super::words::{counted, fit, fit_end, grouped, rate, short, sparkline, wrapped};
use super::{doing, findings};

/// Tasks, waiters or holders that are listed; more are counted.
const MAX_LISTED: usize = 100;

pub(super) fn table(model: &Model, key: &Key) -> Table {
    let mut page = Lines { model, columns: usize::from(model.size.0), rows: Vec::new() };
    match key {
        Key::Task(id) => page.task(*id),
        Key::Queue(id) => page.queue(*id),
        Key::Resource(id) => page.resource(*id),
        Key::Alert(alert) => page.alert(alert),
        Key::Deadlock(id) => page.deadlock(*id),
        Key::Scope(_) | Key::Channel(_) | Key::More(..) | Key::Line(_) => {}
    }
    Table {
        columns: vec![Column::new("", 0, Side::Left)],
        rows: page.rows,
        if_empty: "it is gone".to_owned(),
    }
}

/// Parts of a task's page that have a form of their own here.
const SHOWN: [&str; 10] = [
    "task",
    "above",
    "cancelled",
    "waits_for",
    "explanation",
    "holds",
    "queues",
    "channels",
    "tree",
    "names",
];

struct Lines<'m> {
    model: &'m Model,
    columns: usize,
    rows: Vec<Row>,
}

impl Lines<'_> {
    fn line(&mut self, text: &str, tone: Tone, opens: Option<Key>) {
        // A line that leads on is one row, so that one step of the cursor is one thing.
        let indent = text.len() - text.trim_start().len();
        let lines = match opens {
            Some(_) => vec![text.to_owned()],
            None => wrapped(text.trim_start(), self.columns.saturating_sub(indent + 2)),
        };
        for line in lines {
            let pad = if opens.is_some() { 0 } else { indent };
            let mark = if opens.is_some() { "→ " } else { "  " };
            let cells = vec![Cell::new(format!("{mark}{:pad$}{line}", ""), tone)];
            let key = Key::Line(self.rows.len());
            self.rows.push(Row { key, cells, opens: opens.clone(), is_folded: None, depth: 0 });
        }
    }

    fn say(&mut self, text: &str) {
        self.line(text, Tone::Plain, None);
    }

    fn title(&mut self, text: &str) {
        self.line(text, Tone::Strong, None);
    }

    fn head(&mut self, text: &str) {
        let key = Key::Line(self.rows.len());
        self.rows.push(Row { key, cells: vec![Cell::default()], opens: None, is_folded: None, depth: 0 });
        self.title(text);
    }

    fn field(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.say(&format!("{name:<10} {value}"));
        }
    }

    fn link(&mut self, text: &str, opens: Option<Key>) {
        self.line(&format!("  {text}"), Tone::Plain, opens);
    }

    fn gone(&mut self, what: &str) {
        self.title(&format!("{what} is gone, or not among those that the process shows"));
        self.say("esc goes back");
    }

    fn task(&mut self, id: u64) {
        let picture = &self.model.picture;
        let in_tree = picture.tree.as_ref().and_then(|tree| tree.find(id));
        let page = picture.opened.as_ref().filter(|(of, _)| *of == id).map(|(_, page)| Fields(page));
        // The page of the task itself knows more, and also knows tasks that are not among those in the tree.
        let own = page.map(|page| Task::read(page.inside("task"))).filter(|task| task.id == id);
        let Some(task) = own.as_ref().or(in_tree.as_ref().map(|(task, _)| *task)) else {
            return self.gone(&format!("task {}", self.model.called(id)));
        };
        self.title(&format!("task {} #{id}", task.name));
        let path = task.path.clone().or_else(|| {
            let around = in_tree.as_ref().map(|(_, around)| around)?;
            Some(around.iter().map(|task| format!("{}/", task.name)).collect::<String>() + &task.name)
        });
        self.field("path", &path.unwrap_or_default());
        self.field("spawned", &format!("{} ago at {}", short(task.age_ms), task.place));
        let (state, since, _) = doing(self.model, task);
        let since = if since.is_empty() { since } else { format!(", for {since}") };
        let what = if task.wait().is_some() { "waits" } else { "does" };
        self.field(what, &format!("{state}{since}"));
        let busy = task.busy_ms.map(|busy| format!(", busy for {} in all", short(busy))).unwrap_or_default();
        let last = task.idle_ms.map(|idle| format!(", last {} ago", short(idle))).unwrap_or_default();
        self.field("polled", &format!("{} times{last}{busy}", grouped(task.polls)));
        let bytes = task.future_bytes.map(|bytes| format!("{} bytes", grouped(bytes)));
        let life = task.generation.map(|life| format!("life {} of a supervised child", grouped(life)));
        self.field("future", &bytes.into_iter().chain(life).collect::<Vec<_>>().join("; "));
        if task.is_cancelled {
            let why = page.and_then(|page| page.some_text("cancelled"));
            self.field("cancelled", &why.unwrap_or_else(|| "it was asked to stop".to_owned()));
        }
        let told = page.map(|page| page.inside("waits_for").inside("resource"));
        let told = told.map(Resource::read).filter(|resource| resource.id != 0);
        if let Some(on) = task.wait().and_then(|wait| wait.on) {
            self.waited_for(on, told);
        }
        let Some(page) = page else { return self.below(&task.below) };
        if let Some(why) = page.value("explanation") {
            self.told("whether it can go on", why);
        }
        let held = page.list("holds", Resource::read);
        for resource in &held {
            self.head(&format!(
                "it holds {} {} #{}, and others wait",
                resource.kind, resource.name, resource.id
            ));
            self.books(resource);
        }
        let more = page.0.as_object().into_iter().flatten().filter(|(name, _)| !SHOWN.contains(&&***name));
        for (name, value) in more {
            self.told(name, value);
        }
        // What is below it is told apart from the task itself.
        let tree = Tree::read(page.inside("tree").0);
        let queues = page.list("queues", |queue| Queue::read(queue).in_task(id));
        let scopes = if tree.is_list { Vec::new() } else { tree.roots };
        match scopes.is_empty() && queues.is_empty() {
            true => self.below(&task.below),
            false => self.below(&Below { scopes, queues, ..Below::default() }),
        }
    }

    /// What a task waits for: a lock, a queue, or another task.
    fn waited_for(&mut self, on: u64, told: Option<Resource>) {
        let picture = &self.model.picture;
        let known = picture.waits.iter().flatten().find(|resource| resource.id == on).cloned();
        if let Some(resource) = told.or(known) {
            self.head(&format!("it waits for {} {} #{on}", resource.kind, resource.name));
            self.books(&resource);
        } else if let Some(queue) = picture.queues.iter().flatten().find(|queue| queue.id == on) {
            self.head("it waits for");
            self.link(&queue_words(queue), Some(Key::Queue(on)));
        } else if picture.names.contains_key(&on)
            || picture.tree.as_ref().is_some_and(|tree| tree.find(on).is_some())
        {
            self.head("it waits for the end of");
            let (who, opens) = self.who(Some(on));
            self.link(&who, opens);
        }
    }

    /// What the process says beyond what is known here: why, for example.
    fn told(&mut self, name: &str, value: &serde_json::Value) {
        let lines = outline(value);
        if !lines.is_empty() {
            self.head(&name.replace('_', " "));
            lines.iter().for_each(|line| self.say(&format!("  {line}")));
        }
    }

    fn below(&mut self, below: &Below) {
        if below.is_empty() {
            return;
        }
        let count = below.count();
        self.head(&if count > 0 {
            format!("below it: {}", counted(count, "task"))
        } else {
            "below it".to_owned()
        });
        for queue in &below.queues {
            self.link(&queue_words(queue), Some(Key::Queue(queue.key)));
        }
        let mut tasks: Vec<&Task> = Vec::new();
        collect(below, &mut tasks);
        tasks.iter().take(MAX_LISTED).for_each(|task| self.task_link(task));
        self.more(tasks.len());
    }

    fn more(&mut self, count: usize) {
        if count > MAX_LISTED {
            self.say(&format!("  … {} more", count - MAX_LISTED));
        }
    }

    fn task_link(&mut self, task: &Task) {
        let (state, since, _) = doing(self.model, task);
        self.link(&format!("task {} #{}  {state} {since}", task.name, task.id), Some(Key::Task(task.id)));
    }

    fn who(&self, task: Option<u64>) -> (String, Option<Key>) {
        match task {
            Some(task) => {
                // What comes behind the name is to be read too.
                let name =
                    self.model.name_of(task).map(|name| fit(name, self.columns / 3)).unwrap_or_default();
                (format!("task {name} #{task}"), Some(Key::Task(task)))
            }
            None => ("somebody unknown".to_owned(), None),
        }
    }

    /// Who waits, who holds, who could end the wait.
    fn books(&mut self, resource: &Resource) {
        self.field("  state", &resource.state);
        self.field("  made at", &resource.place);
        if resource.waits > 0 {
            self.field("  waits", &format!("{} so far", grouped(resource.waits)));
        }
        for holder in resource.holders.iter().take(MAX_LISTED) {
            let (who, opens) = self.who(holder.task);
            let sure = if holder.is_certain { "held by" } else { "taken by" };
            let amount = if holder.amount > 1 { format!("{} of it ", holder.amount) } else { String::new() };
            self.link(
                &format!("{sure} {who}: {amount}for {}, taken at {}", short(holder.for_ms), holder.place),
                opens,
            );
        }
        self.more(resource.holders.len());
        for waiter in resource.waiters.iter().take(MAX_LISTED) {
            let (who, opens) = self.who(waiter.task);
            let granted = if waiter.is_granted { ", granted and not fetched" } else { "" };
            self.link(
                &format!(
                    "{who} waits to {} for {}{granted}, at {}",
                    waiter.op,
                    short(waiter.for_ms),
                    waiter.place
                ),
                opens,
            );
        }
        self.more(resource.waiters.len());
        for end in resource.ends.iter().filter(|end| end.ends > 0).take(MAX_LISTED) {
            let (who, opens) = self.who(end.task);
            let times = if end.ends > 1 { format!(" ×{}", end.ends) } else { String::new() };
            self.link(&format!("{}{times} held by {who}", end.role), opens);
        }
    }

    fn queue(&mut self, id: u64) {
        let model = self.model;
        let Some(queue) = model.picture.queues.iter().flatten().find(|queue| queue.key == id) else {
            return self.gone("the queue");
        };
        self.title(&format!("queue {}", queue.called()));
        self.field("made in", &queue.path);
        self.field("made at", &queue.place);
        let bytes = match queue.max_bytes {
            Some(max) => format!(", {} of {} bytes", grouped(queue.depth_bytes), grouped(max)),
            None => String::new(),
        };
        let (depth, max) = (grouped(queue.depth_items), counted(queue.max_items, "item"));
        self.field(
            "holds",
            &format!("{depth} of {max}{bytes}, {} at most so far", grouped(queue.high_water_items)),
        );
        if queue.oldest_ms > 0 {
            self.field("oldest", &short(queue.oldest_ms));
        }
        self.field("if full", &queue.overflow.replace('_', " "));
        self.field("closed", &queue.closed.clone().unwrap_or_default().replace('_', " "));
        let past = model.history.of(id);
        let (sent, received) =
            (rate(past.and_then(|past| past.sent_rate)), rate(past.and_then(|past| past.received_rate)));
        self.field("sent", &format!("{} ({sent})", grouped(queue.sent)));
        self.field(
            "received",
            &format!("{} ({received}), {} in flight", grouped(queue.received), queue.in_flight),
        );
        if queue.lost > 0 {
            self.field("lost", &format!("{} dropped, refused or abandoned", grouped(queue.lost)));
        }
        let depths = past.map(|past| past.depths(self.columns.saturating_sub(14))).unwrap_or_default();
        self.field("depths", &sparkline(depths.iter().copied(), depths.iter().copied().max().unwrap_or(0)));
        let (senders, receivers) = (queue.waiting_senders, queue.waiting_receivers);
        if senders + receivers > 0 {
            self.field(
                "in line",
                &format!("{}, {}", counted(senders, "sender"), counted(receivers, "receiver")),
            );
        }
        for (what, holders) in [("sending ends", &queue.senders), ("receiving ends", &queue.receivers)] {
            if holders.is_empty() {
                continue;
            }
            self.head(&format!("{what} held by"));
            for task in holders.iter().take(MAX_LISTED) {
                let (who, opens) = self.who(*task);
                self.link(&who, opens);
            }
            self.more(holders.len());
        }
        if let Some(resource) = model.picture.waits.iter().flatten().find(|resource| resource.id == id) {
            self.head("in line");
            let waiters = Resource { holders: Vec::new(), ends: Vec::new(), ..resource.clone() };
            self.books(&Resource { state: String::new(), place: String::new(), waits: 0, ..waiters });
        }
    }

    fn resource(&mut self, id: u64) {
        let model = self.model;
        match model.picture.waits.iter().flatten().find(|resource| resource.id == id) {
            Some(resource) => {
                self.title(&format!("{} {} #{id}", resource.kind, resource.name));
                self.books(resource);
            }
            None => {
                self.title(&format!("nobody waits for {} any more", model.called(id)));
                self.say("esc goes back");
            }
        }
    }

    fn alert(&mut self, key: &str) {
        let model = self.model;
        let Some(alert) = model.picture.alerts.iter().flatten().find(|alert| findings::key(alert) == key)
        else {
            self.title("it is over");
            return self.say("esc goes back");
        };
        self.title(&format!("{}: {}", alert.kind, alert.name));
        self.field("since", &alert.for_ms.map(short).unwrap_or_default());
        self.field("place", &alert.place);
        if alert.left_out > 0 {
            self.field("again", &format!("{} times since it was told last", grouped(alert.left_out)));
        }
        self.head("what is the matter");
        self.say(&format!("  {}", alert.text));
    }

    fn deadlock(&mut self, id: u64) {
        let model = self.model;
        let Some(deadlock) = model.picture.deadlocks.iter().flatten().find(|deadlock| deadlock.id == id)
        else {
            return self.gone(&format!("deadlock {id}"));
        };
        let Deadlock { kind, verdict, tier, tasks, remedy, more, .. } = deadlock;
        self.title(&format!("deadlock {id}: {kind}"));
        self.field("verdict", verdict);
        self.field("proof", tier);
        self.head(&format!("{} can never go on", counted(tasks.len() as u64, "task")));
        for task in tasks.iter().take(MAX_LISTED) {
            let id = task.task.map(|id| format!(" #{id}")).unwrap_or_default();
            let behind = if task.is_cause { "" } else { "  (waits for the others)" };
            let path = fit_end(&task.path, self.columns.saturating_sub(36));
            self.link(&format!("{path}{id}{behind}"), task.task.map(Key::Task));
            for wait in &task.waits {
                self.say(&format!(
                    "    {} {} for {}, at {}",
                    wait.op,
                    wait.name,
                    short(wait.for_ms),
                    wait.place
                ));
                wait.why.iter().for_each(|why| self.say(&format!("      {why}")));
            }
        }
        self.more(tasks.len());
        if !remedy.is_empty() {
            self.head("what would mend it");
            self.say(&format!("  {remedy}"));
        }
        more.iter().for_each(|(name, value)| self.told(name, value));
    }
}

/// Tasks of all depths, the nearer first.
fn collect<'t>(below: &'t Below, tasks: &mut Vec<&'t Task>) {
    if tasks.len() > MAX_LISTED * 10 {
        return;
    }
    tasks.extend(&below.tasks);
    below.scopes.iter().for_each(|scope| collect(&scope.below, tasks));
    below.tasks.iter().for_each(|task| collect(&task.below, tasks));
}

fn queue_words(queue: &Queue) -> String {
    let oldest = if queue.depth_items > 0 {
        format!(", the oldest for {}", short(queue.oldest_ms))
    } else {
        String::new()
    };
    format!(
        "queue {}  {} of {}{oldest}",
        queue.called(),
        grouped(queue.depth_items),
        grouped(queue.max_items)
    )
}
