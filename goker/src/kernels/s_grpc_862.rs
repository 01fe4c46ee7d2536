//! grpc#862: retries without end.
//!
//! T1 dials for a caller: it makes a context of its own instead of one below the caller's, starts T2 and returns nothing. T2
//! tries again after pauses that grow, until its context is cancelled. T3 cancels the caller's. Nobody has T2's. It is not
//! dead, only in vain: it outlives whoever wanted it. Repaired, T1 cancels it on its way out.

use std::time::Duration;

use bowline::{Either, Shared, scope};

use crate::go::{Gate, select};
use crate::{Class, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "grpc#862",
    class: Class::S,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, DAEMON).variant("daemon"),
        Form::outlives(Kind::Shared, BODY, &["T2"]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env, false));
const DAEMON: Run = |env| Box::pin(body(env, true));
const LITERAL: Run = |env| Box::pin(literal(env));

async fn body(env: Env, daemon: bool) -> End {
    scope("kernel", async |s| {
        let caller = s.cx().share("caller", Gate::new("caller"));
        s.spawn_with("T1", caller.clone(), async move |_cx, caller| dial(env, daemon, caller).await);
        s.spawn_with("T3", caller, async move |_cx, caller| {
            env.pause().await;
            caller.close();
            Ok(())
        });
        Ok(())
    })
    .await
}

/// T1, with the task that it leaves behind. The caller's context is not what it looks at.
async fn dial(env: Env, daemon: bool, _caller: Shared<'_, Gate>) -> End {
    scope("dial", async |s| {
        let connection = s.cx().share("connection", Gate::new("ac"));
        if daemon {
            s.spawn_daemon_with("T2", connection.clone(), async move |_cx, connection| {
                retry(env, &connection).await?;
                Err(bowline::cancelled().await)
            });
        } else {
            s.spawn_with("T2", connection.clone(), async move |_cx, connection| {
                retry(env, &connection).await
            });
        }
        env.pause().await;
        if env.is_fixed() {
            connection.close();
        }
        Ok(())
    })
    .await
}

async fn retry(env: Env, connection: &Gate) -> End {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Either::Right(()) = select(bowline::sleep(pause), connection.wait()).await? {
            return Ok(());
        }
        pause = (pause * 2).min(env.slow);
    }
}

async fn literal(env: Env) -> End {
    bare::go(async move {
        let ac = bare::Gate::default();
        let mut pause = Duration::from_millis(1);
        while let Either::Left(()) = bare::select(tokio::time::sleep(pause), ac.wait()).await {
            pause = (pause * 2).min(env.slow);
        }
    });
    Ok(())
}
