//! kubernetes#11298: a wake-up that comes before its waiter, with a lock handed over.
//!
//! T1 holds `n` and starts helpers, one at a time, that wait on the condition `c` for it: the helper takes T1's lock along,
//! releases it while it waits and brings it back. T3 notifies until it is told that the work is `done`, and then it is
//! `finished`; T1 sees that, gives a last notification and waits for its helper. If the helper has not begun to wait by
//! then, nobody is left to notify it. Repaired, the helper looks once more after it has said that it will wait.

use bowline::{Either, FreePermit, Notify, Semaphore, race, scope};

use crate::go::Gate;
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kubernetes#11298",
    class: Class::D,
    sites: 2,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Moved, BODY, &[Dead::new(&["T0", "T1", "helper"], &["c"]).bound()]),
        Form::dead(Kind::Shared, BODY, &[Dead::new(&["T0", "T1", "helper"], &["c"]).bound()]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Hub {
    /// A lock without a value: its guard goes from task to task.
    n: Semaphore,
    c: Notify,
    done: Gate,
    finished: Gate,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (notifier, c) = s.cx().notify("c");
        let hub =
            Hub { n: Semaphore::new("n", 1), c, done: Gate::new("done"), finished: Gate::new("finished") };
        let hub = s.cx().share("hub", hub);
        let also = env.also(|| notifier.clone());
        let over = s.spawn_with("T1", (hub.clone(), notifier), async move |_cx, (hub, notifier)| {
            scope("poll", async |t| {
                t.spawn_with("T3", (hub.clone(), notifier.clone()), async move |_cx, (hub, notifier)| {
                    while !hub.done.is_closed() {
                        let held = hub.n.acquire(1).await?;
                        notifier.notify_all();
                        drop(held);
                        for _ in 0..fastrand::u32(1..6) {
                            env.tick().await?;
                        }
                    }
                    hub.finished.close();
                    Ok(())
                });
                while !hub.done.is_closed() {
                    let mut n = hub.n.acquire_owned(t.cx(), 1).await?;
                    while !hub.finished.is_closed() {
                        let ends = (hub.clone(), n, env.also(|| notifier.clone()));
                        let mut helper = t.spawn_with("helper", ends, async move |cx, (hub, n, _also)| {
                            env.pause().await;
                            let notified = hub.c.notified();
                            drop(n);
                            if !(env.is_fixed() && hub.finished.is_closed()) {
                                notified.await?;
                            }
                            Ok::<FreePermit, _>(hub.n.acquire_owned(cx, 1).await?.free())
                        });
                        let back = match race(hub.finished.wait(), &mut helper).await {
                            Either::Left(finished) => {
                                finished?;
                                notifier.notify_all();
                                helper.await?
                            }
                            Either::Right(back) => back?,
                        };
                        n = bowline::Bind::bind(back, t.cx());
                    }
                    drop(n);
                }
                Ok(())
            })
            .await
        });
        s.spawn_with("T2", hub, async move |_cx, hub| {
            for _ in 0..fastrand::u32(0..30) {
                env.tick().await?;
            }
            hub.done.close();
            Ok(())
        });
        let over = over.await;
        drop(also);
        over
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    use tokio::sync::{Mutex, Notify};
    let (n, c) = (Arc::new(Mutex::new(())), Arc::new(Notify::new()));
    let (done, finished) = (bare::Gate::default(), bare::Gate::default());
    let over = {
        let (n, c, done, finished) = (n, c, done.clone(), finished);
        bare::go(async move {
            let (n3, c3, done3, finished3) = (n.clone(), c.clone(), done.clone(), finished.clone());
            bare::go(async move {
                while !done3.is_closed() {
                    let held = n3.lock().await;
                    c3.notify_waiters();
                    drop(held);
                    tokio::task::yield_now().await;
                }
                finished3.close();
            });
            while !done.is_closed() {
                let mut held = n.clone().lock_owned().await;
                while !finished.is_closed() {
                    let (theirs, condition) = (n.clone(), c.clone());
                    let (back, mut ch) = tokio::sync::oneshot::channel();
                    bare::go(async move {
                        let notified = condition.notified();
                        drop(held);
                        notified.await;
                        let _ = back.send(theirs.lock_owned().await);
                    });
                    held = match bare::select(finished.wait(), &mut ch).await {
                        Either::Left(()) => {
                            c.notify_waiters();
                            ch.await.expect("it sends")
                        }
                        Either::Right(held) => held.expect("it sends"),
                    };
                }
            }
        })
    };
    for _ in 0..fastrand::u32(0..30) {
        bare::turn().await;
    }
    done.close();
    over.await.expect("it does not panic");
    Ok(())
}
