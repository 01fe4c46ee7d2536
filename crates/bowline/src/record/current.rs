//! The thread-local that makes a record ambient: the context of whatever is polled on this thread.

use std::any::Any;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::Record;
use crate::put_off;
use crate::sync::Arc;

// `ManuallyDrop`: a thread-local without a destructor costs no check per access. Nothing is lost by it, since whoever enters
// also leaves.
type Current = RefCell<ManuallyDrop<Option<Arc<Record>>>>;

#[cfg(not(bowline_loom))]
crate::sync::thread_local! {
    static CURRENT: Current = const { RefCell::new(ManuallyDrop::new(None)) };
}
#[cfg(bowline_loom)]
crate::sync::thread_local! {
    static CURRENT: Current = RefCell::new(ManuallyDrop::new(None));
}

/// Makes `record` the ambient one and returns the former.
#[inline]
pub(crate) fn replace_current(record: Option<Arc<Record>>) -> Option<Arc<Record>> {
    CURRENT.with(|current| ManuallyDrop::into_inner(current.replace(ManuallyDrop::new(record))))
}

/// Runs `f` with the record behind `slot` as the ambient one. The pointer is moved, not counted, and moved back even if
/// `f` panics.
#[inline]
pub(crate) fn enter<R>(slot: &mut Option<Arc<Record>>, f: impl FnOnce() -> R) -> R {
    enter_caught(slot, f).unwrap_or_else(|payload| resume_unwind(payload))
}

/// The same, for those who want to know what `f` panics with.
#[inline]
pub(crate) fn enter_caught<R>(
    slot: &mut Option<Arc<Record>>,
    f: impl FnOnce() -> R,
) -> Result<R, Box<dyn Any + Send>> {
    put_off::open_all();
    let previous = replace_current(slot.take());
    let caught = catch_unwind(AssertUnwindSafe(f));
    *slot = replace_current(previous);
    caught
}

/// The record of whoever is being polled on this thread, if it is ours.
pub(crate) fn current() -> Option<Arc<Record>> {
    put_off::open_all();
    CURRENT.with(|current| Option::clone(&current.borrow()))
}

/// Looks at the current record without taking a reference. `look` must not run user code (invariant 2).
#[inline]
pub(crate) fn with_current<R>(look: impl FnOnce(Option<&Arc<Record>>) -> R) -> R {
    put_off::open_all();
    with_nearest(look)
}

/// As [`with_current`], for what contexts that are put off have in common with the one below them: whether it is cancelled and
/// why, whose task it is, and what values there are.
#[inline]
pub(crate) fn with_nearest<R>(look: impl FnOnce(Option<&Arc<Record>>) -> R) -> R {
    CURRENT.with(|current| look(current.borrow().as_ref()))
}

pub(crate) fn inside_task() -> bool {
    CURRENT.with(|current| current.try_borrow().is_ok_and(|current| current.is_some()))
}
