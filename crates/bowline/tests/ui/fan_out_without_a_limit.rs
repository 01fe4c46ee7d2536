//! A fan-out over many items says how many may run at once.

use bowline::{Cancelled, FailFast, map};

fn main() {
    let _ = map("fetch", FailFast, 0..1_000_000, async |n| Ok::<_, Cancelled>(n));
}
