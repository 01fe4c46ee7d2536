//! The guard of a lock in a shared object, or one taken with `lock_in`, belongs to the task that took it.

use bowline::{Cancelled, Mutex, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let lock = s.cx().share("lock", Mutex::new("count", 0));
        let mut guard = lock.lock().await?;
        s.spawn("child", async move {
            *guard += 1;
            Ok(())
        });
        Ok(())
    })
    .await
}
