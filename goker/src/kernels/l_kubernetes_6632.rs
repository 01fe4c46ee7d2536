//! kubernetes#6632: the writer sends under the lock that the monitor needs to close the channel.
//!
//! T2 locks `w`, sees that `reset` is there and sends to it, which nobody receives. T1, told by T3 that the connection is
//! closed, would close `reset`, under the same lock. Repaired, the monitor first starts a task that receives what is sent.

use bowline::{Mutex, scope};

use crate::go::give;
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kubernetes#6632",
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

const DEAD: Dead = Dead::new(&["T1", "T2"], &["reset", "w"]).bound();
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        // Whether `reset` is there.
        let w = s.cx().share("writer", Mutex::new("w", true));
        let (close_tx, close_conn) = s.rendezvous::<()>("close_conn");
        let (reset_tx, reset) = s.rendezvous::<()>("reset");
        let both = env.also(|| (reset_tx.clone(), reset.clone()));
        s.spawn_with(
            "T1",
            (w.clone(), close_conn, reset, both.clone()),
            async move |_cx, (w, close, reset, _both)| {
                scope("monitor", async |t| {
                    close.recv().await?;
                    let kept = if env.is_fixed() {
                        t.spawn_with("drain", reset, async |_cx, reset| {
                            while reset.recv().await?.is_some() {}
                            Ok(())
                        });
                        None
                    } else {
                        Some(reset)
                    };
                    let mut is_there = w.lock().await?;
                    drop(kept);
                    *is_there = false;
                    Ok(())
                })
                .await
            },
        );
        s.spawn_with("T2", (w, reset_tx, both), async move |_cx, (w, reset, _both)| {
            let is_there = w.lock().await?;
            env.pause().await;
            if *is_there {
                give(&reset, ()).await?;
            }
            Ok(())
        });
        s.spawn_with("T3", close_tx, async |_cx, close| give(&close, ()).await);
        Ok(())
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    use tokio::sync::Mutex;
    let close: bare::Rdv<()> = bare::Rdv::default();
    let w = Arc::new(Mutex::new(Some(bare::Rdv::<()>::default())));
    let (closing, closed) = (close.clone(), Arc::clone(&w));
    bare::go(async move {
        close.recv().await;
        closed.lock().await.take();
    });
    bare::go(async move {
        let reset = w.lock().await;
        if let Some(reset) = &*reset {
            reset.send(()).await;
        }
    });
    bare::go(async move { closing.send(()).await });
    Ok(())
}
