//! cockroach#13197: a transaction that nobody ends.
//!
//! T0 begins a transaction, which starts T1 to wait until the context `tx` is cancelled; then it drops the transaction without
//! rolling back. Nobody cancels `tx`. Repaired, T0 rolls back.

use std::convert::Infallible;

use bowline::scope;

use crate::go::Gate;
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "cockroach#13197",
    class: Class::S,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::by_scope(Kind::Moved, DAEMON, &["T1"]).variant("daemon"),
        Form::ends(Kind::Moved, GUARD).variant("drop guard"),
        // Who waits holds the transaction, and that the only right to end it.
        Form::always_dead(Kind::Shared, BODY, &[Dead::new(&["T1"], &["tx"]).shared()]),
        Form::always_dead(Kind::Shared, GUARD, GUARDED).variant("drop guard"),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const GUARDED: &[Dead] = &[Dead::new(&["T1"], &["tx"])];

const BODY: Run = |env| Box::pin(body(env));
const GUARD: Run = |env| Box::pin(guarded(env));
const DAEMON: Run = |env| Box::pin(daemon(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let tx = s.cx().share("transaction", Gate::new("tx"));
        s.spawn_with("T1", tx.clone(), async |_cx, tx| tx.wait().await);
        env.pause().await;
        if env.is_fixed() {
            tx.close();
        }
        Ok(())
    })
    .await
}

/// The transaction ends when the last who knows it lets go.
async fn guarded(env: Env) -> End {
    scope("kernel", async |s| {
        let (guard, ended) = s.cx().latch("tx");
        let also = env.both(|| guard.clone());
        s.spawn_with("T1", also, async move |_cx, _guard| ended.wait().await);
        env.pause().await;
        drop(guard);
        Ok(())
    })
    .await
}

/// The transaction lives as long as the scope that it was begun in.
async fn daemon(env: Env) -> End {
    scope("kernel", async |s| {
        s.spawn_daemon("T1", async { Err::<Infallible, _>(bowline::cancelled().await) });
        env.pause().await;
        Ok(())
    })
    .await
}

async fn literal() -> End {
    let tx = bare::Gate::default();
    bare::go({
        let tx = tx.clone();
        async move { tx.wait().await }
    });
    Ok(())
}
