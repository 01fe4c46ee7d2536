//! Resident bytes per task that waits.

use crate::child;
use crate::measure::{Column, Threads, rounds, table};
use crate::parked::{self, Ask, Parking, resident_bytes, tasks};

/// Row, the child's argument, what it runs.
const CONTESTANTS: [(&str, &str, Parking); 6] = [
    ("`tokio::spawn`, unwatched", "bare", parked::bare),
    ("`TaskTracker`", "tracker", parked::tracker),
    ("`TaskTracker` + child token", "tracker-token", parked::tracker_token),
    ("`JoinSet` + child token", "join-set-token", parked::join_set_token),
    ("**scope**", "scope", parked::in_scope),
    ("**group**, `Discard`", "discard", parked::discarded),
];
const GO_ROW: &str = "Go: goroutine on a channel";

/// Prints the table.
pub fn report(allocator: &str) {
    let mut bytes = vec![Vec::new(); CONTESTANTS.len() + 1];
    let tasks = tasks();
    for round in 0..rounds() {
        for turn in 0..bytes.len() {
            let at = (turn + round) % bytes.len();
            let weighed = match CONTESTANTS.get(at) {
                Some((_, which, _)) => Some(child::again(&["park", which, Threads::One.word()])),
                None => child::go_numbers("memory", Threads::One, tasks),
            };
            if let Some(weighed) = weighed {
                bytes[at].push(weighed[0] as f64 / tasks as f64);
            }
        }
    }
    let rows: Vec<&str> = CONTESTANTS.iter().map(|(row, ..)| *row).chain([GO_ROW]).collect();
    let title = format!(
        "Memory, {allocator}: resident bytes per parked task, {tasks} of them, each row in its own process."
    );
    table(&title, &rows, &[Column { heading: "bytes", samples: bytes, digits: 0 }]);
}

/// Parks, weighs, and ends the process.
///
/// # Panics
///
/// If there is no contestant of that name.
pub fn child(which: &str, threads: &str) {
    let (_, _, parking) = CONTESTANTS.iter().find(|(_, known, _)| *known == which).expect("a contestant");
    let runtime = Threads::from_word(threads).runtime();
    let _ = runtime.block_on(runtime.spawn(parking(tasks(), Ask::Weight { before: resident_bytes() })));
    unreachable!("the process ends when its tasks are weighed");
}
