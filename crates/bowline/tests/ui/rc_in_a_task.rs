//! A task may move to another thread at any await.

use std::rc::Rc;

use bowline::{Cancelled, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let words = Rc::new("bowline");
        s.spawn("child", async move {
            tokio::task::yield_now().await;
            println!("{words}");
            Ok(())
        });
        Ok(())
    })
    .await
}
