//! One HTTP request, on a connection of its own.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Gets a page: its status and body.
///
/// # Cancel safety
///
/// Dropped, it closes the connection; the server may have done what was asked.
///
/// # Errors
///
/// What the socket says.
pub async fn get(server: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    request(server, "GET", path, "", b"").await
}

/// Posts JSON with an API key: the answer's status and body.
///
/// # Cancel safety
///
/// As [`get`].
///
/// # Errors
///
/// What the socket says.
pub async fn post(server: SocketAddr, path: &str, key: &str, body: &[u8]) -> io::Result<(u16, String)> {
    let headers = format!("X-API-Key: {key}\r\nContent-Type: application/json\r\n");
    request(server, "POST", path, &headers, body).await
}

async fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(server).await?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {server}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}
