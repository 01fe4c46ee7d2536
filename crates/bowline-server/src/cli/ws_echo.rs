//! `bowline ws-echo`: WebSockets that answer with what they get, for test suites of the WebSocket protocol.
//!
//! They run in the loop of the server's WebSockets, with its decoder and its writer. Only what is done with a message is
//! different, and the limits that such suites are made to pass.

use std::process::ExitCode;

use bowline::Runner;
use clap::Args;

use super::{EXIT_FAILURE, EXIT_USAGE, tell};
use crate::config::{Config, Sources};
use crate::net::Server;

/// Answers each WebSocket message with itself. For test suites; not for use.
#[derive(Debug, Args)]
pub(super) struct WsEchoArgs {
    /// Port to listen on, on this machine only. 0 lets the system choose.
    #[arg(long, default_value_t = 9001)]
    port: u16,
    /// Agrees to permessage-deflate.
    #[arg(long)]
    compression: bool,
}

/// The settings of a server of echoes: no limit but that of a message, which is 16 MiB.
fn config(port: u16, compression: bool) -> Config {
    let overrides = [
        ("http_server.port", port.to_string()),
        ("http_server.internal_port", "0".to_owned()),
        ("http_server.handshakes_per_address", "0".to_owned()),
        ("websocket.handler_prefix", "/echo".to_owned()),
        ("websocket.message_size_limit", (16 * 1024 * 1024).to_string()),
        ("websocket.write_timeout", "60s".to_owned()),
        ("websocket.compression", compression.to_string()),
        ("websocket.compression_min_size", "0".to_owned()),
        ("client.stale_close_delay", "24h".to_owned()),
        ("client.command_rate_limit", "0".to_owned()),
        ("client.byte_rate_limit", "0".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let sources = Sources { overrides: overrides.into(), dev: true, ..Sources::none() };
    Config::load(sources).unwrap_or_else(|error| unreachable!("{error}"))
}

pub(super) fn run(args: &WsEchoArgs) -> ExitCode {
    let config = config(args.port, args.compression);
    let (served, report) = Runner::new("bowline").shutdown_within(config.shutdown.timeout.get()).run(async {
        let server = Server::bind(config, false).await?.echo();
        let _ = super::print(format_args!("ws://{}/echo\n", server.public_address()));
        server.run(bowline::draining()).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    match served {
        Some(Err(error)) if report.is_clean() => {
            tell(format_args!("error: {error}"));
            ExitCode::from(EXIT_FAILURE)
        }
        Some(_) => report.exit_code(),
        None => ExitCode::from(EXIT_USAGE),
    }
}
