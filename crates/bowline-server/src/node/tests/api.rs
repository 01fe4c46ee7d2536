//! The operations of the server API and their errors.

use bowline_protocol::StreamPosition;

use super::super::HistoryQuery;
use super::*;
use crate::config::{DataFormat, Namespace};

fn node() -> Arc<Node> {
    let mut config = Config::default();
    with_history(&mut config.channel.without_namespace);
    config.channel.without_namespace.presence = true;
    config
        .channel
        .namespaces
        .push(Namespace { name: "plain".parse().unwrap(), options: ChannelOptions::default() });
    let options =
        ChannelOptions { publication_data_format: Some(DataFormat::Binary), ..ChannelOptions::default() };
    config.channel.namespaces.push(Namespace { name: "binary".parse().unwrap(), options });
    Node::new(Arc::new(config), Arc::new(MemoryStore::default()))
}

/// The code of an error.
#[track_caller]
fn code<T: std::fmt::Debug>(result: Result<T, super::super::ApiError>) -> u32 {
    result.expect_err("an error").code
}

fn offset(published: Option<StreamPosition>) -> u64 {
    published.expect("kept").offset
}

#[test]
fn a_kept_publication_has_a_position_and_others_have_none() {
    let node = node();
    let first = node.publish("c", &params("{}")).now().unwrap().unwrap();
    assert_eq!((first.offset, first.epoch.len()), (1, 8));
    let skipped = PublishParams { skip_history: true, ..params("{}") };
    assert_eq!(node.publish("c", &skipped).now(), Ok(None));
    assert_eq!(node.publish("plain:c", &params("{}")).now(), Ok(None));
    assert_eq!(offset(node.publish("c", &params("{}")).now().unwrap()), 2);
}

#[test]
fn names_and_data_are_checked() {
    let node = node();
    for (channel, data, expected) in [("", "{}", 107), ("none:c", "{}", 102), ("ä", "{}", 107)] {
        assert_eq!(code(node.publish(channel, &params(data)).now()), expected, "{channel}");
        assert_eq!(code(node.history(channel, &HistoryQuery::default())), expected, "{channel}");
        assert_eq!(code(node.history_remove(channel)), expected, "{channel}");
        assert_eq!(code(node.presence(channel)), expected, "{channel}");
        assert_eq!(code(node.presence_stats(channel)), expected, "{channel}");
    }
    assert_eq!(code(node.publish("c", &PublishParams::default()).now()), 107, "no data");
    assert_eq!(node.publish("binary:c", &PublishParams::default()).now(), Ok(None));
}

#[test]
fn a_repeated_key_answers_the_first_position_and_publishes_nothing() {
    let node = node();
    let outbox = roomy();
    let _members = [join(&node, "c", &outbox), join(&node, "plain:c", &outbox)];
    let keyed = PublishParams { idempotency_key: "k".into(), ..params("1") };
    let first = node.publish("c", &keyed).now().unwrap();
    publish(&node, "c", "2");
    assert_eq!(node.publish("c", &keyed).now().unwrap(), first);
    for _ in 0..2 {
        assert_eq!(node.publish("plain:c", &keyed).now(), Ok(None));
    }
    let received: Vec<_> = publications(&outbox).into_iter().map(|(_, data)| data).collect();
    assert_eq!(received, ["1", "2", "1"]);
    assert_eq!(node.stats().publications, 3);
}

#[test]
fn an_old_version_is_neither_kept_nor_delivered() {
    let node = node();
    let outbox = roomy();
    let _member = join(&node, "c", &outbox);
    let version = |version, version_epoch: &str| PublishParams {
        version,
        version_epoch: version_epoch.into(),
        ..params(&version.to_string())
    };
    assert_eq!(offset(node.publish("c", &version(5, "e")).now().unwrap()), 1);
    for old in [5, 4] {
        assert_eq!(offset(node.publish("c", &version(old, "e")).now().unwrap()), 1);
    }
    assert_eq!(offset(node.publish("c", &version(4, "other")).now().unwrap()), 2);
    assert_eq!(offset(node.publish("c", &version(6, "other")).now().unwrap()), 3);
    assert_eq!(offsets(&outbox), [1, 2, 3]);
}

#[test]
fn tags_are_delivered_and_kept() {
    let node = node();
    let outbox = roomy();
    let _member = join(&node, "c", &outbox);
    let tags = std::collections::BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    node.publish("c", &PublishParams { tags: tags.clone(), ..params("{}") }).now().unwrap();
    let Some(Reply::Push(Push::Publication { publication, .. })) = replies(&outbox).pop() else {
        panic!("no publication")
    };
    assert_eq!(publication.tags, tags);
    let all = HistoryQuery { limit: -1, ..HistoryQuery::default() };
    assert_eq!(node.history("c", &all).unwrap().publications[0].tags, tags);
}

#[test]
fn features_that_are_off_are_not_available() {
    let node = node();
    assert_eq!(code(node.presence("plain:c")), 108);
    assert_eq!(code(node.presence_stats("plain:c")), 108);
    assert_eq!(code(node.history("plain:c", &HistoryQuery::default())), 108);
    assert_eq!(code(node.history_remove("plain:c")), 108);
}

#[test]
fn history_is_read_from_a_position_of_its_own_epoch() {
    let node = node();
    for number in 1..=4 {
        publish(&node, "c", &number.to_string());
    }
    let epoch = node.history("c", &HistoryQuery::default()).unwrap().epoch;
    let query = |limit, offset, epoch: &str, is_reverse| HistoryQuery {
        limit,
        since: Some(StreamPosition { offset, epoch: epoch.to_owned() }),
        is_reverse,
    };
    let read = |query: HistoryQuery| -> Vec<u64> {
        node.history("c", &query).unwrap().publications.iter().map(|kept| kept.offset).collect()
    };
    assert_eq!(read(query(-1, 1, &epoch, false)), [2, 3, 4]);
    assert_eq!(read(query(2, 4, &epoch, true)), [3, 2]);
    assert_eq!(read(query(1, 1, "", false)), [2]);
    assert_eq!(code(node.history("c", &query(1, 1, "another", false))), 112);
    assert_eq!(code(node.history("c", &query(1, 0, "", true))), 107);
}

#[test]
fn removing_history_keeps_positions_valid() {
    let node = node();
    publish(&node, "c", "{}");
    let before = node.history("c", &HistoryQuery::default()).unwrap();
    drop(node.history_remove("c").unwrap());
    let all = HistoryQuery { limit: -1, ..HistoryQuery::default() };
    assert_eq!(node.history("c", &all).unwrap(), before);
}

#[test]
fn channels_are_found_by_pattern_and_info_counts_them() {
    let node = node();
    let outbox = roomy();
    let _members =
        [join(&node, "chat:1", &outbox), join(&node, "chat:1", &outbox), join(&node, "news", &outbox)];
    let _pending = begin(&node, "pending", &outbox);
    assert_eq!(node.channels("").len(), 2);
    assert_eq!(node.channels("chat:*"), [("chat:1".to_owned(), 2)].into());
    assert_eq!(node.channels("none*"), [].into());
    let info = node.info();
    assert_eq!((info.num_clients, info.num_users, info.num_subs), (0, 0, 3));
    assert_eq!((info.uid.as_str(), info.version), (node.uid(), super::super::VERSION));
}

#[test]
fn a_store_without_room_is_an_internal_error() {
    let mut config = Config::default();
    with_history(&mut config.channel.without_namespace);
    let capacity = bowline_store::Capacity { streams: 1, idempotency_keys: 0 };
    let node = Node::new(Arc::new(config), Arc::new(MemoryStore::new(capacity)));
    publish(&node, "a", "{}");
    assert_eq!(code(node.publish("b", &params("{}")).now()), 100);
    assert_eq!(code(node.history("b", &HistoryQuery::default())), 100);
    publish(&node, "a", "{}");
}
