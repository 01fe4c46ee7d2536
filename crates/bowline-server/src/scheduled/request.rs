//! What a caller may ask for: when to publish, under which id; and what is wrong with what was asked.

use std::{error, fmt};

use bowline::{Cron, CronError};
use bowline_protocol::ErrorCode;

use super::entry::{LATE_AT_MOST_MS, first_after};
use super::{Entry, Item, Limits, Putting, ScheduleError};
use crate::node::{ApiError, Node, PublishParams};

/// Bytes of the longest id that a caller may give a schedule.
const MAX_ID_BYTES: usize = 128;

/// The time zone of patterns that name none.
const DEFAULT_TIMEZONE: &str = "UTC";

/// When to publish. All unset is: now.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    /// So many milliseconds from now.
    pub(crate) delay_ms: u64,
    /// At this time, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Again and again, at the times that this pattern names.
    pub(crate) cron: String,
    /// Where the pattern is read.
    pub(crate) timezone: String,
    /// The caller's own name for it: what has it already is replaced.
    pub(crate) id: String,
    /// What to do about a run that is more than a minute late: `run_once`, or `skip`.
    pub(crate) missed: String,
}

/// What is wrong with a request to publish later. Trying the same again is in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WhenError {
    /// More than one of `delay`, `at` and `cron`.
    Both,
    /// Something that is only of use with one of them.
    Without {
        field: &'static str,
        wants: &'static str,
    },
    Past {
        at_ms: u64,
        now_ms: u64,
    },
    TooFar {
        limit_ms: u64,
    },
    /// A pattern that recurs, and no id: a repeated call would leave two.
    NoId,
    BadId,
    Missed(String),
    Cron(CronError),
    /// The pattern has no time left.
    Never,
    /// An id or a pattern, and many channels.
    Broadcast,
    /// One that would come to be only once, and a schedule that recurs.
    OnlyOnce {
        field: &'static str,
    },
}

impl fmt::Display for WhenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Both => f.write_str("give one of delay, at and cron"),
            Self::Without { field, wants } => write!(f, "{field} is of no use without {wants}"),
            Self::Past { at_ms, now_ms } => {
                write!(f, "at: {at_ms} is past: it is {now_ms} now, in milliseconds since 1970")
            }
            Self::TooFar { limit_ms } => {
                write!(f, "it is further ahead than {} s (schedule.max_delay)", limit_ms / 1000)
            }
            Self::NoId => {
                f.write_str("cron: give it a schedule_id, so that a repeated call changes it instead of adding another")
            }
            Self::BadId => {
                write!(f, "schedule_id: at most {MAX_ID_BYTES} bytes, without control characters")
            }
            Self::Missed(other) => write!(f, "missed: {other:?} is neither run_once nor skip"),
            Self::Cron(error) => write!(f, "cron: {error}"),
            Self::Never => f.write_str("cron: the pattern has no time left"),
            Self::Broadcast => f.write_str(
                "schedule_id and cron go with one channel: leave them out of a broadcast, which makes an id for each",
            ),
            Self::OnlyOnce { field } => {
                write!(f, "{field} would let only the first of the publications pass: leave it out with cron")
            }
        }
    }
}

impl error::Error for WhenError {}

impl From<WhenError> for ApiError {
    fn from(error: WhenError) -> Self {
        Self { code: ErrorCode::BAD_REQUEST.code, message: format!("bad request: {error}").into() }
    }
}

impl From<ScheduleError> for ApiError {
    fn from(error: ScheduleError) -> Self {
        let code = match &error {
            ScheduleError::Full(_) => ErrorCode::LIMIT_EXCEEDED,
            ScheduleError::Busy => {
                return Self { code: CONFLICT, message: format!("conflict: {error}").into() };
            }
            ScheduleError::Store(_) | ScheduleError::Commit(_) => {
                tracing::error!(%error, "the store of schedules failed");
                ErrorCode::INTERNAL
            }
        };
        Self { code: code.code, message: format!("{}: {error}", code.message).into() }
    }
}

/// The code for what another call is doing at this moment.
const CONFLICT: u32 = 113;

impl When {
    /// Makes the schedule of it.
    pub(super) fn item(
        self,
        channel: &str,
        params: &PublishParams,
        now_ms: u64,
        limits: &Limits,
    ) -> Result<Item, WhenError> {
        let Self { delay_ms, at_ms, cron, timezone, id, missed } = self;
        let skips_missed = match missed.as_str() {
            "" | "run_once" => false,
            "skip" => true,
            _ => return Err(WhenError::Missed(missed)),
        };
        if id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
            return Err(WhenError::BadId);
        }
        if cron.is_empty() && !timezone.is_empty() {
            return Err(WhenError::Without { field: "timezone", wants: "cron" });
        }
        let due_ms = match (delay_ms, at_ms, cron.as_str()) {
            (0, 0, "") => {
                let field = if id.is_empty() { "missed" } else { "schedule_id" };
                return Err(WhenError::Without { field, wants: "delay, at or cron" });
            }
            (delay_ms, 0, "") => now_ms.saturating_add(delay_ms),
            (0, at_ms, "") if now_ms.saturating_sub(at_ms) > LATE_AT_MOST_MS => {
                return Err(WhenError::Past { at_ms, now_ms });
            }
            (0, at_ms, "") => at_ms,
            (0, 0, pattern) => {
                let zone = if timezone.is_empty() { DEFAULT_TIMEZONE } else { timezone.as_str() };
                let cron = Cron::new(pattern, zone).map_err(WhenError::Cron)?;
                let once = [
                    ("idempotency_key", !params.idempotency_key.is_empty()),
                    ("version", params.version > 0),
                ];
                match once.into_iter().find(|(_, is_set)| *is_set) {
                    Some((field, _)) => return Err(WhenError::OnlyOnce { field }),
                    None if id.is_empty() => return Err(WhenError::NoId),
                    None => first_after(&cron, now_ms).ok_or(WhenError::Never)?,
                }
            }
            _ => return Err(WhenError::Both),
        };
        let recurs = !cron.is_empty();
        if !recurs && due_ms.saturating_sub(now_ms) > limits.ahead_ms {
            return Err(WhenError::TooFar { limit_ms: limits.ahead_ms });
        }
        let id = if id.is_empty() { uuid::Uuid::new_v4().simple().to_string() } else { id };
        let timezone = if recurs && timezone.is_empty() { DEFAULT_TIMEZONE.to_owned() } else { timezone };
        let entry = Entry {
            id,
            channel: channel.to_owned(),
            data: params.data.clone().into_bytes(),
            skip_history: params.skip_history,
            tags: params.tags.clone(),
            idempotency_key: params.idempotency_key.clone(),
            version: params.version,
            version_epoch: params.version_epoch.clone(),
            makes_delta: params.makes_delta,
            at_ms: due_ms,
            since_ms: now_ms,
            nonce: uuid::Uuid::new_v4().as_u64_pair().0,
            cron,
            timezone,
            skips_missed,
        };
        // The pattern was read above.
        Item::new(entry).map_err(|_| WhenError::Never)
    }
}

impl Node {
    /// Schedules a publication. What is wrong with it now is said now; what is wrong when it is due is found out then.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); 107 for a time that cannot be, 106 if too many wait, 113 while the same id is
    /// being changed or published.
    pub(crate) fn schedule(
        &self,
        channel: &str,
        params: &PublishParams,
        when: When,
    ) -> Result<Putting, ApiError> {
        let resolved = self.resolve(channel)?;
        crate::node::check_format(resolved.options().publication_data_format, &params.data)?;
        let scheduled = self.scheduled();
        let item = when.item(channel, params, scheduled.now_ms(), scheduled.limits())?;
        Ok(scheduled.put(item)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn item(when: When) -> Result<Item, String> {
        let limits = Limits { ahead_ms: 3_600_000, ..Limits::default() };
        when.item("c", &PublishParams::default(), NOW, &limits).map_err(|error| error.to_string())
    }

    fn at(when: When) -> u64 {
        item(when).unwrap().at_ms()
    }

    #[test]
    fn a_time_is_a_delay_or_a_moment_or_a_pattern() {
        assert_eq!(at(When { delay_ms: 1500, ..When::default() }), NOW + 1500);
        assert_eq!(at(When { at_ms: NOW + 5, ..When::default() }), NOW + 5);
        // A moment ago is now; the request took its time.
        assert_eq!(at(When { at_ms: NOW - 60_000, ..When::default() }), NOW - 60_000);
        let cron = When { cron: "0 9 * * *".into(), id: "daily".into(), ..When::default() };
        assert_eq!(at(cron.clone()), NOW + 3_600_000); // 08:00 UTC
        // A pattern may be as far ahead as it likes.
        assert_eq!(at(When { timezone: "Europe/Berlin".into(), ..cron }), NOW + 24 * 3_600_000);
    }

    #[test]
    fn what_cannot_be_is_said_in_words_that_help() {
        let none = When::default;
        let cron = || When { cron: "* * * * *".into(), id: "a".into(), ..none() };
        for (when, words) in [
            (When { delay_ms: 1, at_ms: NOW, ..none() }, "one of delay, at and cron"),
            (When { delay_ms: 1, ..cron() }, "one of delay, at and cron"),
            (When { id: "a".into(), ..none() }, "schedule_id is of no use without delay, at or cron"),
            (When { missed: "skip".into(), ..none() }, "missed is of no use without delay, at or cron"),
            (When { delay_ms: 1, timezone: "UTC".into(), ..none() }, "timezone is of no use without cron"),
            // Seconds where milliseconds are wanted.
            (When { at_ms: NOW / 1000 + 60, ..none() }, "is past: it is 1800000000000 now, in milliseconds"),
            (When { at_ms: NOW - 60_001, ..none() }, "is past"),
            (When { delay_ms: 3_600_001, ..none() }, "further ahead than 3600 s (schedule.max_delay)"),
            (When { id: String::new(), ..cron() }, "give it a schedule_id"),
            (When { id: "a".repeat(129), ..cron() }, "at most 128 bytes"),
            (When { id: "a\n".into(), ..cron() }, "without control characters"),
            (When { cron: "61 * * * *".into(), ..cron() }, "`61` cannot be the minute"),
            (When { timezone: "Berlin".into(), ..cron() }, "`Europe/Berlin` perhaps"),
            (When { missed: "never".into(), ..cron() }, "\"never\" is neither run_once nor skip"),
        ] {
            let error = item(when.clone()).unwrap_err();
            assert!(error.contains(words), "{when:?}: {error}");
        }
    }

    #[test]
    fn a_key_or_a_version_does_not_go_with_what_recurs() {
        let cron = When { cron: "* * * * *".into(), id: "a".into(), ..When::default() };
        for params in [
            PublishParams { idempotency_key: "k".into(), ..PublishParams::default() },
            PublishParams { version: 1, ..PublishParams::default() },
        ] {
            let error = cron.clone().item("c", &params, NOW, &Limits::default()).unwrap_err();
            assert!(matches!(error, WhenError::OnlyOnce { .. }), "{error}");
            let once = When { delay_ms: 0, at_ms: NOW, ..When::default() };
            assert!(once.item("c", &params, NOW, &Limits::default()).is_ok());
        }
    }
}
