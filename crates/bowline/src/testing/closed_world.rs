//! Whether anything in this process can move: the one moment at which a wait for something unknown is proved to be for ever.
//!
//! Who could send, unlock or notify is known of our own primitives alone. But where every thread of the process sleeps, and none
//! of them has a time-out, a descriptor or a signal to be woken by, nobody is left to do anything, whatever the tasks wait for.
//! The system knows that, and on Linux it tells: in `/proc/self`. Elsewhere, and where it does not tell, nothing is claimed.
//!
//! # Invariants
//!
//! 1. A thread counts as asleep for good only in one of two calls: a futex without a time-out, which another thread has to wake; and
//!    an `epoll` without a time-out, which means that its runtime has no timer pending, and of which all descriptors are
//!    [inner](Descriptors::is_inner) ones, written to by threads and handlers of signals.
//! 2. All are asleep at *one* moment: they are looked at twice, and whoever has not been switched to between its two looks slept
//!    through the moment between the two rounds. The threads are counted, so that none is missed.
//! 3. A closure on a thread, and an idle thread that waits for one with a time-out, are no sleepers: there is silence until they are
//!    gone.
//! 4. Threads left out are those that never wake a task: [`own`] ones that only measure and look, and the main thread
//!    of the test harness, which waits for its tests. They need not sleep for good, but they have to sleep as well, by invariant 2: one
//!    that is looking may have a lock for which a thread of the program sleeps, and that one is woken when it lets go.
//!    Where they sleep by themselves, they have none. Only the clock, which takes no lock ever, may do as it likes.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::sync::Mutex;

use crate::root;
use crate::sync::LockExt;

/// The number of a thread in the system.
type Tid = u32;

/// Threads of ours that are left out.
static OWN: Mutex<BTreeSet<(Tid, Own)>> = Mutex::new(BTreeSet::new());

/// What a thread of ours does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Own {
    /// It measures time, and takes no lock ever.
    Clock,
    /// It looks on.
    LooksOn,
    /// It tells programs of their deadlocks, and hooks may do anything then; tests it leaves alone.
    Detector,
    /// It is none of those, but a worker of a test's runtime: where it sleeps is its driver.
    Worker,
}

/// Leaves the calling thread out until the guard is dropped.
#[must_use]
pub(crate) fn own(what: Own) -> Option<Registered> {
    let entry = (this_thread()?, what);
    OWN.lock_unpoisoned().insert(entry);
    Some(Registered(entry))
}

pub(crate) struct Registered((Tid, Own));

impl Drop for Registered {
    fn drop(&mut self) {
        OWN.lock_unpoisoned().remove(&self.0);
    }
}

/// Notes once that the calling thread is a worker; to be called where it parks.
pub(super) fn worker_parks() {
    thread_local! {
        static WORKER: OnceCell<Option<Registered>> = const { OnceCell::new() };
    }
    WORKER.with(|worker| _ = worker.get_or_init(|| own(Own::Worker)));
}

fn workers() -> Vec<Tid> {
    let own = OWN.lock_unpoisoned();
    own.iter().filter(|(_, what)| *what == Own::Worker).map(|(tid, _)| *tid).collect()
}

/// The calling thread, if the system tells.
pub(super) fn this_thread() -> Option<Tid> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let link = fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

/// What keeps a program from being closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stirs {
    /// The system does not tell enough.
    Unknown,
    /// A thread runs, or has run while we looked.
    Thread(String),
    /// A thread waits with a time-out, or for something outside of the process.
    Waits(String),
    /// A runtime waits for a descriptor.
    Descriptor(String),
    /// The program handles signals, and one may come.
    Signal,
}

impl fmt::Display for Stirs {
    /// Why nothing was proved, on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\nthat it lasts for ever is not proved: ")?;
        match self {
            Self::Unknown => f.write_str("the system does not tell what the threads wait for"),
            Self::Thread(name) => write!(f, "thread {name} runs"),
            Self::Waits(name) => {
                write!(
                    f,
                    "thread {name} waits with a time-out (or a timer is pending), or outside of the process"
                )
            }
            Self::Descriptor(name) => write!(f, "{name} is waited for"),
            Self::Signal => f.write_str("the process handles signals, and one may come"),
        }
    }
}

/// Whether every thread of the process sleeps for good. `runner` is the one that runs the test.
pub(super) fn look(runner: Tid) -> Result<(), Stirs> {
    // Mostly it is not even asleep itself.
    let own = Descriptors::of(runner)?;
    let signals =
        own.signals().or_else(|| workers().into_iter().find_map(|tid| Descriptors::of(tid).ok()?.signals()));
    let signals = signals.as_deref();
    if let Some(outer) = own.outer(signals) {
        return Err(Stirs::Descriptor(outer));
    }
    let first = round(runner)?;
    for sleeper in first.iter().filter(|sleeper| !sleeper.is_left_out) {
        is_asleep_for_good(sleeper.tid, signals)?;
    }
    let second = round(runner)?;
    match second.symmetric_difference(&first).next() {
        Some(other) => Err(Stirs::Thread(name(other.tid))),
        None => Ok(()),
    }
}

/// A thread that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sleeper {
    tid: Tid,
    /// How often it was switched away from.
    switches: u64,
    /// Whether it may be woken by time (invariant 4).
    is_left_out: bool,
}

/// All threads but the one that looks, and the clock; they sleep.
fn round(runner: Tid) -> Result<BTreeSet<Sleeper>, Stirs> {
    let process = std::process::id();
    let looking = this_thread().ok_or(Stirs::Unknown)?;
    let is_own = |tid: Tid, what| OWN.lock_unpoisoned().contains(&(tid, what));
    let left_out = |tid: Tid| {
        let looks_on = is_own(tid, Own::LooksOn) || is_own(tid, Own::Detector) && is_all_tests();
        tid != runner && (looks_on || tid == process && sleeps_on_futex(tid))
    };
    let mut asleep = BTreeSet::new();
    let mut met = 0;
    for entry in fs::read_dir("/proc/self/task").map_err(|_| Stirs::Unknown)?.flatten() {
        let tid = entry.file_name().to_str().and_then(|tid| tid.parse().ok()).ok_or(Stirs::Unknown)?;
        met += 1;
        if tid == looking || is_own(tid, Own::Clock) {
            continue;
        }
        let is_left_out = left_out(tid);
        let status = Status::parse(&read(tid, "status")?).ok_or(Stirs::Unknown)?;
        if !status.sleeps {
            return Err(Stirs::Thread(name(tid)));
        }
        asleep.insert(Sleeper { tid, switches: status.switches, is_left_out });
    }
    let status = Status::parse(&fs::read_to_string("/proc/self/status").map_err(|_| Stirs::Unknown)?);
    match status.ok_or(Stirs::Unknown)? {
        status if status.threads != met => Err(Stirs::Thread("one that has just begun, or ended".to_owned())),
        status if status.handles_signals => Err(Stirs::Signal),
        _ => Ok(asleep),
    }
}

/// Whether all roots of the process are those of tests.
fn is_all_tests() -> bool {
    root::all().iter().all(|node| node.root.as_ref().is_some_and(|root| root.trial().is_some()))
}

fn read(tid: Tid, file: &str) -> Result<String, Stirs> {
    // One that has ended has moved.
    fs::read_to_string(format!("/proc/self/task/{tid}/{file}")).map_err(|_| Stirs::Unknown)
}

fn name(tid: Tid) -> String {
    read(tid, "comm").map_or_else(|_| format!("#{tid}"), |name| format!("`{}`", name.trim_end()))
}

fn sleeps_on_futex(tid: Tid) -> bool {
    read(tid, "syscall").is_ok_and(|call| matches!(Call::parse(&call), Call::Futex { .. }))
}

fn is_asleep_for_good(tid: Tid, signals: Option<&str>) -> Result<(), Stirs> {
    match Call::parse(&read(tid, "syscall")?) {
        Call::Futex { has_timeout: false } => Ok(()),
        Call::Epoll { has_timeout: false, of } => {
            let descriptors = Descriptors::at(of).ok_or(Stirs::Unknown)?;
            match descriptors.outer(signals) {
                None => Ok(()),
                Some(outer) => Err(Stirs::Descriptor(outer)),
            }
        }
        Call::None => Err(Stirs::Thread(name(tid))),
        Call::Futex { .. } | Call::Epoll { .. } | Call::Other => Err(Stirs::Waits(name(tid))),
    }
}

/// What a thread does in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// It is not there: it runs, or is about to.
    None,
    Futex {
        has_timeout: bool,
    },
    Epoll {
        of: u32,
        has_timeout: bool,
    },
    Other,
}

/// `epoll_wait`, `epoll_pwait` and `futex`, where they are known.
const NUMBERS: Option<[u64; 3]> = match () {
    () if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) => Some([232, 281, 202]),
    // No `epoll_wait` of its own.
    () if cfg!(any(target_arch = "aarch64", target_arch = "riscv64")) => Some([22, 22, 98]),
    () => None,
};

impl Call {
    /// From the file `syscall` of a thread: the number and six arguments, or that it runs.
    fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let Some(first) = words.next().filter(|first| *first != "running") else { return Self::None };
        let (Ok(number), Some([epoll, epoll_p, futex])) = (first.parse::<u64>(), NUMBERS) else {
            return Self::Other; // -1 if it is stopped elsewhere than in a call
        };
        let arguments: Option<Vec<u64>> =
            words.take(6).map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()).collect();
        let Some(&[of, _, _, limit, ..]) = arguments.as_deref() else { return Self::Other };
        #[expect(clippy::cast_possible_truncation, reason = "the kernel takes these arguments as 32 bits")]
        match number {
            // A number of milliseconds, -1 for none.
            _ if number == epoll || number == epoll_p => {
                Self::Epoll { of: of as u32, has_timeout: limit as u32 != u32::MAX }
            }
            // An address.
            _ if number == futex => Self::Futex { has_timeout: limit != 0 },
            _ => Self::Other,
        }
    }
}

/// What the file `status` says of a thread, or of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    sleeps: bool,
    switches: u64,
    threads: usize,
    handles_signals: bool,
}

/// SIGBUS and SIGSEGV, which the runtime of Rust handles to tell of an overflown stack, and the two of the C library's threads.
const OF_RUNTIME: u64 = 1 << (7 - 1) | 1 << (11 - 1) | 1 << (32 - 1) | 1 << (33 - 1);

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()
        };
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        let caught = u64::from_str_radix(field("SigCgt")?, 16).ok()?;
        Some(Self {
            sleeps: field("State")? == "S",
            switches: number("voluntary_ctxt_switches")?.wrapping_add(number("nonvoluntary_ctxt_switches")?),
            threads: field("Threads")?.parse().ok()?,
            handles_signals: caught & !OF_RUNTIME != 0,
        })
    }
}

/// What an `epoll` waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Descriptors(Vec<Descriptor>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Descriptor {
    number: String,
    /// What the runtime has put down with it.
    data: String,
    inode: String,
}

impl Descriptors {
    /// Of a thread that runs a test, if it sleeps for good; none if it does so without descriptors.
    fn of(runner: Tid) -> Result<Self, Stirs> {
        match Call::parse(&read(runner, "syscall")?) {
            Call::Futex { has_timeout: false } => Ok(Self::default()),
            Call::Epoll { has_timeout: false, of } => Self::at(of).ok_or(Stirs::Unknown),
            Call::None => Err(Stirs::Thread(name(runner))),
            _ => Err(Stirs::Waits(name(runner))),
        }
    }

    fn at(epoll: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")).ok()?;
        Self::parse(&text)
    }

    /// Which file it is that tells of signals, one in the whole process; of tokio's own driver alone.
    fn signals(&self) -> Option<String> {
        self.0.iter().find(|one| one.data == "1").map(|one| one.inode.clone())
    }

    fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("tfd:"));
        lines
            .map(|line| {
                let words: Vec<&str> = line.split([' ', ':', '\t']).filter(|word| !word.is_empty()).collect();
                let after = |name| {
                    let at = words.iter().position(|word| *word == name)?;
                    words.get(at + 1).map(|word| (*word).to_owned())
                };
                let number = (*words.first()?).to_owned();
                Some(Descriptor { number, data: after("data")?, inode: after("ino")? })
            })
            .collect::<Option<_>>()
            .map(Self)
    }

    /// The first that somebody outside of the process can write to.
    fn outer(&self, signals: Option<&str>) -> Option<String> {
        let outer = self.0.iter().find(|one| !one.is_inner(signals))?;
        Some(
            fs::read_link(format!("/proc/self/fd/{}", outer.number))
                .map_or_else(|_| outer.number.clone(), |link| link.to_string_lossy().into_owned()),
        )
    }
}

impl Descriptor {
    /// Whether it is one of the runtime's own: by the numbers 0 and 1 tokio puts down what its threads wake it with, and what its
    /// handler of signals writes to; of what tasks wait for, it puts down an address.
    fn is_inner(&self, signals: Option<&str>) -> bool {
        match self.data.as_str() {
            "0" => fs::read_link(format!("/proc/self/fd/{}", self.number))
                .is_ok_and(|link| link.to_string_lossy().contains("[eventfd]")),
            "1" => Some(self.inode.as_str()) == signals,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn a_call_is_known_by_its_number_and_has_a_time_out_or_none() {
        let epoll = |limit| format!("232 0x7 0x7f00 0x400 {limit} 0x0 0x8 0x7ffe 0x7f01\n");
        assert_eq!(Call::parse(&epoll("0xffffffff")), Call::Epoll { of: 7, has_timeout: false });
        assert_eq!(Call::parse(&epoll("0xffffffffffffffff")), Call::Epoll { of: 7, has_timeout: false });
        assert_eq!(Call::parse(&epoll("0x3e8")), Call::Epoll { of: 7, has_timeout: true });
        assert_eq!(Call::parse(&epoll("0x0")), Call::Epoll { of: 7, has_timeout: true });
        let futex = |limit| format!("202 0x55 0x189 0x2 {limit} 0x0 0xffffffff 0x7ffe 0x7f01");
        assert_eq!(Call::parse(&futex("0x0")), Call::Futex { has_timeout: false });
        assert_eq!(Call::parse(&futex("0x7ffe10")), Call::Futex { has_timeout: true });
        assert_eq!(Call::parse("running\n"), Call::None);
        assert_eq!(Call::parse("0 0x3 0x7f 0x10 0x0 0x0 0x0 0x7ffe 0x7f01"), Call::Other, "it reads");
        assert_eq!(Call::parse("-1 0x7ffe 0x7f01"), Call::Other);
        assert_eq!(Call::parse("202"), Call::Other, "cut off");
    }

    #[test]
    fn a_signal_that_is_handled_may_come() {
        let status = |caught| {
            format!(
                "State:\tS (sleeping)\nThreads:\t3\nSigCgt:\t{caught}\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t2\n"
            )
        };
        let known = Status { sleeps: true, switches: 9, threads: 3, handles_signals: false };
        assert_eq!(Status::parse(&status("0000000000000440")), Some(known));
        let handles = Status { handles_signals: true, ..known };
        assert_eq!(Status::parse(&status("0000000000004442")), Some(handles), "SIGINT and SIGTERM");
        assert_eq!(Status::parse("State:\tS (sleeping)\n"), None);
    }

    /// Set in a process that runs nothing but the body of the next test.
    const ALONE: &str = "BOWLINE_CLOSED_WORLD_ALONE";

    /// The detector had the lock of a list, and the processor was given to somebody else; the test slept until it got that lock,
    /// and was told that nothing could move any more.
    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(bowline_loom), not(bowline_shuttle)))]
    fn who_only_looks_on_may_have_the_lock_that_the_program_sleeps_for() {
        if std::env::var_os(ALONE).is_some() {
            return alone_with_somebody_who_looks_on();
        }
        let path =
            "testing::closed_world::tests::who_only_looks_on_may_have_the_lock_that_the_program_sleeps_for";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", path, "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(bowline_loom), not(bowline_shuttle)))]
    #[expect(clippy::disallowed_methods, reason = "threads of which the system tells what they do")]
    fn alone_with_somebody_who_looks_on() {
        use std::sync::atomic::{AtomicBool, Ordering};
        use std::sync::{Arc, mpsc};
        use std::time::Duration;

        let list = Arc::new(std::sync::Mutex::new(()));
        let lets_go = Arc::new(AtomicBool::new(false));
        let (holds, held) = mpsc::sync_channel(0);
        let (theirs, done) = (Arc::clone(&list), Arc::clone(&lets_go));
        std::thread::spawn(move || {
            let _own = own(Own::LooksOn);
            let guard = theirs.lock().unwrap();
            holds.send(()).unwrap();
            while !done.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            drop(guard);
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        });
        held.recv().unwrap();
        let (starts, started) = mpsc::sync_channel(0);
        std::thread::spawn(move || {
            starts.send(this_thread().unwrap()).unwrap();
            drop(list.lock().unwrap());
            loop {
                std::thread::park(); // for ever
            }
        });
        let program = started.recv().unwrap();
        while !sleeps_on_futex(program) {
            std::thread::yield_now();
        }
        for _ in 0..1_000 {
            assert_eq!(look(program), Err(Stirs::Thread(name(holder(program)))));
        }
        lets_go.store(true, Ordering::Relaxed);
        // Until both have got where they sleep.
        while look(program).is_err() {
            std::thread::yield_now();
        }
    }

    /// The one thread beside the program's, this one, and the first of the process.
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(bowline_loom), not(bowline_shuttle)))]
    fn holder(program: Tid) -> Tid {
        let known = [program, this_thread().unwrap(), std::process::id()];
        let own = OWN.lock_unpoisoned();
        let (holder, _) = own.iter().find(|(tid, _)| !known.contains(tid)).unwrap();
        *holder
    }

    #[test]
    fn a_socket_of_a_task_is_not_the_runtimes_own() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t9\n\
                    tfd:        8 events: 80000019 data:                1  pos:0 ino:2a sdev:8\n\
                    tfd:       11 events: 8000201d data:     7f11c0002680  pos:0 ino:2b sdev:8\n";
        let all = Descriptors::parse(text).unwrap().0;
        assert_eq!(all.len(), 2);
        assert!(all[0].is_inner(Some("2a")), "it tells of signals");
        assert!(!all[0].is_inner(None), "some other runtime's, and nobody knows what it is");
        assert!(!all[1].is_inner(Some("2a")), "a task waits for it");
    }
}
