//! The durable store does what the one in memory does, over any sequence of operations, restarts included.

use std::collections::HashMap;
use std::time::Duration;

use bowline_store::durable::{DurableStore, Keeper, Opened, Options, Writer};
use bowline_store::{
    Append, Appended, Direction, Limit, MemoryStore, Position, Publication, Query, Retention, StreamStore,
    Version,
};
use proptest::prelude::*;
use tokio::time::{Instant, advance};

use super::simulated::Simulated;

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 3] = ["k1", "k2", "k3"];
/// Longer than any sequence: a restart may forget a stream a little early, which is another test's matter.
const META_TTL: Duration = Duration::from_secs(1_000_000);
const WALL: Duration = Duration::from_secs(1_700_000_000);

#[derive(Clone, Debug)]
enum Operation {
    Append { channel: usize, size: usize, ttl: u64, key: Option<usize>, version: Option<u64> },
    Read { channel: usize, since: Option<u64>, backward: bool, limit: i32 },
    Remove { channel: usize },
    Wait { seconds: u64 },
    Sweep,
    Tend,
    Restart { by_kill: bool },
}

fn operation() -> impl Strategy<Value = Operation> {
    let channel = 0..CHANNELS.len();
    prop_oneof![
        8 => (channel.clone(), 0_usize..6, prop_oneof![Just(60_u64), Just(600)], proptest::option::weighted(0.2, 0..KEYS.len()),
            proptest::option::weighted(0.2, 0_u64..6))
            .prop_map(|(channel, size, ttl, key, version)| Operation::Append { channel, size, ttl, key, version }),
        4 => (channel.clone(), proptest::option::of(0_u64..20), any::<bool>(), -1_i32..6)
            .prop_map(|(channel, since, backward, limit)| Operation::Read { channel, since, backward, limit }),
        1 => channel.prop_map(|channel| Operation::Remove { channel }),
        2 => (0_u64..200).prop_map(|seconds| Operation::Wait { seconds }),
        1 => Just(Operation::Sweep),
        2 => Just(Operation::Tend),
        2 => any::<bool>().prop_map(|by_kill| Operation::Restart { by_kill }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_the_store_in_memory(operations in proptest::collection::vec(operation(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("runtime");
        runtime.block_on(compare(operations));
    }
}

struct Durable {
    store: DurableStore,
    writer: Writer,
    keeper: Keeper,
}

fn open(disk: &Simulated) -> Durable {
    let options = Options { segment_bytes: 700, ..Options::default() };
    let Opened { store, writer, keeper, recovered } =
        DurableStore::open(disk.clone(), options).expect("open");
    assert_eq!((recovered.damage, recovered.renewed), (Vec::new(), 0));
    Durable { store, writer, keeper }
}

async fn compare(operations: Vec<Operation>) {
    let began = Instant::now();
    let disk = Simulated::new(1);
    disk.set_wall_clock(WALL);
    let memory = MemoryStore::default();
    let mut durable = open(&disk);
    let mut epochs = Epochs::default();
    for (step, operation) in operations.into_iter().enumerate() {
        match operation {
            Operation::Append { channel, size, ttl, key, version } => {
                let retention = Retention::new(size, Duration::from_secs(ttl), META_TTL);
                let mut append =
                    Append::new(CHANNELS[channel], Publication::new(format!("{step}")), retention);
                append.idempotency_key = key.map(|key| KEYS[key]);
                append.version =
                    version.filter(|_| retention.is_some()).map(|number| Version { number, epoch: "v" });
                let expected = memory.append(append.clone()).expect("append").into_outcome();
                let receipt = durable.store.append(append).expect("append");
                durable.writer.run_once();
                let appended = receipt.await.expect("commit");
                match (expected, appended) {
                    (Appended::Kept(expected), Appended::Kept(found))
                    | (Appended::Stale(expected), Appended::Stale(found))
                    | (Appended::Duplicate(Some(expected)), Appended::Duplicate(Some(found))) => {
                        epochs.agree(&expected, &found);
                    }
                    (expected, found) => assert_eq!(expected, found),
                }
            }
            Operation::Read { channel, since, backward, limit } => {
                let direction = if backward { Direction::Backward } else { Direction::Forward };
                let query = Query { since, direction, limit: Limit::from(limit) };
                let expected = memory.read(CHANNELS[channel], query, META_TTL).expect("read");
                let found = durable.store.read(CHANNELS[channel], query, META_TTL).expect("read");
                assert_eq!(expected.publications, found.publications);
                epochs.agree(&expected.top, &found.top);
            }
            Operation::Remove { channel } => {
                memory.remove(CHANNELS[channel]).expect("remove").await.expect("commit");
                let receipt = durable.store.remove(CHANNELS[channel]).expect("remove");
                durable.writer.run_once();
                receipt.await.expect("commit");
            }
            Operation::Wait { seconds } => {
                advance(Duration::from_secs(seconds)).await;
                disk.set_wall_clock(WALL + began.elapsed());
            }
            Operation::Sweep => {
                let (expected, found) = (memory.sweep(Instant::now()), durable.store.sweep(Instant::now()));
                assert_eq!(expected.streams, found.streams);
                assert_eq!(memory.stats(), durable.store.stats());
            }
            Operation::Tend => {
                durable.keeper.tend_driving(&mut durable.writer);
            }
            Operation::Restart { by_kill } => {
                // What was only read has an epoch as well, and that waits to be written.
                durable.writer.run_once();
                if by_kill {
                    // After a kill nobody knows how long the store had run since its last record, and keys are as old as they
                    // were then: so there is one of this moment.
                    let keep = Retention::new(1, Duration::from_secs(3_600), META_TTL);
                    let tick = Append::new("clock", Publication::new("tick"), keep);
                    memory.append(tick.clone()).expect("append").await.expect("commit");
                    let receipt = durable.store.append(tick).expect("append");
                    durable.writer.run_once();
                    receipt.await.expect("commit");
                    drop(durable);
                    disk.kill();
                } else {
                    durable.store.close();
                    durable.writer.run();
                    drop((durable.store, durable.keeper));
                }
                durable = open(&disk);
            }
        }
    }
}

/// Both make up their epochs, so only whether two are the same can be compared.
#[derive(Default)]
struct Epochs(HashMap<String, String>);

impl Epochs {
    fn agree(&mut self, expected: &Position, found: &Position) {
        assert_eq!(expected.offset, found.offset);
        let known = self.0.entry(expected.epoch.to_string()).or_insert_with(|| found.epoch.to_string());
        assert_eq!(known, found.epoch.as_str());
    }
}
