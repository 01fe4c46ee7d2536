//! An end cannot travel in a message.

use bowline::{Bound, Cancelled, Overflow, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let (tx, _rx) = s.queue::<u8>("queue", Bound::items(1), Overflow::Block);
        let (messages, _inbox) = s.queue("messages", Bound::items(1), Overflow::Block);
        messages.send(tx).await.ok();
        Ok(())
    })
    .await
}
