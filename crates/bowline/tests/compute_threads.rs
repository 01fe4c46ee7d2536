//! The threads of a computation. Alone in its file: the calls of one process share the cores.

use std::collections::HashSet;
use std::sync::{Arc, Barrier, Mutex};

use bowline::{Cancelled, compute};

#[bowline::test(worker_threads = 1)]
async fn it_takes_as_many_threads_as_there_are_cores_and_is_in_the_tree_with_them() {
    let cores = std::thread::available_parallelism().unwrap().get();
    // Nobody passes before all are there: with one thread less it would stand still.
    let all = Arc::new(Barrier::new(cores));
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let (meet, seen) = (Arc::clone(&all), Arc::clone(&threads));
    let trees = Arc::new(Mutex::new(Vec::new()));
    let shown = Arc::clone(&trees);
    let outcome = compute("risk", 0..cores, move |item| {
        meet.wait();
        seen.lock().unwrap().insert(std::thread::current().id());
        if item == 0 {
            shown.lock().unwrap().push(bowline::tree());
        }
        meet.wait();
        Ok::<_, Cancelled>(item)
    })
    .await;
    assert_eq!(outcome.counts().ok, cores as u64);
    assert_eq!(threads.lock().unwrap().len(), cores);
    let tree = trees.lock().unwrap().pop().unwrap();
    assert_eq!(tree.blocking, cores, "{tree}");
    let text = tree.to_string();
    assert!(text.contains("[scope] risk") && text.contains("blocking"), "{text}");
}
