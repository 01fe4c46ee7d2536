//! Panics as values: a task's panic is caught at its root with its message, place and backtrace.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Once};

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
    message: String,
    place: Option<String>,
    backtrace: Option<Backtrace>,
}

impl Panic {
    pub(crate) fn new(task: &'static str, payload: &(dyn Any + Send)) -> Self {
        let seen = LAST.with(|last| last.borrow_mut().take());
        let (place, backtrace) = seen.map_or((None, None), |seen| (seen.place, Some(seen.backtrace)));
        Self { inner: Arc::new(Inner { task, message: message_of(payload), place, backtrace }) }
    }

    /// Returns the name of the task that panicked.
    #[must_use]
    pub fn task(&self) -> &'static str {
        self.inner.task
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

    /// Goes on panicking in the current task, without calling the panic hook a second time.
    pub(crate) fn resume(self) -> ! {
        std::panic::resume_unwind(Box::new(self))
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task `{}` panicked", self.inner.task)?;
        if let Some(place) = &self.inner.place {
            write!(f, " at {place}")?;
        }
        write!(f, ": {}", self.inner.message)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Panic {}

/// Turns what `catch_unwind` caught into a [`Panic`]; one that is passing through on its way up keeps its origin.
pub(crate) fn caught(task: &'static str, payload: Box<dyn Any + Send>) -> Panic {
    match payload.downcast::<Panic>() {
        Ok(panic) => *panic,
        Err(payload) => Panic::new(task, &*payload),
    }
}

pub(crate) fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
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
