//! The rendering workers of `bowline.rs` on bare tokio, as they are written with care.
//!
//! Correct as it stands; what it rests on is not visible. The end of each stage hangs on who holds which clone, a task that
//! fails is noticed where somebody thought of joining it, and the tracker, the token, the signals and the limit of the
//! shutdown are put together anew in each program.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "this is the bare form")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bowline_examples::{accept, demo_wanted, listen, port_or};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod demo;

use demo::{Board, Job, render};

const WORKERS: usize = 4;
/// Editors at once; who comes then waits until one has left.
const MAX_EDITORS: usize = 100;
/// From the signal to the end, whatever happens.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let stopping = cancelled_by_signal()?;
    let (listener, address) = listen(port_or(3003)).await?;
    println!("try: echo 'home Hello!' | nc -N {} {}    (Ctrl-C ends)", address.ip(), address.port());
    let too_late = async {
        stopping.cancelled().await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    let publish = |job| println!("{job:?}");
    tokio::select! {
        published = serve(listener, stopping.clone().cancelled_owned(), publish) => {
            println!("{} pages published", published?);
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

/// Serves editors until `stop`, then renders what they left; returns how many pages were published.
async fn serve(
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
    mut publish: impl FnMut(Job),
) -> Result<usize> {
    let board = Arc::new(Board::default());
    let (bell, rung) = mpsc::channel(1);
    let (mut lanes, mut results) = (Vec::new(), Vec::new());
    let mut stages = JoinSet::new();
    for _ in 0..WORKERS {
        let (lane, jobs) = mpsc::channel(1);
        let (done, result) = mpsc::channel(1);
        stages.spawn(work(jobs, done));
        lanes.push(lane);
        results.push(result);
    }
    stages.spawn(deal(rung, Arc::clone(&board), lanes));
    stages.spawn(edit(listener, stop, bell, board));
    let mut published = 0;
    // The first lane that has ended was next in turn: everything dealt before it has been published.
    'publishing: loop {
        for result in &mut results {
            let Some(job) = result.recv().await else { break 'publishing };
            publish(job);
            published += 1;
        }
    }
    drop(results); // if a worker failed, the stages before it end only when theirs have nobody to send to
    while let Some(ended) = stages.join_next().await {
        ended.context("a stage panicked")??;
    }
    Ok(published)
}

async fn edit(
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    bell: mpsc::Sender<()>,
    board: Arc<Board>,
) -> Result<()> {
    let editors = TaskTracker::new();
    let stopping = CancellationToken::new();
    let places = Arc::new(Semaphore::new(MAX_EDITORS));
    let accepting = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let socket = accept(&listener).await;
            let (bell, board, stopping) = (bell.clone(), Arc::clone(&board), stopping.clone());
            editors.spawn(async move {
                let _place = place; // moved in, or it would come back at once
                stopping.run_until_cancelled(take_edits(socket, bell, board)).await
            });
        }
    };
    tokio::select! {
        () = stop => {}
        () = accepting => {}
    }
    stopping.cancel();
    editors.close();
    editors.wait().await;
    Ok(())
}

async fn take_edits(socket: TcpStream, bell: mpsc::Sender<()>, board: Arc<Board>) -> Result<()> {
    let mut lines = BufReader::new(socket).lines();
    while let Some(line) = lines.next_line().await? {
        board.edit(&line)?;
        let _ = bell.try_send(()); // full: it rings already
    }
    Ok(())
}

/// Takes all that changed whenever the bell rings, and deals it to the workers in turn.
async fn deal(mut rung: mpsc::Receiver<()>, board: Arc<Board>, lanes: Vec<mpsc::Sender<Job>>) -> Result<()> {
    let mut turn = lanes.iter().cycle();
    while rung.recv().await.is_some() {
        while let Some(job) = board.take()
            && let Some(lane) = turn.next()
        {
            lane.send(job).await?;
        }
    }
    Ok(())
}

async fn work(mut jobs: mpsc::Receiver<Job>, done: mpsc::Sender<Job>) -> Result<()> {
    while let Some(job) = jobs.recv().await {
        done.send(render(job).await).await?;
    }
    Ok(())
}
