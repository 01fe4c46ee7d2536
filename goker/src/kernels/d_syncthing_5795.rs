//! syncthing#5795: a close that is called from the loop it waits for.
//!
//! T2 runs callbacks, one of which closes the connection and waits until T2 has `stopped`. T0 waits for the same. Repaired,
//! the close runs in a task of its own.

use std::sync::{Arc, Mutex};

use bowline::{Either, Handle, scope};

use crate::go::{Gate, give, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "syncthing#5795",
    class: Class::D,
    sites: 2,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::always_dead(Kind::Moved, BODY, &[DEAD]),
        Form::always_dead(Kind::Moved, JOINS, &[DEAD]).variant("by its handle"),
        Form::always_dead(Kind::Shared, BODY, &[DEAD]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: Dead = Dead::new(&["T0", "T2"], &["stopped"]);
const BODY: Run = |env| Box::pin(body(env, false));
const JOINS: Run = |env| Box::pin(body(env, true));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env, joins: bool) -> End {
    scope("kernel", async |s| {
        let closed = s.cx().share("closed", Gate::new("closed"));
        let (tx, inbox) = s.rendezvous::<()>("inbox");
        let (running, stopped) = s.cx().latch("stopped");
        let stopped = Arc::new(stopped);
        s.spawn_with("T1", closed.clone(), async move |_cx, closed| {
            while !closed.is_closed() {
                env.tick().await?;
            }
            Ok(())
        });
        // Where the callback waits for T2 by its handle.
        let handle: Arc<Mutex<Option<Handle<()>>>> = Arc::default();
        let others = s.handle();
        let ends = (inbox, closed, running, env.also(|| tx.clone()));
        let dispatcher = {
            let (stopped, handle) = (Arc::clone(&stopped), Arc::clone(&handle));
            s.spawn_with("T2", ends, async move |_cx, (inbox, closed, running, _tx)| {
                let mut once = Some(());
                while let Either::Left(Some(())) = select(inbox.recv(), closed.wait()).await? {
                    env.pause().await;
                    if once.take().is_none() {
                        continue;
                    }
                    closed.close();
                    let own = handle.lock().ok().and_then(|mut handle| handle.take());
                    if env.is_fixed() {
                        let stopped = Arc::clone(&stopped);
                        let _ = others.spawn("close", async move { stopped.wait().await });
                    } else if let Some(own) = own {
                        own.await?;
                    } else {
                        stopped.wait().await?;
                    }
                }
                drop(running);
                Ok(())
            })
        };
        if joins {
            *handle.lock().expect("nobody panics with it") = Some(dispatcher);
        }
        give(&tx, ()).await?;
        stopped.wait().await
    })
    .await
}

async fn literal() -> End {
    let (inbox, closed, stopped) = (bare::Rdv::default(), bare::Gate::default(), bare::Gate::default());
    bare::go({
        let (inbox, closed, stopped) = (inbox.clone(), closed.clone(), stopped.clone());
        async move {
            while let Either::Left(()) = bare::select(inbox.recv(), closed.wait()).await {
                closed.close();
                stopped.wait().await;
            }
            stopped.close();
        }
    });
    inbox.send(()).await;
    stopped.wait().await;
    Ok(())
}
