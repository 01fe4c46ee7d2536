//! A page made of three upstream calls under one deadline: what is there at the deadline is shown, the rest says why not.
//!
//! Shown: the calls run in parallel as tasks of the page; at the deadline each is dropped at the I/O it waits for, and the
//! page is returned when all are gone.
//!
//! What the bare form lacks: the deadline is said once, here, and holds for everything below: for calls of calls, for tasks
//! they spawn, for scopes inside. A call that panics is a part that is missing, not a page that is.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bowline::{CollectAll, Slot, draining, group, scope, timeout};
use bowline_examples::{demo_wanted, listen, port_or, request};

mod demo;

use demo::{OpenCall, Servers, Upstream};

/// What the user waits for at most.
const PAGE_DEADLINE: Duration = Duration::from_secs(1);

#[bowline::main(name = "three_calls", shutdown_within = "10s")]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let (servers, upstreams) = Servers::bind().await?;
    let (listener, address) = listen(port_or(3002)).await?;
    println!("try: curl http://{address}/page    (one of three upstreams never answers; Ctrl-C ends)");
    let app = Router::new().route("/page", get(show)).with_state(upstreams);
    scope("program", async |s| {
        s.spawn_daemon("upstreams", async move { Ok(servers.run().await?) });
        Ok(axum::serve(listener, app).with_graceful_shutdown(draining()).await?)
    })
    .await
}

async fn show(State(upstreams): State<[Upstream; 3]>) -> String {
    match page(upstreams, PAGE_DEADLINE).await {
        Ok(parts) => parts.iter().map(|(name, text)| format!("{name}: {text}\n")).collect(),
        Err(error) => format!("no page: {error}\n"),
    }
}

/// Asks all upstreams at once; returns within `within`, in the order of `upstreams`, with each part or why it is missing.
async fn page(upstreams: [Upstream; 3], within: Duration) -> Result<Vec<(&'static str, String)>> {
    let calls = group("page", CollectAll, async |g| {
        for upstream in upstreams {
            g.spawn(upstream.name, call(upstream.address));
        }
    });
    let parts = timeout(within, calls).await?.into_slots().into_iter().map(|(name, slot)| match slot {
        Slot::Ok(text) => (name, text),
        Slot::Failed(error) => (name, format!("failed: {error}")),
        Slot::Cancelled(why) => (name, format!("missing: {}", why.cause())),
        Slot::Panicked(panic) => (name, format!("failed: {panic}")),
        Slot::Unreleased => (name, "missing: the program has ended".to_owned()),
    });
    Ok(parts.collect())
}

async fn call(upstream: SocketAddr) -> Result<String> {
    let _open = OpenCall::begin();
    let (status, body) = request("GET", upstream, "/", String::new()).await?;
    ensure!(status == 200, "status {status}");
    Ok(body)
}
