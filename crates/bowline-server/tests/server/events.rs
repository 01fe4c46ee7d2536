//! What applications are told without being asked: by a server on real sockets, to an application on real sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{Cancelled, Either, race, scope};
use bowline_server::config::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{KEY, PATIENCE, closed_with, config, eventually, with_server};

/// What an application was told, and how it answers.
#[derive(Clone, Default)]
struct Application {
    events: Arc<Mutex<Vec<Value>>>,
    /// Answers before the one that says yes.
    refusals: Arc<Mutex<Vec<&'static str>>>,
}

const TAKEN: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";

impl Application {
    /// Runs `test` beside an application; the settings tell it of everything, at `URL`.
    async fn serve<F: Future<Output = ()>>(&self, test: impl FnOnce(String) -> F) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let application = self.clone();
        scope("application", async |s| {
            let (stop, mut stopped) = tokio::sync::watch::channel(());
            s.spawn("application", async move {
                loop {
                    let accepted = race(listener.accept(), stopped.changed()).await;
                    let Either::Left(Ok((socket, _))) = accepted else { return Ok::<_, Cancelled>(()) };
                    application.answer(socket).await;
                }
            });
            test(url).await;
            drop(stop);
            Ok(())
        })
        .await
        .unwrap();
    }

    async fn answer(&self, mut socket: TcpStream) {
        let mut request = Vec::new();
        let body = loop {
            if socket.read_buf(&mut request).await.unwrap() == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&request);
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && head.to_ascii_lowercase().contains(&format!("content-length: {}", body.len()))
            {
                break serde_json::from_str::<Value>(body).unwrap();
            }
        };
        let refusal = self.refusals.lock().unwrap().pop();
        if refusal.is_none() {
            self.events.lock().unwrap().extend(body["events"].as_array().unwrap().clone());
        }
        let _ = socket.write_all(refusal.unwrap_or(TAKEN).as_bytes()).await;
    }

    /// Kind, and channel or client, of what it was told.
    fn told(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        events.iter().map(|event| format!("{} {}", word(event, "type"), word(event, "channel"))).collect()
    }
}

fn telling(url: &str, delay: &str) -> Config {
    config(&[
        ("channel.vacated_delay", delay),
        ("channel.proxy.state.endpoint", url),
        ("channel.proxy.unsubscribe.endpoint", url),
        ("channel.without_namespace.state_proxy_enabled", "true"),
        ("client.proxy.disconnect.enabled", "true"),
        ("client.proxy.disconnect.endpoint", url),
    ])
}

#[bowline::test]
async fn an_application_is_told_who_comes_and_goes_and_why() {
    let application = Application::default();
    application
        .serve(async |url| {
            let mut settings = telling(&url, "0s");
            settings.channel.without_namespace.unsubscribe_proxy_enabled = true;
            with_server(settings, async |server| {
                let mut one = server.subscribe("a").await;
                let other = server.subscribe("a").await;
                eventually("occupied", || application.told() == ["occupied a"]).await;
                one.call(r#"{"id":3,"unsubscribe":{"channel":"a"}}"#).await.unwrap();
                eventually("unsubscribed", || application.told().len() == 2).await;
                drop(other);
                eventually("all", || application.told().len() == 5).await;
                let mut told = application.told();
                // Two applications, as the settings have it: each is told in order.
                told.sort();
                assert_eq!(
                    told,
                    ["disconnected ", "occupied a", "unsubscribed a", "unsubscribed a", "vacated a"]
                );
                let user = json!({"user": "nobody"});
                assert_eq!(server.api("disconnect", Some(KEY), &user.to_string()).await.0, 200);
                let gone =
                    application.events.lock().unwrap().iter().find(|e| e["type"] == "disconnected").cloned();
                let gone = gone.unwrap();
                assert_eq!((&gone["transport"], &gone["user"]), (&json!("websocket"), &json!("")));
                assert!(gone["client"].as_str().unwrap().len() == 36 && gone["code"].is_u64(), "{gone}");
                let line = "bowline_events_told_total{application=\"channel.proxy.state\"} 2\n";
                // Counted when the application has answered, which is after it was told.
                let until = tokio::time::Instant::now() + PATIENCE;
                loop {
                    let (_, metrics) = server.get("/metrics").await;
                    if metrics.contains(line) {
                        break;
                    }
                    assert!(tokio::time::Instant::now() < until, "{metrics}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        })
        .await;
}

/// What was seen of the channel before the process ended would otherwise be wrong for ever.
#[bowline::test]
async fn the_end_of_the_server_is_told_before_it_has_ended() {
    let application = Application::default();
    application
        .serve(async |url| {
            with_server(telling(&url, "1h"), async |server| {
                let _clients = [server.subscribe("a").await, server.subscribe("b").await];
                eventually("occupied", || application.told().len() == 2).await;
                server.stop.notify_one();
                eventually("gone", || server.node.stats().clients == 0).await;
            })
            .await;
            // The server has ended, and the application knows.
            let told = application.told();
            assert_eq!(told.iter().filter(|told| told.starts_with("vacated")).count(), 2, "{told:?}");
            let events = application.events.lock().unwrap();
            let codes: Vec<_> =
                events.iter().filter(|e| e["type"] == "disconnected").map(|e| &e["code"]).collect();
            assert_eq!(codes, [3001, 3001]);
        })
        .await;
}

#[bowline::test]
async fn a_channel_that_is_left_for_a_moment_is_not_told_of() {
    let application = Application::default();
    application
        .serve(async |url| {
            with_server(telling(&url, "1h"), async |server| {
                for _ in 0..5 {
                    drop(server.subscribe("a").await);
                    eventually("gone", || server.node.stats().clients == 0).await;
                }
                eventually("all have left", || application.told().len() == 6).await;
                let told = application.told();
                assert_eq!(told.iter().filter(|told| *told == "occupied a").count(), 1, "{told:?}");
                assert!(!told.contains(&"vacated a".to_owned()), "{told:?}");
            })
            .await;
        })
        .await;
}

#[bowline::test]
async fn what_an_application_does_not_take_comes_again() {
    let application = Application::default();
    application.refusals.lock().unwrap().extend([
        "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 22\r\n\r\n{\"error\":{\"code\":100}}",
        "",
    ]);
    application
        .serve(async |url| {
            with_server(telling(&url, "0s"), async |server| {
                let _client = server.subscribe("a").await;
                eventually("taken", || application.told() == ["occupied a"]).await;
                let (_, metrics) = server.get("/metrics").await;
                let failed = metrics
                    .lines()
                    .find(|line| line.starts_with("bowline_events_failed_batches_total{"))
                    .unwrap();
                assert!(!failed.ends_with(" 0"), "{failed}");
            })
            .await;
        })
        .await;
}

/// It accepts, and never says a word.
#[bowline::test]
async fn an_application_that_hangs_holds_up_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    // Its time to shut down is what it waits for the application at the end.
    let server = crate::process::Process::serve(&[
        ("channel.vacated_delay", "0s"),
        ("channel.proxy.state.endpoint", &url),
        ("channel.without_namespace.state_proxy_enabled", "true"),
        ("client.subscribe_rate_limit", "0"),
        ("client.channel_limit", "1000"),
        ("shutdown.timeout", "2s"),
    ]);
    let mut client =
        bowline_server::client::Client::open(server.public, crate::support::WEBSOCKET).await.unwrap();
    client.call(r#"{"id":1,"connect":{}}"#).await.unwrap();
    for number in 0..500 {
        let command = format!(r#"{{"id":2,"subscribe":{{"channel":"c{number}"}}}}"#);
        assert!(client.call(&command).await.unwrap().contains("subscribe"));
    }
    server.signal("TERM");
    assert_eq!(closed_with(&mut client).await.0, 3001);
    let (status, _, said) = server.wait(crate::support::PATIENCE);
    assert_eq!(status.code(), Some(3), "the end was forced: {said}");
    assert!(said.contains("before an application was told of all that happened lost=1000"), "{said}");
}
