//! The protocol without a socket: commands in as text, replies and pushes out of the queue.

mod by_server;
mod committing;
mod connect;
mod history;
mod lifecycle;
mod personal;
mod presence;
mod publish;
mod recovery;
mod refresh;
mod rights;
mod server_side;
mod subscribe;
mod timers;
mod unidirectional;
mod unsubscribe;
mod waiting;

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline_protocol::{Disconnect, Payload};
use bowline_store::MemoryStore;
use serde_json::{Value, json};

use super::{Session, Transport};
use crate::config::{ChannelOptions, Config, Namespace, NonZeroDuration, Secret};
use crate::node::{Drained, Node, Outbox, PublishParams};
use crate::token::{mint, unix_now};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A node whose channels outside namespaces let everyone subscribe, changed by `change`.
fn node(change: impl FnOnce(&mut Config)) -> Arc<Node> {
    let mut config = Config::default();
    config.client.allow_anonymous_connect_without_token = true;
    config.client.token.hmac_secret_key = Secret::new(KEY);
    let options = &mut config.channel.without_namespace;
    options.allow_subscribe_for_client = true;
    options.allow_subscribe_for_anonymous = true;
    change(&mut config);
    Node::new(Arc::new(config), Arc::new(MemoryStore::default()))
}

/// Options for every channel outside namespaces.
fn node_with(change: impl FnOnce(&mut ChannelOptions)) -> Arc<Node> {
    node(|config| change(&mut config.channel.without_namespace))
}

fn add_namespace(config: &mut Config, name: &str, change: impl FnOnce(&mut ChannelOptions)) {
    let mut options = ChannelOptions::default();
    change(&mut options);
    config.channel.namespaces.push(Namespace { name: name.parse().unwrap(), options });
}

fn with_history(options: &mut ChannelOptions) {
    options.history_size = std::num::NonZeroUsize::new(100);
    options.history_ttl = seconds(3600);
}

fn seconds(seconds: u64) -> Option<NonZeroDuration> {
    NonZeroDuration::new(Duration::from_secs(seconds))
}

/// A signed token with `claims`.
fn token(claims: Value) -> String {
    mint(&Secret::new(KEY).unwrap(), &claims).unwrap()
}

/// A time `seconds` from now as a claim.
fn from_now(seconds: i64) -> u64 {
    unix_now().saturating_add_signed(seconds)
}

/// One client: what it sends, and what it has received.
struct Client {
    session: Session,
    outbox: Outbox,
    id: u32,
    /// Messages that came with a reply somebody asked for.
    backlog: RefCell<Vec<Value>>,
}

impl Client {
    /// A connection that has not sent anything.
    fn open(node: &Arc<Node>) -> Self {
        Self::over(node, Transport::WEBSOCKET)
    }

    fn over(node: &Arc<Node>, transport: Transport) -> Self {
        let outbox = node.outbox();
        let session = Session::new(Arc::clone(node), transport, outbox.clone());
        Self { session, outbox, id: 0, backlog: RefCell::default() }
    }

    /// An authenticated connection without a token.
    async fn anonymous(node: &Arc<Node>) -> Self {
        let mut client = Self::open(node);
        client.ask("connect", json!({})).await;
        client
    }

    /// An authenticated connection of `user`.
    async fn of(node: &Arc<Node>, user: &str) -> Self {
        let mut client = Self::open(node);
        client.ask("connect", json!({"token": token(json!({"sub": user}))})).await;
        client
    }

    /// Sends one frame as it is written, and waits until nothing waits.
    async fn send(&mut self, frame: &str) -> Result<(), Disconnect> {
        self.session.feed(frame.as_bytes())?;
        while self.session.waits() {
            poll_fn(|cx| self.session.poll_waiting(cx)).await?;
        }
        Ok(())
    }

    /// Sends one command.
    async fn command(&mut self, name: &str, request: Value) -> Result<(), Disconnect> {
        self.id += 1;
        let command = json!({"id": self.id, name: request});
        self.send(&command.to_string()).await
    }

    /// Sends one command and takes its result out of the queue.
    async fn ask(&mut self, name: &str, request: Value) -> Value {
        self.command(name, request).await.expect("the connection stays");
        let mut received = self.received();
        let reply = received.iter().position(|message| message["id"] == self.id).expect("a reply");
        let reply = received.remove(reply);
        self.backlog.replace(received);
        assert!(reply[name].is_object(), "{reply}");
        reply[name].clone()
    }

    /// Sends one command and takes the code of its error.
    async fn error(&mut self, name: &str, request: Value) -> u64 {
        self.command(name, request).await.expect("the connection stays");
        let replies = self.received();
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0]["id"], self.id);
        replies[0]["error"]["code"].as_u64().unwrap_or_else(|| panic!("no error: {}", replies[0]))
    }

    /// Sends one command and takes the code the connection is closed with.
    async fn disconnect(&mut self, name: &str, request: Value) -> u16 {
        self.command(name, request).await.expect_err("the connection ends").code
    }

    /// Everything in the queue: replies, and the contents of pushes.
    fn received(&self) -> Vec<Value> {
        let mut frames = Vec::new();
        let _: Poll<Drained> = self.outbox.poll_drain(&mut Context::from_waker(Waker::noop()), &mut frames);
        let frames = frames.iter().map(|frame| serde_json::from_slice(&frame.payload()).expect("JSON"));
        self.backlog.take().into_iter().chain(frames).collect()
    }

    /// The contents of the pushes in the queue, which holds nothing else.
    #[track_caller]
    fn pushes(&self) -> Vec<Value> {
        let pushes = |value: Value| value.get("push").cloned().unwrap_or_else(|| panic!("no push: {value}"));
        self.received().into_iter().map(pushes).collect()
    }

    /// The data of the publications in the queue, which holds nothing else.
    #[track_caller]
    fn publications(&self) -> Vec<Value> {
        self.pushes().iter().map(|push| push["pub"]["data"].clone()).collect()
    }

    fn id(&self) -> &str {
        self.session.client().expect("connected")
    }
}

/// Publishes through the server API.
fn publish(node: &Node, channel: &str, data: Value) {
    let data = Payload::from_json(data.to_string()).unwrap();
    node.publish(channel, &PublishParams { data, ..PublishParams::default() }).now().expect("published");
}
