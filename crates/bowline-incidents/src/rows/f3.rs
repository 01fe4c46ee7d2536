//! F3, stuck and deadlocked: two tasks wait for each other, and the process looks healthy.
//!
//! Transfers between accounts took two locks, the payer's first and the payee's second. One afternoon two transfers went in opposite
//! directions at the same moment. Both waited, everything that touched one of the two accounts waited behind them, and the process was the
//! picture of health: no load, no errors, plenty of memory, all health checks green. They noticed when customers called.
//!
//! The leaky form is that. A task that waits for ever costs nothing and says nothing.
//!
//! The tied form has the same mistake in it: Bowline does not prevent taking locks in the wrong order. But who holds what is known, and a thread
//! beside the runtime looks whether anybody could still end a wait. It is a proof and not a guess from how long something takes: a
//! transfer that is merely slow is not reported, and this one is, with both tasks' names, what each holds and waits for, and where.

use std::sync::Arc;
use std::time::Duration;

use bowline::{Cancelled, DeadTask, deadlocks, on_alert, scope};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "F3",
    title: "stuck and deadlocked",
    broke: "Two transfers took two locks in opposite order and waited for each other; nothing said so, and all checks were green.",
    must: "Tasks that wait for each other are reported as a cycle, with names and places.",
    theirs: "none; here the cycle is reported within ten seconds",
    load: "two tasks that take two locks in opposite order",
    remedy: "Locks, queues and tasks of ours know their holders; the detector proves that nobody can end the wait, and `deadlocks()`, an \
             alert and `/debug/bowline` say who it is.",
    needs: &[],
    bounds: &[
        Bound::at_least("deadlocks reported", 1.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("tasks named", 2.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("reported within", 10.0, Unit::Seconds).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("f3.rs"),
};

// ANCHOR: leaky
struct Accounts {
    payer: tokio::sync::Mutex<i64>,
    payee: tokio::sync::Mutex<i64>,
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let accounts = Accounts { payer: 10.into(), payee: 0.into() };
    let accounts = Arc::new(accounts);
    let mut transfers = JoinSet::new();
    for is_back in [false, true] {
        let accounts = Arc::clone(&accounts);
        transfers.spawn(async move {
            let (first, second) =
                if is_back { (&accounts.payee, &accounts.payer) } else { (&accounts.payer, &accounts.payee) };
            let mut from = first.lock().await;
            sleep(Duration::from_millis(10)).await; // the ledger is asked
            let mut to = second.lock().await;
            *from -= 1;
            *to += 1;
        });
    }
    watched(&lab, None).await;
    transfers.abort_all();
    Ok(())
}
// ANCHOR_END: leaky

// ANCHOR: tied
struct TiedAccounts {
    payer: bowline::Mutex<i64>,
    payee: bowline::Mutex<i64>,
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let ended = scope("transfers", async |s| {
        let accounts =
            TiedAccounts { payer: bowline::Mutex::new("payer", 10), payee: bowline::Mutex::new("payee", 0) };
        let accounts = s.cx().share("accounts", accounts);
        for is_back in [false, true] {
            s.spawn_with("transfer", accounts.clone(), async move |_cx, accounts| {
                let (first, second) = if is_back {
                    (&accounts.payee, &accounts.payer)
                } else {
                    (&accounts.payer, &accounts.payee)
                };
                let mut from = first.lock().await?;
                bowline::sleep(Duration::from_millis(10)).await?; // the ledger is asked
                let mut to = second.lock().await?;
                *from -= 1;
                *to += 1;
                Ok(())
            });
        }
        drop(accounts);
        watched(&lab, Some("transfer")).await;
        s.cancel("seen");
        Ok::<_, Cancelled>(())
    });
    // The one who looked has cancelled it: two transfers that wait for ever do not end otherwise.
    let _cancelled = ended.await;
    Ok(())
}
// ANCHOR_END: tied

/// Waits until a deadlock is reported in which a task of this `name` is, or of whatever name, as tasks of bare tokio have none.
async fn watched(lab: &Lab, name: Option<&str>) {
    // What is said is counted here, and not written between the lines of the gallery.
    let _hush = on_alert(|_| {});
    let began = Instant::now();
    // Of bare tokio's tasks nobody will ever say anything: that is not waited for to the end.
    let until = began + if name.is_some() { Duration::from_secs(10) } else { Duration::from_millis(500) };
    let is_ours = |task: &DeadTask| name.is_none_or(|name| task.name == name);
    let ours = || {
        let found = deadlocks().into_iter().filter(|found| found.tasks.iter().any(is_ours));
        found.collect::<Vec<_>>()
    };
    let mut found = ours();
    while found.is_empty() && Instant::now() < until {
        sleep(Duration::from_millis(10)).await;
        found = ours();
    }
    let named = found.iter().flat_map(|found| &found.tasks).filter(|task| is_ours(task)).count();
    lab.figure("deadlocks reported", found.len() as f64);
    lab.figure("tasks named", named as f64);
    // What is never said is said later than any limit.
    let within = if found.is_empty() { f64::INFINITY } else { began.elapsed().as_secs_f64() };
    lab.figure("reported within", within);
}
