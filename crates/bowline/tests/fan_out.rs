//! Groups with a limit, and fan-out over iterators and streams: how many run, when room comes back, what ends a wait for it,
//! and what is in memory.

mod support;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    AtMost, Cancelled, Cause, CollectAll, Discard, FailFast, FirstSuccess, Group, GroupHandle, NoRoom,
    Outcome, Quorum, Slot, for_each, group, map, timeout,
};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

#[derive(Debug, PartialEq)]
enum Error {
    Own(&'static str),
    Cancelled(Cause),
}

impl From<Cancelled> for Error {
    fn from(cancelled: Cancelled) -> Self {
        Error::Cancelled(cancelled.cause().clone())
    }
}

/// Counts what lives, and the most that lived at once.
#[derive(Clone, Default)]
struct Living(Arc<(AtomicUsize, AtomicUsize)>);

struct Life(Living);

impl Living {
    fn one(&self) -> Life {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Life(self.clone())
    }
    fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }
    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How much room the group has, by taking it.
fn room<T: Send + 'static, E: Send + 'static, P: bowline::Unlimited>(
    group: &Group<T, E, AtMost<P>>,
) -> usize {
    let mut permits = Vec::new();
    while let Ok(permit) = group.try_reserve() {
        permits.push(permit);
    }
    permits.len()
}

async fn never() -> Result<(), Error> {
    std::future::pending().await
}

// ---- the limit

#[bowline::test(worker_threads = 2)]
async fn a_group_never_runs_more_tasks_than_its_limit() {
    for limit in [1, 2, 5] {
        let living = Living::default();
        let outcome = group("group", CollectAll.at_most(limit), async |g| {
            for task in 0..300 {
                let room = g.reserve().await?;
                let life = living.one();
                room.spawn("task", async move {
                    let _life = life;
                    yield_now(task % 3).await;
                    Ok::<_, Error>(task)
                });
            }
            Ok(())
        })
        .await;
        assert_eq!((living.now(), living.most()), (0, limit));
        assert_eq!(outcome.all_ok().unwrap(), (0..300).collect::<Vec<_>>(), "in spawn order");
    }
}

#[bowline::test(allow_panics)]
async fn room_comes_back_when_the_destructors_have_run_however_the_task_ended() {
    let living = Living::default();
    let outcome = group("group", Discard.at_most(1), async |g| {
        for end in ["value", "error", "panic", "cancel", "abort", "before its first poll"] {
            let room = g.reserve().await?;
            assert_eq!(living.now(), 0, "the one before {end}");
            let life = living.one();
            let member = room.spawn("task", async move {
                let _life = life;
                yield_now(1).await;
                match end {
                    "value" => Ok(()),
                    "error" => Err(Error::Own("failed")),
                    "panic" => panic!("bug"),
                    _ => never().await,
                }
            });
            match end {
                "cancel" => {
                    yield_now(3).await;
                    member.cancel("enough");
                }
                "abort" => {
                    yield_now(3).await;
                    member.abort();
                }
                "before its first poll" => member.abort(),
                _ => {}
            }
        }
        drop(g.reserve().await?);
        assert_eq!((living.now(), room(g)), (0, 1));
        Ok(())
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.ok, counts.failed, counts.panicked, counts.cancelled), (1, 1, 1, 3));
    assert!(outcome.body_error().is_none());
}

/// tokio's `JoinSet` and hand-made permits count a task out while its destructors still run, so more work than the limit
/// is in memory.
#[bowline::test]
async fn while_the_destructors_of_a_task_run_its_room_is_still_taken() {
    struct Checks(GroupHandle<(), Error, AtMost<CollectAll>>, Arc<AtomicUsize>);
    impl Drop for Checks {
        fn drop(&mut self) {
            if self.0.try_reserve().err() == Some(NoRoom::Full) {
                self.1.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    let taken = Arc::new(AtomicUsize::new(0));
    let _ = group("group", CollectAll.at_most(1), async |g| {
        for task in 0..4 {
            let room = g.reserve().await.unwrap();
            let checks = Checks(g.handle(), Arc::clone(&taken));
            let member = room.spawn("task", async move {
                let _checks = &checks;
                match task {
                    0 => yield_now(1).await,
                    1 => panic!("bug"),
                    _ => never().await?,
                }
                Ok(())
            });
            match task {
                2 => member.cancel("enough"),
                3 => member.abort(),
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(taken.load(Ordering::Relaxed), 4);
}

#[bowline::test]
async fn room_that_is_not_used_or_was_refused_its_task_comes_back() {
    let living = Living::default();
    let outcome = group("group", CollectAll.at_most(2), async |g| {
        drop(g.reserve().await.unwrap());
        drop(g.try_reserve().unwrap());
        assert_eq!(room(g), 2);
        let permit = g.reserve().await.unwrap();
        g.close();
        let life = living.one();
        let refused = permit.spawn("refused", async move {
            let _life = life;
            never().await
        });
        assert!(refused.is_finished());
        assert_eq!((living.now(), room(g)), (0, 2));
    })
    .await;
    assert!(
        matches!(outcome.slots(), [("refused", Slot::Cancelled(why))] if why.cause() == &Cause::ScopeClosed)
    );
}

#[bowline::test]
async fn who_waits_for_room_gets_it_in_line() {
    let _ = group("group", Discard.at_most(1), async |g| {
        let first = g.reserve().await.unwrap();
        let mut second = parked(g.reserve()).await;
        let mut third = parked(g.reserve()).await;
        drop(first);
        assert!(poll_once(&mut third).await.is_pending(), "not its turn");
        assert_eq!(g.try_reserve().unwrap_err(), NoRoom::Full, "it is promised");
        let second = second.as_mut().now_or_never().expect("its turn").unwrap();
        second.spawn("task", async { Ok::<_, Error>(()) });
        assert!(third.await.is_ok());
    })
    .await;
}

#[bowline::test]
async fn a_waiter_that_leaves_gives_its_place_and_what_it_was_granted_to_the_next() {
    let _ = group("group", Discard.at_most(1), async |g: &Group<(), Error, _>| {
        for granted_first in [false, true] {
            let first = g.reserve().await.unwrap();
            let leaves = parked(g.reserve()).await;
            let mut next = parked(g.reserve()).await;
            if granted_first {
                drop(first);
                drop(leaves);
            } else {
                drop(leaves);
                drop(first);
            }
            assert!(matches!(poll_once(&mut next).await, std::task::Poll::Ready(Ok(_))));
        }
    })
    .await;
}

#[bowline::test]
async fn cut_at_any_await_a_wait_for_room_leaks_none() {
    let _ = group("group", Discard.at_most(2), async |g: &Group<(), Error, _>| {
        let fill = || {
            for _ in 0..2 {
                g.try_reserve().unwrap().spawn("task", async {
                    yield_now(2).await;
                    Ok(())
                });
            }
        };
        let settled = async |polls: usize| {
            yield_now(6).await;
            assert_eq!(room(g), 2, "cut after {polls} polls");
        };
        let make = || {
            fill();
            async {
                yield_now(1).await;
                g.reserve().await.map(drop)
            }
        };
        assert!(cancel_everywhere(make, async |polls, _| settled(polls).await).await > 2);
        assert!(cancel_context_everywhere(make, async |polls, _| settled(polls).await).await > 2);
    })
    .await;
}

#[bowline::test]
async fn the_tree_shows_who_waits_for_room() {
    let waits = bowline::scope("server", async |s| {
        s.spawn("accept", async {
            let _ = group("uploads", Discard.at_most(1), async |g| {
                g.reserve().await.unwrap().spawn("upload", never());
                let _ = g.reserve().await;
            })
            .await;
            Ok::<_, Cancelled>(())
        });
        yield_now(2).await;
        let tree = bowline::tree().to_string();
        s.cancel("seen");
        assert!(tree.contains("waiting to spawn"), "{tree}");
        Ok(())
    });
    waits.await.unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_deadline_ends_a_wait_for_room() {
    let waited = AtomicBool::new(false);
    let run = group("group", CollectAll.at_most(1), async |g| {
        g.reserve().await?.spawn("parked", never());
        let refused = g.reserve().await.unwrap_err();
        waited.store(refused.is_deadline(), Ordering::Relaxed);
        Ok(())
    });
    let outcome = timeout(Duration::from_secs(1), run).await.unwrap();
    assert!(waited.load(Ordering::Relaxed));
    assert_eq!(outcome.counts().cancelled, 1);
}

/// golang/go#61611: an errgroup with a limit starts the next function also when the context was cancelled while it waited.
/// golang/go#27837: and the error that was the cause gets lost behind "context canceled".
#[bowline::test]
async fn a_failure_ends_a_wait_for_room_and_the_task_is_never_started() {
    let started = AtomicUsize::new(0);
    let outcome = group("group", FailFast.at_most(2), async |g| {
        for task in 0..10 {
            let room = g.reserve().await?;
            started.fetch_add(1, Ordering::Relaxed);
            room.spawn("task", async move {
                yield_now(3).await;
                if task == 1 { Err(Error::Own("important message")) } else { never().await }
            });
        }
        Ok(())
    })
    .await;
    assert_eq!(started.load(Ordering::Relaxed), 2);
    assert_eq!(outcome.body_error(), Some(&Error::Cancelled(Cause::SiblingFailed("task"))));
    assert_eq!(outcome.all_ok(), Err(Error::Own("important message")));
}

/// sourcegraph/conc#107: `Go` on a pool that is full blocks without looking at a context; #88: it deadlocked with tasks that
/// waited to be cancelled.
#[bowline::test]
async fn whoever_cancels_the_context_ends_a_wait_for_room() {
    let outcome = bowline::scope("request", async |s| {
        let request = s.handle();
        s.spawn("client leaves", async move {
            yield_now(4).await;
            request.cancel("the client left");
            Ok(())
        });
        let outcome = group("pool", CollectAll.at_most(1), async |g| {
            g.reserve().await.unwrap().spawn("waits to be told", async { Err(bowline::cancelled().await) });
            let refused = g.reserve().await.unwrap_err();
            assert_eq!(refused.cause(), &Cause::Requested("the client left"));
        })
        .await;
        let Slot::Failed(told) = &outcome.slots()[0].1 else { panic!("{outcome:?}") };
        assert_eq!(told.cause(), &Cause::Requested("the client left"));
        outcome.all_ok()
    });
    let why: Result<Vec<()>, Cancelled> = outcome.await;
    assert_eq!(why.unwrap_err().cause(), &Cause::Requested("the client left"));
}

/// cowprotocol#4804: "0 = unlimited" became a semaphore without permits.
/// futures-rs#2876: `buffered(0)` never polls anything.
#[bowline::test]
async fn a_limit_of_nothing_is_refused_when_it_is_written() {
    let limits: [fn(usize) -> String; 5] = [
        |tasks| format!("{:?}", FailFast.at_most(tasks)),
        |tasks| format!("{:?}", CollectAll.at_most(tasks)),
        |tasks| format!("{:?}", Discard.at_most(tasks)),
        |tasks| format!("{:?}", FirstSuccess.at_most(tasks)),
        |tasks| format!("{:?}", Quorum(1).at_most(tasks)),
    ];
    for limit in limits {
        assert!(limit(1).contains("tasks: 1"));
        assert!(std::panic::catch_unwind(|| limit(0)).is_err());
    }
    // More than tokio's semaphores hold is no more than memory holds.
    assert!(
        group("group", Discard.at_most(usize::MAX), async |g: &Group<(), Error, _>| {
            assert!(g.try_reserve().is_ok());
        })
        .await
        .first_failure()
        .is_none()
    );
}

#[bowline::test]
async fn a_limit_and_a_quorum_go_together() {
    let started = AtomicUsize::new(0);
    let outcome = group("replicas", Quorum(2).at_most(2), async |g| {
        for replica in 0..10 {
            let Ok(room) = g.reserve().await else { return };
            started.fetch_add(1, Ordering::Relaxed);
            room.spawn("write", async move {
                yield_now(1).await;
                if replica == 0 { Err(Error::Own("down")) } else { Ok(replica) }
            });
        }
    })
    .await;
    let written = outcome.quorum().unwrap();
    assert!(written.len() >= 2 && written[0] == 1, "{written:?}");
    assert!(started.load(Ordering::Relaxed) < 10);
}

// ---- members of a group that is full

type Crawl = GroupHandle<(), Error, AtMost<Discard>>;

fn page(
    crawl: Crawl,
    living: Living,
    depth: usize,
    pages: Arc<AtomicUsize>,
) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
    Box::pin(async move {
        pages.fetch_add(1, Ordering::Relaxed);
        for _link in 0..depth {
            yield_now(1).await;
            let link = page(crawl.clone(), living.clone(), depth - 1, Arc::clone(&pages));
            match crawl.try_reserve() {
                Ok(room) => {
                    let life = living.one();
                    room.spawn("page", async move {
                        let _life = life;
                        link.await
                    });
                }
                Err(full) => {
                    assert_eq!(full, NoRoom::Full);
                    link.await?;
                }
            }
        }
        Ok(())
    })
}

#[bowline::test(start_paused = true)]
async fn members_of_a_full_group_that_need_more_tasks_do_the_work_themselves_and_nobody_deadlocks() {
    for limit in [1, 2, 3] {
        let (living, pages) = (Living::default(), Arc::new(AtomicUsize::new(0)));
        let crawl = group("crawl", Discard.at_most(limit), async |g| {
            let (life, first) = (living.one(), page(g.handle(), living.clone(), 5, Arc::clone(&pages)));
            g.reserve().await.unwrap().spawn("page", async move {
                let _life = life;
                first.await
            });
        });
        timeout(Duration::from_secs(60), crawl).await.expect("no deadlock").all_ok().unwrap();
        // 1 + 5 (1 + 4 (1 + 3 (1 + 2 (1 + 1))))
        assert_eq!((pages.load(Ordering::Relaxed), living.most()), (326, limit));
    }
}

#[bowline::test]
async fn a_handle_without_a_group_has_no_room_and_a_kept_permit_no_use() {
    let (mut handle, mut permit) = (None, None);
    let outcome = group("group", CollectAll.at_most(2), async |g: &Group<(), Error, _>| {
        handle = Some(g.handle());
        permit = Some(g.reserve().await.unwrap());
    })
    .await;
    assert_eq!(outcome.slots().len(), 0);
    assert_eq!(handle.unwrap().try_reserve().unwrap_err(), NoRoom::Closed);
    let living = Living::default();
    let life = living.one();
    let member = permit.unwrap().spawn("late", async move {
        let _life = life;
        Ok(())
    });
    assert_eq!((member.is_finished(), living.now()), (true, 0));
}

// ---- fan-out

#[bowline::test]
async fn every_item_has_its_result_or_error_in_the_order_of_the_items() {
    let parse = |text: &'static str| async move {
        yield_now(text.len()).await;
        text.parse::<u8>().map_err(|_| Error::Own(text))
    };
    let texts = ["007", "x", "1", "300", "12"];
    let expected = [Ok(7), Err(Error::Own("x")), Ok(1), Err(Error::Own("300")), Ok(12)];
    let from_iterator = map("parse", CollectAll.at_most(2), texts, parse).await;
    let from_stream = map("parse", CollectAll.at_most(2), stream::iter(texts), parse).await;
    for outcome in [from_iterator, from_stream] {
        let results: Vec<_> = outcome.into_slots().into_iter().map(|(_, slot)| slot.into_result()).collect();
        assert_eq!(results, expected);
    }
}

#[bowline::test]
async fn what_is_mapped_may_be_a_function_an_async_closure_or_borrow_what_is_outside() {
    async fn double(n: u32) -> Result<u32, Error> {
        Ok(n * 2)
    }
    assert_eq!(map("a", FailFast.at_most(4), vec![1, 2], double).await.all_ok(), Ok(vec![2, 4]));
    assert_eq!(
        map("b", FailFast.at_most(4), [1, 2], async |n| Ok::<_, Error>(n + 1)).await.all_ok(),
        Ok(vec![2, 3])
    );
    let mut seen = Vec::new();
    let borrowed = [3, 4];
    let outcome = map("c", FailFast.at_most(1), borrowed.iter(), |n| {
        seen.push(*n);
        double(*n)
    });
    assert_eq!(outcome.await.all_ok(), Ok(vec![6, 8]));
    assert_eq!(seen, [3, 4]);
}

/// A stream without an end that counts what was taken from it.
fn endless(taken: &AtomicUsize) -> impl Stream<Item = usize> {
    stream::repeat(()).map(|()| taken.fetch_add(1, Ordering::SeqCst))
}

#[bowline::test(worker_threads = 2)]
async fn no_item_is_taken_before_there_is_room_for_it() {
    let (taken, living) = (AtomicUsize::new(0), Living::default());
    let items = endless(&taken).take(500).map(|item| (item, living.one()));
    let outcome = for_each("item", CollectAll.at_most(3), items, |(item, life)| async move {
        let _life = life;
        yield_now(item % 3).await;
        Ok::<_, Error>(())
    })
    .await;
    assert_eq!((outcome.counts().ok, living.most(), living.now()), (500, 3, 0));
    assert!(outcome.slots().is_empty(), "nothing is kept");
}

#[bowline::test(worker_threads = 2)]
async fn the_first_failure_ends_a_fan_out_over_a_stream_without_an_end() {
    let taken = AtomicUsize::new(0);
    let outcome = for_each("item", FailFast.at_most(4), endless(&taken), async |item| {
        if item == 1_000 { Err(Error::Own("poison")) } else { Ok(()) }
    })
    .await;
    let counts = outcome.counts();
    assert!(counts.ok >= 996 && counts.failed == 1, "{counts:?}");
    assert_eq!(outcome.all_ok(), Err(Error::Own("poison")));
}

#[bowline::test(allow_panics)]
async fn failures_of_a_for_each_are_counted_and_the_first_is_kept() {
    let outcome = for_each("item", CollectAll.at_most(2), 0..10, |item| async move {
        if item == 7 {
            panic!("bug")
        }
        if item % 4 == 3 { Err(Error::Own("odd")) } else { Ok(()) }
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.ok, counts.failed, counts.panicked), (8, 1, 1));
    assert!(matches!(outcome.first_failure(), Some(("item", Slot::Failed(Error::Own("odd"))))));
}

#[bowline::test(start_paused = true)]
async fn at_a_deadline_a_fan_out_has_what_was_ready_and_its_stream_is_gone() {
    let living = Living::default();
    let life = living.one();
    let ticks = stream::unfold((0, life), |(n, life)| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((n, (n + 1, life)))
    });
    let run = map("tick", CollectAll.at_most(2), ticks, |n| async move {
        if n == 1 { never().await } else { Ok(()) }.map(|()| n)
    });
    let outcome = timeout(Duration::from_millis(4_500), run).await.unwrap();
    assert_eq!(living.now(), 0);
    assert_eq!(outcome.into_ok().collect::<Vec<_>>(), [0, 2, 3]);
}

#[bowline::test]
async fn a_panic_of_the_items_or_of_the_function_goes_on_after_every_task_is_gone() {
    let living = Living::default();
    let parked = |life: Life| async move {
        let _life = life;
        never().await
    };
    let items = (0..3).map(|n| if n == 2 { panic!("bad item") } else { living.one() });
    let run = map("task", CollectAll.at_most(8), items, parked);
    assert!(AssertUnwindSafe(run).catch_unwind().await.is_err());
    assert_eq!(living.now(), 0);

    let run = for_each("task", Discard.at_most(8), 0..3, |n| {
        assert!(n < 2, "bad function");
        parked(living.one())
    });
    assert!(AssertUnwindSafe(run).catch_unwind().await.is_err());
    assert_eq!(living.now(), 0);
}

#[bowline::test(allow_adoption)]
async fn cut_at_any_await_a_fan_out_leaves_nothing_behind() {
    let living = Living::default();
    let make = || {
        let items = stream::iter(0..6).then(|item| async move {
            yield_now(1).await;
            item
        });
        map("item", CollectAll.at_most(2), items, |item| {
            let life = living.one();
            async move {
                let _life = life;
                yield_now(2).await;
                Ok::<_, Error>(item)
            }
        })
    };
    let polls = cancel_everywhere(make, async |polls, _| {
        yield_now(8).await;
        assert_eq!(living.now(), 0, "cut after {polls} polls");
    })
    .await;
    assert!(polls > 6);
    let polls = cancel_context_everywhere(make, async |polls, outcome: Option<Outcome<_, _>>| {
        assert_eq!(living.now(), 0, "cut after {polls} polls");
        assert!(outcome.is_some(), "a cancelled group has an outcome");
    })
    .await;
    assert!(polls > 6);
}

// ---- what happened to others

/// One permit is shared by the items and by whoever consumes their results.
async fn consume_under_the_same_lock(
    results: impl Stream<Item = u32>,
    lock: &tokio::sync::Mutex<u32>,
) -> u32 {
    let mut results = std::pin::pin!(results);
    let mut sum = 0;
    while let Some(result) = results.next().await {
        sum += result + *lock.lock().await;
    }
    sum
}

/// futures-rs#2387: the futures of `buffered` are not polled while the body awaits; one that holds a lock the body needs
/// then holds it for ever.
/// restate sdk-rust#89: `buffered(3)` over a shared context freezes.
#[bowline::test(start_paused = true)]
async fn items_go_on_while_their_consumer_waits_so_a_shared_lock_does_not_freeze_them() {
    let lock = Arc::new(tokio::sync::Mutex::new(0));
    let work = |item: u32| {
        let lock = Arc::clone(&lock);
        async move {
            if item > 0 {
                let _held = lock.lock().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            item
        }
    };
    let frozen = stream::iter(0..6).map(work).buffered(3);
    let frozen = timeout(Duration::from_secs(3600), consume_under_the_same_lock(frozen, &lock)).await;
    assert!(frozen.is_err(), "this is what happens to others");

    let results = Arc::new(Mutex::new(Vec::new()));
    let run = group("pipeline", FailFast.at_most(3), async |g| {
        let mut sum = 0;
        for item in 0..6 {
            let (work, results) = (work(item), Arc::clone(&results));
            g.reserve().await?.spawn("item", async move {
                let result = work.await;
                results.lock().unwrap().push(result);
                Ok::<_, Error>(())
            });
            sum += *lock.lock().await; // the body waits for what its items hold
        }
        assert_eq!(sum, 0);
        Ok(())
    });
    timeout(Duration::from_secs(60), run).await.expect("not frozen").all_ok().unwrap();
    assert_eq!(*results.lock().unwrap(), [0, 1, 2, 3, 4, 5]);

    let items = stream::iter(0..6).then(|item| {
        let lock = &lock;
        async move { item + *lock.lock().await } // the stream waits for what the items hold
    });
    let run = map("item", FailFast.at_most(3), items, |item| work(item).map(Ok::<_, Error>));
    let mapped = timeout(Duration::from_secs(60), run).await.expect("not frozen").all_ok();
    assert_eq!(mapped.unwrap(), [0, 1, 2, 3, 4, 5]);
}
