//! The task that publishes what is due.
//!
//! A round takes what is due, a batch of it, the earliest first; begins to publish each, in that order; waits until all are
//! committed; writes down that they are done; and waits for that. So a batch costs the disk two syncs, however many are
//! in it, and a hundred thousand that are due at once are some hundreds of rounds, between which others run.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bowline::{
    AlertKind, AlertSubject, Cancelled, Either, Handle, Notify, NotifyError, Scope, race, sleep, sleep_until,
};
use bowline_protocol::ErrorCode;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::entry::Verdict;
use super::log::Change;
use super::{Item, Scheduled, State, add};
use crate::node::{ApiError, Node};

/// Schedules that are on their way at once.
pub(super) const BATCH: usize = 256;

/// Time for which others on the thread wait at most, but for one publication.
const TURN: Duration = Duration::from_millis(1);

/// How often the wall clock is looked at while something waits for it: so late is noticed that it was set.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A wall clock that says less than it should by more than this was put back.
const PUT_BACK_MS: u64 = 60_000;

/// What is due for longer while the server runs is late, and an alert.
const BEHIND_MS: u64 = 10_000;

/// Time until what the store did not take is written again.
const PAUSE: Duration = Duration::from_millis(500);

/// Where things are published.
pub(crate) trait Publisher: Send + Sync + 'static {
    /// Begins to publish; done when it is kept. What was begun goes on if the future is dropped.
    fn publish(&self, item: Arc<Item>) -> impl Future<Output = Result<(), ApiError>> + Send;
}

impl Publisher for Node {
    fn publish(&self, item: Arc<Item>) -> impl Future<Output = Result<(), ApiError>> + Send {
        let publishing = Self::publish(self, &item.entry.channel, &item.params());
        async move { publishing.await.map(drop) }
    }
}

/// The task "scheduler".
pub(crate) struct Task<P> {
    scheduled: Arc<Scheduled>,
    publisher: Arc<P>,
    changed: Notify,
    /// Becomes true when the server is told to stop.
    stopping: watch::Receiver<bool>,
    clocks: Clocks,
    is_behind: bool,
    behind: AlertSubject,
}

/// A run that was tried, and how that went.
type Tried = (Arc<Item>, Result<(), ApiError>);

/// A run that is done, what is written down of that, and what comes next.
type Written = (Change, Arc<Item>, Option<Arc<Item>>);

impl<P: Publisher> Task<P> {
    /// Starts it in the scope of the server.
    pub(crate) fn start(
        s: &Scope<Cancelled>,
        scheduled: &Arc<Scheduled>,
        publisher: Arc<P>,
        stopping: watch::Receiver<bool>,
    ) -> Handle<()> {
        let (notifier, changed) = s.cx().notify("schedules");
        // Once: a server runs once.
        let _ = scheduled.changed.set(notifier.free());
        let scheduled = Arc::clone(scheduled);
        let clocks = Clocks::new(scheduled.now_ms());
        let behind = AlertSubject::new(AlertKind::JobMissed, "scheduler");
        let task = Self { scheduled, publisher, changed, stopping, clocks, is_behind: false, behind };
        s.spawn("scheduler", task.run())
    }

    async fn run(mut self) -> Result<(), Cancelled> {
        while !*self.stopping.borrow() {
            self.settle_orphans().await;
            match self.look() {
                Ok(due) if due.is_empty() => self.wait().await?,
                Ok(due) => {
                    self.publish(due).await?;
                    // With a store in memory every wait of a round is over at once: this is where others run.
                    yield_now().await;
                }
                Err(error) => {
                    tracing::error!(%error, "the schedules cannot be read; it is tried again");
                    self.pause(PAUSE).await?;
                }
            }
        }
        let waiting = self.scheduled.pending().schedules;
        if waiting > 0 {
            tracing::info!(waiting, "schedules wait for the next start, if the store keeps them");
        }
        Ok(())
    }

    /// Finds out what became of changes whose callers went away.
    async fn settle_orphans(&self) {
        let orphans = self.scheduled.lock().take_orphans();
        for (mut change, item, what) in orphans {
            let is_kept = (&mut change.receipt).await.is_ok();
            self.scheduled.settle(&change, &item, what, is_kept);
        }
    }

    /// Looks at the clock and takes what is due.
    fn look(&mut self) -> Result<Vec<Arc<Item>>, bowline_store::StoreError> {
        let scheduled = Arc::clone(&self.scheduled);
        let now_ms = scheduled.now_ms();
        let mut state = scheduled.lock_read()?;
        let State { book, log, .. } = &mut *state;
        if self.clocks.went_back(now_ms) {
            tracing::warn!("the wall clock was put back: what recurs goes by it from here on");
            book.clock_went_back(now_ms);
        }
        if self.clocks.is_time_to_mend() && !book.is_empty() {
            let others = |id: &str| book.entry(id);
            match log.mend(&*scheduled.store, others) {
                Ok(0) => {}
                Ok(lost) => tracing::warn!(lost, "the store let go of schedules: they were written again"),
                Err(error) => tracing::warn!(%error, "the store could not be asked for its schedules"),
            }
        }
        let due = book.take_due(now_ms, BATCH);
        let is_failing = book.is_failing();
        drop(state);
        self.tell_whether_behind(&due, now_ms, is_failing);
        Ok(due)
    }

    fn tell_whether_behind(&mut self, due: &[Arc<Item>], now_ms: u64, is_failing: bool) {
        // What came due while no server ran is late, and nobody is behind.
        let since = due.first().map_or(now_ms, |first| first.at_ms().max(self.clocks.began_ms));
        let late_ms = now_ms.saturating_sub(since);
        if late_ms > BEHIND_MS {
            self.is_behind = true;
            self.behind.raise(format!("what is to be published is {late_ms} ms late"));
        } else if self.is_behind && !is_failing {
            // What failed and waits to be tried again is late, also between two tries.
            self.is_behind = false;
            self.behind.clear("nothing is late");
        }
    }

    /// Publishes a batch, and writes down what became of it.
    async fn publish(&self, due: Vec<Arc<Item>>) -> Result<(), Cancelled> {
        let counts = self.scheduled.counts();
        let now_ms = self.scheduled.now_ms();
        let mut begun = Vec::with_capacity(due.len());
        let mut turn = Instant::now();
        for item in due {
            let (verdict, run) = item.judge(now_ms);
            let publishing = (verdict == Verdict::Publish).then(|| self.publisher.publish(Arc::clone(&run)));
            begun.push((run, publishing));
            if turn.elapsed() > TURN {
                yield_now().await;
                turn = Instant::now();
            }
        }
        let mut tried: Vec<Tried> = Vec::with_capacity(begun.len());
        for (run, publishing) in begun {
            let result = match publishing {
                Some(publishing) => {
                    let result = publishing.await;
                    let is_final = result.as_ref().map_or_else(is_final, |()| true);
                    let counter = match (&result, is_final) {
                        (Ok(()), _) => &counts.published,
                        (Err(_), true) => &counts.refused,
                        (Err(_), false) => &counts.failed,
                    };
                    add(counter, 1);
                    result
                }
                None => {
                    add(&counts.skipped, 1);
                    Ok(())
                }
            };
            tried.push((run, result));
        }
        self.write_down(tried).await
    }

    /// Writes down what is done, until the store has taken it; what is to be tried again waits again.
    async fn write_down(&self, mut tried: Vec<Tried>) -> Result<(), Cancelled> {
        loop {
            let (written, mut not_written) = self.append(tried);
            for (mut change, run, next) in written {
                let is_kept = (&mut change.receipt).await.is_ok();
                let mut state = self.scheduled.lock();
                state.log.settle(&change.id, change.before, change.at, is_kept);
                if is_kept {
                    state.book.ran(&run, next);
                } else {
                    not_written.push((run, Ok(())));
                }
            }
            if not_written.is_empty() {
                return Ok(());
            }
            tracing::warn!(left = not_written.len(), "what was published could not be written down yet");
            if self.pause(PAUSE).await? {
                return Ok(()); // after the restart the store recognizes it
            }
            tried = not_written;
        }
    }

    /// Appends what is done. What the store refuses comes back.
    fn append(&self, tried: Vec<Tried>) -> (Vec<Written>, Vec<Tried>) {
        let scheduled = &self.scheduled;
        let now_ms = scheduled.now_ms();
        let (mut written, mut refused) = (Vec::with_capacity(tried.len()), Vec::new());
        let mut state = scheduled.lock();
        let State { book, log, .. } = &mut *state;
        for (run, result) in tried {
            if !book.is_published(&run) {
                continue; // cancelled meanwhile, which is written down
            }
            if let Err(error) = &result {
                let channel = &*run.channel;
                if !is_final(error) {
                    tracing::warn!(channel, %error, "a scheduled publication failed; it is tried again");
                    book.give_back(&run, now_ms);
                    continue;
                }
                tracing::error!(channel, id = &*run.id, %error, "a scheduled publication is impossible");
            }
            let next = run.next(now_ms);
            let others = |id: &str| book.entry(id);
            let appended = match &next {
                Some(next) => log.put(&*scheduled.store, &run.id, &next.entry, others),
                None => log.end(&*scheduled.store, &run.id, others),
            };
            match appended {
                Ok(change) => written.push((change, run, next)),
                Err(_) => refused.push((run, result)),
            }
        }
        (written, refused)
    }

    /// Waits until something is due, or changes, or it is time to look at the clock.
    async fn wait(&self) -> Result<(), Cancelled> {
        let next = {
            let state = self.scheduled.lock();
            if !state.orphans.is_empty() {
                return Ok(());
            }
            state.book.next_due()
        };
        let now_ms = self.scheduled.now_ms();
        let until = next
            .map(|due| Instant::now() + Duration::from_millis(due.saturating_sub(now_ms)).min(LOOK_EVERY));
        let is_due = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        // Every end of this wait but one is a reason to look: a context that was cancelled.
        let mut stopping = self.stopping.clone();
        let stopped = async { stopping.wait_for(|stop| *stop).await.map(drop) };
        match race(race(is_due, stopped), self.changed.notified()).await {
            Either::Left(Either::Left(Err(cancelled)))
            | Either::Right(Err(NotifyError::Cancelled(cancelled))) => Err(cancelled),
            _ => Ok(()),
        }
    }

    /// Waits for a while; answers whether the server is told to stop.
    async fn pause(&self, pause: Duration) -> Result<bool, Cancelled> {
        let mut stopping = self.stopping.clone();
        let stopped = async { stopping.wait_for(|stop| *stop).await.map(drop) };
        match race(sleep(pause), stopped).await {
            Either::Left(slept) => slept.map(|()| false),
            Either::Right(_) => Ok(true),
        }
    }
}

/// Whether trying again is in vain: the channel has no namespace any more, or takes no such data, or no store takes it.
fn is_final(error: &ApiError) -> bool {
    let codes = [
        ErrorCode::UNKNOWN_CHANNEL,
        ErrorCode::BAD_REQUEST,
        ErrorCode::NOT_AVAILABLE,
        ErrorCode::LIMIT_EXCEEDED,
    ];
    codes.iter().any(|code| code.code == error.code)
}

/// What the wall clock said, and when.
#[derive(Debug)]
struct Clocks {
    began_ms: u64,
    wall_ms: u64,
    looked: Instant,
    mended: Instant,
}

impl Clocks {
    fn new(wall_ms: u64) -> Self {
        let now = Instant::now();
        Self { began_ms: wall_ms, wall_ms, looked: now, mended: now }
    }

    /// Whether the wall clock was put back since the last look.
    fn went_back(&mut self, wall_ms: u64) -> bool {
        let now = Instant::now();
        let passed = u64::try_from((now - self.looked).as_millis()).unwrap_or(u64::MAX);
        let expected = self.wall_ms.saturating_add(passed);
        (self.wall_ms, self.looked) = (wall_ms, now);
        let went_back = wall_ms.saturating_add(PUT_BACK_MS) < expected;
        if went_back {
            self.began_ms = self.began_ms.min(wall_ms);
        }
        went_back
    }

    fn is_time_to_mend(&mut self) -> bool {
        let is_time = self.mended.elapsed() >= LOOK_EVERY;
        if is_time {
            self.mended = Instant::now();
        }
        is_time
    }
}
