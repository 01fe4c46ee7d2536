//! Commands that wait for an application, and what a session does meanwhile. The application is a socket of the test, which
//! answers when it is told to.

use std::num::NonZeroUsize;

use bowline::{Either, race};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::*;
use crate::config::{Proxy, ProxyOptions};

/// Longer than any test, so that only answers end the waiting.
const HOUR: Duration = Duration::from_secs(3600);

struct Application(TcpListener);

/// One question, and the socket on which it is answered.
struct Asked {
    socket: TcpStream,
    body: Value,
}

impl Application {
    async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// A node that asks this application for every method of clients, `concurrency` at a time.
    fn node(&self, concurrency: usize) -> Arc<Node> {
        let endpoint = format!("http://{}/rpc", self.0.local_addr().unwrap());
        node_with_more(concurrency, &endpoint)
    }

    /// The next question, while `client` waits.
    async fn asked(&self, client: &mut Client) -> Asked {
        let question = async {
            let (mut socket, _) = self.0.accept().await.unwrap();
            let mut read = Vec::new();
            loop {
                assert_ne!(socket.read_buf(&mut read).await.unwrap(), 0);
                let body = read.windows(4).position(|four| four == b"\r\n\r\n").map(|end| &read[end + 4..]);
                if let Some(body) = body.and_then(|body| serde_json::from_slice(body).ok()) {
                    return Asked { socket, body };
                }
            }
        };
        match race(question, client.wait_on()).await {
            Either::Left(asked) => asked,
            Either::Right(went_on) => panic!("nothing was answered: {went_on:?}"),
        }
    }

    /// Whether nobody asks, although the client is given every chance to.
    async fn is_left_alone(&self, client: &mut Client) -> bool {
        for _ in 0..100 {
            let mut accepted = std::pin::pin!(self.0.accept());
            let polled = poll_fn(|cx| {
                let _ = client.session.poll_waiting(cx);
                Poll::Ready(accepted.as_mut().poll(cx).is_ready())
            });
            if polled.await {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }
}

impl Asked {
    fn method(&self) -> &str {
        self.body["method"].as_str().unwrap()
    }

    /// Answers with the name of the method, and lets `client` go on.
    async fn answer(mut self, client: &mut Client) -> Result<(), Disconnect> {
        let body = json!({"result": {"data": self.method()}}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        self.socket.write_all((head + &body).as_bytes()).await.unwrap();
        self.socket.shutdown().await.unwrap();
        client.wait_on().await
    }
}

impl Client {
    /// Waits until one of the commands that wait has gone on.
    async fn wait_on(&mut self) -> Result<(), Disconnect> {
        poll_fn(|cx| self.session.poll_waiting(cx)).await
    }

    fn feed(&mut self, frame: &str) {
        self.session.feed(frame.as_bytes()).unwrap();
    }

    /// The ids of the replies in the queue, which holds nothing else.
    fn replied(&self) -> Vec<u64> {
        self.received().iter().map(|reply| reply["id"].as_u64().expect("a reply")).collect()
    }
}

fn node_with_more(concurrency: usize, endpoint: &str) -> Arc<Node> {
    node(|config| {
        config.client.concurrency = NonZeroUsize::new(concurrency);
        config.client.byte_rate_limit = None;
        let options = ProxyOptions {
            endpoint: Some(endpoint.parse().unwrap()),
            timeout: NonZeroDuration::new(HOUR).unwrap(),
            ..ProxyOptions::default()
        };
        config.proxies.push(Proxy { name: "default".parse().unwrap(), options });
        config.rpc.without_namespace.proxy_enabled = true;
    })
}

fn call(id: u32, method: &str) -> String {
    json!({"id": id, "rpc": {"method": method}}).to_string()
}

#[bowline::test]
async fn pushes_and_pings_go_out_while_a_command_waits() {
    let application = Application::open().await;
    let node = application.node(0);
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    client.feed(&call(3, "slow"));
    let asked = application.asked(&mut client).await;

    publish(&node, "a", json!("meanwhile"));
    assert_eq!(client.publications(), [json!("meanwhile")]);
    client.session.on_timer(Instant::now() + Duration::from_secs(26)).unwrap();
    assert_eq!(client.received(), [json!({})], "a ping");

    asked.answer(&mut client).await.unwrap();
    assert_eq!(client.received(), [json!({"id": 3, "rpc": {"data": "slow"}})]);
    assert!(!client.session.waits());
}

#[bowline::test]
async fn one_at_a_time_commands_are_done_and_answered_in_order() {
    let application = Application::open().await;
    let node = application.node(0);
    let mut client = Client::anonymous(&node).await;
    // Of the same frame, and of the next.
    client.feed(&format!("{}\n{}\n", call(2, "first"), call(3, "second")));
    client.feed(r#"{"id":4,"subscribe":{"channel":"a"}}"#);
    let first = application.asked(&mut client).await;
    assert_eq!(first.method(), "first");
    assert!(application.is_left_alone(&mut client).await, "the second waits for the first");
    assert_eq!(client.replied(), [0; 0]);
    assert!(node.channels("").is_empty(), "nor does what needs no answer overtake");
    first.answer(&mut client).await.unwrap();
    assert_eq!(client.replied(), [2]);
    let second = application.asked(&mut client).await;
    assert_eq!(second.method(), "second");
    second.answer(&mut client).await.unwrap();
    assert_eq!(client.replied(), [3, 4]);
}

#[bowline::test]
async fn several_at_a_time_are_answered_as_answers_come() {
    let application = Application::open().await;
    let node = application.node(4);
    let mut client = Client::anonymous(&node).await;
    let calls: Vec<_> = (2..8).map(|id| call(id, &id.to_string())).collect();
    client.feed(&calls.join("\n"));
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(application.asked(&mut client).await);
    }
    assert!(client.session.is_busy() && application.is_left_alone(&mut client).await, "a fifth waits");
    // The last first.
    let last = asked.pop().unwrap();
    let method: u64 = last.method().parse().unwrap();
    last.answer(&mut client).await.unwrap();
    assert_eq!(client.replied(), [method]);
    // There is room for one more, and no room for what is behind it.
    let fifth = application.asked(&mut client).await;
    assert_eq!(fifth.method(), "6");
    assert!(client.session.is_busy());
    asked.push(fifth);
    while let Some(next) = asked.pop() {
        next.answer(&mut client).await.unwrap();
    }
    assert!(!client.session.is_busy(), "one of four");
    client.feed(r#"{"id":8,"subscribe":{"channel":"a"}}"#);
    assert!(client.replied().ends_with(&[8]), "what needs no answer overtakes");
    application.asked(&mut client).await.answer(&mut client).await.unwrap();
    assert_eq!(client.replied(), [7]);
    assert!(!client.session.waits());
}

#[bowline::test]
async fn no_pong_is_missed_while_nobody_listens_and_the_whole_time_for_it_is_given_afterwards() {
    let application = Application::open().await;
    let node = application.node(0);
    let mut client = Client::anonymous(&node).await;
    let now = Instant::now();
    client.session.on_timer(now + Duration::from_secs(26)).unwrap();
    assert_eq!(client.received(), [json!({})], "a ping");
    client.feed(&call(2, "slow"));
    let asked = application.asked(&mut client).await;
    let next = client.session.on_timer(now + Duration::from_secs(40)).expect("the pong is not missed");
    assert!(next > now + Duration::from_secs(40), "nor is it a reason to wake up");
    asked.answer(&mut client).await.unwrap();
    let until = Instant::now() + Duration::from_secs(8);
    assert!(client.session.next_deadline() <= until);
    assert_eq!(client.session.on_timer(until), Err(Disconnect::NO_PONG));
}

#[bowline::test]
async fn a_pong_that_came_while_a_command_waited_counts() {
    let application = Application::open().await;
    let node = application.node(0);
    let mut client = Client::anonymous(&node).await;
    client.feed(&call(2, "slow"));
    let asked = application.asked(&mut client).await;
    client.session.on_timer(Instant::now() + Duration::from_secs(26)).unwrap();
    client.feed("{}");
    asked.answer(&mut client).await.unwrap();
    client.session.on_timer(Instant::now() + Duration::from_secs(35)).expect("it was answered");
}

/// A client that answers every ping must not be closed for the second answer, only because both lay behind a slow command.
#[bowline::test]
async fn as_many_pongs_count_as_there_were_pings_and_not_one_more() {
    let application = Application::open().await;
    let node = application.node(0);
    let mut client = Client::anonymous(&node).await;
    client.feed(&call(2, "slow"));
    let asked = application.asked(&mut client).await;
    let now = Instant::now();
    for pings in 1..=3 {
        client.session.on_timer(now + pings * Duration::from_secs(26)).unwrap();
        client.feed("{}");
    }
    asked.answer(&mut client).await.expect("three pings, three pongs");
    client.session.on_timer(now + Duration::from_secs(79)).expect("all were answered");
    assert_eq!(client.send("{}").await, Err(Disconnect::BAD_REQUEST), "nobody asked for this one");
}

#[bowline::test]
async fn what_comes_while_a_command_waits_is_kept_up_to_a_bound_and_done_afterwards() {
    let application = Application::open().await;
    let node = application.node(0);
    let mut client = Client::anonymous(&node).await;
    client.feed(&call(2, "slow"));
    let asked = application.asked(&mut client).await;
    let limit = node.config().websocket.message_size_limit.get();
    let mut kept = Vec::new();
    for id in 3.. {
        if !client.session.has_room() {
            break;
        }
        let frame = json!({"id": id, "presence": {"channel": "a"}}).to_string();
        client.feed(&frame);
        kept.push(frame.len());
    }
    let bytes: usize = kept.iter().sum();
    assert!(bytes <= limit && bytes > limit / 4, "{bytes} bytes in {} frames", kept.len());
    assert!(client.received().is_empty());
    asked.answer(&mut client).await.unwrap();
    assert_eq!(client.replied().len(), 1 + kept.len());
    assert!(client.session.has_room() && !client.session.waits());
}

#[bowline::test]
async fn very_short_frames_are_bounded_too() {
    let application = Application::open().await;
    let node = application.node(0);
    let mut client = Client::anonymous(&node).await;
    client.feed(&call(2, "slow"));
    let asked = application.asked(&mut client).await;
    let frames = std::iter::from_fn(|| client.session.has_room().then(|| client.feed("x"))).count();
    assert!(frames < 1100, "{frames} frames were kept");
    assert_eq!(asked.answer(&mut client).await, Err(Disconnect::BAD_REQUEST));
}

#[bowline::test]
async fn a_dropped_session_takes_its_question_back() {
    let application = Application::open().await;
    let node = application.node(4);
    let mut client = Client::anonymous(&node).await;
    client.feed(&call(2, "slow"));
    let mut asked = application.asked(&mut client).await;
    drop(client);
    assert_eq!(asked.socket.read(&mut [0]).await.unwrap(), 0, "the application sees the end");
    assert_eq!(node.stats().clients, 0);
}

#[bowline::test]
async fn a_command_that_breaks_the_protocol_ends_the_connection_also_behind_one_that_waits() {
    let application = Application::open().await;
    let node = application.node(0);
    let mut client = Client::anonymous(&node).await;
    client.feed(&format!("{}\n{{\"id\":3,\"connect\":{{}}}}\n{}", call(2, "slow"), call(4, "never")));
    let asked = application.asked(&mut client).await;
    assert_eq!(asked.answer(&mut client).await, Err(Disconnect::BAD_REQUEST));
    assert_eq!(client.replied(), [2], "what came before was done");
    assert_eq!(client.outbox.disconnect(), Some(Disconnect::BAD_REQUEST));
}

/// A connection for which nothing waits pays a pointer for all this.
#[test]
fn a_session_at_rest_is_small() {
    let bytes = size_of::<Session>();
    assert!(bytes <= 232, "{bytes} bytes: every idle connection pays for it");
}
