//! The whole server, on real sockets: in this process, or as the real binary.

mod abuse;
mod churn;
mod debug;
mod handshake;
mod limits;
mod load;
mod phases;
mod process;
mod shutdown;
mod support;
mod terminal;
mod top;
