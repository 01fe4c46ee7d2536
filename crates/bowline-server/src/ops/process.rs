//! What the system knows about this process, read from `/proc`. Where that does not exist, nothing is known.
//!
//! Reading is a copy out of the kernel's memory, so it is done in place.

use std::fs;

/// What there is to know at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<u64>,
    /// In user and kernel mode together.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
    /// Since 1970.
    pub(crate) start_time_seconds: Option<f64>,
    pub(crate) threads: Option<u64>,
}

/// Clock ticks per second in what the kernel tells user space: 100 on every architecture that Linux has today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Looks at the process.
pub(crate) fn look() -> Process {
    let status = read("/proc/self/status");
    let stat = read("/proc/self/stat");
    let start_seconds = stat_field(&stat, 22).map(|ticks| ticks / TICKS_PER_SECOND);
    let boot_seconds = line_number(&read("/proc/stat"), "btime");
    Process {
        resident_bytes: line_number(&status, "VmRSS:").map(|kib| kib * 1024),
        cpu_seconds: stat_field(&stat, 14)
            .zip(stat_field(&stat, 15))
            .map(|(user, system)| (user + system) / TICKS_PER_SECOND),
        open_fds: open_fds(),
        max_fds: max_fds(&read("/proc/self/limits")),
        start_time_seconds: start_seconds.zip(boot_seconds).map(|(start, boot)| boot as f64 + start),
        threads: line_number(&status, "Threads:"),
    }
}

/// Raises the soft limit of open files to the hard one: every connection is a file, and the soft limit of most systems is
/// 1024 for the sake of programs that cannot do with more. Says what it was and is, if it changed.
#[cfg(unix)]
pub(crate) fn raise_max_fds() -> Option<(u64, u64)> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current?, limit.maximum?);
    let raised = soft < hard
        && setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: Some(hard) }).is_ok();
    raised.then_some((soft, hard))
}

/// There is no such limit to raise.
#[cfg(not(unix))]
pub(crate) fn raise_max_fds() -> Option<(u64, u64)> {
    None
}

/// Bytes of the process's memory that are in RAM.
pub(crate) fn resident_bytes() -> Option<u64> {
    line_number(&read("/proc/self/status"), "VmRSS:").map(|kib| kib * 1024)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number behind `key` at the beginning of a line.
pub(crate) fn line_number(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A field of `/proc/self/stat`, counted from 1. The second is the program's name in brackets and may hold anything.
fn stat_field(stat: &str, field: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

fn open_fds() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    // Since Linux 6.2 the directory's size is the number; listing tens of thousands of sockets takes long.
    match fs::metadata(DIRECTORY).ok()?.len() {
        0 => fs::read_dir(DIRECTORY).ok().map(|entries| entries.count() as u64),
        count => Some(count),
    }
}

/// The soft limit of open files; `None` if there is none.
fn max_fds(limits: &str) -> Option<u64> {
    line_number(limits, "Max open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 4 0 1200 1 1";
        assert_eq!(stat_field(stat, 14), Some(250.0));
        assert_eq!(stat_field(stat, 15), Some(150.0));
        assert_eq!(stat_field(stat, 22), Some(1200.0));
        assert_eq!((stat_field(stat, 99), stat_field("", 14)), (None, None));
    }

    #[test]
    fn numbers_are_found_behind_their_keys() {
        let status = "Name:\tVmRSS: 1\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        assert_eq!(line_number(status, "VmRSS:"), Some(2048));
        assert_eq!(line_number(status, "VmSwap:"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(max_fds(&limits.replace("1024 ", "unlimited ")), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_finds_itself() {
        let process = look();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{process:?}");
        assert!(process.open_fds.is_some_and(|fds| (3..100_000).contains(&fds)), "{process:?}");
        assert!(process.cpu_seconds.is_some() && process.threads.is_some_and(|threads| threads > 0));
        // The program was started between 2024 and 2100.
        assert!(
            process.start_time_seconds.is_some_and(|start| (1.7e9..4.1e9).contains(&start)),
            "{process:?}"
        );
    }
}
