//! Access that is taken back: tokens, users; and who is connected at all.

use bowline_server::client::Client;
use bowline_server::config::{Config, Secret};
use bowline_server::token::{self, unix_now};
use serde_json::{Value, json};

use crate::support::{KEY, PATIENCE, Running, closed_with, config, read_until, send, with_server};

const TOKEN_KEY: &str = "0123456789abcdef0123456789abcdef";

fn settings() -> Config {
    let mut config = config(&[]);
    config.client.token.hmac_secret_key = Secret::new(TOKEN_KEY);
    config
}

fn token(claims: &Value) -> String {
    token::mint(&Secret::new(TOKEN_KEY).unwrap(), claims).unwrap()
}

/// The reply to a command; what is pushed before it is left out.
async fn ask(client: &mut Client, command: &str, request: Value) -> Value {
    client.send(&json!({"id": 9, command: request}).to_string()).await.unwrap();
    loop {
        let frame = tokio::time::timeout(PATIENCE, client.next_text()).await.expect("a reply").unwrap();
        let reply = frame.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(reply) = reply.into_iter().find(|reply| reply["id"] == 9) {
            return reply;
        }
    }
}

/// A client that connected with a token of these claims.
async fn connect(server: &Running, claims: &Value) -> Client {
    let mut client = server.open().await;
    let reply =
        ask(&mut client, "connect", json!({"token": token(claims), "name": "tests", "version": "7"})).await;
    assert!(reply["connect"].is_object(), "{reply}");
    client
}

/// The code with which a client is closed that connects with a token of these claims.
async fn refused(server: &Running, claims: &Value) -> u16 {
    let mut client = server.open().await;
    client.send(&json!({"id": 1, "connect": {"token": token(claims)}}).to_string()).await.unwrap();
    closed_with(&mut client).await.0
}

async fn call(server: &Running, method: &str, request: Value) -> Value {
    let (status, answer) = server.api(method, Some(KEY), &request.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

/// A call whose result says nothing but that it was done.
async fn done(server: &Running, method: &str, request: Value) {
    assert_eq!(call(server, method, request).await, json!({"result": {}}), "{method}");
}

/// The push that ends a subscription.
async fn unsubscribed(client: &mut Client) -> Value {
    let frame = tokio::time::timeout(PATIENCE, client.next_text()).await.expect("a push").unwrap();
    let push: Value = serde_json::from_str(frame.lines().next().unwrap()).unwrap();
    assert!(push["push"]["unsubscribe"].is_object(), "{frame}");
    push["push"].clone()
}

/// A token was stolen: who holds it is thrown out and does not come back with it. Others of the same user stay.
#[bowline::test]
async fn a_revoked_token_ends_what_it_granted_and_opens_nothing_more() {
    with_server(settings(), async |server| {
        let stolen = json!({"sub": "42", "jti": "stolen", "exp": unix_now() + 3600});
        let other = json!({"sub": "42", "jti": "other"});
        let (mut thief, mut owner) = (connect(&server, &stolen).await, connect(&server, &other).await);
        done(&server, "revoke_token", json!({"uid": "stolen", "expire_at": unix_now() + 3600})).await;
        assert_eq!(closed_with(&mut thief).await, (3014, "state invalidated".to_owned()));
        assert_eq!(refused(&server, &stolen).await, 3500);
        assert!(ask(&mut owner, "subscribe", json!({"channel": "a"})).await["subscribe"].is_object());
        // Nor may a connection that is in renew itself with it.
        owner.send(&json!({"id": 2, "refresh": {"token": token(&stolen)}}).to_string()).await.unwrap();
        assert_eq!(closed_with(&mut owner).await.0, 3500);
        connect(&server, &other).await;
    })
    .await;
}

#[bowline::test]
async fn a_token_that_replaced_another_is_the_one_that_counts() {
    with_server(settings(), async |server| {
        let claims = |id: &str| json!({"sub": "42", "jti": id});
        let mut client = connect(&server, &claims("first")).await;
        assert!(
            ask(&mut client, "refresh", json!({"token": token(&claims("second"))})).await["refresh"]
                .is_object()
        );
        done(&server, "revoke_token", json!({"uid": "first"})).await;
        assert!(ask(&mut client, "subscribe", json!({"channel": "a"})).await["subscribe"].is_object());
        done(&server, "revoke_token", json!({"uid": "second"})).await;
        assert_eq!(closed_with(&mut client).await.0, 3014);
    })
    .await;
}

#[bowline::test]
async fn a_revoked_subscription_token_ends_the_subscription_and_not_the_connection() {
    with_server(settings(), async |server| {
        let mut client = connect(&server, &json!({"sub": "42"})).await;
        for channel in ["a", "b"] {
            let claims = json!({"sub": "42", "channel": channel, "jti": format!("of {channel}")});
            let reply =
                ask(&mut client, "subscribe", json!({"channel": channel, "token": token(&claims)})).await;
            assert!(reply["subscribe"].is_object(), "{reply}");
        }
        done(&server, "revoke_token", json!({"uid": "of a"})).await;
        let push = unsubscribed(&mut client).await;
        assert_eq!((&push["channel"], &push["unsubscribe"]["code"]), (&json!("a"), &json!(2502)));
        let again =
            json!({"channel": "a", "token": token(&json!({"sub": "42", "channel": "a", "jti": "of a"}))});
        assert_eq!(ask(&mut client, "subscribe", again).await["error"]["code"], 103);
        // The other one goes on, until it would be renewed with what was revoked.
        server.publish("b", "1").await;
        done(&server, "revoke_token", json!({"uid": "next"})).await;
        let next =
            json!({"channel": "b", "token": token(&json!({"sub": "42", "channel": "b", "jti": "next"}))});
        assert_eq!(ask(&mut client, "sub_refresh", next).await["error"]["code"], 103);
    })
    .await;
}

#[bowline::test]
async fn tokens_of_a_user_from_before_a_time_are_refused_and_newer_ones_are_not() {
    with_server(settings(), async |server| {
        let now = unix_now();
        let issued = |at: u64| json!({"sub": "42", "iat": at});
        let (mut old, mut new) =
            (connect(&server, &issued(now - 60)).await, connect(&server, &issued(now)).await);
        let mut undated = connect(&server, &json!({"sub": "42"})).await;
        let mut stranger = connect(&server, &json!({"sub": "7", "iat": 1})).await;
        done(&server, "invalidate_user_tokens", json!({"user": "42", "issued_before": now})).await;
        assert_eq!(closed_with(&mut old).await.0, 3014);
        assert_eq!(closed_with(&mut undated).await.0, 3014, "it cannot show that it is a new one");
        assert_eq!(refused(&server, &issued(now - 1)).await, 3500);
        assert_eq!(refused(&server, &json!({"sub": "42"})).await, 3500);
        connect(&server, &issued(now)).await;
        for client in [&mut new, &mut stranger] {
            assert!(ask(client, "subscribe", json!({"channel": "a"})).await["subscribe"].is_object());
        }
    })
    .await;
}

#[bowline::test]
async fn tokens_for_one_channel_may_be_taken_back_alone() {
    with_server(settings(), async |server| {
        let mut client = connect(&server, &json!({"sub": "42", "iat": 5})).await;
        for channel in ["a", "b"] {
            let claims = json!({"sub": "42", "channel": channel, "iat": 5});
            ask(&mut client, "subscribe", json!({"channel": channel, "token": token(&claims)})).await;
        }
        done(&server, "invalidate_user_tokens", json!({"user": "42", "channel": "a"})).await;
        let push = unsubscribed(&mut client).await;
        assert_eq!((&push["channel"], &push["unsubscribe"]["code"]), (&json!("a"), &json!(2502)));
        let listed = call(&server, "connections", json!({"user": "42"})).await;
        let states: Vec<_> = listed["result"]["connections"].as_object().unwrap().values().collect();
        assert_eq!(states[0]["state"]["channels"], json!({"b": {"source": 3}}), "{listed}");
    })
    .await;
}

#[bowline::test]
async fn a_blocked_user_is_thrown_out_and_stays_out_until_unblocked() {
    with_server(settings(), async |server| {
        let (one, other) = (json!({"sub": "42"}), json!({"sub": "7"}));
        let mut clients = [connect(&server, &one).await, connect(&server, &one).await];
        let mut bystander = connect(&server, &other).await;
        done(&server, "block_user", json!({"user": "42"})).await;
        for client in &mut clients {
            assert_eq!(closed_with(client).await, (3507, "permission denied".to_owned()));
        }
        assert_eq!(refused(&server, &one).await, 3507);
        assert!(ask(&mut bystander, "subscribe", json!({"channel": "a"})).await["subscribe"].is_object());
        done(&server, "unblock_user", json!({"user": "42"})).await;
        connect(&server, &one).await;
        done(&server, "unblock_user", json!({"user": "42"})).await;
        for (method, request) in [
            ("block_user", json!({})),
            ("unblock_user", json!({"user": ""})),
            ("revoke_token", json!({"expire_at": 5})),
            ("invalidate_user_tokens", json!({"issued_before": 5})),
            ("revoke_token", json!({"uid": "x".repeat(2000)})),
        ] {
            assert_eq!(call(&server, method, request).await["error"]["code"], 107, "{method}");
        }
    })
    .await;
}

#[bowline::test]
async fn connections_are_listed_with_where_they_come_from_and_what_they_have() {
    with_server(settings(), async |server| {
        let before = unix_now();
        let claims = json!({"sub": "42", "jti": "j", "iat": 5, "channels": ["given"]});
        let mut client = connect(&server, &claims).await;
        let of_channel = json!({"sub": "42", "channel": "a", "jti": "s", "iat": 6});
        ask(&mut client, "subscribe", json!({"channel": "a", "token": token(&of_channel)})).await;
        ask(&mut client, "subscribe", json!({"channel": "free"})).await;
        done(&server, "subscribe", json!({"user": "42", "channel": "pushed"})).await;
        let _others = [connect(&server, &json!({"sub": "7"})).await, server.connect().await];

        let listed = call(&server, "connections", json!({"user": "42"})).await;
        let connections = listed["result"]["connections"].as_object().unwrap();
        assert_eq!(connections.len(), 1, "{listed}");
        let (id, mut found) = connections.iter().map(|(id, found)| (id, found.clone())).next().unwrap();
        assert!(server.node.presence_stats("a").is_ok() && id.len() == 36, "{id}");
        let connected_at = found.as_object_mut().unwrap().remove("connected_at").unwrap().as_u64().unwrap();
        assert!((before..=unix_now()).contains(&connected_at));
        assert_eq!(
            found,
            json!({"app_name": "tests", "app_version": "7", "transport": "websocket", "protocol": "json", "user": "42", "state": {
                "channels": {"given": {"source": 1}, "a": {"source": 3}, "free": {"source": 6}, "pushed": {"source": 10}},
                "connection_token": {"uid": "j", "issued_at": 5},
                "subscription_tokens": {"a": {"uid": "s", "issued_at": 6}},
            }})
        );
        let number = async |request: Value| {
            let listed = call(&server, "connections", request).await;
            let connections = listed["result"]["connections"].as_object().unwrap().len();
            (connections, listed["result"]["truncated"] == true)
        };
        assert_eq!(number(json!({})).await, (3, false));
        assert_eq!(number(json!({"limit": 3})).await, (3, false));
        assert_eq!(number(json!({"limit": 2})).await, (2, true));
        assert_eq!(number(json!({"user": "nobody"})).await, (0, false));
    })
    .await;
}

/// A proxy on the same machine, as the tests are, has authenticated the client.
#[bowline::test]
async fn a_proxy_in_front_says_who_a_client_is_and_nobody_else_does() {
    let connect = json!({"id": 1, "connect": {}})
        .to_string()
        .replace('"', "%22")
        .replace('{', "%7B")
        .replace('}', "%7D");
    let open = async |server: &Running, headers: &str| {
        let request =
            format!("GET /connection/sse?cf_connect={connect} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let mut stream = send(server.public, &request).await;
        let first = read_until(&mut stream, "\n\n").await;
        (stream, first)
    };
    let settings = |trusted: &str| {
        let set = [
            ("sse.enabled", "true"),
            ("client.user_id_http_header", "X-User-Id"),
            ("client.allow_anonymous_connect_without_token", "false"),
            ("http_server.trusted_proxies", trusted),
        ];
        let mut config = config(&set);
        config.client.insecure = false;
        config
    };
    with_server(settings("127.0.0.1"), async |server| {
        let (_stream, _) = open(&server, "X-User-Id: 42\r\n").await;
        let listed = call(&server, "connections", json!({"user": "42"})).await;
        assert_eq!(listed["result"]["connections"].as_object().unwrap().len(), 1, "{listed}");
        done(&server, "block_user", json!({"user": "42"})).await;
        for (headers, code) in [
            ("X-User-Id: 42\r\n", "3507"),
            ("", "3501"),
            ("X-User-Id: 1\r\nX-User-Id: 2\r\n", "3501"),
            ("X-User-Id: \r\n", "3501"),
        ] {
            let (_, first) = open(&server, headers).await;
            assert!(first.contains(code), "{headers:?} {first}");
        }
        assert_eq!(server.node.stats().clients, 0);
    })
    .await;
    with_server(settings(""), async |server| {
        let (_stream, first) = open(&server, "X-User-Id: 42\r\n").await;
        assert!(first.contains("3501"), "it is not believed: {first}");
        assert_eq!(server.node.stats().clients, 0);
    })
    .await;
}
