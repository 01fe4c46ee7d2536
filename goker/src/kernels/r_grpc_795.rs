//! grpc#795: `lock` written where `unlock` was meant, and an unlock that is missing.
//!
//! T0, three times: locks `srv`; if `drain` is set, locks `srv` again, which was meant to unlock it, and returns; else sets
//! `drain` and returns without unlocking. The second call waits for what the first has left. T1 locks and unlocks `srv`,
//! whenever it comes. With guards the missing unlock is none, and so the second call comes to its slip and waits for itself:
//! that is the form with guards. Repaired, the branch unlocks.

use bowline::{Mutex, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "grpc#795",
    class: Class::R,
    sites: 2,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::always_dead(Kind::Shared, BODY, DEAD),
        Form::always_dead(Kind::Lock, BODY, DEAD).variant("slip"),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: &[Dead] = &[Dead::new(&["T0"], &["srv"]), Dead::new(&["T0", "T1"], &["srv"])];

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let srv = s.cx().share("server", Mutex::new("srv", false));
        s.spawn_with("T1", srv.clone(), async |_cx, srv| srv.with(|_| ()).await);
        for _ in 0..3 {
            stop(env, &srv).await?;
        }
        Ok(())
    })
    .await
}

async fn stop(env: Env, srv: &Mutex<bool>) -> End {
    let mut drain = srv.lock().await?;
    env.pause().await;
    if *drain {
        if env.kind == Kind::Lock {
            drop(srv.lock().await?);
        }
        return Ok(());
    }
    *drain = true;
    if env.is_shared() {
        std::mem::forget(drain); // nobody unlocks
    }
    Ok(())
}

async fn literal() -> End {
    let srv = std::sync::Arc::new(tokio::sync::Mutex::new(false));
    bare::go({
        let srv = srv.clone();
        async move { drop(srv.lock().await) }
    });
    for _ in 0..3 {
        let mut drain = srv.lock().await;
        if *drain {
            std::mem::forget(srv.lock().await);
        } else {
            *drain = true;
        }
        std::mem::forget(drain);
    }
    Ok(())
}
