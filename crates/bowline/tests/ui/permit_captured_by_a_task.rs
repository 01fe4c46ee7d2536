//! An owned permit is handed over, not captured.

use bowline::{Cancelled, Semaphore, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    let slots = Semaphore::new("slots", 1);
    scope("outer", async |s| {
        let slot = slots.acquire_owned(s.cx(), 1).await?;
        s.spawn("child", async move {
            drop(slot);
            Ok(())
        });
        Ok(())
    })
    .await
}
