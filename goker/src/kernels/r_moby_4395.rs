//! moby#4395: a result that nobody takes.
//!
//! T0 calls something that starts T1 and returns the channel of its result; T0 does not look at it. T1 computes, and waits for
//! somebody to take what it found. Repaired, the channel has room for it.

use bowline::{Bound, Overflow, scope};

use crate::go::{give, put};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "moby#4395",
    class: Class::R,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        // The smallest channel of tokio has room for one: the bug is gone, and for the wrong reason.
        Form::ends(Kind::Tokio, ROOM_FOR_ONE).variant("room for one"),
        Form::ends(Kind::Moved, BODY),
        Form::always_dead(Kind::Shared, BODY, &[Dead::new(&["T1"], &["ch"]).bound()]),
        Form::ends(Kind::Fixed, REPAIRED),
        Form::ends(Kind::Slow, REPAIRED),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const REPAIRED: Run = |env| Box::pin(repaired(env));
const LITERAL: Run = |_| Box::pin(literal());
const ROOM_FOR_ONE: Run = |_| Box::pin(room_for_one());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.rendezvous("ch");
        let both = env.both(|| rx.clone());
        s.spawn_with("T1", (tx, both), async move |_cx, (tx, _rx)| {
            env.pause().await;
            give(&tx, 42).await?;
            Ok(())
        });
        drop(rx);
        Ok(())
    })
    .await
}

async fn repaired(env: Env) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.queue("ch", Bound::items(1), Overflow::Block);
        let both = env.both(|| rx.clone());
        s.spawn_with("T1", (tx, both), async move |_cx, (tx, _rx)| {
            env.pause().await;
            put(&tx, 42).await?;
            Ok(())
        });
        drop(rx);
        Ok(())
    })
    .await
}

async fn literal() -> End {
    let ch = bare::Rdv::default();
    bare::go(async move { ch.send(42).await });
    Ok(())
}

async fn room_for_one() -> End {
    let (tx, rx) = tokio::sync::mpsc::channel(1);
    bare::go(async move {
        let _both = rx;
        let _ = tx.send(42).await;
    });
    Ok(())
}
