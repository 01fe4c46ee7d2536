//! What it costs to ask whether one is cancelled, beside tokio-util's token, interleaved in one process.
//!
//! `cargo bench -p bowline --bench context --features tokio-util`. Medians of rounds in nanoseconds; what counts is the ratio.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::hint::black_box;
use std::time::Instant;

use bowline::{Cancelled, Context, scope};
use tokio_util::sync::CancellationToken;

/// Questions per round.
const ASKED: u32 = 2_000_000;
const ROUNDS: usize = 15;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let times = runtime.block_on(scope("bench", async |s| {
        let task = s.spawn("asks", async {
            scope("deep", async |s| {
                s.spawn("asks", async { Ok(measure()) }).await // as deep as a request handler
            })
            .await
        });
        let times: Result<_, Cancelled> = task.await;
        times
    }));
    let mut first = None;
    println!("asking for the cancel, ns (median of {ROUNDS} rounds [min..max], ratio to the first)");
    for (name, mut times) in times.expect("nobody cancels") {
        times.sort_by(f64::total_cmp);
        let (low, median, high) = (times[0], times[ROUNDS / 2], times[ROUNDS - 1]);
        let base = *first.get_or_insert(median);
        println!("  {name:44} {median:6.2} [{low:.2}..{high:.2}]  {:.3}", median / base);
    }
}

fn measure() -> Vec<(&'static str, Vec<f64>)> {
    let root = CancellationToken::new();
    let token = root.child_token();
    let context = Context::current();
    let ask_token = || token.is_cancelled();
    let ask_handle = || context.is_cancelled();
    let contestants: [(&str, &dyn Fn() -> f64); 5] = [
        ("tokio_util CancellationToken::is_cancelled", &|| timed(ask_token)),
        ("bowline Context::is_cancelled", &|| timed(ask_handle)),
        ("bowline::is_cancelled, ambient", &|| timed(bowline::is_cancelled)),
        ("bowline::check, ambient", &|| timed(|| bowline::check().is_err())),
        ("nothing: a loop around a constant", &|| timed(|| black_box(false))),
    ];
    let mut times: Vec<_> = contestants.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for _ in 0..ROUNDS {
        for (at, (_, run)) in contestants.iter().enumerate() {
            times[at].1.push(run());
        }
    }
    times
}

#[inline(always)]
fn timed(ask: impl Fn() -> bool) -> f64 {
    let began = Instant::now();
    let mut yes = 0_u32;
    for _ in 0..ASKED {
        yes += u32::from(black_box(ask()));
    }
    let took = began.elapsed();
    assert_eq!(black_box(yes), 0);
    took.as_secs_f64() * 1e9 / f64::from(ASKED)
}
