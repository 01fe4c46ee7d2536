//! The jobs of a service: sessions are swept every few seconds, a report is written every night, and an operator can ask for
//! either by hand.
//!
//! Shown: a job never runs beside itself, and whoever asks for one that is running is told so; a run that takes too long is
//! cancelled, one that fails or panics is counted, and the next goes on; at Ctrl-C nothing begins any more, and the report that is
//! being written is finished.
//!
//! What the bare form lacks: the view of the running program shows each run with its age and what it waits for, the books show
//! what was skipped, missed or failed, and a night that the machine slept through is made up for in the morning.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bowline::{Discard, Job, Jobs, Schedule, draining, group, race, scope};
use bowline_examples::{accept, demo_wanted, listen, port_or};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

mod demo;

use demo::Sessions;

const SWEEP_EVERY: Duration = Duration::from_secs(5);
const REPORT_WITHIN: Duration = Duration::from_secs(60);
/// Operators at once; who comes then waits until one has left.
const MAX_OPERATORS: usize = 10;

#[bowline::main(name = "nightly", shutdown_within = "70s")]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let (listener, address) = listen(port_or(3004)).await?;
    println!("try: echo report | nc -N {} {}    (Ctrl-C ends)", address.ip(), address.port());
    serve(listener, draining(), Arc::new(Sessions::default())).await
}

/// Runs the jobs and serves operators until `stop`; what runs then comes to its end.
async fn serve(
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
    sessions: Arc<Sessions>,
) -> Result<()> {
    scope("service", async |s| {
        let swept = Arc::clone(&sessions);
        let jobs = Schedule::new("jobs", 2)
            .every("sweep", SWEEP_EVERY, async move |_run| swept.sweep())
            .job(Job::cron("report", "0 2 * * *", "UTC")?.timeout(REPORT_WITHIN), async move |run| {
                sessions.report(run.scheduled_for).await
            })
            .start(s);
        let _ = group("operators", Discard.at_most(MAX_OPERATORS), async |g| {
            let accepting = async {
                while let Ok(place) = g.reserve().await {
                    let (socket, jobs) = (accept(&listener).await, jobs.clone());
                    place.spawn("operator", operate(socket, jobs));
                }
            };
            race(stop, accepting).await;
            g.cancel("the service is stopping");
        })
        .await;
        Ok(jobs.stop().await?)
    })
    .await
}

/// Runs the job that each line names, and says what came of it.
async fn operate(mut socket: TcpStream, jobs: Jobs) -> Result<()> {
    let (read, mut write) = socket.split();
    let mut lines = BufReader::new(read).lines();
    while let Some(job) = lines.next_line().await? {
        let answer = match jobs.trigger(&job).await {
            Ok(report) => format!("{job} {}\n", report.end),
            Err(why) => format!("{job}: {why}\n"),
        };
        write.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
