//! etcd#5509: a read lock that is left behind on the way out.
//!
//! T1 loops: read-locks `client`, looks whether its handle is gone, locks and unlocks `r`; if it is gone, returns without
//! unlocking. T0 closes: write-locks `client`, takes the handle, unlocks; write-locks again, for no good reason; waits for T1.
//! In the gap T1 sees the handle gone: T0 waits for a reader that has ended. Repaired, the error path unlocks.

use bowline::{Mutex, RwLock, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "etcd#5509",
    class: Class::R,
    sites: 1,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::dead(Kind::Shared, BODY, &[Dead::new(&["T0"], &["client"])]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Client {
    /// The handle, as long as there is one.
    handle: RwLock<Option<u32>>,
    r: Mutex<u32>,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let client = Client { handle: RwLock::new("client", Some(1)), r: Mutex::new("r", 0) };
        let client = s.cx().share("client", client);
        let t1 = s.spawn_with("T1", client.clone(), async move |_cx, client| {
            loop {
                let held = client.handle.read().await?;
                let gone = held.is_none();
                client.r.with(|r| *r += 1).await?;
                env.pause().await;
                if gone && env.is_shared() {
                    std::mem::forget(held); // nobody unlocks
                    return Ok(());
                }
                drop(held);
                if gone {
                    return Ok(());
                }
                env.tick().await?;
            }
        });
        client.handle.with_write(Option::take).await?;
        env.pause().await;
        drop(client.handle.write().await?);
        t1.await
    })
    .await
}

async fn literal() -> End {
    let client = std::sync::Arc::new(tokio::sync::RwLock::new(Some(1)));
    let reader = bare::go({
        let client = client.clone();
        async move {
            loop {
                let held = client.read().await;
                if held.is_none() {
                    return std::mem::forget(held);
                }
                drop(held);
                tokio::task::yield_now().await;
            }
        }
    });
    client.write().await.take();
    bare::turn().await;
    drop(client.write().await);
    let _ = reader.await;
    Ok(())
}
