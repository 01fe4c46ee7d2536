//! A task may run on when its scope's body has returned: it cannot borrow from there.

use bowline::{Cancelled, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    scope("outer", async |s| {
        let words = vec!["bowline"];
        s.spawn("child", async {
            println!("{}", words.len());
            Ok(())
        });
        Ok(())
    })
    .await
}
