//! A chat room over WebSocket: each connection has a read pump and a write pump around a bounded outbox.
//!
//! Shown: whichever pump ends first ends the other; a client that does not read fills its outbox and is closed with 1008,
//! the others notice nothing; there is a limit of connections; Ctrl-C closes every one with 1001 and waits for the goodbyes.
//!
//! What the bare form lacks: the pumps are two futures of one task, so there is no second task to forget, and both borrow
//! what they share. The group owns every connection: `serve` cannot return while one lives, and the limit is the group's, so
//! a place comes back however a connection ends. The reason of a cancellation
//! travels with it, so the goodbye knows its close code. The hub holds the outboxes under its own name: a connection that
//! waits for a frame nobody can send any more is visible as such.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use bowline::{
    Bound, Cancelled, Cause, Cx, Discard, Either, FreeTx, Overflow, Rx, ScopeHandle, SendError, Tx, draining,
    group, race, scope, shielded, timeout,
};
use bowline_examples::{accept, demo_wanted, listen, port_or};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

mod demo;

/// Connections at once; who comes then waits until one has ended.
const MAX_CONNECTIONS: usize = 1_000;
/// Frames a client may be behind. With [`MAX_MESSAGE_BYTES`] this bounds a connection at 1 MiB; then it is closed.
const OUTBOX_FRAMES: usize = 16;
/// Longer messages end the connection that sent them.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// What connections may be ahead of the hub; then their clients wait.
const HUB_EVENTS: usize = 256;
/// Whoever has not finished the handshake by then is no client.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the close frame; a client that takes longer is dropped.
const GOODBYE_GRACE: Duration = Duration::from_secs(1);
/// Why the hub closes a connection.
const TOO_SLOW: &str = "too slow";

type Sink = SplitSink<WebSocketStream<TcpStream>, Message>;
type Source = SplitStream<WebSocketStream<TcpStream>>;

enum Event {
    Joined { id: u64, outbox: FreeTx<Utf8Bytes>, connection: ScopeHandle<anyhow::Error> },
    Said(Utf8Bytes),
    Left { id: u64 },
}

#[bowline::main(name = "websocket_pumps", shutdown_within = "10s")]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let (listener, address) = listen(port_or(3001)).await?;
    println!("try, in two terminals: websocat ws://{address}    (Ctrl-C ends)");
    let closed_as_slow = serve(listener, draining()).await?;
    println!("{closed_as_slow} clients were too slow");
    Ok(())
}

/// Serves until `stop`, then says goodbye to everybody; returns how many clients were closed for being too slow.
async fn serve(listener: TcpListener, stop: impl Future<Output = ()>) -> Result<usize> {
    scope("room", async |s| {
        let (events, inbox) = s.queue("events", Bound::items(HUB_EVENTS), Overflow::Block);
        let hub = s.spawn_with("hub", inbox, hub);
        // How a single connection ended is of no interest here.
        let _ = group("connections", Discard.at_most(MAX_CONNECTIONS), async |g| {
            let mut id = 0;
            let accepting = async {
                while let Ok(place) = g.reserve().await {
                    let socket = accept(&listener).await;
                    id += 1;
                    place.spawn_with("connection", events.clone(), async move |_cx, events| {
                        connection(id, socket, events).await
                    });
                }
            };
            race(stop, accepting).await;
            g.cancel("the server is stopping");
        })
        .await;
        drop(events); // the last one: the hub's loop ends
        Ok(hub.await?)
    })
    .await
}

async fn connection(id: u64, socket: TcpStream, events: Tx<'_, Event>) -> Result<()> {
    let limits = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES));
    let socket = timeout(HANDSHAKE_TIMEOUT, accept_async_with_config(socket, Some(limits))).await??;
    let (mut sink, mut source) = socket.split();
    let ended = scope("pumps", async |s| {
        let (outbox, frames) = s.queue("outbox", Bound::items(OUTBOX_FRAMES), Overflow::Reject);
        events.send(Event::Joined { id, outbox: outbox.free(), connection: s.handle() }).await?;
        match race(read(&mut source, &events), write(&mut sink, frames)).await {
            Either::Left(ended) | Either::Right(ended) => ended,
        }
    })
    .await;
    let goodbye = async {
        events.send(Event::Left { id }).await.ok();
        sink.send(close_frame(&ended)).await.ok();
    };
    shielded(GOODBYE_GRACE, goodbye).await.ok();
    ended
}

async fn read(source: &mut Source, events: &Tx<'_, Event>) -> Result<()> {
    while let Some(message) = source.next().await {
        if let Message::Text(text) = message? {
            events.send(Event::Said(text)).await?;
        }
    }
    Ok(())
}

async fn write(sink: &mut Sink, frames: Rx<'_, Utf8Bytes>) -> Result<()> {
    while let Some(text) = frames.recv().await? {
        sink.send(Message::Text(text)).await?;
    }
    Ok(())
}

fn close_frame(ended: &Result<()>) -> Message {
    let cause = ended.as_ref().err().and_then(|error| error.downcast_ref()).map(Cancelled::cause);
    let (code, reason) = match cause {
        Some(Cause::Requested(TOO_SLOW)) => (CloseCode::Policy, TOO_SLOW),
        Some(_) => (CloseCode::Away, "the server is stopping"),
        None => (CloseCode::Normal, ""),
    };
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

async fn hub(cx: &Cx, events: Rx<'_, Event>) -> Result<usize> {
    let mut members = HashMap::new();
    let mut closed_as_slow = 0;
    while let Some(event) = events.recv().await? {
        match event {
            Event::Joined { id, outbox, connection } => {
                members.insert(id, (outbox.bind_to(cx), connection));
            }
            Event::Left { id } => drop(members.remove(&id)),
            Event::Said(text) => {
                members.retain(|_, (outbox, connection)| match outbox.try_send(text.clone()) {
                    Ok(()) => true,
                    Err(SendError::Full(_)) => {
                        connection.cancel(TOO_SLOW);
                        closed_as_slow += 1;
                        false
                    }
                    Err(_) => false, // it has left; the event is on its way
                })
            }
        }
    }
    Ok(closed_as_slow)
}
