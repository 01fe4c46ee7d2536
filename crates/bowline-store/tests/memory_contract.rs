//! The memory store keeps the contract, and bounds what the contract leaves to it.

use std::time::Duration;

use bowline_store::{
    Append, Appended, Capacity, Limit, MemoryStore, Publication, Query, Receipt, Retention, StoreError,
    StreamStore, stream_store_contract,
};
use tokio::time::{Instant, advance};

stream_store_contract!(MemoryStore::default);

const HOUR: Duration = Duration::from_secs(3600);

fn append(store: &MemoryStore, channel: &str) -> Result<Appended, StoreError> {
    let append = Append::new(channel, Publication::new("{}"), Retention::new(1, HOUR, HOUR));
    store.append(append).map(Receipt::into_outcome)
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_new_streams_and_serves_old_ones() {
    let store = MemoryStore::new(Capacity { streams: 2, ..Capacity::default() });
    append(&store, "a").expect("room");
    append(&store, "b").expect("room");
    assert_eq!(append(&store, "c"), Err(StoreError::Full { limit: 2 }));
    assert_eq!(store.position("c", HOUR), Err(StoreError::Full { limit: 2 }));
    append(&store, "a").expect("an old stream needs no room");

    advance(HOUR).await;
    assert_eq!(store.sweep(Instant::now()).streams, 2);
    append(&store, "c").expect("a forgotten stream makes room");
}

#[test]
fn a_duration_beyond_the_clock_means_for_ever() {
    let store = MemoryStore::default();
    let keep = Retention::new(1, Duration::MAX, Duration::MAX);
    store
        .append(Append::new("c", Publication::new("{}"), keep))
        .expect("append")
        .wait_blocking()
        .expect("commit");
    assert_eq!(store.sweep(Instant::now()).publications, 0);
    assert_eq!(store.stats().publications, 1);
}

#[test]
fn appends_from_many_threads_share_out_the_offsets() {
    let store = MemoryStore::default();
    let keep = Retention::new(10_000, HOUR, HOUR);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let receipt =
                        store.append(Append::new("c", Publication::new("{}"), keep)).expect("append");
                    assert!(receipt.is_resolved(), "memory commits at once");
                }
            });
        }
    });
    assert_eq!(store.position("c", HOUR).expect("position").offset, 2_000);
    assert_eq!(store.stats().publications, 2_000);
}

#[test]
fn readers_of_one_publication_hold_one_payload() {
    let store = MemoryStore::default();
    append(&store, "c").expect("append");
    let pointer = || {
        let page = store.read("c", Query::forward(0, Limit::All), HOUR).expect("read");
        page.publications[0].publication.data.as_ptr()
    };
    assert_eq!(pointer(), pointer());
}
