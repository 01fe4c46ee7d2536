//! Publications that wait for the disk: told when they are committed, in order, and not otherwise.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bowline::{Cancelled, scope};
use bowline_store::{
    Append, Appended, Commit, CommitError, Page, Query, Receipt, StoreError, StoreStats, StreamStore, Swept,
};

use super::{begin, drain, join, offsets, params, publications, roomy, with_history};
use crate::config::{Config, HistoryDurability};
use crate::node::{ApiError, HistoryQuery, Node, PublishParams, Publishing};
use crate::store::testing::ByHand;

/// Runs `test` with a node whose store is on disk, and whose writer waits for the test.
async fn on_disk(
    change: impl FnOnce(&mut Config),
    test: impl AsyncFnOnce(&Arc<Node>, &mut ByHand),
) -> Result<(), Cancelled> {
    let mut disk = ByHand::new();
    let mut config = Config::default();
    with_history(&mut config.channel.without_namespace);
    change(&mut config);
    let node = Node::new(Arc::new(config), Arc::new(disk.store.clone()));
    scope("server", async |s| {
        node.open_lines(s);
        Box::pin(test(&node, &mut disk)).await;
        disk.write();
        node.end();
        Ok(())
    })
    .await
}

/// Lets every task do what it can.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

fn top(node: &Node) -> u64 {
    node.history("c", &HistoryQuery::default()).unwrap().offset
}

#[bowline::test]
async fn nobody_is_told_of_a_publication_before_it_is_committed() -> Result<(), Cancelled> {
    on_disk(
        |_| {},
        async |node, disk| {
            let outbox = roomy();
            let _member = join(node, "c", &outbox);
            let first = node.publish("c", &params("1"));
            settle().await;
            assert_eq!((offsets(&outbox), top(node)), (vec![], 0));
            assert_eq!(node.stats().publications, 0);
            disk.write();
            assert_eq!(first.await.unwrap().unwrap().offset, 1);
            assert_eq!((offsets(&outbox), top(node)), (vec![1], 1), "its push comes before its answer");
            assert_eq!(node.stats().publications, 1);
        },
    )
    .await
}

#[bowline::test]
async fn what_is_not_kept_goes_behind_what_waits() -> Result<(), Cancelled> {
    on_disk(
        |_| {},
        async |node, disk| {
            let outbox = roomy();
            let _member = join(node, "c", &outbox);
            let passing = PublishParams { skip_history: true, ..params("2") };
            assert_eq!(node.publish("c", &passing).await, Ok(None), "nothing waits: at once");
            assert_eq!(publications(&outbox).len(), 1);
            let all = [params("1"), passing, params("3")].map(|params| node.publish("c", &params));
            settle().await;
            assert!(publications(&outbox).is_empty());
            disk.write();
            for publishing in all {
                publishing.await.unwrap();
            }
            let told = [(1, "1"), (0, "2"), (2, "3")].map(|(offset, data)| (offset, data.to_owned()));
            assert_eq!(publications(&outbox), told);
        },
    )
    .await
}

#[bowline::test]
async fn a_publisher_that_goes_away_loses_nothing() -> Result<(), Cancelled> {
    on_disk(
        |_| {},
        async |node, disk| {
            let outbox = roomy();
            let _member = join(node, "c", &outbox);
            drop(node.publish("c", &params("1")));
            let second = node.publish("c", &params("2"));
            disk.write();
            second.await.unwrap();
            assert_eq!(offsets(&outbox), [1, 2]);
        },
    )
    .await
}

#[bowline::test]
async fn who_subscribes_before_the_commit_gets_it_once() -> Result<(), Cancelled> {
    on_disk(
        |_| {},
        async |node, disk| {
            let first = node.publish("c", &params("1")); // nobody is there
            let before = roomy();
            let member = begin(node, "c", &before);
            let position = disk.store.position("c", std::time::Duration::from_secs(60)).unwrap();
            assert_eq!(position.offset, 0);
            member.go_live(Some(position), None).unwrap();
            disk.write();
            // Committed, and not delivered: the task has not run yet.
            let after = roomy();
            let late = begin(node, "c", &after);
            let position = disk.store.position("c", std::time::Duration::from_secs(60)).unwrap();
            assert_eq!(position.offset, 1);
            late.go_live(Some(position), None).unwrap();
            assert_eq!(member.has_position(std::time::Duration::from_secs(60)), Ok(true), "it comes yet");
            first.await.unwrap();
            assert_eq!((offsets(&before), offsets(&after)), (vec![1], vec![]));
            let second = node.publish("c", &params("2"));
            disk.write();
            second.await.unwrap();
            assert_eq!((offsets(&before), offsets(&after)), (vec![2], vec![2]));
        },
    )
    .await
}

#[bowline::test]
async fn what_the_disk_does_not_take_is_an_error_and_its_offset_goes_to_the_next() -> Result<(), Cancelled> {
    on_disk(
        |_| {},
        async |node, disk| {
            let outbox = roomy();
            let _member = join(node, "c", &outbox);
            disk.fill_disk(true);
            let [first, second] = ["1", "2"].map(|data| node.publish("c", &params(data)));
            disk.write();
            for refused in [first, second] {
                let error = refused.await.unwrap_err();
                assert_eq!((error.code, &*error.message), (100, "the disk of the server is full"));
            }
            let error = node.publish("c", &params("3")).await.unwrap_err();
            assert_eq!(&*error.message, "the disk of the server is full", "at once");
            assert!(drain(&outbox).is_empty());
            assert_eq!(top(node), 0, "readers go on");
            disk.fill_disk(false);
            disk.write(); // begins a new file
            let fourth = node.publish("c", &params("4"));
            disk.write();
            assert_eq!(fourth.await.unwrap().unwrap().offset, 1);
            assert_eq!(publications(&outbox), [(1, "4".to_owned())]);
            assert_eq!(node.stats().store_refusals, 3, "two that were not kept, one at once");
        },
    )
    .await
}

#[bowline::test]
async fn a_repeat_is_answered_when_the_first_is_kept() -> Result<(), Cancelled> {
    on_disk(
        |_| {},
        async |node, disk| {
            let outbox = roomy();
            let _member = join(node, "c", &outbox);
            let keyed = PublishParams { idempotency_key: "k".to_owned(), ..params("1") };
            let (first, repeat) = (node.publish("c", &keyed), node.publish("c", &keyed));
            settle().await;
            disk.write();
            assert_eq!(first.await.unwrap(), repeat.await.unwrap());
            assert_eq!(offsets(&outbox), [1]);
        },
    )
    .await
}

#[bowline::test]
async fn a_channel_that_nobody_is_in_is_forgotten_when_nothing_is_on_its_way() -> Result<(), Cancelled> {
    on_disk(
        |_| {},
        async |node, disk| {
            let first = node.publish("c", &params("1"));
            assert!(node.hub.find("c").is_some());
            disk.write();
            first.await.unwrap();
            assert!(node.hub.find("c").is_none());
        },
    )
    .await
}

#[bowline::test]
async fn a_weak_publication_is_told_when_it_is_written() -> Result<(), Cancelled> {
    on_disk(
        |config| config.channel.without_namespace.history_durability = Some(HistoryDurability::Never),
        async |node, disk| {
            let outbox = roomy();
            let _member = join(node, "c", &outbox);
            // The first of a stream is synced, so that a power failure leaves a trace of the stream.
            for number in 1..=3 {
                let publishing = node.publish("c", &params("1"));
                disk.write();
                assert_eq!(publishing.await.unwrap().unwrap().offset, number);
            }
            assert_eq!(offsets(&outbox), [1, 2, 3]);
            assert!(disk.store.disk_stats().unsynced_bytes > 0, "nothing waited for a sync but the first");
        },
    )
    .await
}

/// Publishes until it is refused: those that were admitted, and the refusal.
async fn publish_until_refused(node: &Node, data: &str) -> (Vec<Publishing>, ApiError) {
    let mut admitted = Vec::new();
    loop {
        let mut publishing = node.publish("c", &params(data));
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut publishing).poll(cx))).await {
            Poll::Ready(Err(refused)) => return (admitted, refused),
            Poll::Ready(Ok(position)) => panic!("nothing was written, and it is kept at {position:?}"),
            Poll::Pending => admitted.push(publishing),
        }
        assert!(admitted.len() < 10_000, "there is no bound");
    }
}

/// One channel had a sixteenth of the room with eight cores, so a batch into one channel was refused in its middle.
#[bowline::test]
async fn one_channel_may_have_nearly_all_the_room_that_the_setting_promises() -> Result<(), Cancelled> {
    const LIMIT: usize = 1 << 20;
    const DATA: usize = 10_000;
    on_disk(
        |config| config.store.queue_max_size = LIMIT.try_into().unwrap(),
        async |node, disk| {
            let data = format!("\"{}\"", "x".repeat(DATA));
            for round in 1..=2 {
                let (admitted, refused) = publish_until_refused(node, &data).await;
                assert_eq!(refused.code, 111);
                let bytes = admitted.len() * DATA;
                assert!((LIMIT * 3 / 4..=LIMIT).contains(&bytes), "{bytes} bytes in round {round}");
                disk.write();
                for publishing in admitted {
                    publishing.await.expect("it was admitted");
                }
            }
        },
    )
    .await
}

/// A store whose commits have failed by the time at which its appends return.
struct Failing;

impl StreamStore for Failing {
    fn append(&self, _: Append<'_>) -> Result<Receipt<Appended>, StoreError> {
        let commit = Commit::new();
        let receipt = commit.receipt(Appended::NotKept);
        commit.resolve(Err(CommitError::DiskFull));
        Ok(receipt)
    }

    fn read(&self, _: &str, _: Query, _: std::time::Duration) -> Result<Page, StoreError> {
        Err(StoreError::Closed)
    }

    fn remove(&self, _: &str) -> Result<Receipt<()>, StoreError> {
        Err(StoreError::Closed)
    }

    fn sweep(&self, _: tokio::time::Instant) -> Swept {
        Swept::default()
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

#[bowline::test]
async fn a_commit_that_has_failed_before_anybody_looks_is_an_error() {
    let mut config = Config::default();
    with_history(&mut config.channel.without_namespace);
    let node = Node::new(Arc::new(config), Arc::new(Failing));
    let outbox = roomy();
    let _member = join(&node, "c", &outbox);
    let error = node.publish("c", &params("1")).await.unwrap_err();
    assert_eq!(&*error.message, "the disk of the server is full");
    assert!(drain(&outbox).is_empty());
}
