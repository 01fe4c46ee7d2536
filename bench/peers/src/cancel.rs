//! Cancelling very many parked tasks and seeing them gone.

use crate::child;
use crate::measure::{Column, Threads, rounds, table};
use crate::parked::{self, Ask, Parking, tasks};

/// Row, the child's argument, what it runs.
const CONTESTANTS: [(&str, &str, Parking); 4] = [
    ("`TaskTracker` + child token", "tracker-token", parked::tracker_token),
    ("`JoinSet` + child token", "join-set-token", parked::join_set_token),
    ("**scope**", "scope", parked::in_scope),
    ("**group**, `Discard`", "discard", parked::discarded),
];
const GO_ROW: &str = "Go: close of a channel, WaitGroup";

/// Prints the table.
pub fn report(allocator: &str) {
    let tasks = tasks();
    let mut columns = Vec::new();
    for (threads, gone, call) in [
        (Threads::One, "one thread: gone, ns", "the call alone, ns"),
        (Threads::Two, "two workers: gone, ns", "the call alone, ns"),
    ] {
        let (mut all, mut calls) =
            (vec![Vec::new(); CONTESTANTS.len() + 1], vec![Vec::new(); CONTESTANTS.len() + 1]);
        for round in 0..rounds() {
            for turn in 0..all.len() {
                let at = (turn + round) % all.len();
                let took = match CONTESTANTS.get(at) {
                    Some((_, which, _)) => Some(child::again(&["fell", which, threads.word()])),
                    None => child::go_numbers("cancel", threads, tasks),
                };
                if let Some(took) = took {
                    calls[at].push(took[0] as f64 / tasks as f64);
                    all[at].push(took[1] as f64 / tasks as f64);
                }
            }
        }
        columns.push(Column { heading: gone, samples: all, digits: 0 });
        columns.push(Column { heading: call, samples: calls, digits: 0 });
    }
    let rows: Vec<&str> = CONTESTANTS.iter().map(|(row, ..)| *row).chain([GO_ROW]).collect();
    let title = format!(
        "Cancellation, {allocator}: {tasks} parked tasks, time per task from the call until all are gone, and how long the \
         call itself holds its caller."
    );
    table(&title, &rows, &columns);
}

/// Parks, cancels, and prints how many nanoseconds the call took, and everything.
///
/// # Panics
///
/// If there is no contestant of that name.
pub fn child(which: &str, threads: &str) {
    let (_, _, parking) = CONTESTANTS.iter().find(|(_, known, _)| *known == which).expect("a contestant");
    let runtime = Threads::from_word(threads).runtime();
    let fall = runtime.block_on(runtime.spawn(parking(tasks(), Ask::Fall))).expect("it does not panic");
    println!("{} {}", fall.call.as_nanos(), fall.all.as_nanos());
}
