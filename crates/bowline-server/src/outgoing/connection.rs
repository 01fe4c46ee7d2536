//! One HTTP/1.1 connection to another server: driven by whoever asks over it, and by nobody while it is idle.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::FetchError;

/// How long an idle connection is believed in, unless the other side says: below the shortest time after which servers that
/// people use close one (2 s). A question that meets such a close is lost, for nobody can tell whether it was read.
const IDLE: Duration = Duration::from_secs(1);

/// How long it is believed in at most, whatever the other side says.
const IDLE_AT_MOST: Duration = Duration::from_secs(10);

/// A connection, and what moves it.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    has_closed: bool,
}

/// An answer, and whether there can be another.
pub(super) struct Answered {
    pub(super) body: Bytes,
    /// How long the connection may lie idle; `None` if it is not to be used again.
    pub(super) idle: Option<Duration>,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Not a byte of the request was sent: here it is again.
    Unsent(Box<Request<Full<Bytes>>>),
    /// Anything else. It may have been read.
    Lost(FetchError),
}

impl Connection {
    pub(super) async fn over<S>(socket: S) -> Result<Self, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = http1::handshake(TokioIo::new(socket)).await.map_err(FetchError::Broken)?;
        Ok(Self { sender, driver: Box::pin(driver), has_closed: false })
    }

    /// Whether the other side has kept it open, as far as is known here.
    pub(super) fn is_open(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.has_closed && self.sender.is_ready()
    }

    /// Sends a request and reads the answer, of at most `max_bytes`.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the connection is to be dropped too: it is somewhere in an answer.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
    ) -> Result<Answered, Failed> {
        let Self { sender, driver, has_closed } = self;
        let answered = {
            let mut answer = pin!(answer(sender, request, max_bytes));
            poll_fn(|cx| {
                // The connection first: what it brings, even with its last breath, is then there to be read.
                *has_closed = *has_closed || driver.as_mut().poll(cx).is_ready();
                answer.as_mut().poll(cx)
            })
            .await
        };
        let (body, time) = answered?;
        Ok(Answered { body, idle: Some(time).filter(|time| !time.is_zero() && self.is_open()) })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        self.has_closed = self.has_closed || matches!(self.driver.as_mut().poll(cx), Poll::Ready(_));
    }
}

async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<(Bytes, Duration), Failed> {
    let response =
        sender.try_send_request(request).await.map_err(|mut failed| match failed.take_message() {
            Some(request) => Failed::Unsent(Box::new(request)),
            None => Failed::Lost(FetchError::Broken(failed.into_error())),
        })?;
    if response.status() != StatusCode::OK {
        return Err(Failed::Lost(FetchError::Status(response.status())));
    }
    let idle = idle_time(response.headers());
    let body = Limited::new(response.into_body(), max_bytes).collect().await;
    body.map(|body| (body.to_bytes(), idle)).map_err(|_| Failed::Lost(FetchError::Body))
}

/// How long the connection may lie idle: a second less than the other side says it does.
fn idle_time(headers: &HeaderMap) -> Duration {
    let timeout = headers.get("keep-alive").and_then(|value| value.to_str().ok()).and_then(|value| {
        let mut parameters = value.split(',').filter_map(|parameter| parameter.trim().split_once('='));
        let (_, seconds) = parameters.find(|(name, _)| name.eq_ignore_ascii_case("timeout"))?;
        seconds.trim().parse().ok()
    });
    timeout.map_or(IDLE, |seconds: u64| {
        Duration::from_secs(seconds).saturating_sub(Duration::from_secs(1)).min(IDLE_AT_MOST)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_believed_in_for_less_than_the_other_side_says() {
        let time = |value: &'static str| {
            idle_time(&HeaderMap::from_iter([("keep-alive".parse().unwrap(), value.parse().unwrap())]))
        };
        assert_eq!(time("timeout=5"), Duration::from_secs(4));
        assert_eq!(time("max=100, Timeout=3"), Duration::from_secs(2));
        assert_eq!(time("timeout=1"), Duration::ZERO);
        assert_eq!(time("timeout=100000"), IDLE_AT_MOST);
        assert_eq!((time("timeout=x"), idle_time(&HeaderMap::new())), (IDLE, IDLE));
    }
}
