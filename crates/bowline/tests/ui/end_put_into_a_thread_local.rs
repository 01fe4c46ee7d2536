//! Nor in a thread-local.

use std::cell::RefCell;

use bowline::{Bound, Cancelled, Overflow, Tx, scope};

thread_local! {
    static PLACE: RefCell<Option<Tx<'static, u8>>> = const { RefCell::new(None) };
}

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let (tx, _rx) = s.queue::<u8>("queue", Bound::items(1), Overflow::Block);
        PLACE.set(Some(tx));
        Ok(())
    })
    .await
}
