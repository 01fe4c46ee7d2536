//! What the store notices, as alerts.
//!
//! # Invariants
//!
//! 1. What the store says when it begins and when it ends is an alert in between.
//! 2. What it says only when it happens is over when it has not happened for [`OVER_AFTER`].
//! 3. Damage is never over: whoever looks after the server has to know of it.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bowline::{AlertKind, AlertSubject, Cancelled, sleep};
use bowline_store::durable::Notice;
use tokio::time::Instant;

/// Time without a reason after which an alert is over.
const OVER_AFTER: Duration = Duration::from_secs(600);

/// How often it is looked whether one is.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The alerts about a store.
#[derive(Debug)]
pub(super) struct Alerts {
    failing: AlertSubject,
    lost: AlertSubject,
    keeping: AlertSubject,
    dropped: Fading,
}

impl Alerts {
    pub(super) fn new() -> Self {
        Self {
            failing: AlertSubject::new(AlertKind::DiskFailing, "store"),
            lost: AlertSubject::new(AlertKind::DataLost, "store"),
            keeping: AlertSubject::new(AlertKind::DiskFailing, "store keeper"),
            dropped: Fading::new(AlertSubject::new(AlertKind::DataLost, "store.max_bytes")),
        }
    }

    pub(super) fn tell(&self, notice: &Notice) {
        match notice {
            Notice::WriteFailed(why) => self
                .failing
                .raise(format!("channels with history take no publications until it is over: {why}")),
            Notice::WritesAgain => self.failing.clear("publications are taken again"),
            Notice::Damaged(damage) => self.lost.raise(format!("{damage}; what was there is not served")),
            Notice::Renewed { channel } => self
                .lost
                .raise(format!("the stream of channel {channel:?} begins anew, and its clients start over")),
            Notice::Dropped { publications } => self.dropped.raise(format!(
                "{publications} publications went before their time: more bytes than `store.max_bytes` were kept"
            )),
            Notice::KeepingFailed(why) => {
                self.keeping.raise(format!("no space is freed, and it is tried again: {why}"));
            }
            Notice::KeepsAgain => self.keeping.clear("space is freed again"),
            _ => {}
        }
    }

    /// Says of alerts that they are over, when they are.
    pub(super) async fn fade(&self) -> Result<Infallible, Cancelled> {
        loop {
            sleep(LOOK_EVERY).await?;
            self.dropped.fade("nothing went before its time for ten minutes");
        }
    }
}

/// An alert about something of which only each occurrence is known.
#[derive(Debug)]
struct Fading {
    subject: AlertSubject,
    /// When it happened last; none if that is over.
    last: Mutex<Option<Instant>>,
}

impl Fading {
    fn new(subject: AlertSubject) -> Self {
        Self { subject, last: Mutex::default() }
    }

    fn raise(&self, text: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.subject.raise(text);
    }

    /// Clears it if it is over. What happens at this very moment may be cleared as well: it is raised when it happens again.
    fn fade(&self, text: &str) {
        let is_over = |last: &mut Instant| last.elapsed() >= OVER_AFTER;
        let over = self.last.lock().unwrap_or_else(PoisonError::into_inner).take_if(is_over);
        if over.is_some() {
            self.subject.clear(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bowline::scope;

    use super::*;

    #[bowline::test(start_paused = true)]
    async fn what_happens_now_and_then_is_an_alert_until_it_has_not_happened_for_a_while() {
        let minute = Duration::from_secs(60);
        let alerts = Arc::new(Alerts::new());
        let standing = || bowline::alerts().iter().map(|alert| alert.name.to_string()).collect::<Vec<_>>();
        scope("store", async |s| {
            let fading = Arc::clone(&alerts);
            s.spawn_daemon("store alerts", async move { fading.fade().await });
            alerts.tell(&Notice::WriteFailed("no space".into()));
            for _ in 0..5 {
                alerts.tell(&Notice::Dropped { publications: 7 });
                sleep(minute * 9).await?;
                assert!(standing().contains(&"store.max_bytes".to_owned()), "it comes again and again");
            }
            sleep(minute * 3).await?;
            assert_eq!(
                standing(),
                ["store"],
                "what nobody says the end of is over, and what has an end is not"
            );
            alerts.tell(&Notice::Dropped { publications: 7 });
            assert_eq!(standing().len(), 2);
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
    }

    #[bowline::test]
    async fn the_alert_of_a_keeper_that_fails_ends_when_it_frees_again() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&told);
        let hook = bowline::on_alert(move |alert| {
            notes.lock().unwrap().push((alert.name.to_string(), alert.raised))
        });
        let alerts = Alerts::new();
        alerts.tell(&Notice::KeepingFailed("the disk is gone".into()));
        alerts.tell(&Notice::KeepsAgain);
        drop(hook);
        let told = told.lock().unwrap();
        let of_keeper: Vec<bool> =
            told.iter().filter(|(name, _)| name == "store keeper").map(|(_, raised)| *raised).collect();
        assert_eq!(of_keeper, [true, false]);
    }
}
