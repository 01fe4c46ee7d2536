//! Alerts: what a person should look at, told when it begins and when it is over, and not every second in between.
//!
//! Each root has its own board. An alert is told to the hooks of [`on_alert`], and to standard error if there is none.
//! Whoever is polled raises it on the board of their root; a thread beside the runtime, such as the watchdog, says which root.
//!
//! # Invariants
//!
//! 1. One subject (kind, name and place) is told at most once per [`QUIET`] while it stands; what is left out is counted. Its end
//!    is told if its beginning was, or if it stood for longer than that.
//! 2. Nobody is told under a lock. A hook is a stranger: its panic is told of, and ends nothing but that hook's turn.
//! 3. Whoever raises an alert does not wait for standard error: a thread of its own writes there, and what it cannot keep up
//!    with is left out.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::panic;
use crate::record;
use crate::root::{self, RootState};
use crate::sync::LockExt;
use crate::testing::trial;

/// How long an alert that stands, or that comes again and again, is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// Subjects a board keeps; the one told longest ago goes first.
const MAX_SUBJECTS: usize = 1_024;

/// Lines that may wait for standard error.
const MAX_LINES: usize = 256;

/// What kind of thing an [`Alert`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlertKind {
    /// Tasks wait for each other, and nobody can end it.
    Deadlock,
    /// No worker of the runtime gets on, though there is work.
    Frozen,
    /// One poll of a task takes so long that it holds up the others on its thread.
    LongPoll,
    /// Work waits, and whoever is to take it takes none.
    NoProgress,
    /// Blocking tasks wait for a thread.
    BlockingFull,
    /// There are more tasks of one name than is usual.
    TasksGrew,
    /// A queue or a pool drops or refuses what it is sent.
    Dropping,
    /// A queue or a waiting room is more than half full.
    QueueHigh,
    /// A record of failures is more than half full.
    ErrorsHigh,
    /// A lease is held for longer than its pool finds right, and the place is where it was taken; or everybody who holds one
    /// waits for another, and the place is that of the pool.
    LeaseHeld,
    /// Buffers are held for so long that others wait for them.
    BufferHeld,
    /// A breaker refuses calls.
    BreakerOpen,
    /// Calls fail without being tried again: their retry budget is spent.
    RetriesSpent,
    /// Nobody knows whether an effect with an idempotency key has happened.
    InDoubt,
    /// As many idempotency keys are kept as may be.
    KeysFull,
    /// A child of a supervisor makes no progress.
    ChildHung,
    /// A child of a supervisor was aborted and is still not gone.
    ChildStuck,
    /// A child of a supervisor ended and was started again.
    ChildRestarted,
    /// A supervisor gave a child up, or itself.
    GaveUp,
    /// A job did not run when it should have.
    JobMissed,
    /// A job was cancelled because it took too long.
    JobTimedOut,
    /// A job failed.
    JobFailed,
    /// A disk does not take what is to be kept.
    DiskFailing,
    /// Something that was kept is gone, or cannot be read any more.
    DataLost,
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadlock => "deadlock",
            Self::Frozen => "frozen",
            Self::LongPoll => "long poll",
            Self::NoProgress => "no progress",
            Self::BlockingFull => "blocking full",
            Self::TasksGrew => "tasks grew",
            Self::Dropping => "dropping",
            Self::QueueHigh => "queue high",
            Self::ErrorsHigh => "errors high",
            Self::LeaseHeld => "lease held",
            Self::BufferHeld => "buffer held",
            Self::BreakerOpen => "breaker open",
            Self::RetriesSpent => "retries spent",
            Self::InDoubt => "in doubt",
            Self::KeysFull => "keys full",
            Self::ChildHung => "child hung",
            Self::ChildStuck => "child stuck",
            Self::ChildRestarted => "child restarted",
            Self::GaveUp => "gave up",
            Self::JobMissed => "job missed",
            Self::JobTimedOut => "job timed out",
            Self::JobFailed => "job failed",
            Self::DiskFailing => "disk failing",
            Self::DataLost => "data lost",
        })
    }
}

/// What a person should look at.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Alert {
    /// What kind of thing it is about.
    pub kind: AlertKind,
    /// The name of the pool, breaker, job… it is about.
    pub name: Cow<'static, str>,
    /// Where that was made.
    #[serde(serialize_with = "place")]
    pub place: &'static Location<'static>,
    /// What is the matter, in words.
    pub text: String,
    /// Whether it stands: false is the news that it is over.
    pub raised: bool,
    /// How often the same was raised since it was told last, without being told.
    pub left_out: u64,
    /// How long it has stood, or stood until now.
    pub for_ms: u64,
}

/// As views have it: `file:line`.
fn place<S: Serializer>(place: &Location<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}:{}", place.file(), place.line()))
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = if self.raised { "" } else { " (over)" };
        write!(f, "{}{over}: `{}` ({}): {}", self.kind, self.name, self.place, self.text)?;
        match self.left_out {
            0 => Ok(()),
            times => write!(f, " (and {times} times more since this was told last)"),
        }
    }
}

/// Whom and what an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    pub(crate) kind: AlertKind,
    pub(crate) name: Cow<'static, str>,
    pub(crate) place: &'static Location<'static>,
}

type Hook = dyn Fn(&Alert) + Send + Sync;

/// The alerts of one root, and who is told of them.
#[derive(Default)]
pub(crate) struct Board {
    standing: Mutex<HashMap<Subject, Standing>>,
    /// How often each kind was raised.
    raised: Mutex<BTreeMap<AlertKind, u64>>,
    hooks: Mutex<Vec<Weak<Hook>>>,
}

struct Standing {
    alert: Alert,
    /// When it was raised after it had not stood.
    since: Instant,
    told: Instant,
    /// Whether that was after it had begun to stand.
    is_told: bool,
    left_out: u64,
}

impl Standing {
    /// The alert as it is now.
    fn picture(&self, now: Instant) -> Alert {
        let millis = now.saturating_duration_since(self.since).as_millis();
        Alert { for_ms: u64::try_from(millis).unwrap_or(u64::MAX), ..self.alert.clone() }
    }
}

impl Board {
    fn raise(&self, subject: Subject, text: String, now: Instant, is_test: bool) {
        *self.raised.lock_unpoisoned().entry(subject.kind).or_default() += 1;
        let told = {
            let mut standing = self.standing.lock_unpoisoned();
            if !standing.contains_key(&subject) && standing.len() >= MAX_SUBJECTS {
                let oldest =
                    standing.iter().min_by_key(|(_, known)| known.told).map(|(oldest, _)| oldest.clone());
                oldest.map(|oldest| standing.remove(&oldest));
            }
            let Subject { kind, name, place } = subject.clone();
            let known = standing.entry(subject);
            let entry = known.or_insert_with(|| Standing {
                alert: Alert {
                    kind,
                    name,
                    place,
                    text: String::new(),
                    raised: false,
                    left_out: 0,
                    for_ms: 0,
                },
                since: now,
                told: now,
                is_told: false,
                left_out: 0,
            });
            let is_new = entry.alert.text.is_empty();
            if !entry.alert.raised {
                entry.since = now;
                entry.is_told = false;
            }
            entry.alert.text = text;
            entry.alert.raised = true;
            if !is_new && now.saturating_duration_since(entry.told) < QUIET {
                entry.left_out += 1;
                return;
            }
            entry.told = now;
            entry.is_told = true;
            entry.alert.left_out = std::mem::take(&mut entry.left_out);
            entry.picture(now)
        };
        self.tell(&told, is_test);
    }

    fn clear(&self, subject: &Subject, text: String, now: Instant, is_test: bool) {
        let told = {
            let mut standing = self.standing.lock_unpoisoned();
            match standing.get_mut(subject) {
                Some(entry) if entry.alert.raised => {
                    entry.alert.raised = false;
                    if !entry.is_told && now.saturating_duration_since(entry.since) < QUIET {
                        return; // nobody knows that it began
                    }
                    Alert { text, ..entry.picture(now) }
                }
                _ => return,
            }
        };
        self.tell(&told, is_test);
    }

    fn counts(&self) -> Vec<AlertCount> {
        let raised = self.raised.lock_unpoisoned().clone();
        let standing = self.standing.lock_unpoisoned();
        let mut counts: Vec<_> =
            raised.into_iter().map(|(kind, raised)| AlertCount { kind, raised, standing: 0 }).collect();
        for alert in standing.values().map(|known| &known.alert).filter(|alert| alert.raised) {
            let of_kind = counts.iter_mut().filter(|count| count.kind == alert.kind);
            of_kind.for_each(|count| count.standing += 1);
        }
        counts
    }

    /// A test is not told on standard error: there alerts are part of the play.
    fn tell(&self, alert: &Alert, is_test: bool) {
        let hooks: Vec<Arc<Hook>> = {
            let mut hooks = self.hooks.lock_unpoisoned();
            hooks.retain(|hook| hook.strong_count() > 0);
            hooks.iter().filter_map(Weak::upgrade).collect()
        };
        if hooks.is_empty() && !is_test {
            say(format!("bowline: {alert}\n"));
        }
        for hook in hooks {
            let told = catch_unwind(AssertUnwindSafe(|| hook(alert)));
            // Whoever raises it may be the driver of something, or be unwinding already.
            if let (Err(payload), Some(record)) = (told, record::current()) {
                trial::note_unkept_panic(&record.node, &panic::caught(&record, payload));
            }
        }
    }
}

/// Writes to standard error from a thread of its own (invariant 3).
pub(crate) fn say(line: String) {
    static LINES: OnceLock<Option<SyncSender<String>>> = OnceLock::new();
    let lines = LINES.get_or_init(|| {
        let (lines, said) = sync_channel::<String>(MAX_LINES);
        let write =
            move || said.into_iter().for_each(|line| drop(std::io::stderr().write_all(line.as_bytes())));
        std::thread::Builder::new().name("bowline-alerts".into()).spawn(write).ok().map(|_| lines)
    });
    if let Some(lines) = lines {
        let _ = lines.try_send(line);
    }
}

/// Keeps a hook of [`on_alert`] in its place; dropped, the hook is gone.
#[must_use = "the hook is gone when this is dropped: keep it, or say `forever()`"]
pub struct AlertHook(Arc<Hook>);

impl AlertHook {
    /// Leaves the hook in place until the process ends.
    pub fn forever(self) {
        std::mem::forget(self.0);
    }
}

impl fmt::Debug for AlertHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AlertHook")
    }
}

/// Calls `hook` for every alert of this program, instead of writing a line to standard error.
///
/// It is called where the alert is raised, by the task that raises it, so it must not block: count it, log it, or
/// `try_send` it to a task of yours. If it panics, that is counted as a panic of that task, which goes on. The same alert
/// comes at most once a minute while it stands, and once more when it is over ([`Alert::raised`]); of one that comes and goes
/// within that minute neither.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let hook = bowline::on_alert(|alert| eprintln!("page somebody: {alert}"));
/// hook.forever();
/// # });
/// ```
pub fn on_alert(hook: impl Fn(&Alert) + Send + Sync + 'static) -> AlertHook {
    let hook: Arc<Hook> = Arc::new(hook);
    with_board(|board| board.hooks.lock_unpoisoned().push(Arc::downgrade(&hook)));
    AlertHook(hook)
}

/// Returns the alerts of this program that stand, by kind and name.
#[must_use]
pub fn alerts() -> Vec<Alert> {
    let now = Instant::now();
    let mut standing: Vec<Alert> = with_board(|board| {
        let standing = board.standing.lock_unpoisoned();
        let raised = standing.values().filter(|known| known.alert.raised);
        raised.map(|known| Alert { left_out: known.left_out, ..known.picture(now) }).collect()
    });
    standing.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    standing
}

/// How often there was an alert of one kind, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AlertCount {
    /// The kind.
    pub kind: AlertKind,
    /// How often one was raised, also while it stood.
    pub raised: u64,
    /// How many stand now.
    pub standing: usize,
}

/// Returns how often alerts were raised in this program, for each kind that ever was.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// for count in bowline::alert_counts() {
///     println!("{}: {} now, {} so far", count.kind, count.standing, count.raised);
/// }
/// # });
/// ```
#[must_use]
pub fn alert_counts() -> Vec<AlertCount> {
    with_board(Board::counts)
}

/// Something of a program's own that a person may have to look at: what its alerts are about.
///
/// Alerts are told as those of this crate are: to the hooks of [`on_alert`], at most once a minute while they stand.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{AlertKind, AlertSubject};
///
/// let disk = AlertSubject::new(AlertKind::DiskFailing, "ledger");
/// disk.raise("no space left on device");
/// assert_eq!(bowline::alerts()[0].name, "ledger");
/// disk.clear("there is room again");
/// assert!(bowline::alerts().is_empty());
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct AlertSubject(Subject);

impl AlertSubject {
    /// Something called `name`, made where this is called.
    #[must_use]
    #[track_caller]
    pub fn new(kind: AlertKind, name: impl Into<Cow<'static, str>>) -> Self {
        Self(Subject { kind, name: name.into(), place: Location::caller() })
    }

    /// Raises the alert, or raises it again; `text` says what is the matter.
    ///
    /// It is told on the board of the program of whoever is polled.
    pub fn raise(&self, text: impl Into<String>) {
        raise(self.0.clone(), text.into());
    }

    /// Says that it is over; nothing happens if it does not stand.
    pub fn clear(&self, text: impl Into<String>) {
        clear(&self.0, text.into());
    }
}

/// Raises an alert, or raises it again.
pub(crate) fn raise(subject: Subject, text: String) {
    debug_assert!(!text.is_empty(), "an alert says what is the matter");
    let is_test = trial::is_running();
    with_board(|board| board.raise(subject, text, Instant::now(), is_test));
}

/// Says that an alert is over; nothing happens if it does not stand.
pub(crate) fn clear(subject: &Subject, text: String) {
    let is_test = trial::is_running();
    with_board(|board| board.clear(subject, text, Instant::now(), is_test));
}

/// As [`raise`], from a thread on which nobody is polled.
pub(crate) fn raise_at(root: &RootState, subject: Subject, text: String) {
    root.alerts().raise(subject, text, Instant::now(), root.trial().is_some());
}

/// As [`clear`], from a thread on which nobody is polled.
pub(crate) fn clear_at(root: &RootState, subject: &Subject, text: String) {
    root.alerts().clear(subject, text, Instant::now(), root.trial().is_some());
}

/// The board of the root of whoever is polled, or of the process where there is none.
fn with_board<R>(read: impl FnOnce(&Board) -> R) -> R {
    static ROOTLESS: OnceLock<Board> = OnceLock::new();
    match root::here() {
        Some(root) => read(RootState::alerts(&root)),
        None => read(ROOTLESS.get_or_init(Board::default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_within_the_quiet_period_is_told_once_and_its_end_once() {
        let board = Board::default();
        let told: Arc<Mutex<Vec<(bool, u64)>>> = Arc::default();
        let tell = Arc::clone(&told);
        let hook: Arc<Hook> =
            Arc::new(move |alert: &Alert| tell.lock_unpoisoned().push((alert.raised, alert.left_out)));
        board.hooks.lock_unpoisoned().push(Arc::downgrade(&hook));
        let subject = Subject { kind: AlertKind::LongPoll, name: "parse".into(), place: Location::caller() };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let raise = |seconds| board.raise(subject.clone(), "it is slow".to_owned(), at(seconds), true);
        let clear = |seconds| board.clear(&subject, "it was slow".to_owned(), at(seconds), true);
        let told = || std::mem::take(&mut *told.lock_unpoisoned());
        raise(0);
        clear(1);
        assert_eq!(told(), [(true, 0), (false, 0)]);
        for second in 2..30 {
            raise(second);
            clear(second);
        }
        assert_eq!(told(), [], "neither that it began nor that it ended");
        raise(61);
        clear(62);
        assert_eq!(told(), [(true, 28), (false, 28)]);
        raise(63);
        clear(200);
        assert_eq!(told(), [(false, 28)], "it stood for long, and somebody may have seen it in the list");
    }
}
