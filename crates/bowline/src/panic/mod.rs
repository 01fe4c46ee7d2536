//! Panics as values: a task's panic is caught at its root with its message, place, payload and backtrace.
//!
//! A panic is somebody's *bug*, or it is how code that cannot return an error refuses *bad input*. Both end the task; they
//! are told apart by their [`PanicClass`] and counted apart, per task name, by the root they happened under.
//!
//! # Invariants
//!
//! 1. A panic is counted once, where it was caught first; on its way up through scopes it stays the same [`Panic`].
//! 2. The payload is dropped by the last owner of its [`Panic`] or by who took it, and a payload whose drop panics harms nobody.
//!
//! # End
//!
//! The counts end with their root; the [`Report`](crate::Report) of a run has them.

mod count;

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, Mutex, Once, OnceLock};

use serde::ser::{Serialize, SerializeStruct, Serializer};

pub use count::{PanicStats, TaskPanics, panics};
pub(crate) use count::{Panics, of_no_root};

use crate::record::Record;
use crate::sync::LockExt;
use crate::tree;

/// A panic that was caught at the root of a task.
///
/// The process's panic hook still ran, so the message was printed where panics are printed. The backtrace is captured
/// if `RUST_BACKTRACE` asks for one.
#[derive(Clone)]
pub struct Panic {
    inner: Arc<Inner>,
}

struct Inner {
    task: &'static str,
    path: String,
    message: String,
    place: Option<String>,
    backtrace: Option<Backtrace>,
    class: OnceLock<PanicClass>,
    payload: Payload,
}

/// The payload, and that its drop is the user's code: it must not unwind into whoever lets go last.
struct Payload(Mutex<Option<Box<dyn Any + Send>>>);

impl Drop for Payload {
    fn drop(&mut self) {
        let payload = self.0.lock_unpoisoned().take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}

/// Whether a panic was to be expected.
///
/// [`bad_input`] raises an expected one; a classifier
/// ([`Runner::classify_panics`](crate::Runner::classify_panics)) may say so of others, such as those of a parser that is
/// known to panic. Every other panic is a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PanicClass {
    /// The input was bad and the code had no other way to refuse it.
    Expected,
    /// A bug.
    Unexpected,
}

impl Panic {
    fn new(record: &Record, payload: Box<dyn Any + Send>) -> Self {
        let (task, path) = tree::task_and_path(record);
        let seen = LAST.with(|last| last.borrow_mut().take());
        let class = OnceLock::new();
        let (place, backtrace) = match payload.downcast_ref::<BadInput>() {
            // The hook did not run: what it saw, if anything, was another panic.
            Some(bad) => {
                let _ = class.set(PanicClass::Expected);
                (Some(bad.place.to_string()), None)
            }
            None => seen.map_or((None, None), |seen| (seen.place, Some(seen.backtrace))),
        };
        let message = message_of(&*payload);
        let payload = Payload(Mutex::new(Some(payload)));
        Self { inner: Arc::new(Inner { task, path, message, place, backtrace, class, payload }) }
    }

    /// Returns the name of the task that panicked.
    #[must_use]
    pub fn task(&self) -> &'static str {
        self.inner.task
    }

    /// Returns the names of the tasks from the root down to the one that panicked, joined by `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// Returns the panic's message, or a note that the payload was not a string.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Returns `file:line:column` of the panic, if the hook saw it.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.inner.place.as_deref()
    }

    /// Returns the backtrace, if the hook saw the panic. It is empty unless `RUST_BACKTRACE` is set.
    #[must_use]
    pub fn backtrace(&self) -> Option<&Backtrace> {
        self.inner.backtrace.as_ref()
    }

    /// Returns whether the panic was expected, as it was judged when it was caught.
    #[must_use]
    pub fn class(&self) -> PanicClass {
        // Unset only while the classifier itself looks at it.
        self.inner.class.get().copied().unwrap_or(PanicClass::Unexpected)
    }

    /// Takes the payload out, if it is a `T` and nobody has taken it before; the message stays.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{CollectAll, Slot, group};
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct OutOfTape(u32);
    ///
    /// let outcome = group("print", CollectAll, async |g| {
    ///     g.spawn("printer", async { std::panic::panic_any(OutOfTape(7)) });
    ///     g.spawn("other", async { Ok::<(), bowline::Cancelled>(()) });
    /// })
    /// .await;
    /// let Slot::Panicked(panic) = &outcome.slots()[0].1 else { panic!("it panicked") };
    /// assert_eq!(panic.take_payload::<OutOfTape>(), Some(OutOfTape(7)));
    /// assert_eq!(panic.take_payload::<OutOfTape>(), None);
    /// # });
    /// ```
    #[must_use]
    pub fn take_payload<T: Any + Send>(&self) -> Option<T> {
        let mut payload = self.inner.payload.0.lock_unpoisoned();
        let found = payload.take_if(|payload| payload.is::<T>());
        drop(payload);
        found.and_then(|payload| payload.downcast::<T>().ok()).map(|payload| *payload)
    }

    /// Goes on panicking in the current task, without calling the panic hook a second time.
    pub(crate) fn resume(self) -> ! {
        std::panic::resume_unwind(Box::new(self))
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { path, place, message, .. } = &*self.inner;
        let what = match self.class() {
            PanicClass::Unexpected => "panicked",
            PanicClass::Expected => "refused its input",
        };
        write!(f, "task `{path}` {what}")?;
        if let Some(place) = place {
            write!(f, " at {place}")?;
        }
        write!(f, ": {message}")
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Panic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Panic", 5)?;
        fields.serialize_field("task", self.task())?;
        fields.serialize_field("path", self.path())?;
        fields.serialize_field("class", &self.class())?;
        fields.serialize_field("place", &self.place())?;
        fields.serialize_field("message", self.message())?;
        fields.end()
    }
}

impl std::error::Error for Panic {}

/// The payload of [`bad_input`].
struct BadInput {
    message: String,
    place: &'static Location<'static>,
}

/// Ends the current task with an *expected* panic: its input was bad, and no error can be returned from here.
///
/// Return an error where you can. This is for the depths of a parser whose signatures have none: the task ends like any that
/// panics, its owner gets the [`Panic`], and it is counted as [`PanicClass::Expected`]. The panic hook is not called, so
/// bad input of a stranger fills no log. Outside of any task it is an ordinary panic.
///
/// # Panics
///
/// Always.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Cancelled, Discard, PanicClass, bad_input, group, panics};
///
/// fn digit(byte: u8) -> u8 {
///     if byte.is_ascii_digit() { byte - b'0' } else { bad_input(format!("{byte:#x} is no digit")) }
/// }
///
/// let _ = group("frames", Discard, async |g| {
///     g.spawn("frame", async { Ok::<_, Cancelled>(digit(b'x')) });
/// })
/// .await;
/// assert_eq!((panics().expected, panics().unexpected), (1, 0));
/// # });
/// ```
#[track_caller]
pub fn bad_input(message: impl Into<String>) -> ! {
    let (message, place) = (message.into(), Location::caller());
    if crate::record::inside_task() {
        std::panic::resume_unwind(Box::new(BadInput { message, place }))
    }
    panic!("{message}")
}

/// Turns what `catch_unwind` caught at the root of a task or strand into a [`Panic`], and counts it; one that is passing
/// through on its way up keeps its origin and was counted there (invariant 1).
pub(crate) fn caught(record: &Record, payload: Box<dyn Any + Send>) -> Panic {
    let payload = match payload.downcast::<Panic>() {
        Ok(panic) => return *panic,
        Err(payload) => payload,
    };
    let panic = Panic::new(record, payload);
    let panics = record.node.root.as_ref().map_or(of_no_root(), |root| root.panics());
    if panic.inner.class.get().is_none() {
        let _ = panic.inner.class.set(panics.classify(&panic));
        let _ = LAST.with(|last| last.borrow_mut().take()); // a classifier that panicked left its own place
    }
    panics.add(&panic);
    panic
}

pub(crate) fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else if let Some(bad) = payload.downcast_ref::<BadInput>() {
        bad.message.clone()
    } else {
        "(payload is not a string)".to_owned()
    }
}

struct Seen {
    place: Option<String>,
    backtrace: Backtrace,
}

thread_local! {
    static LAST: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Adds our look at a panic's place in front of the hook that is installed; called once, by the first root.
pub(crate) fn install_hook() {
    if cfg!(any(bowline_loom, bowline_shuttle)) {
        return; // a model checker's own panics are raised where its thread-locals cannot be asked
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if crate::record::inside_task() {
                let place = info.location().map(ToString::to_string);
                let seen = Seen { place, backtrace: Backtrace::capture() };
                LAST.with(|last| *last.borrow_mut() = Some(seen));
            } else {
                crate::testing::trial::note_foreign_panic(info);
            }
            previous(info);
        }));
    });
}
