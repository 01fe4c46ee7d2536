//! Calls and connections as they stand on the wire, without sockets.

use std::sync::Arc;
use std::time::Duration;

use bowline::{Either, race};
use bowline_store::MemoryStore;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection;
use super::face::ApiFace;
use super::pb::api as pb;
use super::router::Router;
use crate::api::Api;
use crate::config::{Config, Secret};
use crate::net::Shared;
use crate::node::Node;

const KEY: &str = "the-key-of-the-tests";

struct Server {
    router: Router,
    _running: watch::Sender<bool>,
}

fn server(change: impl FnOnce(&mut Config)) -> Server {
    let (shared, running) = shared(change);
    Server { router: Router::new(&shared), _running: running }
}

fn shared(change: impl FnOnce(&mut Config)) -> (Shared, watch::Sender<bool>) {
    let mut config = Config::default();
    config.grpc_api.key = Secret::new(KEY);
    config.channel.without_namespace.presence = true;
    change(&mut config);
    let node = Node::new(Arc::new(config), Arc::new(MemoryStore::default()));
    let api = Arc::new(Api::new(Arc::clone(&node)));
    let (running, stopping) = watch::channel(false);
    let (sessions, turns) = (Arc::default(), Arc::default());
    (Shared { node, api, sessions, turns, stopping, page: None, is_echo: false }, running)
}

/// What a call came to: its status, and its message if there is one.
async fn call(server: &Server, path: &str, headers: &[(&'static str, &str)], message: &[u8]) -> (i32, Bytes) {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.extend_from_slice(message);
    let mut request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = server.router.answer(request.body(Full::new(body.freeze())).unwrap()).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_else(HeaderMap::new);
    let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status")).unwrap();
    let bytes = body.to_bytes();
    let message = if bytes.is_empty() { Bytes::new() } else { bytes.slice(5..) };
    (status.to_str().unwrap().parse().unwrap(), message)
}

const API: &str = "/centrifugal.centrifugo.api.CentrifugoApi/";
const AUTHORIZED: (&str, &str) = ("authorization", "apikey the-key-of-the-tests");

async fn publish(
    server: &Server,
    headers: &[(&'static str, &str)],
    channel: &str,
) -> (i32, pb::PublishResponse) {
    let request = pb::PublishRequest {
        channel: channel.to_owned(),
        data: b"{}".to_vec(),
        ..pb::PublishRequest::default()
    };
    let (status, message) = call(server, &format!("{API}Publish"), headers, &request.encode_to_vec()).await;
    (status, pb::PublishResponse::decode(message).unwrap())
}

#[tokio::test]
async fn a_call_without_the_key_is_refused_before_it_is_decoded() {
    let server = server(|_| ());
    for headers in [&[][..], &[("authorization", "apikey other")], &[("authorization", "bearer x")]] {
        assert_eq!(
            call(&server, &format!("{API}Publish"), headers, b"not a message").await.0,
            16,
            "{headers:?}"
        );
    }
    assert_eq!(call(&server, &format!("{API}Publish"), &[AUTHORIZED], b"not a message").await.0, 13);
}

#[tokio::test]
async fn without_a_configured_key_calls_need_the_insecure_setting() {
    assert_eq!(publish(&server(|config| config.grpc_api.key = None), &[], "c").await.0, 16);
    let open = server(|config| (config.grpc_api.key, config.grpc_api.insecure) = (None, true));
    assert_eq!(publish(&open, &[], "c").await.0, 0);
}

#[tokio::test]
async fn a_failure_stands_in_the_response_or_is_a_status() {
    let server = server(|_| ());
    let (status, response) = publish(&server, &[AUTHORIZED], "none:c").await;
    assert_eq!((status, response.error.unwrap().code), (0, 102));
    let transport = [AUTHORIZED, ("x-centrifugo-error-mode", "transport")];
    assert_eq!(publish(&server, &transport, "none:c").await.0, 5);
    assert_eq!(publish(&server, &transport, "").await.0, 3);
}

#[tokio::test]
async fn a_batch_answers_each_command_in_order_and_bounds_them() {
    let server = server(|_| ());
    let publish = |channel: &str| pb::Command {
        publish: Some(pb::PublishRequest {
            channel: channel.to_owned(),
            data: b"{}".to_vec(),
            ..pb::PublishRequest::default()
        }),
        ..pb::Command::default()
    };
    let presence = pb::Command {
        presence_stats: Some(pb::PresenceStatsRequest { channel: "c".to_owned() }),
        ..pb::Command::default()
    };
    let both = pb::Command { presence_stats: presence.presence_stats.clone(), ..publish("c") };
    let commands = [publish("c"), publish("none:c"), presence, pb::Command::default(), both];
    let mut message = Vec::new();
    for command in &commands {
        prost::encoding::message::encode(1, command, &mut message);
    }
    let path = format!("{API}Batch");
    let (status, answer) = call(&server, &path, &[AUTHORIZED], &message).await;
    assert_eq!(status, 0);
    let replies = pb::BatchResponse::decode(answer).unwrap().replies;
    let codes: Vec<_> = replies.iter().map(|reply| reply.error.as_ref().map(|error| error.code)).collect();
    assert_eq!(codes, [None, Some(102), None, Some(104), Some(107)]);
    assert!(replies[0].publish.is_some() && replies[2].presence_stats.is_some());

    let many = [0x0a, 0].repeat(10_001);
    assert_eq!(call(&server, &path, &[AUTHORIZED], &many).await.0, 3);
    let broken = [0x0a, 1, 0x22];
    assert_eq!(call(&server, &path, &[AUTHORIZED], &broken).await.0, 3);
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented_and_health_needs_no_key() {
    let server = server(|_| ());
    for path in [format!("{API}SendPushNotification"), "/none/None".to_owned(), "/".to_owned()] {
        assert_eq!(call(&server, &path, &[AUTHORIZED], b"").await.0, 12, "{path}");
    }
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(call(&server, reflection, &[AUTHORIZED], b"").await.0, 12, "switched off");
    let (status, serving) = call(&server, "/grpc.health.v1.Health/Check", &[], b"").await;
    assert_eq!((status, &serving[..]), (0, &[8, 1][..]));
}

#[tokio::test]
async fn reflection_tells_what_there_is_to_call() {
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1alpha::{ServerReflectionRequest, ServerReflectionResponse};

    let server = server(|config| config.grpc_api.reflection = true);
    let path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    for (asked, is_found) in [
        (MessageRequest::FileContainingSymbol("centrifugal.centrifugo.api.CentrifugoApi".to_owned()), true),
        (MessageRequest::FileContainingSymbol("centrifugal.centrifugo.api.Reply".to_owned()), true),
        (MessageRequest::FileByFilename("api.proto".to_owned()), true),
        (MessageRequest::ListServices(String::new()), true),
        (MessageRequest::FileByFilename("other.proto".to_owned()), false),
    ] {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(asked.clone()) };
        let (status, answer) = call(&server, path, &[AUTHORIZED], &request.encode_to_vec()).await;
        let answer = ServerReflectionResponse::decode(answer).unwrap().message_response.unwrap();
        assert_eq!(status, 0);
        assert_eq!(!matches!(answer, MessageResponse::ErrorResponse(_)), is_found, "{asked:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused() {
    let server = server(|config| config.grpc_api.max_receive_message_size = 100.try_into().unwrap());
    let path = format!("{API}Publish");
    assert_eq!(
        call(
            &server,
            &path,
            &[AUTHORIZED],
            &[0x12, 98].iter().copied().chain([b'1'; 98]).collect::<Vec<_>>()
        )
        .await
        .0,
        0
    );
    assert_eq!(
        call(
            &server,
            &path,
            &[AUTHORIZED],
            &[0x12, 99].iter().copied().chain([b'1'; 99]).collect::<Vec<_>>()
        )
        .await
        .0,
        11
    );
}

/// How long a connection lives on which the peer has sent `sent` and then says nothing; `stop` says when the server stops.
async fn lifetime(sent: &[u8], stop: Duration) -> Duration {
    let (shared, running) = shared(|_| ());
    let face = Arc::new(ApiFace::new(Router::new(&shared)));
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    client.write_all(sent).await.unwrap();
    let began = Instant::now();
    let peer = "192.0.2.1:1000".parse().unwrap();
    let serving = async {
        connection::serve(server, peer, &shared, &face).await;
        began.elapsed()
    };
    let rest = async {
        tokio::time::sleep(stop).await;
        running.send_replace(true);
        // What the server says is read and not answered.
        let _ = client.read_to_end(&mut Vec::new()).await;
        std::future::pending::<()>().await;
    };
    let Either::Left(lived) = race(serving, rest).await else { unreachable!("it never ends") };
    lived
}

/// The preface and empty settings.
const BEGUN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_preface_has_the_time_of_a_handshake() {
    let never = Duration::from_secs(3600);
    let limit = Config::default().http_server.handshake_timeout.get();
    assert_eq!(lifetime(b"", never).await.as_secs(), limit.as_secs());
    assert_eq!(lifetime(b"PRI * HTTP", never).await.as_secs(), limit.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_gone_after_forty_seconds() {
    let lived = lifetime(BEGUN, Duration::from_secs(3600)).await;
    assert_eq!(lived.as_secs(), 40, "{lived:?}: 30 to the ping, 10 for its answer");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_waits_five_seconds_for_a_peer_that_does_not_leave() {
    let lived = lifetime(BEGUN, Duration::from_secs(3)).await;
    assert_eq!(lived.as_secs(), 3 + 5, "{lived:?}");
    assert_eq!(lifetime(b"", Duration::from_secs(3)).await.as_secs(), 3, "it has asked for nothing");
}
