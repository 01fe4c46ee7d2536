//! The Bowline messaging server as a library; the binary `bowline` is a thin front of it.
//!
//! A client's message takes this path, one verb per hop:
//! `accept → upgrade → decode → authorise → append → fan out → enqueue → write`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the commands people type |
//! | [`client`], [`mod@bench`] | a small client, and the load tool made of it |
//! | [`config`] | settings: what can be set, where it is read from, what is refused |
//! | `events` | what applications are told without being asked |
//! | [`net`] | sockets: listeners, HTTP, WebSockets |
//! | `proxy` | what an application is asked about its clients (webhooks) |
//! | `scheduled` | what is to be published later |
//! | [`session`] | one connection's side of the client protocol |
//! | [`node`] | the state of the server: channels, members, connections, counters |
//! | [`api`] | the server API: what it does, and its HTTP face |
//! | [`grpc`] | its gRPC face |
//! | [`ops`] | health, metrics, the live task tree |
//! | `store` | where publications are kept: opening the data directory, and the end |
//! | [`token`] | JSON web tokens |
//! | `outgoing` | requests of our own to other servers |
//! | `jitter`, `rate` | what keeps many from doing something together; how often something may happen |
//! | [`top`] | `bowline top`: a running process on the terminal |

pub mod api;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
mod events;
pub mod grpc;
mod jitter;
pub mod net;
pub mod node;
pub mod ops;
mod outgoing;
pub(crate) mod proxy;
mod rate;
pub(crate) mod scheduled;
pub mod session;
mod store;
pub mod token;
pub mod top;
