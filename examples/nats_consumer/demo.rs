//! A broker of our own, orders of which some cannot be packed, and a stop in the midst of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use async_nats::jetstream::{self, AckKind};
use bowline_examples::stop_switch;
use futures_util::StreamExt;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{ATTEMPTS, DEAD_LETTERS, SUBJECT, WAITING, WORKERS, consume, subscribe};

/// Orders that can be packed, one of them at the second attempt.
const GOOD: usize = 40;
/// What an attempt may take here. Those that succeed do so at once.
const LIMIT: Duration = Duration::from_secs(1);

/// A `nats-server` on a free port, with a folder of its own; both are gone when it is dropped.
struct Broker {
    url: String,
    folder: PathBuf,
    process: Child,
}

impl Broker {
    /// The program: what the environment variable `BOWLINE_NATS_SERVER` names, or `nats-server`.
    fn program() -> String {
        // Debian keeps servers where only root's PATH leads.
        const OF_DEBIAN: &str = "/usr/sbin/nats-server";
        let usual = if Path::new(OF_DEBIAN).is_file() { OF_DEBIAN } else { "nats-server" };
        std::env::var("BOWLINE_NATS_SERVER").unwrap_or_else(|_| usual.to_owned())
    }

    async fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("bowline-nats-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder); // of an earlier process with our number
        std::fs::create_dir_all(&folder)?;
        let process = Command::new(Self::program())
            .args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd"])
            .arg(&folder)
            .arg("--ports_file_dir")
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("no {} (BOWLINE_NATS_SERVER may name one)", Self::program()))?;
        let mut broker = Self { url: String::new(), folder, process };
        broker.url = broker.wait_for_its_address().await?;
        Ok(broker)
    }

    /// It writes its addresses into a file when it is ready.
    async fn wait_for_its_address(&mut self) -> Result<String> {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        loop {
            if let Some(ended) = self.process.try_wait()? {
                bail!("the broker ended: {ended}");
            }
            if let Some(url) = address_in(&self.folder) {
                return Ok(url);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn address_in(folder: &Path) -> Option<String> {
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|file| file.path());
    let ports = files.into_iter().find(|path| path.extension().is_some_and(|found| found == "ports"))?;
    let text = std::fs::read_to_string(ports).ok()?;
    let (_, rest) = text.split_once("\"nats://")?;
    let (address, _) = rest.split_once('"')?;
    Some(format!("nats://{address}"))
}

/// What was packed, and how often each was tried.
#[derive(Default)]
struct Packed {
    tried: Mutex<HashMap<String, i64>>,
    done: watch::Sender<usize>,
}

impl Packed {
    async fn pack(&self, order: String) -> Result<()> {
        let tried = {
            let mut tried = self.tried.lock().unwrap();
            let tried = tried.entry(order.clone()).or_default();
            *tried += 1;
            *tried
        };
        match &order[..] {
            "broken" => bail!("nobody can pack it"),
            "endless" => std::future::pending().await,
            "order 7" if tried == 1 => bail!("out of boxes"),
            _ => {}
        }
        self.done.send_modify(|done| *done += 1);
        Ok(())
    }
}

/// Publishes, consumes, stops, and asks the broker what it knows.
pub(crate) async fn run() -> Result<()> {
    let broker = Broker::start().await?;
    Box::pin(what_cannot_be_packed_is_kept(&broker)).await?;
    Box::pin(a_stop_finishes_what_is_in_hand(&broker)).await
}

async fn what_cannot_be_packed_is_kept(broker: &Broker) -> Result<()> {
    let client = async_nats::connect(&broker.url).await?;
    let jetstream = jetstream::new(client.clone());
    let consumer = subscribe(&client).await?;
    jetstream.publish(SUBJECT, "deadly".into()).await?.await?;
    for _ in 0..ATTEMPTS {
        // Whoever takes it goes down with it, and it comes again.
        let message = consumer.batch().max_messages(1).messages().await?.next().await;
        let message = message.context("it is there")?.map_err(|error| anyhow!(error))?;
        message.ack_with(AckKind::Nak(None)).await.map_err(|error| anyhow!(error))?;
    }
    for order in ["broken", "endless"] {
        jetstream.publish(SUBJECT, order.into()).await?.await?;
    }
    for order in 0..GOOD {
        jetstream.publish(SUBJECT, format!("order {order}").into()).await?.await?;
    }

    // A plain subscription sees what goes into the stream; there it stays besides.
    let mut dead = client.subscribe(DEAD_LETTERS).await?;
    let packed = Arc::new(Packed::default());
    let (stop, stopped) = stop_switch();
    let of_workers = Arc::clone(&packed);
    let consuming = consume(async_nats::connect(&broker.url).await?, stopped, LIMIT, move |order| {
        let packed = Arc::clone(&of_workers);
        async move { packed.pack(order).await }
    });
    let watching = async {
        packed.done.subscribe().wait_for(|done| *done >= GOOD).await?;
        let mut letters = HashMap::new();
        while letters.len() < 3 {
            let letter = dead.next().await.context("a dead letter")?;
            let reason = letter.headers.as_ref().and_then(|headers| headers.get("Reason"));
            let reason = reason.context("a dead letter has a reason")?.to_string();
            letters.insert(String::from_utf8(letter.payload.to_vec())?, reason);
        }
        drop(stop);
        Ok(letters)
    };
    let (succeeded, letters) = tokio::try_join!(consuming, watching)?;
    println!("{succeeded} orders packed; dead letters: {letters:?}");

    ensure!(succeeded == GOOD as u64, "{succeeded}");
    ensure!(letters["deadly"] == "no attempt came to an end", "{letters:?}");
    ensure!(letters["broken"] == "nobody can pack it", "{letters:?}");
    ensure!(letters["endless"].contains("deadline"), "{letters:?}");
    let tried = packed.tried.lock().unwrap().clone();
    ensure!(
        tried["order 7"] == 2 && tried["broken"] == ATTEMPTS && tried["endless"] == ATTEMPTS,
        "{tried:?}"
    );
    ensure!(!tried.contains_key("deadly"), "{tried:?}");
    ensure!(unfinished(&client).await? == 0, "everything was acknowledged or kept");
    client.drain().await?;
    Ok(())
}

async fn a_stop_finishes_what_is_in_hand(broker: &Broker) -> Result<()> {
    let client = async_nats::connect(&broker.url).await?;
    let jetstream = jetstream::new(client.clone());
    for order in 0..GOOD {
        jetstream.publish(SUBJECT, format!("late order {order}").into()).await?.await?;
    }
    let (begun, go_on) = (watch::Sender::new(0), watch::Sender::new(false));
    let (stop, stopped) = stop_switch();
    let of_workers = (begun.clone(), go_on.subscribe());
    let consuming =
        consume(async_nats::connect(&broker.url).await?, stopped, super::ATTEMPT_TAKES_AT_MOST, move |_| {
            let (begun, mut go_on) = of_workers.clone();
            async move {
                begun.send_modify(|begun| *begun += 1);
                go_on.wait_for(|go_on| *go_on).await?;
                Ok(())
            }
        });
    let stopping = async {
        begun.subscribe().wait_for(|begun| *begun == WORKERS).await?;
        drop(stop);
        go_on.send_replace(true);
        Ok(())
    };
    let (succeeded, ()) = tokio::try_join!(consuming, stopping)?;
    println!("stopped in the middle: {succeeded} of {GOOD} orders were in hand and are packed");

    let succeeded = usize::try_from(succeeded)?;
    ensure!((WORKERS..=WORKERS + WAITING + 1).contains(&succeeded), "{succeeded}");
    ensure!(unfinished(&client).await? == GOOD - succeeded, "the broker still has the others");
    client.drain().await?;
    Ok(())
}

/// How many orders the broker would deliver, or deliver again.
async fn unfinished(client: &async_nats::Client) -> Result<usize> {
    let info = subscribe(client).await?.info().await?.clone();
    Ok(info.num_ack_pending + usize::try_from(info.num_pending)?)
}

#[cfg(test)]
#[bowline::test]
async fn does_what_it_says_and_leaves_no_task_behind() -> Result<()> {
    use std::io::Write as _;

    let there = Command::new(Broker::program()).arg("--version").output().await;
    if !there.is_ok_and(|version| version.status.success()) {
        // On the terminal also when the test passes: its own standard error would be kept back.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: the NATS consumer was not run: no {}", Broker::program());
        return Ok(());
    }
    bowline::timeout(Duration::from_secs(50), Box::pin(run())).await?
}
