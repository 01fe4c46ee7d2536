//! Numbers for whatever is shown to people.

use std::sync::atomic::Ordering;

/// How many ids a thread takes from the shared counter at once.
const IDS_PER_BLOCK: u64 = 256;

/// Ids of tasks, strands, nodes and queues: unique in the process, dense enough for people.
pub(crate) fn next_id() -> u64 {
    use std::sync::atomic::AtomicU64; // outlives a model's run
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static BLOCK: std::cell::Cell<(u64, u64)> = const { std::cell::Cell::new((0, 0)) };
    }
    BLOCK.with(|block| {
        let (next, end) = block.get();
        let (next, end) = if next < end {
            (next, end)
        } else {
            let start = NEXT.fetch_add(IDS_PER_BLOCK, Ordering::Relaxed);
            (start + 1, start + 1 + IDS_PER_BLOCK)
        };
        block.set((next + 1, end));
        next
    })
}
