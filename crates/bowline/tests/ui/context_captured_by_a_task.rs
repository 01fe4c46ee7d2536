//! A task makes its ends with its own context, not with another's.

use bowline::{Bound, Cancelled, Overflow, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let cx = s.cx();
        s.spawn("child", async move {
            let _queue = cx.queue::<u8>("queue", Bound::items(1), Overflow::Block);
            Ok(())
        });
        Ok(())
    })
    .await
}
