//! kubernetes#26980: three tasks in a ring: a lock, a message, and the end of a function.
//!
//! T1 pops an item and then waits for `stop`, the queue's lock `q` still in its hands. T2 would lock `q`, and hand the
//! locked lock to T0 through `result`; T0 waits for that, and closes `stop` at its end. If T2 is first, all end. Repaired, T1
//! unlocks before it waits.

use bowline::{FreePermit, Latch, Semaphore, scope};

use crate::go::Gate;
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kubernetes#26980",
    class: Class::L,
    sites: 3,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Lock, BODY, &[DEAD]),
        Form::dead(Kind::Shared, BODY, &[DEAD]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: Dead = Dead::new(&["T0", "T1", "T2"], &["q", "result", "stop"]).shared();
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Hub {
    /// A lock without a value: its guard goes from task to task.
    q: Semaphore,
    /// Closed at the end of T0; by its hand, or by what it drops.
    stop: Result<Latch, Gate>,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (running, latch) = s.cx().latch("stop");
        let stop = if env.is_shared() { Err(Gate::new("stop")) } else { Ok(latch) };
        let hub = s.cx().share("hub", Hub { q: Semaphore::new("q", 1), stop });
        let (reply, mut result) = s.oneshot::<FreePermit>("result");
        s.spawn_with("T1", hub.clone(), async move |_cx, hub| {
            let popped = hub.q.acquire(1).await?;
            env.pause().await;
            let held = (!env.is_fixed()).then_some(popped);
            match &hub.stop {
                Ok(latch) => latch.wait().await?,
                Err(gate) => gate.wait().await?,
            }
            drop(held);
            Ok(())
        });
        s.spawn_with("T2", (hub.clone(), reply), async move |cx, (hub, reply)| {
            let locked = hub.q.acquire_owned(cx, 1).await?;
            let _ = reply.send(locked.free());
            Ok(())
        });
        drop(result.recv().await?);
        if let Err(gate) = &hub.stop {
            gate.close();
        }
        drop(running);
        Ok(())
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    let (q, stop) = (Arc::new(tokio::sync::Mutex::new(())), bare::Gate::default());
    let (reply, result) = tokio::sync::oneshot::channel();
    let (theirs, stopped) = (Arc::clone(&q), stop.clone());
    bare::go(async move {
        let _held = theirs.lock().await;
        stopped.wait().await;
    });
    bare::go(async move { drop(reply.send(q.lock_owned().await)) });
    drop(result.await);
    stop.close();
    Ok(())
}
