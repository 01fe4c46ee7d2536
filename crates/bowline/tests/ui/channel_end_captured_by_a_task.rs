//! An end of a channel belongs to the task that holds it: another task cannot capture it.

use bowline::{Cancelled, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let (tx, _rx) = s.watch("level", 1);
        s.spawn("child", async move {
            tx.send(2);
            Ok(())
        });
        Ok(())
    })
    .await
}
