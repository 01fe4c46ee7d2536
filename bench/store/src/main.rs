//! What the durable store does on this machine.
//!
//! ```text
//! store-bench appends DIRECTORY      acknowledged appends per second and their latency, by durability
//! store-bench never DIRECTORY        that without a sync once, to run two builds in turns
//! store-bench start DIRECTORY        memory and start with 100,000 streams and 1,000,000 publications
//! store-bench engines DIRECTORY      commits of 100 records in ours and in other engines (feature `peers`)
//! store-bench nats DIRECTORY         what `appends` measures beside NATS JetStream (NATS_SERVER, or nats-server in the path)
//! ```
//!
//! `DIRECTORY` is made and removed, and has to be on the disk that is to be measured. 256-byte payloads everywhere.

#[cfg(feature = "peers")]
mod engines;
mod nats;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bowline_store::disk::Directory;
use bowline_store::durable::{DurableStore, Opened, Options};
use bowline_store::{Append, Durability, Limit, Publication, Query, Receipt, Retention, StreamStore};

const PAYLOAD: &[u8] = &[b'x'; 256];
const HOUR: Duration = Duration::from_secs(3600);

/// Threads that publish; each stands for many publishers with one publication under way.
const THREADS: usize = 4;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| "store-bench-data".into()));
    match command.as_str() {
        "appends" => appends(&directory),
        "never" => never(&directory),
        "start" => start(&directory),
        // What `start` starts.
        "open" => open(&directory),
        #[cfg(feature = "peers")]
        "engines" => engines::run(&directory),
        "nats" => {
            if let Err(error) = nats::run(&directory) {
                eprintln!("error: {error}");
                std::process::exit(1);
            }
        }
        _ => {
            eprintln!("store-bench appends|never|start|engines|nats DIRECTORY");
            std::process::exit(2);
        }
    }
}

/// Opens a store in `directory`, lets `work` use it, and closes it.
fn with_store<T>(directory: &Path, work: impl FnOnce(&DurableStore) -> T) -> T {
    let Opened { store, writer, keeper, .. } =
        DurableStore::open(Directory::new(directory), Options::default()).expect("the store opens");
    std::thread::scope(|scope| {
        scope.spawn(|| writer.run());
        scope.spawn(|| keeper.run());
        let answer = work(&store);
        store.close();
        answer
    })
}

fn append(channel: &str, durability: Durability) -> Append<'_> {
    let mut append = Append::new(channel, Publication::new(PAYLOAD), Retention::new(100, HOUR, 24 * HOUR));
    append.durability = Some(durability);
    append
}

fn appends(directory: &Path) {
    println!("| durability | under way | acknowledged/s | p50 | p99 | max |");
    println!("|---|---:|---:|---:|---:|---:|");
    for round in 0..3 {
        for (name, durability, per_thread) in [
            ("always", Durability::Always, 600_000 / THREADS),
            ("interval 100 ms", Durability::Interval(Duration::from_millis(100)), 2_000_000 / THREADS),
            ("never", Durability::Never, 2_000_000 / THREADS),
        ] {
            for under_way in [256, 4_096] {
                let (rate, mut latencies) = with_store(directory, |store| {
                    publish(store, durability, per_thread, under_way / THREADS)
                });
                std::fs::remove_dir_all(directory).expect("the directory is ours");
                let [p50, p99, max] = percentiles(&mut latencies);
                println!(
                    "| {name} ({round}) | {under_way} | {rate:.0} | {p50:.2?} | {p99:.2?} | {max:.2?} |"
                );
            }
        }
    }
}

fn never(directory: &Path) {
    let per_thread = 2_000_000 / THREADS;
    let (rate, _) =
        with_store(directory, |store| publish(store, Durability::Never, per_thread, 4_096 / THREADS));
    std::fs::remove_dir_all(directory).expect("the directory is ours");
    println!("{rate:.0}");
}

/// The half, 99 of a hundred, and the longest.
fn percentiles(latencies: &mut [Duration]) -> [Duration; 3] {
    latencies.sort_unstable();
    [0.5, 0.99, 1.0].map(|share| latencies[((latencies.len() - 1) as f64 * share) as usize])
}

/// Publishes from all threads, each with `window` publications under way.
fn publish(
    store: &DurableStore,
    durability: Durability,
    per_thread: usize,
    window: usize,
) -> (f64, Vec<Duration>) {
    let began = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let channels: Vec<String> =
                        (0..2_500).map(|channel| format!("channel:{thread}:{channel}")).collect();
                    let mut latencies = Vec::with_capacity(per_thread / 16 + 1);
                    let mut waiting: VecDeque<(Option<Instant>, Receipt<_>)> =
                        VecDeque::with_capacity(window);
                    let mut settle = |(began, receipt): (Option<Instant>, Receipt<_>)| {
                        receipt.wait_blocking().expect("it is kept");
                        latencies.extend(began.map(|began| began.elapsed()));
                    };
                    for index in 0..per_thread {
                        if waiting.len() == window {
                            waiting.pop_front().into_iter().for_each(&mut settle);
                        }
                        let receipt = store
                            .append(append(&channels[index % channels.len()], durability))
                            .expect("there is room");
                        // Reading the clock costs a tenth of an append, so that one in sixteen is timed.
                        let began = index.is_multiple_of(16).then(Instant::now);
                        waiting.push_back((began, receipt));
                    }
                    waiting.into_iter().for_each(&mut settle);
                    latencies
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a publisher")).collect::<Vec<_>>()
    });
    ((per_thread * THREADS) as f64 / began.elapsed().as_secs_f64(), latencies)
}

fn start(directory: &Path) {
    let (streams, publications) = (100_000, 1_000_000);
    let fill = Instant::now();
    with_store(directory, |store| {
        let mut last = None;
        for index in 0..publications {
            let channel = format!("channel:{}", index % streams);
            // Back pressure, as a publisher would take it.
            loop {
                match store.append(append(&channel, Durability::Always)) {
                    Ok(receipt) => {
                        last = Some(receipt);
                        break;
                    }
                    Err(_) => std::thread::yield_now(),
                }
            }
        }
        last.map(Receipt::wait_blocking).transpose().expect("it is kept");
        println!("filled in {:.2?}; resident {} MiB", fill.elapsed(), resident_mib());
        let read = Instant::now();
        for index in 0..10_000 {
            let channel = format!("channel:{}", index * 7 % streams);
            let page = store.read(&channel, Query::forward(0, Limit::All), HOUR).expect("read");
            assert_eq!(page.publications.len(), publications / streams);
        }
        println!("10,000 reads of 10: {:.1?} each", read.elapsed() / 10_000);
    });
    // Alone in its process, so that memory is that of a start.
    for files in ["one index missing", "all indexed but the last"] {
        println!("start, {files}:");
        let program = std::env::current_exe().expect("a program has a path");
        let opened = std::process::Command::new(program).arg("open").arg(directory).status();
        assert!(opened.expect("it starts").success());
    }
    std::fs::remove_dir_all(directory).expect("the directory is ours");
}

fn open(directory: &Path) {
    let Opened { store, writer, keeper, recovered } =
        DurableStore::open(Directory::new(directory), Options::default()).expect("open");
    println!("  {:.2?}, resident {} MiB, {:?}", recovered.took, resident_mib(), store.stats());
    println!("  {} files, {} of them without index", recovered.files, recovered.scanned_files);
    std::thread::scope(|scope| {
        scope.spawn(|| writer.run());
        keeper.tend();
        store.close();
    });
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
