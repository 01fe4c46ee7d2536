//! What a group came to: a [`Slot`] for every task, in spawn order, and the ways to ask for what its policy promised.

use crate::cause::{Cancelled, Cause};
use crate::done::Counts;
use crate::panic::Panic;
use crate::root::Phase;

/// How one task of a group ended.
#[derive(Debug)]
pub enum Slot<T, E> {
    /// With its value.
    Ok(T),
    /// With its error.
    Failed(E),
    /// With a panic.
    Panicked(Panic),
    /// Without a value, because it was cancelled, aborted or refused.
    Cancelled(Cancelled),
    /// Taken from the group before it ended: its runtime was shut down and dropped it.
    ///
    /// How far it had come is unknown. It can only be seen by a group that is awaited outside of the runtime its tasks run
    /// on, because otherwise the group goes with them.
    Unreleased,
}

impl<T, E> Slot<T, E> {
    /// Returns whether there is a value.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Slot::Ok(_))
    }

    /// Returns the value, if there is one.
    #[must_use]
    pub fn ok(self) -> Option<T> {
        match self {
            Slot::Ok(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the value, or the error. A task without either makes one from the [`Cancelled`] that ended it.
    ///
    /// # Errors
    ///
    /// The task's error, or `E::from(Cancelled)`.
    ///
    /// # Panics
    ///
    /// With the panic of the task.
    pub fn into_result(self) -> Result<T, E>
    where
        E: From<Cancelled>,
    {
        match self {
            Slot::Ok(value) => Ok(value),
            Slot::Failed(error) => Err(error),
            Slot::Panicked(panic) => panic.resume(),
            Slot::Cancelled(cancelled) => Err(E::from(cancelled)),
            Slot::Unreleased => Err(E::from(Cancelled::new(Cause::Shutdown(Phase::Aborting)))),
        }
    }

    fn is_failure(&self) -> bool {
        matches!(self, Slot::Failed(_) | Slot::Panicked(_))
    }
}

/// What a group came to: one slot per task in spawn order, the counts, and the error of its body.
///
/// A failure is nowhere else: look at it, or say `let _ =`.
#[derive(Debug)]
#[must_use = "the errors and panics of the group's tasks are only here"]
pub struct Outcome<T, E> {
    pub(super) slots: Vec<(&'static str, Slot<T, E>)>,
    pub(super) counts: Counts,
    /// What the body returned, if that was an error.
    pub(super) body: Option<E>,
    pub(super) first_failure: FirstFailure<T, E>,
    /// Of policies under which values decide: the slot with the first one.
    pub(super) first_ok: Option<usize>,
    /// How many values the policy asks for, if not one from everybody.
    pub(super) needed: Option<usize>,
}

/// Who failed first by time.
#[derive(Debug)]
pub(super) enum FirstFailure<T, E> {
    None,
    Body,
    /// The task with this slot.
    At(usize),
    /// A task of a group that keeps no results.
    Kept(&'static str, Slot<T, E>),
}

impl<T, E> Outcome<T, E> {
    /// Returns how many ended how; for [`Discard`](crate::Discard) this and the first failure are all there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns each task's name and end, in spawn order. Empty for groups that keep no results.
    #[must_use]
    pub fn slots(&self) -> &[(&'static str, Slot<T, E>)] {
        &self.slots
    }

    /// As [`slots`](Self::slots), by value.
    #[must_use]
    pub fn into_slots(self) -> Vec<(&'static str, Slot<T, E>)> {
        self.slots
    }

    /// Returns name and end of the task that failed or panicked first by time; a group that keeps no results has kept this
    /// one.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Discard, Slot, group};
    ///
    /// let served = group("connections", Discard, async |g| {
    ///     g.spawn("connection", async { Ok(()) });
    ///     g.spawn("connection", async { Err("reset by peer") });
    /// })
    /// .await;
    /// assert_eq!((served.counts().ok, served.counts().failed), (1, 1));
    /// let Some((name, Slot::Failed(error))) = served.first_failure() else { panic!("one failed") };
    /// assert_eq!((name, *error), ("connection", "reset by peer"));
    /// # });
    /// ```
    #[must_use]
    pub fn first_failure(&self) -> Option<(&'static str, &Slot<T, E>)> {
        let find = || self.slots.iter().find(|(_, slot)| slot.is_failure());
        match &self.first_failure {
            FirstFailure::Kept(name, slot) => Some((name, slot)),
            FirstFailure::At(at) => self.slots.get(*at).map(|(name, slot)| (*name, slot)),
            FirstFailure::Body | FirstFailure::None => find().map(|(name, slot)| (*name, slot)),
        }
    }

    /// Returns the error with which the body ended.
    #[must_use]
    pub fn body_error(&self) -> Option<&E> {
        self.body.as_ref()
    }

    /// Returns the values there are, in spawn order: partial results.
    pub fn into_ok(self) -> impl Iterator<Item = T> {
        self.slots.into_iter().filter_map(|(_, slot)| slot.ok())
    }

    /// Returns the first value: by time under [`FirstSuccess`](crate::FirstSuccess) and [`Quorum`](crate::Quorum), by place
    /// under other policies.
    ///
    /// # Errors
    ///
    /// The outcome, unchanged, if there is no value.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example_paused(async {
    /// use bowline::{Cancelled, FirstSuccess, group};
    /// use std::time::Duration;
    ///
    /// let fastest = group("mirrors", FirstSuccess, async |g| {
    ///     for (mirror, millis) in [("far", 300), ("near", 20)] {
    ///         g.spawn(mirror, async move {
    ///             tokio::time::sleep(Duration::from_millis(millis)).await;
    ///             Ok::<_, Cancelled>(mirror)
    ///         });
    ///     }
    /// })
    /// .await
    /// .first_ok();
    /// assert_eq!(fastest.ok(), Some("near"));
    /// # });
    /// ```
    #[expect(clippy::result_large_err, reason = "the outcome is as large wherever it is returned")]
    pub fn first_ok(mut self) -> Result<T, Self> {
        let first = self.first_ok.or_else(|| self.slots.iter().position(|(_, slot)| slot.is_ok()));
        let Some(at) = first.filter(|at| self.slots.get(*at).is_some_and(|(_, slot)| slot.is_ok())) else {
            return Err(self);
        };
        match self.slots.swap_remove(at).1 {
            Slot::Ok(value) => Ok(value),
            _ => unreachable!("it was looked at a line above"),
        }
    }

    /// Returns the values there are, in spawn order, if they are as many as the policy asks for: so many of
    /// [`Quorum`](crate::Quorum), one of [`FirstSuccess`](crate::FirstSuccess), everybody's of other policies. They may be
    /// more, if several came at once.
    ///
    /// # Errors
    ///
    /// The outcome, unchanged, if they are fewer.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Quorum, group};
    ///
    /// async fn write(replica: u32) -> Result<u32, &'static str> {
    ///     match replica {
    ///         2 => std::future::pending().await, // it hangs, and is not waited for
    ///         _ => Ok(replica),
    ///     }
    /// }
    ///
    /// let written = group("replicas", Quorum(2), async |g| {
    ///     for replica in 1..=3 {
    ///         g.spawn("write", write(replica));
    ///     }
    /// })
    /// .await
    /// .quorum();
    /// assert_eq!(written.unwrap(), [1, 3]);
    /// # });
    /// ```
    #[expect(clippy::result_large_err, reason = "the outcome is as large wherever it is returned")]
    pub fn quorum(self) -> Result<Vec<T>, Self> {
        let there = self.slots.iter().filter(|(_, slot)| slot.is_ok()).count();
        if there < self.needed.unwrap_or(self.slots.len()) {
            return Err(self);
        }
        Ok(self.into_ok().collect())
    }

    /// Returns every value, in spawn order, if every task had one and the body no error.
    ///
    /// # Errors
    ///
    /// The error that happened first, a task's or the body's; `E::from(Cancelled)` if a task was cancelled and there was no
    /// error.
    ///
    /// # Panics
    ///
    /// With the panic of a task, if that happened first.
    pub fn all_ok(mut self) -> Result<Vec<T>, E>
    where
        E: From<Cancelled>,
    {
        let first = match std::mem::replace(&mut self.first_failure, FirstFailure::None) {
            FirstFailure::Kept(_, slot) => Some(slot),
            FirstFailure::At(at) => Some(self.slots.swap_remove(at).1),
            FirstFailure::Body => self.body.take().map(Slot::Failed),
            FirstFailure::None => None,
        };
        if let Some(first) = first {
            first.into_result()?;
        }
        let mut values = Vec::with_capacity(self.slots.len());
        let mut without = None;
        for (_, slot) in self.slots {
            match slot {
                Slot::Ok(value) => values.push(value),
                Slot::Failed(_) | Slot::Panicked(_) => return Err(slot_error(slot)),
                Slot::Cancelled(_) | Slot::Unreleased => without = without.or(Some(slot)),
            }
        }
        match (self.body, without) {
            (Some(error), _) => Err(error),
            (None, Some(slot)) => Err(slot_error(slot)),
            (None, None) => Ok(values),
        }
    }
}

fn slot_error<T, E: From<Cancelled>>(slot: Slot<T, E>) -> E {
    match slot.into_result() {
        Err(error) => error,
        Ok(_) => unreachable!("only slots without a value come here"),
    }
}
