//! What grew without a bound, or stood still at one, in others' programs, beside what holds here. More of these are in `queue.rs`,
//! `fan_out.rs` and `testkit.rs`: `CASES.md` has the list.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline::{
    AtMost, Bound, Cancelled, CloseReason, CollectAll, Discard, GroupHandle, NoRoom, Overflow, SendError,
    Slot, group, scope, timeout,
};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// How long a test waits before it calls a program stuck. The clock is paused: it costs nothing.
const FOR_EVER: Duration = Duration::from_secs(3600);

async fn yield_now(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

// ---- memory

/// polkadot-sdk#1489: memory grows in one of many channels, and there is no metric by channel name that says in which.
#[bowline::test]
async fn every_queue_is_in_the_tree_with_its_name_and_its_size() -> Result<(), Cancelled> {
    scope("node", async |s| {
        let bound = || Bound::items(100).and_bytes(1 << 20, Vec::<u8>::len);
        let (to_sync, _sync) = s.queue("to sync", bound(), Overflow::Block);
        let (to_network, _network) = s.queue("to network", bound(), Overflow::Block);
        to_sync.send(vec![0; 10]).await?;
        for _ in 0..3 {
            to_network.send(vec![0; 500]).await?;
        }
        let tree = bowline::tree();
        let mut scopes: Vec<_> = tree.roots.iter().collect();
        let mut sizes = BTreeMap::new();
        while let Some(scope) = scopes.pop() {
            scopes.extend(&scope.scopes);
            sizes.extend(
                scope.queues.iter().map(|queue| (queue.name, (queue.depth_items, queue.depth_bytes))),
            );
        }
        assert_eq!(sizes, BTreeMap::from([("to sync", (1, 10)), ("to network", (3, 1_500))]));
        Ok(())
    })
    .await
}

/// rust-libp2p#3078: no backpressure between components: whoever is slow collects what the others send. The tracking issue asks
/// to bound everything; here nothing else can be written.
#[bowline::test(start_paused = true)]
async fn a_slow_component_holds_up_those_before_it() -> Result<(), Cancelled> {
    const MESSAGES: usize = 50;

    let (ahead, done) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    #[expect(clippy::disallowed_methods, reason = "the queue without a bound is what this is about")]
    let (tx, slow) = tokio::sync::mpsc::unbounded_channel();
    (0..MESSAGES).for_each(|message| tx.send(message).unwrap());
    assert_eq!(slow.len(), MESSAGES, "the bare channel takes it all");

    scope("swarm", async |s| {
        let (dial, dialled) = s.queue("transport", Bound::items(2), Overflow::Block);
        let (act, acted) = s.queue("behaviour", Bound::items(2), Overflow::Block);
        s.spawn_with("transport", (dialled, act), async |_cx, (dialled, act)| {
            while let Some(message) = dialled.recv().await? {
                act.send(message).await?;
            }
            Ok(())
        });
        let count = Arc::clone(&done);
        s.spawn_with("behaviour", acted, async move |_cx, acted| {
            while acted.recv().await?.is_some() {
                sleep(SECOND).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        for message in 0..MESSAGES {
            dial.send(message).await?;
            ahead.fetch_max(message + 1 - done.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok::<_, Cancelled>(())
    })
    .await?;
    assert_eq!(done.load(Ordering::Relaxed), MESSAGES);
    // Two queues of two, and one message in the hands of each component.
    assert_eq!(ahead.load(Ordering::Relaxed), 6);
    Ok(())
}

/// litep2p#55: the handler of a connection waits to send to a protocol that does not read, and the notifications of all other
/// protocols pile up behind it. A queue that rejects is one the handler need not wait for; what it refuses is counted.
#[bowline::test(start_paused = true)]
async fn a_protocol_that_does_not_read_does_not_hold_up_the_handler_of_the_others() -> Result<(), Cancelled> {
    let (stuck, _never_reads) = tokio::sync::mpsc::channel(1);
    let (lively, mut reads) = tokio::sync::mpsc::channel(10);
    let handler = async {
        for notification in 0..10 {
            stuck.send(notification).await.unwrap();
            lively.send(notification).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(FOR_EVER, handler).await.is_err(), "the bare handler stands still");
    assert_eq!((reads.try_recv().is_ok(), reads.try_recv().is_ok()), (true, false));

    scope("connection", async |s| {
        let (stuck, _never_reads) = s.queue("stuck", Bound::items(1), Overflow::Reject);
        let (lively, reads) = s.queue("lively", Bound::items(10), Overflow::Reject);
        for notification in 0..10 {
            stuck.send(notification).await.ok();
            lively.send(notification).await?;
        }
        assert_eq!((stuck.stats().refused, reads.stats().depth_items), (9, 10));
        Ok(())
    })
    .await
}

/// ethrex#6900: an actor with an unbounded mailbox, and connections without a time limit for their handshake: 1.5 GB a day at
/// rest, 347 connections become 432.
#[bowline::test(start_paused = true)]
async fn peers_that_say_nothing_and_an_actor_that_does_not_read_cost_no_more_tomorrow()
-> Result<(), Cancelled> {
    scope("p2p", async |s| {
        let (mailbox, _actor) = s.queue("peer table", Bound::items(16), Overflow::DropOldest);
        let _ = group("peers", Discard, async |g| {
            for peer in 0..1_000 {
                g.spawn("handshake", timeout(5 * SECOND, std::future::pending::<()>()));
                mailbox.send(peer).await?;
                sleep(10 * SECOND).await;
                assert_eq!(bowline::tree().tasks, 0, "after peer {peer}");
            }
            Ok(())
        })
        .await;
        let stats = mailbox.stats();
        assert_eq!((stats.sent, stats.depth_items, stats.dropped), (1_000, 16, 984));
        Ok(())
    })
    .await
}

/// monorepo#572 of QuilibriumNetwork: three unbounded queues, 28 to 40 GB of memory. A bound in bytes for each bounds them together,
/// whatever the size of a message.
#[bowline::test]
async fn three_queues_hold_no_more_bytes_than_their_bounds_together() -> Result<(), Cancelled> {
    const MAX_BYTES: usize = 1_000;
    scope("node", async |s| {
        let bound = || Bound::items(1_000_000).and_bytes(MAX_BYTES, |bytes: &usize| *bytes);
        let queues = [
            s.queue("frames", bound(), Overflow::Reject),
            s.queue("messages", bound(), Overflow::DropOldest),
            s.queue("proofs", bound(), Overflow::DropNewest),
        ];
        for message in 0..10_000 {
            for (tx, _rx) in &queues {
                tx.send(1 + message % 300).await.ok();
            }
        }
        let held: usize = queues.iter().map(|(tx, _rx)| tx.stats().depth_bytes).sum();
        assert!((MAX_BYTES..=3 * MAX_BYTES).contains(&held), "{held}");
        Ok(())
    })
    .await
}

// ---- a limited number of tasks

/// ants#197: a task of a full pool submits to its pool and waits for a worker; all workers are such tasks. A member cannot wait
/// for its own group: it is told at once and does the work itself.
#[bowline::test(start_paused = true)]
async fn a_task_that_submits_to_its_own_full_group_does_not_wait_for_itself() {
    let workers = Arc::new(tokio::sync::Semaphore::new(1));
    let nested = async {
        let _outer = workers.acquire().await.unwrap();
        let _inner = workers.acquire().await.unwrap();
    };
    assert!(tokio::time::timeout(FOR_EVER, nested).await.is_err(), "the bare pool stands still");

    async fn submits(pool: GroupHandle<u32, Cancelled, AtMost<CollectAll>>) -> Result<u32, Cancelled> {
        let job = async { Ok(7) };
        match pool.try_reserve() {
            Ok(_room) => panic!("the only place is this task's"),
            Err(full) => {
                assert_eq!(full, NoRoom::Full);
                job.await
            }
        }
    }
    let pool = group("pool", CollectAll.at_most(1), async |g| {
        for _ in 0..3 {
            g.reserve().await?.spawn("submits", submits(g.handle()));
        }
        Ok(())
    });
    let ended = timeout(FOR_EVER, pool).await.expect("ours does not");
    assert_eq!(ended.into_ok().collect::<Vec<_>>(), [7, 7, 7]);
}

/// ants#146: every worker panics, and those who wait for one sleep until the next purge of stale workers, ten seconds each.
#[bowline::test(start_paused = true)]
async fn the_place_of_a_task_that_panicked_goes_to_the_next_at_once() {
    let began = Instant::now();
    let pool = group("pool", CollectAll.at_most(1), async |g| {
        for _ in 0..5 {
            g.reserve().await?.spawn("panics", async move {
                sleep(Duration::from_millis(10)).await;
                if began.elapsed() < FOR_EVER {
                    panic!("test panic");
                }
                Ok(())
            });
        }
        Ok::<(), Cancelled>(())
    });
    assert_eq!(pool.await.counts().panicked, 5);
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
}

/// pond#138: tasks are submitted in bulk and the context is cancelled before they start: the worker leaves without taking them from
/// its queue, so nobody counts them out and `Wait` never returns. Here each of them has a slot, started or not.
#[bowline::test(start_paused = true)]
async fn tasks_that_were_not_started_when_the_context_was_cancelled_are_counted_out_too() {
    for workers in [1, 3] {
        let bulk = group("bulk", CollectAll.at_most(workers), async |g| {
            for _ in 0..20 {
                let room = g.reserve().await?;
                room.spawn("task", async {
                    sleep(SECOND / 2).await;
                    Ok(())
                });
            }
            Ok::<(), Cancelled>(())
        });
        let ended = timeout(SECOND / 10, bulk);
        let ended = tokio::time::timeout(FOR_EVER, ended).await.expect("it returns").unwrap();
        assert_eq!((ended.counts().cancelled, ended.slots().len()), (workers as u64, workers));
        assert!(ended.body_error().is_some_and(Cancelled::is_deadline));
    }
    // And where nothing limits them, a cancel before their first turn:
    let bulk = group("bulk", CollectAll, async |g| {
        for _ in 0..20 {
            g.spawn("task", std::future::pending::<Result<(), Cancelled>>());
        }
        g.cancel("before their first turn");
    });
    let ended = tokio::time::timeout(FOR_EVER, bulk).await.expect("it returns");
    assert!(ended.slots().iter().all(|(_, slot)| matches!(slot, Slot::Cancelled(_))), "{ended:?}");
}

/// pond#61: the parent context is cancelled while tasks stand in the worker's queue, and `StopAndWait` blocks for ever.
#[bowline::test(start_paused = true)]
async fn a_worker_that_is_cancelled_with_a_full_queue_ends_and_says_what_it_left() {
    let mut kept = None;
    let pool = scope("pool", async |s| {
        let (submit, tasks) = s.queue::<Duration>("tasks", Bound::items(5), Overflow::Block);
        s.spawn_with("worker", tasks, async |_cx, tasks| {
            while let Some(task) = tasks.recv().await? {
                sleep(task).await;
            }
            Ok(())
        });
        let submit = kept.insert(submit.free());
        for _ in 0..5 {
            submit.send(60 * SECOND).await?;
        }
        yield_now(2).await;
        s.cancel("stop and wait");
        Ok::<_, Cancelled>(())
    });
    tokio::time::timeout(SECOND, pool).await.expect("it returns at once").unwrap_err();
    let submit = kept.expect("it was made");
    let stats = submit.stats();
    assert_eq!((stats.received, stats.abandoned, stats.closed), (1, 4, Some(CloseReason::ReceiversGone)));
    assert!(matches!(submit.try_send(SECOND), Err(SendError::Closed(..))));
}

/// pond#135: a task ends without returning (`runtime.Goexit`, as test libraries do), is never counted out, and `StopAndWait`
/// blocks for ever. The ways in which a task here can end without a value:
#[bowline::test(start_paused = true)]
async fn a_task_that_ends_without_returning_is_counted_out() {
    let pool = group("pool", CollectAll.at_most(1), async |g| {
        g.reserve().await?.spawn("unwinds", async { std::panic::resume_unwind(Box::new("no message")) });
        for abort in [true, false] {
            let member = g.reserve().await?.spawn("never returns", std::future::pending());
            if abort { member.abort() } else { member.cancel("enough") }
        }
        g.reserve().await?.spawn("after them", async { Ok(7) });
        Ok::<_, Cancelled>(())
    });
    let ended = timeout(FOR_EVER, pool).await.expect("nothing is cut");
    let counts = ended.counts();
    assert_eq!((counts.panicked, counts.cancelled, counts.ok), (1, 2, 1), "{ended:?}");
}
