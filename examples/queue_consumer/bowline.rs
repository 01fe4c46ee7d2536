//! A consumer of a message source: one reader, some workers, one committer.
//!
//! Shown: a message is acknowledged after it was booked, never before; one that fails comes again, to whichever worker is
//! free, and after some attempts goes to a dead-letter file; at Ctrl-C the reader takes no more, what is in hand is finished
//! and committed. The reader waits for room before it takes a message: wherever it is stopped, it has none in its hands.
//!
//! What the bare form lacks: the stages end one after the other because each holds the sending end of the next, and no
//! task can hold one unseen. The first error - the source hangs up, the disk is full - cancels all stages and is returned,
//! itself and not one of its consequences, after they are gone. Many workers take from one `Rx`; tokio's receiver has to be
//! put under a lock for that, and what a worker has taken from it is lost with the worker.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bowline::{Bound, Cx, Either, Mutex, Overflow, Rx, Shared, Tx, draining, race, scope};
use bowline_examples::{demo_wanted, listen};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;

mod demo;

const WORKERS: usize = 4;
/// Messages taken from the source and not yet done, in the queue or in a worker's hands: what a stop has to finish.
const IN_HAND: usize = 8;
/// A message that fails so often is put aside.
const ATTEMPTS: u32 = 3;

struct Message {
    id: u64,
    payload: String,
}

#[bowline::main(name = "queue_consumer", shutdown_within = "10s")]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let (listener, address) = listen(0).await?;
    println!(
        "consuming from a built-in broker at {address}; dead letters go to ./dead-letters.txt; try: Ctrl-C"
    );
    let orders = demo::orders(10_000);
    let broker = demo::broker(listener, orders, Duration::from_millis(200), watch::Sender::new(0));
    scope("program", async |s| {
        s.spawn_daemon("broker", broker); // somebody else's, really: it serves the others to their end
        let source = TcpStream::connect(address).await?;
        let booked = consume(source, "dead-letters.txt".into(), draining()).await?;
        println!("booked {booked} cents");
        Ok(())
    })
    .await
}

/// Consumes until `stop` or the end of the source; returns how many cents were booked.
async fn consume(source: TcpStream, dead_letters: PathBuf, stop: impl Future<Output = ()>) -> Result<u64> {
    let dead_letters = File::options().create(true).append(true).open(dead_letters).await?;
    let (lines, acks) = source.into_split();
    scope("consumer", async |s| {
        let (taken, inbox) = s.queue("messages", Bound::items(IN_HAND), Overflow::Block);
        let (done, commits) = s.queue("commits", Bound::items(WORKERS), Overflow::Block);
        let dead_letters = s.cx().share("dead letters", Mutex::new("dead letters", dead_letters));
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(s.spawn_with("worker", (inbox.clone(), done.clone(), dead_letters.clone()), work));
        }
        s.spawn_with("commit", commits, async move |_cx, commits| commit(acks, commits).await);
        read(lines, taken, stop).await?;
        let mut booked_cents = 0;
        for worker in workers {
            booked_cents += worker.await?;
        }
        Ok(booked_cents)
    })
    .await
}

/// Takes messages until `stop`; letting go of `taken` is what ends the workers.
async fn read(
    lines: impl AsyncRead + Unpin,
    taken: Tx<'_, Message>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let mut lines = BufReader::new(lines).lines();
    let reading = async {
        loop {
            let room = taken.reserve().await?;
            let Some(line) = lines.next_line().await? else { return Ok(()) };
            let (id, payload) = line.split_once(' ').context("a message is `ID PAYLOAD`")?;
            room.send(Message { id: id.parse()?, payload: payload.to_owned() })?;
        }
    };
    match race(stop, reading).await {
        Either::Left(()) => Ok(()),
        Either::Right(ended) => ended,
    }
}

type DeadLetters<'t> = Shared<'t, Mutex<File>>;

async fn work(_: &Cx, (inbox, done, dead): (Rx<'_, Message>, Tx<'_, u64>, DeadLetters<'_>)) -> Result<u64> {
    let mut booked_cents = 0;
    while let Some(message) = inbox.recv_delivery().await? {
        match book(&message).await {
            Ok(cents) => booked_cents += cents,
            Err(_) if message.attempt() < ATTEMPTS => continue, // dropped without `ack`: it comes again
            Err(poison) => {
                let letter = format!("{} {} ({poison})\n", message.id, message.payload);
                let mut dead = dead.lock().await?;
                dead.write_all(letter.as_bytes()).await?;
                dead.flush().await?; // on file before the commit
            }
        }
        done.send(message.id).await?;
        message.ack();
    }
    Ok(booked_cents)
}

async fn book(message: &Message) -> Result<u64> {
    let (_customer, cents) = message.payload.split_once(' ').context("an order is `CUSTOMER CENTS`")?;
    let cents = cents.parse().context("cents are a number")?;
    tokio::task::yield_now().await; // a data base would be asked here
    Ok(cents)
}

async fn commit(mut acks: OwnedWriteHalf, commits: Rx<'_, u64>) -> Result<()> {
    while let Some(id) = commits.recv().await? {
        acks.write_all(format!("ack {id}\n").as_bytes()).await?;
    }
    Ok(())
}
