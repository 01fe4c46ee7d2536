//! C5, the risk engine: half a million calculations, each of some 20 µs, one of which may fail.
//!
//! The nightly valuation went through its positions in a loop: one core worked, the others watched, and it took 47 seconds. A
//! position that could not be valued ended the loop, and with it the night. Spawning a task for each position was tried, and
//! cost more than it brought: for work this short the administration of a task is a tenth of it, and it occupied the threads that
//! also serve requests.
//!
//! The tied form is one call. `compute` works on threads of its own, on all cores, takes positions in chunks that last about half
//! a millisecond (it measures how long they take), and has a result or an error for each, in their order.
//!
//! It is held against rayon, the field's yardstick for such work, in the same run and taking turns. The overhead per item is
//! processor time of the process beyond that of a plain loop, so that what else runs on the machine does not count.

use std::hint::black_box;
use std::time::Duration;

use bowline::compute;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::kit::cpu_time::cpu_time;
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "C5",
    title: "the risk engine",
    broke: "500,000 calculations went through a loop: 47 seconds on one core, and one position that could not be valued lost \
            the whole batch.",
    must: "Fan-out and fan-in over all cores, a result or an error per item, batches sized so that the overhead is under 5%.",
    theirs: "47 s to 2.3 s on 100 workers; here at least 97% of rayon's throughput, and less than 5% overhead per item",
    load: "8,000 positions of 20 µs, one in a thousand fails, five times (reduced: 2,000; full: 500,000)",
    remedy: "`compute`: chunks on all cores, off the async threads, with a slot for each item.",
    needs: &[],
    bounds: &[
        Bound::at_least("of rayon's throughput", 97.0, Unit::Percent).reduced(70.0).broken_by_leaky(),
        Bound::at_least("good results kept", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("overhead per item", 5.0, Unit::Percent).reduced(15.0),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("c5.rs"),
};

// ANCHOR: leaky
async fn value_all_leaky(positions: Vec<Position>) -> Result<Vec<f64>, NoPrice> {
    let mut values = Vec::new();
    for position in positions {
        values.push(position.value()?);
    }
    Ok(values)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn value_all_tied(positions: Vec<Position>) -> (Vec<f64>, Vec<NoPrice>) {
    let valued = compute("positions", positions, |position| position.value()).await;
    let (mut values, mut failures) = (Vec::new(), Vec::new());
    for slot in valued.into_slots() {
        match slot.into_result() {
            Ok(value) => values.push(value),
            Err(no_price) => failures.push(no_price),
        }
    }
    (values, failures)
}
// ANCHOR_END: tied

#[derive(Clone, Copy)]
struct Position {
    number: u64,
    steps: u64,
}

#[derive(Debug)]
struct NoPrice;

impl From<bowline::Cancelled> for NoPrice {
    fn from(_: bowline::Cancelled) -> Self {
        Self
    }
}

impl Position {
    fn value(self) -> Result<f64, NoPrice> {
        let mut state = self.number | 1;
        let mut sum = 0.0;
        for _ in 0..self.steps {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            sum += (state >> 11) as f64;
        }
        if self.number % 1_000 == 500 { Err(NoPrice) } else { Ok(sum) }
    }
}

/// So many positions, each of which takes 20 µs on this machine and in this build.
fn positions(many: u64) -> Vec<Position> {
    const TRIAL: u64 = 2_000_000;
    let before = cpu_time();
    let _ = black_box(Position { number: 1, steps: TRIAL }.value());
    let nanos_per_step = (cpu_time() - before).as_nanos() as f64 / TRIAL as f64;
    let steps = (20_000.0 / nanos_per_step) as u64;
    (0..many).map(|number| Position { number, steps }).collect()
}

async fn measured(lab: Lab, value_all: impl AsyncFn(Vec<Position>) -> usize) -> Result<(), Trouble> {
    let positions = positions(lab.size(2_000, 8_000, 500_000));
    let good = positions.iter().filter(|position| position.number % 1_000 != 500).count();
    let rounds = lab.size(3, 5, 3);
    let (mut ours, mut rayons, mut kept) = (Duration::MAX, Duration::MAX, 0);
    let mut overheads = Vec::new();
    for _round in 0..rounds {
        let copy = positions.clone();
        let before = cpu_time();
        in_a_loop(copy).await?;
        let plain_took = cpu_time() - before;

        let copy = positions.clone();
        let (before, began) = (cpu_time(), Instant::now());
        kept = black_box(value_all(copy).await);
        ours = ours.min(began.elapsed());
        let took = cpu_time() - before;
        overheads.push(100.0 * (took.as_secs_f64() / plain_took.as_secs_f64() - 1.0));

        let copy = positions.clone();
        rayons = rayons.min(with_rayon(copy).await?);
    }
    overheads.sort_by(f64::total_cmp);
    // Results per second: what was lost does not count, however fast it was.
    let per_second = kept as f64 / ours.as_secs_f64();
    lab.figure("of rayon's throughput", 100.0 * per_second * rayons.as_secs_f64() / good as f64);
    lab.figure("good results kept", 100.0 * kept as f64 / good as f64);
    lab.figure("overhead per item", overheads[rounds / 2]);
    lab.figure("results per second", per_second);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the yardstick, on a thread that may compute")]
async fn in_a_loop(positions: Vec<Position>) -> Result<(), Trouble> {
    let computed = spawn_blocking(move || {
        let results: Vec<_> = positions.into_iter().map(Position::value).collect();
        black_box(&results);
    });
    Ok(computed.await?)
}

#[expect(clippy::disallowed_methods, reason = "the yardstick, which blocks until it has the results")]
async fn with_rayon(positions: Vec<Position>) -> Result<Duration, Trouble> {
    let took = spawn_blocking(move || {
        let began = Instant::now();
        let results: Vec<_> = positions.into_par_iter().map(Position::value).collect();
        black_box(&results);
        began.elapsed()
    });
    Ok(took.await?)
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    measured(lab, async |positions| value_all_leaky(positions).await.map_or(0, |values| values.len())).await
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    measured(lab, async |positions| value_all_tied(positions).await.0.len()).await
}
