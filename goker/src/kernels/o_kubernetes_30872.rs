//! kubernetes#30872: two locks in two orders, and a third task behind them.
//!
//! T3 holds `fed` and waits for `fifo`; T1 holds `fifo`, and its handler waits for `fed`. T2 would stop T1, and needs `fed`
//! for it: it is behind the ring and not in it, unless it came first. Repaired, T3 asks the FIFO without holding `fed`.

use std::pin::Pin;

use bowline::{Mutex, RwLock, scope};

use crate::go::Gate;
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kubernetes#30872",
    class: Class::O,
    sites: 3,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Lock, BODY, DEAD),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: &[Dead] = &[
    Dead::new(&["T1", "T2", "T3"], &["fed", "fifo"]),
    Dead::new(&["T1", "T3"], &["fed", "fifo"]), // T2 came first
];
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Hub {
    fed: Mutex<u32>,
    fifo: RwLock<u32>,
    stop: Gate,
    stop_inner: Gate,
    handler: for<'a> fn(&'a Hub) -> Pin<Box<dyn Future<Output = End> + Send + 'a>>,
}

async fn handle(hub: &Hub) -> End {
    *hub.fed.lock().await? += 1;
    Ok(())
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let hub = Hub {
            fed: Mutex::new("fed", 0),
            fifo: RwLock::new("fifo", 0),
            stop: Gate::new("stop"),
            stop_inner: Gate::new("stop_inner"),
            handler: |hub| Box::pin(handle(hub)),
        };
        let hub = s.cx().share("hub", hub);
        let starting = hub.fed.lock().await?;
        s.spawn_with("T1", hub.clone(), async move |_cx, hub| {
            while !hub.stop_inner.is_closed() {
                let mut popped = hub.fifo.write().await?;
                (hub.handler)(&hub).await?;
                *popped += 1;
                drop(popped);
                env.tick().await?;
            }
            Ok(())
        });
        drop(starting);
        s.spawn_with("T2", hub.clone(), async move |_cx, hub| {
            hub.stop.wait().await?;
            env.pause().await;
            hub.fed.with(|_| hub.stop_inner.close()).await
        });
        s.spawn_with("T3", hub.clone(), async move |_cx, hub| {
            let fed = hub.fed.lock().await?;
            env.pause().await;
            let held = (!env.is_fixed()).then_some(fed);
            *hub.fifo.write().await? += 1;
            drop(held);
            Ok(())
        });
        hub.stop.close();
        Ok(())
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    use tokio::sync::Mutex;
    let (fed, fifo) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let stop_inner = bare::Gate::default();
    bare::go({
        let (fed, fifo, stop_inner) = (fed.clone(), fifo.clone(), stop_inner.clone());
        async move {
            while !stop_inner.is_closed() {
                let _popped = fifo.lock().await;
                bare::turn().await;
                *fed.lock().await += 1;
            }
        }
    });
    bare::go({
        let fed = fed.clone();
        async move {
            let _held = fed.lock().await;
            stop_inner.close();
        }
    });
    bare::go(async move {
        let _held = fed.lock().await;
        bare::turn().await;
        *fifo.lock().await += 1;
    });
    Ok(())
}
