//! Bringing the results of many tasks together.

use std::hint::black_box;
use std::sync::{Arc, Mutex};

use bowline::{Bound, Cancelled, CollectAll, Overflow, group, scope};
use tokio::sync::mpsc;

use crate::measure::{Contestant, Threads, Work, go, here, interleave, table, wall_and_cpu};

const TASKS: usize = 100;
const EACH: usize = 1_000;
const TOGETHER: u64 = (TASKS * EACH) as u64;
/// How often per round everything is collected.
const TURNS: u64 = 50;
const QUEUE: usize = 1_024;

/// Sixteen bytes.
#[expect(dead_code, reason = "it is carried, not read")]
#[derive(Clone, Copy, Default)]
struct Reading {
    task: u64,
    value: u64,
}

fn reading(task: usize, n: usize) -> Reading {
    Reading { task: task as u64, value: n as u64 }
}

fn check(readings: &[Reading]) {
    assert_eq!(readings.len() as u64, TOGETHER);
    black_box(readings);
}

const CONTESTANTS: [Contestant; 11] = [
    here("bare: preallocated slots, one slice per task", slots),
    here("bare: a `Vec` per task, merged at the join", merged),
    here("`std::sync::Mutex<Vec>`", mutex),
    here("`tokio::sync::mpsc`(1024)", channel),
    here("**group**: preallocated slots, one slice per task", group_slots),
    here("**group**: a `Vec` per task, merged", group_merged),
    here("**queue**(1024)", queue),
    here("bare: a task per result", bare_each).fewer(25),
    here("**group**: a task per result", group_each).fewer(25),
    go("Go: preallocated slots", "collect-slots"),
    go("Go: chan(1024)", "collect-chan"),
];

/// Prints the table.
pub fn report(allocator: &str) {
    let one = interleave(&CONTESTANTS, Threads::One, TOGETHER * TURNS);
    let two = interleave(&CONTESTANTS, Threads::Two, TOGETHER * TURNS);
    let [one, _] = wall_and_cpu("one thread, ns", "", &one, 1);
    let [wall, cpu] = wall_and_cpu("two workers, ns", "two workers, CPU ns", &two, 1);
    let title = format!(
        "Collecting, {allocator}: time per result of 16 bytes, {TASKS} tasks with {EACH} results each."
    );
    table(&title, &CONTESTANTS.map(|contestant| contestant.name), &[one, wall, cpu]);
}

/// Each task owns one slice of the slots while it runs, and gives it back.
fn slots(operations: u64) -> Work {
    Box::pin(async move {
        let mut parts: Vec<Vec<Reading>> = vec![vec![Reading::default(); EACH]; TASKS];
        for _ in 0..operations / TOGETHER {
            let tasks: Vec<_> = parts
                .drain(..)
                .enumerate()
                .map(|(task, mut part)| {
                    tokio::spawn(async move {
                        fill(task, &mut part);
                        part
                    })
                })
                .collect();
            for task in tasks {
                parts.push(task.await.expect("the task does not panic"));
            }
            black_box(&parts);
        }
    })
}

fn fill(task: usize, part: &mut [Reading]) {
    for (n, slot) in part.iter_mut().enumerate() {
        *slot = reading(task, n);
    }
    black_box(part);
}

fn list(task: usize) -> Vec<Reading> {
    let mut list = Vec::new();
    for n in 0..EACH {
        list.push(reading(task, n));
    }
    black_box(list)
}

fn merged(operations: u64) -> Work {
    Box::pin(async move {
        for _ in 0..operations / TOGETHER {
            let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(async move { list(task) })).collect();
            let mut all = Vec::new();
            for task in tasks {
                all.extend(task.await.expect("the task does not panic"));
            }
            check(&all);
        }
    })
}

fn mutex(operations: u64) -> Work {
    Box::pin(async move {
        for _ in 0..operations / TOGETHER {
            let all = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    let all = Arc::clone(&all);
                    tokio::spawn(async move {
                        for n in 0..EACH {
                            all.lock().expect("nobody panics").push(reading(task, n));
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("the task does not panic");
            }
            check(&all.lock().expect("nobody panics"));
        }
    })
}

fn channel(operations: u64) -> Work {
    Box::pin(async move {
        for _ in 0..operations / TOGETHER {
            let (tx, mut rx) = mpsc::channel(QUEUE);
            for task in 0..TASKS {
                let tx = tx.clone();
                tokio::spawn(async move {
                    for n in 0..EACH {
                        tx.send(reading(task, n)).await.expect("the receiver is there");
                    }
                });
            }
            drop(tx);
            let mut all = Vec::new();
            while let Some(reading) = rx.recv().await {
                all.push(reading);
            }
            check(&all);
        }
    })
}

fn group_slots(operations: u64) -> Work {
    Box::pin(async move {
        let mut parts: Vec<Vec<Reading>> = vec![vec![Reading::default(); EACH]; TASKS];
        for _ in 0..operations / TOGETHER {
            let outcome = group("collect", CollectAll, async |g| {
                for (task, mut part) in parts.drain(..).enumerate() {
                    g.spawn("part", async move {
                        fill(task, &mut part);
                        Ok::<_, Cancelled>(part)
                    });
                }
            })
            .await;
            parts = outcome.all_ok().expect("nothing fails");
            assert_eq!(parts.len(), TASKS);
            black_box(&parts);
        }
    })
}

fn group_merged(operations: u64) -> Work {
    Box::pin(async move {
        for _ in 0..operations / TOGETHER {
            let outcome = group("collect", CollectAll, async |g| {
                for task in 0..TASKS {
                    g.spawn("part", async move { Ok::<_, Cancelled>(list(task)) });
                }
            })
            .await;
            check(&outcome.all_ok().expect("nothing fails").concat());
        }
    })
}

fn queue(operations: u64) -> Work {
    Box::pin(async move {
        for _ in 0..operations / TOGETHER {
            let all = scope("collect", async |s| {
                let (tx, rx) = s.queue("readings", Bound::items(QUEUE), Overflow::Block);
                for task in 0..TASKS {
                    s.spawn_with("part", tx.clone(), async move |_cx, tx| {
                        for n in 0..EACH {
                            tx.send(reading(task, n)).await?;
                        }
                        Ok(())
                    });
                }
                drop(tx);
                let mut all = Vec::new();
                while let Some(reading) = rx.recv().await? {
                    all.push(reading);
                }
                Ok::<_, Cancelled>(all)
            })
            .await
            .expect("nothing is cancelled");
            check(&all);
        }
    })
}

fn bare_each(operations: u64) -> Work {
    Box::pin(async move {
        for _ in 0..operations / TOGETHER {
            let tasks: Vec<_> =
                (0..TASKS * EACH).map(|n| tokio::spawn(async move { reading(n / EACH, n % EACH) })).collect();
            let mut all = Vec::with_capacity(tasks.len());
            for task in tasks {
                all.push(task.await.expect("the task does not panic"));
            }
            check(&all);
        }
    })
}

fn group_each(operations: u64) -> Work {
    Box::pin(async move {
        for _ in 0..operations / TOGETHER {
            let outcome = group("collect", CollectAll, async |g| {
                for n in 0..TASKS * EACH {
                    g.spawn("one", async move { Ok::<_, Cancelled>(reading(n / EACH, n % EACH)) });
                }
            })
            .await;
            check(&outcome.all_ok().expect("nothing fails"));
        }
    })
}
