//! A group with a limit is spawned into with a permit: there is no way past the limit.

use bowline::{Cancelled, Discard, group};

fn main() {
    let _ = group("group", Discard.at_most(2), async |g| {
        g.spawn("task", async { Ok::<(), Cancelled>(()) });
    });
}
