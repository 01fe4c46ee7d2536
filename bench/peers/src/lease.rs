//! Time to take a resource out of a pool and give it back.

use std::convert::Infallible;
use std::hint::black_box;

use bowline::{Cancelled, LeasePool, Leases};

use crate::measure::{Contestant, Threads, here, interleave, table, wall_and_cpu};

/// Resources of each pool.
const RESOURCES: usize = 10;

/// Tasks that are at the pool at the same time, where many are.
const TASKS: u64 = 100;

/// Prints the tables.
pub fn report(allocator: &str) {
    let alone = [
        here("deadpool", |leases| Box::pin(with_deadpool(1, leases))),
        here("bb8", |leases| Box::pin(with_bb8(1, leases, true))),
        here("bb8, without its test", |leases| Box::pin(with_bb8(1, leases, false))),
        here("**leases**", |leases| Box::pin(ours(1, leases, Use::Plain))),
        here("**leases**, in `using`", |leases| Box::pin(ours(1, leases, Use::Using))),
    ];
    one(allocator, "one task", 500_000, &alone);
    let many = [
        here("deadpool", |leases| Box::pin(with_deadpool(TASKS, leases))),
        here("bb8", |leases| Box::pin(with_bb8(TASKS, leases, true))),
        here("bb8, without its test", |leases| Box::pin(with_bb8(TASKS, leases, false))),
        here("**leases**", |leases| Box::pin(ours(TASKS, leases, Use::Plain))),
    ];
    one(allocator, "100 tasks, each of which holds it over a turn of the others", 100_000, &many);
}

fn one(allocator: &str, who: &str, leases: u64, contestants: &[Contestant]) {
    let one = interleave(contestants, Threads::One, leases);
    let two = interleave(contestants, Threads::Two, leases);
    let [one, _] = wall_and_cpu("one thread, ns", "", &one, 0);
    let [wall, cpu] = wall_and_cpu("two workers, ns", "two workers, CPU ns", &two, 0);
    let title = format!("Leases, {allocator}: time to take one of {RESOURCES} and give it back, {who}.");
    let names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
    table(&title, &names, &[one, wall, cpu]);
}

/// A lease in use: over a turn of the others where there are others.
async fn hold(tasks: u64, resource: &mut u64) {
    *black_box(resource) += 1;
    if tasks > 1 {
        tokio::task::yield_now().await;
    }
}

struct Manager;

impl deadpool::managed::Manager for Manager {
    type Type = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn recycle(
        &self,
        _: &mut u64,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

async fn with_deadpool(tasks: u64, leases: u64) {
    let pool = deadpool::managed::Pool::<Manager>::builder(Manager).max_size(RESOURCES).build().expect("valid");
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..leases / tasks {
                    hold(tasks, &mut pool.get().await.expect("there is one")).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
}

impl bb8::ManageConnection for Manager {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

async fn with_bb8(tasks: u64, leases: u64, tests: bool) {
    let builder = bb8::Pool::builder().max_size(RESOURCES as u32).test_on_check_out(tests);
    let pool = builder.build(Manager).await.expect("it connects");
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..leases / tasks {
                    hold(tasks, &mut pool.get().await.expect("there is one")).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
}

#[derive(Clone, Copy)]
enum Use {
    Plain,
    Using,
}

async fn ours(tasks: u64, leases: u64, how: Use) {
    bowline::scope("leases", async |s| {
        let pool: LeasePool<u64> = Leases::new("pool", RESOURCES, async || Ok::<_, Infallible>(0)).start(s);
        for _ in 0..tasks {
            let pool = pool.clone();
            s.spawn("task", async move {
                for _ in 0..leases / tasks {
                    let mut lease = pool.acquire().await?;
                    match how {
                        Use::Plain => hold(tasks, &mut lease).await,
                        Use::Using => lease.using(async |resource| hold(tasks, resource).await).await,
                    }
                }
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .expect("nobody cancels it");
}
