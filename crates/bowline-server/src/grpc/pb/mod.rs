//! Messages and services, written by `cargo run -p bowline-grpc-codegen` from `proto/`.

/// The server API.
#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    reason = "generated: the .proto file says what things are"
)]
#[rustfmt::skip]
pub(crate) mod api;

/// What applications are asked, where their endpoint is `grpc://`.
#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    reason = "generated: the .proto file says what things are"
)]
#[rustfmt::skip]
pub(crate) mod proxy;

/// What describes [`api`] to tools that ask.
pub(crate) const API_DESCRIPTORS: &[u8] = include_bytes!("api.bin");
