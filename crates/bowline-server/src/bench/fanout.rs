//! How many messages a second reach the subscribers of one channel.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline::{Either, race, scope};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::child::{BenchError, ServerUnderTest};
use crate::client::Client;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct FanoutReport {
    /// Subscribers of the channel.
    pub subscribers: usize,
    /// Publications.
    pub messages: usize,
    /// Bytes of each publication's data.
    pub payload_bytes: usize,
    /// Publications that may be under way at once.
    pub outstanding: usize,
    /// Messages that reached a subscriber, per second.
    pub deliveries_per_second: f64,
}

/// Publishes `messages` to `subscribers` subscribers and counts what arrives, with at most `outstanding` publications not
/// yet received by everybody.
///
/// # Errors
///
/// [`BenchError`] if the server does not start or a connection fails.
pub async fn fanout(
    subscribers: usize,
    messages: usize,
    payload_bytes: usize,
    outstanding: usize,
) -> Result<FanoutReport, BenchError> {
    let server = ServerUnderTest::start(subscribers + 1)?;
    let mut sockets = Vec::with_capacity(subscribers);
    for _ in 0..subscribers {
        let mut client = Client::open(server.address, "/connection/websocket").await?;
        client.call(r#"{"id":1,"connect":{}}"#).await?;
        client.call(r#"{"id":2,"subscribe":{"channel":"fanout"}}"#).await?;
        sockets.push(client.into_socket());
    }
    let mut publisher = Client::open(server.address, "/connection/websocket").await?;
    publisher.call(r#"{"id":1,"connect":{}}"#).await?;

    let progress =
        Arc::new(Progress { frames: AtomicU64::new(0), step: subscribers as u64, moved: Notify::new() });
    let data = "x".repeat(payload_bytes.saturating_sub(2));
    let command =
        move |id: usize| format!(r#"{{"id":{id},"publish":{{"channel":"fanout","data":"{data}"}}}}"#);
    let took = scope("fanout", async |s| {
        for (stream, read) in sockets {
            let progress = Arc::clone(&progress);
            s.spawn("subscriber", async move {
                let mut frames = Frames { skip: 0, header: read.to_vec() };
                frames.count(&[]);
                match count_frames(stream, &mut frames, &progress, messages as u64).await {
                    Ok(()) => Ok(()),
                    Err(error) => Err(BenchError::Io(error)),
                }
            });
        }
        let began = Instant::now();
        for number in 0..messages {
            let needed = (number + 1).saturating_sub(outstanding) as u64 * subscribers as u64;
            received(&progress, needed, &mut publisher).await?;
            publisher.send(&command(number + 2)).await?;
            if number % outstanding.max(1) == 0 {
                while let Ok(reply) = timeout(Duration::ZERO, publisher.next_text()).await {
                    accepted(&reply?)?;
                }
            }
        }
        received(&progress, messages as u64 * subscribers as u64, &mut publisher).await?;
        Ok::<_, BenchError>(began.elapsed())
    })
    .await?;
    let deliveries = (messages * subscribers) as f64;
    Ok(FanoutReport {
        subscribers,
        messages,
        payload_bytes,
        outstanding,
        deliveries_per_second: deliveries / took.as_secs_f64(),
    })
}

/// Waits until so many frames have been received. A publisher that is cut off or refused ends the wait: nothing more would come.
async fn received(progress: &Progress, frames: u64, publisher: &mut Client) -> io::Result<()> {
    loop {
        match race(progress.reach(frames), publisher.next_text()).await {
            Either::Left(()) => return Ok(()),
            Either::Right(reply) => accepted(&reply?)?,
        }
    }
}

/// Whether no publication was refused.
fn accepted(replies: &str) -> io::Result<()> {
    if replies.contains(r#""error":"#) {
        Err(io::Error::other(format!("refused: {replies}")))
    } else {
        Ok(())
    }
}

/// Frames received by all subscribers together.
struct Progress {
    frames: AtomicU64,
    step: u64,
    moved: Notify,
}

impl Progress {
    fn add(&self, frames: u64) {
        let before = self.frames.fetch_add(frames, Ordering::Relaxed);
        if before / self.step != (before + frames) / self.step {
            self.moved.notify_one();
        }
    }

    async fn reach(&self, frames: u64) {
        while self.frames.load(Ordering::Relaxed) < frames {
            self.moved.notified().await;
        }
    }
}

/// Reads and counts until `wanted` frames have come. Nothing is decoded: this measures the server, not the client.
async fn count_frames(
    stream: TcpStream,
    frames: &mut Frames,
    progress: &Progress,
    wanted: u64,
) -> io::Result<()> {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 128 * 1024]);
    }
    let mut seen = 0;
    while seen < wanted {
        stream.readable().await?;
        let counted = BUFFER.with_borrow_mut(|buffer| match stream.try_read(buffer) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")),
            Ok(read) => Ok(frames.count(&buffer[..read])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        })?;
        seen += counted;
        progress.add(counted);
    }
    Ok(())
}

/// Counts unmasked frames in a stream by their headers.
struct Frames {
    /// Payload bytes still to come of the frame in hand.
    skip: usize,
    /// A header that is not complete yet.
    header: Vec<u8>,
}

impl Frames {
    fn count(&mut self, bytes: &[u8]) -> u64 {
        if self.header.is_empty() {
            return self.count_whole(bytes);
        }
        let joined = [std::mem::take(&mut self.header).as_slice(), bytes].concat();
        self.count_whole(&joined)
    }

    fn count_whole(&mut self, mut bytes: &[u8]) -> u64 {
        let mut frames = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if self.skip > 0 || bytes.is_empty() {
                return frames;
            }
            let (header, payload) = match bytes {
                [_, short @ 0..=125, ..] => (2, usize::from(*short)),
                [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
                [_, 127, _, _, _, _, a, b, c, d, ..] => (10, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
                _ => {
                    self.header = bytes.to_vec();
                    return frames;
                }
            };
            // Pings are frames too; two bytes of payload tell them from publications.
            frames += u64::from(payload > 2);
            self.skip = payload;
            bytes = &bytes[header..];
        }
    }
}
