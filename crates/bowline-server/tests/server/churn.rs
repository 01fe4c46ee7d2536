//! Clients that come and vanish, over and over: memory and tasks do not grow.

use std::net::SocketAddr;

use crate::process::Process;
use crate::support::{WEBSOCKET, http};
use bowline::{Cancelled, FailFast, group};
use bowline_server::client::Client;

const CYCLES: usize = 10_000;
const WARM_UP: usize = 1_000;
const LANES: usize = 20;

#[bowline::test(worker_threads = 2, timeout_secs = 300)]
async fn ten_thousand_connect_subscribe_vanish_cycles_leave_memory_and_tasks_as_they_were() {
    let server = Process::serve(&[("log.level", "error")]);
    cycles(server.public, WARM_UP).await;
    settled(server.internal).await;
    let before = server.resident_bytes();
    cycles(server.public, CYCLES - WARM_UP).await;
    settled(server.internal).await;
    let after = server.resident_bytes();
    println!("resident after {WARM_UP} cycles: {before} bytes, after {CYCLES}: {after} bytes");
    // Besides a twentieth what a hundred connections need whose end is noticed late: 9,000 that left a kilobyte would be more.
    assert!(after <= before + before / 20 + (4 << 20), "{before} bytes grew to {after}");
}

/// Connects, subscribes, and vanishes without a word.
async fn cycles(server: SocketAddr, count: usize) {
    let done = group("cycles", FailFast, async |g| {
        for lane in 0..LANES {
            g.spawn("lane", async move {
                for n in (lane..count).step_by(LANES) {
                    let mut client = Client::open(server, WEBSOCKET).await.unwrap();
                    client.call(r#"{"id":1,"connect":{}}"#).await.unwrap();
                    let command = format!(r#"{{"id":2,"subscribe":{{"channel":"churn{}"}}}}"#, n % 100);
                    let reply = client.call(&command).await.unwrap();
                    assert!(reply.contains("subscribe"), "{reply}");
                }
                Ok::<_, Cancelled>(())
            });
        }
    });
    done.await.all_ok().unwrap();
}

/// Waits until the server has noticed that everybody is gone.
async fn settled(internal: SocketAddr) {
    for _ in 0..6000 {
        let (_, metrics) = http(internal, "GET", "/metrics", None, b"").await;
        let clients = metrics.lines().find_map(|line| line.strip_prefix("bowline_connections "));
        if clients.map(str::trim) == Some("0") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("clients that vanished are still there after a minute");
}
