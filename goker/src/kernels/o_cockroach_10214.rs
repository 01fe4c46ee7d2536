//! cockroach#10214: two locks in two orders, with a third in between.
//!
//! T1 holds `coalesced` and takes the replicas' `raft` locks one by one; T2 holds one of those, and an `inner` one, and
//! takes `coalesced`. Repaired, T1 copies what it needs under `coalesced` and lets go of it.

use bowline::{Mutex, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "cockroach#10214",
    class: Class::O,
    sites: 2,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Lock, BODY, &[Dead::new(&["T1", "T2"], &["coalesced", "raft of 0"])]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Store {
    /// Responses to heartbeats.
    coalesced: Mutex<Vec<u32>>,
    raft: [Mutex<u32>; 2],
    inner: [Mutex<u32>; 2],
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let store = Store {
            coalesced: Mutex::new("coalesced", vec![1, 2]),
            raft: [Mutex::new("raft of 0", 0), Mutex::new("raft of 1", 0)],
            inner: [Mutex::new("inner of 0", 0), Mutex::new("inner of 1", 0)],
        };
        let store = s.cx().share("store", store);
        s.spawn_with("T1", store.clone(), async move |_cx, store| {
            let coalesced = store.coalesced.lock().await?;
            let responses = coalesced.clone();
            let held = (!env.is_fixed()).then_some(coalesced);
            env.pause().await;
            for response in responses {
                for raft in &store.raft {
                    *raft.lock().await? += response;
                }
            }
            drop(held);
            Ok(())
        });
        s.spawn_with("T2", store, async move |_cx, store| {
            let raft = store.raft[0].lock().await?;
            let inner = store.inner[0].lock().await?;
            env.pause().await;
            for _ in 0..2 {
                store.coalesced.lock().await?.push(*raft + *inner);
            }
            Ok(())
        });
        Ok(())
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    use tokio::sync::Mutex;
    let (coalesced, raft) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let theirs = (Arc::clone(&coalesced), Arc::clone(&raft));
    bare::go(async move {
        let _held = coalesced.lock().await;
        bare::turn().await;
        *raft.lock().await += 1;
    });
    bare::go(async move {
        let _held = theirs.1.lock().await;
        bare::turn().await;
        *theirs.0.lock().await += 1;
    });
    Ok(())
}
