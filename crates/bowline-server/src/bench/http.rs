//! Calls of the server API on one kept connection. Little more than the bytes: this measures the server, not a client.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::DEV_API_KEY;

/// Room made before each read.
const READ_BYTES: usize = 16 * 1024;

/// One connection of an application.
#[derive(Debug)]
pub(super) struct Caller {
    stream: TcpStream,
    server: SocketAddr,
    answer: Vec<u8>,
}

impl Caller {
    pub(super) async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, server, answer: Vec::new() })
    }

    /// Calls a method and answers the body of the reply.
    pub(super) async fn call(&mut self, method: &str, body: &str) -> io::Result<&str> {
        self.stream.write_all(request(self.server, method, body).as_bytes()).await?;
        self.answer.clear();
        loop {
            if let Some(body) = whole(&self.answer)? {
                let body = body..self.answer.len();
                return text(&self.answer[body]);
            }
            self.answer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// [`Caller`] on a thread of its own: whose answers are timed must not wait its turn among the load.
#[derive(Debug)]
pub(super) struct BlockingCaller {
    stream: std::net::TcpStream,
    server: SocketAddr,
    answer: Vec<u8>,
}

impl BlockingCaller {
    pub(super) fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, server, answer: Vec::new() })
    }

    pub(super) fn call(&mut self, method: &str, body: &str) -> io::Result<&str> {
        self.stream.write_all(request(self.server, method, body).as_bytes())?;
        self.answer.clear();
        let mut read = [0; READ_BYTES];
        loop {
            if let Some(body) = whole(&self.answer)? {
                let body = body..self.answer.len();
                return text(&self.answer[body]);
            }
            match self.stream.read(&mut read)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.answer.extend_from_slice(&read[..count]),
            }
        }
    }
}

fn request(server: SocketAddr, method: &str, body: &str) -> String {
    format!(
        "POST /api/{method} HTTP/1.1\r\nHost: {server}\r\nX-API-Key: {DEV_API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Where the body of an answer begins, once all of it is there.
fn whole(answer: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = text(&answer[..end])?;
    let refused = || io::Error::other(format!("the server answered {:?}", head.lines().next()));
    if !head.starts_with("HTTP/1.1 200") {
        return Err(refused());
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or_else(refused)?;
    Ok((answer.len() >= end + 4 + length).then_some(end + 4))
}

fn text(bytes: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(whole(&answer[..20]).unwrap(), None);
        assert_eq!(whole(&answer[..answer.len() - 1]).unwrap(), None);
        assert_eq!(whole(answer).unwrap(), Some(answer.len() - 2));
        assert!(whole(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
