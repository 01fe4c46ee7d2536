//! The server API as back ends see it: requests in, status and text out, without sockets.

mod batch;
mod gates;
mod malformed;
mod methods;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bowline_protocol::{ClientInfo, Payload, Secret as Session};
use bowline_store::MemoryStore;
use http_body_util::BodyExt;
use hyper::header::HeaderName;
use hyper::{HeaderMap, Method};

use super::{Api, Response};
use crate::config::{ChannelOptions, Config, DataFormat, Namespace, NonZeroDuration, Secret};
use crate::node::channel::Role;
use crate::node::connection::{Connection, Registration};
use crate::node::membership::Membership;
use crate::node::{Node, Outbox};

const KEY: &str = "the-key-of-the-tests";

/// Three namespaces: `kept` has history and presence, `plain` has nothing, `binary` takes any data.
fn config() -> Config {
    let mut config = Config::default();
    config.http_api.key = Secret::new(KEY);
    let kept = ChannelOptions {
        presence: true,
        history_size: NonZeroUsize::new(5),
        history_ttl: NonZeroDuration::new(Duration::from_secs(60)),
        ..ChannelOptions::default()
    };
    let binary = ChannelOptions { publication_data_format: Some(DataFormat::Binary), ..kept.clone() };
    for (name, options) in [("kept", kept), ("plain", ChannelOptions::default()), ("binary", binary)] {
        config.channel.namespaces.push(Namespace { name: name.parse().unwrap(), options });
    }
    config
}

fn api_of(config: Config) -> Api {
    Api::new(Node::new(Arc::new(config), Arc::new(MemoryStore::default())))
}

fn api() -> Api {
    api_of(config())
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

/// The response to a whole request; the body of a refused one is not looked at.
async fn request(api: &Api, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    match api.admit(method, path, None, headers) {
        Ok(call) => call.run(body.to_vec().into()).await,
        Err(refused) => *refused,
    }
}

async fn text_of(response: Response) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Calls with the key; returns status and body.
async fn call(api: &Api, method: &str, body: &str) -> (u16, String) {
    let headers = headers(&[("x-api-key", KEY)]);
    let response = request(api, &Method::POST, &format!("/api/{method}"), &headers, body.as_bytes()).await;
    (response.status().as_u16(), text_of(response).await)
}

/// Calls with the key and wants 200. The epoch of `kept:c`, which is random, stands as `E` on both sides.
async fn ok(api: &Api, method: &str, body: &str) -> String {
    let epoch = api.node().history("kept:c", &Default::default()).unwrap().epoch;
    let (status, text) = call(api, method, &body.replace("\"E\"", &format!("{epoch:?}"))).await;
    assert_eq!(status, 200, "{method} {body}: {text}");
    text.replace(&epoch, "E")
}

/// A connection, and its subscription to `kept:c`.
struct Client {
    outbox: Outbox,
    membership: Membership,
    _registration: Registration,
}

fn connect(api: &Api, user: &str, client: &str) -> Client {
    let info = Arc::new(ClientInfo {
        user: user.to_owned(),
        client: client.to_owned(),
        conn_info: Payload::from_json(format!("{{\"of\":{client:?}}}")).unwrap(),
        chan_info: Payload::EMPTY,
    });
    let outbox = Outbox::new(NonZeroUsize::new(65536).unwrap());
    let session = Session::new(format!("session of {client}"));
    let connection = Connection::new(Arc::clone(&info), session, outbox.clone());
    let registration = Registration::new(api.node(), connection).unwrap();
    registration.connection().held().open();
    let role = Role { is_present: true, ..Role::default() };
    let membership = Membership::begin(api.node(), "kept:c", info, role, Default::default(), &outbox);
    membership.go_live(None, None).unwrap();
    Client { outbox, membership, _registration: registration }
}
