//! grpc#3017: a timer's function that returns with the lock.
//!
//! T1, many times: locks `cache`, makes an entry whose timer will remove it, unlocks; locks, and if the entry is still there
//! stops its timer, or, if that has fired already, marks the entry as taken; unlocks. What a timer runs, K: locks `cache`;
//! if the entry is marked, returns without unlocking; else removes it and unlocks. T0 waits for T1. When K finds its mark,
//! the next lock waits for somebody who has ended. Repaired, K unlocks whatever it finds.

use bowline::{Handle, Mutex, Scope, Shared, scope};

use crate::go::coin;
use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "grpc#3017",
    class: Class::R,
    sites: 3,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::dead(Kind::Shared, BODY, DEAD),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

/// Timers that fire after the lock was lost wait for it too; the last of them may lose it.
const DEAD: &[Dead] = &[
    Dead::new(&["T0", "T1"], &["cache"]),
    Dead::new(&["K", "T0", "T1"], &["cache"]),
    Dead::new(&["K", "K", "T0", "T1"], &["cache"]),
    Dead::new(&["K", "K", "K", "T0", "T1"], &["cache"]),
    Dead::new(&["K"], &["cache"]),
    Dead::new(&["K", "K"], &["cache"]),
];

/// Enough for the bug to show in most runs.
const ROUNDS: usize = 10;

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

/// What the lock is about: the entry that waits to be removed.
#[derive(Default)]
struct Cache {
    entry: Option<Entry>,
    /// Rounds of which the entry was taken although its timer had fired.
    abort: Vec<usize>,
}

struct Entry {
    round: usize,
    timer: Handle<()>,
}

struct Timers {
    cache: Mutex<Cache>,
    /// Apart from the lock: a timer fires without asking anybody.
    fired: std::sync::Mutex<Vec<usize>>,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let timers =
            Timers { cache: Mutex::new("cache", Cache::default()), fired: std::sync::Mutex::default() };
        let timers = s.cx().share("timers", timers);
        s.spawn_with("T1", timers, async move |_cx, timers| rounds(env, timers).await).await
    })
    .await
}

async fn rounds(env: Env, timers: Shared<'_, Timers>) -> End {
    scope("timers", async move |s| {
        for round in 0..ROUNDS {
            remove(env, s, &timers, round).await?;
            while coin() {
                env.tick().await?;
            }
            take(&timers).await?;
        }
        Ok(())
    })
    .await
}

async fn remove(env: Env, s: &Scope<bowline::Cancelled>, timers: &Shared<'_, Timers>, round: usize) -> End {
    let mut cache = timers.cache.lock().await?;
    let timer = s.spawn_with("K", timers.clone(), async move |_cx, timers| {
        env.tick().await?;
        timers.fired.lock().unwrap().push(round);
        let mut cache = timers.cache.lock().await?;
        env.pause().await;
        if cache.abort.contains(&round) {
            if env.is_shared() {
                std::mem::forget(cache); // nobody unlocks
            }
            return Ok(());
        }
        cache.entry = None;
        Ok(())
    });
    cache.entry = Some(Entry { round, timer });
    Ok(())
}

async fn take(timers: &Timers) -> End {
    let mut cache = timers.cache.lock().await?;
    if let Some(Entry { round, timer }) = cache.entry.take() {
        if timers.fired.lock().unwrap().contains(&round) {
            cache.abort.push(round);
        } else {
            timer.cancel("stopped");
        }
    }
    Ok(())
}

async fn literal() -> End {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    /// What has become of an entry.
    const THERE: usize = 0;
    const GONE: usize = 1;
    const TAKEN: usize = 2;
    let worker = bare::go(async move {
        let cache = Arc::new(tokio::sync::Mutex::new(()));
        for _ in 0..ROUNDS {
            let (entry, fired) = (Arc::new(AtomicUsize::new(THERE)), Arc::new(AtomicUsize::new(0)));
            let held = cache.lock().await;
            let timer = bare::go({
                let (cache, entry, fired) = (cache.clone(), entry.clone(), fired.clone());
                async move {
                    fired.store(1, Ordering::Relaxed);
                    bare::turn().await;
                    let held = cache.lock().await;
                    if entry.load(Ordering::Relaxed) == TAKEN {
                        return std::mem::forget(held);
                    }
                    entry.store(GONE, Ordering::Relaxed);
                }
            });
            drop(held);
            bare::turn().await;
            let _held = cache.lock().await;
            match (entry.load(Ordering::Relaxed), fired.load(Ordering::Relaxed)) {
                (THERE, 0) => timer.abort(),
                (THERE, _) => entry.store(TAKEN, Ordering::Relaxed),
                _ => {}
            }
        }
    });
    let _ = worker.await;
    Ok(())
}
