//! A coarse clock for statistics: ages and "since" cost one atomic load, not a clock read per spawn.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::testing::closed_world::{self, Own};

/// How far behind the coarse clock may be.
pub(crate) const TICK: Duration = Duration::from_millis(20);

static MILLIS: AtomicU32 = AtomicU32::new(0);

/// Milliseconds since the first root of this process, wrapping after 49 days; differences stay right below that.
pub(crate) fn coarse_millis() -> u32 {
    // Relaxed: a statistic, nothing is published through it.
    MILLIS.load(Ordering::Relaxed)
}

/// Time between an earlier [`coarse_millis`] and now.
pub(crate) fn since(earlier: u32) -> Duration {
    Duration::from_millis(u64::from(coarse_millis().wrapping_sub(earlier)))
}

/// Starts the ticking thread, once per process. It owns nothing and ends with the process.
#[expect(
    clippy::disallowed_methods,
    reason = "the one thread outside the runtime; it measures real time and sleeps by design"
)]
pub(crate) fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        let started = std::time::Instant::now();
        let ticking = move || {
            let _own = closed_world::own(Own::Clock);
            loop {
                #[expect(clippy::cast_possible_truncation, reason = "wraps by design")]
                MILLIS.store(started.elapsed().as_millis() as u32, Ordering::Relaxed);
                std::thread::sleep(TICK);
            }
        };
        // Without the thread (the system is out of threads) ages stand still; nothing else depends on it.
        let _ = std::thread::Builder::new().name("bowline-clock".into()).spawn(ticking);
    });
}
