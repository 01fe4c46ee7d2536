//! A task cannot hand an end back as its value.

use bowline::{Bound, Cancelled, Overflow, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let (tx, _rx) = s.queue::<u8>("queue", Bound::items(1), Overflow::Block);
        s.spawn_with("child", tx, async |_cx, tx| Ok(tx));
        Ok(())
    })
    .await
}
