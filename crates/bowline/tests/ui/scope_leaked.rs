//! A scope cannot be kept beyond its body.

use bowline::{Cancelled, Scope, scope};

#[bowline::main]
async fn main() -> Result<(), Cancelled> {
    let mut kept = None;
    scope("outer", async |s: &Scope<Cancelled>| {
        kept = Some(s);
        Ok(())
    })
    .await?;
    kept.map(Scope::close);
    Ok(())
}
