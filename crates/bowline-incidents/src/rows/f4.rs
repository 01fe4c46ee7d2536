//! F4, the cost of knowing: a watch that is too dear is switched off.
//!
//! After an incident a team wrote down every task it spawned: a name, the time, and the stack it was spawned from, since its place
//! was always the same helper. All of it went into a map behind a lock, and a guard took it out again. It answered the questions of that night. It also showed in every profile from then on, and half a year later somebody
//! put it behind a flag that is off in production, where the next incident was.
//!
//! The leaky form is that registry, which also notes who waits where: a wait is a line in the map as well. The tied form is a scope with
//! queues, which knows more: parent, state, what each task waits for, since when, and who could end that. Both are measured against
//! the bare `tokio::spawn` and a bare channel in the same run, in turns, so that whatever else the machine does happens to both. Waiting is
//! measured by two tasks that hand one item to and fro: everybody waits for each item.
//!
//! Figures of a debug build say nothing here: build with `--release`.

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline::{Bound as QueueBound, Cancelled, Overflow, scope};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "F4",
    title: "the cost of knowing",
    broke: "A registry of tasks, written after an incident, showed in every profile; it was switched off, and missing in the next one.",
    must: "Spawning a watched task costs at most 1.25 times a bare `tokio::spawn`, and waiting at a watched queue at most 1.1 times as much as at a bare one.",
    theirs: "none; here a ratio within one run",
    load: "30 rounds of 5,000 tasks, and of 5,000 items to and fro, watched and bare in turns (reduced: 10 rounds of 1,000; full: 100 of 20,000)",
    remedy: "A place is known when the program is built and costs nothing to keep; records of tasks are used again, and listing one is part of the critical section that asks whether the owner still takes tasks.",
    needs: &[],
    bounds: &[
        Bound::at_most("spawn, watched to bare", 1.25, Unit::Times).reduced(3.0).broken_by_leaky(),
        // What a wait costs is mostly the scheduler's; the registry's share of it is not always much more than ours.
        Bound::at_most("wait, watched to bare", 1.1, Unit::Times).reduced(4.0),
    ],
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
    fn list(&self, name: &str) -> Listed {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let stack = Backtrace::force_capture();
        let entry = Entry { _name: name.to_owned(), _stack: stack, _since: Instant::now() };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(id, entry);
        Listed(id, self.clone())
    }

    #[expect(clippy::disallowed_methods, reason = "the form as it broke")]
    fn spawn(&self, name: &str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let listed = self.list(name);
        tokio::spawn(async move {
            let _listed = listed;
            work.await;
        })
    }

    async fn wait(&self, name: &str, queue: &mut mpsc::Receiver<u64>) -> Option<u64> {
        let _listed = self.list(name);
        queue.recv().await
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
    let spawned = |count| {
        let registry = registry.clone();
        async move {
            let tasks: Vec<_> = (0..count).map(|_| registry.spawn("work", work())).collect();
            for task in tasks {
                let _ = task.await;
            }
        }
    };
    let waited = |count| {
        let registry = registry.clone();
        async move {
            let ((there, mut here), (back, mut again)) = (mpsc::channel(1), mpsc::channel(1));
            let other = registry.clone();
            let echo = registry.spawn("echo", async move {
                while let Some(item) = other.wait("there", &mut here).await {
                    let _ = back.send(item).await;
                }
            });
            for item in 0..u64::from(count) {
                let _ = there.send(item).await;
                registry.wait("back", &mut again).await;
            }
            drop(there);
            let _ = echo.await;
        }
    };
    measured(&lab, spawned, waited).await;
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
        Ok::<_, Cancelled>(())
    });
    let _done = all.await;
}

async fn waited(count: u32) {
    let all = scope("to and fro", async |s| {
        let (there, here) = s.queue("there", QueueBound::items(1), Overflow::Block);
        let (back, again) = s.queue("back", QueueBound::items(1), Overflow::Block);
        s.spawn_with("echo", (here, back), async |_cx, (here, back)| {
            while let Some(item) = here.recv().await? {
                back.send(item).await?;
            }
            Ok(())
        });
        for item in 0..u64::from(count) {
            there.send(item).await?;
            again.recv().await?;
        }
        Ok::<_, Cancelled>(())
    });
    let _done = all.await;
}
// ANCHOR_END: tied

async fn tied(lab: Lab) -> Result<(), Trouble> {
    measured(&lab, spawned, waited).await;
    Ok(())
}

async fn work() {
    tokio::task::yield_now().await;
}

#[expect(clippy::disallowed_methods, reason = "what is compared with")]
async fn bare_spawned(count: u32) {
    let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(work())).collect();
    for task in tasks {
        let _ = task.await;
    }
}

#[expect(clippy::disallowed_methods, reason = "what is compared with")]
async fn bare_waited(count: u32) {
    let ((there, mut here), (back, mut again)) = (mpsc::channel(1), mpsc::channel(1));
    let echo = tokio::spawn(async move {
        while let Some(item) = here.recv().await {
            let _ = back.send(item).await;
        }
    });
    for item in 0..u64::from(count) {
        let _ = there.send(item).await;
        again.recv().await;
    }
    drop(there);
    let _ = echo.await;
}

async fn measured<Spawned, Waited>(
    lab: &Lab,
    spawned: impl Fn(u32) -> Spawned,
    waited: impl Fn(u32) -> Waited,
) where
    Spawned: Future<Output = ()> + Send,
    Waited: Future<Output = ()> + Send,
{
    let (rounds, count) = lab.size((10, 1_000), (30, 5_000), (100, 20_000));
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..rounds {
        let mut began = Instant::now();
        let mut took = |at: usize| {
            times[at].push(began.elapsed());
            began = Instant::now();
        };
        spawned(count).await;
        took(0);
        bare_spawned(count).await;
        took(1);
        waited(count).await;
        took(2);
        bare_waited(count).await;
        took(3);
    }
    // The best of many: what the machine does besides can only add to it.
    let best = times.map(|times| times.into_iter().min().unwrap_or(Duration::MAX).as_secs_f64().max(1e-9));
    lab.figure("spawn, watched to bare", best[0] / best[1]);
    lab.figure("wait, watched to bare", best[2] / best[3]);
}
