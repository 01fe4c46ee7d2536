//! etcd#10492: a callback locks what its caller holds.
//!
//! A callback is stored under the lock `lessor`, and called under it by a renewal; it locks `lessor`, which it reaches by a
//! reference that it captured. Repaired, the renewal lets go of the lock before it calls out.

use std::pin::Pin;
use std::sync::{Arc, Weak};

use bowline::{RwLock, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "etcd#10492",
    class: Class::O,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::always_dead(Kind::Lock, BODY, &[DEAD]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: Dead = Dead::new(&["T0"], &["lessor"]);
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

type Callback = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = End> + Send>> + Send + Sync>;

#[derive(Default)]
struct Lessor {
    leases: u32,
    checkpointer: Option<Callback>,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let lessor = Arc::new(RwLock::new("lessor", Lessor::default()));
        let captured = Arc::downgrade(&lessor);
        let checkpointer: Callback = Arc::new(move || Box::pin(checkpoint(captured.clone())));
        lessor.write_in(s.cx()).await?.checkpointer = Some(checkpointer);
        lessor.write_in(s.cx()).await?.leases += 1;
        let renewing = lessor.write_in(s.cx()).await?;
        env.pause().await;
        let checkpointer = renewing.checkpointer.clone();
        let held = (!env.is_fixed()).then_some(renewing);
        if let Some(checkpoint) = checkpointer {
            checkpoint().await?;
        }
        drop(held);
        Ok(())
    })
    .await
}

async fn checkpoint(lessor: Weak<RwLock<Lessor>>) -> End {
    if let Some(lessor) = lessor.upgrade() {
        lessor.write().await?.leases += 1;
    }
    Ok(())
}

async fn literal() -> End {
    let lessor = Arc::new(tokio::sync::RwLock::new(0));
    let captured = Arc::clone(&lessor);
    let checkpoint = move || async move { *captured.write().await += 1 };
    let mut leases = lessor.write().await;
    bare::turn().await;
    checkpoint().await;
    *leases += 1;
    Ok(())
}
