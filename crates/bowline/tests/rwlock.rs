//! The lock for many readers or one writer: one line for both, and what that means for who reads again.

mod support;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bowline::{Cancelled, ResourceInfo, RwLock, race, scope, timeout};
use futures_util::FutureExt as _;
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

#[bowline::test]
async fn many_read_or_one_writes() -> Result<(), Cancelled> {
    let lock = RwLock::new("prices", 1);
    let (first, second) = (lock.read().await?, lock.try_read().expect("readers share"));
    assert_eq!(*first + *second, 2);
    assert!(lock.try_write().is_none());
    let mut writer = parked(lock.write()).await;
    drop(first);
    assert!(poll_once(&mut writer).await.is_pending());
    drop(second);
    let mut writing = writer.await?;
    *writing += 1;
    assert!(lock.try_read().is_none() && lock.try_write().is_none());
    drop(writing);
    assert_eq!(lock.with_read(|price| *price).await?, 2);
    assert_eq!(lock.into_inner(), 2);
    Ok(())
}

#[bowline::test]
async fn readers_in_line_get_it_together_and_a_writer_between_them_in_its_turn() -> Result<(), Cancelled> {
    let lock = RwLock::new("order", Vec::new());
    let writing = lock.write().await?;
    let first = parked(lock.read()).await;
    let second = parked(lock.read()).await;
    let mut writer = parked(lock.with_write(|order| order.push("writer"))).await;
    let mut last = parked(lock.with_read(Clone::clone)).await;
    drop(writing);
    let (first, second) = (first.await?, second.await?);
    assert!(first.is_empty());
    assert!(poll_once(&mut writer).await.is_pending());
    assert!(poll_once(&mut last).await.is_pending(), "it came after the writer");
    drop((first, second));
    writer.await?;
    assert_eq!(last.await?, ["writer"]);
    Ok(())
}

#[bowline::test]
async fn a_stream_of_readers_does_not_starve_a_writer() -> Result<(), Cancelled> {
    let lock = RwLock::new("busy", 0);
    let reading = lock.read().await?;
    let mut writer = parked(lock.with_write(|value| *value = 1)).await;
    assert!(lock.try_read().is_none(), "nobody overtakes the writer");
    let mut later = parked(lock.with_read(|value| *value)).await;
    drop(reading);
    assert!(poll_once(&mut later).await.is_pending());
    assert!(poll_once(&mut writer).await.is_ready());
    assert_eq!(later.await?, 1);
    Ok(())
}

#[bowline::test]
async fn readers_go_on_when_the_writer_before_them_gives_up() -> Result<(), Cancelled> {
    let lock = RwLock::new("value", 7);
    let _reading = lock.read().await?;
    let writer = parked(lock.write()).await;
    let mut reader = parked(lock.with_read(|value| *value)).await;
    assert!(poll_once(&mut reader).await.is_pending());
    drop(writer);
    assert_eq!(reader.await?, 7);
    Ok(())
}

/// tokio#2849: a task that reads asks to read again while a writer waits: it waits for the writer, and the writer for it. Both are
/// named while it lasts, and the wait ends with its context.
#[bowline::test(start_paused = true)]
async fn reading_again_with_a_writer_in_line_is_seen_and_ends_at_the_deadline() -> Result<(), Cancelled> {
    let lock = RwLock::new("tokio#2849", 0);
    scope("recursion", async |s| {
        let first = lock.read_in(s.cx()).await?;
        let mut writer = parked(lock.write()).await;
        let again = timeout(Duration::from_secs(1), lock.read());
        let (seen, again) = futures_util::future::join(
            async {
                yield_now(1).await;
                lock.stats()
            },
            again,
        )
        .await;
        let ResourceInfo { holders, waiters, .. } = seen;
        assert_eq!(holders.len(), 1);
        assert!(holders[0].certain && holders[0].task == Some(s.cx().task_id()));
        assert_eq!(waiters.iter().map(|waiter| waiter.op).collect::<Vec<_>>(), ["write", "read"]);
        assert_eq!(waiters[1].task, holders[0].task, "it waits for itself");
        assert!(matches!(again, Ok(Err(late)) | Err(late) if late.is_deadline()));
        drop(first);
        assert!(poll_once(&mut writer).await.is_ready());
        Ok(())
    })
    .await
}

/// matrix-rust-sdk#6839: a read guard is held and a callee reads again. In the form that cannot be held across an await the callee gets
/// the value, and there is nothing to hold.
#[bowline::test]
async fn a_callee_gets_the_value_instead_of_a_second_guard() -> Result<(), Cancelled> {
    fn callee(rooms: &[&str]) -> usize {
        rooms.len()
    }
    let lock = RwLock::new("rooms", vec!["a", "b"]);
    let reading = lock.read().await?;
    let writer = parked(lock.with_write(Vec::clear)).await;
    assert_eq!(callee(&reading), 2);
    drop(reading);
    writer.await?;
    assert_eq!(lock.with_read(|rooms| callee(rooms)).await?, 0);
    Ok(())
}

/// neon#5285: a read guard is held across a shutdown, a writer waits behind it, and the shutdown needs a third reader behind the
/// writer. The cancel that a shutdown sends ends the waits, whoever waits for whom.
#[bowline::test]
async fn a_shutdown_is_not_held_up_by_a_reader_a_writer_and_a_reader() {
    struct Tenant {
        state: RwLock<u32>,
    }
    let ended = scope("tenant", async |s| {
        let tenant = s.cx().share("tenant", Tenant { state: RwLock::new("state", 0) });
        s.spawn_with("request", tenant.clone(), async |_cx, tenant| {
            let _reading = tenant.state.read().await?;
            yield_now(2).await;
            tenant.state.read().await.map(drop) // the third reader
        });
        s.spawn_with("detach", tenant.clone(), async |_cx, tenant| {
            yield_now(1).await;
            tenant.state.write().await.map(drop)
        });
        yield_now(6).await;
        let waiters = tenant.state.stats().waiters;
        assert_eq!(waiters.iter().map(|waiter| waiter.op).collect::<Vec<_>>(), ["write", "read"]);
        assert!(waiters.iter().all(|waiter| waiter.place.contains("rwlock.rs")));
        s.cancel("shutdown");
        Ok::<_, Cancelled>(tenant.free())
    })
    .await;
    let Err(ended) = ended else { panic!("it was cancelled") };
    assert_eq!(ended.to_string(), "cancelled: shutdown");
}

#[bowline::test]
async fn a_waiter_dropped_or_cancelled_at_any_point_leaves_the_lock_free() {
    let lock = RwLock::new("cut", 0);
    let contest = async || {
        let holder = async {
            let _reading = lock.read().await?;
            yield_now(2).await;
            Ok::<_, Cancelled>(())
        };
        let writer = async {
            *lock.write().await? += 1;
            Ok(())
        };
        let reader = lock.with_read(|_| ());
        let second = lock.with_write(|count| *count += 1);
        let (a, b, c, d) = futures_util::future::join4(holder, writer, reader, second).await;
        a.and(b).and(c).and(d)
    };
    let check = async |_, ended: Option<Result<(), Cancelled>>| {
        let stats = lock.stats();
        assert!(stats.waiters.is_empty() && stats.holders.is_empty(), "{stats:?}");
        let count = std::mem::take(&mut *lock.try_write().expect("nobody is left"));
        if ended == Some(Ok(())) {
            assert_eq!(count, 2);
        }
    };
    assert!(cancel_everywhere(contest, check).await >= 3);
    assert!(cancel_context_everywhere(contest, check).await >= 3);
}

#[bowline::test]
async fn a_writer_that_panics_leaves_a_suspicion_and_a_reader_none() -> Result<(), Cancelled> {
    let lock = RwLock::new("suspect", 0);
    let reader = AssertUnwindSafe(lock.with_read(|_| panic!("while reading"))).catch_unwind().await;
    assert!(reader.is_err() && !lock.is_suspect());
    let writer = AssertUnwindSafe(lock.with_write(|_| panic!("half-way"))).catch_unwind().await;
    assert!(writer.is_err() && lock.read().await?.is_suspect());
    lock.write().await?.clear_suspect();
    assert!(!lock.is_suspect());
    assert_eq!(lock.stats().panicked_while_held, 1);
    Ok(())
}

#[bowline::test]
async fn the_value_is_dropped_with_the_lock() {
    let value = Arc::new(());
    let lock = RwLock::new("value", Arc::clone(&value));
    drop(lock.try_read());
    drop(lock.try_write());
    drop(lock);
    assert_eq!(Arc::strong_count(&value), 1);
}

/// A waker that runs its task at once, inside `wake`: the earliest moment at which a writer can follow a reader.
struct AtOnce(std::sync::Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Wake for AtOnce {
    fn wake(self: Arc<Self>) {
        let task = self.0.lock().expect("no panic").take();
        let polled = task.expect("woken once").as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready());
    }
}

#[bowline::test]
async fn a_writer_that_runs_within_the_readers_release_has_the_value_to_itself() {
    let lock = Arc::new(RwLock::new("at once", 0));
    let reading = lock.try_read().expect("free");
    let theirs = Arc::clone(&lock);
    let mut writer: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        *theirs.write().await.expect("not cancelled") += 1;
    });
    let task = Arc::new(AtOnce(std::sync::Mutex::new(None)));
    let waker = Waker::from(Arc::clone(&task));
    assert!(writer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    *task.0.lock().expect("no panic") = Some(writer);
    drop(reading);
    assert_eq!(lock.try_read().map(|value| *value), Some(1));
}

#[bowline::test(worker_threads = 2)]
async fn no_reader_sees_a_writer_at_work() -> Result<(), Cancelled> {
    const TURNS: u32 = 300;
    let sum = scope("stress", async |s| {
        let pair = s.cx().share("pair", RwLock::new("pair", (0_u32, 0_u32)));
        for _ in 0..3 {
            s.spawn_with("writer", pair.clone(), async |_cx, pair| {
                for _ in 0..TURNS {
                    race(yield_now(1), pair.write()).await;
                    let mut pair = pair.write().await?;
                    pair.0 += 1;
                    yield_now(1).await;
                    pair.1 += 1;
                }
                Ok(())
            });
        }
        let mut readers = Vec::new();
        for _ in 0..3 {
            readers.push(s.spawn_with("reader", pair.clone(), async |_cx, pair| {
                for _ in 0..TURNS {
                    race(yield_now(1), pair.read()).await;
                    let pair = pair.read().await?;
                    assert_eq!(pair.0, pair.1);
                    yield_now(1).await;
                    assert_eq!(pair.0, pair.1);
                }
                Ok(())
            }));
        }
        for reader in readers {
            reader.await?;
        }
        while pair.with_read(|pair| pair.1).await? < 3 * TURNS {
            yield_now(1).await;
        }
        pair.with_read(|pair| pair.0 + pair.1).await
    })
    .await?;
    assert_eq!(sum, 6 * TURNS);
    Ok(())
}
