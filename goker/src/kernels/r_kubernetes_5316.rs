//! kubernetes#5316: who asked has stopped waiting.
//!
//! T1 starts T2 and waits for `ok`, for `err` or for a millisecond, whichever is first, and returns. T2 works for two, and sends
//! on one of them: nobody is there. Repaired, both have room for one.

use std::time::Duration;

use bowline::{Bound, Overflow, race_all, scope};

use crate::go::{coin, give, put};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kubernetes#5316",
    class: Class::R,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::always_dead(
            Kind::Shared,
            BODY,
            &[Dead::new(&["T2"], &["ok"]).bound(), Dead::new(&["T2"], &["err"]).bound()],
        ),
        Form::ends(Kind::Shared, IN_TIME).variant("in time"),
        Form::ends(Kind::Fixed, REPAIRED),
        Form::ends(Kind::Slow, REPAIRED),
    ],
};

const BODY: Run = |env| Box::pin(body(env, TIMEOUT, WORK));
const IN_TIME: Run = |env| Box::pin(body(env, Duration::from_secs(1), TIMEOUT));
const REPAIRED: Run = |env| Box::pin(repaired(env));
const LITERAL: Run = |_| Box::pin(literal());

const TIMEOUT: Duration = Duration::from_millis(1);
const WORK: Duration = Duration::from_millis(2);

async fn body(env: Env, timeout: Duration, work: Duration) -> End {
    scope("kernel", async |s| {
        s.spawn("T1", async move {
            scope("request", async |s| {
                let (ok, taken) = s.rendezvous("ok");
                let (err, failed) = s.rendezvous("err");
                let both = (env.both(|| taken.clone()), env.both(|| failed.clone()));
                s.spawn_with(
                    "T2",
                    (ok, err, both.0, both.1),
                    async move |_cx, (ok, err, _taken, _failed)| {
                        bowline::sleep(work).await?;
                        give(if coin() { &ok } else { &err }, ()).await?;
                        Ok(())
                    },
                );
                let taken = async { taken.recv().await.map(drop) };
                let failed = async { failed.recv().await.map(drop) };
                race_all((taken, failed, bowline::sleep(timeout))).await
            })
            .await
        });
        Ok(())
    })
    .await
}

async fn repaired(env: Env) -> End {
    scope("kernel", async |s| {
        s.spawn("T1", async move {
            scope("request", async |s| {
                let (ok, taken) = s.queue("ok", Bound::items(1), Overflow::Block);
                let both = env.both(|| taken.clone());
                s.spawn_with("T2", (ok, both), async move |_cx, (ok, _taken)| {
                    bowline::sleep(WORK).await?;
                    env.pause().await;
                    put(&ok, ()).await?;
                    Ok(())
                });
                race_all((async { taken.recv().await.map(drop) }, bowline::sleep(TIMEOUT))).await
            })
            .await
        });
        Ok(())
    })
    .await
}

async fn literal() -> End {
    bare::go(async {
        let ok = bare::Rdv::default();
        bare::go({
            let ok = ok.clone();
            async move {
                tokio::time::sleep(WORK).await;
                ok.send(()).await;
            }
        });
        bare::select(ok.recv(), tokio::time::sleep(TIMEOUT)).await;
    });
    Ok(())
}
