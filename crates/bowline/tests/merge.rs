//! One queue of many named sources: each has its own room, its own turn and its own books.

mod support;

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use bowline::{
    Bound, Cancelled, CloseReason, FreeRx, FreeSources, FromSource, LaneStats, Overflow, SendError,
    TryRecvError, group, scope,
};
use futures_util::future::join;
use support::{cancel_everywhere, parked, poll_once};

/// A merged queue whose ends are free, so that a test can hold them next to futures that use them.
async fn merged<T: Send + 'static>(
    per_source: Bound<T>,
    overflow: Overflow,
) -> (FreeSources<T>, FreeRx<FromSource<T>>) {
    scope("merged", async |s| {
        let (sources, rx) = s.cx().merge("merged", per_source, overflow);
        Ok::<_, Cancelled>((sources.free(), rx.free()))
    })
    .await
    .expect("nobody cancels this scope")
}

/// What was received, as `name item`.
fn next(rx: &FreeRx<FromSource<u32>>) -> Result<String, TryRecvError> {
    rx.try_recv().map(|from| format!("{} {}", from.source, from.item))
}

fn names(sources: &[LaneStats]) -> Vec<&str> {
    sources.iter().map(|source| source.name.as_str()).collect()
}

#[bowline::test]
async fn sources_that_have_something_are_received_in_turns() {
    let (sources, rx) = merged(Bound::items(8), Overflow::Block).await;
    let (a, b, c) = (sources.source("a"), sources.source("b"), sources.source("c"));
    for item in 1..=4 {
        a.try_send(item).unwrap();
    }
    b.try_send(1).unwrap();
    b.try_send(2).unwrap();
    let mut got: Vec<String> = (0..2).map(|_| next(&rx).unwrap()).collect();
    c.try_send(1).unwrap(); // comes late, and is not behind all of a
    got.extend((0..5).map(|_| next(&rx).unwrap()));
    assert_eq!(got, ["a 1", "b 1", "a 2", "b 2", "c 1", "a 3", "a 4"]);
    assert_eq!(next(&rx), Err(TryRecvError::Empty));
}

#[bowline::test]
async fn a_source_that_floods_delays_the_others_by_one_item_a_round_and_drops_only_its_own() {
    let (sources, rx) = merged(Bound::items(4), Overflow::DropOldest).await;
    let (noisy, quiet) = (sources.source("noisy"), sources.source("quiet"));
    for item in 0..1_000 {
        noisy.send(item).await.unwrap();
    }
    quiet.send(7).await.unwrap();
    assert_eq!((next(&rx), next(&rx)), (Ok("noisy 996".into()), Ok("quiet 7".into())));
    let (noisy, quiet) = (noisy.stats(), quiet.stats());
    assert_eq!((noisy.sent, noisy.dropped, noisy.received, noisy.depth_items), (1_000, 996, 1, 3));
    assert_eq!((quiet.sent, quiet.dropped, quiet.received, quiet.depth_items), (1, 0, 1, 0));
    let all = sources.stats();
    assert_eq!((all.sent, all.dropped, all.received, all.depth_items, all.max_items), (1_001, 996, 2, 3, 8));
    assert_eq!(names(&all.sources), ["noisy", "quiet"]);
}

#[bowline::test]
async fn a_source_waits_for_room_of_its_own() {
    let (sources, rx) = merged(Bound::items(1), Overflow::Block).await;
    let (a, b) = (sources.source("a"), sources.source("b"));
    a.send(1).await.unwrap();
    let mut second = parked(a.send(2)).await;
    b.send(1).await.unwrap();
    let mut third = parked(b.send(2)).await;
    assert_eq!(next(&rx), Ok("a 1".into()));
    assert!(poll_once(&mut third).await.is_pending(), "not its room");
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(())));
    assert_eq!((next(&rx), next(&rx)), (Ok("b 1".into()), Ok("a 2".into())));
    assert_eq!(poll_once(&mut third).await, Poll::Ready(Ok(())));
}

#[bowline::test]
async fn each_source_is_bounded_in_bytes_too() {
    let (sources, _rx) =
        merged(Bound::items(10).and_bytes(100, |item: &usize| *item), Overflow::Reject).await;
    let (a, b) = (sources.source("a"), sources.source("b"));
    assert_eq!((a.try_send(60), a.try_send(60), b.try_send(60)), (Ok(()), Err(SendError::Full(60)), Ok(())));
    assert_eq!(sources.stats().depth_bytes, 120);
}

#[bowline::test]
async fn a_source_that_is_gone_leaves_what_it_sent_and_is_forgotten_after() {
    let (sources, rx) = merged(Bound::items(4), Overflow::Block).await;
    let (a, b) = (sources.source("a"), sources.source("b"));
    a.try_send(1).unwrap();
    drop((a, b));
    assert_eq!(names(&sources.stats().sources), ["a"], "of b nothing is left");
    assert_eq!(next(&rx), Ok("a 1".into()));
    let stats = sources.stats();
    assert_eq!(
        (names(&stats.sources), stats.sent, stats.received),
        (vec![], 1, 1),
        "its books are kept in the sum"
    );
    let c = sources.source("c");
    c.try_send(2).unwrap();
    assert_eq!((c.stats().sent, next(&rx)), (1, Ok("c 2".into())), "a number that is used again starts anew");
}

#[bowline::test]
async fn a_number_that_is_used_again_has_one_turn_a_round() {
    let (sources, rx) =
        merged(Bound::items(4).and_bytes(100, |item: &u32| *item as usize), Overflow::DropOldest).await;
    let gone = sources.source("gone");
    gone.try_send(60).unwrap();
    let in_flight = rx.try_recv_delivery().unwrap();
    gone.try_send(30).unwrap();
    gone.try_send(90).unwrap(); // drops the 30, and still has no room: the lane is empty, and has its turn still
    assert_eq!((gone.stats().dropped, gone.stats().depth_items), (2, 0));
    drop(gone);
    in_flight.ack();
    let (a, b) = (sources.source("a"), sources.source("b"));
    for item in 1..=3 {
        a.try_send(item).unwrap();
        b.try_send(item).unwrap();
    }
    let got: Vec<String> = (0..4).map(|_| next(&rx).unwrap()).collect();
    assert_eq!(got, ["a 1", "b 1", "a 2", "b 2"]);
}

#[bowline::test]
async fn a_source_that_comes_back_under_its_name_is_the_same_source() {
    let (sources, rx) = merged(Bound::items(2), Overflow::Reject).await;
    let before = sources.source("sensor");
    before.try_send(1).unwrap();
    drop(before);
    let after = sources.source(String::from("sensor"));
    let twin = after.clone();
    twin.try_send(2).unwrap();
    assert_eq!((after.try_send(3), after.stats().sent), (Err(SendError::Full(3)), 2), "one room for both");
    drop(twin);
    assert_eq!((next(&rx), next(&rx)), (Ok("sensor 1".into()), Ok("sensor 2".into())));
    assert_eq!((after.name(), names(&sources.stats().sources)), ("sensor", vec!["sensor"]));
}

#[bowline::test]
async fn the_queue_ends_when_no_source_is_left_and_none_can_be_made() {
    let (sources, rx) = merged(Bound::items(2), Overflow::Block).await;
    let a = sources.source("a");
    drop(sources);
    a.try_send(1).unwrap();
    assert_eq!(rx.close_reason(), None);
    drop(a);
    assert_eq!(rx.close_reason(), Some(CloseReason::SendersGone));
    assert_eq!((next(&rx), rx.recv().await), (Ok("a 1".into()), Ok(None)));
}

#[bowline::test]
async fn sources_learn_that_nobody_receives() {
    let (sources, rx) = merged(Bound::items(1), Overflow::Block).await;
    let a = sources.source("a");
    a.try_send(1).unwrap();
    let mut waiting = parked(a.send(2)).await;
    drop(rx);
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Err(SendError::Closed(2))));
    assert!(a.is_closed());
    assert_eq!((sources.stats().abandoned, sources.stats().depth_items), (1, 0));
}

#[bowline::test]
async fn an_item_of_a_source_can_be_delivered_and_comes_back_to_it() {
    let (sources, rx) = merged(Bound::items(1), Overflow::Reject).await;
    let (a, b) = (sources.source("a"), sources.source("b"));
    a.try_send(1).unwrap();
    let delivery = rx.try_recv_delivery().unwrap();
    assert_eq!((&*delivery.source, delivery.item, a.stats().in_flight), ("a", 1, 1));
    assert_eq!((a.try_send(2), b.try_send(1)), (Err(SendError::Full(2)), Ok(())), "it takes a's room");
    drop(a);
    drop(delivery);
    assert_eq!((next(&rx), next(&rx)), (Ok("b 1".into()), Ok("a 1".into())));
    assert_eq!(names(&sources.stats().sources), ["b"]);
}

#[bowline::test]
async fn a_source_is_held_by_the_task_that_got_it() {
    scope("station", async |s| {
        let me = s.cx().task_id();
        let (sources, rx) = s.cx().merge("readings", Bound::items(1), Overflow::Block);
        let child = s.spawn_with("sensor", sources.source("wind"), async |cx, wind| {
            wind.send(1).await?;
            Ok(cx.task_id())
        });
        let on_its_way = sources.stats().senders;
        assert_eq!(on_its_way.iter().map(|holder| holder.task).collect::<Vec<_>>(), [Some(me), None]);
        assert_eq!(rx.recv().await?.map(|from| from.item), Some(1));
        child.await?;
        let maker = s.spawn_with("accepts", sources, async |cx, sources| {
            let rain = sources.source("rain");
            assert_eq!(sources.stats().senders, [bowline::Holder { task: Some(cx.task_id()), ends: 2 }]);
            rain.send(2).await?;
            Ok(())
        });
        assert_eq!(rx.recv().await?.map(|from| from.item), Some(2));
        maker.await?;
        assert_eq!(rx.recv().await?, None);
        let tree = bowline::tree().to_string();
        assert!(tree.contains("readings") && tree.contains("no sender is left"), "{tree}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_source_with_an_urgent_lane_is_refused() {
    scope("station", async |s| {
        let merge = || drop(s.cx().merge::<u8>("readings", Bound::items(1).and_urgent(1), Overflow::Block));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(merge)).is_err());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_dropped_send_of_a_source_leaves_the_queue_as_it_was() {
    let (sources, rx) = merged(Bound::items(1), Overflow::Block).await;
    let polls = cancel_everywhere(
        || {
            let a = sources.source("a");
            a.try_send(1).unwrap();
            let receives = async {
                tokio::task::yield_now().await;
                rx.recv().await.unwrap();
            };
            async move { join(a.send(2), receives).await.0 }
        },
        async |_polls, _output| {
            while rx.try_recv().is_ok() {}
            let stats = sources.stats();
            assert_eq!((stats.waiting_senders, stats.sent), (0, stats.received));
            assert_eq!(names(&stats.sources), Vec::<&str>::new(), "no lane is kept for who has gone");
        },
    )
    .await;
    assert!(polls > 1);
}

/// Long enough for the slowest machine; what waits this long waits for ever.
const HANG: Duration = Duration::from_secs(60);

/// 150 sensors in one `select!` cost 15% of a core to ask all of them at every wake-up.
#[bowline::test(worker_threads = 2)]
async fn under_load_every_item_of_150_sources_arrives_once_in_its_sources_order() {
    const SOURCES: u32 = 150;
    const ITEMS: u32 = 100;
    let run = group("stress", bowline::FailFast, async |g| {
        let (sources, rx) = g.cx().merge("readings", Bound::items(2), Overflow::Block);
        for sensor in 0..SOURCES {
            g.spawn_with("sensor", sources.source(format!("sensor-{sensor}")), async |_cx, source| {
                for item in 0..ITEMS {
                    source.send(item).await.expect("a receiver is there");
                }
                Ok::<_, Cancelled>(())
            });
        }
        drop(sources);
        let mut expected = BTreeMap::new();
        while let Some(FromSource { source, item, .. }) = rx.recv().await.expect("nobody cancels this") {
            let next = expected.entry(source).or_insert(0);
            assert_eq!(item, *next);
            *next += 1;
        }
        assert!(expected.len() == SOURCES as usize && expected.values().all(|next| *next == ITEMS));
        assert!(rx.stats().sources.is_empty());
    });
    tokio::time::timeout(HANG, run).await.expect("a wake-up was lost").all_ok().unwrap();
}
