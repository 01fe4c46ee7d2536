//! An end does not outlive its task in a static.

use std::sync::Mutex;

use bowline::{Bound, Cancelled, Overflow, Tx, scope};

static PLACE: Mutex<Option<Tx<'static, u8>>> = Mutex::new(None);

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let (tx, _rx) = s.queue::<u8>("queue", Bound::items(1), Overflow::Block);
        *PLACE.lock().unwrap() = Some(tx);
        Ok(())
    })
    .await
}
