//! How much memory an idle connection with one subscription holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowline::{FailFast, group};
use serde::Serialize;
use tokio::time::Instant;

use super::child::{BenchError, ServerUnderTest};
use crate::client::Client;

/// How many handshakes are in flight at once.
const IN_FLIGHT: usize = 64;

/// Connections made before the first look at the memory, so that what is allocated once is not charged to them.
const WARM_UP: usize = 200;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectReport {
    /// Idle connections, each with one subscription.
    pub connections: usize,
    /// Resident bytes of the server per connection.
    pub resident_bytes_per_connection: u64,
    /// Connections opened, authenticated and subscribed per second.
    pub connects_per_second: f64,
}

/// Opens `connections` connections, each with one subscription in one of `channels` channels, and looks at the server's
/// memory when all are idle. `progress` is called with the number of open ones.
///
/// # Errors
///
/// [`BenchError`] if the server does not start or a connection fails.
pub async fn connect(
    connections: usize,
    channels: usize,
    progress: impl Fn(usize),
) -> Result<ConnectReport, BenchError> {
    let server = ServerUnderTest::start(connections + WARM_UP)?;
    let open = Arc::new(AtomicUsize::new(0));
    let mut kept = open_many(&server, WARM_UP, channels, &open).await?;
    let before = server.resident_bytes()?;
    let began = Instant::now();
    let mut left = connections;
    while left > 0 {
        let batch = left.min(1000);
        kept.extend(open_many(&server, batch, channels, &open).await?);
        left -= batch;
        progress(open.load(Ordering::Relaxed) - WARM_UP);
    }
    let took = began.elapsed();
    let after = server.resident_bytes()?;
    drop(kept);
    Ok(ConnectReport {
        connections,
        resident_bytes_per_connection: after.saturating_sub(before) / connections.max(1) as u64,
        connects_per_second: connections as f64 / took.as_secs_f64(),
    })
}

async fn open_many(
    server: &ServerUnderTest,
    count: usize,
    channels: usize,
    open: &Arc<AtomicUsize>,
) -> Result<Vec<Client>, BenchError> {
    let address = server.address;
    let opened = group("clients", FailFast, async |g| {
        for lane in 0..IN_FLIGHT.min(count) {
            let open = Arc::clone(open);
            g.spawn("client", async move {
                let mut clients = Vec::new();
                for number in (lane..count).step_by(IN_FLIGHT) {
                    let mut client = Client::open(address, "/connection/websocket").await?;
                    client.call(r#"{"id":1,"connect":{}}"#).await?;
                    let channel = number % channels.max(1);
                    client.call(&format!(r#"{{"id":2,"subscribe":{{"channel":"bench{channel}"}}}}"#)).await?;
                    open.fetch_add(1, Ordering::Relaxed);
                    clients.push(client);
                }
                Ok::<_, BenchError>(clients)
            });
        }
    });
    Ok(opened.await.all_ok()?.into_iter().flatten().collect())
}
