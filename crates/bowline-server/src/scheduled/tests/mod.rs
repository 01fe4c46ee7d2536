//! Scheduled publishing without sockets: lives of a server on one store, on a clock that the tests move.

mod durable;
mod lives;
mod model;

use std::collections::HashSet;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{Cancelled, scope};
use bowline_protocol::{ErrorCode, Payload};
use bowline_store::{MemoryStore, StreamStore};
use tokio::sync::watch;
use tokio::time::Instant;

use super::task::{Publisher, Task};
use super::{Item, Limits, Scheduled, When};
use crate::node::{ApiError, PublishParams};

/// 2027-01-15, 08:00 UTC.
const BEGIN: u64 = 1_800_000_000_000;

const LIMITS: Limits = Limits {
    pending: Some(50),
    pending_per_channel: Some(20),
    pending_bytes: Some(100_000),
    ahead_ms: 3_600_000,
};

/// What was published: data, and the time it was due at. It knows a key for ever, as a store does for some time.
#[derive(Default)]
struct Published {
    seen: Mutex<Vec<(String, u64)>>,
    keys: Mutex<HashSet<String>>,
    /// Answers that it failed.
    fails: AtomicBool,
    /// Publishes and never says so, as a process does that is killed in between.
    hangs: AtomicBool,
}

impl Publisher for Published {
    fn publish(&self, item: Arc<Item>) -> impl Future<Output = Result<(), ApiError>> + Send {
        let fails = self.fails.load(Ordering::SeqCst);
        let is_gone = item.entry.channel == "gone";
        let key = item.params().idempotency_key;
        if !fails && !is_gone && self.keys.lock().unwrap().insert(key) {
            let data = String::from_utf8(item.entry.data.to_vec()).unwrap();
            self.seen.lock().unwrap().push((data, item.entry.at_ms));
        }
        let hangs = self.hangs.load(Ordering::SeqCst);
        async move {
            if hangs {
                pending::<()>().await;
            }
            match (fails, is_gone) {
                (true, _) => Err(ErrorCode::INTERNAL.into()),
                (_, true) => Err(ErrorCode::UNKNOWN_CHANNEL.into()),
                _ => Ok(()),
            }
        }
    }
}

/// What stays when a server ends.
struct World {
    store: Arc<dyn StreamStore>,
    published: Arc<Published>,
    began: Instant,
    /// What the wall clock says beyond the time that has passed.
    set_by_ms: Arc<AtomicI64>,
    limits: Limits,
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    InOrder,
    Killed,
}

impl World {
    fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::default()),
            published: Arc::default(),
            began: Instant::now(),
            set_by_ms: Arc::default(),
            limits: LIMITS,
        }
    }

    fn scheduled(&self) -> Arc<Scheduled> {
        let (began, set_by_ms) = (self.began, Arc::clone(&self.set_by_ms));
        let clock = move || {
            let passed = u64::try_from(began.elapsed().as_millis()).unwrap();
            (BEGIN + passed).saturating_add_signed(set_by_ms.load(Ordering::SeqCst))
        };
        Arc::new(Scheduled::with_clock(Arc::clone(&self.store), self.limits, Arc::new(clock)))
    }

    /// One life of a server.
    async fn live(&self, ends: Ends, life: impl AsyncFnOnce(&Arc<Scheduled>)) {
        let scheduled = self.scheduled();
        let stop = watch::Sender::new(false);
        let ended = scope("server", async |s| {
            let task = Task::start(s, &scheduled, Arc::clone(&self.published), stop.subscribe());
            life(&scheduled).await;
            match ends {
                Ends::InOrder => {
                    stop.send_replace(true);
                    task.await
                }
                Ends::Killed => {
                    s.cancel("killed");
                    Ok(())
                }
            }
        })
        .await;
        assert!(ends == Ends::Killed || ended.is_ok(), "{ended:?}");
        let _: Result<(), Cancelled> = ended;
    }

    /// What was published since the last look, in order.
    fn seen(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.published.seen.lock().unwrap())
    }

    fn seen_data(&self) -> Vec<String> {
        self.seen().into_iter().map(|(data, _)| data).collect()
    }
}

fn after(delay_ms: u64) -> When {
    When { delay_ms, ..When::default() }
}

fn every(pattern: &str, id: &str) -> When {
    When { cron: pattern.to_owned(), id: id.to_owned(), ..When::default() }
}

fn item(scheduled: &Scheduled, channel: &str, data: &str, when: When) -> Item {
    let params = PublishParams { data: Payload::opaque(data.to_owned()), ..PublishParams::default() };
    when.item(channel, &params, scheduled.now_ms(), scheduled.limits()).unwrap()
}

/// Schedules, and returns the id.
async fn put(scheduled: &Arc<Scheduled>, channel: &str, data: &str, when: When) -> String {
    let item = item(scheduled, channel, data, when);
    scheduled.put(item).unwrap().kept().await.unwrap().entry.id.clone()
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
