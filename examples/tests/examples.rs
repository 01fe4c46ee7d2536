//! Every example demonstrates itself and leaves no task behind, and every program ends in order at Ctrl-C.
//!
//! The demonstrations are the tests in each `demo.rs`; they run here once with each form of the program.
#![allow(
    clippy::duplicate_mod,
    reason = "each demonstration is wanted twice, once with each form of its program"
)]
#![allow(
    clippy::disallowed_macros,
    reason = "of the bare forms; clippy looks for it at the root of a crate only"
)]

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bowline::timeout;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

macro_rules! programs {
    ($($path:literal as $name:ident;)*) => {$(
        #[path = $path]
        #[expect(dead_code, reason = "here only the demonstration runs; `main` and what it needs are the program's")]
        mod $name;
    )*};
}

programs! {
    "../axum_queue/bowline.rs" as axum_queue;
    "../axum_queue/bare_tokio.rs" as axum_queue_bare;
    "../websocket_pumps/bowline.rs" as websocket_pumps;
    "../websocket_pumps/bare_tokio.rs" as websocket_pumps_bare;
    "../queue_consumer/bowline.rs" as queue_consumer;
    "../queue_consumer/bare_tokio.rs" as queue_consumer_bare;
    "../three_calls/bowline.rs" as three_calls;
    "../three_calls/bare_tokio.rs" as three_calls_bare;
    "../worker_pool/bowline.rs" as worker_pool;
    "../worker_pool/bare_tokio.rs" as worker_pool_bare;
    "../nightly/bowline.rs" as nightly;
    "../nightly/bare_tokio.rs" as nightly_bare;
    "../price_feed/bowline.rs" as price_feed;
    "../thumbnails/bowline.rs" as thumbnails;
    "../nats_consumer/bowline.rs" as nats_consumer;
}

/// Starts the program, waits until it says what to try, interrupts it, and expects it to end by itself.
async fn ends_at_ctrl_c(name: &str) -> Result<()> {
    const TIME_TO_END: Duration = Duration::from_secs(30);
    // Cargo builds examples beside the tests' folder; a run of this test alone (`--test examples`) does not.
    let deps = std::env::current_exe()?;
    let program =
        deps.ancestors().nth(2).context("a test lies in target/PROFILE/deps")?.join("examples").join(name);
    ensure!(
        program.exists(),
        "no {program:?}: run `cargo test -p bowline-examples`, which builds the examples"
    );
    let mut child = Command::new(&program)
        .env("PORT", "0")
        .current_dir(std::env::temp_dir())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let hint = lines.next_line().await?.context("it says what to try")?;
    assert!(hint.contains("try"), "{hint}");
    let pid = child.id().context("it runs")?;
    let sent = Command::new("kill").args(["-INT", &pid.to_string()]).status().await?;
    ensure!(sent.success(), "kill: {sent}");
    let status = timeout(TIME_TO_END, child.wait()).await??;
    assert!(status.success(), "{name}: {status}");
    Ok(())
}

macro_rules! end_at_ctrl_c {
    ($($test:ident: $program:literal;)*) => {$(
        #[bowline::test]
        async fn $test() -> Result<()> {
            ends_at_ctrl_c($program).await
        }
    )*};
}

end_at_ctrl_c! {
    axum_queue_ends_at_ctrl_c: "axum_queue";
    axum_queue_bare_ends_at_ctrl_c: "axum_queue_bare";
    websocket_pumps_ends_at_ctrl_c: "websocket_pumps";
    websocket_pumps_bare_ends_at_ctrl_c: "websocket_pumps_bare";
    queue_consumer_ends_at_ctrl_c: "queue_consumer";
    queue_consumer_bare_ends_at_ctrl_c: "queue_consumer_bare";
    three_calls_ends_at_ctrl_c: "three_calls";
    three_calls_bare_ends_at_ctrl_c: "three_calls_bare";
    worker_pool_ends_at_ctrl_c: "worker_pool";
    worker_pool_bare_ends_at_ctrl_c: "worker_pool_bare";
    nightly_ends_at_ctrl_c: "nightly";
    nightly_bare_ends_at_ctrl_c: "nightly_bare";
    price_feed_ends_at_ctrl_c: "price_feed";
}
