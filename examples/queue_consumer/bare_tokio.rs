//! The consumer of `bowline.rs` on bare tokio, as it is written with care.
//!
//! The stages end in order only because `drop(done)` stands where it stands: without it the committer waits for this
//! function and this function for the committer, silently and for ever. A `JoinSet` per stage and the collecting of their
//! errors are the program's own, and so is stopping the other stages when one has failed. If `consume` itself is dropped
//! (the time-out of the shutdown), the set aborts the tasks but nobody waits until they are gone.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "this is the bare form")]

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bowline_examples::{demo_wanted, listen};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod demo;

const WORKERS: usize = 4;
/// Messages taken from the source and not yet in a worker's hands: what a stop has to finish besides those.
const READ_AHEAD: usize = 4;
/// A message that fails so often is put aside.
const ATTEMPTS: u32 = 3;
/// From the signal to the end, whatever happens.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

struct Message {
    id: u64,
    payload: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let stopping = cancelled_by_signal()?;
    let (listener, address) = listen(0).await?;
    println!(
        "consuming from a built-in broker at {address}; dead letters go to ./dead-letters.txt; try: Ctrl-C"
    );
    let orders = demo::orders(10_000);
    let broker = demo::broker(listener, orders, Duration::from_millis(200), watch::Sender::new(0));
    let source = TcpStream::connect(address).await?;
    let too_late = async {
        stopping.cancelled().await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        broken = broker => match broken? {},
        booked = consume(source, "dead-letters.txt".into(), stopping.cancelled()) => println!("booked {} cents", booked?),
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

/// Consumes until `stop` or the end of the source; returns how many cents were booked.
async fn consume(source: TcpStream, dead_letters: PathBuf, stop: impl Future<Output = ()>) -> Result<u64> {
    let dead_letters = File::options().create(true).append(true).open(dead_letters).await?;
    let (lines, acks) = source.into_split();
    let (taken, inbox) = mpsc::channel(READ_AHEAD);
    let (done, commits) = mpsc::channel(WORKERS);
    let inbox = Arc::new(Mutex::new(inbox));
    let dead_letters = Arc::new(Mutex::new(dead_letters));
    let mut stages = JoinSet::new();
    for _ in 0..WORKERS {
        stages.spawn(work(Arc::clone(&inbox), done.clone(), Arc::clone(&dead_letters)));
    }
    stages.spawn(async { commit(acks, commits).await.map(|()| 0) });
    drop((inbox, done)); // or the next stages never learn that the ones before are gone
    let mut reading = pin!(read(lines, taken, stop));
    let mut booked_cents = 0;
    let mut read_to_its_end = false;
    loop {
        tokio::select! {
            read = &mut reading, if !read_to_its_end => {
                read?;
                read_to_its_end = true;
            }
            // The first error ends this function; the set aborts the other stages as it is dropped.
            ended = stages.join_next() => match ended {
                Some(ended) => booked_cents += ended.context("a stage panicked")??,
                None => return Ok(booked_cents),
            },
        }
    }
}

/// Takes messages until `stop`; letting go of `taken` is what ends the workers.
async fn read(
    lines: impl AsyncRead + Unpin,
    taken: mpsc::Sender<Message>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let mut lines = BufReader::new(lines).lines();
    let mut stop = pin!(stop);
    loop {
        let line = tokio::select! {
            () = &mut stop => break,
            line = lines.next_line() => line?,
        };
        let Some(line) = line else { break };
        let (id, payload) = line.split_once(' ').context("a message is `ID PAYLOAD`")?;
        let message = Message { id: id.parse()?, payload: payload.to_owned() };
        taken.send(message).await.ok().context("the workers are gone")?;
    }
    Ok(())
}

async fn work(
    inbox: Arc<Mutex<mpsc::Receiver<Message>>>,
    done: mpsc::Sender<u64>,
    dead: Arc<Mutex<File>>,
) -> Result<u64> {
    let mut booked_cents = 0;
    loop {
        // A worker that waits for a message holds the lock the others wait for: it serves as their queue.
        let Some(message) = inbox.lock().await.recv().await else { return Ok(booked_cents) };
        let mut attempt = 1;
        let booked = loop {
            match book(&message).await {
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                booked => break booked,
            }
        };
        match booked {
            Ok(cents) => booked_cents += cents,
            Err(poison) => {
                let letter = format!("{} {} ({poison})\n", message.id, message.payload);
                let mut dead = dead.lock().await;
                dead.write_all(letter.as_bytes()).await?;
                dead.flush().await?; // on file before the commit
            }
        }
        done.send(message.id).await.ok().context("the committer is gone")?;
    }
}

async fn book(message: &Message) -> Result<u64> {
    let (_customer, cents) = message.payload.split_once(' ').context("an order is `CUSTOMER CENTS`")?;
    let cents = cents.parse().context("cents are a number")?;
    tokio::task::yield_now().await; // a data base would be asked here
    Ok(cents)
}

async fn commit(mut acks: OwnedWriteHalf, mut commits: mpsc::Receiver<u64>) -> Result<()> {
    while let Some(id) = commits.recv().await {
        acks.write_all(format!("ack {id}\n").as_bytes()).await?;
    }
    Ok(())
}
