//! kubernetes#10182: two setters send under the lock that the receiver takes after each message.
//!
//! T1 has taken the message of one setter; before it can lock `statuses` the other has, and waits to send. The report must
//! name the setter that really holds the lock. Repaired, setters send after they have unlocked.

use bowline::{RwLock, scope};

use crate::go::give;
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kubernetes#10182",
    class: Class::L,
    sites: 3,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Lock, BODY, DEAD),
        Form::dead(Kind::Shared, BODY, DEAD),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: &[Dead] = &[
    Dead::new(&["T1", "T2"], &["statuses", "updates"]).bound(),
    Dead::new(&["T1", "T3"], &["statuses", "updates"]).bound(),
];
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let statuses = s.cx().share("statuses", RwLock::new("statuses", 0));
        let (tx, updates) = s.rendezvous::<()>("updates");
        let both = env.also(|| (tx.clone(), updates.clone()));
        s.spawn_with(
            "T1",
            (statuses.clone(), updates, both.clone()),
            async move |_cx, (statuses, updates, _both)| {
                for _ in 0..2 {
                    updates.recv().await?;
                    env.pause().await;
                    *statuses.write().await? += 1;
                }
                Ok(())
            },
        );
        let ends = (statuses.clone(), tx.clone(), both.clone());
        s.spawn_with("T2", ends, async move |_cx, (statuses, updates, _both)| {
            set(env, &statuses, &updates).await
        });
        let ends = (statuses, tx, both);
        s.spawn_with("T3", ends, async move |_cx, (statuses, updates, _both)| {
            set(env, &statuses, &updates).await
        });
        Ok(())
    })
    .await
}

async fn set(env: Env, statuses: &RwLock<u32>, updates: &bowline::RendezvousTx<'_, ()>) -> End {
    let held = statuses.write().await?;
    env.pause().await;
    let held = (!env.is_fixed()).then_some(held);
    give(updates, ()).await?;
    drop(held);
    Ok(())
}

async fn literal() -> End {
    use std::sync::Arc;
    use tokio::sync::RwLock;
    let (statuses, updates) = (Arc::new(RwLock::new(0)), bare::Rdv::default());
    for _ in 0..2 {
        let (statuses, updates) = (statuses.clone(), updates.clone());
        bare::go(async move {
            let _held = statuses.write().await;
            updates.send(()).await;
        });
    }
    bare::go(async move {
        for _ in 0..2 {
            updates.recv().await;
            *statuses.write().await += 1;
        }
    });
    Ok(())
}
