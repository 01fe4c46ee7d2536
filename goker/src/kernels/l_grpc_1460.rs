//! grpc#1460: waiting for a message with the lock its sender needs.
//!
//! T1 locks `m`, finds no stream and waits to be awakened, the lock in its hands. T2 adds the first stream under `m` and would
//! awaken T1. If T2 comes first, nobody waits. Repaired, T1 waits after it has given the lock back.

use bowline::{Mutex, scope};

use crate::go::{give, try_give};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "grpc#1460",
    class: Class::L,
    sites: 2,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Lock, BODY, &[DEAD]),
        Form::dead(Kind::Shared, BODY, &[DEAD]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: Dead = Dead::new(&["T1", "T2"], &["awaken", "m"]).bound();
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let m = s.cx().share("streams", Mutex::new("m", 0));
        let (tx, awaken) = s.rendezvous::<()>("awaken");
        let both = env.also(|| (tx.clone(), awaken.clone()));
        s.spawn_with("T1", (m.clone(), awaken, both.clone()), async move |_cx, (m, awaken, _both)| {
            let streams = m.lock().await?;
            env.pause().await;
            if *streams == 0 {
                let held = (!env.is_fixed()).then_some(streams);
                awaken.recv().await?;
                drop(held);
            }
            Ok(())
        });
        s.spawn_with("T2", (m, tx, both), async move |_cx, (m, awaken, _both)| {
            let mut streams = m.lock().await?;
            *streams += 1;
            if env.is_fixed() {
                drop(streams);
                give(&awaken, ()).await?;
            } else {
                try_give(&awaken, ()).await?;
            }
            Ok(())
        });
        Ok(())
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    use tokio::sync::Mutex;
    let (m, awaken) = (Arc::new(Mutex::new(0)), bare::Rdv::default());
    let (streams, waker) = (Arc::clone(&m), awaken.clone());
    bare::go(async move {
        let streams = m.lock().await;
        if *streams == 0 {
            awaken.recv().await;
        }
    });
    bare::go(async move {
        *streams.lock().await += 1;
        waker.try_send(()).await;
    });
    Ok(())
}
