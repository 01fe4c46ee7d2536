//! What is spoken over gRPC: the server API, and clients that only listen, each on a listener of its own.
//!
//! ```text
//! accept ─▶ preface ─▶ HTTP/2 (hyper) ─┬─▶ key ─┬─▶ service ─▶ Command ─▶ api ─▶ Answer ─▶ message
//!                                      │        ├─▶ health (no key)
//!                                      │        └─▶ reflection
//!                                      └─▶ uni ─▶ Session ─▶ Outbox ─▶ message, message, …
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `listener`, `face` | the accept loop, and the group that owns the connections; what each listener is to them |
//! | `connection`, `calls` | one connection: HTTP/2, and its calls, all in one task |
//! | `uni` | streams of pushes to clients |
//! | `message` | messages in bodies |
//! | `router` | who may call, and which service is called |
//! | `service` | the calls of the API: messages to commands, answers to messages |
//! | `batch` | many calls in one message, decoded one at a time |
//! | `convert` | one message to one command, one answer to one message |
//! | `reflection` | what there is to call, for tools |
//! | `status` | failures as statuses |
//! | `pb` | the messages, written by `bowline-grpc-codegen` |
//!
//! # Invariants
//!
//! 1. What a call does is done by [`api`](crate::api): nothing is decided here that HTTP callers would find different.
//! 2. Nothing of a message is decoded for a caller without the key.
//! 3. A connection and its calls are one task: when it ends, in whatever way, its calls have ended.
//!
//! # End
//!
//! When the server stops, nothing is accepted any more, every connection is told to open no further stream, calls in hand
//! are answered, and the listener returns when the last connection is gone.

mod batch;
pub(crate) mod calls;
mod connection;
mod convert;
mod face;
mod listener;
pub(crate) mod message;
pub(crate) mod pb;
mod reflection;
mod router;
mod service;
mod status;
#[cfg(test)]
mod tests;
mod uni;

use std::sync::Arc;

use bowline::Cancelled;

pub(crate) use self::listener::Door;
use crate::net::Shared;
use crate::net::places::Places;

/// Serves back ends until the server stops; returns when every connection is gone.
pub(crate) async fn run(door: Door, shared: Shared) -> Result<(), Cancelled> {
    let face = face::ApiFace::new(router::Router::new(&shared));
    listener::run(door, shared, face).await
}

/// Serves clients that only listen, likewise.
pub(crate) async fn run_uni(door: Door, shared: Shared, places: Arc<Places>) -> Result<(), Cancelled> {
    let face = uni::UniFace::new(shared.clone(), places);
    listener::run(door, shared, face).await
}
