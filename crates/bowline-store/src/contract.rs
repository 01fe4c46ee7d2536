//! The suite every [`StreamStore`] passes.
//!
//! [`stream_store_contract!`](crate::stream_store_contract) makes one test per claim from a factory:
//!
//! ```
//! bowline_store::stream_store_contract!(bowline_store::MemoryStore::default);
//! ```
//!
//! The claims run on tokio's paused clock, so "five minutes later" takes no time.

use std::time::Duration;

use tokio::time::{Instant, advance};

use crate::position::Position;
use crate::publication::{Publication, Retention};
use crate::store::{Append, Appended, Direction, Limit, Page, Query, StreamStore, Version};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Makes a test module that runs every claim of the contract against stores made by `$make`, a `fn() -> impl
/// StreamStore`.
#[macro_export]
macro_rules! stream_store_contract {
    ($make:expr) => {
        $crate::stream_store_contract!(@tests $make;
            offsets_rise_by_one_from_one,
            the_position_exists_before_the_first_publication,
            channels_do_not_share_streams,
            the_oldest_goes_when_the_stream_is_full,
            a_publication_expires_by_itself_and_keeps_its_offset,
            a_shorter_ttl_takes_effect_at_once,
            an_unused_stream_is_forgotten_with_its_epoch,
            reading_keeps_a_stream_remembered,
            removal_keeps_epoch_and_top,
            forward_reads_start_after_the_offset,
            backward_reads_start_before_the_offset,
            a_lost_offset_reads_from_the_oldest_kept,
            an_offset_beyond_the_top_reads_nothing,
            a_key_is_published_once_in_five_minutes,
            a_key_works_without_retention,
            a_key_belongs_to_its_channel,
            only_newer_versions_are_appended,
            an_ignored_version_leaves_its_key_unused,
            nothing_is_kept_without_retention,
            a_sweep_frees_what_has_expired,
            a_receipt_knows_its_outcome_at_once,
            what_is_committed_is_visible_and_in_order,
        );
    };
    (@tests $make:expr; $($claim:ident,)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $claim() {
            $crate::contract::$claim($make()).await;
        }
    )*};
}

/// Invariant 1.
pub async fn offsets_rise_by_one_from_one(store: impl StreamStore) {
    let first = publish(&store, "c", "1").await;
    let second = publish(&store, "c", "2").await;
    assert_eq!((first.offset, second.offset), (1, 2));
    assert_eq!(first.epoch, second.epoch);
    assert_eq!(offsets(&all(&store, "c")), [1, 2]);
}

/// Invariant 4.
pub async fn the_position_exists_before_the_first_publication(store: impl StreamStore) {
    let before = top(&store, "c");
    assert_eq!(before.offset, 0);
    assert_eq!(publish(&store, "c", "1").await, Position { offset: 1, epoch: before.epoch });
}

/// Streams of two channels have their own offsets and epochs.
pub async fn channels_do_not_share_streams(store: impl StreamStore) {
    publish(&store, "a", "1").await;
    let other = publish(&store, "b", "1").await;
    assert_eq!(other.offset, 1);
    assert_ne!(other.epoch, top(&store, "a").epoch);
    assert_eq!(texts(&all(&store, "b")), ["1"]);
}

/// The size of the newest append bounds the stream.
pub async fn the_oldest_goes_when_the_stream_is_full(store: impl StreamStore) {
    for text in ["1", "2", "3", "4"] {
        publish_kept(&store, text, 3, HOUR).await;
    }
    assert_eq!(texts(&all(&store, "c")), ["2", "3", "4"]);
    publish_kept(&store, "5", 1, HOUR).await;
    assert_eq!(offsets(&all(&store, "c")), [5]);
}

/// Invariant 3: expiry loses publications, not the stream.
pub async fn a_publication_expires_by_itself_and_keeps_its_offset(store: impl StreamStore) {
    let first = publish_kept(&store, "1", 10, MINUTE).await;
    advance(MINUTE / 2).await;
    publish_kept(&store, "2", 10, MINUTE).await;
    advance(MINUTE / 2).await;
    let page = all(&store, "c");
    assert_eq!(offsets(&page), [2], "the first is a minute old, the second half a minute");
    advance(MINUTE).await;
    let page = all(&store, "c");
    assert_eq!(offsets(&page), [0_u64; 0]);
    assert_eq!(page.top, Position { offset: 2, epoch: first.epoch });
    assert_eq!(publish_kept(&store, "3", 10, MINUTE).await.offset, 3);
}

/// The retention of the newest append holds for older publications too.
pub async fn a_shorter_ttl_takes_effect_at_once(store: impl StreamStore) {
    publish_kept(&store, "old", 10, HOUR).await;
    advance(2 * MINUTE).await;
    publish_kept(&store, "new", 10, MINUTE).await;
    assert_eq!(texts(&all(&store, "c")), ["new"]);
}

/// Invariant 3: a stream that was lost has another epoch, and offsets begin again.
pub async fn an_unused_stream_is_forgotten_with_its_epoch(store: impl StreamStore) {
    let lost = publish(&store, "c", "1").await;
    advance(META).await;
    let begun = publish(&store, "c", "2").await;
    assert_eq!(begun.offset, 1);
    assert_ne!(begun.epoch, lost.epoch);
    assert_eq!(texts(&all(&store, "c")), ["2"]);
}

/// Every read prolongs the life of epoch and top.
pub async fn reading_keeps_a_stream_remembered(store: impl StreamStore) {
    let position = publish(&store, "c", "1").await;
    for _ in 0..3 {
        advance(META - MINUTE).await;
        assert_eq!(top(&store, "c"), position);
    }
}

/// Invariant 3: removal loses publications, not the stream; removing from an unknown channel does nothing.
pub async fn removal_keeps_epoch_and_top(store: impl StreamStore) {
    publish(&store, "c", "1").await;
    let position = publish(&store, "c", "2").await;
    store.remove("c").expect("removal").await.expect("commit");
    store.remove("unknown").expect("removal of an unknown stream").await.expect("commit");
    let page = all(&store, "c");
    assert_eq!((page.top, page.publications.len()), (position, 0));
    assert_eq!(publish(&store, "c", "3").await.offset, 3);
    assert_eq!(offsets(&all(&store, "c")), [3]);
}

/// A limit cuts at the far end of the direction.
pub async fn forward_reads_start_after_the_offset(store: impl StreamStore) {
    five(&store).await;
    assert_eq!(offsets(&read(&store, Some(2), Direction::Forward, -1)), [3, 4, 5]);
    assert_eq!(offsets(&read(&store, Some(2), Direction::Forward, 2)), [3, 4]);
    assert_eq!(offsets(&read(&store, None, Direction::Forward, 2)), [1, 2]);
    assert_eq!(offsets(&read(&store, None, Direction::Forward, 0)), [0_u64; 0]);
}

/// Backward reads give the newest first, before the offset.
pub async fn backward_reads_start_before_the_offset(store: impl StreamStore) {
    five(&store).await;
    assert_eq!(offsets(&read(&store, None, Direction::Backward, -1)), [5, 4, 3, 2, 1]);
    assert_eq!(offsets(&read(&store, None, Direction::Backward, 2)), [5, 4]);
    assert_eq!(offsets(&read(&store, Some(4), Direction::Backward, 2)), [3, 2]);
    assert_eq!(offsets(&read(&store, Some(1), Direction::Backward, 2)), [0_u64; 0]);
    assert_eq!(offsets(&read(&store, Some(9), Direction::Backward, 1)), [5]);
}

/// A reader whose next publication is gone gets what is left; it sees the hole by the offset.
pub async fn a_lost_offset_reads_from_the_oldest_kept(store: impl StreamStore) {
    for text in ["1", "2", "3", "4"] {
        publish_kept(&store, text, 2, HOUR).await;
    }
    assert_eq!(offsets(&read(&store, Some(1), Direction::Forward, -1)), [3, 4]);
    assert_eq!(offsets(&read(&store, Some(2), Direction::Backward, -1)), [0_u64; 0]);
}

/// An offset from the future, or the largest there is, is no error.
pub async fn an_offset_beyond_the_top_reads_nothing(store: impl StreamStore) {
    five(&store).await;
    for offset in [5, 6, u64::MAX] {
        assert_eq!(offsets(&read(&store, Some(offset), Direction::Forward, -1)), [0_u64; 0]);
    }
}

/// A repeat gets the first position; after five minutes the key is free.
pub async fn a_key_is_published_once_in_five_minutes(store: impl StreamStore) {
    let first = append(&store, keyed("c", "k", Some(KEEP))).await;
    let Appended::Kept(position) = first else { panic!("{first:?}") };
    publish(&store, "c", "another").await;
    let repeat = append(&store, keyed("c", "k", Some(KEEP))).await;
    assert_eq!(repeat, Appended::Duplicate(Some(position)));
    assert_eq!(top(&store, "c").offset, 2);
    advance(5 * MINUTE).await;
    let again = append(&store, keyed("c", "k", Some(KEEP))).await;
    assert!(matches!(&again, Appended::Kept(position) if position.offset == 3), "{again:?}");
}

/// Channels without history honour keys as well.
pub async fn a_key_works_without_retention(store: impl StreamStore) {
    assert_eq!(append(&store, keyed("c", "k", None)).await, Appended::NotKept);
    assert_eq!(append(&store, keyed("c", "k", None)).await, Appended::Duplicate(None));
}

/// The same key in another channel is another key.
pub async fn a_key_belongs_to_its_channel(store: impl StreamStore) {
    append(&store, keyed("a", "k", Some(KEEP))).await;
    let other = append(&store, keyed("b", "k", Some(KEEP))).await;
    assert!(matches!(other, Appended::Kept(_)), "{other:?}");
}

/// Versions are compared within their epoch; a publication without one is always new.
pub async fn only_newer_versions_are_appended(store: impl StreamStore) {
    let attempt = async |number, epoch| {
        let mut request = Append::new("c", Publication::new("v"), Some(KEEP));
        request.version = Some(Version { number, epoch });
        append(&store, request).await
    };
    assert!(matches!(attempt(5, "e").await, Appended::Kept(_)));
    let top_now = top(&store, "c");
    assert_eq!(attempt(5, "e").await, Appended::Stale(top_now.clone()));
    assert_eq!(attempt(4, "e").await, Appended::Stale(top_now));
    publish(&store, "c", "without version").await;
    assert!(
        matches!(attempt(4, "e").await, Appended::Stale(_)),
        "a publication without version changes nothing"
    );
    assert!(matches!(attempt(6, "e").await, Appended::Kept(_)));
    assert!(matches!(attempt(1, "other").await, Appended::Kept(_)));
    assert_eq!(offsets(&all(&store, "c")), [1, 2, 3, 4]);
}

/// Nothing was published, so the key may be used for what is.
pub async fn an_ignored_version_leaves_its_key_unused(store: impl StreamStore) {
    let attempt = async |number| {
        let mut request = keyed("c", if number == 2 { "first" } else { "k" }, Some(KEEP));
        request.version = Some(Version { number, epoch: "" });
        append(&store, request).await
    };
    attempt(2).await;
    assert!(matches!(attempt(1).await, Appended::Stale(_)));
    assert!(matches!(attempt(3).await, Appended::Kept(_)));
}

/// No retention: no offset, no stream.
pub async fn nothing_is_kept_without_retention(store: impl StreamStore) {
    let appended = append(&store, Append::new("c", Publication::new("1"), None)).await;
    assert_eq!(appended, Appended::NotKept);
    assert_eq!(store.stats().streams, 0);
    assert_eq!(top(&store, "c").offset, 0);
}

/// Sweeping changes what is held, not what is served.
pub async fn a_sweep_frees_what_has_expired(store: impl StreamStore) {
    publish_kept(&store, "short", 10, MINUTE).await;
    append(&store, keyed("keyed", "k", Some(KEEP))).await;
    let stats = store.stats();
    assert_eq!((stats.streams, stats.publications, stats.payload_bytes), (2, 2, 10));
    assert_eq!(stats.idempotency_keys, 1);

    advance(10 * MINUTE).await;
    let swept = store.sweep(Instant::now());
    assert_eq!((swept.streams, swept.publications, swept.idempotency_keys), (0, 1, 1));
    let stats = store.stats();
    assert_eq!((stats.streams, stats.publications, stats.payload_bytes), (2, 1, 5));

    advance(META).await;
    let swept = store.sweep(Instant::now());
    assert_eq!((swept.streams, swept.publications), (2, 1));
    assert_eq!((store.stats().streams, store.stats().payload_bytes), (0, 0));
}

/// Invariant 5: offset and order are fixed before the commit.
pub async fn a_receipt_knows_its_outcome_at_once(store: impl StreamStore) {
    let receipts: Vec<_> = ["1", "2", "3"]
        .into_iter()
        .map(|text| store.append(Append::new("c", Publication::new(text), Some(KEEP))).expect("append"))
        .collect();
    for (receipt, expected) in receipts.iter().zip(1..) {
        let Appended::Kept(position) = receipt.outcome() else { panic!("{receipt:?}") };
        assert_eq!(position.offset, expected);
    }
    for receipt in receipts {
        let at_once = receipt.outcome().clone();
        assert_eq!(receipt.await.expect("commit"), at_once);
    }
}

/// Invariant 5: whoever has waited for a receipt finds the publication, and all before it.
pub async fn what_is_committed_is_visible_and_in_order(store: impl StreamStore) {
    for round in 0_u64..20 {
        let receipts: Vec<_> = (0..5)
            .map(|_| store.append(Append::new("c", Publication::new("text"), Some(KEEP))).expect("append"))
            .collect();
        for (receipt, index) in receipts.into_iter().zip(1..) {
            let position = kept(receipt.await.expect("commit"));
            assert_eq!(position.offset, round * 5 + index);
            let page = all(&store, "c");
            assert!(page.top.offset >= position.offset);
            assert_eq!(offsets(&page).last(), Some(&page.top.offset));
        }
    }
}

/// Long beside every other time in the suite.
const META: Duration = Duration::from_secs(24 * 3600);

const KEEP: Retention =
    Retention { size: std::num::NonZeroUsize::MIN.saturating_add(99), ttl: META, meta_ttl: META };

async fn publish(store: &impl StreamStore, channel: &str, text: &'static str) -> Position {
    kept(append(store, Append::new(channel, Publication::new(text), Some(KEEP))).await)
}

async fn publish_kept(store: &impl StreamStore, text: &'static str, size: usize, ttl: Duration) -> Position {
    let retention = Retention::new(size, ttl, META);
    kept(append(store, Append::new("c", Publication::new(text), retention)).await)
}

async fn append(store: &impl StreamStore, append: Append<'_>) -> Appended {
    store.append(append).expect("append").await.expect("commit")
}

fn kept(appended: Appended) -> Position {
    match appended {
        Appended::Kept(position) => position,
        other => panic!("not kept: {other:?}"),
    }
}

fn keyed<'a>(channel: &'a str, key: &'a str, retention: Option<Retention>) -> Append<'a> {
    let mut append = Append::new(channel, Publication::new("keyed"), retention);
    append.idempotency_key = Some(key);
    append
}

async fn five(store: &impl StreamStore) {
    for text in ["1", "2", "3", "4", "5"] {
        publish(store, "c", text).await;
    }
}

fn top(store: &impl StreamStore, channel: &str) -> Position {
    store.position(channel, META).expect("position")
}

fn all(store: &impl StreamStore, channel: &str) -> Page {
    store.read(channel, Query::forward(0, Limit::All), META).expect("read")
}

fn read(store: &impl StreamStore, since: Option<u64>, direction: Direction, limit: i32) -> Page {
    store.read("c", Query { since, direction, limit: limit.into() }, META).expect("read")
}

fn offsets(page: &Page) -> Vec<u64> {
    page.publications.iter().map(|kept| kept.offset).collect()
}

fn texts(page: &Page) -> Vec<&str> {
    page.publications
        .iter()
        .map(|kept| std::str::from_utf8(&kept.publication.data).expect("the suite publishes text"))
        .collect()
}
