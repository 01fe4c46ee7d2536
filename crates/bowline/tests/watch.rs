//! The latest value: nobody misses the last one, and nobody holds anybody up.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bowline::{Cancelled, Cause, FreeWatchRx, FreeWatchTx, Holder, WatchError, contended, group, scope};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

async fn watch<T: Send + Sync + 'static>(initial: T) -> (FreeWatchTx<T>, FreeWatchRx<T>) {
    scope("watch", async |s| {
        let (tx, rx) = s.watch("level", initial);
        Ok::<_, Cancelled>((tx.free(), rx.free()))
    })
    .await
    .expect("nobody cancels this scope")
}

const ENDED: WatchError = WatchError::Ended { name: "level" };

// ---- seeing

#[bowline::test]
async fn the_first_value_is_there_and_is_no_change() {
    let (tx, mut rx) = watch(1).await;
    assert_eq!((rx.cloned(), tx.cloned(), rx.has_changed()), (1, 1, false));
    assert!(rx.changed().now_or_never().is_none());
    tx.send(2);
    assert!(rx.has_changed());
    assert_eq!((rx.changed().await, rx.cloned()), (Ok(()), 2));
    assert!(!rx.has_changed());
}

#[bowline::test]
async fn several_values_may_come_as_one_change_and_the_last_one_is_seen() {
    let (tx, mut rx) = watch(0).await;
    let mut waiting = parked(rx.changed()).await;
    for value in 1..=3 {
        tx.send(value);
    }
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(())));
    drop(waiting);
    assert_eq!((rx.cloned(), rx.changed().now_or_never()), (3, None));
    let stats = rx.stats();
    assert_eq!((stats.sent, stats.received, stats.waits, stats.waiting_receivers), (3, 1, 2, 0));
}

#[bowline::test]
async fn a_clone_has_seen_what_the_original_has_and_a_subscriber_the_value_there_is() {
    let (tx, rx) = watch(0).await;
    tx.send(1);
    let (mut behind, mut present) = (rx.clone(), tx.subscribe());
    assert_eq!(behind.changed().now_or_never(), Some(Ok(())));
    assert_eq!(present.changed().now_or_never(), None);
    tx.send(2);
    assert_eq!((present.changed().await, present.cloned()), (Ok(()), 2));
}

#[bowline::test]
async fn a_value_is_kept_for_receivers_to_come() {
    let (tx, rx) = watch(0).await;
    drop(rx);
    assert!(tx.is_closed());
    tx.send(1);
    let rx = tx.subscribe();
    assert_eq!((rx.cloned(), tx.is_closed()), (1, false));
}

#[bowline::test]
async fn a_wait_for_a_condition_asks_the_present_value_first() {
    let (tx, mut rx) = watch(5).await;
    assert_eq!(rx.wait_for(|value| *value > 3).await.as_deref(), Ok(&5));
    let mut seen = Vec::new();
    {
        let wanted = |value: &u32| {
            seen.push(*value);
            *value > 8
        };
        let mut waiting = parked(rx.wait_for(wanted)).await;
        tx.send(7);
        assert!(poll_once(&mut waiting).await.is_pending());
        tx.send(9);
        assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(Arc::new(9))));
    }
    assert_eq!((seen, rx.has_changed()), (vec![5, 7, 9], false));
}

// ---- changing

#[bowline::test]
async fn receivers_hear_of_a_change_only_if_there_was_one() {
    let (tx, rx) = watch(vec![1]).await;
    assert!(!tx.send_if_modified(|list| {
        list.push(9);
        false
    }));
    assert_eq!((rx.cloned(), rx.has_changed()), (vec![1], false), "a change nobody is told of is none");
    assert!(tx.send_if_modified(|list| {
        list.push(2);
        true
    }));
    assert_eq!((rx.cloned(), rx.has_changed()), (vec![1, 2], true));
}

#[bowline::test]
async fn a_change_that_panics_half_way_changes_nothing() {
    let (tx, rx) = watch(vec![1]).await;
    let changing = std::panic::AssertUnwindSafe(|| {
        tx.send_if_modified(|list| {
            list.clear();
            panic!("half-way")
        })
    });
    assert!(std::panic::catch_unwind(changing).is_err());
    assert_eq!((rx.cloned(), rx.has_changed()), (vec![1], false));
    tx.send(vec![2]);
    assert_eq!(rx.cloned(), [2]);
}

#[bowline::test]
async fn looking_at_a_value_holds_up_no_sender_and_no_other_reader() {
    let (tx, rx) = watch(1).await;
    rx.with(|value| {
        tx.send(2); // with a lock around the look, this would be a deadlock
        assert_eq!((*value, rx.cloned()), (1, 2));
    });
    let held = rx.snapshot();
    tx.send_if_modified(|value| {
        let now = tx.cloned();
        *value = now + 1;
        true
    });
    assert_eq!((*held, rx.cloned()), (2, 3));
}

/// A value that looks at its watch when it is dropped: a deadlock if that happens under the lock.
#[derive(Clone)]
struct Nosy {
    watch: Arc<std::sync::OnceLock<FreeWatchRx<Nosy>>>,
    looked: Arc<AtomicU32>,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(rx) = self.watch.get() {
            let _ = rx.stats();
        }
        self.looked.fetch_add(1, Ordering::Relaxed);
    }
}

#[bowline::test]
async fn values_are_dropped_outside_of_the_lock_and_the_last_with_the_last_end() {
    let (own, looked) = (Arc::new(std::sync::OnceLock::new()), Arc::new(AtomicU32::new(0)));
    let value = || Nosy { watch: Arc::clone(&own), looked: Arc::clone(&looked) };
    let (tx, rx) = watch(value()).await;
    let _ = own.set(tx.subscribe());
    tx.send(value());
    assert_eq!(looked.load(Ordering::Relaxed), 1);
    drop((tx, rx));
    assert_eq!(looked.load(Ordering::Relaxed), 1, "a value that holds an end of its own watch keeps it");

    let other = Arc::new(());
    let (tx, rx) = watch(Arc::clone(&other)).await;
    drop(tx);
    assert_eq!((Arc::strong_count(&other), Arc::strong_count(&rx.cloned())), (2, 3));
    drop(rx);
    assert_eq!(Arc::strong_count(&other), 1);
}

#[bowline::test]
async fn a_change_begins_anew_when_another_sender_was_faster() {
    let (own, looked) = (Arc::new(std::sync::OnceLock::new()), Arc::new(AtomicU32::new(0)));
    let value = || Nosy { watch: Arc::clone(&own), looked: Arc::clone(&looked) };
    let (tx, rx) = watch((0, value())).await;
    let _ = own.set(watch(value()).await.1);
    let mut calls = 0;
    assert!(tx.send_if_modified(|(number, _)| {
        calls += 1;
        if calls == 1 {
            tx.send((10, value()));
        }
        *number += 1;
        true
    }));
    assert_eq!((rx.with(|(number, _)| *number), calls), (11, 2), "neither change is lost");
}

#[bowline::test]
async fn a_value_that_came_too_late_is_dropped_outside_of_the_lock() {
    let own = Arc::new(std::sync::OnceLock::new());
    let looked = Arc::new(AtomicU32::new(0));
    let (tx, rx) = watch(Nosy { watch: Arc::clone(&own), looked: Arc::clone(&looked) }).await;
    let _ = own.set(rx);
    let mut calls = 0;
    assert!(tx.send_if_modified(|_| {
        calls += 1;
        if calls == 1 {
            tx.send(Nosy { watch: Arc::clone(&own), looked: Arc::clone(&looked) });
        }
        true
    }));
    // The first value, the copy of it that came too late, and the other sender's.
    assert_eq!((calls, looked.load(Ordering::Relaxed)), (2, 3));
}

// ---- the end

#[bowline::test]
async fn the_last_value_is_seen_also_after_its_sender_has_gone() {
    let (tx, mut rx) = watch(0).await;
    let mut late = rx.clone();
    let mut waiting = parked(rx.changed()).await;
    tx.send(1);
    drop(tx);
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(())));
    drop(waiting);
    assert_eq!((rx.changed().await, rx.cloned(), rx.is_closed()), (Err(ENDED), 1, true));
    assert_eq!(late.wait_for(|value| *value == 1).await.as_deref(), Ok(&1));
    let error = late.wait_for(|value| *value == 2).await.unwrap_err();
    assert_eq!(error.to_string(), "`level` will not change: no sender of it is left");
    assert_eq!(Cancelled::from(error).cause(), &Cause::SendersGone("level"));
}

#[bowline::test]
async fn receivers_learn_the_end_when_the_last_sender_goes() {
    let (tx, mut rx) = watch(0).await;
    let second = tx.clone();
    let mut waiting = parked(rx.changed()).await;
    drop(tx);
    assert!(poll_once(&mut waiting).await.is_pending());
    drop(second);
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Err(ENDED)));
}

/// axum#2673: an SSE stream waits on a channel that never fires, and the drain waits for the stream. Here the wait itself
/// ends with the drain's cancel, and its place goes with it.
#[bowline::test(start_paused = true)]
async fn a_stream_that_waits_for_a_change_that_never_comes_ends_with_the_cancel() {
    let (tx, rx) = watch(0).await;
    let ended = scope("serve", async |s| {
        let mut rx = rx.clone();
        s.spawn("stream", async move {
            loop {
                match rx.changed().await {
                    Ok(()) => {}
                    Err(WatchError::Ended { .. }) => return Ok(()),
                    Err(WatchError::Cancelled(cancelled)) => {
                        assert_eq!(cancelled.cause(), &Cause::Requested("drain is over"));
                        return Err(cancelled);
                    }
                }
            }
        });
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(tx.stats().waiting_receivers, 1);
        s.cancel("drain is over");
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(ended.unwrap_err().cause(), &Cause::Requested("drain is over"));
    assert_eq!(tx.stats().waiting_receivers, 0);
}

/// mini-redis#38: the wait node of each finished connection was kept.
#[bowline::test]
async fn a_finished_receiver_leaves_no_entry_behind() {
    let (tx, rx) = watch(0).await;
    for _ in 0..1_000 {
        let mut connection = rx.clone();
        drop(parked(connection.changed()).await);
    }
    let mut open: Vec<_> = (0..100).map(|_| rx.clone()).collect();
    let mut waiting = Vec::new();
    for rx in &mut open {
        waiting.push(parked(rx.changed()).await);
    }
    assert_eq!(tx.stats().waiting_receivers, 100);
    waiting.truncate(10);
    assert_eq!(tx.stats().waiting_receivers, 10);
    drop(waiting);
    drop(open);
    let stats = tx.stats();
    assert_eq!((stats.waiting_receivers, stats.receivers.len()), (0, 1));
}

// ---- cut anywhere

#[bowline::test]
async fn a_wait_for_a_change_that_is_dropped_anywhere_has_seen_nothing() {
    let polls = cancel_everywhere(
        || async {
            let (tx, mut rx) = watch(0).await;
            let changing = async {
                for value in 1..=3 {
                    yield_now(2).await;
                    tx.send(value);
                }
                yield_now(2).await;
                tx // until here there is a sender
            };
            let seeing = async {
                let mut seen = 0;
                while seen < 3 {
                    // Given up after a poll, and begun again: the change must still be there.
                    let waited = bowline::race(rx.changed(), tokio::task::yield_now()).await;
                    if let bowline::Either::Left(changed) = waited {
                        changed.unwrap();
                        assert!(rx.cloned() > seen, "seen twice");
                        seen = rx.cloned();
                    }
                }
                seen
            };
            let (seen, tx) = futures_util::future::join(seeing, changing).await;
            (seen, tx.stats().waiting_receivers)
        },
        async |_, output| assert!(output.is_none_or(|output| output == (3, 0))),
    )
    .await;
    assert!(polls > 4, "{polls}");
}

#[bowline::test]
async fn a_cancelled_wait_ends_with_the_cause_and_leaves_the_change_to_be_seen() {
    let polls = cancel_context_everywhere(
        || async {
            let (tx, mut rx) = watch(0).await;
            let changing = async {
                yield_now(2).await;
                tx.send(1);
            };
            let (changed, ()) = futures_util::future::join(rx.changed(), changing).await;
            let late = rx.wait_for(|value| *value == 1).await.map(|value| *value);
            (changed, late, rx.has_changed(), tx.stats().waiting_receivers)
        },
        async |_, output| {
            let Some((changed, late, has_changed, waiting)) = output else { return };
            assert_eq!(waiting, 0);
            match changed {
                Ok(()) => assert!(!has_changed),
                Err(WatchError::Cancelled(cancelled)) => {
                    assert_eq!(cancelled.cause(), &Cause::Requested("cut"));
                    assert!(has_changed && matches!(late, Err(WatchError::Cancelled(_))));
                }
                Err(ended) => panic!("{ended}"),
            }
        },
    )
    .await;
    assert!(polls >= 3);
}

#[bowline::test]
async fn in_a_cancelled_context_nothing_is_seen_though_it_is_there() {
    let (tx, mut rx) = watch(0).await;
    scope("cancelled", async |s| {
        tx.send(1);
        s.cancel("enough");
        assert!(matches!(rx.changed().await, Err(WatchError::Cancelled(_))));
        assert!(matches!(rx.wait_for(|_| true).await, Err(WatchError::Cancelled(_))));
        assert!(rx.has_changed());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- who holds the ends, and what the tree shows

#[bowline::test]
async fn ends_are_booked_where_they_are() {
    scope("outer", async |s| {
        let me = s.cx().task_id();
        let (tx, rx) = s.watch("level", 0);
        let one = |task| Holder { task, ends: 1 };
        assert_eq!((tx.stats().senders, tx.stats().receivers), (vec![one(Some(me))], vec![one(Some(me))]));
        let child = s.spawn_with("child", (rx, tx.subscribe()), async |cx, (mut rx, other)| {
            drop(other);
            assert_eq!(rx.stats().receivers, [Holder { task: Some(cx.task_id()), ends: 1 }]);
            Ok(rx.wait_for(|level| *level == 1).await.map(|level| *level)?)
        });
        assert_eq!(tx.stats().receivers, [Holder { task: None, ends: 2 }], "on their way");
        yield_now(1).await;
        let id = child.id().unwrap();
        assert_eq!(tx.stats().receivers, [one(Some(id))]);
        let text = bowline::tree().to_string();
        assert!(text.contains("<watch> level"), "{text}");
        assert!(text.contains(&format!("waiting for a change #{}", tx.stats().id)), "{text}");
        let facts = contended().into_iter().find(|facts| facts.id == tx.stats().id).unwrap();
        assert_eq!((facts.waiters[0].task, facts.waiters[0].op), (Some(id), "changed"));
        let (free, tx) = (tx.clone().free(), tx);
        assert_eq!(tx.stats().senders.len(), 2);
        let again = free.bind_to(s.cx());
        assert_eq!(tx.stats().senders, [Holder { task: Some(me), ends: 2 }]);
        drop(again);
        tx.send(1);
        assert_eq!(child.await?, 1);
        assert_eq!(tx.stats().receivers, []);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_wait_that_moves_to_another_task_is_woken_there_and_shown_there() {
    let (tx, mut rx) = watch(0).await;
    let id = tx.stats().id;
    let waiting = parked(async move { rx.changed().await }).await; // polled here first
    scope("movers", async |s| {
        let mover = s.spawn("mover", async move { Ok(waiting.await?) });
        yield_now(1).await;
        let facts = contended().into_iter().find(|facts| facts.id == id).unwrap();
        assert_eq!((facts.waiters.len(), facts.waiters[0].task), (1, mover.id()));
        tx.send(1);
        mover.await
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_channel_is_found_again_when_somebody_waits_after_a_quiet_time() {
    let (tx, mut rx) = watch(0).await;
    let is_found = || contended().iter().any(|facts| facts.id == tx.stats().id);
    for _ in 0..3 {
        assert!(!is_found());
        let waiting = parked(rx.changed()).await;
        assert!(is_found());
        drop(waiting);
    }
}

// ---- against a model

#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    SendIf(bool),
    DropTx,
    Wait(usize),
    Poll(usize),
    DropWait(usize),
    WaitFor(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..3_usize;
    let step = prop_oneof![
        4 => Just(Step::Send),
        2 => any::<bool>().prop_map(Step::SendIf),
        1 => Just(Step::DropTx),
        5 => which.clone().prop_map(Step::Wait),
        6 => which.clone().prop_map(Step::Poll),
        3 => which.clone().prop_map(Step::DropWait),
        1 => which.prop_map(Step::WaitFor),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The receiver comes back with the answer.
type Changed = (FreeWatchRx<u32>, Result<(), WatchError>);

/// Who waits, or the receiver until it waits again.
enum Receiver {
    Idle(FreeWatchRx<u32>),
    Waiting(Pin<Box<dyn Future<Output = Changed>>>, Arc<Woken>),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_watch_does_what_the_model_does(steps in steps()) {
        let (tx, rx) = watch(0).now_or_never().expect("making a watch does not wait");
        let observer = rx.clone();
        let mut tx = Some(tx);
        // The model: the value, which is its own version, and what each receiver has seen.
        let (mut value, mut open) = (0, true);
        let mut seen = [0_u32; 3];
        let mut receivers: Vec<Option<Receiver>> =
            (0..3).map(|_| Some(Receiver::Idle(rx.clone()))).collect();
        drop(rx);
        for step in steps {
            match step {
                Step::Send => if let Some(tx) = &tx { value += 1; tx.send(value); },
                Step::SendIf(really) => if let Some(tx) = &tx {
                    value += u32::from(really);
                    assert_eq!(tx.send_if_modified(|value| { *value += 1; really }), really);
                },
                Step::DropTx => { tx = None; open = false; }
                Step::Wait(at) => {
                    let Some(Receiver::Idle(mut rx)) = receivers[at].take_if(|r| matches!(r, Receiver::Idle(_)))
                        else { continue };
                    let waiting = async move { let changed = rx.changed().await; (rx, changed) };
                    receivers[at] = Some(Receiver::Waiting(Box::pin(waiting), Arc::default()));
                    poll(&mut receivers[at], &mut seen[at], value, open);
                }
                Step::Poll(at) => poll(&mut receivers[at], &mut seen[at], value, open),
                Step::DropWait(at) => {
                    // A dropped wait takes its receiver along: a clone of the same mark cannot be made, so begin anew.
                    if matches!(receivers[at], Some(Receiver::Waiting(..))) {
                        receivers[at] = Some(Receiver::Idle(observer.clone()));
                        seen[at] = 0;
                    }
                }
                Step::WaitFor(at) => {
                    let Some(Receiver::Idle(rx)) = &mut receivers[at] else { continue };
                    let found = rx.wait_for(|_| true).now_or_never().unwrap().map(|value| *value);
                    assert_eq!(found, Ok(value));
                    seen[at] = value;
                }
            }
            let waiting = receivers.iter().flatten().filter(|r| matches!(r, Receiver::Waiting(_, woken) if !woken.0.load(Ordering::Relaxed))).count();
            let stats = observer.stats();
            assert_eq!((stats.sent, stats.waiting_receivers), (u64::from(value), waiting), "those who wait are in the list");
            for (receiver, seen) in receivers.iter().zip(seen) {
                match receiver {
                    Some(Receiver::Idle(rx)) => assert_eq!((rx.cloned(), rx.has_changed()), (value, value > seen)),
                    Some(Receiver::Waiting(_, woken)) => {
                        assert!(woken.0.load(Ordering::Relaxed) || (value == seen && open), "could go on and was not woken");
                    }
                    None => unreachable!("it is put back"),
                }
            }
        }
        drop(receivers);
        assert_eq!(observer.stats().waiting_receivers, 0);
    }
}

fn poll(receiver: &mut Option<Receiver>, seen: &mut u32, value: u32, open: bool) {
    let Some(Receiver::Waiting(waiting, woken)) = receiver else { return };
    woken.0.store(false, Ordering::Relaxed);
    let waker = Waker::from(Arc::clone(woken));
    let polled = waiting.as_mut().poll(&mut Context::from_waker(&waker));
    let expected = match (value > *seen, open) {
        (true, _) => Some(Ok(())),
        (false, false) => Some(Err(ENDED)),
        (false, true) => None,
    };
    match polled {
        Poll::Pending => assert_eq!(expected, None),
        Poll::Ready((rx, changed)) => {
            assert_eq!(Some(changed), expected);
            *seen = value;
            *receiver = Some(Receiver::Idle(rx));
        }
    }
}

// ---- many at once

/// Long enough for the slowest machine; what waits this long waits for ever.
const HANG: Duration = Duration::from_secs(60);

#[bowline::test(worker_threads = 2)]
async fn under_load_no_change_of_a_counter_is_lost_and_everybody_sees_the_last() {
    const ADDS: u32 = 2_000;
    let run = group("stress", bowline::FailFast, async |g| {
        let (tx, rx) = g.cx().watch("counter", 0);
        for _ in 0..3 {
            g.spawn_with("add", tx.clone(), async |_cx, tx| {
                for add in 0..ADDS {
                    tx.send_if_modified(|counter| {
                        *counter += 1;
                        true
                    });
                    if add % 16 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Ok::<_, Cancelled>(3 * ADDS)
            });
        }
        for _ in 0..3 {
            g.spawn_with("see", rx.clone(), async |_cx, mut rx| {
                let mut last = 0;
                while rx.changed().await.is_ok() {
                    let now = rx.cloned();
                    assert!(now >= last, "it went backwards");
                    last = now;
                }
                Ok(last)
            });
        }
    });
    let seen = tokio::time::timeout(HANG, run).await.expect("a wake-up was lost").all_ok().unwrap();
    assert_eq!(seen, [3 * ADDS; 6]);
}
