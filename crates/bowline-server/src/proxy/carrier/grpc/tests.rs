//! What is asked and answered, field by field; and an application over sockets, plain and encrypted.

#![allow(clippy::large_futures, reason = "client and application in one task, for the length of one test")]

use std::future::Future;
use std::sync::{Arc, Mutex};

use bowline::{Cancelled, Either, Scope, race, scope};
use bowline_protocol::{ConnectRequest, PublishRequest, RpcRequest, SubscribeRequest};
use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;
use crate::config::{Config, Sources};
use crate::proxy::{Proxies, Refused};

fn about() -> About {
    About {
        client: "c".to_owned(),
        user: "42".to_owned(),
        transport: "uni_grpc",
        protocol: "protobuf",
        meta: Payload::from_json("{\"m\":1}").unwrap(),
        headers: None,
    }
}

const PLAIN: Form = Form { is_binary: false, has_meta: false };
const BINARY: Form = Form { is_binary: true, has_meta: true };

fn data() -> Payload {
    Payload::opaque(&b"\xff1"[..])
}

#[test]
fn a_question_says_what_it_would_say_in_json() {
    let subs = [("news".to_owned(), SubscribeRequest::default())].into();
    let request = ConnectRequest {
        data: data(),
        name: "js".into(),
        version: "5".into(),
        subs,
        ..ConnectRequest::default()
    };
    let asked = pb::ConnectRequest::decode(Connect::new(&request).question(PLAIN, &about())).unwrap();
    assert_eq!((&*asked.client, &*asked.transport), ("c", "uni_grpc"));
    assert_eq!((&*asked.protocol, &*asked.encoding), ("protobuf", "json"));
    assert_eq!((&asked.data[..], &*asked.name, &*asked.version), (&b"\xff1"[..], "js", "5"));
    assert_eq!((asked.b64data, asked.channels), (String::new(), vec!["news".to_owned()]));

    let request = SubscribeRequest { channel: "news".into(), data: data(), ..SubscribeRequest::default() };
    let asked = pb::SubscribeRequest::decode(Subscribe::new(&request).question(BINARY, &about())).unwrap();
    assert_eq!((&*asked.user, &*asked.channel, &*asked.encoding), ("42", "news", "binary"));
    assert_eq!((&asked.data[..], &*asked.b64data, &asked.meta[..]), (&b""[..], "/zE=", &b"{\"m\":1}"[..]));

    let request = PublishRequest { channel: "news".into(), data: data(), ..PublishRequest::default() };
    let asked = pb::PublishRequest::decode(Publish::new(&request).question(PLAIN, &about())).unwrap();
    assert_eq!((&*asked.user, &*asked.channel, &asked.data[..]), ("42", "news", &b"\xff1"[..]));
    assert_eq!(asked.meta, b"", "nobody asked for it");

    let call = Rpc { method: "sum".into(), data: data() };
    let asked = pb::RpcRequest::decode(call.question(PLAIN, &about())).unwrap();
    assert_eq!((&*asked.user, &*asked.method, &asked.data[..]), ("42", "sum", &b"\xff1"[..]));

    let asked = pb::RefreshRequest::decode(Refresh.question(BINARY, &about())).unwrap();
    assert_eq!((&*asked.user, &asked.meta[..]), ("42", &b"{\"m\":1}"[..]));
    let asked = pb::SubRefreshRequest::decode(SubRefresh::new("news").question(BINARY, &about())).unwrap();
    assert_eq!((&*asked.user, &*asked.channel, &asked.meta[..]), ("42", "news", &b"{\"m\":1}"[..]));
}

#[test]
fn an_answer_is_read_as_it_would_be_from_json() {
    let flag = |value| Some(pb::BoolValue { value });
    let options = pb::SubscribeOptions {
        data: b"{}".to_vec(),
        r#override: Some(pb::SubscribeOptionOverride {
            presence: flag(true),
            force_recovery: flag(false),
            ..pb::SubscribeOptionOverride::default()
        }),
        ..pb::SubscribeOptions::default()
    };
    let result = pb::ConnectResult {
        user: "42".into(),
        expire_at: 7,
        info: b"{}".to_vec(),
        b64data: "/zE=".into(),
        channels: vec!["a".into()],
        subs: [("b".to_owned(), options)].into(),
        meta: b"[1]".to_vec(),
        ..pb::ConnectResult::default()
    };
    let said = pb::ConnectResponse { result: Some(result), error: None, disconnect: None };
    let said = Connect::answer(&said.encode_to_vec()).unwrap().result.unwrap();
    assert_eq!(
        (said.user.as_deref(), said.expire_at, said.b64data.as_deref()),
        (Some("42"), Some(7), Some("/zE="))
    );
    assert_eq!((said.info.as_bytes(), said.meta.as_bytes()), (&b"{}"[..], &b"[1]"[..]));
    assert_eq!(said.channels.unwrap(), ["a"]);
    let sub = said.subs.unwrap().remove("b").unwrap().unwrap();
    let overrides = sub.overrides.unwrap();
    assert!(overrides.presence.unwrap().value && !overrides.force_recovery.unwrap().value);
    assert!(overrides.join_leave.is_none() && sub.server_tags_filter.is_none());

    let result = pb::PublishResult {
        data: b"2".to_vec(),
        skip_history: true,
        tags: [("a".to_owned(), "b".to_owned())].into(),
        version: 9,
        ..pb::PublishResult::default()
    };
    let said = pb::PublishResponse { result: Some(result), error: None, disconnect: None };
    let said = Publish::answer(&said.encode_to_vec()).unwrap().result.unwrap();
    assert_eq!((said.data.as_bytes(), said.skip_history, said.version), (&b"2"[..], Some(true), Some(9)));
    assert_eq!(said.tags.unwrap()["a"], "b");

    let expired = pb::RefreshResult { expired: true, ..pb::RefreshResult::default() };
    let said = pb::RefreshResponse { result: Some(expired), error: None, disconnect: None };
    assert_eq!(Refresh::answer(&said.encode_to_vec()).unwrap().result.unwrap().expired, Some(true));

    let error = pb::Error { code: 1000, message: "no".into(), temporary: true };
    let said = pb::SubscribeResponse { result: None, error: Some(error), disconnect: None };
    let said = Subscribe::answer(&said.encode_to_vec()).unwrap();
    assert!(said.result.is_none() && said.error.unwrap().temporary);
}

#[test]
fn what_is_not_known_here_is_refused_and_not_misread() {
    let limited = pb::SubscribeResult { allow: vec!["pub".into()], ..pb::SubscribeResult::default() };
    let said = pb::SubscribeResponse { result: Some(limited), error: None, disconnect: None };
    assert!(Subscribe::answer(&said.encode_to_vec()).unwrap().result.unwrap().allow.is_some());
    let past = pb::RefreshResult { expire_at: -1, ..pb::RefreshResult::default() };
    let said = pb::RefreshResponse { result: Some(past), error: None, disconnect: None };
    assert!(Refresh::answer(&said.encode_to_vec()).is_err());
    let broken = pb::RefreshResult { meta: b"{".to_vec(), ..pb::RefreshResult::default() };
    let said = pb::RefreshResponse { result: Some(broken), error: None, disconnect: None };
    assert!(Refresh::answer(&said.encode_to_vec()).is_err());
    assert!(Rpc::answer(b"\xff").is_err());
}

/// What the application was asked: the path, the metadata, the message.
type Asked = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// An application that answers every call with `response` and the status OK.
async fn application(socket: impl AsyncRead + AsyncWrite + Unpin, response: Vec<u8>, asked: Asked) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(response.len()).unwrap());
    framed.extend_from_slice(&response);
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        let mut message = BytesMut::new();
        let read = async {
            while let Some(Ok(data)) = body.data().await {
                message.extend_from_slice(&data);
            }
        };
        // The connection has to go on for the body to come.
        let _ = race(read, connection.accept()).await;
        asked.lock().unwrap().push((head.uri.path().to_owned(), head.headers, message.freeze().slice(5..)));
        let mut send = respond.send_response(hyper::Response::new(()), false).unwrap();
        send.send_data(framed.clone().freeze(), false).unwrap();
        let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        send.send_trailers(status).unwrap();
    }
}

fn config(port: u16, grpc: &str) -> Config {
    let proxies =
        format!(r#"[{{"name":"app","endpoint":"grpc://127.0.0.1:{port}","timeout":"10s","grpc":{grpc}}}]"#);
    let rpc = r#"[{"name":"app","proxy_enabled":true,"proxy_name":"app"}]"#.to_owned();
    let env = [("BOWLINE_PROXIES".to_owned(), proxies), ("BOWLINE_RPC_NAMESPACES".to_owned(), rpc)];
    Config::load(Sources::of_env(env.into_iter())).unwrap_or_else(|error| panic!("{error}"))
}

/// Asks what `app:sum` of 1 is.
async fn ask(config: &Config) -> Result<Payload, Refused> {
    let proxies = Proxies::new(config);
    let request = RpcRequest { method: "app:sum".to_owned(), data: Payload::from_json("1").unwrap() };
    let question = proxies.rpc(&config.rpc.namespaces[0].options, about, &request).unwrap();
    let mut answered = None;
    scope("test", async |s: &Scope<Cancelled>| {
        for channel in proxies.channels() {
            s.spawn_daemon("gRPC to an application", channel.clone().keep());
        }
        answered = Some(question.ask().await);
        Ok(())
    })
    .await
    .unwrap();
    answered.unwrap()
}

/// What asking comes to while `application` runs.
async fn while_running<T>(application: impl Future<Output = T>, config: &Config) -> Result<Payload, Refused> {
    let driving = async {
        application.await;
        std::future::pending::<()>().await;
    };
    match race(ask(config), driving).await {
        Either::Left(answered) => answered,
        Either::Right(()) => unreachable!(),
    }
}

fn three() -> Vec<u8> {
    let result = pb::RpcResult { data: b"3".to_vec(), ..pb::RpcResult::default() };
    pb::RpcResponse { result: Some(result), error: None, disconnect: None }.encode_to_vec()
}

#[bowline::test]
async fn an_application_over_grpc_is_told_who_asks_and_its_answer_goes_to_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let metadata = r#"{"static_metadata":{"x-node":"n"},"credentials_key":"authorization","credentials_value":"hunter2"}"#;
    let (config, asked) = (config(port, metadata), Asked::default());
    let serve = async { application(listener.accept().await.unwrap().0, three(), Arc::clone(&asked)).await };
    assert_eq!(while_running(serve, &config).await.unwrap().as_bytes(), b"3");
    let asked = asked.lock().unwrap();
    let [(path, headers, message)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(path, "/centrifugal.centrifugo.proxy.CentrifugoProxy/RPC");
    assert!(headers["x-node"] == "n" && headers["authorization"] == "hunter2", "{headers:?}");
    assert!(headers.contains_key("grpc-timeout"), "{headers:?}");
    let message = pb::RpcRequest::decode(message.clone()).unwrap();
    assert_eq!((&*message.method, &message.data[..]), ("app:sum", &b"1"[..]));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[bowline::test]
async fn errors_and_disconnects_of_an_application_are_its_own() {
    let error = pb::Error { code: 1000, message: "no".into(), temporary: false };
    let ours = pb::Error { code: 102, ..error.clone() };
    let end = pb::Disconnect { code: 4501, reason: "bye".into() };
    let response = |error, disconnect| pb::RpcResponse { result: None, error, disconnect }.encode_to_vec();
    for (response, code) in [
        (response(Some(error), None), 1000),
        (response(Some(ours), None), 100),
        (response(None, Some(end)), 4501),
        (b"\xff".to_vec(), 100),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config(listener.local_addr().unwrap().port(), "{}");
        let serve =
            async { application(listener.accept().await.unwrap().0, response, Asked::default()).await };
        let answered: u32 = match while_running(serve, &config).await.unwrap_err() {
            Refused::Error(error) => error.code,
            Refused::Disconnect(reason) => reason.code.into(),
        };
        assert_eq!(answered, code);
    }
}

/// The certificate of 127.0.0.1, as the tests of `outgoing` have it.
const CERTIFICATE: &[u8] = include_bytes!("../../../outgoing/certificate.der");

fn acceptor() -> TlsAcceptor {
    let key = include_bytes!("../../../outgoing/private.der").to_vec();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(CERTIFICATE)], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[bowline::test]
async fn an_encrypted_application_has_to_be_who_the_settings_say() {
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\\n{}\\n-----END CERTIFICATE-----\\n",
        BASE64_STANDARD.encode(CERTIFICATE)
    );
    for (tls, is_trusted) in [
        (format!(r#"{{"enabled":true,"server_ca_pem":"{pem}"}}"#), true),
        (format!(r#"{{"enabled":true,"server_ca_pem":"{pem}","server_name":"app.example"}}"#), false),
        (r#"{"enabled":true}"#.to_owned(), false),
        (r#"{"enabled":false}"#.to_owned(), false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config(listener.local_addr().unwrap().port(), &format!(r#"{{"tls":{tls}}}"#));
        let serve = async {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                if let Ok(socket) = acceptor().accept(socket).await {
                    application(socket, three(), Asked::default()).await;
                }
            }
        };
        assert_eq!(while_running(serve, &config).await.is_ok(), is_trusted, "{tls}");
    }
}

#[test]
fn an_endpoint_of_grpc_is_a_host_and_a_port() {
    let is_fit = |text: &str| text.parse::<HookEndpoint>().is_ok();
    assert!(is_fit("grpc://app:3001") && is_fit("grpc://[::1]:3001") && is_fit("grpc://app:3001/"));
    for text in
        ["grpc://app", "grpc://app:3001/path", "grpc://169.254.169.254:80", "grpc://a@app:1", "grpc://"]
    {
        assert!(!is_fit(text), "{text}");
    }
    let endpoint: HookEndpoint = "grpc://app:3001".parse().unwrap();
    assert!(endpoint.is_grpc() && endpoint.get().to_string().starts_with("grpc://app:3001"));
}
