//! E2, the count watch: one task more for every so many requests.
//!
//! A shop told another service of each order, in a task, and waited there for an answer without a limit. Now and then none came. That is
//! a task of a few hundred bytes, and nothing at all on the day it happens; it was seen weeks later, in a curve of memory
//! that had a slope. By then there were a hundred changes to look through, and the curve does not say what it is made of.
//!
//! The leaky form counts its tasks like everybody does, which is not at all.
//!
//! In the tied form nothing is added: every task has a name, and the watchdog counts them by name and learns what is usual. When
//! there are more of one name than the ups and downs explain, it says of which, how many, and where they are spawned. It
//! looks every 30 s; the row lets it look twenty times a second, to be done before you have finished reading this.

use std::future::{Future, pending};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline::{AlertKind, Cancelled, Runner, Watchdog, on_alert, scope};
use tokio::time::{Instant, sleep};

use super::load::ms;
use crate::kit::apart::apart;
use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "E2",
    title: "the count watch",
    broke: "A few tasks a day waited for ever. It was seen weeks later, as a slope of the memory, and nothing said whose.",
    must: "Live tasks are counted by name against what is usual; beyond 10% somebody is told which name grew.",
    theirs: "seen after weeks",
    load: "1,000 connections, and every 30 ms a task that tells of an order; from the third second on none is answered, until 200 wait (reduced: every 20 ms, from the second second on, until 150 wait; full: 20,000, until there are 4,000)",
    remedy: "Every task has a name, and the watchdog learns how many of each are usual.",
    needs: &[],
    bounds: &[
        // The promise: 100 of 1,000. Of the name there were one or two at a time: 17 more are no chance, and four looks make sure, so each
        // of them may be twelve times as late as it should (reduced: eight times).
        Bound::at_most("grown when told", 10.0, Unit::Percent).broken_by_leaky(),
        Bound::at_least("told by name", 1.0, Unit::Count).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("e2.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let shop = Shop::new(&lab);
    for _ in 0..shop.connections {
        tokio::spawn(pending::<()>());
    }
    while shop.goes_on() {
        tokio::spawn(shop.tells_of_an_order());
        sleep(shop.every).await;
    }
    shop.figures(&lab)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let shop = Shop::new(&lab);
    let selling = shop.clone();
    apart(move || {
        // Without this it counts every 30 s.
        let watchdog = Watchdog::new().count_every(Duration::from_millis(50));
        let process = Runner::new("shop").without_signals().watchdog(watchdog);
        process.run(sell(selling));
    })
    .await?;
    shop.figures(&lab)
}

async fn sell(shop: Shop) -> Result<(), Cancelled> {
    let told = shop.clone();
    let _hook = on_alert(move |alert| {
        if alert.kind == AlertKind::TasksGrew && alert.raised {
            told.is_told_of(&alert.name);
        }
    });
    scope("shop", async |s| {
        for _ in 0..shop.connections {
            s.spawn("connection", pending::<Result<(), Cancelled>>());
        }
        while shop.goes_on() {
            let order = shop.tells_of_an_order();
            s.spawn("tell of an order", async move {
                order.await;
                Ok(())
            });
            sleep(shop.every).await;
        }
        s.cancel("closing time");
        Ok(())
    })
    .await
}
// ANCHOR_END: tied

#[derive(Clone)]
struct Shop {
    connections: u32,
    began: Instant,
    settles: Duration,
    every: Duration,
    most: u64,
    leaked: Counter,
    /// Of which name, and how many of it there were.
    told: Arc<Mutex<Option<(String, u64)>>>,
}

impl Shop {
    fn new(lab: &Lab) -> Self {
        let (connections, every) = lab.size((1_000, ms(20)), (1_000, ms(30)), (20_000, ms(20)));
        let (settles, most) = lab.size((ms(1_000), 150), (ms(2_000), 200), (ms(10_000), 4_000));
        Self {
            connections,
            began: Instant::now(),
            settles,
            every,
            most,
            leaked: lab.counter("leaked"),
            told: Arc::default(),
        }
    }

    fn goes_on(&self) -> bool {
        self.leaked.get() < self.most && self.told.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Tells of an order and waits for the answer, which one day does not come.
    fn tells_of_an_order(&self) -> impl Future<Output = ()> + Send + 'static {
        let is_answered = self.began.elapsed() < self.settles;
        self.leaked.add(u64::from(!is_answered));
        async move { if is_answered { sleep(ms(5)).await } else { pending().await } }
    }

    fn is_told_of(&self, name: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get_or_insert_with(|| (name.to_owned(), self.leaked.get()));
    }

    fn figures(&self, lab: &Lab) -> Result<(), Trouble> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let leaked = told.as_ref().map_or(self.leaked.get(), |(_, leaked)| *leaked);
        let right = told.as_ref().is_some_and(|(name, _)| name == "tell of an order");
        lab.figure("grown when told", 100.0 * leaked as f64 / f64::from(self.connections));
        lab.figure("told by name", f64::from(u8::from(right)));
        Ok(())
    }
}
