//! When something ends that was granted for a time.

use std::time::Duration;

use tokio::time::Instant;

/// Lifetimes above a year are cut to a year: far enough, and every clock can add it.
const LONGEST_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// When something expires that a token or a back end granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    at: Instant,
}

impl Expiry {
    /// Expires after `ttl`, or after a year if that is sooner.
    pub(crate) fn after(ttl: Duration) -> Self {
        Self { at: Instant::now() + ttl.min(LONGEST_TTL) }
    }

    /// Turns a time in seconds since 1970 into an expiry: `None` if it has passed, `Some(None)` for never.
    pub(crate) fn at_unix(expire_at: Option<u64>, now: u64) -> Option<Option<Self>> {
        let Some(expire_at) = expire_at else { return Some(None) };
        let ttl = expire_at.checked_sub(now).filter(|&seconds| seconds > 0)?;
        Some(Some(Self::after(Duration::from_secs(ttl))))
    }

    /// Whole seconds until then, rounded up so that it is not zero before the time has come.
    pub(crate) fn ttl_seconds(self) -> u32 {
        let left = self.at.saturating_duration_since(Instant::now());
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        // At most a year of seconds, which fits.
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// When the grace to renew is over.
    pub(crate) fn closes_at(self, grace: Duration) -> Instant {
        self.at + grace
    }
}
