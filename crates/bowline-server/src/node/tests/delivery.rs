//! Order, sharing, and members that come and go.

use proptest::prelude::*;

use super::*;

#[test]
fn offsets_reach_every_member_in_order_whoever_publishes() {
    let node = node_with(with_history);
    let outboxes = [roomy(), roomy(), roomy()];
    let _members: Vec<_> = outboxes.iter().map(|outbox| join(&node, "c", outbox)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| publish(&node, "c", "{}")));
        }
    });
    for outbox in &outboxes {
        assert_eq!(offsets(outbox), (1..=2000).collect::<Vec<_>>());
    }
}

#[test]
fn a_publication_is_encoded_once_for_all_members() {
    let node = node_with(|_| {});
    let outboxes = [roomy(), roomy()];
    let _members: Vec<_> = outboxes.iter().map(|outbox| join(&node, "c", outbox)).collect();
    publish(&node, "c", "{}");
    let [one, two] = outboxes.map(|outbox| drain(&outbox).remove(0));
    assert_eq!(one.bytes().as_ptr(), two.bytes().as_ptr());
}

#[test]
fn a_slow_member_is_closed_and_nobody_else_is_disturbed() {
    let node = node_with(|_| {});
    let (slow, fast) = (Outbox::new(NonZeroUsize::new(500).unwrap()), roomy());
    let _members = [join(&node, "c", &slow), join(&node, "c", &fast)];
    for number in 0..20 {
        publish(&node, "c", &number.to_string());
    }
    assert_eq!(slow.disconnect(), Some(bowline_protocol::Disconnect::SLOW));
    assert_eq!(publications(&fast).len(), 20);
    let deliveries = node.stats().deliveries;
    let (slow, closed) = (deliveries.refused["slow"], deliveries.refused["closed"]);
    assert_eq!((slow, deliveries.accepted, deliveries.in_flight), (1, 40, 0));
    assert_eq!(deliveries.delivered + slow + closed, 40);
}

#[test]
fn a_publication_to_nobody_leaves_no_channel_behind() {
    let node = node_with(with_history);
    publish(&node, "c", "{}");
    assert!(node.hub.find("c").is_none());
    let stats = node.stats();
    assert_eq!((stats.publications, stats.deliveries.accepted, stats.channels), (1, 0, 0));
}

#[test]
fn a_channel_is_forgotten_when_the_last_member_leaves() {
    let node = node_with(|_| {});
    let outbox = roomy();
    let (one, two) = (join(&node, "c", &outbox), begin(&node, "c", &outbox));
    drop(one);
    assert!(node.hub.find("c").is_some(), "a pending member is a member");
    assert_eq!(node.stats().channels, 1);
    drop(two);
    assert!(node.hub.find("c").is_none());
    assert_eq!(node.stats().channels, 0);
}

#[test]
fn members_come_and_go_while_others_publish() {
    let node = node_with(|_| {});
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..2000).for_each(|_| publish(&node, "c", "{}")));
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let outbox = roomy();
                    let member = join(&node, "c", &outbox);
                    publish(&node, "c", "\"own\"");
                    drop(member);
                    let own = publications(&outbox).iter().filter(|(_, data)| data == "\"own\"").count();
                    assert!(own >= 1, "a member gets what is published after it went live");
                }
            });
        }
    });
    assert!(node.hub.find("c").is_none());
    let stats = node.stats();
    assert_eq!((stats.channels, stats.subscriptions, stats.deliveries.in_flight), (0, 0, 0));
}

#[test]
fn a_hundred_thousand_members_leave_in_any_order() {
    let node = node_with(|_| {});
    let outbox = roomy();
    // Were leaving linear in the number of members, this would take minutes.
    let mut members: Vec<_> = (0..100_000).map(|_| join(&node, "c", &outbox)).collect();
    let mut step = 0;
    while !members.is_empty() {
        step = (step * 31 + 17) % members.len();
        members.swap_remove(step);
    }
    assert_eq!(node.stats().subscriptions, 0);
    assert!(node.hub.find("c").is_none());
}

proptest! {
    #[test]
    fn exactly_the_members_at_the_time_get_a_publication(steps in proptest::collection::vec(0_usize..12, 1..120)) {
        let node = node_with(with_history);
        let outboxes: Vec<_> = (0..10).map(|_| roomy()).collect();
        let mut members: Vec<Option<Membership>> = (0..10).map(|_| None).collect();
        let mut expected = vec![Vec::new(); 10];
        let mut offset = 0;
        for step in steps {
            match members.get_mut(step) {
                Some(member) if member.is_some() => *member = None,
                Some(member) => *member = Some(join(&node, "c", &outboxes[step])),
                None => {
                    publish(&node, "c", "{}");
                    offset += 1;
                    for (member, expected) in members.iter().zip(&mut expected) {
                        expected.extend(member.is_some().then_some(offset));
                    }
                }
            }
            let live = members.iter().flatten().count();
            prop_assert_eq!(node.stats().subscriptions, live as u64);
            prop_assert_eq!(node.channels("").get("c").copied().unwrap_or(0) as usize, live);
        }
        for (outbox, expected) in outboxes.iter().zip(expected) {
            prop_assert_eq!(offsets(outbox), expected);
        }
    }
}
