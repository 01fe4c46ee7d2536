//! From pending to live: the answer first, then everything after the position it tells, and nothing twice.

use bowline_protocol::{Disconnect, UnsubscribeCode};
use bowline_store::Position;

use super::super::channel::LostPosition;
use super::*;

fn top(node: &Node) -> Position {
    node.top(&node.resolve("c").unwrap()).unwrap()
}

#[test]
fn what_is_held_back_follows_the_answer() {
    let node = node_with(|_| {});
    let outbox = roomy();
    let member = begin(&node, "c", &outbox);
    publish(&node, "c", "1");
    publish(&node, "c", "2");
    assert!(drain(&outbox).is_empty());
    assert_eq!(node.stats().deliveries.in_flight, 2);
    member.go_live(None, Some(answer())).unwrap();
    publish(&node, "c", "3");
    let frames = drain(&outbox);
    assert_eq!(frames.len(), 4);
    assert_eq!(frames[0], answer());
    let texts: Vec<_> = frames[1..].iter().map(|frame| frame.payload()).collect();
    for (text, data) in texts.iter().zip(["\"data\":1", "\"data\":2", "\"data\":3"]) {
        assert!(std::str::from_utf8(text).unwrap().contains(data));
    }
    let deliveries = node.stats().deliveries;
    assert_eq!((deliveries.delivered, deliveries.in_flight), (3, 0));
}

#[test]
fn what_the_position_covers_is_not_delivered_again() {
    let node = node_with(with_history);
    let outbox = roomy();
    let member = begin(&node, "c", &outbox);
    for _ in 0..2 {
        publish(&node, "c", "{}");
    }
    let start = top(&node);
    publish(&node, "c", "{}");
    member.go_live(Some(start), Some(answer())).unwrap();
    publish(&node, "c", "{}");
    assert_eq!(offsets(&outbox), [3, 4]);
    let deliveries = node.stats().deliveries;
    assert_eq!((deliveries.delivered, deliveries.refused["already_seen"]), (2, 2));
}

#[test]
fn a_hole_before_going_live_is_a_lost_position() {
    let node = node_with(with_history);
    let outbox = roomy();
    publish(&node, "c", "{}");
    let before = Position { offset: 0, ..top(&node) };
    let member = begin(&node, "c", &outbox);
    publish(&node, "c", "{}");
    assert_eq!(member.go_live(Some(before), Some(answer())), Err(LostPosition));
    drop(member);
    assert!(drain(&outbox).is_empty(), "no answer either");
    let stats = node.stats();
    assert_eq!((stats.subscriptions, stats.deliveries.refused["not_subscribed"]), (0, 1));
}

#[test]
fn another_epoch_before_going_live_is_a_lost_position() {
    let node = node_with(with_history);
    let member = begin(&node, "c", &roomy());
    let start = Position { offset: 0, epoch: bowline_store::Epoch::random() };
    publish(&node, "c", "{}");
    assert_eq!(member.go_live(Some(start), None), Err(LostPosition));
}

#[test]
fn more_than_can_be_held_back_is_a_lost_position() {
    let node = node_with(with_history);
    let outbox = roomy();
    let member = begin(&node, "c", &outbox);
    let start = top(&node);
    for _ in 0..20_000 {
        publish(&node, "c", "{}");
    }
    assert_eq!(member.go_live(Some(start), None), Err(LostPosition));
    drop(member);
    let deliveries = node.stats().deliveries;
    assert_eq!((deliveries.accepted, deliveries.in_flight), (20_000, 0));
    let refused = deliveries.refused["position_lost"] + deliveries.refused["not_subscribed"];
    assert_eq!(refused, 20_000);
}

#[test]
fn subscribing_while_others_publish_leaves_no_gap_and_nothing_twice() {
    let node = node_with(with_history);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..3000).for_each(|_| publish(&node, "c", "{}")));
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let outbox = roomy();
                    let member = begin(&node, "c", &outbox);
                    let start = top(&node);
                    member.go_live(Some(start.clone()), Some(answer())).expect("nothing is lost");
                    publish(&node, "c", "{}");
                    drop(member);
                    let received = offsets(&outbox);
                    let first = start.offset + 1;
                    assert!(!received.is_empty());
                    assert_eq!(received, (first..first + received.len() as u64).collect::<Vec<_>>());
                }
            });
        }
    });
}

#[test]
fn a_positioned_member_that_would_miss_something_is_told_to_recover() {
    let node = node_with(with_history);
    let (behind, right, server_side) = (roomy(), roomy(), roomy());
    publish(&node, "c", "{}");
    let (top, before) = (top(&node), Position { offset: 0, ..top(&node) });
    let members = [begin(&node, "c", &behind), begin(&node, "c", &right)];
    members[0].go_live(Some(before.clone()), None).unwrap();
    members[1].go_live(Some(top.clone()), None).unwrap();
    let role = Role { is_server_side: true, ..Role::default() };
    let given = Membership::begin(&node, "c", Arc::default(), role, Intake::default(), &server_side);
    given.go_live(Some(before), None).unwrap();

    publish(&node, "c", "{}");
    let told = Push::Unsubscribe { channel: "c".into(), code: UnsubscribeCode::INSUFFICIENT_STATE };
    assert_eq!(replies(&behind), [Reply::Push(told)]);
    assert!(members[0].has_ended() && !members[1].has_ended());
    assert_eq!(server_side.disconnect(), Some(Disconnect::INSUFFICIENT_STATE));
    publish(&node, "c", "{}");
    assert_eq!(offsets(&right), [2, 3]);
    assert!(drain(&behind).is_empty());
    let deliveries = node.stats().deliveries;
    assert_eq!((deliveries.refused["position_lost"], deliveries.in_flight), (2, 0));
}

#[test]
fn a_member_ahead_of_the_stream_does_not_get_the_old_again() {
    let node = node_with(with_history);
    let outbox = roomy();
    let ahead = Position { offset: 2, ..top(&node) };
    let member = begin(&node, "c", &outbox);
    member.go_live(Some(ahead), None).unwrap();
    for _ in 0..3 {
        publish(&node, "c", "{}");
    }
    assert_eq!(offsets(&outbox), [3]);
}

#[test]
fn positions_are_compared_under_the_channels_lock() {
    let node = node_with(with_history);
    let (right, wrong) = (begin(&node, "c", &roomy()), begin(&node, "c", &roomy()));
    let start = top(&node);
    right.go_live(Some(start.clone()), None).unwrap();
    wrong.go_live(Some(Position { offset: 1, ..start }), None).unwrap();
    let meta_ttl = Duration::from_secs(3600);
    assert_eq!(right.has_position(meta_ttl), Ok(true));
    assert_eq!(wrong.has_position(meta_ttl), Ok(false));
    assert_eq!(join(&node, "c", &roomy()).has_position(meta_ttl), Ok(true), "not positioned");
}
