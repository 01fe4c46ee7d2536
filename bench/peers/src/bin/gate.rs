//! The gate: instructions per operation, counted by valgrind, as ratios between contestants of one build.
//!
//! Instruction counts repeat to a percent on any machine and under any load, which no clock does. They say nothing about
//! cache misses and contention: those are for the tables.
//!
//! `gate check FILE` counts everybody named in FILE and compares; `gate run NAME OPERATIONS` is what valgrind runs;
//! `gate profile NAME` says where the instructions are.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use peers::measure::{Threads, Work};
use peers::profile::Profile;
use peers::{batch, polls, relay};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Contestant = (&'static str, fn(u64) -> Work);

const CONTESTANTS: [Contestant; 15] = [
    ("spawn.bare", batch::bare),
    ("spawn.join_set", batch::join_set),
    ("spawn.tracker_token", batch::tracker_token),
    ("spawn.join_set_token", batch::join_set_token),
    ("spawn.scope", batch::in_scope),
    ("spawn.collect_all", batch::collected),
    ("spawn.discard", batch::discarded),
    ("poll.bare", polls::bare),
    ("poll.scope", polls::in_scope),
    ("turn.bare", polls::bare_turns),
    ("turn.scope", polls::turns_in_scope),
    ("queue.tokio", relay::tokio_mpsc),
    ("queue.ours", relay::ours),
    ("queue4.tokio", relay::tokio_mpsc_shared),
    ("queue4.ours", relay::ours_shared),
];

/// Two runs of different length; the difference is free of what a process does once.
const SHORT: u64 = 4_000;
const LONG: u64 = 20_000;
/// A ratio so far below its limit asks for a lower limit.
const SLACK: f64 = 0.9;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", name, operations] => run(name, operations),
        ["check", limits] => check(limits),
        ["profile", name] => profile(name),
        _ => Err("usage: gate check FILE | run NAME OPERATIONS | profile NAME".to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("gate: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(name: &str, operations: &str) -> Result<bool, String> {
    let (_, work) =
        CONTESTANTS.iter().find(|(known, _)| *known == name).ok_or(format!("nobody is called {name}"))?;
    let operations = operations.parse().map_err(|error| format!("{operations}: {error}"))?;
    let runtime = Threads::One.runtime();
    runtime.block_on(runtime.spawn(work(operations))).map_err(|error| error.to_string())?;
    Ok(true)
}

/// Instructions of a whole run.
fn count(name: &str, operations: u64, profile: &str) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={profile}")])
        .arg(program)
        .args(["run", name, &operations.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match collected.filter(|_| output.status.success()) {
        Some(instructions) => Ok(instructions),
        None => Err(format!("{name} did not end well: {said}")),
    }
}

fn profile(name: &str) -> Result<bool, String> {
    let file = std::env::temp_dir().join(format!("gate-{}.callgrind", std::process::id()));
    count(name, LONG, &file.to_string_lossy())?;
    let written = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    std::fs::remove_file(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("\n==> {name}: instructions per operation, {LONG} operations and what the process does once");
    Profile::parse(&written).print(LONG);
    Ok(true)
}

fn per_operation(name: &str) -> Result<f64, String> {
    let short = count(name, SHORT, "/dev/null")?;
    let long = count(name, LONG, "/dev/null")?;
    Ok((long - short) as f64 / (LONG - SHORT) as f64)
}

/// One line of the limits: `ours / peer <= limit`.
struct Limit<'a> {
    ours: &'a str,
    peer: &'a str,
    at_most: f64,
}

fn parse(limits: &str) -> Result<Vec<Limit<'_>>, String> {
    let lines = limits.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [ours, "/", peer, "<=", at_most] = words[..] else {
                return Err(format!("`{line}` is not `OURS / PEER <= RATIO`"));
            };
            let at_most = at_most.parse().map_err(|error| format!("`{line}`: {error}"))?;
            Ok(Limit { ours, peer, at_most })
        })
        .collect()
}

fn check(file: &str) -> Result<bool, String> {
    let limits = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let limits = parse(&limits)?;
    if limits.is_empty() {
        return Err(format!("{file} limits nothing"));
    }
    let mut counted = BTreeMap::new();
    for name in limits.iter().flat_map(|limit| [limit.peer, limit.ours]) {
        if !counted.contains_key(name) {
            counted.insert(name, per_operation(name)?);
        }
    }
    println!(
        "| ours | instructions | peer | instructions | ratio | limit | |\n|---|---|---|---|---|---|---|"
    );
    let mut kept = true;
    for Limit { ours, peer, at_most } in limits {
        let ratio = counted[ours] / counted[peer];
        let verdict = match ratio {
            ratio if ratio > at_most => "**broken**",
            ratio if ratio < at_most * SLACK => "kept; lower the limit",
            _ => "kept",
        };
        kept &= ratio <= at_most;
        let (ours_count, peer_count) = (counted[ours], counted[peer]);
        println!(
            "| {ours} | {ours_count:.0} | {peer} | {peer_count:.0} | {ratio:.3} | {at_most:.2} | {verdict} |"
        );
    }
    Ok(kept)
}
