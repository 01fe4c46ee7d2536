//! The whole server, on real sockets: in this process, or as the real binary.

mod abuse;
mod access;
mod autobahn;
mod churn;
mod compatibility;
mod compression;
mod debug;
mod events;
mod grpc;
mod handshake;
#[cfg(feature = "incidents")]
mod incidents;
mod jwks;
mod limits;
mod load;
mod phases;
mod process;
mod scheduling;
mod security;
mod shutdown;
mod store;
mod support;
mod terminal;
mod tls;
mod top;
mod transports;
mod unidirectional;
mod waiting;
mod webhooks;
