//! On a disk: what waits survives, and what was published when the process ended is recognized, however late.

use std::sync::atomic::AtomicUsize;

use bowline_store::durable::{DurableStore, Opened, Options};
use bowline_store::{Limit, Query, StoreError};

use super::super::ScheduleError;
use super::*;
use crate::config::{ChannelOptions, Config, Namespace, NonZeroDuration};
use crate::node::Node;
use crate::store::testing::{Altered, Temporary};

/// Two namespaces: `kept` has history, `plain` has none.
fn config() -> Config {
    let mut config = Config::default();
    let kept = ChannelOptions {
        history_size: std::num::NonZeroUsize::new(100),
        history_ttl: NonZeroDuration::new(Duration::from_secs(30 * 24 * 3600)),
        ..ChannelOptions::default()
    };
    for (name, options) in [("kept", kept), ("plain", ChannelOptions::default())] {
        config.channel.namespaces.push(Namespace { name: name.parse().unwrap(), options });
    }
    config
}

/// One life of a node on the store in `directory`, `by` later than now.
async fn live(directory: &Temporary, by: Duration, life: impl AsyncFnOnce(&Arc<Node>, &Arc<Scheduled>)) {
    live_on(directory.disk(), by, life).await;
}

async fn live_on(disk: Altered, by: Duration, life: impl AsyncFnOnce(&Arc<Node>, &Arc<Scheduled>)) {
    let disk = disk.later(by);
    let Opened { store, writer, .. } = DurableStore::open(disk, Options::default()).unwrap();
    scope("life", async |s| {
        let writer = s.spawn_blocking("writer", move || {
            writer.run();
            Ok(())
        });
        let node = Node::new(Arc::new(config()), Arc::new(store.clone()));
        node.open_lines(s);
        let clock = move || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + by;
            u64::try_from(now.as_millis()).unwrap()
        };
        let limits = Limits { ahead_ms: u64::MAX, ..Limits::default() };
        let scheduled = Arc::new(Scheduled::with_clock(Arc::new(store.clone()), limits, Arc::new(clock)));
        life(&node, &scheduled).await;
        node.end();
        store.close();
        writer.await
    })
    .await
    .unwrap();
}

/// Runs the task until nothing is due.
async fn publish_what_is_due(node: &Arc<Node>, scheduled: &Arc<Scheduled>) {
    let stop = watch::Sender::new(false);
    scope("server", async |s| {
        scheduled.read().unwrap();
        let task = Task::start(s, scheduled, Arc::clone(node), stop.subscribe());
        while scheduled.pending().schedules > 0 {
            pass(Duration::from_millis(1)).await;
        }
        stop.send_replace(true);
        task.await
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn on_a_disk_a_run_that_was_published_and_not_written_down_is_recognized_after_days() {
    let directory = Temporary::new();
    // As a kill between the two leaves it: published under its key, and not written down.
    live(&directory, Duration::ZERO, async |node, scheduled| {
        for channel in ["kept:a", "plain:a"] {
            let waits =
                scheduled.put(item(scheduled, channel, "\"once\"", after(1))).unwrap().kept().await.unwrap();
            Publisher::publish(&**node, waits).await.unwrap();
        }
        put(scheduled, "kept:b", "\"only waits\"", after(1)).await;
    })
    .await;
    let days = Duration::from_secs(3 * 24 * 3600);
    live(&directory, days, async |node, scheduled| {
        assert_eq!(scheduled.list("", None, 9).unwrap().1, 3);
        let before = node.stats().publications;
        publish_what_is_due(node, scheduled).await;
        assert_eq!(node.stats().publications - before, 1, "only what had not been published");
        assert_eq!(history(node, "kept:a"), ["\"once\""]);
        assert_eq!(history(node, "kept:b"), ["\"only waits\""]);
    })
    .await;
    live(&directory, days * 2, async |node, scheduled| {
        publish_what_is_due(node, scheduled).await;
        assert_eq!(node.stats().publications, 0);
        let log = node_store_length(scheduled);
        assert!(log <= 6, "{log} records of what is done");
    })
    .await;
}

/// Records that the log keeps.
fn node_store_length(scheduled: &Scheduled) -> usize {
    let read = scheduled.store.read(super::super::log::STREAM, Query::forward(0, Limit::All), SECOND * 3600);
    read.unwrap().publications.len()
}

#[bowline::test]
async fn on_a_disk_what_was_put_changed_and_cancelled_stays_so() {
    let directory = Temporary::new();
    live(&directory, Duration::ZERO, async |_, scheduled| {
        let named = |id: &str, delay_ms| When { id: id.into(), ..after(delay_ms) };
        put(scheduled, "kept:a", "1", named("x", 3_600_000)).await;
        put(scheduled, "kept:b", "2", named("x", 7_200_000)).await;
        put(scheduled, "kept:a", "3", named("y", 3_600_000)).await;
        scheduled.cancel("y").await.unwrap();
        put(scheduled, "kept:a", "4", every("0 * * * *", "hourly")).await;
    })
    .await;
    live(&directory, SECOND, async |_, scheduled| {
        let (listed, total) = scheduled.list("", None, 9).unwrap();
        let data: Vec<_> = listed.iter().map(|(_, item)| item.entry.data.clone()).collect();
        assert_eq!((data, total), (vec!["4".into(), "2".into()], 2));
    })
    .await;
}

/// A node on a disk that is full as soon as some runs are published, before that is written down.
struct ThenFull {
    node: Arc<Node>,
    disk: Altered,
    left: AtomicUsize,
    filled: watch::Sender<bool>,
}

impl Publisher for ThenFull {
    fn publish(&self, item: Arc<Item>) -> impl Future<Output = Result<(), ApiError>> + Send {
        let publishing = Publisher::publish(&*self.node, item);
        async move {
            let result = publishing.await;
            if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.disk.fill(true);
                self.filled.send_replace(true);
            }
            result
        }
    }
}

/// One life in which one that is due once and one that recurs are published, and the disk is full when that is to be
/// written down; there is room again before its end if `has_room_again`.
async fn live_until_full(directory: &Temporary, by: Duration, has_room_again: bool) {
    let disk = directory.disk();
    live_on(disk.clone(), by, async |node, scheduled| {
        let (left, filled) = (AtomicUsize::new(2), watch::Sender::new(false));
        let (mut is_full, stop) = (filled.subscribe(), watch::Sender::new(false));
        let publisher = Arc::new(ThenFull { node: Arc::clone(node), disk: disk.clone(), left, filled });
        scope("server", async |s| {
            let task = Task::start(s, scheduled, publisher, stop.subscribe());
            is_full.wait_for(|is_full| *is_full).await.unwrap();
            // Nothing is taken that could not be kept. The first refusal may be that of the write, all others come at once.
            let refused = loop {
                let late = When { id: "refused".into(), ..after(1) };
                match scheduled.put(item(scheduled, "kept:c", "\"refused\"", late)) {
                    Ok(putting) => assert!(matches!(putting.kept().await, Err(ScheduleError::Commit(_)))),
                    Err(refused) => break refused,
                }
            };
            assert_eq!(refused.to_string(), StoreError::DiskFull.to_string());
            assert_eq!(waiting(scheduled), ["once", "yearly"], "not written down, and nothing else");
            if has_room_again {
                disk.fill(false);
                while waiting(scheduled) != ["yearly"] {
                    pass(Duration::from_millis(1)).await;
                }
            }
            stop.send_replace(true);
            task.await
        })
        .await
        .unwrap();
        assert_eq!(node.stats().publications, 2);
    })
    .await;
}

/// The ids of what waits.
fn waiting(scheduled: &Scheduled) -> Vec<String> {
    let (listed, _) = scheduled.list("", None, 9).unwrap();
    let mut ids: Vec<String> = listed.into_iter().map(|(_, item)| item.entry.id.clone()).collect();
    ids.sort_unstable();
    ids
}

#[bowline::test]
async fn what_is_published_when_the_disk_is_full_is_neither_lost_nor_published_twice() {
    for has_room_again in [true, false] {
        let directory = Temporary::new();
        live(&directory, Duration::ZERO, async |_, scheduled| {
            put(scheduled, "kept:a", "1", When { id: "once".into(), ..after(1) }).await;
            put(scheduled, "kept:b", "2", every("0 0 1 1 *", "yearly")).await;
        })
        .await;
        let later = Duration::from_secs(400 * 24 * 3600);
        live_until_full(&directory, later, has_room_again).await;
        live(&directory, later, async |node, scheduled| {
            let stop = watch::Sender::new(false);
            scope("server", async |s| {
                scheduled.read().unwrap();
                let task = Task::start(s, scheduled, Arc::clone(node), stop.subscribe());
                while scheduled
                    .list("", None, 9)
                    .unwrap()
                    .0
                    .iter()
                    .any(|(at_ms, _)| *at_ms <= scheduled.now_ms())
                {
                    pass(Duration::from_millis(1)).await;
                }
                stop.send_replace(true);
                task.await
            })
            .await
            .unwrap();
            assert_eq!(waiting(scheduled), ["yearly"]);
            assert_eq!(node.stats().publications, 0, "recognized, or not tried at all");
            let kept = ["kept:a", "kept:b", "kept:c"].map(|channel| history(node, channel).concat());
            assert_eq!(kept, ["1", "2", ""]);
        })
        .await;
    }
}

#[bowline::test]
async fn five_thousand_that_came_due_while_no_server_ran_are_published_in_their_order() {
    let directory = Temporary::new();
    let count = 5_000;
    live(&directory, Duration::ZERO, async |_, scheduled| {
        let begun: Vec<_> = (0..count)
            .map(|n| scheduled.put(item(scheduled, "kept:a", &n.to_string(), after(1_000 + n))).unwrap())
            .collect();
        for putting in begun {
            putting.kept().await.unwrap();
        }
    })
    .await;
    live(&directory, Duration::from_secs(3600), async |node, scheduled| {
        publish_what_is_due(node, scheduled).await;
        assert_eq!(node.stats().publications, count);
        let newest: Vec<String> = (count - 100..count).map(|n| n.to_string()).collect();
        assert_eq!(history(node, "kept:a"), newest);
    })
    .await;
}

/// The data that a channel keeps.
fn history(node: &Node, channel: &str) -> Vec<String> {
    let query = crate::node::HistoryQuery { limit: -1, ..crate::node::HistoryQuery::default() };
    let kept = node.history(channel, &query).unwrap().publications;
    kept.into_iter().map(|kept| String::from_utf8(kept.data.as_bytes().to_vec()).unwrap()).collect()
}
