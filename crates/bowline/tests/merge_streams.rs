//! Merging streams: fair, complete, and nothing lost when the wait is cut short.

#![allow(
    clippy::await_holding_refcell_ref,
    reason = "a test of one task; only one part of it borrows at a time"
)]

mod support;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bowline::{Bound, Cancelled, FreeRx, Overflow, join, merge, merge_all};
use futures_core::Stream;
use futures_util::{StreamExt, stream};
use support::{cancel_context_everywhere, cancel_everywhere, queue, yield_now};

/// A receiver as a stream of what it receives.
fn received(rx: FreeRx<u32>) -> Pin<Box<dyn Stream<Item = u32>>> {
    Box::pin(stream::unfold(rx, async |rx| rx.recv().await.ok().flatten().map(|item| (item, rx))))
}

#[bowline::test]
async fn a_noisy_stream_does_not_keep_the_others_from_being_heard() {
    let mut pair = merge(stream::repeat(0), stream::iter([1, 1]));
    let mut heard = Vec::new();
    while heard.len() < 6 {
        heard.push(pair.next().await.unwrap().unwrap());
    }
    assert_eq!(heard, [0, 1, 0, 1, 0, 0]);
    let noisy = |source: usize| stream::repeat(source).take(if source == 0 { 100 } else { 10 });
    for mut all in [
        Box::pin(merge_all([noisy(0), noisy(1), noisy(2)])) as Pin<Box<dyn Stream<Item = usize>>>,
        Box::pin(merge_all(vec![noisy(0), noisy(1), noisy(2)])),
        Box::pin(merge_all((noisy(0), noisy(1), noisy(2)))),
    ] {
        let heard: Vec<usize> = (&mut all).take(30).collect().await;
        assert_eq!(heard.iter().filter(|source| **source == 2).count(), 10);
        assert_eq!(all.count().await, 90);
    }
}

#[bowline::test]
async fn it_ends_when_all_have_ended_and_stays_ended() {
    let mut three = merge_all((stream::iter(0..3), stream::empty(), stream::iter(10..11)));
    let mut items = Vec::new();
    while let Some(item) = three.next().await.unwrap() {
        items.push(item);
    }
    items.sort_unstable();
    assert_eq!(items, [0, 1, 2, 10]);
    assert_eq!(three.next().await, Ok(None));
    assert_eq!(merge_all(Vec::<stream::Empty<()>>::new()).next().await, Ok(None));
    assert_eq!(merge_all([] as [stream::Empty<()>; 0]).next().await, Ok(None));
}

#[bowline::test]
async fn a_stream_that_has_ended_is_dropped_while_the_others_go_on() {
    let guard = Arc::new(());
    let ends = {
        let guard = Arc::clone(&guard);
        stream::poll_fn(move |_| {
            let _guard = &guard;
            Poll::Ready(None)
        })
    };
    let mut both = merge(ends, stream::repeat(7));
    assert_eq!(both.next().await, Ok(Some(7)));
    assert_eq!(Arc::strong_count(&guard), 1);
}

#[bowline::test]
async fn an_item_is_heard_from_whichever_stream_wakes() {
    let (tx_a, rx_a) = queue(Bound::items(4), Overflow::Block).await;
    let (tx_b, rx_b) = queue(Bound::items(4), Overflow::Block).await;
    let sends = async {
        for n in 0..5 {
            yield_now(2).await;
            tx_b.send(10 + n).await.unwrap();
            yield_now(2).await;
            tx_a.send(n).await.unwrap();
        }
        drop((tx_a, tx_b));
    };
    let mut merged = merge_all(vec![received(rx_a), received(rx_b)]);
    let receives = async {
        let mut got = Vec::new();
        while let Some(item) = merged.next().await? {
            got.push(item);
        }
        Ok::<_, Cancelled>(got)
    };
    let ((), got) = join(sends, receives).await;
    assert_eq!(got.unwrap(), [10, 0, 11, 1, 12, 2, 13, 3, 14, 4]);
}

/// summerset#11, mdk#712: an arm that is dropped between taking a message and handing it over loses it.
#[bowline::test]
async fn an_item_leaves_its_stream_only_to_be_returned() {
    let world = Rc::new(RefCell::new(None));
    let make = || async {
        let (tx, rx) = queue::<u32>(Bound::items(8), Overflow::Block).await;
        let other = stream::iter([100, 101]);
        let got = Rc::new(RefCell::new(Vec::new()));
        let merged = Rc::new(RefCell::new(merge_all((received(rx), other.boxed_local()))));
        *world.borrow_mut() = Some((tx.clone(), Rc::clone(&merged), Rc::clone(&got)));
        let sends = async {
            for n in 0..3 {
                yield_now(1).await;
                tx.send(n).await.unwrap();
            }
        };
        let receives = async {
            for _ in 0..5 {
                let item = merged.borrow_mut().next().await.unwrap().unwrap();
                got.borrow_mut().push(item);
            }
        };
        join(receives, sends).await;
    };
    let polls = cancel_everywhere(make, async |_, _| {
        let (tx, merged, got) = world.take().unwrap();
        let sent = tx.stats().sent;
        drop(tx);
        let mut got = got.take();
        while let Some(item) = merged.borrow_mut().next().await.unwrap() {
            got.push(item);
        }
        got.sort_unstable();
        let expected: Vec<u32> = (0..u32::try_from(sent).unwrap()).chain([100, 101]).collect();
        assert_eq!(got, expected);
    });
    assert!(polls.await > 3);
}

#[bowline::test]
async fn a_cancel_ends_the_wait_for_the_next_item_and_takes_nothing() {
    let make = || async {
        let mut merged = merge(stream::pending::<u32>(), stream::once(yield_now(3)).map(|()| 1));
        let first = merged.next().await;
        (first, merged)
    };
    let polls = cancel_context_everywhere(make, async |polls, ended| {
        let (first, mut merged) = ended.expect("the wait ended by itself");
        match first {
            Ok(first) => assert_eq!((first, polls), (Some(1), 4)),
            Err(_) => assert_eq!(merged.next().await, Ok(Some(1)), "still there, in a context that lives"),
        }
    });
    assert_eq!(polls.await, 4);
}

#[bowline::test]
async fn a_wait_for_the_next_item_is_shown_as_one() {
    bowline::scope("outer", async |s| {
        let waits = s.spawn("waits", async {
            merge(stream::pending::<u32>(), stream::pending()).next().await?;
            Ok(())
        });
        yield_now(2).await;
        assert!(bowline::tree().to_string().contains("waiting to merge"), "{}", bowline::tree());
        waits.cancel("seen");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}
