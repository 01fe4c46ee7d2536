//! What `with` lends to its closure cannot leave it, so it cannot be held across an await.

use bowline::{Cancelled, Mutex};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    let lock = Mutex::new("names", String::new());
    let name = lock.with(|name| &mut *name).await?;
    tokio::task::yield_now().await;
    name.push('x');
    Ok(())
}
