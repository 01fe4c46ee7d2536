//! The page of `bowline.rs` on bare tokio, as it is written with care: futures of one task, each under the same time-out.
//!
//! For calls that are nothing but their future this is right, and hard to beat: what is dropped is gone. It holds no
//! further than that. The calls share one thread at a time; one that panics takes the page with it; and as soon as a call
//! spawns (a connection's driver, a second attempt beside the first) the deadline must be handed to it, and whoever forgets
//! leaves it running after the page is sent.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "this is the bare form")]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bowline_examples::{demo_wanted, listen, port_or, request};
use futures_util::future::join_all;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

mod demo;

use demo::{OpenCall, Servers, Upstream};

/// What the user waits for at most.
const PAGE_DEADLINE: Duration = Duration::from_secs(1);
/// From the signal to the end, whatever happens.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let stopping = cancelled_by_signal()?;
    let (servers, upstreams) = Servers::bind().await?;
    let (listener, address) = listen(port_or(3002)).await?;
    println!("try: curl http://{address}/page    (one of three upstreams never answers; Ctrl-C ends)");
    let app = Router::new().route("/page", get(show)).with_state(upstreams);
    let serve = axum::serve(listener, app).with_graceful_shutdown(stopping.clone().cancelled_owned());
    let too_late = async {
        stopping.cancelled().await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        ended = serve => Ok(ended?),
        broken = servers.run() => match broken? {},
        () = too_late => bail!("the shutdown took too long"),
    }
}

/// A token that SIGINT and SIGTERM cancel. The handlers must be there before anybody is told to press Ctrl-C.
fn cancelled_by_signal() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}

async fn show(State(upstreams): State<[Upstream; 3]>) -> String {
    match page(upstreams, PAGE_DEADLINE).await {
        Ok(parts) => parts.iter().map(|(name, text)| format!("{name}: {text}\n")).collect(),
        Err(error) => format!("no page: {error}\n"),
    }
}

/// Asks all upstreams at once; returns within `within`, in the order of `upstreams`, with each part or why it is missing.
async fn page(upstreams: [Upstream; 3], within: Duration) -> Result<Vec<(&'static str, String)>> {
    let deadline = Instant::now() + within;
    let calls = upstreams.map(async |upstream| match timeout_at(deadline, call(upstream.address)).await {
        Ok(Ok(text)) => (upstream.name, text),
        Ok(Err(error)) => (upstream.name, format!("failed: {error}")),
        Err(_) => (upstream.name, "missing: deadline exceeded".to_owned()),
    });
    Ok(join_all(calls).await)
}

async fn call(upstream: SocketAddr) -> Result<String> {
    let _open = OpenCall::begin();
    let (status, body) = request("GET", upstream, "/", String::new()).await?;
    ensure!(status == 200, "status {status}");
    Ok(body)
}
