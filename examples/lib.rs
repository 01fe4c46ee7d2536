//! What the example programs share: a listener, an accept that survives errors, the least HTTP client, the `--demo` switch.
//!
//! The programs themselves are in the folders beside this file, each as `bowline.rs` and as `bare_tokio.rs`, with the
//! demonstration that drives both in `demo.rs`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// When a demonstration tells its program to stop: where a real run waits for Ctrl-C.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Returns a [`Stop`] and what triggers it.
#[must_use]
pub fn stop_switch() -> (oneshot::Sender<()>, Stop) {
    let (trigger, triggered) = oneshot::channel();
    (trigger, Box::pin(async move { drop(triggered.await) }))
}

/// Returns whether the program was started with `--demo`: show yourself and end.
#[must_use]
pub fn demo_wanted() -> bool {
    std::env::args().any(|argument| argument == "--demo")
}

/// Listens on `127.0.0.1`; port 0 takes a free one.
///
/// # Errors
///
/// If the port is taken.
pub async fn listen(port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Returns the port of the environment variable `PORT`, or the usual one of this program.
#[must_use]
pub fn port_or(usual: u16) -> u16 {
    std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(usual)
}

/// Accepts the next connection. When the process is out of descriptors it waits for some to be closed.
pub async fn accept(listener: &TcpListener) -> TcpStream {
    const WHEN_OUT_OF_DESCRIPTORS: Duration = Duration::from_secs(1);
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return socket,
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(WHEN_OUT_OF_DESCRIPTORS).await;
            }
        }
    }
}

/// One HTTP/1.1 request on a connection of its own; returns the status and the body.
///
/// # Errors
///
/// If the server cannot be reached, hangs up, or does not speak HTTP.
pub async fn request(
    method: &'static str,
    to: SocketAddr,
    path: &'static str,
    body: String,
) -> io::Result<(u16, String)> {
    let mut socket = TcpStream::connect(to).await?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all((head + &body).as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer")),
    }
}
