//! One application: how it is asked.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bowline::{Attempts, Backoff, Breaker, Bulkhead, Call, CallFailed, Failure, Retry};
use bowline_protocol::ErrorCode;
use tokio::time::Instant;

use super::about::About;
use super::answer::{Refused, Unfit};
use super::carrier::{Carrier, GrpcEvent};
use crate::config::ProxyOptions;
use crate::outgoing::grpc::Channel;
use crate::outgoing::{FetchError, Outgoing};

/// How often a question is sent that certainly did not arrive: an application that restarts is back within moments, or not
/// within the time of one question.
const ATTEMPTS: u32 = 3;

/// The pauses between.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// An application that is asked.
#[derive(Debug)]
pub(super) struct Hook {
    /// Its name in the settings, in the log, and in views of its breaker and bulkhead.
    pub(super) name: &'static str,
    carrier: Carrier,
    call: Call,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AskError {
    /// The client gets something else, as the application said or because its question cannot be asked.
    Refused(Refused),
    /// The answer was not there in time.
    TimedOut,
    /// It cannot be reached, it is in trouble, or it answered something that is no answer.
    Failed,
}

impl Hook {
    /// Makes a hook; `None` if it has no endpoint, which settings that were checked do not have.
    pub(super) fn new(
        name: &str,
        options: &ProxyOptions,
        breaker: &Breaker,
        outgoing: &Outgoing,
    ) -> Option<Self> {
        let name = lasting(name);
        let time = options.timeout.get();
        // Only what certainly did not reach it is sent again: see invariant 1 of the module above.
        let retry = Retry::new(Backoff::exponential(PAUSE, LONGEST_PAUSE), Attempts::at_most(ATTEMPTS));
        let call = Call::new(name)
            .within(time)
            .timeout(time)
            .retry(retry)
            .breaker(breaker)
            .bulkhead(&Bulkhead::new(name, options.max_in_flight.get()));
        Some(Self { name, carrier: Carrier::new(options, outgoing)?, call })
    }

    /// Asks once: see invariant 1 of the [module](super). `None` if the answer holds no result.
    pub(super) async fn ask<E: GrpcEvent>(
        &self,
        about: &About,
        event: &E,
    ) -> Result<Option<E::Answer>, AskError> {
        let written = self.carrier.write(about, event)?;
        let asked = self.call.run(|| self.carrier.send::<E>(written.clone())).await;
        match asked {
            Ok(answer) => Ok(answer.check(self.name)?),
            Err(failed) => Err(self.failed(&failed)),
        }
    }

    /// Takes what the application said through `reading`, which says what about it is unfit.
    pub(super) fn read<T>(&self, read: Result<T, Unfit>) -> Result<T, Refused> {
        read.map_err(|unfit| unfit.refused(self.name))
    }

    /// The headers of a question.
    #[cfg(test)]
    pub(super) fn written_headers(&self, about: &About, event: &impl GrpcEvent) -> hyper::header::HeaderMap {
        use super::carrier::Written;
        match self.carrier.write(about, event) {
            Ok(Written::Http { headers, .. } | Written::Grpc { headers, .. }) => headers,
            Err(refused) => unreachable!("{refused:?}"),
        }
    }

    /// Closes connections that were idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.carrier.sweep(now);
    }

    /// The connection that somebody has to keep, if there is one.
    pub(super) fn channel(&self) -> Option<&Channel> {
        self.carrier.channel()
    }

    fn failed(&self, failed: &CallFailed<FetchError>) -> AskError {
        tracing::warn!(application = self.name, %failed, "an application was asked in vain");
        match &failed.failure {
            Failure::TimedOut(_) | Failure::Cancelled(_) => AskError::TimedOut,
            _ => AskError::Failed,
        }
    }
}

impl AskError {
    /// What the client gets: for all that went wrong between us and the application, an error after which it may try again.
    pub(super) fn into_refused(self) -> Refused {
        match self {
            Self::Refused(refused) => refused,
            Self::TimedOut | Self::Failed => Refused::Error(ErrorCode::INTERNAL),
        }
    }
}

impl From<Refused> for AskError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// The name as one that lasts as long as the process, as views need it: applications are few, and each name is kept once.
fn lasting(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(name) {
        Some(known) => known,
        None => {
            let name: &'static str = Box::leak(name.into());
            names.insert(name);
            name
        }
    }
}
