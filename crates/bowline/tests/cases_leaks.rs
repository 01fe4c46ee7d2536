//! Tasks and connections that others leaked, beside what becomes of them here. More of these are in `leaks.rs`, `group.rs`
//! and the files of single types: `CASES.md` has the list.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowline::testing::harness::{self, Options};
use bowline::{Bound, Cancelled, Overflow, ScopeInfo, TaskInfo, scope, timeout};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::task::JoinHandle;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Something nobody here owns.
#[expect(clippy::disallowed_methods, reason = "bare tasks are what this is about")]
fn bare<F: Future<Output = ()> + Send + 'static>(future: F) -> JoinHandle<()> {
    tokio::spawn(future)
}

async fn yield_now(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// axum#1507: a WebSocket is closed abnormally. It was split, and the task that writes sleeps at a channel which the hub keeps
/// open: the system's connection stays open for hours. In one scope the end of one half is the end of the other.
#[bowline::test]
async fn the_writer_of_a_connection_ends_with_its_reader_though_the_hub_keeps_its_queue() {
    let socket = Arc::new(());

    let (ours, theirs) = duplex(64);
    let (mut read, mut write) = tokio::io::split(ours);
    let (_hub, mut outbox) = tokio::sync::mpsc::channel::<u8>(8);
    let open = Arc::clone(&socket);
    let writer = bare(async move {
        let _open = open;
        while let Some(byte) = outbox.recv().await {
            if write.write_u8(byte).await.is_err() {
                break;
            }
        }
    });
    let reader = bare(async move { while read.read_u8().await.is_ok() {} });
    drop(theirs);
    reader.await.unwrap();
    yield_now(10).await;
    assert_eq!(Arc::strong_count(&socket), 2, "the bare writer keeps the socket open");
    writer.abort();
    let _ = writer.await;

    let (ours, theirs) = duplex(64);
    let (mut read, mut write) = tokio::io::split(ours);
    let mut hub = None;
    let open = Arc::clone(&socket);
    let served = scope("connection", async |s| {
        let (tx, outbox) = s.queue::<u8>("outbox", Bound::items(8), Overflow::Block);
        hub = Some(tx.free());
        s.spawn_with("write", outbox, async move |_cx, outbox| {
            let _open = open;
            while let Some(byte) = outbox.recv().await? {
                write.write_u8(byte).await?;
            }
            Ok(())
        });
        s.spawn("read", async move {
            loop {
                let _: u8 = read.read_u8().await?;
            }
            #[expect(unreachable_code, reason = "says the type")]
            Ok(())
        });
        yield_now(2).await;
        drop(theirs);
        Ok::<_, Error>(())
    });
    served.await.unwrap_err();
    assert_eq!(Arc::strong_count(&socket), 1);
    assert!(hub.expect("it keeps its end").is_closed());
}

/// ethrex#6577: a time-out drops the `JoinHandle` of blocking work and answers "timed out"; the work runs on, and a few such
/// requests occupy the blocking threads. Here the time-out returns when the work has heard of it and ended.
#[bowline::test(worker_threads = 1)]
async fn a_timeout_over_blocking_work_returns_when_the_work_has_ended() {
    const SHORT: Duration = Duration::from_millis(5);

    let (running, enough) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (runs, told) = (Arc::clone(&running), Arc::clone(&enough));
    #[expect(clippy::disallowed_methods, reason = "bare blocking work is what this is about")]
    let mut bare = tokio::task::spawn_blocking(move || {
        while !told.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        runs.store(false, Ordering::Relaxed);
    });
    assert!(tokio::time::timeout(SHORT, &mut bare).await.is_err());
    assert!(running.load(Ordering::Relaxed), "the bare work runs on");
    enough.store(true, Ordering::Relaxed);
    bare.await.unwrap();

    let running = Arc::new(AtomicBool::new(true));
    let runs = Arc::clone(&running);
    let trace = scope("trace", async |s| {
        s.spawn_blocking("trace block", move || {
            while bowline::check().is_ok() {
                std::thread::yield_now();
            }
            runs.store(false, Ordering::Relaxed);
            bowline::check()
        })
        .await
    });
    let late = timeout(SHORT, trace).await;
    assert!(!running.load(Ordering::Relaxed), "it has ended");
    assert!(matches!(late, Ok(Err(late)) | Err(late) if late.is_deadline()));
}

/// centrifuge#291: goroutines and memory grow over days, and no profile says since when or from where. Two looks at the tree
/// say which line spawns what does not end.
#[bowline::test]
async fn tasks_that_pile_up_are_counted_by_the_line_that_spawns_them() {
    fn count(tasks: &[TaskInfo], scopes: &[ScopeInfo], found: &mut BTreeMap<String, usize>) {
        for task in tasks {
            *found.entry(task.place.clone()).or_default() += 1;
            count(&[], &task.scopes, found);
        }
        for scope in scopes {
            count(&scope.tasks, &scope.scopes, found);
        }
    }
    let look = || {
        let mut found = BTreeMap::new();
        count(&[], &bowline::tree().roots, &mut found);
        found
    };
    let ended = scope("service", async |s| {
        let mut looks = Vec::new();
        for _day in 0..2 {
            for _client in 0..3 {
                s.spawn("serve", async { Ok(()) });
                s.spawn("watch presence", std::future::pending::<Result<(), Cancelled>>());
            }
            yield_now(3).await;
            looks.push(look());
        }
        let line = line!() - 5;
        let grown: Vec<_> =
            looks[1].iter().filter(|(place, now)| looks[0].get(*place) != Some(*now)).collect();
        let [(place, 6)] = &grown[..] else { panic!("{grown:?}") };
        assert!(place.ends_with(&format!("tests/cases_leaks.rs:{line}")), "{place}");
        s.cancel("seen");
        Ok::<_, Cancelled>(())
    });
    ended.await.unwrap_err();
}

/// ants#323: a pool starts a goroutine that purges stale workers; nothing ends it with the pool, and every test that makes one
/// leaks it. A daemon ends with its scope.
#[test]
fn the_janitor_of_a_pool_ends_with_the_pool() {
    async fn purge() {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let failure = |body: &dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = ()>>>| -> Option<String> {
        let run = || harness::run(Options::new("inner"), body());
        let failed: Box<dyn Any + Send> = catch_unwind(AssertUnwindSafe(run)).err()?;
        Some(failed.downcast_ref::<String>().cloned().unwrap_or_default())
    };
    let leaky = failure(&|| {
        Box::pin(async {
            bare(purge());
            yield_now(1).await;
        })
    });
    assert!(leaky.expect("it leaks").contains("1 bare tokio task(s)"));
    let owned = failure(&|| {
        Box::pin(async {
            let pool = scope("pool", async |s| {
                s.spawn_daemon("purge", async {
                    purge().await;
                    Err(bowline::cancelled().await)
                });
                s.spawn("job", async { Ok(7) }).await
            });
            assert_eq!(pool.await, Ok::<_, Cancelled>(7));
        })
    });
    assert_eq!(owned, None);
}
