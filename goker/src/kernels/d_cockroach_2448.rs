//! cockroach#2448: two tasks that send to each other.
//!
//! T1 receives events and answers each with a callback; T2 runs callbacks and sends events when there is none. T1 has taken an
//! event and waits to send the callback, which only T2 receives; T2 found no callback a moment before and waits to send
//! the next event, which only T1 receives. Both would also end when `stop` is closed, and nobody is left who will. Repaired,
//! T2 offers its event in the same select in which it receives callbacks.
//!
//! Where letting go of the trigger opens the gate, both end. A run that has not shown the bug after some turns is ended.

use std::pin::Pin;

use bowline::{Either, Latch, TryRecvError, scope};

use crate::go::{Gate, give, select};
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "cockroach#2448",
    class: Class::D,
    sites: 2,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::dead(
            Kind::Shared,
            BODY,
            &[Dead::new(&["T1", "T2"], &["callbacks", "events", "stop"]).shared()],
        ),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

/// Turns until a run is ended that does not show the bug.
const TURNS: usize = 50;

/// What ends both tasks: a gate that somebody closes, or one that opens when its trigger is gone.
struct Stop {
    gate: Gate,
    by_drop: Option<Latch>,
}

impl Stop {
    fn wait(&self) -> Pin<Box<dyn Future<Output = End> + Send + '_>> {
        match &self.by_drop {
            Some(latch) => Box::pin(latch.wait()),
            None => Box::pin(self.gate.wait()),
        }
    }

    fn is_over(&self) -> bool {
        self.gate.is_closed() || self.by_drop.as_ref().is_some_and(Latch::is_open)
    }
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let (trigger, latch) = s.cx().latch("trigger");
        let by_drop = (env.kind == Kind::Moved).then_some(latch);
        let stop = s.cx().share("stop", Stop { gate: Gate::new("stop"), by_drop });
        let (events_tx, events) = s.rendezvous::<()>("events");
        let (callbacks_tx, callbacks) = s.rendezvous::<()>("callbacks");
        let both = env.also(|| (events_tx.clone(), events.clone(), callbacks_tx.clone(), callbacks.clone()));
        let consumer = (events, callbacks_tx, stop.clone(), both.clone());
        s.spawn_with("T1", consumer, async move |_cx, (events, callbacks, stop, _both)| {
            while let Either::Left(Some(())) = select(events.recv(), stop.wait()).await? {
                env.pause().await;
                if let Either::Left(false) | Either::Right(()) =
                    select(give(&callbacks, ()), stop.wait()).await?
                {
                    return Ok(());
                }
            }
            Ok(())
        });
        s.spawn_with(
            "T2",
            (events_tx, callbacks, stop, both),
            async move |_cx, (events, callbacks, stop, _both)| {
                if env.is_fixed() {
                    for _ in 0..TURNS / 10 {
                        while let Either::Left(Some(())) = select(callbacks.recv(), give(&events, ())).await?
                        {
                        }
                    }
                    drop(events);
                    while callbacks.recv().await?.is_some() {}
                    return Ok(());
                }
                for _ in 0..TURNS {
                    match callbacks.try_recv() {
                        _ if stop.is_over() => return Ok(()),
                        Ok(()) => {}
                        Err(TryRecvError::Closed) => return Ok(()),
                        Err(TryRecvError::Empty) => {
                            select(give(&events, ()), stop.wait()).await?;
                        }
                    }
                    env.pause().await;
                }
                stop.gate.close(); // it did not show
                Ok(())
            },
        );
        drop(trigger);
        Ok(())
    })
    .await
}

async fn literal() -> End {
    let (events, callbacks, stop) = (bare::Rdv::default(), bare::Rdv::default(), bare::Gate::default());
    {
        let (events, callbacks, stop) = (events.clone(), callbacks.clone(), stop.clone());
        bare::go(async move {
            while let Either::Left(()) = bare::select(events.recv(), stop.wait()).await {
                if let Either::Right(()) = bare::select(callbacks.send(()), stop.wait()).await {
                    return;
                }
            }
        });
    }
    bare::go(async move {
        for _ in 0..TURNS {
            if callbacks.try_recv().await.is_none() {
                bare::select(events.send(()), stop.wait()).await;
            }
        }
        stop.close();
    });
    Ok(())
}
