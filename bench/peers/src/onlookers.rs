//! The toolkit's own threads, as Linux sees them: processor time, and how often they went to sleep.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The detector of deadlocks; Linux cuts names at 15 bytes.
pub const DETECTOR: &str = "bowline-detecto";
/// The watchdog.
pub const WATCHDOG: &str = "bowline-watch";

/// One thread of this process.
pub struct Onlooker {
    directory: PathBuf,
    used: Duration,
    asleep: u32,
}

impl Onlooker {
    /// The thread of that name, if there is one.
    pub fn find(name: &str) -> Option<Self> {
        let threads = fs::read_dir("/proc/self/task").expect("Linux lists the threads of a process");
        let mut found = threads.filter_map(Result::ok).map(|thread| thread.path()).filter(|directory| {
            fs::read_to_string(directory.join("comm")).is_ok_and(|known| known.trim_end() == name)
        });
        found.next().map(|directory| Self { directory, used: Duration::ZERO, asleep: 0 })
    }

    /// Counts from here on.
    pub fn restart(&mut self) {
        (self.used, self.asleep) = (self.processor_time(), self.went_to_sleep());
    }

    /// Processor time since [`restart`](Self::restart).
    pub fn used(&self) -> Duration {
        self.processor_time().saturating_sub(self.used)
    }

    /// How often it went to sleep since [`restart`](Self::restart).
    pub fn times_asleep(&self) -> u32 {
        self.went_to_sleep().wrapping_sub(self.asleep)
    }

    /// Waits until it has gone to sleep so often, or for so long.
    pub fn wait_asleep(&self, times: u32, longest: Duration) {
        let (began, before) = (Instant::now(), self.went_to_sleep());
        while self.went_to_sleep().wrapping_sub(before) < times && began.elapsed() < longest {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn processor_time(&self) -> Duration {
        // In nanoseconds where the kernel keeps books of its scheduler.
        if let Ok(books) = fs::read_to_string(self.directory.join("sched")) {
            let line =
                books.lines().find_map(|line| line.strip_prefix("se.sum_exec_runtime")?.split(':').nth(1));
            if let Some(milliseconds) = line.and_then(|number| number.trim().parse::<f64>().ok()) {
                return Duration::from_secs_f64(milliseconds / 1e3);
            }
        }
        // Else in ticks of a hundredth of a second, for all programs to see: user and system.
        let stat = fs::read_to_string(self.directory.join("stat")).unwrap_or_default();
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let ticks: u64 =
            after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// It sleeps after each look, and hardly ever else.
    fn went_to_sleep(&self) -> u32 {
        let status = fs::read_to_string(self.directory.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
    }
}
