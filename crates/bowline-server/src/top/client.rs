//! Asking the process: the pages of `/debug/bowline` as JSON, over HTTP/1.1.
//!
//! # Invariants
//!
//! 1. Nothing is read without a bound: so many entries are asked for, and an answer of more than [`MAX_ANSWER_BYTES`] is
//!    refused, as a process that does not know the limit may send it.
//! 2. A round of questions ends within [`PATIENCE`]; a process whose runtime stands still answers nothing.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bowline::{Cancelled, Either, race, timeout};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::data::{Alert, Deadlock, Fields, Picture, Queue, Resource, Totals, Tree, entries};
use super::target::Target;

/// Bytes of one answer: some 50,000 tasks.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Time for all pages of one picture.
const PATIENCE: Duration = Duration::from_secs(5);

/// Entries of a page that is a list.
const MAX_ENTRIES: usize = 1_000;

/// What a picture should show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) tasks: WantedTasks,
    /// The task whose own page is wanted.
    pub(super) opened: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WantedTasks {
    /// The tree, with so many of one name in one scope.
    Tree { each: usize },
    /// The first of those that are like that: the rest of the query, beginning with `&`.
    List { max: usize, query: String },
}

impl Wanted {
    /// The page of the tasks.
    fn tasks(&self) -> String {
        match &self.tasks {
            WantedTasks::Tree { each } => format!("tree?format=json&each={each}"),
            WantedTasks::List { max, query } => format!("tasks?format=json&limit={max}{query}"),
        }
    }
}

/// Why there is no picture.
#[derive(Debug)]
pub(super) enum FetchError {
    /// Nobody answers there.
    Connect(std::io::Error),
    /// Somebody does, but this is not the process that is looked for.
    NotBowline(String),
    /// The answer is larger than is read.
    TooLarge,
    /// The process did not answer in time.
    Late,
    /// The connection broke.
    Broken(String),
    /// This program is ending.
    Cancelled(Cancelled),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "{}", system_words(error)),
            Self::NotBowline(what) => f.write_str(what),
            Self::TooLarge => {
                write!(f, "an answer is larger than {} MiB: narrow it with a filter", MAX_ANSWER_BYTES >> 20)
            }
            Self::Late => write!(f, "no answer within {PATIENCE:?}: its runtime may stand still"),
            Self::Broken(why) => write!(f, "the connection broke: {why}"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for FetchError {}

impl From<Cancelled> for FetchError {
    fn from(cancelled: Cancelled) -> Self {
        if cancelled.is_deadline() { Self::Late } else { Self::Cancelled(cancelled) }
    }
}

impl From<hyper::Error> for FetchError {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() {
            return Self::NotBowline("what answers there does not speak HTTP".to_owned());
        }
        Self::Broken(error.to_string())
    }
}

impl FetchError {
    /// What a person may do about it, at the first try.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Connect(_) => {
                "is the process running, and is this its internal listener? `bowline serve` says at its start where \
                 the task tree is"
            }
            Self::NotBowline(_) => "`bowline top` looks at a process that serves /debug/bowline",
            Self::TooLarge | Self::Late | Self::Broken(_) | Self::Cancelled(_) => "try again",
        }
    }
}

/// The error of a socket, without the number.
fn system_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nobody listens there (connection refused)".to_owned(),
        _ => error.to_string(),
    }
}

/// Takes a picture of the process.
///
/// # Cancel safety
///
/// Dropping it closes the connection.
pub(super) async fn picture(target: &Target, wanted: &Wanted) -> Result<Picture, FetchError> {
    timeout(PATIENCE, Questions { target }.picture(wanted)).await?
}

/// What is asked. Each page has a connection of its own: one that was left open may lead to a process that is gone, and some
/// servers close it after every answer.
struct Questions<'a> {
    target: &'a Target,
}

impl Questions<'_> {
    async fn picture(self, wanted: &Wanted) -> Result<Picture, FetchError> {
        let page = match self.page(&wanted.tasks()).await? {
            // The first version had the tree on the page of the tasks.
            None => self.page("tasks?format=json").await?,
            page => page,
        };
        let Some(page) = page else {
            return Err(FetchError::NotBowline(format!("there is no page {}", self.target.page("tasks"))));
        };
        let totals = Totals::read(&page);
        if totals.tasks.is_none() && page.get("roots").is_none() {
            let what = format!("what {} answers are no tasks", self.target.page("tasks"));
            return Err(FetchError::NotBowline(what));
        }
        let mut picture = Picture { totals, tree: Some(Tree::read(&page)), ..Picture::default() };
        drop(page); // the largest, before the others come
        if let Some(task) = wanted.opened {
            let page = self.page(&format!("tasks/{task}?format=json")).await?;
            page.iter().for_each(|page| picture.learn_names(page));
            picture.opened = page.map(|page| (task, page));
        }
        picture.queues = self.list("queues", Queue::read, &mut picture).await?;
        picture.waits = self.list("waits", Resource::read, &mut picture).await?;
        picture.alerts = self.list("alerts", Alert::read, &mut picture).await?;
        picture.deadlocks = self.list("deadlocks", Deadlock::read, &mut picture).await?;
        Ok(picture)
    }

    async fn list<T>(
        &self,
        name: &str,
        read: fn(Fields<'_>) -> T,
        picture: &mut Picture,
    ) -> Result<Option<Vec<T>>, FetchError> {
        let page = self.page(&format!("{name}?format=json&limit={MAX_ENTRIES}")).await?;
        Ok(page.map(|page| {
            picture.learn_names(&page);
            let mut found = entries(&page, name, read);
            found.truncate(MAX_ENTRIES);
            found
        }))
    }

    /// A page; `None` if there is none.
    async fn page(&self, page: &str) -> Result<Option<Value>, FetchError> {
        let stream = TcpStream::connect(self.target.address()).await.map_err(FetchError::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The connection moves bytes while the answer is awaited. If it ends, whoever awaits that hears of it.
        let moving = async {
            let _ = connection.await;
            std::future::pending::<Infallible>().await
        };
        match race(self.ask(sender, &self.target.page(page)), moving).await {
            Either::Left(answer) => answer,
            Either::Right(never) => match never {},
        }
    }

    async fn ask(
        &self,
        mut sender: SendRequest<Empty<Bytes>>,
        path: &str,
    ) -> Result<Option<Value>, FetchError> {
        let request = Request::get(path)
            .header(header::HOST, self.target.address())
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| FetchError::Broken(error.to_string()))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => (*error).into(),
            Err(error) if error.is::<LengthLimitError>() => FetchError::TooLarge,
            Err(error) => FetchError::Broken(error.to_string()),
        })?;
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(FetchError::NotBowline(format!("it answers {path} with {status}"))),
        }
        serde_json::from_slice(&body.to_bytes()).map(Some).map_err(|error| {
            FetchError::NotBowline(format!("what it answers to {path} is not Bowline's JSON: {error}"))
        })
    }
}
