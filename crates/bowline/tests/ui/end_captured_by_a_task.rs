//! An end belongs to the task that holds it: another task cannot capture it.

use bowline::{Bound, Cancelled, Overflow, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let (tx, _rx) = s.queue::<u8>("queue", Bound::items(1), Overflow::Block);
        s.spawn("child", async move {
            tx.send(1).await.ok();
            Ok(())
        });
        Ok(())
    })
    .await
}
