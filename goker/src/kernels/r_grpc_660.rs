//! grpc#660: the last one's answer.
//!
//! T1 loops: makes `done`, starts W that sends on it, and takes what comes first: `stop`, and ends, or `done`, and goes on. T2
//! sends `stop`. T1 has taken `stop`: the W of that turn waits with an answer nobody takes. Repaired, `stop` is closed, and
//! W watches it.

use bowline::{Either, RendezvousRx, RendezvousTx, Shared, scope};

use crate::go::{Gate, coin, give, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "grpc#660",
    class: Class::R,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::always_dead(Kind::Shared, BODY, &[Dead::new(&["W"], &["done"]).bound()]),
        Form::ends(Kind::Fixed, REPAIRED),
        Form::ends(Kind::Slow, REPAIRED),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const REPAIRED: Run = |env| Box::pin(repaired(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.rendezvous("stop");
        let also = (env.both(|| tx.clone()), env.both(|| rx.clone()));
        s.spawn_with("T1", (rx, also.0), async move |_cx, (stop, also)| drive(env, stop, also).await);
        s.spawn_with("T2", (tx, also.1), async move |_cx, (stop, _rx)| {
            env.pause().await;
            give(&stop, ()).await?;
            Ok(())
        });
        Ok(())
    })
    .await
}

/// T1, with the tasks that it starts.
async fn drive(env: Env, stop: RendezvousRx<'_, ()>, also: Option<RendezvousTx<'_, ()>>) -> End {
    scope("turns", async move |s| {
        let _also = also;
        loop {
            let (tx, done) = s.rendezvous("done");
            let both = env.both(|| done.clone());
            s.spawn_with("W", (tx, both), async move |_cx, (tx, _rx)| {
                env.pause().await;
                give(&tx, coin()).await?;
                Ok(())
            });
            if let Either::Left(_) = select(stop.recv(), done.recv()).await? {
                return Ok(());
            }
            env.tick().await?;
        }
    })
    .await
}

async fn repaired(env: Env) -> End {
    scope("kernel", async |s| {
        let stop = s.cx().share("stop", Gate::new("stop"));
        s.spawn_with("T1", stop.clone(), async move |_cx, stop| drive_until(env, stop).await);
        s.spawn_with("T2", stop, async move |_cx, stop| {
            env.pause().await;
            stop.close();
            Ok(())
        });
        Ok(())
    })
    .await
}

async fn drive_until(env: Env, stop: Shared<'_, Gate>) -> End {
    scope("turns", async move |s| {
        loop {
            let (tx, done) = s.rendezvous("done");
            s.spawn_with("W", (tx, done.clone(), stop.clone()), async move |_cx, (tx, _rx, stop)| {
                env.pause().await;
                select(give(&tx, coin()), stop.wait()).await?;
                Ok(())
            });
            if let Either::Left(()) = select(stop.wait(), done.recv()).await? {
                return Ok(());
            }
            env.tick().await?;
        }
    })
    .await
}

async fn literal() -> End {
    let stop = bare::Rdv::default();
    bare::go({
        let stop = stop.clone();
        async move {
            loop {
                let done = bare::Rdv::default();
                let sender = done.clone();
                bare::go(async move { sender.send(coin()).await });
                if let Either::Left(()) = bare::select(stop.recv(), done.recv()).await {
                    break;
                }
            }
        }
    });
    bare::go(async move { stop.send(()).await });
    Ok(())
}
