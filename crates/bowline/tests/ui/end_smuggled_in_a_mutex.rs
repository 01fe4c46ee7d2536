//! An end cannot be put where another task may find it.

use std::sync::{Arc, Mutex};

use bowline::{Bound, Cancelled, Overflow, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let place = Arc::new(Mutex::new(None));
        let theirs = Arc::clone(&place);
        s.spawn("child", async move {
            drop(theirs.lock().unwrap().take());
            Ok(())
        });
        let (tx, _rx) = s.queue::<u8>("queue", Bound::items(1), Overflow::Block);
        *place.lock().unwrap() = Some(tx);
        Ok(())
    })
    .await
}
