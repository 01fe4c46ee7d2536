//! `bowline top`: looks at a process that mounts `/debug/bowline`, from outside.
//!
//! ```text
//! keys ─────▶ ┌───────┐        ┌──────┐
//!             │ model │ ─────▶ │ view │     words, then a screen
//! pictures ─▶ └───────┘        └──────┘
//!    ▲            │ wanted
//!    └── client ◀─┘
//! ```
//!
//! `model` is pure state: keys and answers go in, tables of words come out (`pages`). `view` draws, `client` asks, `screen`
//! is the terminal. So everything but the last can be looked at without a terminal.
//!
//! # End
//!
//! `q`, Ctrl-C, SIGTERM and errors end it, and the terminal is as it was before.

mod client;
mod data;
mod filter;
mod history;
mod model;
mod once;
mod pages;
mod screen;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod view;
pub(crate) mod words;

use std::fmt;
use std::io;
use std::time::Duration;

use bowline::{Bound, Cancelled, Either, FreeTx, FreeWatchRx, Overflow, race, scope};
use tokio::time::Instant;

use client::{FetchError, Wanted};
use model::{Input, Model, Then};
use screen::Screen;
use view::Palette;

pub use model::Page;
pub use target::{Target, TargetError};

/// Keys and pictures that wait to be drawn.
const MAX_INPUTS: usize = 64;

/// What `bowline top` is asked to show, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The process.
    pub target: Target,
    /// Time between two pictures.
    pub every: Duration,
    /// Tasks that are fetched at most; more are counted.
    pub max_tasks: usize,
    /// The page to begin with.
    pub page: Page,
    /// The filter to begin with.
    pub filter: String,
}

/// Why `bowline top` ended.
#[derive(Debug)]
pub enum TopError {
    /// There was no first picture: what is the matter, and what to do about it.
    First(String),
    /// The terminal does not do what it should.
    Terminal(io::Error),
    /// The text could not be written.
    Output(io::Error),
    /// The program was cancelled.
    Cancelled(Cancelled),
    /// A bug.
    Panic(String),
}

impl fmt::Display for TopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(why) => f.write_str(why),
            Self::Terminal(error) => write!(f, "the terminal: {error}; `--once` prints a page as text"),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Panic(panic) => f.write_str(panic),
        }
    }
}

impl std::error::Error for TopError {}

impl From<Cancelled> for TopError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

/// Shows the process on the terminal until the reader quits or the program is told to stop.
///
/// # Cancel safety
///
/// Dropping it gives the terminal back.
///
/// # Errors
///
/// [`TopError`]: if there is no first picture, nothing is shown at all; later, a lost connection is shown and tried again.
pub async fn run(options: Options) -> Result<(), TopError> {
    let mut model = Model::of(&options);
    let first = first(&options.target, &model.wanted()).await?;
    let mut screen = Screen::take(Palette::of_env()).map_err(TopError::Terminal)?;
    let (columns, lines) = screen.size().map_err(TopError::Terminal)?;
    model.take(Input::Resized(columns, lines), Instant::now());
    model.take(Input::Answer(Box::new(Ok(first))), Instant::now());
    scope("top", async |s| {
        let (inputs, taken) = s.queue("inputs", Bound::items(MAX_INPUTS), Overflow::Block);
        let (wanted, asked) = s.watch("wanted", (model.wanted(), model.is_paused));
        let keys = inputs.clone().free();
        s.spawn_blocking("keys", move || screen::read_keys(&keys).map_err(TopError::Terminal));
        let fetch = fetch(options.target, options.every, asked.free(), inputs.free());
        s.spawn_daemon("fetch", fetch);
        loop {
            screen.draw(&model).map_err(TopError::Terminal)?;
            let input = match race(bowline::draining(), taken.recv()).await {
                Either::Left(()) => return Ok(()), // a signal
                Either::Right(input) => input?,
            };
            let Some(input) = input else { return Ok(()) };
            if model.take(input, Instant::now()) == Then::Quit {
                return Ok(());
            }
            let now_wanted = (model.wanted(), model.is_paused);
            wanted.send_if_modified(|before| {
                let is_new = *before != now_wanted;
                before.clone_from(&now_wanted);
                is_new
            });
        }
    })
    .await
}

/// Takes picture after picture, and another one at once when something else is wanted.
async fn fetch(
    target: Target,
    every: Duration,
    mut wanted: FreeWatchRx<(Wanted, bool)>,
    to: FreeTx<Input>,
) -> Result<std::convert::Infallible, TopError> {
    loop {
        match race(bowline::sleep(every), wanted.changed()).await {
            Either::Left(slept) => slept?,
            Either::Right(Ok(())) => {}
            Either::Right(Err(_)) => return Err(bowline::cancelled().await.into()),
        }
        let (now_wanted, is_paused) = wanted.cloned();
        if is_paused {
            continue;
        }
        let answer = client::picture(&target, &now_wanted).await;
        if to.send(Input::Answer(Box::new(answer))).await.is_err() {
            return Err(bowline::cancelled().await.into());
        }
    }
}

/// Takes `pictures` pictures of the process and returns the last as the text of a screen of `size` columns and lines.
///
/// # Cancel safety
///
/// Nothing is lost if the future is dropped.
///
/// # Errors
///
/// [`TopError::First`] if there is no first picture; later ones that are missing are said in the text.
pub async fn once(options: Options, size: (u16, u16), pictures: u32) -> Result<String, TopError> {
    let mut model = Model::of(&options);
    model.take(Input::Resized(size.0, size.1), Instant::now());
    let first = first(&options.target, &model.wanted()).await?;
    model.take(Input::Answer(Box::new(Ok(first))), Instant::now());
    for _ in 1..pictures {
        bowline::sleep(options.every).await?;
        let answer = client::picture(&options.target, &model.wanted()).await;
        model.take(Input::Answer(Box::new(answer)), Instant::now());
    }
    Ok(once::text(&model, Instant::now()))
}

/// The first picture, or why there is none and what to do.
async fn first(target: &Target, wanted: &Wanted) -> Result<data::Picture, TopError> {
    client::picture(target, wanted).await.map_err(|error| match error {
        FetchError::Cancelled(cancelled) => TopError::Cancelled(cancelled),
        error => TopError::First(format!("{target}: {error}; {}", error.advice())),
    })
}

impl Model {
    fn of(options: &Options) -> Self {
        let mut model = Self::new(options.target.to_string(), options.every, options.max_tasks);
        model.page = options.page;
        model.filter_text.clone_from(&options.filter);
        model.filter = filter::Filter::parse(&options.filter);
        model
    }
}
