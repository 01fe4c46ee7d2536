//! Ten bugs of another kind, in which nobody waits for ever: races and misuse. Any report is an error.
//!
//! Their defects do not compile in Rust, or are an error that somebody is told of; the patterns of waiting are kept: nested
//! handshakes that look like a task waiting for itself, a lock held across a send that cannot wait, long waits for a live
//! stop, a waiter that only a timer wakes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline::{Bound, Cancelled, Mutex, Notify, Overflow, TryRecvError, scope};

use crate::go::{Gate, give, put, select};
use crate::{Class, End, Env, Form, Kernel, Kind, Run};

macro_rules! controls {
    ($($(#[$doc:meta])* $kernel:ident = $name:literal, $body:ident;)*) => {$(
        $(#[$doc])*
        pub(super) static $kernel: Kernel = {
            const BODY: Run = |env| Box::pin($body(env));
            Kernel {
                name: $name,
                class: Class::Control,
                sites: 0,
                forms: &[Form::ends(Kind::Shared, BODY), Form::ends(Kind::Slow, BODY)],
            }
        };
    )*};
}

controls! {
    /// A captured loop variable: ten tasks of one site, which all end.
    COCKROACH_35501 = "cockroach#35501", loop_variable;
    /// Two stop handshakes, one inside the other.
    ETCD_3077 = "etcd#3077", nested_stops;
    /// A send after the end: an error and no wait.
    GRPC_1687 = "grpc#1687", send_after_close;
    /// A lock is held across a send that can never wait: its slot was emptied under that lock.
    GRPC_2371 = "grpc#2371", lock_across_send;
    /// A stop handle that its owner forgets after firing it.
    ISTIO_8967 = "istio#8967", cleared_handle;
    /// A waiter that only a loop on a timer wakes.
    KUBERNETES_13058 = "kubernetes#13058", counter;
    /// Workers that share out a queue which is full and closed from the start.
    KUBERNETES_70892 = "kubernetes#70892", pieces;
    /// A task that waits long for a live stop.
    KUBERNETES_81148 = "kubernetes#81148", long_wait;
    /// Submissions that go on after the queue was closed.
    SERVING_3068 = "serving#3068", late_submissions;
    /// A task that nobody waits for but its scope.
    SERVING_4908 = "serving#4908", outlives_its_test;
}

async fn loop_variable(env: Env) -> End {
    scope("kernel", async |s| {
        let checks = s.spawn("T1", async move {
            scope("checks", async |s| {
                let item = s.cx().share("item", AtomicU32::new(0));
                for number in 0..10 {
                    item.store(number, Ordering::Relaxed);
                    s.spawn_with("check", item.clone(), async move |_cx, item| {
                        env.pause().await;
                        assert!(item.load(Ordering::Relaxed) < 10);
                        Ok(())
                    });
                }
                Ok(())
            })
            .await
        });
        checks.await
    })
    .await
}

/// The ends of the loops.
struct Ends {
    inner: Gate,
    outer: Gate,
}

/// T0 sends `stop` to T1, which at its end sends `stopped` to T2 and waits for T2's end before it announces its own.
async fn nested_stops(env: Env) -> End {
    scope("kernel", async |s| {
        let (stop, stops) = s.rendezvous("stop");
        let ends = s.cx().share("ends", Ends { inner: Gate::new("inner"), outer: Gate::new("outer") });
        let everything = (stops, stop.clone(), ends.clone());
        s.spawn_with("T1", everything, async move |_cx, (stops, _stop, ends)| {
            scope("inner", async move |s| {
                let (stopped, told) = s.rendezvous("stopped");
                s.spawn_with(
                    "T2",
                    (told, stopped.clone(), ends.clone()),
                    async move |_cx, (told, _stopped, ends)| {
                        told.recv().await?;
                        env.pause().await;
                        ends.inner.close();
                        Ok(())
                    },
                );
                stops.recv().await?;
                env.pause().await;
                give(&stopped, ()).await?;
                ends.inner.wait().await?;
                ends.outer.close();
                Ok(())
            })
            .await
        });
        env.pause().await;
        select(give(&stop, ()), ends.outer.wait()).await?;
        ends.outer.wait().await
    })
    .await
}

async fn send_after_close(env: Env) -> End {
    scope("kernel", async |s| {
        let (writes, written) = s.rendezvous::<fn()>("writes");
        let closed = s.cx().share("stream", Gate::new("closed"));
        s.spawn_with("T1", (written, closed.clone()), async move |_cx, (written, closed)| {
            while let bowline::Either::Left(Some(write)) = select(written.recv(), closed.wait()).await? {
                env.pause().await;
                write();
            }
            Ok(())
        });
        s.spawn_with("T2", (writes, closed), async move |_cx, (writes, closed)| {
            give(&writes, || {}).await?;
            closed.close();
            env.pause().await;
            give(&writes, || {}).await?;
            Ok(())
        });
        Ok(())
    })
    .await
}

async fn lock_across_send(env: Env) -> End {
    scope("kernel", async |s| {
        let (update, updates) = s.queue("updates", Bound::items(1), Overflow::Block);
        let wrappers = s.cx().share("balancer", Mutex::new("wrappers", Some(0)));
        for _ in 0..10 {
            let ends = (update.clone(), updates.clone(), wrappers.clone());
            s.spawn_with("T1", ends, async move |_cx, (update, updates, wrappers)| {
                let wrapper = wrappers.lock().await?;
                let Some(state) = *wrapper else { return Ok(()) };
                match updates.try_recv() {
                    Ok(_) | Err(TryRecvError::Empty) => {}
                    Err(closed) => unreachable!("it has a sender itself: {closed}"),
                }
                env.tick().await?;
                put(&update, state).await?;
                drop(wrapper);
                Ok(())
            });
            s.spawn_with("T2", wrappers.clone(), async move |_cx, wrappers| {
                env.tick().await?;
                wrappers.with(|wrapper| *wrapper = None).await
            });
        }
        Ok(())
    })
    .await
}

async fn cleared_handle(env: Env) -> End {
    scope("kernel", async |s| {
        let mut field = Some(s.cx().share("source", Gate::new("done")));
        let source = field.clone();
        s.spawn_with("T1", source, async move |_cx, source| match source {
            Some(source) => source.wait().await,
            None => Ok(()),
        });
        env.pause().await;
        if let Some(source) = field.take() {
            source.close();
        }
        env.pause().await;
        Ok(())
    })
    .await
}

struct Counter {
    left: Mutex<u32>,
    changed: Notify,
    stop: Gate,
}

async fn counter(env: Env) -> End {
    const TURN: Duration = Duration::from_millis(10);
    scope("kernel", async |s| {
        let (notifier, changed) = s.cx().notify("changed");
        let counter = Counter { left: Mutex::new("left", 3), changed, stop: Gate::new("stop") };
        let counter = s.cx().share("counter", counter);
        s.spawn_with("T1", (counter.clone(), notifier), async move |_cx, (counter, notifier)| {
            while let bowline::Either::Left(()) = select(bowline::sleep(TURN), counter.stop.wait()).await? {
                env.pause().await;
                counter.left.with(|left| *left = left.saturating_sub(1)).await?;
                notifier.notify_all();
            }
            Ok(())
        });
        let tasks = [(); 3].map(|()| {
            s.spawn("work", async move {
                env.pause().await;
                Ok(())
            })
        });
        for task in tasks {
            task.await?;
        }
        loop {
            let changed = counter.changed.notified();
            if counter.left.with(|left| *left == 0).await? {
                break;
            }
            changed.await?;
        }
        counter.stop.close();
        Ok(())
    })
    .await
}

async fn pieces(env: Env) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.queue("pieces", Bound::items(2), Overflow::Block);
        let token = s.cx().share("request", Gate::new("token"));
        put(&tx, 1).await?;
        put(&tx, 2).await?;
        drop(tx);
        let workers = [(); 2].map(|()| {
            s.spawn_with("worker", (rx.clone(), token.clone()), async move |_cx, (pieces, token)| {
                while !token.is_closed() && pieces.recv().await?.is_some() {
                    env.pause().await;
                }
                Ok(())
            })
        });
        for worker in workers {
            worker.await?;
        }
        Ok(())
    })
    .await
}

struct Cluster {
    nodes: Mutex<Vec<u32>>,
    stop: Gate,
}

async fn long_wait(env: Env) -> End {
    scope("kernel", async |s| {
        let cluster = Cluster { nodes: Mutex::new("nodes", vec![1]), stop: Gate::new("stop") };
        let cluster = s.cx().share("cluster", cluster);
        s.spawn_with("T1", cluster.clone(), async move |_cx, cluster| {
            cluster.nodes.with(|nodes| nodes.iter().sum::<u32>()).await?;
            cluster.stop.wait().await
        });
        let insert = s.spawn_with("T2", cluster.clone(), async move |_cx, cluster| {
            let mut nodes = cluster.nodes.lock().await?;
            env.pause().await;
            nodes.push(2);
            Ok(())
        });
        insert.await?;
        cluster.stop.close();
        Ok(())
    })
    .await
}

async fn late_submissions(env: Env) -> End {
    const PAUSE: Duration = Duration::from_millis(10);
    scope("kernel", async |s| {
        let (jobs, queue) = s.queue("jobs", Bound::items(5), Overflow::Block);
        s.spawn_with("worker", queue.clone(), async move |_cx, queue| {
            while queue.recv().await?.is_some() {
                env.pause().await;
            }
            Ok(())
        });
        let submit = s.spawn_with("T1", jobs, async move |_cx, jobs| {
            for job in 0..5 {
                put(&jobs, job).await?;
                bowline::sleep(PAUSE).await?;
            }
            Ok(())
        });
        queue.close();
        submit.await
    })
    .await
}

async fn outlives_its_test(env: Env) -> End {
    scope("kernel", async |s| {
        let test = s.spawn("T1", async move {
            scope("test", async |s| {
                s.spawn("T2", async move {
                    env.pause().await;
                    Ok(())
                });
                Ok::<_, Cancelled>(())
            })
            .await
        });
        test.await
    })
    .await
}
