//! Eight bugs of Rust programs, from a study of such (Qin et al., PLDI 2020): programs of threads, as tasks and async locks.
//!
//! Most of them are about how long a guard lives: to the end of its block if it has a name, to the end of the statement if it has
//! none, through all arms if it stands in the head of a `match`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowline::{Cancelled, Mutex, Notify, NotifyError, RwLock, Semaphore, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind};

/// A lock is taken twice in one block: dead while the first guard lives, and live where it does not.
pub(super) static TWICE: Kernel = Kernel {
    name: "pldi: deadlock-test",
    class: Class::Rust,
    sites: 2,
    forms: &[
        Form::always_dead(
            Kind::Lock,
            |env| Box::pin(twice(env, Guards::Named)),
            &[Dead::new(&["T0"], &["lock"])],
        )
        .variant("named"),
        Form::always_dead(
            Kind::Lock,
            |env| Box::pin(twice(env, Guards::Assigned)),
            &[Dead::new(&["T0"], &["lock"])],
        )
        .variant("assigned"),
        Form::ends(Kind::Fixed, |env| Box::pin(twice(env, Guards::Block))).variant("block"),
        Form::ends(Kind::Fixed, |env| Box::pin(twice(env, Guards::Unnamed))).variant("unnamed"),
        Form::ends(Kind::Fixed, |env| Box::pin(twice(env, Guards::Temporary))).variant("temporary"),
        Form::ends(Kind::Slow, |env| Box::pin(twice(env, Guards::Block))),
    ],
};

/// T1 reads `best`, then `ancient`, and keeps both. T0 writes `ancient`, then `best`.
pub(super) static ORDER: Kernel = Kernel {
    name: "pldi: ethereum-3",
    class: Class::Rust,
    sites: 2,
    forms: &[
        Form::dead(Kind::Lock, |env| Box::pin(order(env)), &[Dead::new(&["T0", "T1"], &["ancient", "best"])]),
        Form::ends(Kind::Fixed, |env| Box::pin(order(env))),
        Form::ends(Kind::Slow, |env| Box::pin(order(env))),
    ],
};

/// T0 reads a lock twice, and between the two T1 asks to write.
pub(super) static READ_TWICE: Kernel = Kernel {
    name: "pldi: ethereum-4",
    class: Class::Rust,
    sites: 2,
    forms: &[
        Form::dead(
            Kind::Lock,
            |env| Box::pin(read_twice(env, false)),
            &[Dead::new(&["T0", "T1"], &["chain"])],
        ),
        Form::dead(
            Kind::Lock,
            |env| Box::pin(read_twice(env, true)),
            &[Dead::new(&["T0", "T1"], &["chain"])],
        )
        .variant("one expression"),
        Form::ends(Kind::Fixed, |env| Box::pin(read_twice(env, false))),
        Form::ends(Kind::Slow, |env| Box::pin(read_twice(env, false))),
    ],
};

/// What initialises a cell asks for the cell.
pub(super) static CELL: Kernel = Kernel {
    name: "pldi: lazy-static-1",
    class: Class::Rust,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Lock, |env| Box::pin(cell(env)), &[Dead::new(&["T0"], &["cell"])]),
        Form::ends(Kind::Fixed, |env| Box::pin(cell(env))),
        Form::ends(Kind::Slow, |env| Box::pin(cell(env))),
    ],
};

/// Two pools of one worker each: a job on `a` waits for a job on `b`, which waits for a job on `a`.
pub(super) static CROSSED: Kernel = Kernel {
    name: "pldi: rayon, crossed pools",
    class: Class::Rust,
    sites: 4,
    forms: &[
        Form::always_dead(
            Kind::Shared,
            |env| Box::pin(crossed(env)),
            &[Dead::new(&["A", "A2", "B", "T0"], &["a"]).shared()],
        ),
        Form::ends(Kind::Fixed, |env| Box::pin(crossed(env))),
        Form::ends(Kind::Slow, |env| Box::pin(crossed(env))),
    ],
};

/// A latch sets its flag and notifies without the lock under which its waiter looks at the flag before it waits.
pub(super) static LOST_NOTIFY: Kernel = Kernel {
    name: "pldi: rayon, lost notify",
    class: Class::Rust,
    sites: 1,
    forms: &[
        // When the one who could notify is gone, the wait says so.
        Form::ends(Kind::Moved, |env| Box::pin(lost_notify(env))),
        Form::dead(Kind::Shared, |env| Box::pin(lost_notify(env)), &[Dead::new(&["T1"], &["latch"]).bound()]),
        Form::ends(Kind::Fixed, |env| Box::pin(lost_notify(env))),
        Form::ends(Kind::Slow, |env| Box::pin(lost_notify(env))),
    ],
};

/// A function locks `handles`, makes an id, and locks `handles` again for the insert.
pub(super) static DOUBLE_LOCK: Kernel = Kernel {
    name: "pldi: redox-1",
    class: Class::Rust,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Lock, |env| Box::pin(insert(env)), &[Dead::new(&["T0"], &["handles"])]),
        Form::always_dead(
            Kind::Lock,
            |env| Box::pin(insert_in_arm(env)),
            &[Dead::new(&["T0"], &["handles"])],
        )
        .variant("match head"),
        Form::ends(Kind::Fixed, |env| Box::pin(insert(env))),
        Form::ends(Kind::Fixed, |env| Box::pin(insert_in_arm(env))).variant("match head"),
        Form::ends(Kind::Slow, |env| Box::pin(insert(env))),
    ],
};

/// Who waits gives up when it is the last holder of the state, and looks whenever an event is dropped; but an event notifies
/// first, and lets go of the state a moment later. To decide by counting handles takes the count and the wake in one step.
pub(super) static LAST_HOLDER: Kernel = Kernel {
    name: "pldi: tikv-3",
    class: Class::Rust,
    sites: 2,
    forms: &[
        Form::ends(Kind::Moved, |env| Box::pin(last_holder(env))),
        Form::dead(
            Kind::Shared,
            |env| Box::pin(last_holder(env)),
            &[Dead::new(&["T0", "T2"], &["dropped"]).bound()],
        ),
        Form::ends(Kind::Fixed, |env| Box::pin(last_holder(env))),
        Form::ends(Kind::Slow, |env| Box::pin(last_holder(env))),
    ],
};

/// Where the first guard is.
#[derive(Clone, Copy)]
enum Guards {
    Named,
    Assigned,
    Block,
    Unnamed,
    Temporary,
}

async fn twice(env: Env, guards: Guards) -> End {
    scope("kernel", async |s| {
        let lock = s.cx().share("block", Mutex::new("lock", 0));
        match guards {
            Guards::Named => {
                let first = lock.lock().await?;
                let second = lock.lock().await?;
                assert_eq!(*first, *second);
            }
            Guards::Assigned => {
                let mut first = lock.lock().await?;
                *first = *lock.lock().await? + 1;
            }
            Guards::Block => {
                {
                    let mut first = lock.lock().await?;
                    env.pause().await;
                    *first += 1;
                }
                *lock.lock().await? += 1;
            }
            Guards::Unnamed => {
                let _ = lock.lock().await?;
                let _ = lock.lock().await?;
            }
            Guards::Temporary => {
                let first = *lock.lock().await? + 1;
                env.pause().await;
                *lock.lock().await? = first;
            }
        }
        Ok(())
    })
    .await
}

struct Chain {
    best: RwLock<u32>,
    ancient: RwLock<u32>,
}

async fn order(env: Env) -> End {
    scope("kernel", async |s| {
        let chain = Chain { best: RwLock::new("best", 0), ancient: RwLock::new("ancient", 0) };
        let chain = s.cx().share("chain", chain);
        s.spawn_with("T1", chain.clone(), async move |_cx, chain| {
            let best = chain.best.read().await?;
            env.pause().await;
            let ancient = chain.ancient.read().await?;
            assert_eq!(*best, *ancient);
            Ok(())
        });
        if env.is_fixed() {
            let mut best = chain.best.write().await?;
            env.pause().await;
            let mut ancient = chain.ancient.write().await?;
            (*best, *ancient) = (1, 1);
        } else {
            let mut ancient = chain.ancient.write().await?;
            env.pause().await;
            let mut best = chain.best.write().await?;
            (*best, *ancient) = (1, 1);
        }
        Ok(())
    })
    .await
}

async fn read_twice(env: Env, in_one: bool) -> End {
    scope("kernel", async |s| {
        let chain = s.cx().share("client", RwLock::new("chain", 0));
        s.spawn_with("T1", chain.clone(), async move |_cx, chain| {
            *chain.write().await? += 1;
            Ok(())
        });
        if in_one {
            let _blocks = *chain.read().await? + later(env, &chain).await?;
        } else {
            let first = chain.read().await?;
            env.pause().await;
            if !env.is_fixed() {
                assert_eq!(*first, *chain.read().await?);
            }
        }
        Ok(())
    })
    .await
}

async fn later(env: Env, chain: &RwLock<u32>) -> Result<u32, Cancelled> {
    env.pause().await;
    chain.with_read(|chain| *chain).await
}

type Cell = Mutex<Option<u32>>;

async fn cell(env: Env) -> End {
    scope("kernel", async |s| {
        let cell = s.cx().share("lazy", Mutex::new("cell", None));
        assert_eq!(value_of(env, &cell).await?, 2);
        Ok(())
    })
    .await
}

/// The value of the cell, which is initialised by whoever asks first.
fn value_of(env: Env, cell: &Cell) -> Pin<Box<dyn Future<Output = Result<u32, Cancelled>> + Send + '_>> {
    Box::pin(async move {
        let mut value = cell.lock().await?;
        match *value {
            Some(value) => Ok(value),
            None => {
                env.pause().await;
                let one = if env.is_fixed() { 1 } else { value_of(env, cell).await? / 2 };
                Ok(*value.insert(one * 2))
            }
        }
    })
}

/// The workers of two pools, as permits.
struct Pools {
    a: Semaphore,
    b: Semaphore,
}

async fn crossed(env: Env) -> End {
    scope("kernel", async |s| {
        let workers_of_a = if env.is_fixed() { 2 } else { 1 };
        let pools = Pools { a: Semaphore::new("a", workers_of_a), b: Semaphore::new("b", 1) };
        let pools = s.cx().share("pools", pools);
        let job = s.spawn_with("A", pools, async move |_cx, pools| {
            let _worker = pools.a.acquire(1).await?;
            scope("job", async |s| {
                let job = s.spawn_with("B", pools.clone(), async move |_cx, pools| {
                    let _worker = pools.b.acquire(1).await?;
                    scope("job", async |s| {
                        let job = s.spawn_with("A2", pools.clone(), async move |_cx, pools| {
                            let _worker = pools.a.acquire(1).await?;
                            env.pause().await;
                            Ok(())
                        });
                        job.await
                    })
                    .await
                });
                job.await
            })
            .await
        });
        job.await
    })
    .await
}

struct Signal {
    is_set: AtomicBool,
    changed: Notify,
}

async fn lost_notify(env: Env) -> End {
    scope("kernel", async |s| {
        let (notifier, changed) = s.cx().notify("latch");
        let latch = s.cx().share("job", Signal { is_set: AtomicBool::new(false), changed });
        let both = env.both(|| notifier.clone());
        s.spawn_with("T1", (latch.clone(), both), async move |_cx, (latch, _notifier)| {
            let early = env.is_fixed().then(|| latch.changed.notified());
            if latch.is_set.load(Ordering::Acquire) {
                return Ok(());
            }
            env.tick().await?;
            let notified = match early {
                Some(early) => early.await,
                None => latch.changed.notified().await,
            };
            match notified {
                Ok(()) | Err(NotifyError::NoNotifier) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        env.pause().await;
        latch.is_set.store(true, Ordering::Release);
        notifier.notify_all();
        Ok(())
    })
    .await
}

type Handles = Mutex<Vec<u32>>;

async fn insert(env: Env) -> End {
    scope("kernel", async |s| {
        let handles: Handles = Mutex::new("handles", vec![1]);
        let handles = s.cx().share("scheme", handles);
        let mut known = handles.lock().await?;
        let id = known.len() as u32 + 1;
        env.pause().await;
        if env.is_fixed() {
            known.push(id);
        } else {
            handles.lock().await?.push(id);
        }
        Ok(())
    })
    .await
}

async fn insert_in_arm(env: Env) -> End {
    scope("kernel", async |s| {
        let handles: Handles = Mutex::new("handles", vec![1]);
        let handles = s.cx().share("scheme", handles);
        if env.is_fixed() {
            let last = handles.lock().await?.last().copied();
            if let Some(id) = last {
                handles.lock().await?.push(id + 1);
            }
            return Ok(());
        }
        match handles.lock().await?.last().copied() {
            Some(id) => handles.lock().await?.push(id + 1),
            None => env.pause().await,
        }
        Ok(())
    })
    .await
}

async fn last_holder(env: Env) -> End {
    scope("kernel", async |s| {
        let (notifier, dropped) = s.cx().notify("dropped");
        let state = Arc::new(());
        let both = env.both(|| notifier.clone());
        let waiter = s.spawn_with("T2", both, {
            let state = Arc::clone(&state);
            async move |_cx, _notifier| {
                loop {
                    let again = dropped.notified();
                    if Arc::strong_count(&state) == 1 {
                        return Ok(());
                    }
                    match again.await {
                        Ok(()) => {}
                        Err(NotifyError::NoNotifier) => return Ok(()),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        });
        s.spawn_with("T1", notifier, async move |_cx, notifier| {
            env.pause().await;
            if env.is_fixed() {
                drop(state);
                notifier.notify_all();
            } else {
                notifier.notify_all();
                env.tick().await?;
                drop(state);
            }
            Ok(())
        });
        waiter.await
    })
    .await
}
