//! The pages as routes of axum.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body as AxumBody, Bytes};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_core::Stream;

use super::{Body, answer};

/// Returns the pages as routes below `/debug/bowline/`, to be merged into a router.
///
/// They answer `GET` and `HEAD`. Nobody is asked who they are: merge them into the router of a listener that is not for the world,
/// or put a layer before them that asks. (Feature `axum`.)
///
/// # Examples
///
/// ```
/// let internal: axum::Router = axum::Router::new().merge(bowline::debug::router());
/// ```
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/debug/bowline", get(page))
        .route("/debug/bowline/", get(page))
        .route("/debug/bowline/{*page}", get(page))
}

async fn page(uri: Uri, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    match answer(uri.path(), uri.query(), accept) {
        None => (StatusCode::NOT_FOUND, "no such page; see /debug/bowline/\n").into_response(),
        Some(answer) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let pieces = Pieces { body: answer.body, has_given_way: false };
            let headers = [(CONTENT_TYPE, answer.content_type), (CACHE_CONTROL, "no-store")];
            (status, headers, AxumBody::from_stream(pieces)).into_response()
        }
    }
}

/// Makes a piece when the one before is on its way, and gives way before each.
struct Pieces {
    body: Body,
    has_given_way: bool,
}

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.has_given_way {
            self.has_given_way = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_given_way = false;
        match self.body.next() {
            None => Poll::Ready(None),
            Some(piece) if piece.is_empty() => self.poll_next(cx),
            Some(piece) => Poll::Ready(Some(Ok(piece.into()))),
        }
    }
}
