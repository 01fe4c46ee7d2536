//! Not even from a lock that lives for ever, if it was taken with `lock_in`.

use bowline::{Cancelled, Mutex, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    let lock: &'static Mutex<u32> = Box::leak(Box::new(Mutex::new("count", 0)));
    scope("outer", async |s| {
        let mut guard = lock.lock_in(s.cx()).await?;
        s.spawn("child", async move {
            *guard += 1;
            Ok(())
        });
        Ok(())
    })
    .await
}
