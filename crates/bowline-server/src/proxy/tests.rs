//! Applications that answer well, badly, late and not at all.

use std::time::Duration;

use bowline_protocol::{ConnectRequest, Payload, PublishRequest, RpcRequest, SubscribeRequest};
use hyper::header::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::answer::{Answer, either, either_json};
use super::event::{Event, Form, to_json};
use super::{
    About, Connect, Proxies, Publish, Refresh, Refused, SubRefresh, Subscribe, connect, publish, subscribe,
};
use crate::config::{Config, NonZeroDuration, Sources};

/// An application that answers one question with `body`, or never; what it was asked comes back.
async fn application(listener: TcpListener, status: &str, body: Option<&str>) -> String {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !String::from_utf8_lossy(&asked).contains("}") {
        assert!(socket.read_buf(&mut asked).await.unwrap() > 0);
    }
    match body {
        Some(body) => {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
        }
        None => std::future::pending().await,
    }
    String::from_utf8(asked).unwrap()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn config(ports: &[(&str, u16)], rpc: &str) -> Config {
    let env = ports.iter().map(|(name, port)| format!(r#"{{"name":"{name}","endpoint":"http://127.0.0.1:{port}/hook","http":{{"static_headers":{{"X-Key":"k"}}}}}}"#));
    let proxies = format!("[{}]", env.collect::<Vec<_>>().join(","));
    let rpc = format!("[{rpc}]");
    let env = [("BOWLINE_PROXIES".to_owned(), proxies), ("BOWLINE_RPC_NAMESPACES".to_owned(), rpc)];
    Config::load(Sources::of_env(env.into_iter())).unwrap()
}

async fn ask(config: &Config, data: &str) -> Result<String, Refused> {
    let about = || About {
        client: "c".to_owned(),
        user: "u".to_owned(),
        transport: "websocket",
        protocol: "json",
        ..About::default()
    };
    let request =
        RpcRequest { method: "app:sum".to_owned(), data: Payload::opaque(data.as_bytes().to_vec()) };
    let question = Proxies::new(config).rpc(&config.rpc.namespaces[0].options, about, &request).unwrap();
    let data = question.ask().await?;
    Ok(String::from_utf8(data.as_bytes().to_vec()).unwrap())
}

const ONE: &str = r#"{"name":"app","proxy_enabled":true,"proxy_name":"app"}"#;

#[bowline::test]
async fn an_application_is_told_who_calls_what_and_its_data_goes_to_the_client() {
    let (listener, port) = listen().await;
    let config = config(&[("app", port)], ONE);
    let answer = Some(r#"{"result":{"data":{"sum": 3}}}"#);
    let (asked, answered) =
        bowline::join(application(listener, "200 OK", answer), ask(&config, r#"[1, 2]"#)).await;
    assert_eq!(answered.unwrap(), r#"{"sum": 3}"#);
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("x-key: k") && head.contains("application/json"), "{head}");
    assert_eq!(
        body,
        r#"{"client":"c","transport":"websocket","protocol":"json","encoding":"json","user":"u","method":"app:sum","data":[1, 2]}"#
    );
}

#[bowline::test]
async fn what_an_application_says_is_checked() {
    let cases = [
        ("200 OK", r#"{"error":{"code":1000,"message":"no"}}"#, 1000),
        ("200 OK", r#"{"error":{"code":100,"message":"ours"}}"#, 100),
        ("200 OK", r#"{"disconnect":{"code":4500,"reason":"bye"}}"#, 4500),
        ("200 OK", r#"{"disconnect":{"code":3000,"reason":"ours"}}"#, 100),
        ("200 OK", "not JSON", 100),
        ("500 Broken", r#"{"result":{}}"#, 100),
        ("302 Found", r#"{"result":{}}"#, 100),
    ];
    for (status, body, code) in cases {
        let (listener, port) = listen().await;
        let config = config(&[("app", port)], ONE);
        let (_, answered) = bowline::join(application(listener, status, Some(body)), ask(&config, "1")).await;
        let answered_code: u32 = match answered.unwrap_err() {
            Refused::Error(error) => error.code,
            Refused::Disconnect(reason) => reason.code.into(),
        };
        assert_eq!(answered_code, code, "{status} {body}");
    }
}

#[bowline::test]
async fn of_several_each_says_its_part_in_time_or_is_said_to_be_late() {
    let (quick, quick_port) = listen().await;
    let (wrong, wrong_port) = listen().await;
    let (late, late_port) = listen().await;
    // Bound and never listened on: calls are refused, and nobody else gets the port.
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone_port = gone.local_addr().unwrap().port();
    let ports = [("quick", quick_port), ("wrong", wrong_port), ("late", late_port), ("gone", gone_port)];
    let mut config = config(&ports, r#"{"name":"app","fan_out":["quick","wrong","late","gone"]}"#);
    config.rpc.namespaces[0].options.fan_out_timeout = NonZeroDuration::new(Duration::from_secs(3)).unwrap();
    let answers = bowline::join(
        application(quick, "200 OK", Some(r#"{"result":{"data":[1]}}"#)),
        application(wrong, "200 OK", Some(r#"{"error":{"code":1404,"message":"none"}}"#)),
    );
    let silent = application(late, "200 OK", None);
    let answered = bowline::race(silent, bowline::join(answers, ask(&config, "{}"))).await;
    let bowline::Either::Right((_, answered)) = answered else { unreachable!() };
    assert_eq!(
        answered.unwrap(),
        r#"{"quick":{"result":[1]},"wrong":{"error":{"code":1404,"message":"none"}},"late":{"timed_out":true},"gone":{"error":{"code":100,"message":"internal server error"}}}"#
    );
}

const JSON: Form = Form { is_binary: false, has_meta: true };
const BINARY: Form = Form { is_binary: true, has_meta: false };

/// What an application is asked about client `c` of user `u`, about which there is `meta`.
fn asked(form: Form, event: &impl Event) -> Result<String, Refused> {
    let about = About {
        client: "c".to_owned(),
        user: "u".to_owned(),
        transport: "sse",
        protocol: "json",
        meta: Payload::from_json("{\"m\":1}").unwrap(),
        headers: None,
    };
    to_json(form, &about, event).map(|json| String::from_utf8(json).unwrap())
}

#[test]
fn each_event_is_asked_with_the_fields_it_has() {
    const OF_ALL: &str = r#"{"client":"c","transport":"sse","protocol":"json","encoding":"json""#;
    const OF_ALL_BINARY: &str = r#"{"client":"c","transport":"sse","protocol":"json","encoding":"binary""#;
    let data = || Payload::opaque(&b"[1, 2]"[..]);
    let connect = Connect::new(&ConnectRequest {
        data: data(),
        name: "js".to_owned(),
        version: "5".to_owned(),
        subs: [("a".to_owned(), SubscribeRequest::default())].into(),
        ..ConnectRequest::default()
    });
    let connect_fields = r#","name":"js","version":"5","channels":["a"]"#;
    assert_eq!(asked(JSON, &connect).unwrap(), format!(r#"{OF_ALL}{connect_fields},"data":[1, 2]}}"#));
    assert_eq!(
        asked(BINARY, &connect).unwrap(),
        format!(r#"{OF_ALL_BINARY}{connect_fields},"b64data":"WzEsIDJd"}}"#)
    );
    assert_eq!(asked(JSON, &Connect::new(&ConnectRequest::default())).unwrap(), format!("{OF_ALL}}}"));

    let subscribe = Subscribe::new(&SubscribeRequest {
        channel: "a".to_owned(),
        data: data(),
        ..SubscribeRequest::default()
    });
    let publish =
        Publish::new(&PublishRequest { channel: "a".to_owned(), data: data(), ..PublishRequest::default() });
    let with_data = format!(r#"{OF_ALL},"user":"u","channel":"a","data":[1, 2],"meta":{{"m":1}}}}"#);
    assert_eq!(asked(JSON, &subscribe).unwrap(), with_data);
    assert_eq!(asked(JSON, &publish).unwrap(), with_data);
    let in_base64 = format!(r#"{OF_ALL_BINARY},"user":"u","channel":"a","b64data":"WzEsIDJd"}}"#);
    assert_eq!(asked(BINARY, &publish).unwrap(), in_base64);
    assert_eq!(asked(JSON, &Refresh).unwrap(), format!(r#"{OF_ALL},"user":"u","meta":{{"m":1}}}}"#));
    assert_eq!(
        asked(JSON, &SubRefresh::new("a")).unwrap(),
        format!(r#"{OF_ALL},"user":"u","channel":"a","meta":{{"m":1}}}}"#)
    );
    let not_json =
        Publish::new(&PublishRequest { data: Payload::opaque(&b"\xff"[..]), ..PublishRequest::default() });
    assert!(matches!(asked(JSON, &not_json), Err(Refused::Error(error)) if error.code == 107));
    assert!(asked(BINARY, &not_json).unwrap().contains(r#""b64data":"/w==""#));
}

#[test]
fn of_data_and_its_twin_the_twin_counts_and_others_are_told_json_only() {
    let plain = || Payload::opaque(&b"1"[..]);
    let text = |base64: &str| Some(base64.to_owned());
    assert_eq!(either(plain(), text("Mg==")).unwrap().as_bytes(), b"2");
    assert_eq!(either(plain(), text("")).unwrap().as_bytes(), b"1");
    assert!(either(plain(), text("?")).is_err());
    assert_eq!(either_json(Payload::EMPTY, text("Mg==")).unwrap().as_bytes(), b"2");
    assert!(
        either_json(Payload::EMPTY, text("/w==")).is_err(),
        "others would be told bytes that no JSON can hold"
    );
}

#[test]
fn answers_are_read_with_what_other_languages_leave_in_them() {
    let nulls = r#"{"error":null,"disconnect":null,"result":{"user":"1","info":null,"b64info":null,"expire_at":null,
        "channels":null,"subs":{"a":null},"meta":null,"caps":[],"later":1}}"#;
    let answer: Answer<connect::Answer> = serde_json::from_str(nulls).unwrap();
    let answer = answer.check("app").unwrap().unwrap();
    assert_eq!((answer.user.as_deref(), answer.info.is_empty()), (Some("1"), true));
    let empty: Answer<publish::Answer> = serde_json::from_str("{}").unwrap();
    assert!(empty.check("app").unwrap().is_none(), "an answer without a result is not an empty result");
    for wrong in
        ["[]", "", r#"{"result":[]}"#, r#"{"result":{"expire_at":-1}}"#, r#"{"result":{"expire_at":"1"}}"#]
    {
        assert!(serde_json::from_str::<Answer<subscribe::Answer>>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn of_one_header_the_clients_own_comes_before_the_emulated_and_that_before_the_fixed() {
    let proxies = r#"[{"name":"app","endpoint":"http://app/","http_headers":["x-a","x-d","forwarded"],
        "emulated_headers":["x-a","x-b","x-e"],"http":{"static_headers":{"X-A":"fixed","X-B":"fixed","X-C":"fixed"}}}]"#;
    let env = [("BOWLINE_PROXIES".to_owned(), proxies.to_owned())];
    let config = Config::load(Sources::of_env(env.into_iter())).unwrap();
    let applications = Proxies::new(&config);
    let wanted = applications.wanted_headers();
    let own: HeaderMap = [("x-a", "own"), ("x-d", "own"), ("x-b", "own"), ("forwarded", "for=me")]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect::<Vec<(hyper::header::HeaderName, hyper::header::HeaderValue)>>()
        .into_iter()
        .collect();
    let commands =
        [("X-A", "emulated"), ("x-b", "emulated"), ("x-d", "emulated"), ("x-e", "a\r\nb"), ("x f", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let told = |is_trusted| {
        let kept = wanted.of_request(&own, is_trusted);
        let kept = wanted.of_command(kept, &commands.clone().into()).unwrap();
        let told = kept.for_application(&config.proxies[0].options);
        let mut told: Vec<_> =
            told.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        told.sort();
        told
    };
    assert_eq!(told(false), ["x-a=own", "x-b=emulated", "x-d=own"]);
    assert_eq!(told(true), ["forwarded=for=me", "x-a=own", "x-b=emulated", "x-d=own"]);
    let about = || About {
        headers: wanted.of_command(wanted.of_request(&own, false), &commands.clone().into()),
        ..About::default()
    };
    let hook = applications.find("app", "rpc.proxy").unwrap();
    let sent = hook.written_headers(&about(), &Refresh);
    let sent = |name: &str| sent.get(name).map(|value| value.to_str().unwrap());
    assert_eq!([sent("x-a"), sent("x-b"), sent("x-c")], [Some("own"), Some("emulated"), Some("fixed")]);
}

#[test]
fn no_client_makes_the_server_keep_many_headers() {
    let env = [
        ("BOWLINE_RPC_PROXY_ENDPOINT".to_owned(), "http://app/".to_owned()),
        ("BOWLINE_RPC_PROXY_EMULATED_HEADERS".to_owned(), "x-a x-b".to_owned()),
    ];
    let config = Config::load(Sources::of_env(env.into_iter())).unwrap();
    let applications = Proxies::new(&config);
    let long =
        |bytes: usize| [("x-a".to_owned(), "a".repeat(bytes)), ("x-b".to_owned(), "b".to_owned())].into();
    let kept = |bytes| applications.wanted_headers().of_command(None, &long(bytes)).unwrap();
    let count = |bytes| kept(bytes).for_application(&config.rpc.proxy).len();
    assert_eq!((count(8 * 1024 - 7), count(8 * 1024 - 6), count(8 * 1024 - 2)), (2, 1, 1));
    assert!(applications.wanted_headers().of_request(&HeaderMap::new(), true).is_none());
}
