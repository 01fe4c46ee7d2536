//! moby#30408: a condition nobody notifies.
//!
//! T1 waits on `c` until a plugin's manifest is there. The plugin failed before: no code will ever set one or notify. T0 waits
//! for T1. Both hold the record with the condition in it, and one of them the right to notify: that somebody still
//! holds it does not mean that somebody will. Repaired, T1 looks at the error too.

use bowline::{Mutex, Notify, scope};

use crate::go::Gate;
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "moby#30408",
    class: Class::D,
    sites: 2,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::always_dead(Kind::Moved, BODY, &[DEAD]),
        Form::always_dead(Kind::Shared, BODY, &[DEAD]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: Dead = Dead::new(&["T0", "T1"], &["c", "done"]).shared();
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Plugin {
    manifest: Option<&'static str>,
    error: Option<&'static str>,
}

struct Record {
    m: Mutex<Plugin>,
    c: Notify,
    done: Gate,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (notifier, c) = s.cx().notify("c");
        let plugin = Plugin { manifest: None, error: Some("it did not start") };
        let record = Record { m: Mutex::new("m", plugin), c, done: Gate::new("done") };
        let record = s.cx().share("record", record);
        let also = env.also(|| notifier.clone());
        s.spawn_with("T1", (record.clone(), also), async move |_cx, (record, _also)| {
            let mut plugin = record.m.lock().await?;
            while plugin.manifest.is_none() && !(env.is_fixed() && plugin.error.is_some()) {
                let notified = record.c.notified();
                drop(plugin);
                notified.await?;
                plugin = record.m.lock().await?;
            }
            env.pause().await;
            record.done.close();
            Ok(())
        });
        let done = record.done.wait().await;
        drop(notifier); // to the end it could have notified
        done
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    let (c, done) = (Arc::new(tokio::sync::Notify::new()), bare::Gate::default());
    let ours = Arc::clone(&c);
    let dones = done.clone();
    bare::go(async move {
        c.notified().await;
        dones.close();
    });
    done.wait().await;
    drop(ours);
    Ok(())
}
