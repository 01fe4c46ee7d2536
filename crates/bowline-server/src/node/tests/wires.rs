//! One channel, several wires: who shares what, and who is closed for what cannot be expressed.

use bowline_protocol::{Disconnect, Encoding};

use super::*;
use crate::node::Compression;

fn on(wire: Wire) -> Outbox {
    Outbox::with_wire(NonZeroUsize::new(1 << 20).unwrap(), wire)
}

#[test]
fn a_publication_is_encoded_once_for_each_wire() {
    let node = node_with(|_| {});
    let wires = [Wire::PROTOBUF, Wire::JSON, Wire::JSON.unidirectional()];
    let outboxes: Vec<_> = wires.iter().cycle().take(9).map(|wire| on(*wire)).collect();
    let _members: Vec<_> = outboxes.iter().map(|outbox| join(&node, "c", outbox)).collect();
    publish(&node, "c", "{}");
    let frames: Vec<_> = outboxes.iter().map(|outbox| drain(outbox).remove(0)).collect();
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame.bytes().as_ptr(), frames[index % 3].bytes().as_ptr(), "{index}");
    }
    assert_eq!(&frames[1].payload()[..], br#"{"push":{"channel":"c","pub":{"data":{}}}}"#);
    assert_eq!(&frames[2].payload()[..], br#"{"channel":"c","pub":{"data":{}}}"#);
    let reply = Encoding::Protobuf.decode_replies(&frames[0].payload()).next().unwrap().unwrap();
    assert!(
        matches!(reply, Reply::Push(Push::Publication { publication, .. }) if publication.data.as_bytes() == b"{}")
    );
}

#[test]
fn a_publication_is_compressed_once_for_all_who_take_it_so() {
    let node = node_with(|_| {});
    let compression = Some(Compression::new(1, 128));
    let wires = [Wire::JSON, Wire { compression, ..Wire::JSON }, Wire { compression, ..Wire::PROTOBUF }];
    let outboxes: Vec<_> = wires.iter().cycle().take(9).map(|wire| on(*wire)).collect();
    let _members: Vec<_> = outboxes.iter().map(|outbox| join(&node, "c", outbox)).collect();
    publish(&node, "c", &format!("\"{}\"", "x".repeat(1000)));
    let frames: Vec<_> = outboxes.iter().map(|outbox| drain(outbox).remove(0)).collect();
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame.bytes().as_ptr(), frames[index % 3].bytes().as_ptr(), "{index}");
        assert_eq!(frame.len() < 100, index % 3 > 0, "{index}");
    }
    assert_eq!([0, 1, 2].map(|index: usize| frames[index].bytes()[0]), [0x81, 0xc1, 0xc2]);
}

#[test]
fn bytes_that_are_no_json_close_the_connections_that_speak_json_and_no_others() {
    let node = node_with(|_| {});
    let (json, protobuf, pending) = (on(Wire::JSON), on(Wire::PROTOBUF), on(Wire::JSON));
    let _members = [join(&node, "c", &protobuf), join(&node, "c", &json), begin(&node, "c", &pending)];
    let data = Payload::opaque(&b"\xff\0"[..]);
    node.publish("c", &PublishParams { data, ..PublishParams::default() }).now().unwrap();
    assert_eq!(drain(&protobuf).len(), 1);
    assert_eq!((drain(&json).len(), drain(&pending).len()), (0, 0));
    assert_eq!(protobuf.disconnect(), None);
    for closed in [json, pending] {
        assert_eq!(closed.disconnect(), Some(Disconnect::INAPPROPRIATE_PROTOCOL));
    }
    let deliveries = node.stats().deliveries;
    assert_eq!((deliveries.delivered, deliveries.refused["inexpressible"], deliveries.in_flight), (1, 2, 0));
}

#[test]
fn joins_are_told_in_the_form_of_each_wire() {
    let node = node_with(|_| {});
    let (json, protobuf) = (on(Wire::JSON), on(Wire::PROTOBUF));
    let role = Role { listens: true, announces: true, ..Role::default() };
    let info = Arc::new(ClientInfo { user: "42".into(), ..ClientInfo::default() });
    let members: Vec<_> = [&json, &protobuf]
        .map(|outbox| Membership::begin(&node, "c", Arc::clone(&info), role, Intake::default(), outbox))
        .into_iter()
        .collect();
    members.iter().for_each(|member| member.go_live(None, None).unwrap());
    for (outbox, encoding) in [(json, Encoding::Json), (protobuf, Encoding::Protobuf)] {
        let frames = drain(&outbox);
        assert_eq!(frames.len(), 2, "what came while it was pending is held back in the same form");
        for frame in frames {
            let reply = encoding.decode_replies(&frame.payload()).next().unwrap().unwrap();
            assert!(matches!(reply, Reply::Push(Push::Join { info, .. }) if info.user == "42"));
        }
    }
}
