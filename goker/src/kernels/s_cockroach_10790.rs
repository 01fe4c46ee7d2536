//! cockroach#10790: a drainer for values nobody will send.
//!
//! T1 goes through the channels `c0` and `c1`: receives, or, if `ctx` is cancelled first, starts D, which receives from both with
//! no other way out. T2 cancels `ctx`. T3 sends on each, or ends when `ctx` is cancelled. T0 closes `quiesce` and returns.
//! When `ctx` is cancelled T3 ends, and each D waits. Repaired, D watches `quiesce`.

use std::convert::Infallible;

use bowline::{Cancelled, Either, RendezvousRx, RendezvousTx, Scope, Shared, scope};

use crate::go::{Gate, coin, give, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "cockroach#10790",
    class: Class::S,
    sites: 1,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        // The ends for sending are T3's: they go with it.
        Form::ends(Kind::Moved, BODY),
        Form::dead(Kind::Shared, BODY, DEAD),
        Form::by_scope(Kind::Shared, DAEMONS, &["D"]).variant("daemons"),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: &[Dead] = &[
    Dead::new(&["D"], &["c0"]).bound(),
    Dead::new(&["D"], &["c1"]).bound(),
    Dead::new(&["D", "D"], &["c0"]).bound(),
    Dead::new(&["D", "D"], &["c0", "c1"]).bound(),
    Dead::new(&["D", "D"], &["c1"]).bound(),
];

const BODY: Run = |env| Box::pin(body(env, false));
const DAEMONS: Run = |env| Box::pin(body(env, true));
const LITERAL: Run = |_| Box::pin(literal());

/// What everybody looks at.
struct Request {
    ctx: Gate,
    quiesce: Gate,
}

type Senders<'t> = Vec<RendezvousTx<'t, u32>>;
type Receivers<'t> = Vec<RendezvousRx<'t, u32>>;

async fn body(env: Env, daemons: bool) -> End {
    scope("kernel", async |s| {
        let (c0, c1) = (s.rendezvous("c0"), s.rendezvous("c1"));
        let (senders, receivers) = (vec![c0.0, c1.0], vec![c0.1, c1.1]);
        let request = Request { ctx: Gate::new("ctx"), quiesce: Gate::new("quiesce") };
        let request = s.cx().share("request", request);
        let also = (env.both(|| senders.clone()), env.both(|| receivers.clone()));
        s.spawn_with(
            "T1",
            (receivers, also.0, request.clone()),
            async move |_cx, (receivers, senders, request)| {
                receive(env, daemons, receivers, senders, request).await
            },
        );
        s.spawn_with("T2", request.clone(), async move |_cx, request| {
            env.pause().await;
            request.ctx.close();
            Ok(())
        });
        let ends = (senders, also.1, request.clone());
        s.spawn_with("T3", ends, async move |_cx, (senders, _receivers, request)| {
            for c in &senders {
                while coin() {
                    env.tick().await?;
                }
                if let Either::Right(()) = select(give(c, 1), request.ctx.wait()).await? {
                    break;
                }
            }
            Ok(())
        });
        env.pause().await;
        request.quiesce.close();
        Ok(())
    })
    .await
}

/// T1, with the drainers that it leaves behind.
async fn receive(
    env: Env,
    daemons: bool,
    receivers: Receivers<'_>,
    senders: Option<Senders<'_>>,
    request: Shared<'_, Request>,
) -> End {
    scope("drainers", async move |s| {
        for c in &receivers {
            if let Either::Right(()) = select(c.recv(), request.ctx.wait()).await? {
                start_drainer(env, daemons, s, (receivers.clone(), senders.clone(), request.clone()));
            }
        }
        Ok(())
    })
    .await
}

fn start_drainer<'t>(
    env: Env,
    daemons: bool,
    s: &'t Scope<Cancelled>,
    ends: (Receivers<'t>, Option<Senders<'t>>, Shared<'t, Request>),
) {
    if daemons {
        s.spawn_daemon_with("D", ends, async move |_cx, (receivers, _senders, request)| {
            drain(env, &receivers, &request).await?;
            Err::<Infallible, _>(bowline::cancelled().await)
        });
    } else {
        s.spawn_with("D", ends, async move |_cx, (receivers, _senders, request)| {
            drain(env, &receivers, &request).await
        });
    }
}

async fn drain(env: Env, receivers: &Receivers<'_>, request: &Request) -> End {
    for c in receivers {
        if env.is_fixed() {
            if let Either::Right(()) = select(c.recv(), request.quiesce.wait()).await? {
                break;
            }
        } else {
            c.recv().await?;
        }
    }
    Ok(())
}

async fn literal() -> End {
    let channels = [bare::Rdv::default(), bare::Rdv::default()];
    let ctx = bare::Gate::default();
    bare::go({
        let (channels, ctx) = (channels.clone(), ctx.clone());
        async move {
            for c in &channels {
                if let Either::Right(()) = bare::select(c.recv(), ctx.wait()).await {
                    let channels = channels.clone();
                    bare::go(async move {
                        for c in &channels {
                            c.recv().await;
                        }
                    });
                }
            }
        }
    });
    bare::go({
        let ctx = ctx.clone();
        async move { ctx.close() }
    });
    bare::go(async move {
        for c in &channels {
            if let Either::Right(()) = bare::select(c.send(1), ctx.wait()).await {
                break;
            }
        }
    });
    Ok(())
}
