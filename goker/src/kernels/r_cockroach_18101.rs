//! cockroach#18101: a reader that stops reading.
//!
//! T1 starts T2 and goes through the items of `ready`: for each it waits until `ctx` is cancelled, and returns. T3 cancels
//! `ctx`. T2 sends eight items: T1 took one, six fit, and it waits with the eighth. Repaired, T2 watches `ctx` too.

use bowline::{Bound, Either, Overflow, Shared, Tx, scope};

use crate::go::{Gate, put, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "cockroach#18101",
    class: Class::R,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::always_dead(Kind::Shared, BODY, &[Dead::new(&["T2"], &["ready"]).bound()]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

const ROOM: usize = 6;
const ITEMS: u32 = 8;

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let ctx = s.cx().share("request", Gate::new("ctx"));
        s.spawn_with("T1", ctx.clone(), async move |_cx, ctx| split(env, ctx).await);
        s.spawn_with("T3", ctx, async move |_cx, ctx| {
            env.pause().await;
            ctx.close();
            Ok(())
        });
        Ok(())
    })
    .await
}

/// T1, with the task that it leaves behind.
async fn split(env: Env, ctx: Shared<'_, Gate>) -> End {
    scope("split", async move |s| {
        let (tx, rx) = s.queue("ready", Bound::items(ROOM), Overflow::Block);
        let both = env.both(|| rx.clone());
        s.spawn_with("T2", (tx, both, ctx.clone()), async move |_cx, (tx, _rx, ctx)| {
            feed(env, tx, ctx).await
        });
        if rx.recv().await?.is_some() {
            ctx.wait().await?;
        }
        Ok(())
    })
    .await
}

async fn feed(env: Env, ready: Tx<'_, u32>, ctx: Shared<'_, Gate>) -> End {
    for item in 0..ITEMS {
        env.pause().await;
        let goes_on = match env.is_fixed() {
            true => matches!(select(put(&ready, item), ctx.wait()).await?, Either::Left(true)),
            false => put(&ready, item).await?,
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

async fn literal() -> End {
    let ctx = bare::Gate::default();
    bare::go({
        let ctx = ctx.clone();
        async move {
            let (tx, rx) = tokio::sync::mpsc::channel(ROOM);
            // A channel of Go has no owner: it is there as long as anybody knows it.
            let rx = std::sync::Arc::new(tokio::sync::Mutex::new(rx));
            let both = rx.clone();
            bare::go(async move {
                let _both = both;
                for item in 0..ITEMS {
                    let _ = tx.send(item).await;
                }
            });
            if rx.lock().await.recv().await.is_some() {
                ctx.wait().await;
            }
        }
    });
    bare::go(async move { ctx.close() });
    Ok(())
}
