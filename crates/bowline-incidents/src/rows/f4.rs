//! F4, the cost of knowing: a watch that is too dear is switched off.
//!
//! After an incident a team wrote down every task it spawned: a name, the time, and the stack it was spawned from, since its place
//! was always the same helper. All of it went into a map behind a lock, and a guard took it out again. It answered the questions of that night. It also showed in every profile from then on, and half a year later somebody
//! put it behind a flag that is off in production, where the next incident was.
//!
//! The leaky form is that registry. The tied form is a scope, which knows more: parent, state, what each task waits for, and since when. Both are
//! measured against the bare `tokio::spawn` in the same run, in turns, so that whatever else the machine does happens to both.
//!
//! Figures of a debug build say nothing here: build with `--release`.

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline::scope;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "F4",
    title: "the cost of knowing",
    broke: "A registry of tasks, written after an incident, showed in every profile; it was switched off, and missing in the next one.",
    must: "Spawning a watched task costs at most 1.25 times a bare `tokio::spawn`.",
    theirs: "none; here a ratio within one run",
    load: "30 rounds of 5,000 tasks, watched and bare in turns (reduced: 10 rounds of 1,000; full: 100 of 20,000)",
    remedy: "A place is known when the program is built and costs nothing to keep; records of tasks are used again, and listing one is part of the critical section that asks whether the owner still takes tasks.",
    needs: &[],
    bounds: &[Bound::at_most("spawn, watched to bare", 1.25, Unit::Times).reduced(3.0).broken_by_leaky()],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("f4.rs"),
};

// ANCHOR: leaky
#[derive(Clone, Default)]
struct Registry {
    tasks: Arc<Mutex<HashMap<u64, Entry>>>,
    last: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Entry {
    _name: String,
    _stack: Backtrace,
    _since: Instant,
}

impl Registry {
    #[expect(clippy::disallowed_methods, reason = "the form as it broke")]
    fn spawn(&self, name: &str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let stack = Backtrace::force_capture();
        let entry = Entry { _name: name.to_owned(), _stack: stack, _since: Instant::now() };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(id, entry);
        let registry = self.clone();
        tokio::spawn(async move {
            let _guard = Listed(id, registry);
            work.await;
        })
    }
}

struct Listed(u64, Registry);

impl Drop for Listed {
    fn drop(&mut self) {
        self.1.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}
// ANCHOR_END: leaky

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let registry = Registry::default();
    let watched = |count| {
        let registry = registry.clone();
        async move {
            let tasks: Vec<_> = (0..count).map(|_| registry.spawn("work", work())).collect();
            for task in tasks {
                let _ = task.await;
            }
        }
    };
    measured(&lab, watched).await;
    Ok(())
}

// ANCHOR: tied
async fn spawned(count: u32) {
    let all = scope("works", async |s| {
        for _ in 0..count {
            s.spawn("work", async {
                work().await;
                Ok(())
            });
        }
        Ok::<_, bowline::Cancelled>(())
    });
    let _done = all.await;
}
// ANCHOR_END: tied

async fn tied(lab: Lab) -> Result<(), Trouble> {
    measured(&lab, spawned).await;
    Ok(())
}

async fn work() {
    tokio::task::yield_now().await;
}

#[expect(clippy::disallowed_methods, reason = "what is compared with")]
async fn bare(count: u32) {
    let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(work())).collect();
    for task in tasks {
        let _ = task.await;
    }
}

async fn measured<F, Spawned>(lab: &Lab, watched: F)
where
    F: Fn(u32) -> Spawned,
    Spawned: Future<Output = ()> + Send,
{
    let (rounds, count) = lab.size((10, 1_000), (30, 5_000), (100, 20_000));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let began = Instant::now();
        watched(count).await;
        times[0].push(began.elapsed());
        let began = Instant::now();
        bare(count).await;
        times[1].push(began.elapsed());
    }
    // The best of many: what the machine does besides can only add to it.
    let [watched, bare] = times.map(|times| times.into_iter().min().unwrap_or(Duration::MAX));
    lab.figure("spawn, watched to bare", watched.as_secs_f64() / bare.as_secs_f64().max(1e-9));
}
