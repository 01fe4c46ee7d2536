//! What an append answers at once, and the promise that it will be committed.
//!
//! A store that writes to disk gathers many appends and makes them durable together. The order, and with it the
//! offset, is fixed before that, so that the caller may go on; what has to be kept before it is told to others is
//! awaited. A [`Commit`] is what many receipts wait for: one group of appends, resolved once by whoever writes it.
//!
//! # Invariants
//!
//! 1. A commit is resolved once; later resolutions change nothing, and a commit that is dropped unresolved fails
//!    with [`CommitError::Closed`]. No receipt waits for ever.
//! 2. Wakers run, and are dropped, outside of the lock.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::{error, fmt, mem, thread};

/// The outcome of an append or removal, known at once, with the wait until it is committed.
///
/// Awaiting it gives the outcome when what was written survives as long as its
/// [`Durability`](crate::Durability) promises. A store without a disk commits at once.
///
/// ```
/// # use std::time::Duration;
/// # use bowline_store::{Append, Appended, MemoryStore, Publication, Retention, StreamStore};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let store = MemoryStore::default();
/// # let keep = Retention::new(10, Duration::from_secs(60), Duration::from_secs(3600));
/// let receipt = store.append(Append::new("news", Publication::new("{}"), keep)).unwrap();
/// assert!(matches!(receipt.outcome(), Appended::Kept(position) if position.offset == 1)); // known at once
/// let appended = receipt.await.unwrap(); // kept
/// # assert!(matches!(appended, Appended::Kept(_)));
/// # });
/// ```
///
/// # Cancel safety
///
/// Dropping a receipt changes nothing: what was appended is written all the same, only nobody learns of it.
#[must_use = "until it is awaited, nobody knows whether the append is kept"]
#[derive(Debug)]
pub struct Receipt<T> {
    /// `None` once it was given out.
    outcome: Option<T>,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    shared: Arc<Shared>,
    /// Where this receipt's waker is, once it was polled.
    slot: Option<usize>,
}

impl<T> Receipt<T> {
    /// A receipt that is committed already.
    pub fn committed(outcome: T) -> Self {
        Self { outcome: Some(outcome), waiting: None }
    }

    /// The outcome, which does not change any more; whether it is kept is not known yet.
    ///
    /// # Panics
    ///
    /// If the receipt was awaited to its end.
    #[must_use]
    pub fn outcome(&self) -> &T {
        self.outcome.as_ref().expect("a receipt gives its outcome once")
    }

    /// Gives the outcome without waiting for the commit.
    ///
    /// Whoever tells others of it then may tell them of what a crash takes back.
    ///
    /// # Panics
    ///
    /// If the receipt was awaited to its end.
    #[must_use]
    pub fn into_outcome(mut self) -> T {
        self.outcome.take().expect("a receipt gives its outcome once")
    }

    /// Whether awaiting would return at once.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.resolution().is_some()
    }

    /// Gives what awaiting would give, if it would give it at once; the receipt otherwise.
    ///
    /// # Errors
    ///
    /// The receipt, as it was: wait for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use bowline_store::{Commit, Receipt};
    ///
    /// assert_eq!(Receipt::committed("kept").try_take().unwrap(), Ok("kept"));
    /// let commit = Commit::new();
    /// let receipt = commit.receipt("kept").try_take().unwrap_err();
    /// commit.resolve(Ok(()));
    /// assert_eq!(receipt.try_take().unwrap(), Ok("kept"));
    /// ```
    pub fn try_take(mut self) -> Result<Result<T, CommitError>, Self> {
        match self.resolution() {
            Some(result) => Ok(result.map(|()| self.take())),
            None => Err(self),
        }
    }

    /// Waits for the commit on this thread. For programs without a runtime; a task awaits the receipt.
    ///
    /// # Errors
    ///
    /// As awaiting it.
    pub fn wait_blocking(mut self) -> Result<T, CommitError> {
        if let Some(result) = self.resolution() {
            return result.map(|()| self.take());
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut context) {
                Poll::Ready(result) => return result,
                Poll::Pending => thread::park(),
            }
        }
    }

    fn resolution(&self) -> Option<Result<(), CommitError>> {
        let Some(waiting) = &self.waiting else { return Some(Ok(())) };
        match &*lock(&waiting.shared) {
            State::Open(_) => None,
            State::Resolved(result) => Some(result.clone()),
        }
    }

    fn take(&mut self) -> T {
        self.waiting = None;
        self.outcome.take().expect("a receipt is not awaited again after it is ready")
    }
}

// The outcome is only moved out, never pinned.
impl<T> Unpin for Receipt<T> {}

impl<T> Future for Receipt<T> {
    type Output = Result<T, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.resolution() {
            return Poll::Ready(result.map(|()| self.take()));
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(Ok(self.take())) };
        // Cloned before the lock is taken (invariant 2), and dropped after it if it was not needed.
        let mut waker = Some(context.waker().clone());
        let mut state = lock(&waiting.shared);
        match &mut *state {
            State::Open(wakers) => {
                match waiting.slot {
                    Some(slot) => mem::swap(&mut wakers[slot], &mut waker),
                    None => {
                        waiting.slot = Some(wakers.len());
                        wakers.push(waker.take());
                    }
                }
                drop(state);
                Poll::Pending
            }
            State::Resolved(result) => {
                let result = result.clone();
                drop(state);
                let outcome = self.take();
                Poll::Ready(result.map(|()| outcome))
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let mut state = lock(&self.shared);
        let waker = match &mut *state {
            State::Open(wakers) => wakers[slot].take(),
            State::Resolved(_) => None,
        };
        drop(state);
        drop(waker);
    }
}

/// A group of appends that are committed together, seen from the side that writes them.
///
/// For those who implement a store; see [`receipt`](Self::receipt) and [`resolve`](Self::resolve).
#[derive(Debug, Default)]
pub struct Commit {
    shared: Arc<Shared>,
}

impl Commit {
    /// A commit that nobody waits for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A receipt that waits for this commit.
    pub fn receipt<T>(&self, outcome: T) -> Receipt<T> {
        Receipt {
            outcome: Some(outcome),
            waiting: Some(Waiting { shared: Arc::clone(&self.shared), slot: None }),
        }
    }

    /// Tells every receipt. Only the first resolution counts.
    pub fn resolve(&self, result: Result<(), CommitError>) {
        let mut state = lock(&self.shared);
        if let State::Open(wakers) = &mut *state {
            let wakers = mem::take(wakers);
            *state = State::Resolved(result);
            drop(state);
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        self.resolve(Err(CommitError::Closed));
    }
}

/// Why something that got its place was not committed.
///
/// What was appended is taken back: its offset goes to the next append, and no reader has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitError {
    /// There is no room on the disk. Nothing was stored; trying again succeeds when there is room.
    DiskFull,
    /// The disk failed; the text is for the log. It may or may not be stored: retry with the same idempotency key.
    Medium(Arc<str>),
    /// The store was closed, or its writer ended, before it was written. It may or may not be stored.
    Closed,
}

impl fmt::Display for CommitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull => formatter.write_str("not stored: the disk is full"),
            Self::Medium(what) => write!(formatter, "not known to be stored: {what}"),
            Self::Closed => formatter.write_str("not known to be stored: the store was closed"),
        }
    }
}

impl error::Error for CommitError {}

type Shared = Mutex<State>;

#[derive(Debug)]
enum State {
    /// The wakers of those who wait.
    Open(Vec<Option<Waker>>),
    Resolved(Result<(), CommitError>),
}

impl Default for State {
    fn default() -> Self {
        Self::Open(Vec::new())
    }
}

/// Nothing that can panic runs under the lock, so a poisoned one is used as it is.
fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll<T>(receipt: &mut Receipt<T>, count: &Arc<Count>) -> Poll<Result<T, CommitError>> {
        Pin::new(receipt).poll(&mut Context::from_waker(&Waker::from(Arc::clone(count))))
    }

    #[test]
    fn a_commit_wakes_everybody_who_waits_and_nobody_who_left() {
        let (commit, count) = (Commit::new(), Arc::new(Count::default()));
        let (mut one, mut two, mut left) = (commit.receipt(1), commit.receipt(2), commit.receipt(3));
        for receipt in [&mut one, &mut two, &mut left] {
            assert!(poll(receipt, &count).is_pending());
            assert!(poll(receipt, &count).is_pending(), "polled again, it takes no second place");
        }
        drop(left);
        commit.resolve(Ok(()));
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert_eq!(poll(&mut one, &count), Poll::Ready(Ok(1)));
        assert!(two.is_resolved());
        assert_eq!(two.into_outcome(), 2);
    }

    #[test]
    fn a_commit_that_is_dropped_fails_and_the_first_resolution_counts() {
        let commit = Commit::new();
        let (early, late) = (commit.receipt(()), commit.receipt(()));
        commit.resolve(Err(CommitError::DiskFull));
        commit.resolve(Ok(()));
        assert_eq!(early.wait_blocking(), Err(CommitError::DiskFull));
        drop(commit);
        assert_eq!(late.wait_blocking(), Err(CommitError::DiskFull));
        let unresolved = Commit::default().receipt(());
        assert_eq!(unresolved.wait_blocking(), Err(CommitError::Closed));
    }

    #[test]
    fn a_thread_waits_for_the_commit() {
        let commit = Commit::new();
        let receipt = commit.receipt("kept");
        thread::scope(|scope| {
            let waits = scope.spawn(|| receipt.wait_blocking());
            commit.resolve(Ok(()));
            assert_eq!(waits.join().expect("the waiter"), Ok("kept"));
        });
    }
}
