//! Against an application on a socket of this machine.

#![allow(clippy::large_futures, reason = "client and application in one task, for the length of one test")]

use std::sync::Mutex;

use bowline::{Class, Classify, Scope, scope, timeout};
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tonic::body::Body;

use super::*;
use crate::grpc::message::read_one;

const PATH: &str = "/test.Service/Call";

/// What the application was asked: headers and messages.
type Asked = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

fn channel(port: u16) -> Channel {
    channel_to("127.0.0.1", port)
}

fn channel_to(host: &str, port: u16) -> Channel {
    let authority = format!("{host}:{port}");
    Channel::new(Target { host: host.to_owned(), port, authority, tls: None })
}

/// An answer with one message and a status.
fn answer(message: &[u8], code: Code) -> Response<Body> {
    let mut body = Vec::new();
    put_prefix(message.len(), &mut body);
    body.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    Status::new(code, "").add_header(&mut trailers).unwrap();
    let body = Full::new(Bytes::from(body)).with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::new(Body::new(body.map_err(|never: Infallible| match never {})))
}

/// Serves the first connection that comes until it ends: what each call is answered, `None` for never.
async fn serve_one(
    listener: &TcpListener,
    asked: &Asked,
    respond: impl Fn(&[u8]) -> Option<Response<Body>> + Send + Sync + Copy + 'static,
) {
    let (socket, _) = listener.accept().await.unwrap();
    let asked = Arc::clone(asked);
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = Arc::clone(&asked);
        async move {
            let (head, body) = request.into_parts();
            assert_eq!(head.uri.path(), PATH);
            let message = read_one(body, 1 << 20).await.unwrap();
            asked.lock().unwrap().push((head.headers, message.clone()));
            match respond(&message) {
                Some(response) => Ok::<_, Infallible>(response),
                None => std::future::pending().await,
            }
        }
    });
    let mut running = Running::default();
    let connection = server::Builder::new(running.executor()).serve_connection(TokioIo::new(socket), service);
    let _ = running.drive(pin!(connection)).await;
}

/// Runs `test` while the connections of `channel` are kept.
async fn kept<F: Future<Output = ()>>(channel: &Channel, test: F) {
    let keep = channel.clone().keep();
    scope("test", async |s: &Scope<Cancelled>| {
        s.spawn_daemon("gRPC to an application", keep);
        test.await;
        Ok(())
    })
    .await
    .unwrap();
}

async fn call(channel: &Channel, text: &str) -> Result<Bytes, FetchError> {
    channel.unary(PATH, &HeaderMap::new(), encoded(text), 100).await
}

/// Field 1 of a message, a text: that is what a String is to prost.
fn encoded(text: &str) -> Bytes {
    Bytes::from(prost::Message::encode_to_vec(&text.to_owned()))
}

#[bowline::test]
async fn calls_share_one_connection_and_carry_metadata_and_the_time_that_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = channel(listener.local_addr().unwrap().port());
    let asked = Asked::default();
    let serve = serve_one(&listener, &asked, |message| Some(answer(message, Code::Ok)));
    let test = kept(&channel, async {
        let headers = HeaderMap::from_iter([("x-key".parse().unwrap(), "secret".parse().unwrap())]);
        let calls = (0..20).map(|n| {
            let (channel, headers) = (&channel, &headers);
            async move {
                let text = n.to_string();
                let call = channel.unary(PATH, headers, encoded(&text), 100);
                timeout(Duration::from_secs(50), call).await.unwrap().unwrap() == encoded(&text)
            }
        });
        assert!(futures_util::future::join_all(calls).await.into_iter().all(|is_right| is_right));
    });
    let Either::Left(()) = race(test, serve).await else { panic!("the connection was closed") };
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 20);
    for (headers, _) in &*asked {
        assert!(headers["x-key"] == "secret" && headers["te"] == "trailers", "{headers:?}");
        let left = propagate::timeout_from(headers[propagate::GRPC_TIMEOUT].to_str().unwrap()).unwrap();
        assert!(left > Duration::from_secs(10) && left <= Duration::from_secs(50), "{left:?}");
    }
}

#[bowline::test]
async fn answers_that_are_none_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = channel(listener.local_addr().unwrap().port());
    let asked = Asked::default();
    let serve = serve_one(&listener, &asked, |message| {
        Some(match &message[2..] {
            b"status" => answer(b"", Code::Unavailable),
            b"headers" => Status::not_found("").into_http(),
            b"long" => answer(&[0; 101], Code::Ok),
            b"longest" => answer(&[0; 100], Code::Ok),
            b"http" => Response::builder().status(503).body(Body::default()).unwrap(),
            b"nothing" => Response::new(Body::default()),
            b"compressed" => {
                let body = Full::new(Bytes::from_static(&[1, 0, 0, 0, 0]));
                let end = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
                let body = body.with_trailers(std::future::ready(Some(Ok(end))));
                Response::new(Body::new(body.map_err(|never: Infallible| match never {})))
            }
            other => panic!("{other:?}"),
        })
    });
    let test = kept(&channel, async {
        let error = async |text: &str| call(&channel, text).await.unwrap_err();
        let unavailable = error("status").await;
        assert!(matches!(unavailable, FetchError::Grpc(Code::Unavailable)), "{unavailable}");
        assert_eq!(unavailable.class(), Class::Disconnected, "it was asked, and is not asked again");
        assert!(matches!(error("headers").await, FetchError::Grpc(Code::NotFound)));
        assert!(matches!(error("long").await, FetchError::Body));
        assert_eq!(call(&channel, "longest").await.unwrap().len(), 100, "as long as it may be");
        assert!(matches!(error("http").await, FetchError::Status(StatusCode::SERVICE_UNAVAILABLE)));
        assert!(matches!(error("nothing").await, FetchError::Unfit(_)));
        assert!(matches!(error("compressed").await, FetchError::Unfit(_)));
        assert_eq!(
            call(&channel, "longest").await.unwrap().len(),
            100,
            "the connection is as good as before"
        );
    });
    assert!(matches!(race(test, serve).await, Either::Left(())));
}

#[bowline::test]
async fn a_connection_that_is_lost_is_made_anew_for_the_next_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = channel(listener.local_addr().unwrap().port());
    let asked = Asked::default();
    let echo = |message: &[u8]| Some(answer(message, Code::Ok));
    kept(&channel, async {
        for text in ["one", "two", "three"] {
            // Dropped once it has answered: the application restarts.
            let Either::Left(answered) = race(call(&channel, text), serve_one(&listener, &asked, echo)).await
            else {
                panic!("the connection was closed");
            };
            assert_eq!(answered.unwrap(), encoded(text));
            // Until that is noticed a call may be lost with the connection, and nobody can know whether it arrived.
            while matches!(&*channel.0.link.borrow(), Link::Up(_)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
    assert_eq!(asked.lock().unwrap().len(), 3, "each was asked once");
}

/// An application that is drained says that it takes no more calls, and answers those it has.
#[bowline::test]
async fn calls_in_hand_are_answered_although_the_application_takes_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = channel(listener.local_addr().unwrap().port());
    let drained = async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let mut calls = Vec::new();
        for _ in 0..2 {
            calls.push(connection.accept().await.unwrap().unwrap());
        }
        connection.graceful_shutdown();
        // Until the other side has heard of it, and calls on another connection.
        let next = loop {
            match race(listener.accept(), connection.accept()).await {
                Either::Left(next) => break next,
                Either::Right(call) => calls.push(call.unwrap().unwrap()),
            }
        };
        for (_, respond) in &mut calls {
            let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            // Whoever gave up has reset its call.
            let Ok(mut body) = respond.send_response(response, false) else { continue };
            body.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), false).unwrap();
            let end = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            body.send_trailers(end).unwrap();
        }
        let _next = next;
        while connection.accept().await.is_some() {}
        std::future::pending::<()>().await;
    };
    let test = kept(&channel, async {
        // Further calls, to which nobody listens: the first ones go over the old connection, if it has not heard yet.
        let others = async {
            loop {
                let _ = timeout(Duration::from_millis(50), call(&channel, "another")).await;
            }
        };
        let in_hand = bowline::join(call(&channel, "one"), call(&channel, "two"));
        let Either::Left((one, two)): Either<_, Infallible> = race(in_hand, others).await;
        assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    });
    assert!(matches!(race(test, drained).await, Either::Left(())));
}

#[bowline::test]
async fn while_nobody_is_there_calls_fail_at_once_and_later_succeed() {
    // Bound and not listened on yet: calls are refused, and nobody else gets the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let channel = channel(socket.local_addr().unwrap().port());
    kept(&channel, async {
        for _ in 0..3 {
            let error = call(&channel, "a").await.unwrap_err();
            assert!(matches!(error, FetchError::Unreachable(_)), "{error}");
        }
        let listener = socket.listen(16).unwrap();
        let asked = Asked::default();
        let until_there = async {
            while call(&channel, "a").await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let serve = serve_one(&listener, &asked, |message| Some(answer(message, Code::Ok)));
        assert!(matches!(race(until_there, serve).await, Either::Left(())));
    })
    .await;
    let over = call(&channel, "a").await.unwrap_err();
    assert!(over.to_string().contains("stopping"), "{over}");
}

#[bowline::test(allow_adoption)]
async fn a_caller_that_goes_resets_its_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = channel(listener.local_addr().unwrap().port());
    let asked = Asked::default();
    let serve = async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        asked.lock().unwrap().push((request.headers().clone(), Bytes::new()));
        let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
        match race(reset, connection.accept()).await {
            Either::Left(reason) => reason.unwrap(),
            Either::Right(ended) => panic!("{:?}", ended.map(|call| call.map(drop))),
        }
    };
    let test = kept(&channel, async {
        let until_asked = async {
            while asked.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(matches!(race(until_asked, call(&channel, "a")).await, Either::Left(())));
        std::future::pending::<()>().await;
    });
    let Either::Left(reason) = race(serve, test).await else { unreachable!() };
    assert_eq!(reason, h2::Reason::CANCEL);
}

#[bowline::test]
async fn a_name_that_leads_to_a_metadata_service_leads_nowhere() {
    let channel = channel_to("169.254.169.254", 80);
    kept(&channel, async {
        let error = call(&channel, "a").await.unwrap_err();
        assert!(error.to_string().contains("link-local"), "{error}");
    })
    .await;
}
