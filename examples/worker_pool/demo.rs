//! The shared board the workers are fed from, and a demonstration with several editors at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use bowline_examples::{listen, stop_switch};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::serve;

/// Pages that may wait to be rendered; more are refused.
const MAX_CHANGED_PAGES: usize = 1024;
const EDITORS: usize = 4;
const PAGES_PER_EDITOR: usize = 5;
const VERSIONS: usize = 20;

/// A page to render.
#[derive(Debug)]
pub(crate) struct Job {
    /// In the order in which jobs were taken.
    pub(crate) number: usize,
    pub(crate) page: String,
    pub(crate) text: String,
}

/// The newest text of each page that changed since it was last taken: an edit replaces one that still waits.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    changed: BTreeMap<String, String>,
    taken: usize,
}

impl Board {
    /// Takes in a line `PAGE TEXT`.
    pub(crate) fn edit(&self, line: &str) -> Result<()> {
        let Some((page, text)) = line.split_once(' ') else { bail!("an edit is `PAGE TEXT`") };
        let changed = &mut self.state.lock().unwrap_or_else(PoisonError::into_inner).changed;
        if changed.len() == MAX_CHANGED_PAGES && !changed.contains_key(page) {
            bail!("{MAX_CHANGED_PAGES} pages wait already");
        }
        changed.insert(page.to_owned(), text.to_owned());
        Ok(())
    }

    /// Takes the next page to render, if one has changed.
    pub(crate) fn take(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (page, text) = state.changed.pop_first()?;
        state.taken += 1;
        Some(Job { number: state.taken, page, text })
    }
}

/// Renders a page; some take longer than others.
pub(crate) async fn render(job: Job) -> Job {
    for _ in 0..job.number % 7 {
        tokio::task::yield_now().await;
    }
    Job { text: format!("<p>{}</p>", job.text), ..job }
}

/// Several editors change pages faster than they are rendered: the last version of each is published, jobs in their order.
pub(crate) async fn run() -> Result<()> {
    let (listener, address) = listen(0).await?;
    let (stop, stopped) = stop_switch();
    let site = watch::Sender::new((Vec::new(), HashMap::new()));
    let mut published = site.subscribe();
    let publish = Box::new(move |job: Job| {
        site.send_modify(|(numbers, pages)| {
            numbers.push(job.number);
            pages.insert(job.page, job.text);
        });
    });
    let edits = async {
        let mut editors = Vec::new();
        for _ in 0..EDITORS {
            editors.push(TcpStream::connect(address).await?);
        }
        for version in 1..=VERSIONS {
            for (editor, socket) in editors.iter_mut().enumerate() {
                for page in 0..PAGES_PER_EDITOR {
                    socket.write_all(format!("page{editor}.{page} version {version}\n").as_bytes()).await?;
                }
            }
        }
        let is_last = |text: &String| *text == format!("<p>version {VERSIONS}</p>");
        published
            .wait_for(|(_, pages)| pages.len() == EDITORS * PAGES_PER_EDITOR && pages.values().all(is_last))
            .await?;
        drop(stop);
        Ok(())
    };
    let (rendered, ()) = tokio::try_join!(serve(listener, stopped, publish), edits)?;
    let edits = EDITORS * PAGES_PER_EDITOR * VERSIONS;
    let numbers = &published.borrow().0;
    println!("{edits} edits, {rendered} pages rendered and published in order");
    assert!((1..=rendered).eq(numbers.iter().copied()));
    assert!(rendered <= edits);
    Ok(())
}

#[cfg(test)]
#[bowline::test]
async fn does_what_it_says_and_leaves_no_task_behind() -> Result<()> {
    bowline::timeout(std::time::Duration::from_secs(30), Box::pin(run())).await?
}
