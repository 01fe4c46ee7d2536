//! C3, aggregation: millions of small results, and one list for them.
//!
//! A calculation was spread over all cores, and each result was pushed onto a list behind a mutex. Every push of one core took
//! the cache line of the lock and of the list away from the others; profiles showed little calculation and much waiting, and a
//! second core brought next to nothing. Others used a channel, and paid more.
//!
//! What the leaky form shares is the place where results go. In the tied form nobody shares it: items come ten thousand at a
//! time, and such a share is at the same time the slots of its results. One thread has it while it computes, writes each result over
//! its item, and gives the whole share back; `compute` returns the shares in their order. What is left per result is writing it
//! down, into memory that is there already.
//!
//! Items this short want shares: `compute` has a result of its own for whatever it is given, with an error or a panic of its own. For an
//! item of microseconds that costs nothing to speak of; for one of 5 ns it would be as much as the item.
//!
//! Measured is the *processor time of the whole process* per item, less that of the same loop on one core with nothing around
//! it; what else runs on the machine is not in it.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::compute;
use tokio::task::{JoinSet, spawn_blocking};

use crate::kit::cpu_time::cpu_time;
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "C3",
    title: "aggregation",
    broke: "Results of all cores went onto one list behind a mutex, which serialised the cores.",
    must: "Each task owns the place of its result; results come in the order of the items.",
    theirs: "30 to 60% more time with a mutex or channel; here at most 5 ns per result (mutex 16, bounded channel 240)",
    load: "1,000,000 results of some 5 ns each, five times (reduced: 200,000; full: 20,000,000)",
    remedy: "`compute` over shares: one thread owns a share and its slots as long as it computes, so that nothing is shared per result.",
    needs: &[],
    bounds: &[COST, Bound::at_least("in order", 100.0, Unit::Percent).broken_by_leaky()],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("c3.rs"),
};

/// A build without optimisation does not inline what stands between two items; its figures say nothing about either form.
const COST: Bound = if cfg!(debug_assertions) {
    Bound::at_most("cost per result", 250e-9, Unit::Seconds)
} else {
    // The promise. Slots cost 1 ns and a mutex that two cores want 16: it separates them by three times either way.
    Bound::at_most("cost per result", 5e-9, Unit::Seconds).reduced(8e-9).broken_by_leaky()
};

const CORES: usize = 2;

/// Items come so many at a time, as from a file or a query.
const SHARE: usize = 10_000;

// ANCHOR: leaky
async fn all_leaky(mut shares: Vec<Vec<u64>>) -> Vec<u64> {
    let results = Arc::new(Mutex::new(Vec::with_capacity(shares.iter().map(Vec::len).sum())));
    let mut tasks = JoinSet::new();
    let others = shares.split_off(shares.len() / CORES);
    for half in [shares, others] {
        let results = Arc::clone(&results);
        tasks.spawn_blocking(move || {
            for item in half.into_iter().flatten() {
                results.lock().unwrap().push(value(item));
            }
        });
    }
    tasks.join_all().await;
    std::mem::take(&mut *results.lock().unwrap())
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn all_tied(shares: Vec<Vec<u64>>) -> Vec<Vec<u64>> {
    let computed = compute("values", shares, |mut share| {
        for slot in &mut share {
            *slot = value(*slot);
        }
        Ok::<_, Infallible>(share)
    });
    computed.await.into_ok().collect()
}
// ANCHOR_END: tied

/// Some 5 ns of work, of which a core does several at a time.
fn value(item: u64) -> u64 {
    (0..8).fold(item, |mixed, _| (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd))
}

/// The same work on one core, with nothing around it.
#[expect(clippy::disallowed_methods, reason = "the yardstick, on a thread that may compute")]
async fn all_plain(mut shares: Vec<Vec<u64>>) -> Result<Vec<Vec<u64>>, Trouble> {
    let values = move || {
        for share in &mut shares {
            for slot in share {
                *slot = value(*slot);
            }
        }
        shares
    };
    Ok(spawn_blocking(values).await?)
}

async fn measured(lab: Lab, all: impl AsyncFn(Vec<Vec<u64>>) -> Vec<Vec<u64>>) -> Result<(), Trouble> {
    let many: u64 = lab.size(200_000, 1_000_000, 20_000_000);
    let shares =
        || (0..many).step_by(SHARE).map(|first| Vec::from_iter(first..first + SHARE as u64)).collect();
    // Threads are there before the first reading, and stay until after the last.
    spawn_blocking_on_all_cores().await;
    let (mut costs, mut in_order) = (Vec::new(), 0);
    for _round in 0..ROUNDS {
        let (items, again) = (shares(), shares());
        let before = cpu_time();
        let expected = black_box(all_plain(items).await?);
        let plain = cpu_time();
        let results = black_box(all(again).await);
        let after = cpu_time();
        costs.push(cost(after - plain, plain - before, many));
        in_order += usize::from(results.concat() == expected.concat());
    }
    costs.sort_by(f64::total_cmp);
    lab.figure("cost per result", costs[ROUNDS / 2]);
    lab.figure("in order", 100.0 * in_order as f64 / ROUNDS as f64);
    Ok(())
}

const ROUNDS: usize = 5;

fn cost(took: Duration, plain: Duration, many: u64) -> f64 {
    (took.as_secs_f64() - plain.as_secs_f64()) / many as f64
}

#[expect(clippy::disallowed_methods, reason = "the threads are the runtime's")]
async fn spawn_blocking_on_all_cores() {
    let together = Arc::new(std::sync::Barrier::new(CORES));
    let wait = || {
        let together = Arc::clone(&together);
        spawn_blocking(move || together.wait())
    };
    let (one, other) = (wait(), wait());
    let _ = (one.await, other.await);
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    measured(lab, async |shares| vec![all_leaky(shares).await]).await
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    measured(lab, all_tied).await
}
