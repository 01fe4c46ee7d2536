//! A task cannot borrow the scope it lives in; `handle()` is for that.

use bowline::{Cancelled, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        s.spawn("child", async move {
            s.spawn("grandchild", async { Ok(()) });
            Ok(())
        });
        Ok(())
    })
    .await
}
