//! cockroach#1462: a consumer that stops before its producer.
//!
//! T1 looks at `stopper` and then sends on `events` with no other way out; T2 receives until `stopper` is closed. T0 stops both:
//! waits until no task is counted, and none ever is; closes `stopper`; waits for both. When T1 is past its look, T2 takes
//! the other arm and ends; T1 waits to send, and T0 for T1. Repaired, each send is counted as a task, so that draining waits
//! for it while T2 still receives.

use bowline::{Either, Mutex, Notifier, Notify, RendezvousRx, RendezvousTx, Shared, scope};

use crate::go::{Gate, give, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "cockroach#1462",
    class: Class::R,
    sites: 2,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::dead(Kind::Shared, BODY, &[Dead::new(&["T0", "T1"], &["events"]).bound()]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Stopper {
    closed: Gate,
    tasks: Mutex<Tasks>,
    changed: Notify,
}

#[derive(Default)]
struct Tasks {
    running: u32,
    draining: bool,
}

impl Stopper {
    /// Whether the task may run; it is counted from here on.
    async fn start_task(&self) -> Result<bool, bowline::Cancelled> {
        let start = |tasks: &mut Tasks| {
            tasks.running += u32::from(!tasks.draining);
            !tasks.draining
        };
        self.tasks.with(start).await
    }

    async fn finish_task(&self, changed: &Notifier<'_>) -> End {
        self.tasks.with(|tasks| tasks.running -= 1).await?;
        changed.notify_all();
        Ok(())
    }

    async fn stop(&self) -> End {
        self.tasks.with(|tasks| tasks.draining = true).await?;
        loop {
            let changed = self.changed.notified();
            if self.tasks.with(|tasks| tasks.running == 0).await? {
                break;
            }
            changed.await?;
        }
        self.closed.close();
        Ok(())
    }
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.rendezvous("events");
        let (notifier, changed) = s.cx().notify("drained");
        let tasks = Mutex::new("tasks", Tasks::default());
        let stopper = s.cx().share("stopper", Stopper { closed: Gate::new("closed"), tasks, changed });
        let also = (env.both(|| tx.clone()), env.both(|| rx.clone()));
        let t1 = s.spawn_with("T1", (tx, also.1, stopper.clone(), notifier), async move |_cx, ends| {
            let (tx, _rx, stopper, notifier) = ends;
            produce(env, tx, &stopper, notifier).await
        });
        let t2 = s.spawn_with("T2", (rx, also.0, stopper.clone()), async move |_cx, (rx, _tx, stopper)| {
            consume(env, rx, &stopper).await
        });
        env.tick().await?;
        stopper.stop().await?;
        t1.await?;
        t2.await
    })
    .await
}

async fn produce(
    env: Env,
    events: RendezvousTx<'_, u32>,
    stopper: &Shared<'_, Stopper>,
    notifier: Notifier<'_>,
) -> End {
    for event in 0.. {
        if stopper.closed.is_closed() || env.is_fixed() && !stopper.start_task().await? {
            break;
        }
        env.pause().await;
        let taken = give(&events, event).await?;
        if env.is_fixed() {
            stopper.finish_task(&notifier).await?;
        }
        if !taken {
            break; // who received has gone, and the channel with it
        }
    }
    Ok(())
}

async fn consume(env: Env, events: RendezvousRx<'_, u32>, stopper: &Shared<'_, Stopper>) -> End {
    loop {
        match select(events.recv(), stopper.closed.wait()).await? {
            Either::Left(Some(_)) => env.pause().await,
            Either::Left(None) | Either::Right(()) => return Ok(()),
        }
    }
}

async fn literal() -> End {
    let (events, stopper) = (bare::Rdv::default(), bare::Gate::default());
    let producer = bare::go({
        let (events, stopper) = (events.clone(), stopper.clone());
        async move {
            while !stopper.is_closed() {
                events.send(0).await;
            }
        }
    });
    let consumer = bare::go({
        let stopper = stopper.clone();
        async move { while let Either::Left(_) = bare::select(events.recv(), stopper.wait()).await {} }
    });
    bare::turn().await;
    stopper.close();
    let _ = (producer.await, consumer.await);
    Ok(())
}
