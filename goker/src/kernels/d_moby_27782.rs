//! moby#27782: waiting for an event that only the blocked reader could let through.
//!
//! T2 reads the events that T3 sends, until it is told by `close_notice` to end; then it waits on the condition `c`
//! until its watch is removed. Only a removal event would do that, T3 would have to send it, and T3 waits for T2 to take an
//! event or to be `done`. If T1 looks at its list of readers before T2 is in it, all ends well. Repaired, T2 does not wait
//! for the removal.

use std::sync::atomic::{AtomicBool, Ordering};

use bowline::{Either, Mutex, Notify, scope};

use crate::go::{Gate, give, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "moby#27782",
    class: Class::D,
    sites: 2,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Moved, BODY, &[DEAD]),
        Form::dead(Kind::Shared, BODY, &[DEAD]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const DEAD: Dead = Dead::new(&["T2", "T3"], &["c", "done", "events"]).shared();
const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Hub {
    registered: AtomicBool,
    close_notice: Gate,
    done: Gate,
    /// Whether the watch was removed.
    m: Mutex<bool>,
    c: Notify,
}

enum Event {
    Write,
    /// What T3 would have to see to notify. None is ever made.
    #[expect(dead_code, reason = "the notifier exists on paper")]
    Remove,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (notifier, c) = s.cx().notify("c");
        let hub = Hub {
            registered: AtomicBool::new(false),
            close_notice: Gate::new("close_notice"),
            done: Gate::new("done"),
            m: Mutex::new("m", false),
            c,
        };
        let hub = s.cx().share("hub", hub);
        s.spawn_with("T1", (hub, notifier), async move |_cx, (hub, notifier)| {
            scope("driver", async |t| {
                t.spawn_with("T2", (hub.clone(), notifier), async move |_cx, (hub, notifier)| {
                    hub.registered.store(true, Ordering::Relaxed);
                    scope("watcher", async |w| {
                        let (tx, events) = w.rendezvous("events");
                        let both = env.also(|| (tx.clone(), events.clone(), notifier.clone()));
                        let ends = (hub.clone(), tx, notifier, both.clone());
                        w.spawn_with("T3", ends, async move |_cx, (hub, events, notifier, _both)| {
                            while !hub.done.is_closed() {
                                let event = Event::Write;
                                if let Event::Remove = event {
                                    *hub.m.lock().await? = true;
                                    notifier.notify_all();
                                }
                                if let Either::Right(()) =
                                    select(give(&events, event), hub.done.wait()).await?
                                {
                                    break;
                                }
                                env.pause().await;
                            }
                            Ok(())
                        });
                        env.pause().await;
                        if let Either::Right(()) = select(events.recv(), hub.close_notice.wait()).await? {
                            let mut removed = hub.m.lock().await?;
                            while !(*removed || env.is_fixed()) {
                                let notified = hub.c.notified();
                                drop(removed);
                                notified.await?;
                                removed = hub.m.lock().await?;
                            }
                        }
                        hub.done.close();
                        drop(both);
                        Ok(())
                    })
                    .await
                });
                for _ in 0..fastrand::u32(0..6) {
                    env.tick().await?;
                }
                if hub.registered.load(Ordering::Relaxed) {
                    hub.close_notice.close();
                }
                Ok(())
            })
            .await
        });
        Ok(())
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    let (events, done, close_notice) = (bare::Rdv::default(), bare::Gate::default(), bare::Gate::default());
    let c = Arc::new(tokio::sync::Notify::new());
    bare::go({
        let (events, done, close_notice) = (events.clone(), done.clone(), close_notice.clone());
        async move {
            if let Either::Right(()) = bare::select(events.recv(), close_notice.wait()).await {
                c.notified().await;
            }
            done.close();
        }
    });
    bare::go(async move { while let Either::Left(()) = bare::select(events.send(()), done.wait()).await {} });
    bare::turn().await;
    close_notice.close();
    Ok(())
}
