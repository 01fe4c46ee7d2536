//! The chat room of `bowline.rs` on bare tokio with the tokens and the tracker of tokio-util, as it is written with care.
//!
//! Every connection must be given the token and must not forget to wait for it; a handshake under way does not know it, so
//! a stop may take five seconds more. A connection that is not spawned through the tracker is not waited for, and nobody
//! would say so. Signals and the limit of the shutdown are the program's own.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "this is the bare form")]

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bowline_examples::{accept, demo_wanted, listen, port_or};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
/// From the signal to the end, whatever happens.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

type Sink = SplitSink<WebSocketStream<TcpStream>, Message>;
type Source = SplitStream<WebSocketStream<TcpStream>>;

enum Event {
    Joined { id: u64, outbox: mpsc::Sender<Utf8Bytes>, too_slow: CancellationToken },
    Said(Utf8Bytes),
    Left { id: u64 },
}

#[tokio::main]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let stopping = cancelled_by_signal()?;
    let (listener, address) = listen(port_or(3001)).await?;
    println!("try, in two terminals: websocat ws://{address}    (Ctrl-C ends)");
    let too_late = async {
        stopping.cancelled().await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        closed_as_slow = serve(listener, stopping.cancelled()) => {
            println!("{} clients were too slow", closed_as_slow?);
        }
        () = too_late => bail!("the shutdown took too long"),
    }
    Ok(())
}

/// A token that SIGINT and SIGTERM cancel. The handlers must be there before anybody is told to press Ctrl-C.
fn cancelled_by_signal() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}

/// Serves until `stop`, then says goodbye to everybody; returns how many clients were closed for being too slow.
async fn serve(listener: TcpListener, stop: impl Future<Output = ()>) -> Result<usize> {
    let (events, inbox) = mpsc::channel(HUB_EVENTS);
    let hub = tokio::spawn(hub(inbox));
    let connections = TaskTracker::new();
    let stopping = CancellationToken::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut id = 0;
    let accepting = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let socket = accept(&listener).await;
            id += 1;
            let (events, stopping) = (events.clone(), stopping.clone());
            connections.spawn(async move {
                let _place = place; // moved in, or it would come back at once
                connection(id, socket, events, stopping).await
            });
        }
    };
    tokio::select! {
        () = stop => {}
        () = accepting => {}
    }
    stopping.cancel();
    connections.close();
    connections.wait().await;
    drop(events); // the last one: the hub's loop ends
    hub.await.context("the hub panicked")
}

async fn connection(
    id: u64,
    socket: TcpStream,
    events: mpsc::Sender<Event>,
    stopping: CancellationToken,
) -> Result<()> {
    let limits = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES));
    let socket = timeout(HANDSHAKE_TIMEOUT, accept_async_with_config(socket, Some(limits))).await??;
    let (mut sink, mut source) = socket.split();
    let (outbox, frames) = mpsc::channel(OUTBOX_FRAMES);
    let too_slow = CancellationToken::new();
    events.send(Event::Joined { id, outbox, too_slow: too_slow.clone() }).await.ok().context("no hub")?;
    let mut ended = Ok(());
    let (code, reason) = tokio::select! {
        () = stopping.cancelled() => (CloseCode::Away, "the server is stopping"),
        () = too_slow.cancelled() => (CloseCode::Policy, "too slow"),
        read = read(&mut source, &events) => { ended = read; (CloseCode::Normal, "") }
        written = write(&mut sink, frames) => { ended = written; (CloseCode::Normal, "") }
    };
    let goodbye = async {
        events.send(Event::Left { id }).await.ok();
        sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await.ok();
    };
    timeout(GOODBYE_GRACE, goodbye).await.ok();
    ended
}

async fn read(source: &mut Source, events: &mpsc::Sender<Event>) -> Result<()> {
    while let Some(message) = source.next().await {
        if let Message::Text(text) = message? {
            events.send(Event::Said(text)).await.ok().context("no hub")?;
        }
    }
    Ok(())
}

async fn write(sink: &mut Sink, mut frames: mpsc::Receiver<Utf8Bytes>) -> Result<()> {
    while let Some(text) = frames.recv().await {
        sink.send(Message::Text(text)).await?;
    }
    Ok(())
}

async fn hub(mut events: mpsc::Receiver<Event>) -> usize {
    let mut members = HashMap::new();
    let mut closed_as_slow = 0;
    while let Some(event) = events.recv().await {
        match event {
            Event::Joined { id, outbox, too_slow } => {
                members.insert(id, (outbox, too_slow));
            }
            Event::Left { id } => drop(members.remove(&id)),
            Event::Said(text) => {
                members.retain(|_, (outbox, too_slow)| match outbox.try_send(text.clone()) {
                    Ok(()) => true,
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        too_slow.cancel();
                        closed_as_slow += 1;
                        false
                    }
                    Err(_) => false, // it has left; the event is on its way
                })
            }
        }
    }
    closed_as_slow
}
