//! moby#28462: stopping the monitor under the lock that the monitor takes.
//!
//! T2 holds `container` and waits to send `stop`; T1 looked for a stop a moment before, saw none, and waits for
//! `container`. Repaired, stopping closes the channel, which waits for nobody.

use bowline::{Mutex, TryRecvError, scope};

use crate::go::give;
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "moby#28462",
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

const DEAD: Dead = Dead::new(&["T1", "T2"], &["container", "stop"]).bound();
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let container = s.cx().share("container", Mutex::new("container", 0));
        let (tx, stop) = s.rendezvous::<()>("stop");
        let both = env.also(|| (tx.clone(), stop.clone()));
        s.spawn_with(
            "T1",
            (container.clone(), stop, both.clone()),
            async move |_cx, (container, stop, _both)| {
                while let Err(TryRecvError::Empty) = stop.try_recv() {
                    *container.lock().await? += 1;
                    env.tick().await?;
                }
                Ok(())
            },
        );
        s.spawn_with("T2", (container, tx, both), async move |_cx, (container, stop, _both)| {
            env.pause().await;
            let state = container.lock().await?;
            env.pause().await;
            if env.is_fixed() {
                drop(stop);
            } else {
                give(&stop, ()).await?;
            }
            drop(state);
            Ok(())
        });
        Ok(())
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    let (container, stop) = (Arc::new(tokio::sync::Mutex::new(0)), bare::Rdv::default());
    let (theirs, stopping) = (Arc::clone(&container), stop.clone());
    bare::go(async move {
        while stop.try_recv().await.is_none() {
            *theirs.lock().await += 1;
            tokio::task::yield_now().await;
        }
    });
    bare::go(async move {
        let _state = container.lock().await;
        stopping.send(()).await;
    });
    Ok(())
}
