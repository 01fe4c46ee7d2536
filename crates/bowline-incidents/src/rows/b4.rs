//! B4, flow control: ten thousand requests at a database that takes a hundred.
//!
//! Each request opened its connection to the database when it needed one. At ten thousand concurrent requests the database
//! had no more to give, and said so: "too many clients". The requests tried again, all of them, which made it worse; one in twenty
//! ended with an error that had nothing to do with it.
//!
//! The leaky form tries three times, with a pause between that becomes longer. It looks careful, and it is a raffle: who gets a connection is
//! whoever happens to ask when one is free.
//!
//! The tied form has a door in front of the database. A hundred are inside, ten thousand may wait, first come first served, and none for
//! longer than it is worth. Every request is done within what the database can do; were there still more, the door would say so
//! at once, with the number of those inside and who has been there for longest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bowline::{Bulkhead, Class, CollectAll, for_each};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::load::ms;
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "B4",
    title: "flow control",
    broke: "10,000 concurrent requests asked a database for more connections than it has; 5% of them failed.",
    must: "Permits admit as many as there are connections; the others wait in a bounded room, in their order, and not for ever.",
    theirs: "errors from 5% to under 0.1%",
    load: "10,000 requests at once, each with a query of 20 ms, to a database with 100 connections (reduced: 1,000 of 10 ms; full: 100,000)",
    remedy: "`Bulkhead` is permits, a waiting room and a time to wait, in one word, around the call.",
    needs: &[],
    bounds: &[
        Bound::at_most("errors", 0.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("refused by the database", 0.0, Unit::Count).broken_by_leaky(),
        // Of fewer requests a burst is a larger part.
        Bound::at_most("overtaken by", 10.0, Unit::Percent).reduced(20.0),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("b4.rs"),
};

// ANCHOR: leaky
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let database = Database::new(&lab);
    let mut requests = JoinSet::new();
    for _ in 0..database.requests {
        let database = Arc::clone(&database);
        requests.spawn(async move {
            let arrived = database.arrives();
            let mut pause = Duration::from_millis(20);
            for _attempt in 0..3 {
                if database.query(arrived).await.is_ok() {
                    break;
                }
                sleep(pause).await;
                pause *= 2;
            }
        });
    }
    while requests.join_next().await.is_some() {}
    database.figures(&lab)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let database = Database::new(&lab);
    let door = Bulkhead::new("database", CONNECTIONS)
        .waiting(database.requests)
        .wait_at_most(Duration::from_secs(60));
    let requests = CollectAll.at_most(database.requests);
    let outcome = for_each("request", requests, 0..database.requests, |_| {
        let (door, database) = (door.clone(), Arc::clone(&database));
        async move {
            let arrived = database.arrives();
            door.run(async || database.query(arrived).await).await
        }
    })
    .await;
    lab.figure("errors told", outcome.counts().failed as f64);
    database.figures(&lab)
}
// ANCHOR_END: tied

const CONNECTIONS: usize = 100;

/// A database that has so many connections and no more.
struct Database {
    requests: usize,
    takes: Duration,
    open: AtomicUsize,
    arrived: AtomicU64,
    served: AtomicU64,
    refused: AtomicU64,
    /// By how many that came later the unluckiest was overtaken.
    overtaken: AtomicU64,
}

impl Database {
    fn new(lab: &Lab) -> Arc<Self> {
        let (requests, takes) = lab.size((1_000, ms(10)), (10_000, ms(20)), (100_000, ms(20)));
        let (open, arrived, served) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let (refused, overtaken) = (AtomicU64::new(0), AtomicU64::new(0));
        let database = Arc::new(Self { requests, takes, open, arrived, served, refused, overtaken });
        let seen = Arc::clone(&database);
        lab.gauge("connections", move || seen.open.load(Ordering::Relaxed) as f64);
        database
    }

    /// The number of a request, in the order in which they came.
    fn arrives(&self) -> u64 {
        self.arrived.fetch_add(1, Ordering::Relaxed)
    }

    async fn query(&self, arrived: u64) -> Result<(), Class> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Class::Overload { retry_after: None });
        }
        let turn = self.served.fetch_add(1, Ordering::Relaxed);
        self.overtaken.fetch_max(turn.saturating_sub(arrived), Ordering::Relaxed);
        sleep(self.takes).await;
        self.open.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    fn figures(&self, lab: &Lab) -> Result<(), Trouble> {
        let (all, served) = (self.requests as f64, self.served.load(Ordering::Relaxed) as f64);
        lab.figure("errors", 100.0 * (all - served) / all);
        lab.figure("refused by the database", self.refused.load(Ordering::Relaxed) as f64);
        lab.figure("overtaken by", 100.0 * self.overtaken.load(Ordering::Relaxed) as f64 / all);
        Ok(())
    }
}
