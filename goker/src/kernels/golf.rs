//! Five shapes that reachability does not see (GOLF, ASPLOS 2025): a resource that somebody can reach, and nobody will use.
//!
//! Each lives once in a scope, which ends it, and once as long as the program does, which is to name it. What lies in a
//! static can be reached by anybody: nothing is known of who holds it, so that to call a task dead there is a guess, unless
//! nothing else moves at all. What is known is a guard that was forgotten by a task that will not come back to it, and ends
//! that are in the hands of tasks.

use std::convert::Infallible;
use std::mem::forget;
use std::sync::LazyLock;

use bowline::{Cancelled, FreeCount, FreeRendezvousRx, FreeRendezvousTx, Latch, Mutex, RwLock, scope};
use tokio::time::Instant;

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, bare};

const CHANNEL_DEAD: &[Dead] = &[Dead::new(&["T1"], &["channel"]).bound()];
const LOCK_DEAD: &[Dead] = &[Dead::new(&["T1"], &["lock"])];
const GROUP_DEAD: &[Dead] = &[Dead::new(&["T1"], &["group"])];

/// T1 receives from a channel to which nobody sends.
pub(super) static CHANNEL: Kernel = Kernel {
    name: "golf: channel",
    class: Class::Golf,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, |_| Box::pin(literal_channel()), &[]),
        Form::unprovable(Kind::Shared, |_| Box::pin(static_channel(false)), CHANNEL_DEAD).variant("static"),
        Form::by_scope(Kind::Shared, |_| Box::pin(static_channel(true)), &["T1"]).variant("daemon"),
        Form::always_dead(Kind::Shared, |env| Box::pin(channel(env)), CHANNEL_DEAD),
        Form::ends(Kind::Moved, |env| Box::pin(channel(env))),
    ],
};

/// T0 locks a mutex and never unlocks it, and T1 waits for it.
pub(super) static MUTEX: Kernel = Kernel {
    name: "golf: mutex",
    class: Class::Golf,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Lock, |env| Box::pin(mutex(env, false)), LOCK_DEAD),
        Form::by_scope(Kind::Lock, |env| Box::pin(mutex(env, true)), &["T1"]).variant("daemon"),
        Form::ends(Kind::Fixed, |env| Box::pin(mutex(env, false))),
        Form::ends(Kind::Slow, |env| Box::pin(mutex(env, false))),
    ],
};

/// T0 holds a read lock, and T1 waits for the write lock.
pub(super) static RWLOCK: Kernel = Kernel {
    name: "golf: rwlock",
    class: Class::Golf,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Lock, |env| Box::pin(rwlock(env, false)), LOCK_DEAD),
        Form::by_scope(Kind::Lock, |env| Box::pin(rwlock(env, true)), &["T1"]).variant("daemon"),
        Form::ends(Kind::Fixed, |env| Box::pin(rwlock(env, false))),
        Form::ends(Kind::Slow, |env| Box::pin(rwlock(env, false))),
    ],
};

/// A wait group counts one, nobody counts it down, and T1 waits.
pub(super) static GROUP: Kernel = Kernel {
    name: "golf: wait group",
    class: Class::Golf,
    sites: 1,
    forms: &[
        Form::unprovable(Kind::Shared, |env| Box::pin(group(env, Count::Static)), GROUP_DEAD)
            .variant("static"),
        Form::by_scope(Kind::Shared, |env| Box::pin(group(env, Count::Daemon)), &["T1"]).variant("daemon"),
        Form::always_dead(Kind::Shared, |env| Box::pin(group(env, Count::Forgotten)), GROUP_DEAD),
        Form::ends(Kind::Moved, |env| Box::pin(group(env, Count::Moved))),
    ],
};

/// T1 receives from a channel that T2 holds an end of while it works, and does not use. If that is a sending end, T2 could send:
/// nobody is dead, and when T2 ends so does T1. If it is a receiving end, nobody can send, and T1 is dead while T2 works.
pub(super) static HELD: Kernel = Kernel {
    name: "golf: held by a loop",
    class: Class::Golf,
    sites: 1,
    forms: &[
        Form::ends(Kind::Shared, |env| Box::pin(held(env, HeldEnd::Sending))).variant("sender"),
        Form::always_dead(Kind::Shared, |env| Box::pin(held(env, HeldEnd::Receiving)), CHANNEL_DEAD)
            .variant("receiver"),
    ],
};

/// A task that ends when its scope does, and not before.
async fn for_ever(wait: impl Future<Output = End>) -> Result<Infallible, Cancelled> {
    wait.await?;
    Err(bowline::cancelled().await)
}

/// Works for several of the program's longest pauses: it moves, and then it ends.
async fn work(env: Env) -> End {
    let end = Instant::now() + env.slow * 4;
    while Instant::now() < end {
        bowline::sleep(env.slow / 50).await?;
    }
    Ok(())
}

type Global = (FreeRendezvousTx<()>, FreeRendezvousRx<()>);

async fn static_channel(daemon: bool) -> End {
    static CHANNEL: LazyLock<std::sync::Mutex<Option<Global>>> = LazyLock::new(std::sync::Mutex::default);
    scope("kernel", async |s| {
        let mut global = CHANNEL.lock().unwrap();
        let (_, rx) = global.get_or_insert_with(|| {
            let (tx, rx) = s.rendezvous("channel");
            (tx.free(), rx.free())
        });
        if daemon {
            s.spawn_daemon_with("T1", rx.clone(), async |_cx, rx| {
                for_ever(async { rx.recv().await.map(drop) }).await
            });
        } else {
            s.spawn_with("T1", rx.clone(), async |_cx, rx| rx.recv().await.map(drop));
        }
        Ok(())
    })
    .await
}

/// The same with the channel in the hands of tasks: the program goes on, and has no end of it.
async fn channel(env: Env) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.rendezvous::<()>("channel");
        let both = env.both(|| tx.clone());
        s.spawn_with("T1", (rx, both), async |_cx, (rx, _tx)| rx.recv().await.map(drop));
        drop(tx);
        s.spawn("program", work(env));
        Ok(())
    })
    .await
}

async fn mutex(env: Env, daemon: bool) -> End {
    scope("kernel", async |s| {
        // As good as a static: it lies nowhere, and is there for ever.
        let lock: &Mutex<u32> = Box::leak(Box::new(Mutex::new("lock", 0)));
        let held = lock.lock_in(s.cx()).await?;
        let wait = async move { lock.with(|_| ()).await };
        if daemon {
            s.spawn_daemon("T1", for_ever(wait));
        } else {
            s.spawn("T1", wait);
        }
        env.pause().await;
        if !env.is_fixed() {
            forget(held);
        }
        Ok(())
    })
    .await
}

async fn rwlock(env: Env, daemon: bool) -> End {
    scope("kernel", async |s| {
        let lock: &RwLock<u32> = Box::leak(Box::new(RwLock::new("lock", 0)));
        let held = lock.read_in(s.cx()).await?;
        let wait = async move { lock.with_write(|_| ()).await };
        if daemon {
            s.spawn_daemon("T1", for_ever(wait));
        } else {
            s.spawn("T1", wait);
        }
        env.pause().await;
        if !env.is_fixed() {
            forget(held);
        }
        Ok(())
    })
    .await
}

/// What becomes of the count.
#[derive(Clone, Copy, PartialEq)]
enum Count {
    Static,
    Daemon,
    Forgotten,
    Moved,
}

async fn group(env: Env, count: Count) -> End {
    static GROUPS: std::sync::Mutex<Vec<FreeCount>> = std::sync::Mutex::new(Vec::new());
    scope("kernel", async |s| {
        let (one, group): (_, Latch) = s.cx().latch("group");
        let wait = async move { group.wait().await };
        if count == Count::Daemon {
            s.spawn_daemon("T1", for_ever(wait));
        } else {
            s.spawn("T1", wait);
        }
        env.pause().await;
        match count {
            Count::Static => GROUPS.lock().unwrap().push(one.free()),
            Count::Daemon | Count::Forgotten => forget(one),
            Count::Moved => drop(one),
        }
        Ok(())
    })
    .await
}

/// Which end of the channel the loop holds.
#[derive(Clone, Copy, PartialEq)]
enum HeldEnd {
    Sending,
    Receiving,
}

async fn held(env: Env, end: HeldEnd) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.rendezvous::<()>("channel");
        let (sender, receiver) = match end {
            HeldEnd::Sending => ((None, Some(tx)), None),
            HeldEnd::Receiving => ((Some(tx), None), Some(rx.clone())),
        };
        // Who waits holds the only sender, or nobody else does but T2.
        s.spawn_with("T1", (rx, sender.0), async |_cx, (rx, _tx)| rx.recv().await.map(drop));
        s.spawn_with("T2", (sender.1, receiver), async move |_cx, _ends| work(env).await);
        Ok(())
    })
    .await
}

async fn literal_channel() -> End {
    static CHANNEL: LazyLock<bare::Rdv<()>> = LazyLock::new(bare::Rdv::default);
    bare::go(async { CHANNEL.recv().await });
    Ok(())
}
