//! A detached thread cannot hold an end.

use bowline::{Bound, Cancelled, Overflow, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let (tx, _rx) = s.queue::<u8>("queue", Bound::items(1), Overflow::Block);
        std::thread::spawn(move || tx.try_send(1).ok());
        Ok(())
    })
    .await
}
