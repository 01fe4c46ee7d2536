//! Deltas and filters: what each member gets, and what it makes of it.

use bowline_protocol::delta;
use bowline_protocol::filter::TagsFilter;
use bowline_protocol::{Encoding, FilterNode, Publication};
use proptest::prelude::*;

use super::*;

/// A document of which a small part changes.
fn document(number: usize) -> String {
    format!(r#"{{"text":"{}","number":{number}}}"#, "ünïcödé and more ".repeat(8))
}

/// A client that negotiated deltas: what it makes of what it gets, as the SDKs do.
struct Reader {
    encoding: Encoding,
    data: Vec<u8>,
    deltas: usize,
}

impl Reader {
    fn take(&mut self, publication: Publication) -> Vec<u8> {
        let bytes = match self.encoding {
            Encoding::Json => {
                serde_json::from_slice::<String>(publication.data.as_bytes()).unwrap().into_bytes()
            }
            Encoding::Protobuf => publication.data.as_bytes().to_vec(),
        };
        self.deltas += usize::from(publication.delta);
        self.data =
            if publication.delta { delta::apply(&self.data, &bytes, 100_000).unwrap() } else { bytes };
        self.data.clone()
    }
}

fn begin_with(node: &Arc<Node>, outbox: &Outbox, intake: Intake) -> Membership {
    Membership::begin(node, "c", Arc::new(ClientInfo::default()), Role::default(), intake, outbox)
}

fn taking_deltas() -> Intake {
    Intake { takes_delta: true, ..Intake::default() }
}

fn pushed(outbox: &Outbox) -> Vec<Publication> {
    let encoding = outbox.wire().encoding;
    let frames = drain(outbox);
    let replies = frames
        .iter()
        .flat_map(|frame| encoding.decode_replies(&frame.payload()).map(Result::unwrap).collect::<Vec<_>>());
    replies
        .filter_map(|reply| match reply {
            Reply::Push(Push::Publication { publication, .. }) => Some(publication),
            _ => None,
        })
        .collect()
}

fn on(wire: Wire) -> Outbox {
    Outbox::with_wire(NonZeroUsize::new(1 << 24).unwrap(), wire)
}

#[test]
fn the_first_publication_is_whole_and_the_others_are_deltas() {
    let node = node_with(|options| {
        with_history(options);
        options.delta_publish = true;
    });
    publish(&node, "c", &document(0));
    let plain = on(Wire::JSON);
    let _plain = join(&node, "c", &plain);
    for wire in [Wire::JSON, Wire::PROTOBUF] {
        let outbox = on(wire);
        let member = begin_with(&node, &outbox, taking_deltas());
        member.go_live(None, None).unwrap();
        let mut reader = Reader { encoding: wire.encoding, data: Vec::new(), deltas: 0 };
        for number in 0..4 {
            publish(&node, "c", &document(number));
        }
        let publications = pushed(&outbox);
        let lengths: Vec<_> = publications.iter().map(|publication| publication.data.len()).collect();
        assert_eq!(
            publications.iter().map(|publication| publication.delta).collect::<Vec<_>>(),
            [false, true, true, true]
        );
        assert!(lengths[1] < lengths[0] / 4, "{lengths:?}");
        for (number, publication) in publications.into_iter().enumerate() {
            assert_eq!(reader.take(publication), document(number).into_bytes());
        }
    }
    for publication in pushed(&plain) {
        assert!(
            !publication.delta && publication.data.as_bytes().starts_with(b"{"),
            "others are not touched"
        );
    }
}

#[test]
fn without_the_mark_everything_is_whole() {
    let node = node_with(|_| {});
    let outbox = on(Wire::JSON);
    let member = begin_with(&node, &outbox, taking_deltas());
    member.go_live(None, None).unwrap();
    (0..3).for_each(|number| publish(&node, "c", &document(number)));
    for publication in pushed(&outbox) {
        assert!(!publication.delta && publication.data.as_bytes().starts_with(b"\""));
    }
}

#[test]
fn recovered_publications_are_deltas_of_each_other() {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let kept = |number| Publication {
            data: Payload::opaque(document(number)),
            offset: number as u64 + 1,
            ..Publication::default()
        };
        let mut publications: Vec<_> = (0..4).map(kept).collect();
        crate::node::forms::chain(encoding, &mut publications).unwrap();
        let mut reader = Reader { encoding, data: Vec::new(), deltas: 0 };
        for (number, publication) in publications.into_iter().enumerate() {
            assert_eq!(reader.take(publication), document(number).into_bytes());
        }
        assert_eq!(reader.deltas, 3);
    }
}

#[test]
fn what_a_filter_leaves_out_counts_as_seen() {
    let node = node_with(with_history);
    let outbox = on(Wire::JSON);
    let leaf = FilterNode { key: "k".into(), cmp: "eq".into(), val: "yes".into(), ..FilterNode::default() };
    let filter = Some(Box::new(TagsFilter::new(&leaf).unwrap()));
    let member = begin_with(&node, &outbox, Intake { filter, ..Intake::default() });
    let tagged =
        |value: &str| PublishParams { tags: [("k".to_owned(), value.to_owned())].into(), ..params("{}") };
    // Two while it is pending, the rest when it is live and positioned.
    node.publish("c", &tagged("no")).now().unwrap();
    node.publish("c", &tagged("yes")).now().unwrap();
    let epoch = node.store.position("c", Duration::from_secs(60)).unwrap().epoch;
    member.go_live(Some(bowline_store::Position { offset: 0, epoch }), None).unwrap();
    for value in ["no", "no", "yes"] {
        node.publish("c", &tagged(value)).now().unwrap();
    }
    publish(&node, "c", "{}");
    assert_eq!(offsets(&outbox), [2, 5]);
    assert!(!member.has_ended());
    let deliveries = node.stats().deliveries;
    assert_eq!((deliveries.delivered, deliveries.refused["filtered"], deliveries.in_flight), (2, 4, 0));
}

proptest! {
    /// Whoever comes and goes, and in whatever encoding: what a reader makes of what it gets is what was published.
    #[test]
    fn readers_have_what_was_published(
        steps in proptest::collection::vec((0_usize..6, 0_usize..4), 1..60)
    ) {
        let node = node_with(|options| options.delta_publish = true);
        let mut members: Vec<Option<Member>> = (0..4).map(|_| None).collect();
        for (step, number) in steps {
            match members.get(step).map(Option::is_some) {
                Some(true) => members[step] = None,
                Some(false) => {
                    let wire = [Wire::JSON, Wire::PROTOBUF][step % 2];
                    let outbox = on(wire);
                    let membership = begin_with(&node, &outbox, taking_deltas());
                    // Something is held back.
                    publish(&node, "c", &document(9));
                    membership.go_live(None, None).unwrap();
                    let reader = Reader { encoding: wire.encoding, data: Vec::new(), deltas: 0 };
                    for other in members_except(&mut members, step) {
                        other.push(document(9).into_bytes());
                    }
                    members[step] = Some((outbox, membership, reader, vec![document(9).into_bytes()]));
                }
                None => {
                    publish(&node, "c", &document(number));
                    for (.., expected) in members.iter_mut().flatten() {
                        expected.push(document(number).into_bytes());
                    }
                }
            }
            for (outbox, _, reader, expected) in members.iter_mut().flatten() {
                for publication in pushed(outbox) {
                    prop_assert_eq!(reader.take(publication), expected.remove(0));
                }
                prop_assert!(expected.is_empty());
            }
        }
    }
}

type Member = (Outbox, Membership, Reader, Vec<Vec<u8>>);

/// What the others expect.
fn members_except(members: &mut [Option<Member>], but: usize) -> impl Iterator<Item = &mut Vec<Vec<u8>>> {
    members
        .iter_mut()
        .enumerate()
        .filter(move |(index, _)| *index != but)
        .filter_map(|(_, member)| member.as_mut().map(|(.., expected)| expected))
}
