//! Seven patterns by which goroutines leak in a large code base (Saioc et al., arXiv 2312.12002).
//!
//! Each is there bare, with plain tokio; with its ends moved, where the first six end because of who owns what; with ends that
//! everybody has, where they stand still and have to be named; and in a scope whose helpers are daemons, which ends all seven.
//!
//! The seventh is never blocked for ever, so nobody who looks for the dead sees it: only a scope ends it.

use bowline::{Bound, Either, Overflow, scope};

use crate::go::{Gate, coin, give, put, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, bare};

/// On an error the producer sends that there is no result, forgets to return, and sends again; the consumer takes one.
pub(super) static DOUBLE_SEND: Kernel = Kernel {
    name: "uber: double send",
    class: Class::Uber,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, |_| Box::pin(bare_double_send()), &[]),
        Form::ends(Kind::Moved, |env| Box::pin(double_send(env, Life::Child))),
        Form::always_dead(Kind::Shared, |env| Box::pin(double_send(env, Life::Child)), T1_AT_CH),
        Form::by_scope(Kind::Shared, |env| Box::pin(double_send(env, Life::Daemon)), &["T1"])
            .variant("scope"),
        Form::ends(Kind::Fixed, |env| Box::pin(double_send(env, Life::Child))),
        Form::ends(Kind::Slow, |env| Box::pin(double_send(env, Life::Child))),
    ],
};

/// The parent starts a worker that will send it a result, meets an error and returns.
pub(super) static EARLY_RETURN: Kernel = Kernel {
    name: "uber: early return",
    class: Class::Uber,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, |_| Box::pin(bare_early_return()), &[]),
        Form::ends(Kind::Moved, |env| Box::pin(early_return(env, Life::Child))),
        Form::always_dead(Kind::Shared, |env| Box::pin(early_return(env, Life::Child)), T1_AT_CH),
        Form::by_scope(Kind::Shared, |env| Box::pin(early_return(env, Life::Daemon)), &["T1"])
            .variant("scope"),
        Form::ends(Kind::Fixed, |env| Box::pin(early_return(env, Life::Child))),
        Form::ends(Kind::Slow, |env| Box::pin(early_return(env, Life::Child))),
    ],
};

/// Several workers send to one channel, and the parent takes the first result. Without any worker it waits for ever itself.
pub(super) static N_CAST: Kernel = Kernel {
    name: "uber: n-cast",
    class: Class::Uber,
    sites: 2,
    forms: &[
        Form::always_dead(Kind::Tokio, |_| Box::pin(bare_n_cast()), &[]),
        Form::ends(Kind::Moved, |env| Box::pin(n_cast(env, 3, Life::Child))),
        Form::ends(Kind::Moved, |env| Box::pin(n_cast(env, 0, Life::Child))).variant("none"),
        Form::always_dead(
            Kind::Shared,
            |env| Box::pin(n_cast(env, 3, Life::Child)),
            &[Dead::new(&["worker", "worker"], &["ch"]).bound()],
        ),
        Form::always_dead(
            Kind::Shared,
            |env| Box::pin(n_cast(env, 0, Life::Child)),
            &[Dead::new(&["T0"], &["ch"]).bound()],
        )
        .variant("none"),
        Form::by_scope(Kind::Shared, |env| Box::pin(n_cast(env, 3, Life::Daemon)), &["worker"])
            .variant("scope"),
        Form::ends(Kind::Fixed, |env| Box::pin(n_cast(env, 3, Life::Child))),
        Form::ends(Kind::Slow, |env| Box::pin(n_cast(env, 3, Life::Child))),
    ],
};

/// The parent waits for the result or until its token is cancelled, which it is; the worker's result comes later.
pub(super) static TIME_OUT: Kernel = Kernel {
    name: "uber: time-out",
    class: Class::Uber,
    sites: 1,
    forms: &[
        Form::dead(Kind::Tokio, |_| Box::pin(bare_time_out()), &[]),
        Form::ends(Kind::Moved, |env| Box::pin(time_out(env, Life::Child))),
        Form::dead(Kind::Shared, |env| Box::pin(time_out(env, Life::Child)), T1_AT_CH),
        Form::by_scope(Kind::Shared, |env| Box::pin(time_out(env, Life::Daemon)), &["T1"]).variant("scope"),
        Form::ends(Kind::Fixed, |env| Box::pin(time_out(env, Life::Child))),
        Form::ends(Kind::Slow, |env| Box::pin(time_out(env, Life::Child))),
    ],
};

/// Workers go through a channel that its producer never closes. Without any worker the producer waits with its first item.
pub(super) static CHANNEL_RANGE: Kernel = Kernel {
    name: "uber: channel range",
    class: Class::Uber,
    sites: 2,
    forms: &[
        Form::always_dead(Kind::Tokio, |_| Box::pin(bare_range()), &[]),
        Form::ends(Kind::Moved, |env| Box::pin(range(env, 2, Life::Child))),
        Form::ends(Kind::Moved, |env| Box::pin(range(env, 0, Life::Child))).variant("none"),
        Form::always_dead(
            Kind::Shared,
            |env| Box::pin(range(env, 2, Life::Child)),
            &[Dead::new(&["worker", "worker"], &["ch"]).bound()],
        ),
        Form::always_dead(
            Kind::Shared,
            |env| Box::pin(range(env, 0, Life::Child)),
            &[Dead::new(&["T0"], &["ch"]).bound()],
        )
        .variant("none"),
        Form::by_scope(Kind::Shared, |env| Box::pin(range(env, 2, Life::Daemon)), &["worker"])
            .variant("scope"),
        Form::ends(Kind::Fixed, |env| Box::pin(range(env, 2, Life::Child))),
        Form::ends(Kind::Slow, |env| Box::pin(range(env, 2, Life::Child))),
    ],
};

/// `start` starts a loop over items and `done`; whoever called it forgets to call `stop`.
pub(super) static CONTRACT: Kernel = Kernel {
    name: "uber: contract",
    class: Class::Uber,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, |_| Box::pin(bare_contract()), &[]),
        Form::ends(Kind::Moved, |env| Box::pin(contract(env, Life::Child))),
        Form::always_dead(
            Kind::Shared,
            |env| Box::pin(contract(env, Life::Child)),
            &[Dead::new(&["T1"], &["done", "items"]).shared()],
        ),
        Form::by_scope(Kind::Shared, |env| Box::pin(contract(env, Life::Daemon)), &["T1"]).variant("scope"),
        Form::ends(Kind::Fixed, |env| Box::pin(contract(env, Life::Child))),
        Form::ends(Kind::Slow, |env| Box::pin(contract(env, Life::Child))),
    ],
};

/// A loop of sleep and work without an exit.
pub(super) static TIMER: Kernel = Kernel {
    name: "uber: looping timer",
    class: Class::Uber,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, |env| Box::pin(bare_timer(env)), &[]),
        Form::outlives(Kind::Shared, |env| Box::pin(timer(env, Life::Child)), &["T1"]),
        Form::by_scope(Kind::Shared, |env| Box::pin(timer(env, Life::Daemon)), &["T1"]).variant("scope"),
    ],
};

const T1_AT_CH: &[Dead] = &[Dead::new(&["T1"], &["ch"]).bound()];

/// How long a helper lives.
#[derive(Clone, Copy)]
enum Life {
    /// Until it ends: its scope waits for it.
    Child,
    /// As long as its scope has something else to do.
    Daemon,
}

/// Starts a helper that lives so long.
macro_rules! start {
    ($life:expr, $s:expr, $name:literal, $ends:expr, |$pattern:pat_param| $run:expr) => {
        match $life {
            Life::Child => drop($s.spawn_with($name, $ends, async move |_cx, $pattern| {
                let ended: End = $run.await;
                ended
            })),
            Life::Daemon => drop($s.spawn_daemon_with($name, $ends, async move |_cx, $pattern| {
                let ended: End = $run.await;
                ended?;
                Err(bowline::cancelled().await)
            })),
        }
    };
}

async fn double_send(env: Env, life: Life) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.rendezvous("ch");
        let both = env.both(|| rx.clone());
        start!(life, s, "T1", (tx, both), |(tx, _rx)| async {
            give(&tx, None).await?; // there was an error
            if env.is_fixed() {
                return Ok(());
            }
            env.pause().await;
            give(&tx, Some(1)).await?;
            Ok(())
        });
        rx.recv().await?;
        env.pause().await;
        Ok(())
    })
    .await
}

async fn early_return(env: Env, life: Life) -> End {
    scope("kernel", async |s| {
        if env.is_fixed() {
            let (tx, rx) = s.queue("ch", Bound::items(1), Overflow::Block);
            start!(life, s, "T1", (tx, rx.clone()), |(tx, _rx)| async {
                env.pause().await;
                put(&tx, 1).await?;
                Ok(())
            });
            return Ok(());
        }
        let (tx, rx) = s.rendezvous("ch");
        start!(life, s, "T1", (tx, env.both(|| rx.clone())), |(tx, _rx)| async {
            env.pause().await;
            give(&tx, 1).await?;
            Ok(())
        });
        Ok(()) // something else went wrong; the result would have been received below
    })
    .await
}

async fn n_cast(env: Env, workers: usize, life: Life) -> End {
    scope("kernel", async |s| {
        if env.is_fixed() {
            let (tx, rx) = s.queue("ch", Bound::items(workers), Overflow::Block);
            for _ in 0..workers {
                start!(life, s, "worker", (tx.clone(), rx.clone()), |(tx, _rx)| async {
                    env.pause().await;
                    put(&tx, 1).await?;
                    Ok(())
                });
            }
            return rx.recv().await.map(drop);
        }
        let (tx, rx) = s.rendezvous("ch");
        for _ in 0..workers {
            start!(life, s, "worker", (tx.clone(), env.both(|| rx.clone())), |(tx, _rx)| async {
                env.pause().await;
                give(&tx, 1).await?;
                Ok(())
            });
        }
        let _own = env.both(|| tx.clone());
        drop(tx);
        rx.recv().await.map(drop)
    })
    .await
}

async fn time_out(env: Env, life: Life) -> End {
    scope("kernel", async |s| {
        let token = s.cx().share("request", Gate::new("token"));
        s.spawn_with("T2", token.clone(), async move |_cx, token| {
            while coin() {
                env.tick().await?;
            }
            token.close();
            Ok(())
        });
        if env.is_fixed() {
            let (tx, rx) = s.queue("ch", Bound::items(1), Overflow::Block);
            start!(life, s, "T1", (tx, rx.clone()), |(tx, _rx)| async {
                env.pause().await;
                put(&tx, 1).await?;
                Ok(())
            });
            select(rx.recv(), token.wait()).await?;
            return Ok(());
        }
        let (tx, rx) = s.rendezvous("ch");
        start!(life, s, "T1", (tx, env.both(|| rx.clone())), |(tx, _rx)| async {
            env.pause().await;
            give(&tx, 1).await?;
            Ok(())
        });
        select(rx.recv(), token.wait()).await?;
        Ok(())
    })
    .await
}

async fn range(env: Env, workers: usize, life: Life) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.rendezvous("ch");
        let closed = s.cx().share("channel", Gate::new("closed"));
        for _ in 0..workers {
            let ends = (rx.clone(), env.both(|| tx.clone()), env.is_fixed().then(|| closed.clone()));
            start!(life, s, "worker", ends, |(rx, _tx, closed)| async {
                match closed {
                    Some(closed) => {
                        while let Either::Left(Some(_)) = select(rx.recv(), closed.wait()).await? {
                            env.pause().await;
                        }
                    }
                    None => while rx.recv().await?.is_some() {},
                }
                Ok(())
            });
        }
        let _own = env.both(|| rx.clone());
        drop(rx);
        for item in 0..2 {
            give(&tx, item).await?;
        }
        if env.is_fixed() {
            closed.close();
        }
        Ok(())
    })
    .await
}

async fn contract(env: Env, life: Life) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.rendezvous("items");
        let worker = s.cx().share("worker", Gate::new("done"));
        start!(life, s, "T1", (rx, env.both(|| tx.clone()), worker.clone()), |(rx, _tx, worker)| async {
            while let Either::Left(Some(_)) = select(rx.recv(), worker.wait()).await? {
                env.pause().await;
            }
            Ok(())
        });
        give(&tx, 1).await?;
        if env.is_fixed() {
            worker.close();
        }
        Ok(())
    })
    .await
}

async fn timer(env: Env, life: Life) -> End {
    scope("kernel", async |s| {
        start!(life, s, "T1", (), |()| async {
            while bowline::sleep(env.slow / 10).await.is_ok() {}
            bowline::check()
        });
        env.pause().await;
        Ok(())
    })
    .await
}

async fn bare_double_send() -> End {
    let ch = bare::Rdv::default();
    bare::go({
        let ch = ch.clone();
        async move {
            ch.send(None).await;
            ch.send(Some(1)).await;
        }
    });
    ch.recv().await;
    Ok(())
}

async fn bare_early_return() -> End {
    let ch = bare::Rdv::default();
    bare::go(async move { ch.send(1).await });
    Ok(())
}

async fn bare_n_cast() -> End {
    let ch = bare::Rdv::default();
    for _ in 0..3 {
        let ch = ch.clone();
        bare::go(async move { ch.send(1).await });
    }
    ch.recv().await;
    Ok(())
}

async fn bare_time_out() -> End {
    let (ch, token) = (bare::Rdv::default(), bare::Gate::default());
    bare::go({
        let ch = ch.clone();
        async move { ch.send(1).await }
    });
    bare::go({
        let token = token.clone();
        async move { token.close() }
    });
    bare::select(ch.recv(), token.wait()).await;
    Ok(())
}

async fn bare_range() -> End {
    let ch = bare::Rdv::default();
    for _ in 0..2 {
        let ch = ch.clone();
        bare::go(async move {
            loop {
                ch.recv().await;
            }
        });
    }
    for item in 0..2 {
        ch.send(item).await;
    }
    Ok(())
}

async fn bare_contract() -> End {
    let (items, done) = (bare::Rdv::default(), bare::Gate::default());
    bare::go({
        let items = items.clone();
        async move { while let Either::Left(_) = bare::select(items.recv(), done.wait()).await {} }
    });
    items.send(1).await;
    Ok(())
}

async fn bare_timer(env: Env) -> End {
    bare::go(async move {
        loop {
            tokio::time::sleep(env.slow / 10).await;
        }
    });
    Ok(())
}
