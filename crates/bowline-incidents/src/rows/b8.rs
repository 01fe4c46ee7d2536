//! B8, unknown N: a task per item of an input whose length nobody knows.

use std::hint::black_box;
use std::time::Duration;

use bowline::{CollectAll, for_each};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "B8",
    title: "unknown N",
    broke: "A task was spawned for each item of an input of unknown length. The input grew, and tasks and memory with it.",
    must: "Fan-out over an input takes a limit: what runs at once is bounded whatever comes.",
    theirs: "a semaphore on an errgroup, in under 30 lines; here it is a word of one line",
    load: "20,000 items of 10 ms and 8 KiB each (reduced: 2,000; full: 200,000)",
    remedy: "A group says how many of its members run at once (`.at_most(n)`), and spawning the next one waits for room.",
    needs: &[],
    bounds: &[
        Bound::at_most("tasks peak", 160.0, Unit::Count).broken_by_leaky(),
        // What may run at once holds 0.8 MB; the rest is what any form touches: stacks, the heap of its first tasks, and a count for each item.
        Bound::at_most("memory peak", 8e6, Unit::Bytes).broken_by_leaky(),
        Bound::at_least("items done", 100.0, Unit::Percent),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("b8.rs"),
};

// ANCHOR: leaky
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let done = lab.counter("items");
    let items = lab.size(2_000, 20_000, 200_000);
    let mut tasks = JoinSet::new();
    for item in 0..items {
        tasks.spawn(handle(item, done.clone()));
    }
    while tasks.join_next().await.is_some() {}
    lab.figure("items done", 100.0 * done.get() as f64 / items as f64);
    Ok(())
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let done = lab.counter("items");
    let items = lab.size(2_000, 20_000, 200_000);
    let all = for_each("item", CollectAll.at_most(100), 0..items, |item| handle(item, done.clone())).await;
    lab.figure("items failed", all.counts().failed as f64);
    lab.figure("items done", 100.0 * done.get() as f64 / items as f64);
    Ok(())
}
// ANCHOR_END: tied

async fn handle(item: u32, done: Counter) -> Result<(), Trouble> {
    let page = vec![item as u8; 8 << 10];
    sleep(Duration::from_millis(10)).await;
    black_box(page);
    done.add(1);
    Ok(())
}
