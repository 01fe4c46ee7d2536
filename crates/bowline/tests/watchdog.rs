//! The watchdog, with real threads: it sees from outside what no task can tell any more.
//!
//! Nothing here depends on how fast the machine is: whoever holds up a thread does so until it has been told of.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    Alert, AlertHook, AlertKind, Bound, Cancelled, Overflow, Runner, Semaphore, Watchdog, on_alert, scope,
    suspicions,
};

/// Longer than any machine takes for it.
const ENOUGH: Duration = Duration::from_secs(60);

/// What is told from here on.
#[derive(Clone)]
struct Told(Arc<Mutex<Receiver<Alert>>>);

impl Told {
    fn here() -> (Self, AlertHook) {
        let (tell, told) = sync_channel(1_000);
        (Self(Arc::new(Mutex::new(told))), on_alert(move |alert| drop(tell.try_send(alert.clone()))))
    }

    /// Blocks the thread until there is an alert of this kind and name.
    fn block_until(&self, kind: AlertKind, name: &str, raised: bool) -> Alert {
        let told = self.0.lock().unwrap();
        loop {
            let alert = told.recv_timeout(ENOUGH).expect("it is told");
            if (alert.kind, &*alert.name, alert.raised) == (kind, name, raised) {
                return alert;
            }
        }
    }
}

fn run<T: Send + 'static>(
    threads: usize,
    watchdog: Watchdog,
    main: impl Future<Output = Result<T, Cancelled>> + Send + 'static,
) -> T {
    let runner = Runner::new("shop").worker_threads(threads).without_signals().watchdog(watchdog);
    let (value, report) = runner.run(main);
    assert!(report.is_clean());
    value.unwrap().unwrap()
}

#[test]
fn a_poll_that_holds_its_thread_is_told_with_task_path_and_place_and_so_is_its_end() {
    let (during, after, line) = run(2, Watchdog::new(), async {
        let (told, _hook) = Told::here();
        let tells = told.clone();
        scope("import", async |s| {
            let line = line!() + 1;
            let parse = s.spawn("parse", async move {
                tokio::task::yield_now().await;
                scope("file", async |_| Ok(tells.block_until(AlertKind::LongPoll, "parse", true))).await
            });
            let during = parse.await?;
            // Now it is main that blocks.
            let after = told.block_until(AlertKind::LongPoll, "parse", false);
            Ok((during, after, line))
        })
        .await
    });
    assert_eq!((during.place.file(), during.place.line()), (file!(), line));
    assert!(during.text.contains("`main/parse`, inside `file` ("), "{during}");
    assert!(after.text.starts_with("it was: one poll of task #"), "{after}");
}

#[test]
fn a_runtime_whose_workers_are_all_held_up_is_told_with_those_who_hold_them() {
    let text = run(2, Watchdog::new().frozen(Duration::from_millis(200)), async {
        let (told, _hook) = Told::here();
        let (end, ended) = sync_channel::<()>(1);
        scope("import", async |s| {
            let parse = s.spawn("parse", async move {
                let alert = told.block_until(AlertKind::Frozen, "shop", true);
                drop(end);
                Ok(alert.text)
            });
            s.spawn("print", async move {
                ended.recv_timeout(ENOUGH).unwrap_err();
                Ok(())
            });
            parse.await
        })
        .await
    });
    assert!(text.starts_with("none of 2 workers has got on for "), "{text}");
    assert!(text.contains("`main/parse` #") && text.contains("`main/print` #"), "{text}");
}

#[test]
fn a_foreign_task_that_holds_a_thread_is_told_as_one() {
    let text = run(2, Watchdog::new(), async {
        let (told, _hook) = Told::here();
        #[expect(clippy::disallowed_methods, reason = "a foreign task is what this is about")]
        let foreign =
            tokio::spawn(async move { told.block_until(AlertKind::LongPoll, "foreign task", true) });
        Ok(foreign.await.unwrap().text)
    });
    assert!(text.starts_with("1 worker is in one poll"), "{text}");
}

#[test]
fn blocking_tasks_without_a_thread_are_told() {
    /// The threads of tokio's lane.
    const LANE: usize = 512;
    // Longer than a thread takes to begin, or the first tasks would be told of.
    let settings = Watchdog::new().blocking(Duration::from_secs(1)).no_progress(Duration::from_millis(200));
    let text = run(1, settings, async {
        let (told, _hook) = Told::here();
        let (open, opened) = sync_channel::<()>(1);
        let opened = Arc::new(Mutex::new(opened));
        let begun = Arc::new(AtomicUsize::new(0));
        scope("files", async |s| {
            for task in 0..LANE + 8 {
                let (opened, begins) = (Arc::clone(&opened), Arc::clone(&begun));
                s.spawn_blocking("read", move || {
                    begins.fetch_add(1, Ordering::Relaxed);
                    let _ = opened.lock().unwrap().recv();
                    Ok(())
                });
                // None of these ends before the others, and each gets a thread before the next is spawned: whoever waits then
                // waits for one that there is not.
                while task < LANE && begun.load(Ordering::Relaxed) <= task {
                    std::thread::yield_now();
                }
            }
            let alert = told.block_until(AlertKind::BlockingFull, "blocking lane", true);
            drop(open);
            Ok::<_, Cancelled>(alert.text)
        })
        .await
    });
    assert!(text.contains(" blocking tasks wait for a thread, the first for "), "{text}");
    assert!(text.contains("512 of ours run, `read` among them"), "{text}");
}

#[bowline::test]
async fn whoever_has_waited_for_long_is_listed_and_whoever_waits_for_work_is_not() {
    let ended = scope("shop", async |s| {
        let gate = Semaphore::empty("gate");
        let (_tx, rx) = s.queue::<u32>("inbox", Bound::items(1), Overflow::Block);
        s.spawn_with("receiver", rx, async |_cx, rx| rx.recv().await.map(drop));
        let line = line!() + 1;
        s.spawn("packer", async move {
            gate.acquire(1).await.map(drop).expect_err("it is cancelled");
            Ok(())
        });
        support::yield_now(3).await;
        let found = suspicions(Duration::ZERO);
        let [packer] = &found[..] else { panic!("{found:?}") };
        assert_eq!((packer.name, &*packer.path, packer.wait.op), ("packer", "packer", "acquire"));
        assert!(packer.place.ends_with(&format!("watchdog.rs:{line}")), "{packer:?}");
        assert!(suspicions(ENOUGH).is_empty(), "not for so long");
        s.cancel("enough");
        Ok::<_, Cancelled>(())
    });
    ended.await.unwrap_err();
}

#[test]
fn what_polls_took_is_in_the_tree_if_somebody_asks_for_it() {
    let runner = Runner::new("shop").worker_threads(1).without_signals().time_polls(true);
    let (seen, _) = runner.run(async {
        scope("shop", async |s| {
            let (hold, held) = sync_channel::<()>(1);
            s.spawn("packer", async move {
                let _ = held.recv_timeout(Duration::from_millis(20)); // this is what its poll takes
                bowline::cancelled().await;
                Ok(())
            });
            support::yield_now(3).await;
            let tree = bowline::tree();
            drop(hold);
            s.cancel("enough");
            Ok::<_, Cancelled>(tree)
        })
        .await
        .unwrap()
    });
    let tree = seen.unwrap();
    let packer = &tree.roots[0].tasks[0].scopes[0].tasks[0];
    let times = packer.poll_times.unwrap();
    assert!(times.busy_us >= 20_000 && times.longest_us >= 20_000, "{times:?}");
    assert!(tree.to_string().contains(" old, busy "), "{tree}");
}
