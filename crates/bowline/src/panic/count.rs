//! How many panics there were, by class and by task name.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock};

use serde::Serialize;

use super::{Panic, PanicClass};
use crate::record;
use crate::root;
use crate::sync::LockExt;

/// Says whether a panic was to be expected.
pub(crate) type Classifier = fn(&Panic) -> PanicClass;

/// The panics that were caught at the roots of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PanicStats {
    /// Bad input that was refused with a panic.
    pub expected: u64,
    /// Bugs.
    pub unexpected: u64,
    /// The same by task, for those that ever panicked, in the order of their names.
    pub by_task: Vec<TaskPanics>,
}

/// The panics of the tasks of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TaskPanics {
    /// The name given at the spawn.
    pub task: &'static str,
    /// Bad input that was refused with a panic.
    pub expected: u64,
    /// Bugs.
    pub unexpected: u64,
}

/// Returns how many panics were caught so far under the root of the current task or runtime, or, where none of ours runs,
/// under no root.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// assert_eq!(bowline::panics().unexpected, 0);
/// # });
/// ```
#[must_use]
pub fn panics() -> PanicStats {
    let record = record::current().or_else(root::of_runtime);
    match record.as_ref().and_then(|record| record.node.root.as_ref()) {
        Some(root) => root.panics().stats(),
        None => of_no_root().stats(),
    }
}

/// Those of scopes that were opened where no root runs.
pub(crate) fn of_no_root() -> &'static Panics {
    static PANICS: Panics = Panics::new();
    &PANICS
}

/// The counters of one root. There are as many entries as there are names in the program.
#[derive(Debug)]
pub(crate) struct Panics {
    by_task: Mutex<BTreeMap<&'static str, (u64, u64)>>,
    classifier: OnceLock<Classifier>,
}

impl Panics {
    pub(crate) const fn new() -> Self {
        Self { by_task: Mutex::new(BTreeMap::new()), classifier: OnceLock::new() }
    }

    pub(crate) fn classify_with(&self, classifier: Classifier) {
        let _ = self.classifier.set(classifier);
    }

    /// A classifier that panics itself has not said that the panic was expected.
    pub(super) fn classify(&self, panic: &Panic) -> PanicClass {
        let Some(classifier) = self.classifier.get() else { return PanicClass::Unexpected };
        catch_unwind(AssertUnwindSafe(|| classifier(panic))).unwrap_or(PanicClass::Unexpected)
    }

    pub(super) fn add(&self, panic: &Panic) {
        let mut by_task = self.by_task.lock_unpoisoned();
        let (expected, unexpected) = by_task.entry(panic.task()).or_default();
        match panic.class() {
            PanicClass::Expected => *expected += 1,
            PanicClass::Unexpected => *unexpected += 1,
        }
    }

    pub(crate) fn stats(&self) -> PanicStats {
        let by_task: Vec<TaskPanics> = self
            .by_task
            .lock_unpoisoned()
            .iter()
            .map(|(task, (expected, unexpected))| TaskPanics {
                task,
                expected: *expected,
                unexpected: *unexpected,
            })
            .collect();
        PanicStats {
            expected: by_task.iter().map(|task| task.expected).sum(),
            unexpected: by_task.iter().map(|task| task.unexpected).sum(),
            by_task,
        }
    }
}
