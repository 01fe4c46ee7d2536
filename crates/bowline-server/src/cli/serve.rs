//! `bowline serve`: the life of the process on one page.
//!
//! Settings → bind → say where things are → serve until told to stop → drain → say how it ended.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bowline::{Alert, Runner};
use clap::Args;

use super::{EXIT_FAILURE, EXIT_USAGE, tell};
use crate::config::{Config, DEV_API_KEY, Loaded, Sources, process_env};
use crate::net::Server;
use crate::ops::process;

/// Runs the server until SIGINT or SIGTERM; a second one ends it at once.
///
/// The log goes to standard error, at the level of `log.level`; BOWLINE_LOG overrides it, by module where wanted, as in
/// BOWLINE_LOG=info,bowline_server::net=debug.
///
/// What the server watches itself with can be changed too: BOWLINE_DEADLOCKS=cancel cancels what is proved dead,
/// BOWLINE_TIME_POLLS=on measures every task's busy time, BOWLINE_DETECTOR=off and BOWLINE_WATCHDOG=off look no more.
///
/// Exit codes: 0 after a clean end, 1 if the server failed, 2 if the settings are wrong, 3 if the end had to be forced.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Settings file: TOML, JSON or YAML by its extension.
    ///
    /// `bowline config defaults` prints one with every setting.
    #[arg(long, value_name = "FILE", env = "BOWLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Opens everything to anonymous clients on this machine, with a demo page.
    #[arg(long, env = "BOWLINE_DEV", value_parser = switch)]
    pub dev: bool,
    /// Sets one setting, over the file and the environment; may be repeated.
    ///
    /// Do not give keys and other secrets this way: every user of the machine can read arguments.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// Reads a switch from the environment. Empty is off, and what is neither on nor off is an error: this one opens doors.
fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected 1 or 0, true or false, yes or no, on or off".to_owned()),
    }
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
            tell(format_args!("error: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    start_log(&config);
    for note in notes {
        tracing::warn!("{note}");
    }
    if let Some((was, is)) = process::raise_max_fds() {
        tracing::debug!(was, is, "raised the soft limit of open files to the hard one");
    }
    let runner = Runner::new("bowline").shutdown_within(config.shutdown.timeout.get());
    let (served, report) = runner.run(serve(config, dev));
    match served {
        // It has not begun: how it ended is of no interest.
        Some(Err(error)) if report.is_clean() => {
            tell(format_args!("error: {error}"));
            ExitCode::from(EXIT_FAILURE)
        }
        _ => {
            tell(&report);
            report.exit_code()
        }
    }
}

async fn serve(config: Config, dev: bool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    bowline::on_alert(log_alert).forever();
    let server = Server::bind(config, dev).await?;
    announce(&server, dev);
    server.run(bowline::draining()).await?;
    Ok(())
}

/// Alerts stand in the log among everything else, by fields that can be searched for.
fn log_alert(alert: &Alert) {
    let Alert { kind, name, place, text, left_out, for_ms, .. } = alert;
    if alert.raised {
        tracing::warn!(target: "bowline::alert", %kind, %name, %place, left_out, "{text}");
    } else {
        tracing::info!(target: "bowline::alert", %kind, %name, %place, for_ms, "over: {text}");
    }
}

/// Says where things are, and what to try. Nobody need be listening: a closed standard output is no error.
fn announce(server: &Server, dev: bool) {
    let _ = write_announcement(&mut io::stdout().lock(), server, dev);
}

fn write_announcement(out: &mut impl Write, server: &Server, dev: bool) -> io::Result<()> {
    let (public, internal) = (server.public_address(), server.internal_address());
    let config = server.node().config();
    let http = scheme("http", config.http_server.tls.enabled);
    let operations = scheme("http", config.http_server.internal_tls.enabled);
    let (websocket, api) = (&*config.websocket.handler_prefix, &*config.http_api.handler_prefix);
    writeln!(out, "bowline {} is ready", env!("CARGO_PKG_VERSION"))?;
    if !config.websocket.disabled {
        writeln!(
            out,
            "  clients      {}://{public}{websocket}",
            scheme("ws", config.http_server.tls.enabled)
        )?;
    }
    if config.uni_websocket.enabled {
        writeln!(out, "  listeners    ws://{public}{}", &*config.uni_websocket.handler_prefix)?;
    }
    let streams = [
        ("HTTP stream", &config.http_stream),
        ("SSE", &config.sse),
        ("uni stream", &config.uni_http_stream),
        ("uni SSE", &config.uni_sse),
    ];
    for (name, stream) in streams {
        if stream.enabled {
            writeln!(out, "  {name:<12} {http}://{public}{}", &*stream.handler_prefix)?;
        }
    }
    writeln!(out, "  server API   {http}://{public}{api}")?;
    if let Some(grpc) = server.grpc_address() {
        writeln!(out, "  gRPC API     {grpc}")?;
    }
    if let Some(uni) = server.uni_grpc_address() {
        writeln!(out, "  gRPC streams {uni}")?;
    }
    writeln!(out, "  task tree    {operations}://{internal}/debug/bowline/tree")?;
    writeln!(out, "  metrics      {operations}://{internal}/metrics")?;
    match server.node().data() {
        Some(data) => writeln!(out, "  data         {}", data.path.display())?,
        None => {
            writeln!(out, "  data         in memory alone; `store.path` names a directory that keeps it")?
        }
    }
    if let Some(max) = server.max_connections() {
        writeln!(out, "  connections  {max} at most, by the limit of open files (ulimit -n)")?;
    }
    if dev {
        writeln!(out, "  demo page    {http}://{public}/")?;
        writeln!(out)?;
        writeln!(out, "Everything is open to this machine (--dev). Publish to the page's channel:")?;
        writeln!(out, "  curl -H 'X-API-Key: {DEV_API_KEY}' {http}://{public}{api}/publish \\")?;
        writeln!(
            out,
            "    -d '{{\"channel\": \"lobby\", \"data\": {{\"nick\": \"curl\", \"text\": \"hello\"}}}}'"
        )?;
    }
    if let (Some(max), Some(limit)) = (server.max_connections(), config.client.connection_limit)
        && limit.get() > max
    {
        writeln!(
            out,
            "  note         client.connection_limit is {limit}: raise the limit of open files too"
        )?;
    }
    for missing in missing(config) {
        writeln!(out, "  note         {missing}")?;
    }
    out.flush()
}

/// The scheme of an address, such as `http`, as it is written if the listener encrypts.
fn scheme(plain: &'static str, is_encrypted: bool) -> &'static str {
    match (plain, is_encrypted) {
        ("ws", true) => "wss",
        (_, true) => "https",
        (_, false) => plain,
    }
}

/// Says who is shut out because nothing was set that lets them in.
fn missing(config: &Config) -> impl Iterator<Item = &'static str> {
    let (client, api, grpc) = (&config.client, &config.http_api, &config.grpc_api);
    let has_clients =
        client.insecure || client.allow_anonymous_connect_without_token || client.token.has_key();
    [
        (has_clients, "no client can connect: set BOWLINE_CLIENT_TOKEN_HMAC_SECRET_KEY, or try --dev"),
        (!client.allowed_origins.is_empty(), "no browser can connect: set client.allowed_origins"),
        (
            api.insecure || api.keys().next().is_some(),
            "the server API refuses every call: set BOWLINE_HTTP_API_KEY",
        ),
        (
            !grpc.enabled || grpc.insecure || grpc.keys().next().is_some(),
            "the gRPC API refuses every call: set BOWLINE_GRPC_API_KEY",
        ),
    ]
    .into_iter()
    .filter_map(|(is_set, what)| (!is_set).then_some(what))
}

fn start_log(config: &Config) {
    let filter = std::env::var("BOWLINE_LOG").unwrap_or_else(|_| config.log.level.as_str().to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        tell(format_args!("BOWLINE_LOG: {error}; logging at level info"));
        tracing_subscriber::EnvFilter::new("info")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn who_is_shut_out_by_default_is_told_how_to_get_in() {
        assert_eq!(missing(&Config::default()).count(), 3);
        assert_eq!(missing(&Config::dev()).count(), 0);
    }

    /// The lines of a log.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[bowline::test]
    async fn an_alert_is_a_line_of_the_log_and_so_is_its_end() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _log = tracing::subscriber::set_default(log);
        let _hook = bowline::on_alert(log_alert);
        let breaker = bowline::Breaker::new("upstream");
        while bowline::alerts().is_empty() {
            breaker.admit().unwrap().failed(bowline::Class::Timeout);
        }
        drop(breaker);
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let [raised, over] = &lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
        assert!(raised.contains("WARN bowline::alert: ") && raised.contains("name=upstream"), "{raised}");
        assert!(raised.contains("kind=breaker open") && raised.contains("serve.rs:"), "{raised}");
        assert!(over.contains("INFO bowline::alert: over: ") && over.contains("for_ms="), "{over}");
    }

    #[test]
    fn a_switch_in_the_environment_is_on_off_or_an_error() {
        assert_eq!((switch("1"), switch("TRUE"), switch("on")), (Ok(true), Ok(true), Ok(true)));
        assert_eq!((switch(""), switch("0"), switch("No")), (Ok(false), Ok(false), Ok(false)));
        assert!(switch("please").is_err());
    }
}
