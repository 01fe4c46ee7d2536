//! Workers that render pages: editors change a shared board, workers take from it, results are published in order.
//!
//! Shown: the board keeps the newest text of each page, so memory is bounded by pages and not by edits; a *bell*, a queue of
//! one, says that something changed; jobs are dealt to the workers in turn and collected in the same turn, which is an
//! order without numbers and without a buffer. At Ctrl-C editors are hung up on, and what is on the board is published.
//!
//! What the bare form lacks: each stage ends when the stage before has let go of its ends, and no task can keep one unseen.
//! The view of the running program shows the board with its holders, and for each worker whether it waits for a job or for
//! its result to be taken.

use std::future::Future;

use anyhow::Result;
use bowline::{Bound, Cx, Discard, Overflow, Rx, Shared, Tx, draining, group, race, scope};
use bowline_examples::{accept, demo_wanted, listen, port_or};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

mod demo;

use demo::{Board, Job, render};

const WORKERS: usize = 4;
/// Editors at once; who comes then waits until one has left.
const MAX_EDITORS: usize = 100;

#[bowline::main(name = "worker_pool", shutdown_within = "10s")]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let (listener, address) = listen(port_or(3003)).await?;
    println!("try: echo 'home Hello!' | nc -N {} {}    (Ctrl-C ends)", address.ip(), address.port());
    let published = serve(listener, draining(), |job| println!("{job:?}")).await?;
    println!("{published} pages published");
    Ok(())
}

/// Serves editors until `stop`, then renders what they left; returns how many pages were published.
async fn serve(
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
    mut publish: impl FnMut(Job),
) -> Result<usize> {
    scope("pages", async |s| {
        let board = s.cx().share("board", Board::default());
        let (bell, rung) = s.queue("bell", Bound::items(1), Overflow::DropNewest);
        let (mut lanes, mut results) = (Vec::new(), Vec::new());
        for _ in 0..WORKERS {
            let (lane, jobs) = s.queue("jobs", Bound::items(1), Overflow::Block);
            let (done, result) = s.queue("rendered", Bound::items(1), Overflow::Block);
            s.spawn_with("worker", (jobs, done), work);
            lanes.push(lane);
            results.push(result);
        }
        s.spawn_with("deal", (rung, board.clone(), lanes), deal);
        s.spawn_with("editors", (bell, board), async move |_cx, ends| edit(listener, stop, ends).await);
        let mut published = 0;
        // The first lane that has ended was next in turn: everything dealt before it has been published.
        for result in results.iter().cycle() {
            let Some(job) = result.recv().await? else { break };
            publish(job);
            published += 1;
        }
        Ok(published)
    })
    .await
}

async fn edit(
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    (bell, board): (Tx<'_, ()>, Shared<'_, Board>),
) -> Result<()> {
    // An editor that cannot write has lost its own edits, and nobody else's.
    let _ = group("editors", Discard.at_most(MAX_EDITORS), async |g| {
        let accepting = async {
            while let Ok(place) = g.reserve().await {
                let socket = accept(&listener).await;
                place.spawn_with("editor", (bell.clone(), board.clone()), async move |_cx, (bell, board)| {
                    take_edits(socket, &bell, &board).await
                });
            }
        };
        race(stop, accepting).await;
        g.cancel("the server is stopping");
    })
    .await;
    Ok(())
}

async fn take_edits(socket: TcpStream, bell: &Tx<'_, ()>, board: &Board) -> Result<()> {
    let mut lines = BufReader::new(socket).lines();
    while let Some(line) = lines.next_line().await? {
        board.edit(&line)?;
        bell.send(()).await?;
    }
    Ok(())
}

/// Takes all that changed whenever the bell rings, and deals it to the workers in turn.
async fn deal(_: &Cx, (rung, board, lanes): (Rx<'_, ()>, Shared<'_, Board>, Vec<Tx<'_, Job>>)) -> Result<()> {
    let mut turn = lanes.iter().cycle();
    while let Some(()) = rung.recv().await? {
        while let Some(job) = board.take()
            && let Some(lane) = turn.next()
        {
            lane.send(job).await?;
        }
    }
    Ok(())
}

async fn work(_: &Cx, (jobs, done): (Rx<'_, Job>, Tx<'_, Job>)) -> Result<()> {
    while let Some(job) = jobs.recv().await? {
        done.send(render(job).await).await?;
    }
    Ok(())
}
