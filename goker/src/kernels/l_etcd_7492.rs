//! etcd#7492: a client holds the lock that the receiver of its message needs.
//!
//! Clients lock `tokens` and send to `add`, which has room for one; the keeper T1 receives, and at every tick locks
//! `tokens` for each token it has. One token was received and one waits in the queue; the third client holds the lock and waits
//! for room, and T1, in its tick, for the lock. T0 joins the clients. Repaired, clients write into T1's map themselves,
//! under a lock of its own.

use bowline::{Bound, Either, Mutex, Overflow, RwLock, scope};

use crate::go::{give, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "etcd#7492",
    class: Class::L,
    sites: 3,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Lock, BODY, DEAD),
        Form::dead(Kind::Shared, BODY, DEAD),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: &[Dead] = &[
    Dead::new(&["T0", "T1", "T2"], &["add", "tokens"]).bound(),
    Dead::new(&["T0", "T1", "T3"], &["add", "tokens"]).bound(),
    Dead::new(&["T0", "T1", "T4"], &["add", "tokens"]).bound(),
];
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Hub {
    tokens: RwLock<u32>,
    /// The repaired keeper's map.
    map: Mutex<Vec<u32>>,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let hub = Hub { tokens: RwLock::new("tokens", 0), map: Mutex::new("map", Vec::new()) };
        let hub = s.cx().share("hub", hub);
        let (add_tx, add) = s.queue::<u32>("add", Bound::items(1), Overflow::Block);
        let (stop_tx, stop) = s.rendezvous::<()>("stop");
        let both = env.also(|| (add_tx.clone(), stop_tx.clone()));
        let keeper =
            s.spawn_with("T1", (hub.clone(), add, stop, both), async move |_cx, (hub, add, stop, _both)| {
                let mut own = Vec::new();
                loop {
                    match select(add.recv(), select(stop.recv(), env.tick())).await? {
                        Either::Left(Some(token)) => own.push(token),
                        Either::Left(None) if !env.is_fixed() => return Ok(()),
                        Either::Right(Either::Left(_)) => return Ok(()),
                        Either::Left(None) | Either::Right(Either::Right(())) => {
                            own.append(&mut hub.map.with(std::mem::take).await?);
                            for token in own.drain(..) {
                                *hub.tokens.write().await? += token;
                            }
                            env.tick().await?;
                        }
                    }
                }
            });
        let mut clients = Vec::new();
        for name in ["T2", "T3", "T4"] {
            let ends = (hub.clone(), add_tx.clone());
            clients.push(s.spawn_with(name, ends, async move |_cx, (hub, add)| {
                let held = hub.tokens.write().await?;
                env.pause().await;
                if env.is_fixed() {
                    hub.map.with(|map| map.push(1)).await?;
                } else {
                    let _ = add.send(1).await;
                }
                drop(held);
                Ok(())
            }));
        }
        for client in clients {
            client.await?;
        }
        give(&stop_tx, ()).await?;
        keeper.await?;
        drop(add_tx);
        hub.tokens.with_write(|_| ()).await
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    use tokio::sync::{RwLock, mpsc};
    let tokens = Arc::new(RwLock::new(0));
    let (add_tx, mut add) = mpsc::channel(1);
    let stop: bare::Rdv<()> = bare::Rdv::default();
    bare::go({
        let (tokens, stop) = (tokens.clone(), stop.clone());
        async move {
            let mut own = Vec::new();
            loop {
                match bare::select(add.recv(), bare::select(stop.recv(), tokio::task::yield_now())).await {
                    Either::Left(token) => own.extend(token),
                    Either::Right(Either::Left(())) => return,
                    Either::Right(Either::Right(())) => {
                        for token in own.drain(..) {
                            *tokens.write().await += token;
                        }
                    }
                }
            }
        }
    });
    let client = || {
        let (tokens, add) = (tokens.clone(), add_tx.clone());
        bare::go(async move {
            let _held = tokens.write().await;
            let _ = add.send(1).await;
        })
    };
    for client in [client(), client(), client()] {
        client.await.expect("it does not panic");
    }
    stop.send(()).await;
    Ok(())
}
