//! Members do not wait for room in their own group: they would wait for each other.

use bowline::{Cancelled, Discard, group};

fn main() {
    let _ = group("group", Discard.at_most(2), async |g| {
        let handle = g.handle();
        g.reserve().await?.spawn("task", async move {
            handle.reserve().await?.spawn("more", async { Ok(()) });
            Ok::<(), Cancelled>(())
        });
        Ok(())
    });
}
