//! A barrier's seats are not cloned: there are as many as it was made with.

use bowline::{Cancelled, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        for seat in s.cx().barrier("step", 2) {
            drop(seat.clone());
        }
        Ok(())
    })
    .await
}
