//! Calls that may fail: what kind of failure it was, and what is done about it.

mod backoff;
mod budget;
mod class;
mod copy;
mod failed;
mod fallback;
pub(crate) mod gate;
mod hedge;
mod once;
mod retry;
mod stack;

pub use backoff::Backoff;
pub use budget::{RetryBudget, RetryBudgetStats, retry_budgets};
pub use class::{ByClosure, ByError, Class, Classifier, Classify, parse_retry_after};
pub use copy::{Copies, CopiesStats, Freshness, Known, LocalCopy, NoCopy, copies};
pub use failed::{CallFailed, Failure};
pub use fallback::FallbackCall;
pub use hedge::Hedge;
pub use once::{
    Begun, Effects, EffectsStats, Ended, Idempotent, Keep, KeyCounts, KeyStore, MemoryKeys, OnceError,
    StoreFailed, effects,
};
pub use retry::{Attempt, Attempts, Retry, RetryError, Stopped};
pub use stack::Call;
