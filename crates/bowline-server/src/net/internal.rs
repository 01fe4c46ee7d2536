//! What the internal listener answers: health, metrics, the live task tree, and the server API.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::http::text;
use super::{Shared, public};
use crate::ops;

pub(crate) async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if shared.api.serves(path) {
        return public::api(request, shared).await;
    }
    ops::handle(&shared.api, request.method(), path, request.uri().query())
        .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "there is nothing here; see /\n"))
}
