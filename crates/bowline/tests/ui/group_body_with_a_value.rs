//! The body of a group spawns; values come from its tasks.

use bowline::{Cancelled, FailFast, group};

fn main() {
    let _ = group("group", FailFast, async |g| {
        g.spawn("task", async { Ok::<(), Cancelled>(()) });
        7
    });
}
