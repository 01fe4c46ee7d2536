//! The jobs of `bowline.rs` on bare tokio, as they are written with care.
//!
//! Correct as it stands, for a night in UTC and a clock that nobody sets. Per job there is a lock against overlap, a time-out, a
//! task for the panic, and a tracker for the end; what was skipped or went wrong is a line on standard error, if at all.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "this is the bare form")]

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use bowline_examples::{accept, demo_wanted, listen, port_or};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod demo;

use demo::Sessions;

const SWEEP_EVERY: Duration = Duration::from_secs(5);
const REPORT_WITHIN: Duration = Duration::from_secs(60);
const SWEEP_WITHIN: Duration = Duration::from_secs(300);
const JOBS_AT_ONCE: usize = 2;
/// Operators at once; who comes then waits until one has left.
const MAX_OPERATORS: usize = 10;
/// From the signal to the end, whatever happens.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(70);

#[tokio::main]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let stopping = cancelled_by_signal()?;
    let (listener, address) = listen(port_or(3004)).await?;
    println!("try: echo report | nc -N {} {}    (Ctrl-C ends)", address.ip(), address.port());
    let too_late = async {
        stopping.cancelled().await;
        sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        served = serve(listener, stopping.clone().cancelled_owned(), Arc::default()) => served,
        () = too_late => bail!("the shutdown took too long"),
    }
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

/// What the two loops and the operators share.
struct Jobs {
    sessions: Arc<Sessions>,
    places: Semaphore,
    sweep: Mutex<()>,
    report: Mutex<()>,
    /// Runs and whoever waits for one.
    running: TaskTracker,
    stopping: CancellationToken,
}

impl Jobs {
    /// Runs a job in a task of its own, so that it goes on when an operator hangs up, and its panic ends there.
    async fn run(self: &Arc<Self>, job: &str, scheduled_for: SystemTime) -> String {
        if self.stopping.is_cancelled() {
            return "the schedule was stopped".to_owned();
        }
        let (jobs, name) = (Arc::clone(self), job.to_owned());
        let run = self.running.spawn(async move {
            let (lock, limit) = match &*name {
                "sweep" => (&jobs.sweep, SWEEP_WITHIN),
                "report" => (&jobs.report, REPORT_WITHIN),
                _ => return format!("{name}: there is no such job"),
            };
            let Ok(_alone) = lock.try_lock() else {
                return format!("{name}: a run of this job is there");
            };
            let Ok(_place) = jobs.places.acquire().await else { unreachable!("nobody closes it") };
            let work = async {
                if name == "sweep" {
                    jobs.sessions.sweep();
                    return Ok(());
                }
                jobs.sessions.report(scheduled_for).await
            };
            match timeout(limit, work).await {
                Ok(Ok(())) => format!("{name} went well"),
                Ok(Err(error)) => format!("{name} failed: {error:#}"),
                Err(_) => format!("{name} took too long and was cancelled"),
            }
        });
        run.await.unwrap_or_else(|panic| format!("{job} panicked: {panic}"))
    }

    async fn sweep_now_and_then(self: Arc<Self>) {
        let mut ticks = interval_at(tokio::time::Instant::now() + SWEEP_EVERY, SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip); // the default makes up for each
        while self.stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            eprintln!("{}", self.run("sweep", SystemTime::now()).await);
        }
    }

    async fn report_every_night(self: Arc<Self>) {
        const TWO: u64 = 2 * 3600;
        const DAY: u64 = 24 * 3600;
        loop {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let next = Duration::from_secs((since.as_secs() + DAY - TWO) / DAY * DAY + TWO);
            if self.stopping.run_until_cancelled(sleep(next.saturating_sub(since))).await.is_none() {
                return;
            }
            eprintln!("{}", self.run("report", SystemTime::UNIX_EPOCH + next).await);
        }
    }
}

/// Runs the jobs and serves operators until `stop`; what runs then comes to its end.
async fn serve(
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
    sessions: Arc<Sessions>,
) -> Result<()> {
    let jobs = Arc::new(Jobs {
        sessions,
        places: Semaphore::new(JOBS_AT_ONCE),
        sweep: Mutex::default(),
        report: Mutex::default(),
        running: TaskTracker::new(),
        stopping: CancellationToken::new(),
    });
    let (operators, hang_up) = (TaskTracker::new(), CancellationToken::new());
    operators.spawn(Arc::clone(&jobs).sweep_now_and_then());
    operators.spawn(Arc::clone(&jobs).report_every_night());
    let places = Arc::new(Semaphore::new(MAX_OPERATORS));
    let accepting = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (socket, jobs, hang_up) = (accept(&listener).await, Arc::clone(&jobs), hang_up.clone());
            operators.spawn(async move {
                let _place = place; // moved in, or it would come back at once
                hang_up.run_until_cancelled(operate(socket, jobs)).await
            });
        }
    };
    tokio::select! {
        () = stop => {}
        () = accepting => {}
    }
    hang_up.cancel();
    jobs.stopping.cancel();
    operators.close();
    operators.wait().await;
    jobs.running.close();
    jobs.running.wait().await;
    Ok(())
}

/// Runs the job that each line names, and says what came of it.
async fn operate(mut socket: TcpStream, jobs: Arc<Jobs>) -> Result<()> {
    let (read, mut write) = socket.split();
    let mut lines = BufReader::new(read).lines();
    while let Some(job) = lines.next_line().await? {
        let answer = jobs.run(&job, SystemTime::now()).await + "\n";
        write.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
