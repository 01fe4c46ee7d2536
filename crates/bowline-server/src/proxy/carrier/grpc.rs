//! Over gRPC: service `CentrifugoProxy`, one unary call for each kind of event.
//!
//! The messages say what the JSON says, under numbers instead of names; from the answer on both are the same.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_protocol::Payload;
use bytes::Bytes;
use hyper::header::HeaderMap;
use prost::Message;
use serde::de::IgnoredAny;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::{HookEndpoint, ProxyOptions};
use crate::grpc::pb::proxy as pb;
use crate::outgoing::grpc::{Channel, Target};
use crate::outgoing::{FetchError, Outgoing};
use crate::proxy::about::About;
use crate::proxy::answer::{Answer, End, Wrong};
use crate::proxy::connect::{self, AnswerSubscription, Connect};
use crate::proxy::event::{Event, Form};
use crate::proxy::publish::{self, Publish};
use crate::proxy::refresh::{self, Refresh, SubRefresh};
use crate::proxy::rpc::{self, Rpc};
use crate::proxy::subscribe::{self, Flag, RawOverrides, Subscribe};

/// An event as it is asked over gRPC.
pub(in crate::proxy) trait GrpcEvent: Event {
    /// What is called.
    const PATH: &'static str;

    /// Writes the question.
    fn question(&self, form: Form, about: &About) -> Bytes;

    /// Reads the answer.
    fn answer(message: &[u8]) -> Result<Answer<Self::Answer>, FetchError>;
}

/// The way to one application.
pub(in crate::proxy) struct Grpc {
    endpoint: HookEndpoint,
    options: ProxyOptions,
    channel: Channel,
}

impl Grpc {
    pub(super) fn new(endpoint: HookEndpoint, options: &ProxyOptions, outgoing: &Outgoing) -> Self {
        let target = target(&endpoint, options, outgoing);
        Self { endpoint, options: options.clone(), channel: Channel::new(target) }
    }

    /// The connection, for somebody to keep.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) fn write(&self, about: &About, event: &impl GrpcEvent) -> (HeaderMap, Bytes) {
        let Self { options, .. } = self;
        let form = Form { is_binary: options.binary_encoding, has_meta: options.include_connection_meta };
        let mut headers: HeaderMap = options.grpc.static_metadata.iter().cloned().collect();
        if let (Some(key), Some(value)) = (&options.grpc.credentials_key, &options.grpc.credentials_value)
            && let Ok(mut value) = hyper::header::HeaderValue::from_str(value.expose())
        {
            value.set_sensitive(true);
            headers.insert(key.name().clone(), value);
        }
        let told = about.headers.as_ref().map(|headers| headers.for_application(options));
        headers.extend(told.unwrap_or_default());
        (headers, event.question(form, about))
    }

    pub(super) async fn send<E: GrpcEvent>(
        &self,
        headers: &HeaderMap,
        question: Bytes,
    ) -> Result<Answer<E::Answer>, FetchError> {
        let max_bytes = self.options.max_response_size.get();
        E::answer(&self.channel.unary(E::PATH, headers, question, max_bytes).await?)
    }
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grpc").field(&self.endpoint).finish()
    }
}

fn target(endpoint: &HookEndpoint, options: &ProxyOptions, outgoing: &Outgoing) -> Target {
    let endpoint = endpoint.get();
    let (tls, host) = (&options.grpc.tls, endpoint.host().to_owned());
    let tls = tls.enabled.then(|| {
        let read = |file: &crate::config::FilePath| fs::read(file.get()).map_err(|_| "it cannot be read");
        let inline = tls.server_ca_pem.as_ref().map(|pem| Ok(pem.expose().as_bytes().to_vec()));
        let authorities = inline.or_else(|| tls.server_ca_pem_file.as_ref().map(read)).transpose();
        let connector = authorities.and_then(|pem| outgoing.http2(pem.as_deref()));
        let connector = connector.unwrap_or_else(|error| {
            tracing::error!(%endpoint, error, "the certificates of `grpc.tls` are of no use: nobody is trusted");
            outgoing.trusting_nobody()
        });
        let name = tls.server_name.clone().unwrap_or_else(|| host.clone());
        // A name that is none is that of nobody either.
        let nobody = || ServerName::try_from("invalid").unwrap_or_else(|_| unreachable!("it is a name"));
        (connector, ServerName::try_from(name).unwrap_or_else(|_| nobody()))
    });
    Target { host, port: endpoint.port(), authority: endpoint.authority().to_owned(), tls }
}

/// What most questions say, with the data as the application wants it.
struct Common {
    client: String,
    transport: String,
    protocol: String,
    encoding: String,
    user: String,
    meta: Bytes,
    data: Bytes,
    b64data: String,
}

fn common(form: Form, about: &About, data: Option<&Payload>) -> Common {
    let data = data.map_or(&[][..], Payload::as_bytes);
    let (data, b64data) = match form.is_binary {
        false => (Bytes::copy_from_slice(data), String::new()),
        true => (Bytes::new(), BASE64_STANDARD.encode(data)),
    };
    let meta = if form.has_meta { about.meta.as_bytes() } else { &[] };
    Common {
        client: about.client.clone(),
        transport: about.transport.to_owned(),
        protocol: about.protocol.to_owned(),
        encoding: form.encoding().to_owned(),
        user: about.user.clone(),
        meta: Bytes::copy_from_slice(meta),
        data,
        b64data,
    }
}

/// A payload that was not checked yet.
fn payload(bytes: Vec<u8>) -> Payload {
    Payload::opaque(bytes)
}

/// What other questions repeat, which is JSON or nothing.
fn meta(bytes: Vec<u8>) -> Result<Payload, FetchError> {
    match bytes.is_empty() {
        true => Ok(Payload::EMPTY),
        false => Payload::from_json(bytes).map_err(|_| FetchError::Unfit("`meta` is not JSON")),
    }
}

/// Seconds since 1970; none for never.
fn seconds(expire_at: i64) -> Result<Option<u64>, FetchError> {
    let seconds = u64::try_from(expire_at).map_err(|_| FetchError::Unfit("`expire_at` is before 1970"))?;
    Ok(Some(seconds).filter(|seconds| *seconds > 0))
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn ignored(is_there: bool) -> Option<IgnoredAny> {
    is_there.then_some(IgnoredAny)
}

fn overrides(overrides: pb::SubscribeOptionOverride) -> RawOverrides {
    let flag = |flag: Option<pb::BoolValue>| flag.map(|flag| Flag { value: flag.value });
    RawOverrides {
        presence: flag(overrides.presence),
        join_leave: flag(overrides.join_leave),
        force_push_join_leave: flag(overrides.force_push_join_leave),
        force_positioning: flag(overrides.force_positioning),
        force_recovery: flag(overrides.force_recovery),
    }
}

fn decoded<R: Message + Default>(message: &[u8]) -> Result<R, FetchError> {
    R::decode(message).map_err(|_| FetchError::Unfit("its message cannot be decoded"))
}

/// Puts the three parts of a response together.
fn answer<P, R>(
    result: Option<P>,
    error: Option<pb::Error>,
    disconnect: Option<pb::Disconnect>,
    read: impl FnOnce(P) -> Result<R, FetchError>,
) -> Result<Answer<R>, FetchError> {
    let wrong = |pb::Error { code, message, temporary }| Wrong { code, message, temporary };
    let end = |pb::Disconnect { code, reason }| End { code, reason };
    Ok(Answer {
        result: result.map(read).transpose()?,
        error: error.map(wrong),
        disconnect: disconnect.map(end),
    })
}

impl GrpcEvent for Connect {
    const PATH: &'static str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/Connect";

    fn question(&self, form: Form, about: &About) -> Bytes {
        let fields = self.fields();
        let Common { client, transport, protocol, encoding, data, b64data, .. } =
            common(form, about, fields.data);
        let question = pb::ConnectRequest {
            client,
            transport,
            protocol,
            encoding,
            data: data.into(),
            b64data,
            name: fields.name.to_owned(),
            version: fields.version.to_owned(),
            channels: fields.channels.to_vec(),
        };
        question.encode_to_vec().into()
    }

    fn answer(message: &[u8]) -> Result<Answer<connect::Answer>, FetchError> {
        let pb::ConnectResponse { result, error, disconnect } = decoded(message)?;
        answer(result, error, disconnect, |said| {
            let sub = |(name, options): (String, pb::SubscribeOptions)| {
                let given = AnswerSubscription {
                    expire_at: seconds(options.expire_at)?,
                    info: payload(options.info),
                    b64info: some(options.b64info),
                    data: payload(options.data),
                    b64data: some(options.b64data),
                    overrides: options.r#override.map(overrides),
                    server_tags_filter: ignored(!options.server_tags_filter.is_empty()),
                };
                Ok((name, Some(given)))
            };
            Ok(connect::Answer {
                user: some(said.user),
                expire_at: seconds(said.expire_at)?,
                info: payload(said.info),
                b64info: some(said.b64info),
                data: payload(said.data),
                b64data: some(said.b64data),
                channels: Some(said.channels),
                subs: Some(said.subs.into_iter().map(sub).collect::<Result<BTreeMap<_, _>, _>>()?),
                meta: meta(said.meta)?,
            })
        })
    }
}

impl GrpcEvent for Refresh {
    const PATH: &'static str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/Refresh";

    fn question(&self, form: Form, about: &About) -> Bytes {
        let Common { client, transport, protocol, encoding, user, meta, .. } = common(form, about, None);
        let question = pb::RefreshRequest { client, transport, protocol, encoding, user, meta: meta.into() };
        question.encode_to_vec().into()
    }

    fn answer(message: &[u8]) -> Result<Answer<refresh::Answer>, FetchError> {
        let pb::RefreshResponse { result, error, disconnect } = decoded(message)?;
        answer(result, error, disconnect, |said| {
            Ok(refresh::Answer {
                expired: Some(said.expired),
                expire_at: seconds(said.expire_at)?,
                info: payload(said.info),
                b64info: some(said.b64info),
                meta: meta(said.meta)?,
            })
        })
    }
}

impl GrpcEvent for SubRefresh {
    const PATH: &'static str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubRefresh";

    fn question(&self, form: Form, about: &About) -> Bytes {
        let Common { client, transport, protocol, encoding, user, meta, .. } = common(form, about, None);
        let channel = self.fields().channel.unwrap_or_default().to_owned();
        let question =
            pb::SubRefreshRequest { client, transport, protocol, encoding, user, channel, meta: meta.into() };
        question.encode_to_vec().into()
    }

    fn answer(message: &[u8]) -> Result<Answer<refresh::Answer>, FetchError> {
        let pb::SubRefreshResponse { result, error, disconnect } = decoded(message)?;
        answer(result, error, disconnect, |said| {
            Ok(refresh::Answer {
                expired: Some(said.expired),
                expire_at: seconds(said.expire_at)?,
                info: payload(said.info),
                b64info: some(said.b64info),
                meta: Payload::EMPTY,
            })
        })
    }
}

impl GrpcEvent for Subscribe {
    const PATH: &'static str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/Subscribe";

    fn question(&self, form: Form, about: &About) -> Bytes {
        let fields = self.fields();
        let Common { client, transport, protocol, encoding, user, meta, data, b64data } =
            common(form, about, fields.data);
        let question = pb::SubscribeRequest {
            client,
            transport,
            protocol,
            encoding,
            user,
            channel: fields.channel.unwrap_or_default().to_owned(),
            // Who brings a token is not asked about.
            token: String::new(),
            meta: meta.into(),
            data: data.into(),
            b64data,
        };
        question.encode_to_vec().into()
    }

    fn answer(message: &[u8]) -> Result<Answer<subscribe::Answer>, FetchError> {
        let pb::SubscribeResponse { result, error, disconnect } = decoded(message)?;
        answer(result, error, disconnect, |said| {
            Ok(subscribe::Answer {
                expire_at: seconds(said.expire_at)?,
                info: payload(said.info),
                b64info: some(said.b64info),
                data: payload(said.data),
                b64data: some(said.b64data),
                overrides: said.r#override.map(overrides),
                allow: ignored(!said.allow.is_empty()),
                server_tags_filter: ignored(!said.server_tags_filter.is_empty()),
            })
        })
    }
}

impl GrpcEvent for Publish {
    const PATH: &'static str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/Publish";

    fn question(&self, form: Form, about: &About) -> Bytes {
        let fields = self.fields();
        let Common { client, transport, protocol, encoding, user, meta, data, b64data } =
            common(form, about, fields.data);
        let question = pb::PublishRequest {
            client,
            transport,
            protocol,
            encoding,
            user,
            channel: fields.channel.unwrap_or_default().to_owned(),
            data: data.into(),
            b64data,
            meta: meta.into(),
        };
        question.encode_to_vec().into()
    }

    fn answer(message: &[u8]) -> Result<Answer<publish::Answer>, FetchError> {
        let pb::PublishResponse { result, error, disconnect } = decoded(message)?;
        answer(result, error, disconnect, |said| {
            Ok(publish::Answer {
                data: payload(said.data),
                b64data: some(said.b64data),
                skip_history: Some(said.skip_history),
                tags: Some(said.tags),
                idempotency_key: Some(said.idempotency_key),
                delta: Some(said.delta),
                version: Some(said.version),
                version_epoch: Some(said.version_epoch),
            })
        })
    }
}

impl GrpcEvent for Rpc {
    const PATH: &'static str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/RPC";

    fn question(&self, form: Form, about: &About) -> Bytes {
        let fields = self.fields();
        let Common { client, transport, protocol, encoding, user, meta, data, b64data } =
            common(form, about, fields.data);
        let question = pb::RpcRequest {
            client,
            transport,
            protocol,
            encoding,
            user,
            method: fields.method.unwrap_or_default().to_owned(),
            data: data.into(),
            b64data,
            meta: meta.into(),
        };
        question.encode_to_vec().into()
    }

    fn answer(message: &[u8]) -> Result<Answer<rpc::Answer>, FetchError> {
        let pb::RpcResponse { result, error, disconnect } = decoded(message)?;
        answer(result, error, disconnect, |said| {
            Ok(rpc::Answer { data: payload(said.data), b64data: some(said.b64data) })
        })
    }
}

#[cfg(test)]
mod tests;
