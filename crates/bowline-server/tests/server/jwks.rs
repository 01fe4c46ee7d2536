//! Token keys that are fetched from an identity provider: here one on this machine, well or badly behaved.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline::{Cancelled, Either, race, scope};
use bowline_server::client::Client;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Running, config, with_server};

const PRIVATE: &[u8] = include_bytes!("../../src/token/tests/keys/ed25519.private.der");
const PUBLIC: &str = include_str!("../../src/token/tests/keys/ed25519.pem");

/// A provider that gives `answer` to every request, after `headers`; counts them.
async fn with_provider<F>(
    answer: impl Fn(SocketAddr) -> String + Send + 'static,
    test: impl FnOnce(String, Arc<AtomicUsize>) -> F,
) where
    F: Future<Output = ()>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    scope("provider", async |s| {
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        s.spawn("answers", async move {
            loop {
                let accepted = race(listener.accept(), stopped.changed()).await;
                let Either::Left(Ok((mut socket, _))) = accepted else { return Ok::<_, Cancelled>(()) };
                counted.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer(address).as_bytes()).await;
                let _ = socket.shutdown().await;
            }
        });
        test(format!("http://{address}/keys"), asked).await;
        drop(stop);
        Ok(())
    })
    .await
    .unwrap();
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// The set with the one test key, called `kid`.
fn key_set(kid: &str) -> String {
    // The key is the last 32 bytes of its DER form.
    let der: String = PUBLIC.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(der).unwrap();
    let x = URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]);
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": x}]}).to_string()
}

fn token(kid: &str) -> String {
    token_with(kid, &json!({"sub": "42"}))
}

fn token_with(kid: &str, claims: &Value) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(PRIVATE)).unwrap()
}

/// What connecting with a token whose key is called `kid` comes to: the reply, or the code of the end.
async fn connect(server: &Running, kid: &str) -> String {
    let mut client = server.open().await;
    let command = json!({"id": 1, "connect": {"token": token(kid)}}).to_string();
    client.send(&command).await.unwrap();
    match client.next_text().await {
        Ok(reply) => reply,
        Err(_) => "closed".to_owned(),
    }
}

fn settings(endpoint: &str) -> bowline_server::config::Config {
    config(&[("client.token.jwks_public_endpoint", endpoint)])
}

#[bowline::test]
async fn many_connections_with_one_unknown_key_cause_one_fetch_and_all_get_in() {
    with_provider(
        |_| ok(&key_set("k1")),
        async |endpoint, asked| {
            with_server(settings(&endpoint), async |server| {
                scope("clients", async |s| {
                    for _ in 0..50 {
                        let server = Arc::clone(&server);
                        s.spawn("client", async move {
                            let reply = connect(&server, "k1").await;
                            assert!(reply.contains(r#""connect":{"client""#), "{reply}");
                            Ok::<_, Cancelled>(())
                        });
                    }
                    Ok(())
                })
                .await
                .unwrap();
                assert_eq!(asked.load(Ordering::SeqCst), 1);
            })
            .await;
        },
    )
    .await;
}

/// Nothing else of its request names a key, so it is for this token alone that the key is fetched.
#[bowline::test]
async fn a_key_is_fetched_for_a_token_among_the_wishes_of_a_listener() {
    with_provider(
        |_| ok(&key_set("k1")),
        async |endpoint, asked| {
            let settings =
                [("client.token.jwks_public_endpoint", &*endpoint), ("uni_websocket.enabled", "true")];
            with_server(config(&settings), async |server| {
                let token = token_with("k1", &json!({"sub": "", "channel": "$mine"}));
                let request = json!({"subs": {"open": {}, "$mine": {"token": token}}}).to_string();
                let mut listener = Client::open(server.public, "/connection/uni_websocket").await.unwrap();
                listener.send(&request).await.unwrap();
                let push: Value = serde_json::from_str(&listener.next_text().await.unwrap()).unwrap();
                assert!(push["connect"]["subs"]["$mine"].is_object(), "{push}");
                assert_eq!(asked.load(Ordering::SeqCst), 1);
            })
            .await;
        },
    )
    .await;
}

#[bowline::test]
async fn a_flood_of_unknown_keys_causes_no_flood_of_fetches_and_disturbs_nobody() {
    with_provider(
        |_| ok(&key_set("k1")),
        async |endpoint, asked| {
            with_server(settings(&endpoint), async |server| {
                assert_eq!(connect(&server, "first unknown").await, "closed", "asked, and nobody's");
                for number in 0..100 {
                    let reply = connect(&server, &format!("unknown {number}")).await;
                    assert!(reply.contains(r#""code":100"#) || reply == "closed", "{reply}");
                }
                let reply = connect(&server, "k1").await;
                assert!(reply.contains(r#""connect":{"client""#), "{reply}");
                // One fetch in ten seconds; a busy machine may take longer over a hundred connections.
                let asked = asked.load(Ordering::SeqCst);
                assert!(asked <= 4, "{asked} fetches");
            })
            .await;
        },
    )
    .await;
}

#[bowline::test]
async fn a_provider_that_misbehaves_opens_no_door_and_the_client_is_told_to_come_back() {
    let answers: [fn(SocketAddr) -> String; 5] = [
        // A redirect, were it followed, would find the keys.
        |address| {
            format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/keys\r\nContent-Length: 0\r\n\r\n")
        },
        |_| "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned(),
        |_| ok(&format!("{}{}", key_set("k1"), " ".repeat(300 * 1024))),
        |_| ok("<html>not a key set</html>"),
        |_| "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{".to_owned(),
    ];
    for answer in answers {
        with_provider(answer, async |endpoint, asked| {
            with_server(settings(&endpoint), async |server| {
                let reply = connect(&server, "k1").await;
                assert!(reply.contains(r#""code":100"#) && reply.contains(r#""temporary":true"#), "{reply}");
                assert_eq!(asked.load(Ordering::SeqCst), 1);
            })
            .await;
        })
        .await;
    }
}

#[bowline::test]
async fn keys_that_a_token_names_by_address_are_never_fetched() {
    with_provider(
        |_| ok(&key_set("k1")),
        async |endpoint, asked| {
            let settings = config(&[("client.token.jwks_public_endpoint", "http://127.0.0.1:9/keys")]);
            with_server(settings, async |server| {
                let mut header = Header { kid: Some(endpoint.clone()), ..Header::new(Algorithm::EdDSA) };
                header.jku = Some(endpoint);
                let key = EncodingKey::from_ed_der(PRIVATE);
                let token = jsonwebtoken::encode(&header, &json!({"sub": "42"}), &key).unwrap();
                let mut client = server.open().await;
                let command = json!({"id": 1, "connect": {"token": token}}).to_string();
                let reply = client.call(&command).await.unwrap();
                assert!(reply.contains(r#""code":100"#), "{reply}");
                assert_eq!(asked.load(Ordering::SeqCst), 0);
            })
            .await;
        },
    )
    .await;
}
