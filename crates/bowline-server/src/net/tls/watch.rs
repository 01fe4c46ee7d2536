//! Looking after a certificate while the server runs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Cancelled, Either, race};
use tokio::time::Instant;

use super::material::Material;
use super::{Refused, Tls, TlsError};
use crate::token::unix_now;

/// Time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate that ends within this time is warned of: those that renew themselves do so earlier.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Time between two warnings of the same.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What a look at the files came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They hold what is in use.
    Same,
    /// They hold something else, which is in use from now on.
    Renewed,
    /// They hold something that cannot be used. It may be half of something new: certificate and key are rarely replaced at
    /// the same moment.
    Unfit,
    /// They hold what could not be used at the look before either; the log has said so.
    Refused,
}

impl Tls {
    /// Looks after the certificate until `stopped` is ready.
    pub(crate) async fn watch(self: Arc<Self>, stopped: impl Future<Output = ()>) -> Result<(), Cancelled> {
        let _: Either<(), ()> = race(stopped, self.look_again_and_again()).await;
        Ok(())
    }

    async fn look_again_and_again(&self) {
        let mut hang_up = hang_up();
        let mut warned: Option<Instant> = None;
        loop {
            if warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) && self.warn() {
                warned = Some(Instant::now());
            }
            let _: Either<(), ()> = race(hang_up.next(), tokio::time::sleep(LOOK_INTERVAL)).await;
            if self.look() == Look::Renewed {
                warned = None;
            }
        }
    }

    /// Reads the files, and takes what they hold into use if it is new and good.
    ///
    /// They are few and small, and usually in memory: no thread is asked for it.
    pub(super) fn look(&self) -> Look {
        let seen = Material::read(&self.settings, self.section);
        if seen.as_ref().is_ok_and(|seen| *seen == self.current().seen) {
            if self.current().refused.take().is_some() {
                tracing::info!(section = self.section, "TLS: the files hold the certificate in use again");
            }
            return Look::Same;
        }
        let made = seen.and_then(|seen| self.make(seen));
        let mut current = self.current();
        match made {
            Ok((config, seen, not_after)) => {
                current.config = config;
                current.seen = seen;
                current.not_after = not_after;
                current.refused = None;
                drop(current);
                tracing::info!(section = self.section, "TLS: a new certificate is in use");
                Look::Renewed
            }
            Err(error) => {
                let text = error.to_string();
                let looks = match &current.refused {
                    Some(before) if before.text == text => before.looks + 1,
                    _ => 1,
                };
                current.refused = Some(Refused { text: text.clone(), looks });
                drop(current);
                if looks == 2 {
                    tracing::error!(section = self.section, "TLS: the old certificate stays in use: {text}");
                }
                if looks == 1 { Look::Unfit } else { Look::Refused }
            }
        }
    }

    fn make(&self, seen: Material) -> Result<Made, TlsError> {
        let config = seen.config(self.protocol, self.section)?;
        let not_after = seen.not_after();
        Ok((config, seen, not_after))
    }

    /// Warns of a certificate that ends soon; whether it did.
    fn warn(&self) -> bool {
        let Some(not_after) = self.current().not_after else { return false };
        let left = not_after.saturating_sub(Duration::from_secs(unix_now()));
        if left >= ENDS_SOON {
            return false;
        }
        let (section, days) = (self.section, left.as_secs() / (24 * 3600));
        if left.is_zero() {
            tracing::error!(section, "TLS: the certificate has ended, and clients refuse it: renew it");
        } else {
            tracing::warn!(section, days, "TLS: the certificate ends soon: renew it");
        }
        true
    }
}

type Made = (Arc<tokio_rustls::rustls::ServerConfig>, Material, Option<Duration>);

/// The signal that asks a process to read its files again, from the moment this is made; before that it kills.
#[cfg(unix)]
struct HangUp(Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
fn hang_up() -> HangUp {
    use tokio::signal::unix::{SignalKind, signal};
    HangUp(signal(SignalKind::hangup()).ok())
}

#[cfg(unix)]
impl HangUp {
    async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// There is no such signal here.
#[cfg(not(unix))]
struct HangUp;

#[cfg(not(unix))]
fn hang_up() -> HangUp {
    HangUp
}

#[cfg(not(unix))]
impl HangUp {
    async fn next(&mut self) {
        std::future::pending().await
    }
}
