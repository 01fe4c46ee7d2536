//! Publications that wait for the disk, and the commands behind them.

use std::num::NonZeroUsize;

use bowline::{Cancelled, scope};

use super::*;
use crate::store::testing::ByHand;

/// Runs `test` with a connection to a node whose store is on disk, and whose writer waits for the test.
async fn on_disk(test: impl AsyncFnOnce(&mut Client, &mut ByHand)) -> Result<(), Cancelled> {
    on_disk_with(None, test).await
}

/// As [`on_disk`], with so many commands of a connection at once.
async fn on_disk_with(
    concurrency: Option<NonZeroUsize>,
    test: impl AsyncFnOnce(&mut Client, &mut ByHand),
) -> Result<(), Cancelled> {
    let mut disk = ByHand::new();
    let mut config = Config::dev();
    config.client.concurrency = concurrency;
    let node = Node::new(Arc::new(config), Arc::new(disk.store.clone()));
    scope("server", async |s| {
        node.open_lines(s);
        let mut client = Client::anonymous(&node).await;
        client.ask("subscribe", json!({"channel": "c"})).await;
        client.received();
        Box::pin(test(&mut client, &mut disk)).await;
        disk.write();
        drop(client);
        node.end();
        Ok(())
    })
    .await
}

fn publish(id: u32, channel: &str) -> String {
    json!({"id": id, "publish": {"channel": channel, "data": id}}).to_string()
}

/// Ids of replies, and the data of publications as negative numbers.
fn told(client: &Client) -> Vec<i64> {
    let number = |message: Value| match message["push"]["pub"]["data"].as_i64() {
        Some(data) => -data,
        None => message["id"].as_i64().unwrap_or_else(|| panic!("{message}")),
    };
    client.received().into_iter().map(number).collect()
}

#[bowline::test]
async fn publications_in_one_frame_are_kept_together_and_answered_behind_their_pushes()
-> Result<(), Cancelled> {
    on_disk(async |client, disk| {
        let frame = [publish(11, "c"), publish(12, "c"), publish(13, "other")].join("\n");
        client.session.feed(frame.as_bytes()).unwrap();
        assert!(client.session.waits() && !client.session.is_busy());
        assert!(told(client).is_empty());
        disk.write();
        while client.session.waits() {
            poll_fn(|cx| client.session.poll_waiting(cx)).await.unwrap();
        }
        let told = told(client);
        let of = |wanted: i64| told.iter().position(|number| *number == wanted).unwrap();
        assert!(of(-11) < of(11) && of(-12) < of(12) && of(-11) < of(-12), "{told:?}");
        assert!(of(11) < of(12) && of(12) < of(13), "{told:?}");
    })
    .await
}

#[bowline::test]
async fn what_comes_behind_a_publication_sees_it() -> Result<(), Cancelled> {
    on_disk(async |client, disk| {
        let history = json!({"id": 12, "history": {"channel": "c", "limit": 10}}).to_string();
        let frame = [publish(11, "c"), history, publish(13, "c")].join("\n");
        client.session.feed(frame.as_bytes()).unwrap();
        assert!(client.session.is_busy(), "the history waits, and what is behind it");
        disk.write();
        while client.session.is_busy() {
            poll_fn(|cx| client.session.poll_waiting(cx)).await.unwrap();
        }
        let received = client.received();
        let history = received.iter().find(|message| message["id"] == 12).expect("the history");
        assert_eq!(history["history"]["offset"], 1, "{received:?}");
        disk.write();
        while client.session.waits() {
            poll_fn(|cx| client.session.poll_waiting(cx)).await.unwrap();
        }
        assert_eq!(told(client), [-13, 13]);
    })
    .await
}

#[bowline::test]
async fn with_several_commands_at_once_only_those_about_its_channel_wait_for_a_publication()
-> Result<(), Cancelled> {
    on_disk_with(NonZeroUsize::new(4), async |client, disk| {
        let history =
            |id, channel| json!({"id": id, "history": {"channel": channel, "limit": 10}}).to_string();
        let frame =
            [publish(11, "c"), history(12, "other"), history(13, "c"), history(14, "other")].join("\n");
        client.session.feed(frame.as_bytes()).unwrap();
        assert_eq!(told(client), [12], "another channel does not wait");
        assert!(client.session.is_busy(), "the same channel does, and what is behind it");
        disk.write();
        while client.session.waits() {
            poll_fn(|cx| client.session.poll_waiting(cx)).await.unwrap();
        }
        let received = client.received();
        let history = received.iter().find(|message| message["id"] == 13).expect("the history");
        assert_eq!(history["history"]["offset"], 1, "{received:?}");
        assert_eq!(received.last().unwrap()["id"], 14);
    })
    .await
}

#[bowline::test]
async fn so_many_publications_wait_and_no_more() -> Result<(), Cancelled> {
    on_disk(async |client, disk| {
        let frame: Vec<String> = (11..11 + 65).map(|id| publish(id, "c")).collect();
        client.session.feed(frame.join("\n").as_bytes()).unwrap();
        assert!(client.session.is_busy());
        disk.write();
        disk.write();
        for _ in 0..2 {
            while client.session.is_busy() {
                poll_fn(|cx| client.session.poll_waiting(cx)).await.unwrap();
            }
            disk.write();
        }
        while client.session.waits() {
            poll_fn(|cx| client.session.poll_waiting(cx)).await.unwrap();
        }
        assert_eq!(told(client).len(), 2 * 65);
    })
    .await
}

#[bowline::test]
async fn a_session_that_ends_leaves_its_publications_to_be_delivered() -> Result<(), Cancelled> {
    on_disk(async |client, disk| {
        let mut other = Client::anonymous(&client.session.node).await;
        other.session.feed(publish(11, "c").as_bytes()).unwrap();
        drop(other);
        client.session.feed(publish(12, "c").as_bytes()).unwrap();
        disk.write();
        while client.session.waits() {
            poll_fn(|cx| client.session.poll_waiting(cx)).await.unwrap();
        }
        let told = told(client);
        assert!(told.starts_with(&[-11]) || told.contains(&-11), "{told:?}");
        assert_eq!(told.iter().filter(|number| **number < 0).count(), 2);
    })
    .await
}
