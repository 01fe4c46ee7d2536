//! The memory store behaves like a plain list of (offset, time, text) over any sequence of operations.

use std::time::Duration;

use bowline_store::{
    Append, Appended, Direction, Limit, MemoryStore, Publication, Query, Retention, StreamStore,
};
use proptest::prelude::*;
use tokio::time::{Instant, advance};

const TTL_SECONDS: u64 = 60;
const META_SECONDS: u64 = 200;
const SIZE: usize = 5;

#[derive(Clone, Debug)]
enum Operation {
    Append,
    Read { since: Option<u64>, backward: bool, limit: i32 },
    Remove,
    Wait { seconds: u64 },
    Sweep,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => Just(Operation::Append),
        4 => (proptest::option::of(0_u64..20), any::<bool>(), -1_i32..6)
            .prop_map(|(since, backward, limit)| Operation::Read { since, backward, limit }),
        1 => Just(Operation::Remove),
        2 => (0_u64..250).prop_map(|seconds| Operation::Wait { seconds }),
        1 => Just(Operation::Sweep),
    ]
}

/// What the store should be: the simplest form that is obviously right.
#[derive(Default)]
struct Model {
    life: u32,
    top: u64,
    now: u64,
    used: u64,
    kept: Vec<(u64, u64, String)>,
}

impl Model {
    fn touch(&mut self) {
        if self.now >= self.used + META_SECONDS {
            (self.life, self.top, self.kept) = (self.life + 1, 0, Vec::new());
        }
        self.used = self.now;
        self.kept.retain(|(_, at, _)| at + TTL_SECONDS > self.now);
    }

    fn append(&mut self, text: &str) -> u64 {
        self.touch();
        self.top += 1;
        self.kept.push((self.top, self.now, text.to_owned()));
        if self.kept.len() > SIZE {
            self.kept.remove(0);
        }
        self.top
    }

    fn read(&mut self, since: Option<u64>, backward: bool, limit: i32) -> Vec<(u64, String)> {
        self.touch();
        let mut found: Vec<_> = self
            .kept
            .iter()
            .filter(|(offset, ..)| match since {
                Some(since) if backward => *offset < since,
                Some(since) => *offset > since,
                None => true,
            })
            .map(|(offset, _, text)| (*offset, text.clone()))
            .collect();
        if backward {
            found.reverse();
        }
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        found
    }
}

proptest! {
    #[test]
    fn behaves_like_the_model(operations in proptest::collection::vec(operation(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("runtime");
        runtime.block_on(compare(operations));
    }
}

async fn compare(operations: Vec<Operation>) {
    let store = MemoryStore::default();
    let keep = Retention::new(SIZE, Duration::from_secs(TTL_SECONDS), Duration::from_secs(META_SECONDS));
    let meta_ttl = Duration::from_secs(META_SECONDS);
    let mut model = Model::default();
    let mut epochs = vec![store.position("c", meta_ttl).expect("position").epoch];

    for (step, operation) in operations.into_iter().enumerate() {
        match operation {
            Operation::Append => {
                let text = format!("publication {step}");
                let offset = model.append(&text);
                let appended = store
                    .append(Append::new("c", Publication::new(text), keep))
                    .expect("append")
                    .into_outcome();
                let Appended::Kept(position) = appended else { panic!("{appended:?}") };
                assert_eq!(position.offset, offset);
                note_epoch(&mut epochs, position.epoch, model.life);
            }
            Operation::Read { since, backward, limit } => {
                let direction = if backward { Direction::Backward } else { Direction::Forward };
                let expected = model.read(since, backward, limit);
                let query = Query { since, direction, limit: Limit::from(limit) };
                let page = store.read("c", query, meta_ttl).expect("read");
                let found: Vec<_> = page
                    .publications
                    .iter()
                    .map(|kept| {
                        let text = String::from_utf8(kept.publication.data.to_vec()).expect("text");
                        (kept.offset, text)
                    })
                    .collect();
                assert_eq!(found, expected);
                assert_eq!(page.top.offset, model.top);
                note_epoch(&mut epochs, page.top.epoch, model.life);
            }
            Operation::Remove => {
                store.remove("c").expect("remove").await.expect("commit");
                model.kept.clear();
            }
            Operation::Wait { seconds } => {
                advance(Duration::from_secs(seconds)).await;
                model.now += seconds;
            }
            Operation::Sweep => {
                store.sweep(Instant::now());
            }
        }
        assert!(store.stats().publications <= SIZE);
    }
}

/// The n-th life of the stream has one epoch, which no other life has.
fn note_epoch(epochs: &mut Vec<bowline_store::Epoch>, epoch: bowline_store::Epoch, life: u32) {
    let life = life as usize;
    if epochs.len() <= life {
        assert!(!epochs.contains(&epoch), "a new life has a new epoch");
        // Lives nobody looked at had no epoch; the number of lives is what the model counts.
        epochs.resize(life + 1, epoch.clone());
    }
    assert_eq!(epochs[life], epoch);
}
