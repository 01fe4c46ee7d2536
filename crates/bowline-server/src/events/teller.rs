//! The task that tells one application what happened.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline::{Backoff, Cancelled, Either, FreeRx, race, sleep};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::debounce::Debounce;
use super::{Counts, Event, Happened};

/// Events in one batch: a hundred kilobytes or so.
const MAX_BATCH: usize = 1_000;

/// Channels that somebody has just left, of which it is not told yet.
const MAX_LEFT: usize = 65_536;

/// Time between two tries to tell: from the first to the last, and no longer.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The application did not take a batch. Why, the log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

/// How a batch gets to an application.
pub(crate) trait Post: Send {
    /// Sends a batch, which is JSON; done when the application has taken it.
    fn post(&mut self, batch: &[u8]) -> impl Future<Output = Result<(), Failed>> + Send;
}

/// Tells one application.
#[derive(Debug)]
pub(crate) struct Teller<P> {
    queue: FreeRx<Happened>,
    /// Becomes true when nothing more will happen.
    ended: watch::Receiver<bool>,
    debounce: Debounce,
    counts: Arc<Counts>,
    post: P,
}

/// Why the task goes on.
enum Woken {
    Happened(Happened),
    Due,
}

/// One event as applications know it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    time_ms: i64,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct Batch<'a> {
    events: Vec<Told<'a>>,
}

impl<P: Post> Teller<P> {
    /// Tells what comes out of `queue` until it is empty after `ended`; of a channel that is vacated after `delay`.
    pub(crate) fn new(
        queue: FreeRx<Happened>,
        ended: watch::Receiver<bool>,
        delay: Duration,
        counts: Arc<Counts>,
        post: P,
    ) -> Self {
        Self { queue, ended, debounce: Debounce::new(delay, MAX_LEFT), counts, post }
    }

    /// Tells until there is nothing more to tell.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the shutdown does not wait. What was not told is lost, and counted.
    pub(crate) async fn run(mut self) -> Result<(), Cancelled> {
        let mut batch = Vec::new();
        let told = self.tell_all(&mut batch).await;
        if told.is_err() {
            let lost = batch.len() + self.queue.depth();
            self.counts.lost.fetch_add(lost as u64, Ordering::Relaxed);
            tracing::warn!(lost, "the process ends before an application was told of all that happened");
        }
        told
    }

    async fn tell_all(&mut self, batch: &mut Vec<Happened>) -> Result<(), Cancelled> {
        loop {
            let is_over = self.gather(batch).await?;
            if !batch.is_empty() {
                self.tell(batch).await?;
                batch.clear();
            }
            if is_over {
                return Ok(());
            }
        }
    }

    /// Waits for something to tell, and takes what there is; answers whether that was all there will ever be.
    async fn gather(&mut self, batch: &mut Vec<Happened>) -> Result<bool, Cancelled> {
        let mut is_over = *self.ended.borrow();
        if self.queue.depth() == 0 && !is_over {
            match self.wait().await? {
                Some(Woken::Happened(happened)) => batch.extend(self.debounced(happened)),
                Some(Woken::Due) => {}
                None => is_over = true,
            }
        }
        if is_over {
            self.queue.close();
        }
        while batch.len() < MAX_BATCH
            && let Ok(happened) = self.queue.try_recv()
        {
            batch.extend(self.debounced(happened));
        }
        // Only now: who has come back meanwhile was never away.
        let (is_empty, now) = (self.queue.depth() == 0, Instant::now());
        while batch.len() < MAX_BATCH
            && let Some((channel, time_ms)) =
                if is_over && is_empty { self.debounce.pop_any() } else { self.debounce.pop(now) }
        {
            batch.push(Happened { event: Event::Vacated(channel), time_ms });
        }
        Ok(is_over && is_empty && self.debounce.next().is_none())
    }

    /// Waits for an event, or until something is due; `None` if nothing more will happen.
    async fn wait(&mut self) -> Result<Option<Woken>, Cancelled> {
        let Self { queue, ended, debounce, .. } = self;
        let due = debounce.next();
        let is_due = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        // An error means that the server itself is gone.
        let ended = async { ended.wait_for(|ended| *ended).await.map(drop) };
        match race(race(is_due, ended), queue.recv()).await {
            Either::Left(Either::Left(())) => Ok(Some(Woken::Due)),
            Either::Left(Either::Right(_)) => Ok(None),
            Either::Right(happened) => Ok(happened?.map(Woken::Happened)),
        }
    }

    /// What is to be told of an event now.
    fn debounced(&mut self, happened: Happened) -> Option<Happened> {
        let is_told = match &happened.event {
            Event::Occupied(channel) => self.debounce.enter(channel),
            Event::Vacated(channel) => self.debounce.leave(channel, happened.time_ms, Instant::now()),
            Event::Unsubscribed { .. } | Event::Disconnected { .. } => true,
        };
        is_told.then_some(happened)
    }

    /// Sends a batch until it is taken.
    async fn tell(&mut self, batch: &[Happened]) -> Result<(), Cancelled> {
        let events = batch.iter().map(Happened::told).collect();
        let Ok(body) = serde_json::to_vec(&Batch { events }) else { return Ok(()) }; // text and numbers only
        let backoff = Backoff::exponential(FIRST_PAUSE, LONGEST_PAUSE);
        let mut tries = 0;
        while let Err(Failed) = self.post.post(&body).await {
            tries += 1;
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            // No jitter: of each application there is one who tells it.
            sleep(backoff.longest_after(tries)).await?;
        }
        self.counts.told.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Happened {
    fn told(&self) -> Told<'_> {
        let told = Told {
            time_ms: self.time_ms,
            kind: "",
            channel: "",
            client: "",
            user: None,
            transport: "",
            code: None,
            reason: "",
        };
        match &self.event {
            Event::Occupied(channel) => Told { kind: "occupied", channel, ..told },
            Event::Vacated(channel) => Told { kind: "vacated", channel, ..told },
            Event::Unsubscribed { channel, info } => {
                Told { kind: "unsubscribed", channel, client: &info.client, user: Some(&info.user), ..told }
            }
            Event::Disconnected { info, transport, code, reason } => Told {
                kind: "disconnected",
                client: &info.client,
                user: Some(&info.user),
                transport,
                code: Some(*code),
                reason,
                ..told
            },
        }
    }
}
