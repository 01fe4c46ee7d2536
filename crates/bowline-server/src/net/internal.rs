//! What the internal listener answers: health, metrics, pages of what goes on, and the server API.

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

use super::http::text;
use super::{Shared, public};
use crate::api::respond;
use crate::ops::{self, page::Page};

pub(crate) async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Page> {
    let path = request.uri().path();
    if let (&Method::GET, Some(document)) = (request.method(), shared.api.document(path)) {
        return respond(StatusCode::OK, "application/json", document).map(Either::Left);
    }
    if shared.api.serves(path) {
        return public::api(request, shared).await.map(Either::Left);
    }
    ops::handle(&shared.api, request.method(), path, request.uri().query(), request.headers())
        .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "there is nothing here; see /\n").map(Either::Left))
}
