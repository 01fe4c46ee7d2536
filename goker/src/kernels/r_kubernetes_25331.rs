//! kubernetes#25331: the one thing it could have watched.
//!
//! T1 takes what comes first: an error from `errs`, upon which it cancels `ctx` and sends the error on `results`, or that `ctx`
//! is cancelled. T2 sends on `errs` and cancels `ctx`. Nobody receives `results` any more, and the send does not look at
//! `ctx`. Repaired, it does, and `ctx` is cancelled after it.

use bowline::{Either, RendezvousRx, RendezvousTx, scope};

use crate::go::{Gate, give, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kubernetes#25331",
    class: Class::R,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::always_dead(Kind::Shared, BODY, &[Dead::new(&["T1"], &["results"]).bound()]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (failed, errs) = s.rendezvous("errs");
        let (tx, results) = s.rendezvous("results");
        let ctx = s.cx().share("watcher", Gate::new("ctx"));
        let both = env.both(|| results.clone());
        let ends = (errs, tx, both, ctx.clone());
        s.spawn_with("T1", ends, async move |_cx, (errs, tx, _results, ctx)| {
            watch(env, errs, tx, &ctx).await
        });
        s.spawn_with("T2", (failed, ctx), async move |_cx, (failed, ctx)| {
            env.pause().await;
            give(&failed, "gone").await?;
            ctx.close();
            Ok(())
        });
        drop(results); // whoever asked has left
        Ok(())
    })
    .await
}

async fn watch(
    env: Env,
    errs: RendezvousRx<'_, &'static str>,
    results: RendezvousTx<'_, &'static str>,
    ctx: &Gate,
) -> End {
    let Either::Left(Some(error)) = select(errs.recv(), ctx.wait()).await? else { return Ok(()) };
    if env.is_fixed() {
        env.pause().await;
        select(give(&results, error), ctx.wait()).await?;
        ctx.close();
    } else {
        ctx.close();
        give(&results, error).await?;
    }
    Ok(())
}

async fn literal() -> End {
    let (errs, results, ctx) = (bare::Rdv::default(), bare::Rdv::default(), bare::Gate::default());
    bare::go({
        let (errs, ctx) = (errs.clone(), ctx.clone());
        async move {
            if let Either::Left(()) = bare::select(errs.recv(), ctx.wait()).await {
                ctx.close();
                results.send(()).await;
            }
        }
    });
    bare::go(async move {
        errs.send(()).await;
        ctx.close();
    });
    Ok(())
}
