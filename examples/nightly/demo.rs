//! The sessions that are swept and reported, and a demonstration with operators who ask for the same report.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use bowline_examples::{listen, stop_switch};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use super::serve;

/// When each session ends.
#[derive(Default)]
pub(crate) struct Sessions {
    ends: Mutex<Vec<SystemTime>>,
    /// What a report reads, for as long as it takes.
    archive: tokio::sync::Mutex<()>,
    report_began: Notify,
    reports: AtomicUsize,
}

impl Sessions {
    /// Drops the sessions that have ended.
    pub(crate) fn sweep(&self) {
        let now = SystemTime::now();
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).retain(|ends| *ends > now);
    }

    /// Writes the report of a night.
    pub(crate) async fn report(&self, night: SystemTime) -> Result<()> {
        let age = night.duration_since(SystemTime::UNIX_EPOCH).context("no clock is as wrong as that")?;
        self.report_began.notify_one();
        let _reading = self.archive.lock().await;
        let (day, sessions) = (age.as_secs() / 86_400, self.count());
        println!("day {day}: {sessions} sessions");
        self.reports.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn count(&self) -> usize {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// An operator's connection.
struct Operator(tokio::io::Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf);

impl Operator {
    async fn connect(address: std::net::SocketAddr) -> Result<Self> {
        let (read, write) = TcpStream::connect(address).await?.into_split();
        Ok(Self(BufReader::new(read).lines(), write))
    }

    async fn say(&mut self, job: &str) -> Result<()> {
        Ok(self.1.write_all(format!("{job}\n").as_bytes()).await?)
    }

    async fn hear(&mut self) -> Result<String> {
        self.0.next_line().await?.context("the service hung up")
    }
}

/// Two ask for the report at once and one gets it; a sweep goes on beside it; at the end a report is still finished.
pub(crate) async fn run() -> Result<()> {
    let (listener, address) = listen(0).await?;
    let (stop, stopped) = stop_switch();
    let sessions = Arc::new(Sessions::default());
    let ended = SystemTime::now() - Duration::from_secs(1);
    sessions
        .ends
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend([ended, ended + Duration::from_secs(3600)]);
    let operators = async {
        let (mut one, mut other) = (Operator::connect(address).await?, Operator::connect(address).await?);
        let busy = sessions.archive.lock().await;
        one.say("report").await?;
        sessions.report_began.notified().await;
        other.say("report").await?;
        let refused = other.hear().await?;
        assert!(refused.starts_with("report: a run of this job is there"), "{refused}");
        other.say("sweep").await?;
        assert_eq!(other.hear().await?, "sweep went well");
        other.say("dance").await?;
        let unknown = other.hear().await?;
        assert!(unknown.contains("there is no"), "{unknown}");
        drop(busy);
        assert_eq!(one.hear().await?, "report went well");
        let busy = sessions.archive.lock().await;
        one.say("report").await?;
        sessions.report_began.notified().await;
        drop(stop); // it is being written
        // Hung up on, with a word about it if the program has one.
        assert!(one.hear().await.map_or(true, |line| line.contains("the service is stopping")));
        drop(busy);
        Ok(())
    };
    let ((), ()) = tokio::try_join!(serve(listener, stopped, Arc::clone(&sessions)), operators)?;
    let reports = sessions.reports.load(Ordering::SeqCst);
    println!("{reports} reports, {} session left", sessions.count());
    assert_eq!((reports, sessions.count()), (2, 1));
    Ok(())
}

#[cfg(test)]
#[bowline::test]
async fn does_what_it_says_and_leaves_no_task_behind() -> Result<()> {
    bowline::timeout(Duration::from_secs(30), Box::pin(run())).await?
}
