//! Every queue has a bound and a policy; there is no constructor without.

use bowline::{Bound, Cancelled, Overflow, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let _one = s.queue::<u8>("queue", Overflow::Block);
        let _two = s.queue::<u8>("queue", Bound::unbounded(), Overflow::Block);
        let _three = s.queue::<u8>("queue", Bound::items(1));
        Ok(())
    })
    .await
}
