//! `bowline bench`: how much the server holds and how fast it delivers, measured from outside.
//!
//! A server is started as a child process of the same binary, with settings of its own, and stopped afterwards. Load and server share the machine, so absolute figures are lower than with a machine each.

mod child;
mod connect;
mod directory;
mod fanout;
mod http;
mod publish;
mod recover;

pub use child::{BenchError, ServerUnderTest};
pub use connect::{ConnectReport, connect};
pub use fanout::{FanoutReport, fanout};
pub use publish::{Kept, PublishLoad, PublishReport, publish};
pub use recover::{RecoverLoad, RecoverReport, recover};
