//! `main` runs on the runtime's threads: what it holds across an await must be able to move between them.

use std::rc::Rc;

#[bowline::main]
async fn main() {
    let counter = Rc::new(0);
    bowline::draining().await;
    println!("{counter}");
}
