//! Pages that say what goes on, for people and for programs: who lives, who waits for what, who holds it, what is full.
//!
//! [`answer`] is a plain function from a path to a page, for any server. Mount it below `/debug/bowline/` on a listener that is
//! **not for the world**: whoever reads these pages learns the names, places and load of the program, and nobody is asked for a
//! key. With the feature `axum`, `router` is the same as routes; with `opentelemetry`, `observe` gives the numbers to a meter.
//!
//! | page | what it shows |
//! |---|---|
//! | `/debug/bowline/` | the list of pages |
//! | `tasks` | who lives and what they do: `?name=`, `?op=recv`, `?state=waiting`, `?age=5s`, `?wait=250ms`, `?below=ID`, `?sort=wait\|age\|polls\|busy\|idle\|size\|name` |
//! | `tasks/ID` | one of them: where it stands, what it waits for and who holds that, who could help it on ([`explain`](crate::explain())), what is below it: `?explain=yes\|no` |
//! | `tree` | everything as a tree: `?each=10` of one name in one scope, `?below=ID` |
//! | `deadlocks` | who will never go on, with the proof: [`Deadlock`](crate::Deadlock) |
//! | `waits`, `locks` | who waits for which lock, queue or channel, and who holds it |
//! | `suspicions` | who has waited for long, which may be all right: `?wait=10s` |
//! | `queues` | every queue and channel, the one with the oldest item first |
//! | `alerts`, `panics` | what a person should look at |
//! | `pools`, `pipelines`, `bulkheads`, `cpu`, `buffers`, `leases` | bounded work |
//! | `breakers`, `retries`, `effects`, `copies` | calls that may fail |
//! | `supervisors`, `schedules` | things that run for ever |
//! | `metrics` | numbers for Prometheus: [`metrics()`] |
//!
//! A page is text of eighty columns, the worst first, or JSON with `?format=json` (or `Accept: application/json`). `?limit=`
//! says how many rows; `?limit=all` on `tasks` streams every task. Names are data: what a terminal would obey is escaped.
//!
//! # JSON
//!
//! A page is one object. Its list has the name of the page, and `more` is how many the limit left out. The entries are what the
//! listing functions return: [`PoolStats`](crate::PoolStats) of [`pools()`](crate::pools()) and so on. Fields are added, never
//! changed. Ids are those of [`Handle::id`](crate::Handle::id), unique in the process.
//!
//! - `tasks`: `total`, `blocking`, `runtime_tasks` and `foreign_tasks` as in [`Tree`](crate::Tree); `states` and `waits` count
//!   tasks by state and by operation; `matched` is how many were asked for. Each of `tasks` has `id`, `name`, `place`, `age_ms`,
//!   `state`, `polls`, `idle_ms`, `future_bytes`, `generation`, `poll_times`, `cancelled` as in
//!   [`TaskInfo`](crate::TaskInfo), `parent` (the scope that owns it), `above` (the task in
//!   which that was opened), `path` (names from the root down) and `kind` (`task`, `daemon`, `blocking`).
//! - `tasks/ID`: `task` as above; `above`: the scopes and tasks around it; `cancelled`: why, if it is; `waits_for`: the
//!   [`ResourceInfo`](crate::ResourceInfo) or the `task`; `explanation`: an [`Explanation`](crate::Explanation), or a text that
//!   says why there is none; `tree`: a [`Tree`](crate::Tree) of what is below; `names`: paths by id.
//! - `tree`: a [`Tree`](crate::Tree); `more` in a scope counts, by name, the tasks that were left out.
//! - `queues`: [`QueueStats`](crate::QueueStats) and [`ChannelStats`](crate::ChannelStats) (in `channels`), each with `task` and
//!   `path` of where it was made.
//! - `waits`, `locks`: [`ResourceInfo`](crate::ResourceInfo); `groups` sums them up by kind, name and place; `names` has the
//!   path of each task that occurs.
//!
//! # Cost
//!
//! Nothing is counted beforehand: a page looks at what lives when it is asked for, without a lock held on the way. [`Body`] is made in
//! pieces of some hundred tasks, so a server that gives way between two of them serves a million without anybody noticing.
//! `waits`, `locks` and `suspicions` look at everything contended, and `tasks/ID` for its task, in one go before that. `tasks/ID`
//! explains a wait on a thread of its own, which looks at all tasks three times: beyond 10,000 tasks only with `?explain=yes`.

mod best;
#[cfg(test)]
mod golden;
mod listings;
mod live;
mod metrics;
#[cfg(feature = "opentelemetry")]
mod otel;
mod query;
mod queues;
#[cfg(feature = "axum")]
mod router;
mod samples;
mod task;
mod tasks;
mod text;
mod waits;
mod walk;

use std::fmt::{self, Write as _};

use serde::Serialize;

pub use self::metrics::metrics;
#[cfg(feature = "opentelemetry")]
pub use self::otel::observe;
use self::query::{Format, Query};
#[cfg(feature = "axum")]
pub use self::router::router;
pub use self::tasks::write_tasks;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The text format of Prometheus.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where the pages are.
const PREFIX: &str = "/debug/bowline";

/// The page that is of another kind than the others.
const METRICS: &str = "metrics";

/// What [`answer`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The status of HTTP: 200; 400 for parameters that mean nothing, 404 for a task that is gone.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The page.
    pub body: Body,
}

/// A page, made while it is read.
///
/// It is an iterator over pieces; some are empty, and all of them together are the page. Making one takes less than a millisecond:
/// give way to others between two ([`tokio::task::yield_now`]), and wait until one is written before you take the next. What is
/// not read is not made.
pub struct Body(Box<dyn Iterator<Item = Vec<u8>> + Send>);

impl Body {
    fn whole(page: Vec<u8>) -> Self {
        Self(Box::new(std::iter::once(page)))
    }

    fn from_pieces(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Self {
        Self(Box::new(pieces))
    }

    /// Makes all of it at once. Text of a million tasks with `limit=all` is some hundred megabytes; other pages are small.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.flatten().collect()
    }
}

impl Iterator for Body {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.0.next()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

/// What a page is made by.
type Make = fn(Query) -> Body;

/// The pages, in the order of the index, with what they show.
const PAGES: &[(&str, &str, Make)] = &[
    ("alerts", "what a person should look at", listings::alerts),
    ("tasks", "who lives and what they do; tasks/ID is one of them", tasks::page),
    ("tree", "the same as a tree", live::page),
    ("deadlocks", "who will never go on, and why", listings::deadlocks),
    ("waits", "who waits for what, and who holds it", waits::waits),
    ("locks", "the same, of locks and signals", waits::locks),
    ("suspicions", "who has waited for long, at least ?wait=10s", listings::suspicions),
    ("queues", "queues and channels, the oldest item first", queues::page),
    ("pools", "worker pools and their queues", listings::pools),
    ("pipelines", "stages, and which of them holds up the others", listings::pipelines),
    ("bulkheads", "calls at a time, and who waits for a place", listings::bulkheads),
    ("cpu", "lanes for jobs that compute or block", listings::cpu),
    ("buffers", "pools of memory, and who holds it", listings::buffers),
    ("leases", "connections and the like, and who holds them", listings::leases),
    ("breakers", "upstreams that fail", listings::breakers),
    ("retries", "budgets of retries", listings::retries),
    ("effects", "effects that happen once per key", listings::effects),
    ("copies", "last good answers of coordinators", listings::copies),
    ("supervisors", "children that are started again", listings::supervisors),
    ("schedules", "jobs, when they ran and when they will", listings::schedules),
    ("panics", "panics that were caught, by task", listings::panics),
];

/// Answers a `GET` or `HEAD` of a page below `/debug/bowline/`; `None` if there is no such page.
///
/// `query` is what stands behind the `?`, `accept` the header of that name. Call it in the runtime whose tasks are to be seen.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let page = bowline::debug::answer("/debug/bowline/tasks", Some("sort=age&limit=10"), None).unwrap();
/// assert_eq!((page.status, page.content_type), (200, "text/plain; charset=utf-8"));
/// println!("{}", String::from_utf8_lossy(&page.body.into_bytes()));
///
/// assert!(bowline::debug::answer("/debug/bowline/secrets", None, None).is_none());
/// # });
/// ```
#[must_use]
pub fn answer(path: &str, query: Option<&str>, accept: Option<&str>) -> Option<Answer> {
    let rest = path.strip_prefix(PREFIX)?;
    let page = match rest {
        "" => "",
        _ => rest.strip_prefix('/')?,
    };
    let page = page.strip_suffix('/').unwrap_or(page);
    let one = page.strip_prefix("tasks/");
    let make = PAGES.iter().find(|(name, ..)| *name == page).map(|(.., make)| *make);
    let is_other = page.is_empty() || page == METRICS || one.is_some();
    if make.is_none() && !is_other {
        return None;
    }
    let query = match Query::parse(query, accept) {
        Ok(query) => query,
        Err(wrong) => return Some(Answer::text(400, wrong)),
    };
    if let Some(id) = one {
        let id = id.trim_start_matches('#').parse().ok()?;
        return Some(task::answer(id, query));
    }
    if page == METRICS {
        return Some(metrics::answer());
    }
    let content_type = content_type(query.format);
    let body = match make {
        Some(make) => make(query),
        None => index(query),
    };
    Some(Answer { status: 200, content_type, body })
}

impl Answer {
    fn text(status: u16, line: String) -> Self {
        Self { status, content_type: TEXT, body: Body::whole(format!("{line}\n").into_bytes()) }
    }
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Text => TEXT,
        Format::Json => JSON,
    }
}

#[derive(Serialize)]
struct Index {
    pages: Vec<PageInfo>,
}

#[derive(Serialize)]
struct PageInfo {
    path: String,
    shows: &'static str,
}

fn index(query: Query) -> Body {
    let listed =
        PAGES.iter().map(|(name, shows, _)| (*name, *shows)).chain([(METRICS, "numbers for Prometheus")]);
    let pages: Vec<PageInfo> =
        listed.map(|(name, shows)| PageInfo { path: format!("{PREFIX}/{name}"), shows }).collect();
    Body::whole(match query.format {
        Format::Json => json(&Index { pages }),
        Format::Text => {
            let mut text = query.complaint();
            for PageInfo { path, shows } in pages {
                // Writing into a String does not fail.
                let _ = writeln!(text, "{path:<27} {shows}");
            }
            text.push_str("\n?format=json for programs; ?name= and ?limit= on every list\n");
            text.into_bytes()
        }
    })
}

/// Serializes what has only string keys and finite numbers, or says what is wrong with it.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value)
        .unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }).to_string().into_bytes())
}
