//! A shared object cannot hide an end from its holders.

use std::sync::Mutex;

use bowline::{Bound, Cancelled, Overflow, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let (tx, _rx) = s.queue::<u8>("queue", Bound::items(1), Overflow::Block);
        let _hub = s.cx().share("hub", Mutex::new(Some(tx)));
        Ok(())
    })
    .await
}
