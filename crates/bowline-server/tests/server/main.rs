//! The whole server, on real sockets: in this process, or as the real binary.

mod abuse;
mod churn;
mod load;
mod process;
mod shutdown;
mod support;
