//! Time per spawned and joined task.

use crate::batch;
use crate::measure::{Contestant, Threads, go, here, interleave, table, wall_and_cpu};

/// Tasks per contestant and round.
const TASKS: u64 = 200_000;

const CONTESTANTS: [Contestant; 11] = [
    here("`tokio::spawn`, await each handle", batch::bare),
    here("`TaskTracker`, wait", batch::tracker),
    here("`JoinSet`, `join_next`", batch::join_set),
    here("`TaskTracker` + child token, `select!`", batch::tracker_token),
    here("`JoinSet` + child token, `select!`", batch::join_set_token),
    here("**scope**, await each handle", batch::in_scope),
    here("**group**, `CollectAll`", batch::collected),
    here("**group**, `Discard`", batch::discarded),
    go("Go: go + WaitGroup", "spawn-waitgroup"),
    go("Go: errgroup with context", "spawn-errgroup"),
    go("Go: WaitGroup + child context", "spawn-context"),
];

/// Prints the table.
pub fn report(allocator: &str) {
    let one = interleave(&CONTESTANTS, Threads::One, TASKS);
    let two = interleave(&CONTESTANTS, Threads::Two, TASKS);
    let [one, _] = wall_and_cpu("one thread, ns", "", &one, 0);
    let [wall, cpu] = wall_and_cpu("two workers, ns", "two workers, CPU ns", &two, 0);
    let title = format!("Spawn and join, {allocator}: time per task, batches of {} in flight.", batch::BATCH);
    table(&title, &CONTESTANTS.map(|contestant| contestant.name), &[one, wall, cpu]);
}
