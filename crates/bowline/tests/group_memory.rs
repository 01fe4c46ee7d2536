//! A discarding group is as large as the tasks that live in it, however many there were. Alone in its file, because it looks
//! at the memory of its process.

#![cfg(target_os = "linux")]

use bowline::{Cancelled, Discard, group};

/// Pages of memory this process has in use.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("there is such a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("it is a number")
}

#[bowline::test(worker_threads = 2, timeout_secs = 300)]
async fn a_discarding_group_stays_flat_over_any_number_of_tasks() {
    const TASKS: usize = 100_000;
    // A forgotten task costs at least its record: 100 bytes and more, 9 MB in what follows the first tenth.
    const ALLOWED_KIB: usize = 4 * 1024;
    let outcome = group("accepts", Discard, async |g| {
        let mut warm = 0;
        for task in 0..TASKS {
            g.spawn("connection", async { Ok::<_, Cancelled>([0_u8; 64]) });
            if task % 64 == 0 {
                while bowline::tree().tasks > 64 {
                    tokio::task::yield_now().await;
                }
            }
            if task == TASKS / 10 {
                warm = resident_kib();
            }
        }
        let grown = resident_kib().saturating_sub(warm);
        assert!(grown < ALLOWED_KIB, "grew by {grown} KiB");
    })
    .await;
    assert_eq!(outcome.counts().ok, TASKS as u64);
}
