//! E5, the connection pool: a pool that is gone, and its upkeep that is not.
//!
//! A service had a pool of connections for each of its customers, made when one logged in and dropped when one left. Each had a task that
//! threw away old connections, once a minute. That task held the pool, and so the pool it was to tend never went: after a
//! week there were thousands of both. And when a pool did run dry, because somebody had taken a connection and sat on it, all
//! that was to be seen were the time-outs of the others.
//!
//! The leaky form is such a pool, by hand: a semaphore, a list, and an upkeep that is spawned.
//!
//! In the tied form the upkeep belongs to the pool and the pool to a scope, so both are gone when the customer is. A lease that
//! is held for longer than the pool finds right is told, with the name of the task that has it and the line where it was taken.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline::{AlertKind, LeaseError, Leases, on_alert, scope};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{interval, sleep, timeout};

use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "E5",
    title: "the connection pool",
    broke: "The upkeep of a pool held the pool and outlived it; a connection that was taken and kept showed only in the time-outs of others.",
    must: "A pool's tasks end with the pool; a lease held for too long is told, with the task that has it and the place.",
    theirs: "no figures",
    load: "100 customers, one after the other, each with a pool of two connections, ten requests, and one in ten with an export that keeps a connection for 200 ms (reduced: 20; full: 1,000)",
    remedy: "`Leases` starts its upkeep in the scope it is given, and knows who holds what.",
    needs: &[],
    bounds: &[
        Bound::at_most("tasks left", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("connections open at the end", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("long leases found", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_least("alerts with the task's name", 1.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("requests failed", 0.0, Unit::Count),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("e5.rs"),
};

// ANCHOR: leaky
/// A pool as one writes it.
struct HandMade {
    free: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl HandMade {
    #[expect(clippy::disallowed_methods, reason = "the form as it broke")]
    fn start(database: &Database) -> Arc<Self> {
        let idle = (0..CONNECTIONS).map(|_| database.connect()).collect();
        let pool = Arc::new(Self { free: Semaphore::new(CONNECTIONS), idle: Mutex::new(idle) });
        let tended = Arc::clone(&pool);
        tokio::spawn(async move {
            let mut minute = interval(Duration::from_secs(60));
            loop {
                minute.tick().await;
                tended.idle.lock().await.retain(|connection| !connection.is_old());
            }
        });
        pool
    }

    async fn using(&self, takes: Duration) -> Result<(), Trouble> {
        let _permit = timeout(Duration::from_secs(5), self.free.acquire()).await??;
        let connection = self.idle.lock().await.pop().ok_or("no connection")?;
        connection.query(takes).await;
        self.idle.lock().await.push(connection);
        Ok(())
    }
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let database = Database::new(&lab);
    for customer in 0..database.customers {
        let pool = HandMade::start(&database);
        let export = async { if has_export(customer) { pool.using(EXPORT).await } else { Ok(()) } };
        let requests = async {
            for _ in 0..REQUESTS {
                pool.using(REQUEST).await?;
            }
            Ok(())
        };
        database.ended(&tokio::try_join!(export, requests));
    }
    database.figures(&lab, 0)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let database = Database::new(&lab);
    let named = Counter::default();
    let by_name = named.clone();
    let _hook = on_alert(move |alert| {
        by_name.add(u64::from(alert.kind == AlertKind::LeaseHeld && alert.text.contains("export")));
    });
    for customer in 0..database.customers {
        let connecting = database.clone();
        let served = scope("customer", async |s| {
            let pool = Leases::new("database", CONNECTIONS, move || {
                let connection = connecting.connect();
                async move { Ok::<_, Infallible>(connection) }
            })
            .held_too_long(Duration::from_millis(50))
            .start(s);
            if has_export(customer) {
                let pool = pool.clone();
                s.spawn("export", async move {
                    pool.acquire().await?.query(EXPORT).await;
                    Ok(())
                });
            }
            for _ in 0..REQUESTS {
                pool.acquire().await?.query(REQUEST).await;
            }
            Ok::<_, LeaseError>(pool)
        })
        .await;
        if let Ok(pool) = &served {
            database.found.add(pool.stats().held_too_long);
        }
        database.ended(&served);
    }
    database.figures(&lab, named.get())
}
// ANCHOR_END: tied

const CONNECTIONS: usize = 2;
const REQUESTS: u32 = 10;
const REQUEST: Duration = Duration::from_millis(1);
const EXPORT: Duration = Duration::from_millis(200);

fn has_export(customer: u32) -> bool {
    customer.is_multiple_of(10)
}

/// The database of all customers, and what it sees of them.
#[derive(Clone)]
struct Database {
    customers: u32,
    open: Arc<AtomicU64>,
    failed: Counter,
    /// Leases that were held for too long, and found.
    found: Counter,
}

struct Connection {
    open: Arc<AtomicU64>,
}

impl Database {
    fn new(lab: &Lab) -> Self {
        let open: Arc<AtomicU64> = Arc::default();
        let seen = Arc::clone(&open);
        lab.gauge("connections", move || seen.load(Ordering::Relaxed) as f64);
        let (failed, found) = (Counter::default(), Counter::default());
        Self { customers: lab.size(20, 100, 1_000), open, failed, found }
    }

    fn connect(&self) -> Connection {
        self.open.fetch_add(1, Ordering::Relaxed);
        Connection { open: Arc::clone(&self.open) }
    }

    /// A customer has left.
    fn ended<T, E>(&self, served: &Result<T, E>) {
        self.failed.add(u64::from(served.is_err()));
    }

    fn figures(&self, lab: &Lab, named: u64) -> Result<(), Trouble> {
        let exports = (0..self.customers).filter(|customer| has_export(*customer)).count();
        lab.figure("connections open at the end", self.open.load(Ordering::Relaxed) as f64);
        lab.figure("long leases found", 100.0 * self.found.get() as f64 / exports as f64);
        lab.figure("alerts with the task's name", named as f64);
        lab.figure("requests failed", self.failed.get() as f64);
        Ok(())
    }
}

impl Connection {
    async fn query(&self, takes: Duration) {
        sleep(takes).await;
    }

    fn is_old(&self) -> bool {
        false
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
