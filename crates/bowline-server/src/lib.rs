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
//! | [`net`] | sockets: listeners, HTTP, WebSockets |
//! | [`session`] | one connection's side of the client protocol |
//! | [`node`] | the state of the server: channels, members, connections, counters |
//! | [`api`] | the server API over HTTP |
//! | [`ops`] | health, metrics, the live task tree |
//! | [`token`] | JSON web tokens |
//! | [`top`] | `bowline top`: a running process on the terminal |

pub mod api;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod net;
pub mod node;
pub mod ops;
pub mod session;
pub mod token;
pub mod top;
