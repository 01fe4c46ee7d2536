//! The bytes of a streamed answer: its head, and replies in chunks.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hyper::Version;
use hyper::header::{self, HeaderMap, HeaderValue};

use crate::node::Frame;
use crate::token::unix_now;

/// Replies are put together up to this size. What is written in one go is about as large.
const CHUNK_BYTES: usize = 64 * 1024;

/// How replies stand in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Each is a line.
    Lines,
    /// Each is an event of an `EventSource`.
    Events,
    /// Each says itself how long it is.
    Delimited,
}

impl Format {
    fn mime(self) -> &'static str {
        match self {
            Self::Lines => "application/json",
            Self::Events => "text/event-stream; charset=utf-8",
            Self::Delimited => "application/octet-stream",
        }
    }

    /// What stands before all replies. Some readers begin to work when the first bytes come.
    fn prelude(self) -> &'static [u8] {
        match self {
            Self::Lines | Self::Delimited => b"",
            Self::Events => b"\r\n",
        }
    }

    fn before(self) -> &'static [u8] {
        match self {
            Self::Lines | Self::Delimited => b"",
            Self::Events => b"data: ",
        }
    }

    fn after(self) -> &'static [u8] {
        match self {
            Self::Lines => b"\n",
            Self::Events => b"\n\n",
            Self::Delimited => b"",
        }
    }
}

/// How one answer is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    format: Format,
    /// In HTTP/1.1 the answer comes in chunks, so that its end can be told from a broken line. HTTP/1.0, which some proxies
    /// speak to us, knows only the end of the connection.
    is_chunked: bool,
}

impl Body {
    pub(crate) fn new(format: Format, version: Version) -> Self {
        Self { format, is_chunked: version >= Version::HTTP_11 }
    }

    /// The head of the answer and what stands before the first reply; `headers` are those besides.
    pub(crate) fn head(self, headers: &HeaderMap) -> Bytes {
        let mut all = HeaderMap::with_capacity(16);
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.format.mime()));
        all.insert("x-accel-buffering", HeaderValue::from_static("no"));
        all.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache, no-store, must-revalidate, max-age=0"),
        );
        all.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        all.insert("expire", HeaderValue::from_static("0"));
        all.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // The answer takes the rest of the connection's life.
        all.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_now()));
        if let Ok(date) = HeaderValue::try_from(date) {
            all.insert(header::DATE, date);
        }
        if self.is_chunked {
            all.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        for (name, value) in all.iter().chain(headers) {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        if !self.format.prelude().is_empty() {
            self.begin_chunk(self.format.prelude().len(), &mut head);
            head.extend_from_slice(self.format.prelude());
            self.end_chunk(&mut head);
        }
        head.into()
    }

    /// Takes as many of `frames` as make a chunk; at least one, if there is one.
    pub(crate) fn chunk(self, frames: &mut VecDeque<Frame>) -> Bytes {
        let (before, after) = (self.format.before(), self.format.after());
        let (mut count, mut length) = (0, 0);
        for frame in frames.iter() {
            let reply = before.len() + frame.payload().len() + after.len();
            if count > 0 && length + reply > CHUNK_BYTES {
                break;
            }
            (count, length) = (count + 1, length + reply);
        }
        // Room for the length in hexadecimal and the ends of two lines.
        let mut chunk = Vec::with_capacity(length + 20);
        self.begin_chunk(length, &mut chunk);
        for frame in frames.drain(..count) {
            chunk.extend_from_slice(before);
            chunk.extend_from_slice(&frame.payload());
            chunk.extend_from_slice(after);
        }
        self.end_chunk(&mut chunk);
        chunk.into()
    }

    /// What ends the body.
    pub(crate) fn tail(self) -> &'static [u8] {
        if self.is_chunked { b"0\r\n\r\n" } else { b"" }
    }

    fn begin_chunk(self, length: usize, out: &mut Vec<u8>) {
        if self.is_chunked {
            // Writing into a vector does not fail.
            let _ = write!(out, "{length:x}\r\n");
        }
    }

    fn end_chunk(self, out: &mut Vec<u8>) {
        if self.is_chunked {
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use bowline_protocol::{Payload, Push};

    use super::*;
    use crate::node::Wire;

    fn messages(texts: &[&str]) -> VecDeque<Frame> {
        let frame = |text: &&str| {
            Frame::push(Wire::JSON, &Push::Message { data: Payload::json_string(text) }, 64).unwrap()
        };
        texts.iter().map(frame).collect()
    }

    #[test]
    fn replies_that_are_there_together_leave_in_one_chunk() {
        let mut frames = messages(&["a", "b"]);
        let lines = Body::new(Format::Lines, Version::HTTP_11).chunk(&mut frames);
        let line = |text: &str| format!("{{\"push\":{{\"message\":{{\"data\":\"{text}\"}}}}}}\n");
        let body = line("a") + &line("b");
        assert_eq!(lines, format!("{:x}\r\n{body}\r\n", body.len()));
        assert!(frames.is_empty());

        let mut frames = messages(&["a"]);
        let event = Body::new(Format::Events, Version::HTTP_10).chunk(&mut frames);
        assert_eq!(event, "data: {\"push\":{\"message\":{\"data\":\"a\"}}}\n\n");
    }

    #[test]
    fn a_chunk_is_bounded_but_takes_one_reply_however_long() {
        let long = "x".repeat(40_000);
        let mut frames = messages(&[&long, &long, "short"]);
        let body = Body::new(Format::Lines, Version::HTTP_11);
        body.chunk(&mut frames);
        assert_eq!(frames.len(), 2);
        let mut frames = messages(&[&"x".repeat(100_000), "short"]);
        assert!(body.chunk(&mut frames).len() > 100_000);
        assert_eq!(frames.len(), 1);
    }
}
