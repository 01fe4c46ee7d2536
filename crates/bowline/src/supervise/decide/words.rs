//! The words in which the driver and the rules talk: terms, what happened, what is to be done.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::Backoff;
use crate::supervise::report::ChildState;
use crate::supervise::spec::{Restart, Restarts, Strategy};

/// How many beats a child may miss.
pub(in crate::supervise) const MISSED_BEATS: u32 = 3;

/// How long an aborted child may take to be gone before it is reported as stuck. Its destructors run meanwhile, and work it
/// has on the blocking lane, which nobody can interrupt.
pub(in crate::supervise) const ABORT_PATIENCE: Duration = Duration::from_secs(1);

/// What holds for all children.
#[derive(Clone, Copy, Debug)]
pub(in crate::supervise) struct Rules {
    pub(in crate::supervise) strategy: Strategy,
    pub(in crate::supervise) restarts: Restarts,
    /// None only in models, which have no time.
    pub(in crate::supervise) backoff: Option<Backoff>,
    pub(in crate::supervise) stable_after: Duration,
    /// Draws a time up to this one.
    pub(in crate::supervise) draw: fn(Duration) -> Duration,
}

/// What holds for one.
#[derive(Clone, Copy, Debug)]
pub(in crate::supervise) struct Terms {
    pub(in crate::supervise) restart: Restart,
    pub(in crate::supervise) stop_within: Duration,
    pub(in crate::supervise) ready_within: Option<Duration>,
    pub(in crate::supervise) heartbeat: Option<Duration>,
}

/// How an incarnation ended, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise) enum How {
    Returned,
    Failed,
    /// Its future was dropped where it stood, or its context was cancelled by somebody else.
    Cancelled,
    Hung,
    NotReady,
}

/// What is known of a child's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise) enum Pulse {
    /// It waits for something to do: no beat is due until it [`wakes`](super::Core::wakes).
    Idle,
    /// It made progress then.
    Beat(Instant),
}

/// What the driver has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise) enum Action {
    Start {
        key: u64,
        incarnation: u64,
    },
    Cancel {
        key: u64,
    },
    Abort {
        key: u64,
    },
    /// A seat is empty and not wanted any more.
    Forget {
        key: u64,
    },
    Tell {
        key: u64,
        news: News,
    },
    /// Everybody who can be gone is gone: the end.
    Over {
        gave_up: bool,
    },
}

/// What people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise) enum News {
    /// It ended and is started again after this time.
    Restarts {
        how: How,
        after: Duration,
    },
    /// It ended with a failure, and its terms say that it is not started again.
    LeftAlone {
        how: How,
    },
    Hung,
    NotReady,
    /// It was aborted and is still not gone.
    Stuck,
    /// It has run well for so long that what was is forgotten.
    Stable,
    /// It failed once too often.
    GaveUp {
        how: How,
    },
}

/// What can be seen of a seat.
#[derive(Clone, Copy, Debug)]
pub(in crate::supervise) struct Look {
    pub(in crate::supervise) state: ChildState,
    pub(in crate::supervise) incarnation: u64,
    pub(in crate::supervise) since: Instant,
    pub(in crate::supervise) restarts: u64,
    pub(in crate::supervise) ready: bool,
    /// Whether it is wanted up, now or later.
    pub(in crate::supervise) is_wanted: bool,
}
