//! The end of the process: everybody is told, nobody is left, and the exit code tells how it went.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::process::Process;
use crate::support::{PATIENCE, WEBSOCKET, closed_with, config, eventually};
use bowline::{Cancelled, Runner, scope};
use bowline_server::client::Client;
use bowline_server::net::Server;

const CLIENTS: usize = 200;

async fn connect(server: &Process, channel: &str) -> Client {
    let mut client = Client::open(server.public, WEBSOCKET).await.unwrap();
    client.call(r#"{"id":1,"connect":{}}"#).await.unwrap();
    client.call(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#)).await.unwrap();
    client
}

#[bowline::test(worker_threads = 2)]
async fn sigterm_under_load_tells_every_client_and_ends_clean_within_the_deadline() {
    let server = Process::serve(&[("shutdown.timeout", "20s"), ("log.level", "error")]);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect(&server, "busy").await);
    }
    let mut publisher = connect(&server, "elsewhere").await;
    scope("load", async |s| {
        let told = clients
            .into_iter()
            .map(|mut client| s.spawn("client", async move { Ok(closed_with(&mut client).await) }));
        let told: Vec<_> = told.collect();
        // Load until the server closes the publisher's connection too.
        let published = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&published);
        let publishing = s.spawn("publisher", async move {
            for id in 3.. {
                let command = format!(r#"{{"id":{id},"publish":{{"channel":"busy","data":{id}}}}}"#);
                if publisher.call(&command).await.is_err() {
                    break;
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        eventually("there is load", || published.load(Ordering::Relaxed) > 20).await;
        server.signal("TERM");
        for told in told {
            assert_eq!(told.await?, (3001, "shutdown".to_owned()));
        }
        publishing.await?;
        let (status, _, said) = server.wait(Duration::from_secs(21));
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("clean shutdown (SIGTERM)"), "{said}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(worker_threads = 2)]
async fn clients_that_do_not_answer_the_close_do_not_hold_up_the_end() {
    let server = Process::serve(&[("shutdown.timeout", "20s"), ("log.level", "error")]);
    let mute = connect(&server, "a").await;
    server.signal("INT");
    let (status, took, said) = server.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{said}");
    // A goodbye takes five seconds at most; what has not ended after sixteen is cut off.
    assert!(took < Duration::from_secs(16), "took {took:?}");
    drop(mute);
}

/// The variable that turns this test binary into a server with a task that refuses to stop.
const STUBBORN: &str = "BOWLINE_TEST_STUBBORN";

/// Not a test of its own: the child process of the tests below.
#[test]
fn stubborn_server() {
    let Some(within) = std::env::var(STUBBORN).ok().and_then(|within| within.parse().ok()) else { return };
    let runner = Runner::new("stubborn").worker_threads(2).shutdown_within(Duration::from_secs(within));
    let (_, report) = runner.run(async {
        let server = Server::bind(config(&[]), true).await.unwrap();
        println!("clients ws://{}/", server.public_address());
        println!("task tree http://{}/", server.internal_address());
        scope("process", async |s| {
            s.spawn_blocking::<(), _>("refuses to stop", || {
                loop {
                    std::thread::park();
                }
            });
            server.run(bowline::draining()).await?;
            Ok::<(), Cancelled>(())
        })
        .await
    });
    eprintln!("{report}");
    // What `ExitCode` would do, from inside a test.
    std::process::exit(if report.is_clean() { 0 } else { 3 });
}

/// It has as many seconds for its end.
fn stubborn(within: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "shutdown::stubborn_server", "--nocapture"]).env(STUBBORN, within);
    Process::start(command)
}

#[bowline::test(worker_threads = 2)]
async fn a_task_that_refuses_to_stop_forces_the_end_and_is_named_with_its_place() {
    let server = stubborn("2");
    let mut client = connect(&server, "a").await;
    server.signal("TERM");
    assert_eq!(closed_with(&mut client).await, (3001, "shutdown".to_owned()));
    let (status, _, said) = server.wait(PATIENCE);
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("forced shutdown"), "{said}");
    assert!(said.contains("main/refuses to stop"), "{said}");
    assert!(said.contains("tests/server/shutdown.rs:"), "{said}");
}

#[bowline::test(worker_threads = 2)]
async fn a_second_signal_forces_the_end_at_once() {
    let server = stubborn("60");
    // Two signals that come at once are one: they are sent until the process has taken the second.
    let (status, took, said) = server.end_by("TERM", Duration::from_millis(100), PATIENCE);
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(took < Duration::from_secs(30), "took {took:?}");
    assert!(said.contains("second signal"), "{said}");
}

#[test]
fn wrong_settings_end_the_process_with_2_and_name_the_key_and_the_nearest_one() {
    let ended = Command::new(env!("CARGO_BIN_EXE_bowline"))
        .args(["serve", "--set", "client.chanel_limit=3"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("client.chanel_limit") && said.contains("client.channel_limit"), "{said}");
}
