//! Real cases: supervisors that hung, that started what was stopped, or that did not notice.

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    AddChildError, Alert, AlertKind, Backoff, Bound, Cancelled, Child, ChildError, ChildState, Life,
    NotRunning, Overflow, Restart, Restarts, Strategy, Supervisor, SupervisorHandle, on_alert, scope,
};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Backoff = Backoff::exponential(Duration::from_secs(3_600), Duration::from_secs(3_600));
const ALL: Restarts = Restarts::at_most(1_000_000);

async fn serve() -> Result<(), ChildError> {
    Err(bowline::cancelled().await.into())
}

fn heard() -> (Arc<Mutex<Vec<Alert>>>, bowline::AlertHook) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    (heard, on_alert(move |alert| kept.lock().unwrap().push(alert.clone())))
}

/// Counts how many of something live.
struct One(Arc<AtomicU32>);

impl One {
    fn of(living: &Arc<AtomicU32>) -> Self {
        living.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(living))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A supervisor whose child panics in its first life, and is in its back-off for up to an hour.
async fn in_back_off(s: &bowline::Scope<Cancelled>, starts: &Arc<AtomicU32>) -> SupervisorHandle {
    let starts = Arc::clone(starts);
    let running = Supervisor::new("feeds", Strategy::OneForOne)
        .backoff(LONG)
        .child("feed", Restart::Permanent, async move |life: Life| {
            starts.fetch_add(1, Ordering::SeqCst);
            if life.incarnation() == 1 {
                panic!("the first life is short");
            }
            serve().await
        })
        .start(s);
    while running.child("feed").unwrap().state() != ChildState::BackingOff {
        tokio::task::yield_now().await;
    }
    running
}

/// suture#58: after a panic, while the supervisor backs off, it cannot be stopped before its time limit runs out.
#[bowline::test(start_paused = true, schedules = 20)]
async fn a_supervisor_whose_child_panicked_stops_at_once_in_its_back_off() {
    let begun = Instant::now();
    scope("top", async |s| {
        let running = in_back_off(s, &Arc::default()).await;
        running.stop("feed").await.unwrap();
        in_back_off(s, &Arc::default()).await; // this one ends with the scope
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// suture#34: stopped right after a service was removed, the supervisor takes its whole limit and reports a time-out.
#[bowline::test(start_paused = true, schedules = 20)]
async fn a_supervisor_that_ends_right_after_a_removal_waits_for_nobody() {
    let (heard, _hook) = heard();
    let begun = Instant::now();
    scope("top", async |s| {
        let running = Supervisor::new("feeds", Strategy::OneForOne)
            .child("a", Restart::Permanent, |_life| serve())
            .child("b", Restart::Permanent, |_life| serve())
            .start(s);
        running.wait_ready().await?;
        running.remove("a").await.unwrap();
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(heard.lock().unwrap().is_empty());
}

/// suture#35: a hundred nested supervisors, stopped right after they were started in the background, panic now and then.
#[bowline::test(start_paused = true, schedules = 10)]
async fn nested_supervisors_that_are_stopped_as_soon_as_they_are_started_just_end() {
    let living = Arc::new(AtomicU32::new(0));
    let inside = Arc::clone(&living);
    let mut nested = Supervisor::new("innermost", Strategy::OneForOne).child(
        "service",
        Restart::Permanent,
        async move |_life| {
            let _one = One::of(&inside);
            serve().await
        },
    );
    for _ in 0..30 {
        nested = Supervisor::new("local", Strategy::OneForOne).child_with(Child::supervisor(nested));
    }
    for turns in 0..40 {
        scope("top", async |s| {
            nested.clone().start(s);
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
        assert_eq!(living.load(Ordering::SeqCst), 0);
    }
}

/// suture#12, suture#14: stopped, a supervisor returns while services still clean up, those of supervisors below it too.
#[bowline::test(start_paused = true, schedules = 20)]
async fn a_stopped_supervisor_is_gone_when_its_services_have_cleaned_up_and_not_before() {
    let living = Arc::new(AtomicU32::new(0));
    let service = |living: &Arc<AtomicU32>, takes: Duration| {
        let living = Arc::clone(living);
        async move |_life: Life| {
            let _one = One::of(&living);
            let goes = bowline::cancelled().await;
            bowline::shielded(takes, tokio::time::sleep(takes)).await?;
            Err::<(), ChildError>(goes.into())
        }
    };
    let inner = Supervisor::new("inner", Strategy::OneForOne)
        .child("slow", Restart::Permanent, service(&living, SECOND))
        .child("slower", Restart::Permanent, service(&living, SECOND * 2));
    scope("top", async |s| {
        let outer = Supervisor::new("outer", Strategy::OneForOne)
            .child_with(Child::supervisor(inner.clone()))
            .child("quick", Restart::Permanent, service(&living, SECOND))
            .start(s);
        outer.wait_ready().await?;
        assert_eq!(living.load(Ordering::SeqCst), 3);
        let begun = Instant::now();
        outer.stop("inner").await.unwrap();
        assert_eq!((living.load(Ordering::SeqCst), begun.elapsed().as_secs()), (1, 3), "one after the other");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(living.load(Ordering::SeqCst), 0);
}

/// suture#41: `Add` on a supervisor that is stopping blocks for ever.
#[bowline::test(start_paused = true)]
async fn a_child_for_a_supervisor_that_stops_is_refused_at_once() {
    let refused = Arc::new(AtomicU32::new(0));
    scope("top", async |s| {
        let running = Supervisor::new("feeds", Strategy::OneForOne).start(s);
        let (late, counted) = (running.clone(), Arc::clone(&refused));
        let child = Child::new("adds another", async move |_life| {
            let goes = bowline::cancelled().await;
            if matches!(late.add(Child::new("late", |_life| serve())), Err(AddChildError::Ended(_))) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            Err(goes.into())
        });
        running.add(child).unwrap().wait_running().await?;
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(refused.load(Ordering::SeqCst), 1);
}

/// kameo#387: the next incarnation starts while the one before is still in its `on_stop`.
#[bowline::test(start_paused = true, schedules = 20)]
async fn the_next_incarnation_starts_when_the_clean_up_of_the_one_before_is_over() {
    let log = Arc::new(Mutex::new(Vec::new()));
    scope("top", async |s| {
        let noted = Arc::clone(&log);
        let running = Supervisor::new("actors", Strategy::OneForOne)
            .child("actor", Restart::Permanent, async move |life: Life| {
                noted.lock().unwrap().push(format!("start {}", life.incarnation()));
                let ended = if life.incarnation() == 1 { Err("fails".into()) } else { serve().await };
                bowline::shielded(SECOND, tokio::time::sleep(SECOND / 2)).await?;
                noted.lock().unwrap().push(format!("stopped {}", life.incarnation()));
                ended
            })
            .start(s);
        let actor = running.child("actor").unwrap();
        actor.wait_beyond(1).await?;
        actor.restart();
        actor.wait_beyond(2).await?;
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let log = log.lock().unwrap();
    assert_eq!(**log, ["start 1", "stopped 1", "start 2", "stopped 2", "start 3", "stopped 3"]);
}

/// kameo#392: a handle from before a restart reaches the task that is gone, not the one that lives.
#[bowline::test(start_paused = true, schedules = 20)]
async fn a_handle_from_before_a_restart_stops_the_incarnation_that_lives() {
    let living = Arc::new(AtomicU32::new(0));
    scope("top", async |s| {
        let inside = Arc::clone(&living);
        let running = Supervisor::new("actors", Strategy::OneForOne)
            .child("actor", Restart::Permanent, async move |life: Life| {
                let _one = One::of(&inside);
                if life.incarnation() == 1 { Err("fails".into()) } else { serve().await }
            })
            .start(s);
        let early = running.child("actor").unwrap();
        assert_eq!(early.wait_beyond(1).await?, 2);
        assert_eq!(living.load(Ordering::SeqCst), 1);
        early.stop().await.unwrap(); // and it is stopped for good, although it is permanent
        assert_eq!((living.load(Ordering::SeqCst), early.state()), (0, ChildState::Stopped));
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!((living.load(Ordering::SeqCst), early.incarnation()), (0, 2));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// kameo#335: messages in the mailbox of an actor that panics are lost, although it is started again.
#[bowline::test(start_paused = true, schedules = 20)]
async fn the_queue_of_a_child_outlives_its_incarnations_and_nothing_in_it_is_lost() {
    scope("top", async |s| {
        let (tx, rx) = s.queue::<u32>("mailbox", Bound::items(100), Overflow::Block);
        let (done, handled) = s.queue::<u32>("handled", Bound::items(100), Overflow::Block);
        let (rx, done) = (rx.free(), done.free());
        for message in 0..100 {
            tx.send(message).await?;
        }
        Supervisor::new("actors", Strategy::OneForOne)
            .intensity(ALL)
            .child("actor", Restart::Permanent, async move |_life| {
                while let Some(message) = rx.recv_delivery().await? {
                    if *message % 7 == 3 && message.attempt() == 1 {
                        panic!("in the middle of {}", *message);
                    }
                    done.send(*message).await?;
                    message.ack();
                }
                serve().await
            })
            .start(s);
        for message in 0..100 {
            assert_eq!(handled.recv().await?, Some(message), "in order, and each once");
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// kameo#229: an actor that fails while it starts up tells nobody.
#[bowline::test(start_paused = true)]
async fn a_child_that_fails_before_it_is_ready_has_failed() {
    let (heard, _hook) = heard();
    scope("top", async |s| {
        let child = Child::new("actor", async |life: Life| {
            assert!(life.incarnation() > 2, "no config");
            life.ready();
            serve().await
        });
        let running =
            Supervisor::new("actors", Strategy::OneForOne).child_with(child.ready_within(SECOND)).start(s);
        assert_eq!(running.child("actor").unwrap().wait_running().await?, 3);
        assert_eq!(running.child("actor").unwrap().stats().unwrap().panics_unexpected, 2);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let heard = heard.lock().unwrap();
    assert!(
        heard.iter().any(|alert| alert.kind == AlertKind::ChildRestarted && alert.text.contains("no config"))
    );
}

/// task-supervisor 0.5.0: a back-off that was pending brings a killed task back, and starts one twice that was restarted by
/// hand meanwhile.
#[bowline::test(start_paused = true, schedules = 20)]
async fn what_was_stopped_or_restarted_in_its_back_off_is_not_started_once_more() {
    let starts = Arc::new(AtomicU32::new(0));
    let hours = Duration::from_secs(4 * 3_600);
    scope("top", async |s| {
        let running = in_back_off(s, &starts).await;
        running.stop("feed").await.unwrap();
        tokio::time::sleep(hours).await;
        assert_eq!(starts.load(Ordering::SeqCst), 1, "it was resurrected");

        let again = in_back_off(s, &starts).await;
        again.restart("feed").unwrap();
        assert_eq!(again.child("feed").unwrap().wait_running().await?, 2);
        tokio::time::sleep(hours).await;
        assert_eq!(starts.load(Ordering::SeqCst), 3, "it was started twice");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// task-supervisor 0.5.0: dropping one of several handles shuts the supervisor down.
#[bowline::test(start_paused = true)]
async fn dropping_one_of_several_handles_stops_nothing() {
    scope("top", async |s| {
        let running = Supervisor::new("feeds", Strategy::OneForOne)
            .child("feed", Restart::Permanent, |_life| serve())
            .start(s);
        running.wait_ready().await?;
        drop(running.clone());
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(running.child("feed").unwrap().state(), ChildState::Running);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// task-supervisor 0.5.2: a limit of more than 32 restarts was never reached, because no more of them were remembered.
#[bowline::test(start_paused = true)]
async fn a_high_limit_of_restarts_is_a_limit() {
    let starts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&starts);
    let ended = scope("top", async |s| {
        Supervisor::new("feeds", Strategy::OneForOne)
            .intensity(Restarts::at_most(100).within(Duration::from_secs(24 * 3_600)))
            .child("feed", Restart::Permanent, async move |_life| {
                counted.fetch_add(1, Ordering::SeqCst);
                Err("no route".into())
            })
            .start(s);
        pending::<Result<(), Cancelled>>().await
    });
    assert!(ended.await.is_err());
    assert_eq!(starts.load(Ordering::SeqCst), 101);
}

/// lighthouse#2596: who wants to hear of a panic spawns a task beside every task, to watch it.
#[bowline::test(start_paused = true)]
async fn a_panic_of_a_child_is_told_without_a_task_that_watches_it() {
    let (heard, _hook) = heard();
    scope("top", async |s| {
        let running = Supervisor::new("node", Strategy::OneForOne)
            .child("slasher", Restart::Permanent, async |life: Life| {
                assert!(life.incarnation() > 1, "index out of range");
                serve().await
            })
            .start(s);
        running.child("slasher").unwrap().wait_beyond(1).await?;
        assert_eq!(bowline::tree().tasks, 2, "the supervisor and its child");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let heard = heard.lock().unwrap();
    let [told] = &heard[..] else { panic!("{heard:?}") };
    assert!(
        told.text.contains("node/slasher` panicked") && told.text.contains("index out of range"),
        "{told}"
    );
}

/// omicron#9975: a function became async, its future was dropped unpolled, and a monitor that should run for ever did not.
#[bowline::test(start_paused = true)]
async fn a_permanent_child_that_forgets_to_await_its_work_is_noticed() {
    async fn monitor() -> Result<(), ChildError> {
        pending().await
    }
    let (heard, _hook) = heard();
    let ended = scope("top", async |s| {
        let running = Supervisor::new("agent", Strategy::OneForOne)
            .child("hardware monitor", Restart::Permanent, async |_life| {
                drop(monitor());
                Ok(())
            })
            .start(s);
        let Err(NotRunning::GaveUp(gave_up)) = running.wait_ended().await else { panic!("it gave up") };
        assert!(gave_up.to_string().ends_with("`hardware monitor` returned early"), "{gave_up}");
        Ok::<_, Cancelled>(())
    });
    assert!(ended.await.is_err());
    let heard = heard.lock().unwrap();
    assert!(heard.iter().any(|alert| alert.text.starts_with("it returned early; again in ")), "{heard:?}");
}

/// nats.rs#860, lapin#222: after a fault of broker or network a consumer gets nothing any more, and nobody hears of it.
#[bowline::test(start_paused = true)]
async fn a_consumer_whose_connection_went_silent_is_started_again() {
    scope("top", async |s| {
        let child = Child::new("consumer", async |life: Life| {
            // The broker's pings beat: a socket that is silent is no socket that waits for work.
            let pings = if life.incarnation() == 1 { 5 } else { u32::MAX };
            for _ in 0..pings {
                tokio::time::sleep(SECOND).await;
                life.beat();
            }
            pending().await
        });
        let running =
            Supervisor::new("broker", Strategy::OneForOne).child_with(child.heartbeat(2 * SECOND)).start(s);
        let begun = Instant::now();
        running.child("consumer").unwrap().wait_beyond(1).await?;
        assert!(begun.elapsed() <= 12 * SECOND, "{:?}", begun.elapsed());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}
