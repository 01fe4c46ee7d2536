//! `bowline serve`: the life of the process on one page.
//!
//! Settings → bind → say where things are → serve until told to stop → drain → say how it ended.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bowline::Runner;
use clap::Args;

use super::EXIT_USAGE;
use crate::config::{Config, DEV_API_KEY, Loaded, Sources, process_env};
use crate::net::Server;

/// Runs the server until SIGINT or SIGTERM.
///
/// Exit codes: 0 after a clean end, 1 if the server failed, 2 if the settings are wrong, 3 if the end had to be forced.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Settings file: TOML, JSON or YAML by its extension. `bowline config defaults` prints one.
    #[arg(long, value_name = "FILE", env = "BOWLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Opens everything to anonymous clients on this machine, with a demo page.
    #[arg(long, env = "BOWLINE_DEV")]
    pub dev: bool,
    /// Sets one setting, over the file and the environment; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as http_server.port=9000".to_owned()),
    }
}

pub(super) fn run(args: ServeArgs) -> ExitCode {
    let dev = args.dev;
    let sources = Sources { file: args.config, env: process_env(), overrides: args.set, dev };
    let Loaded { config, notes } = match Config::load_with_notes(sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    start_log(&config);
    for note in notes {
        tracing::warn!("{note}");
    }
    let runner = Runner::new("bowline").shutdown_within(config.shutdown.timeout.get());
    let (served, report) = runner.run(serve(config, dev));
    match served {
        // A server that could not start has nothing to report but why.
        Some(Err(error)) if report.is_clean() => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        _ => {
            eprintln!("{report}");
            report.exit_code()
        }
    }
}

async fn serve(config: Config, dev: bool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let server = Server::bind(config, dev).await?;
    announce(&server, dev);
    server.run(bowline::draining()).await?;
    Ok(())
}

/// Says where things are, and what to try. Nobody need be listening: a closed standard output is no error.
fn announce(server: &Server, dev: bool) {
    let _ = write_announcement(&mut io::stdout().lock(), server, dev);
}

fn write_announcement(out: &mut impl Write, server: &Server, dev: bool) -> io::Result<()> {
    let (public, internal) = (server.public_address(), server.internal_address());
    let config = server.node().config();
    let (websocket, api) = (&*config.websocket.handler_prefix, &*config.http_api.handler_prefix);
    writeln!(out, "bowline {} is ready", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  clients      ws://{public}{websocket}")?;
    writeln!(out, "  server API   http://{public}{api}")?;
    writeln!(out, "  task tree    http://{internal}/debug/bowline/tasks")?;
    writeln!(out, "  metrics      http://{internal}/metrics")?;
    if dev {
        writeln!(out, "  demo page    http://{public}/")?;
        writeln!(out)?;
        writeln!(out, "Everything is open to this machine (--dev). Publish to the page's channel:")?;
        writeln!(out, "  curl -H 'X-API-Key: {DEV_API_KEY}' http://{public}{api}/publish \\")?;
        writeln!(
            out,
            "    -d '{{\"channel\": \"lobby\", \"data\": {{\"nick\": \"curl\", \"text\": \"hello\"}}}}'"
        )?;
    }
    out.flush()
}

fn start_log(config: &Config) {
    let filter = std::env::var("BOWLINE_LOG").unwrap_or_else(|_| config.log.level.as_str().to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        eprintln!("BOWLINE_LOG: {error}; logging at level info");
        tracing_subscriber::EnvFilter::new("info")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
