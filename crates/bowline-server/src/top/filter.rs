//! What people type behind `/`: words of a name, `op:recv`, `wait:5s`, `age:1m`.

use std::time::Duration;

use super::data::Task;

/// Which tasks are of interest; every part must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Parts of the name, or of the path, in lower case.
    names: Vec<String>,
    op: Option<String>,
    min_wait: Duration,
    min_age: Duration,
}

impl Filter {
    /// Reads what was typed. A time that is not one yet, as while it is being typed, does not count.
    pub(super) fn parse(text: &str) -> Self {
        let mut filter = Self::default();
        for word in text.split_whitespace() {
            match word.split_once(':') {
                Some(("op", op)) => filter.op = Some(op.to_lowercase()).filter(|op| !op.is_empty()),
                Some(("wait", time)) => filter.min_wait = time_in(time).unwrap_or_default(),
                Some(("age", time)) => filter.min_age = time_in(time).unwrap_or_default(),
                _ => filter.names.push(word.to_lowercase()),
            }
        }
        filter
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the text has all words of the name.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.is_empty() || {
            let name = name.to_lowercase();
            self.names.iter().all(|word| name.contains(&**word))
        }
    }

    pub(super) fn takes(&self, task: &Task) -> bool {
        let long = |min: Duration, millis: u64| min <= Duration::from_millis(millis);
        let op_is = |op: &String| {
            task.wait().is_some_and(|wait| wait.op.eq_ignore_ascii_case(op)) || state_is(task, op)
        };
        let waits =
            self.min_wait.is_zero() || task.wait().is_some_and(|wait| long(self.min_wait, wait.for_ms));
        let is_named =
            self.has_name(&task.name) || task.path.as_ref().is_some_and(|path| self.has_name(path));
        is_named && self.op.as_ref().is_none_or(op_is) && waits && long(self.min_age, task.age_ms)
    }

    /// What the process is asked for; parts that it does not know it ignores, and they are left to us.
    pub(super) fn query(&self) -> String {
        let mut query = String::new();
        let mut add = |name: &str, value: &str| query.push_str(&format!("&{name}={}", escaped(value)));
        // A process looks for one part of a name.
        if let Some(name) = self.names.first() {
            add("name", name);
        }
        if let Some(op) = &self.op {
            add(if STATES.contains(&&**op) { "state" } else { "op" }, op);
        }
        for (name, min) in [("age", self.min_age), ("wait", self.min_wait)] {
            if !min.is_zero() {
                add(name, &format!("{}ms", min.as_millis()));
            }
        }
        query
    }
}

/// What a task can be at when it waits at nothing of ours.
const STATES: [&str; 5] = ["new", "running", "parked", "blocking", "ended"];

/// `op:parked` and `op:running` find those that wait at nothing of ours.
fn state_is(task: &Task, op: &str) -> bool {
    matches!(&task.state, super::data::State::Is(is) if is.eq_ignore_ascii_case(op))
}

/// `5s`, `500ms`, `2h`; a bare number is seconds.
fn time_in(text: &str) -> Option<Duration> {
    let seconds = || Duration::try_from_secs_f64(text.parse().ok()?).ok();
    humantime::parse_duration(text).ok().or_else(seconds)
}

/// Text as it stands in a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::data::State;
    use super::super::data::tree::Wait;
    use super::*;

    fn task(name: &str, op: &str, for_ms: u64, age_ms: u64) -> Task {
        let state = match op {
            "parked" => State::Is(op.to_owned()),
            _ => State::Waiting(Wait { op: op.to_owned(), on: None, for_ms }),
        };
        Task { name: name.to_owned(), age_ms, state, ..Task::default() }
    }

    #[test]
    fn every_part_must_hold() {
        let tasks = [
            task("connection", "recv", 6_000, 60_000),
            task("Connection writer", "send", 10, 60_000),
            task("sweep", "sleep", 900, 5_000),
            task("internal connection", "parked", 0, 100),
        ];
        let found = |text: &str| {
            let filter = Filter::parse(text);
            tasks.iter().map(|task| if filter.takes(task) { 'x' } else { '.' }).collect::<String>()
        };
        assert_eq!(found(""), "xxxx");
        assert_eq!(found("CONN"), "xx.x");
        assert_eq!(found("conn writer"), ".x..");
        assert_eq!(found("op:recv"), "x...");
        assert_eq!(found("op:parked"), "...x");
        assert_eq!(found("wait:500ms"), "x.x.");
        assert_eq!(found("age:1m conn wait:1"), "x...");
        assert_eq!(found("wait: age:so op:"), "xxxx", "what is being typed does not hide everything");
        assert_eq!(found("wait:99999999999999999999999y"), "xxxx");
    }

    #[test]
    fn the_process_is_asked_for_what_it_can_choose() {
        let query = Filter::parse("näme b op:recv age:2s wait:1s").query();
        assert_eq!(query, "&name=n%C3%A4me&op=recv&age=2000ms&wait=1000ms");
        assert_eq!(Filter::parse("op:parked").query(), "&state=parked");
        assert!(Filter::parse(" ").query().is_empty() && Filter::parse(" ").is_empty());
    }
}
