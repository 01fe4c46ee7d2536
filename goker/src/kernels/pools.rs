//! What hung in pools and supervisors of others, as programs for ours: each ends, or is refused with a reason, or is proved.
//!
//! The assertions are part of the program: a run in which one fails is not the program that was meant.

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bowline::{
    AddChildError, Backoff, Bound, Cancelled, Child, ChildError, ChildState, CollectAll, Life, Overflow,
    Pool, PoolHandle, Restart, Semaphore, Strategy, Supervisor, Workers, group, join_all, race, scope,
};
use tokio::task::yield_now;

use crate::go::{Gate, coin};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind};

macro_rules! acceptance {
    ($($(#[$doc:meta])* $kernel:ident = $name:literal, $body:ident;)*) => {$(
        $(#[$doc])*
        pub(super) static $kernel: Kernel = Kernel {
            name: $name,
            class: Class::Pool,
            sites: 0,
            forms: &[Form::ends(Kind::Moved, |env| Box::pin($body(env))), Form::ends(Kind::Slow, |env| Box::pin($body(env)))],
        };
    )*};
}

acceptance! {
    /// A job of a pool submits to its pool, which is full of such jobs.
    ANTS_197 = "ants#197", nested_submit;
    /// Jobs of a pool wait for jobs of the same pool.
    POND_56 = "pond#56", nested_call;
    /// A pool is cancelled while jobs stand in its queue: they are counted out, and the stop returns.
    POND_61 = "pond#61", cancelled_with_a_queue;
    /// The same before the jobs of a bulk submission have come to the queue's head.
    POND_138 = "pond#138", cancelled_at_once;
    /// A job that neither returns nor panics.
    POND_135 = "pond#135", unwinds;
    /// Every job panics, and those who wait for a worker are served.
    ANTS_146 = "ants#146", panic_storm;
    /// A short queue under pressure: nobody sleeps while there is room.
    POND_108 = "pond#108", pressure;
    /// Pools that are made and let go: nothing of them is left.
    ANTS_323 = "ants#323", made_and_released;
    /// Who waits for room in a pool may give up alone.
    CONC_107 = "conc#107", timed_out_alone;
    /// A supervisor is stopped in the back-off after a panic.
    SUTURE_58 = "suture#58", stopped_in_back_off;
    /// A supervisor ends while one of its services is being removed.
    SUTURE_34 = "suture#34", stopped_in_a_removal;
    /// Supervisors are stopped as soon as they are started.
    SUTURE_35 = "suture#35", stopped_at_once;
    /// When a stop returns, all services have ended.
    SUTURE_12 = "suture#12", stop_waits;
    /// A service is added to a supervisor that stops: refused.
    SUTURE_41 = "suture#41", added_too_late;
    /// A service that returns the cancellation of something else is started again.
    SUTURE_77 = "suture#77", foreign_cancellation;
}

/// Slots that are given out to whoever waits for what only the next could bring: the body waits for a slot, those who have
/// the slots wait for a token, and the token is the body's.
pub(super) static CONC_88: Kernel = Kernel {
    name: "conc#88",
    class: Class::Pool,
    sites: 2,
    forms: &[
        Form::always_dead(
            Kind::Shared,
            |env| Box::pin(waits_for_its_own_failure(env)),
            &[Dead::new(&["T0", "job", "job", "job"], &["slots", "token"]).shared()],
        ),
        Form::ends(Kind::Fixed, |env| Box::pin(waits_for_its_own_failure(env))),
        Form::ends(Kind::Slow, |env| Box::pin(waits_for_its_own_failure(env))),
    ],
};

/// The nested submission with slots instead of a pool: who has the only slot waits for one.
pub(super) static OWN_SLOT: Kernel = Kernel {
    name: "ants#197, slots",
    class: Class::Pool,
    sites: 1,
    forms: &[
        Form::always_dead(
            Kind::Shared,
            |env| Box::pin(own_slot(env)),
            &[Dead::new(&["job"], &["slots"]).shared()],
        ),
        Form::ends(Kind::Fixed, |env| Box::pin(own_slot(env))),
        Form::ends(Kind::Slow, |env| Box::pin(own_slot(env))),
    ],
};

type Nested = PoolHandle<u32, u32>;

/// A pool whose jobs can reach it.
fn reachable<F, R>(s: &bowline::Scope<Cancelled>, workers: usize, job: F) -> Nested
where
    F: Fn(Nested, u32) -> R + Send + Sync + Clone + 'static,
    R: Future<Output = u32> + Send + 'static,
{
    let itself = Arc::new(OnceLock::<Nested>::new());
    let own = Arc::clone(&itself);
    let plan = Pool::new("nested", Workers::fixed(workers), Bound::items(1), Overflow::Block);
    let pool = plan.start(s, move |depth| {
        let own = Arc::clone(&own);
        let job = job.clone();
        async move { job(own.get().expect("set before the first job").clone(), depth).await }
    });
    assert!(itself.set(pool.clone()).is_ok(), "set once");
    pool
}

async fn nested_submit(env: Env) -> End {
    for workers in [1, 8] {
        scope("kernel", async |s| {
            let pool = reachable(s, workers, move |pool, below| async move {
                let mut accepted = 0;
                for _ in 0..below {
                    env.pause().await;
                    accepted += u32::from(pool.submit(0).await.is_ok());
                }
                accepted
            });
            let calls = join_all((0..workers).map(|_| pool.call(3)).collect::<Vec<_>>()).await;
            let accepted = calls.into_iter().map(|call| u64::from(call.expect("it is done"))).sum::<u64>();
            pool.drain().await?;
            assert_eq!(pool.stats().accepted, workers as u64 + accepted, "the others were refused");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn nested_call(env: Env) -> End {
    scope("kernel", async |s| {
        let pool = reachable(s, 1, move |pool, below| async move {
            env.pause().await;
            let mut done = 1;
            for _ in 0..below {
                done += Box::pin(pool.call(below - 1)).await.expect("it is done in place");
            }
            done
        });
        assert_eq!(pool.call(2).await.ok(), Some(5));
        pool.drain().await
    })
    .await
}

async fn cancelled_with_a_queue(env: Env) -> End {
    let started = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&started);
    scope("kernel", async |s| {
        let service = s.spawn("service", async move {
            let cancelled = scope("service", async |s| {
                let counted = Arc::clone(&started);
                let plan = Pool::new("jobs", Workers::fixed(1), Bound::items(5), Overflow::Block);
                let pool = plan.start(s, move |()| {
                    let counted = Arc::clone(&counted);
                    async move {
                        counted.fetch_add(1, Ordering::Relaxed);
                        bowline::cancelled().await;
                    }
                });
                let _ = pool.submit(()).await;
                let _ = pool.submit(()).await;
                while started.load(Ordering::Relaxed) == 0 {
                    env.tick().await?;
                }
                s.cancel("enough");
                Err::<(), _>(bowline::cancelled().await)
            });
            assert!(cancelled.await.is_err());
            Ok(())
        });
        service.await?;
        assert_eq!(counted.load(Ordering::Relaxed), 1, "the second never begins");
        Ok(())
    })
    .await
}

async fn cancelled_at_once(env: Env) -> End {
    let pool = Arc::new(OnceLock::new());
    let kept = Arc::clone(&pool);
    let cancelled = scope("kernel", async |s| {
        let plan = Pool::new("jobs", Workers::fixed(1), Bound::items(20), Overflow::Block);
        let pool = plan.start(s, move |()| pending::<()>());
        let _ = kept.set(pool.clone());
        assert_eq!(pool.submit_all([(); 20]).await.ok(), Some(20));
        while coin() {
            env.tick().await?;
        }
        s.cancel("enough");
        pool.drain().await
    });
    let answer: End = cancelled.await;
    assert!(answer.is_err());
    let stats = pool.get().map(PoolHandle::stats).expect("it was started");
    assert_eq!((stats.accepted, stats.cancelled), (20, 20));
    Ok(())
}

async fn unwinds(env: Env) -> End {
    scope("kernel", async |s| {
        let plan = Pool::new("jobs", Workers::fixed(1), Bound::items(2), Overflow::Block);
        let pool = plan.start(s, move |unwinds| async move {
            env.pause().await;
            if unwinds {
                std::panic::resume_unwind(Box::new("no message"));
            }
        });
        let _ = pool.submit(true).await;
        let _ = pool.submit(false).await;
        pool.drain().await?;
        assert_eq!((pool.stats().panicked, pool.stats().completed), (1, 1));
        Ok(())
    })
    .await
}

async fn panic_storm(env: Env) -> End {
    scope("kernel", async |s| {
        let plan = Pool::new("jobs", Workers::fixed(1), Bound::items(1), Overflow::Block);
        let pool = plan.start(s, move |()| async move {
            env.pause().await;
            std::panic::resume_unwind(Box::new("every time"));
        });
        let submit = async |pool: PoolHandle<(), ()>| assert!(pool.submit(()).await.is_ok());
        join_all([0; 5].map(|_| submit(pool.clone()))).await;
        pool.drain().await?;
        assert_eq!(pool.stats().panicked, 5);
        Ok(())
    })
    .await
}

async fn pressure(env: Env) -> End {
    scope("kernel", async |s| {
        let plan = Pool::new("jobs", Workers::fixed(10), Bound::items(5), Overflow::Block);
        let pool = plan.start(s, move |()| async move {
            if coin() {
                env.pause().await;
            }
        });
        for _ in 0..6 {
            let pool = pool.clone();
            s.spawn("submitter", async move {
                for _ in 0..10 {
                    assert!(pool.submit(()).await.is_ok());
                }
                Ok(())
            });
        }
        Ok(())
    })
    .await
}

async fn made_and_released(env: Env) -> End {
    for _ in 0..20 {
        scope("kernel", async |s| {
            let plan = Pool::new("jobs", Workers::elastic(1, 4), Bound::items(1), Overflow::Block);
            let pool = plan.start(s, async |()| ());
            if coin() {
                let _ = pool.submit(()).await;
            }
            Ok::<_, Cancelled>(())
        })
        .await?;
    }
    env.pause().await;
    Ok(())
}

async fn timed_out_alone(env: Env) -> End {
    scope("kernel", async |s| {
        let slot = s.spawn("T1", async move {
            let ended = group("pool", CollectAll.at_most(1), async |g| {
                let busy = g.reserve().await?.spawn("busy", async {
                    bowline::cancelled().await;
                    Ok::<_, Cancelled>(())
                });
                let gives_up = race(g.reserve(), bowline::sleep(Duration::from_millis(20))).await;
                assert!(matches!(gives_up, bowline::Either::Right(_)), "there is no room");
                busy.cancel("seen");
                Ok(())
            });
            drop(ended.await);
            env.pause().await;
            Ok(())
        });
        slot.await
    })
    .await
}

async fn waits_for_its_own_failure(env: Env) -> End {
    const SLOTS: usize = 3;
    struct Request {
        slots: Semaphore,
        token: Gate,
    }
    scope("kernel", async |s| {
        let request = Request { slots: Semaphore::new("slots", SLOTS), token: Gate::new("token") };
        let request = s.cx().share("request", request);
        for job in 0..=SLOTS {
            if env.is_fixed() && request.slots.free_permits() == 0 {
                break; // it fails here, and not behind the others
            }
            let slot = request.slots.acquire_owned(s.cx(), 1).await?;
            s.spawn_with("job", (slot, request.clone()), async move |_cx, (_slot, request)| {
                env.pause().await;
                if job == SLOTS {
                    request.token.close();
                }
                request.token.wait().await
            });
        }
        request.token.close();
        Ok(())
    })
    .await
}

async fn own_slot(env: Env) -> End {
    scope("kernel", async |s| {
        let slots = s.cx().share("pool", Semaphore::new("slots", 1));
        s.spawn_with("job", slots, async move |_cx, slots| {
            let own = slots.acquire(1).await?;
            env.pause().await;
            if env.is_fixed() {
                drop(own);
                drop(slots.acquire(1).await?);
            } else {
                drop(slots.acquire(1).await?);
                drop(own);
            }
            Ok(())
        });
        Ok(())
    })
    .await
}

async fn serve() -> Result<(), ChildError> {
    Err(bowline::cancelled().await.into())
}

async fn stopped_in_back_off(env: Env) -> End {
    const LONG: Backoff = Backoff::exponential(Duration::from_secs(300), Duration::from_secs(300));
    scope("kernel", async |s| {
        let running = Supervisor::new("feeds", Strategy::OneForOne)
            .backoff(LONG)
            .child("feed", Restart::Permanent, async move |life: Life| {
                if life.incarnation() == 1 {
                    std::panic::resume_unwind(Box::new("the first life is short"));
                }
                serve().await
            })
            .start(s);
        let feed = running.child("feed").expect("it was given");
        while feed.state() != ChildState::BackingOff && feed.incarnation() < 2 {
            env.tick().await?;
        }
        if coin() {
            feed.stop().await.expect("it stops");
        }
        Ok(())
    })
    .await
}

async fn stopped_in_a_removal(env: Env) -> End {
    scope("kernel", async |s| {
        let running = Supervisor::new("feeds", Strategy::OneForOne)
            .child("a", Restart::Permanent, |_life| serve())
            .child("b", Restart::Permanent, |_life| serve())
            .start(s);
        running.wait_ready().await?;
        s.spawn("remover", async move {
            env.pause().await;
            let _ = running.remove("a").await;
            Ok(())
        });
        yield_now().await;
        Ok::<_, Cancelled>(())
    })
    .await
}

async fn stopped_at_once(env: Env) -> End {
    let mut nested =
        Supervisor::new("innermost", Strategy::OneForOne)
            .child("service", Restart::Permanent, |_life| serve());
    for _ in 0..5 {
        nested = Supervisor::new("local", Strategy::OneForOne).child_with(Child::supervisor(nested));
    }
    scope("kernel", async |s| {
        nested.start(s);
        while coin() {
            env.tick().await?;
        }
        Ok(())
    })
    .await
}

async fn stop_waits(env: Env) -> End {
    const LIMIT: Duration = Duration::from_secs(200);
    let living = Arc::new(()); // as many as hold it
    let here = Arc::clone(&living);
    let slow = Child::new("slow", async move |_life| {
        let _here = Arc::clone(&here);
        let goes = bowline::cancelled().await;
        bowline::shielded(LIMIT, env.pause()).await?;
        Err::<(), ChildError>(goes.into())
    });
    let inner = Supervisor::new("inner", Strategy::OneForOne).child_with(slow.stop_within(LIMIT));
    scope("kernel", async |s| {
        let outer = Supervisor::new("outer", Strategy::OneForOne)
            .child_with(Child::supervisor(inner).stop_within(LIMIT * 2))
            .start(s);
        outer.wait_ready().await?;
        outer.stop("inner").await.expect("it stops");
        assert!(Arc::strong_count(&living) <= 2, "it has ended when the stop returns");
        Ok::<_, Cancelled>(())
    })
    .await
}

async fn added_too_late(env: Env) -> End {
    let refused = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&refused);
    scope("kernel", async |s| {
        let running = Supervisor::new("feeds", Strategy::OneForOne).start(s);
        let late = running.clone();
        let child = Child::new("adds another", async move |_life| {
            let goes = bowline::cancelled().await;
            if matches!(late.add(Child::new("late", |_life| serve())), Err(AddChildError::Ended(_))) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Err(goes.into())
        });
        let child = running.add(child).map_err(|_| ()).expect("it runs");
        child.wait_running().await?;
        env.pause().await;
        Ok::<_, Cancelled>(())
    })
    .await?;
    assert_eq!(refused.load(Ordering::Relaxed), 1);
    Ok(())
}

async fn foreign_cancellation(env: Env) -> End {
    scope("kernel", async |s| {
        let running = Supervisor::new("feeds", Strategy::OneForOne)
            .backoff(Backoff::exponential(Duration::from_millis(1), Duration::from_millis(1)))
            .child("feed", Restart::Permanent, async move |life: Life| {
                if life.incarnation() == 1 {
                    let other: End = scope("other", async |s| {
                        s.cancel("not the supervisor's");
                        Err(bowline::cancelled().await)
                    })
                    .await;
                    other?;
                }
                serve().await
            })
            .start(s);
        let feed = running.child("feed").expect("it was given");
        assert_eq!(feed.wait_beyond(1).await?, 2);
        env.pause().await;
        Ok::<_, Cancelled>(())
    })
    .await
}
