//! The real server with a data directory: what it keeps over restarts, kills and a disk that is full.

mod disk;
mod kill;
#[path = "../server/process.rs"]
#[expect(dead_code, reason = "some of it is for the other tests alone")]
mod process;
mod restart;
mod support;
mod sync;
