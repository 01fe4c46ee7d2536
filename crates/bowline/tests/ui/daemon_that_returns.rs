//! A daemon goes on for ever: returning a value is not in its type.

use bowline::{Cancelled, scope};

fn main() {
    let _ = scope("service", async |s| {
        s.spawn_daemon("heartbeat", async { Ok(()) });
        Ok::<_, Cancelled>(())
    });
}
