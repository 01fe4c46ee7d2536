//! kubernetes#70277: waiting for one's own stop.
//!
//! A helper waits until a poller says so, and the poller ends when `stop` is closed or after 20 s. T0 calls the helper with
//! the stop that it closes itself at its own end, and then waits for that. Everything else lives on for 20 s, so this needs a
//! proof while the program runs. Repaired, the helper stops the poller with a stop of its own.

use std::sync::Arc;
use std::time::Duration;

use bowline::{Cx, Either, Latch, RendezvousTx, scope, sleep};

use crate::go::{select, try_give};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kubernetes#70277",
    class: Class::D,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::always_dead(Kind::Moved, BODY, &[Dead::new(&["T0"], &["stop"])]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

const TICK: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(20);

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (trigger, stop) = s.cx().latch("stop");
        let stop = Arc::new(stop);
        let (own_trigger, own) = s.cx().latch("own stop");
        let pollers = if env.is_fixed() { Arc::new(own) } else { Arc::clone(&stop) };
        let (tx, ch) = s.rendezvous("ch");
        s.spawn_with("T1", tx, async move |cx, tx| poll(cx, tx, &pollers).await);
        env.pause().await;
        let is_met = ch.recv().await?;
        drop(own_trigger);
        if env.is_fixed() || is_met.is_none() {
            drop(trigger);
            return stop.wait().await;
        }
        let ended = stop.wait().await;
        drop(trigger);
        ended
    })
    .await
}

async fn poll(_cx: &Cx, tx: RendezvousTx<'_, ()>, stop: &Latch) -> End {
    let limit = tokio::time::Instant::now() + LIMIT;
    loop {
        match select(stop.wait(), select(bowline::sleep_until(limit), sleep(TICK))).await? {
            Either::Right(Either::Right(())) => drop(try_give(&tx, ()).await?),
            Either::Left(()) | Either::Right(Either::Left(())) => return Ok(()),
        }
    }
}

async fn literal() -> End {
    let (ch, stop) = (bare::Rdv::default(), bare::Gate::default());
    let (tx, pollers) = (ch.clone(), stop.clone());
    bare::go(async move {
        let limit = tokio::time::Instant::now() + LIMIT;
        while tokio::time::Instant::now() < limit {
            match bare::select(pollers.wait(), tokio::time::sleep(TICK)).await {
                Either::Left(()) => return,
                Either::Right(()) => drop(tx.try_send(()).await),
            }
        }
    });
    ch.recv().await;
    stop.wait().await;
    stop.close();
    Ok(())
}
