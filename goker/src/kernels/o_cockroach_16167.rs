//! cockroach#16167: a read lock, a writer behind it, and another read lock behind the writer.
//!
//! T0 reads `cfg` by an alias, the locker of a condition, and some calls later by its own name. T1 queues its write
//! in between: T0's second read waits behind T1, which waits for T0's first. Repaired, there is no second read.

use bowline::{RwLock, Shared, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "cockroach#16167",
    class: Class::O,
    sites: 2,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Lock, BODY, &[Dead::new(&["T0", "T1"], &["cfg"])]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

/// A condition, and the lock to be held when it is looked at.
struct Condition<'t> {
    locker: Shared<'t, RwLock<u32>>,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let cfg = s.cx().share("system config", RwLock::new("cfg", 0));
        let condition = Condition { locker: cfg.clone() };
        s.spawn_with("T1", cfg.clone(), async move |_cx, cfg| {
            env.pause().await;
            *cfg.write().await? += 1;
            Ok(())
        });
        let looking = condition.locker.read().await?;
        env.pause().await;
        if !env.is_fixed() {
            drop(cfg.read().await?);
        }
        drop(looking);
        Ok(())
    })
    .await
}

async fn literal() -> End {
    let cfg = std::sync::Arc::new(tokio::sync::RwLock::new(0));
    let theirs = std::sync::Arc::clone(&cfg);
    bare::go(async move { *theirs.write().await += 1 });
    let looking = cfg.read().await;
    bare::turn().await;
    drop(cfg.read().await);
    drop(looking);
    Ok(())
}
