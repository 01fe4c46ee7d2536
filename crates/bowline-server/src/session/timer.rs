//! What happens to a connection because time passes: pings, staleness, expiry, comparing positions.

use std::time::Duration;

use bowline_protocol::{Disconnect, UnsubscribeCode};
use tokio::time::Instant;

use super::{Phase, Session};
use crate::node::{Frame, Node};

/// Lifetimes above a year are cut to a year: far enough, and every clock can add it.
const LONGEST_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// When something expires that a token granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    at: Instant,
}

impl Expiry {
    /// Expires after `ttl`, or after a year if that is sooner.
    pub(super) fn after(ttl: Duration) -> Self {
        Self { at: Instant::now() + ttl.min(LONGEST_TTL) }
    }

    /// Whole seconds until then, rounded up so that it is not zero before the time has come.
    pub(super) fn ttl_seconds(self) -> u32 {
        let left = self.at.saturating_duration_since(Instant::now());
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        // At most a year of seconds, which fits.
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// When the grace to renew is over.
    fn closes_at(self, grace: Duration) -> Instant {
        self.at + grace
    }
}

/// Asks the client for signs of life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pinger {
    next_ping_at: Instant,
    /// Set while a pong is outstanding.
    pong_until: Option<Instant>,
}

impl Pinger {
    /// Starts pinging. The first ping comes after half to the whole interval, at random, so that the pings of
    /// clients who came together spread out.
    pub(super) fn new(interval: Duration) -> Self {
        let half = interval / 2;
        Self { next_ping_at: Instant::now() + half + half.mul_f64(random_fraction()), pong_until: None }
    }

    fn deadline(&self) -> Instant {
        self.pong_until.map_or(self.next_ping_at, |until| until.min(self.next_ping_at))
    }
}

impl Session {
    /// When [`on_timer`](Self::on_timer) wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let connected = match &self.phase {
            Phase::New { stale_at } | Phase::Refused { stale_at } => return *stale_at,
            Phase::Connected(connected) => connected,
        };
        let client = &self.node.config().client;
        let expiry = connected.expiry.map(|expiry| expiry.closes_at(client.expired_close_delay));
        let subscriptions = self.subscriptions.iter().filter_map(|subscription| {
            let expiry = subscription.expiry?;
            Some(expiry.closes_at(client.expired_sub_close_delay))
        });
        let has_positions = self.subscriptions.iter().any(|subscription| subscription.is_positioned);
        let position_check = has_positions.then_some(connected.position_check_at);
        let first = connected.pinger.deadline();
        expiry.into_iter().chain(subscriptions).chain(position_check).fold(first, Instant::min)
    }

    pub(super) fn run_timers(&mut self, now: Instant) -> Result<(), Disconnect> {
        match &self.phase {
            Phase::New { stale_at } | Phase::Refused { stale_at } if *stale_at <= now => {
                return Err(Disconnect::STALE);
            }
            Phase::New { .. } | Phase::Refused { .. } => return Ok(()),
            Phase::Connected(_) => {}
        }
        self.check_expiry(now)?;
        self.expire_subscriptions(now)?;
        self.check_positions(now)?;
        self.ping(now)
    }

    /// Takes the answer to a ping.
    pub(super) fn handle_pong(&mut self) -> Result<(), Disconnect> {
        let outstanding = self.connected_mut().and_then(|connected| connected.pinger.pong_until.take());
        outstanding.map(drop).ok_or(Disconnect::BAD_REQUEST)
    }

    fn ping(&mut self, now: Instant) -> Result<(), Disconnect> {
        let client = &self.node.config().client;
        let (interval, timeout) = (client.ping_interval.get(), client.pong_timeout.get());
        let Some(connected) = self.connected_mut() else { return Ok(()) };
        let pinger = &mut connected.pinger;
        if pinger.pong_until.is_some_and(|until| until <= now) {
            return Err(Disconnect::NO_PONG);
        }
        if pinger.next_ping_at > now {
            return Ok(());
        }
        // From now, not from when it was due: a process that was stopped does not catch up on pings.
        pinger.next_ping_at = now + interval;
        pinger.pong_until = Some(now + timeout);
        self.enqueue(Frame::ping())
    }

    fn check_expiry(&self, now: Instant) -> Result<(), Disconnect> {
        let grace = self.node.config().client.expired_close_delay;
        let expiry = self.connected().and_then(|connected| connected.expiry);
        match expiry {
            Some(expiry) if expiry.closes_at(grace) <= now => Err(Disconnect::EXPIRED),
            _ => Ok(()),
        }
    }

    fn expire_subscriptions(&mut self, now: Instant) -> Result<(), Disconnect> {
        let grace = self.node.config().client.expired_sub_close_delay;
        let expired = self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.expiry.is_some_and(|expiry| expiry.closes_at(grace) <= now));
        for subscription in expired {
            if subscription.membership.role().is_server_side {
                return Err(Disconnect::SUBSCRIPTION_EXPIRED);
            }
            subscription.membership.end(&UnsubscribeCode::EXPIRED);
        }
        self.subscriptions.forget_ended();
        Ok(())
    }

    /// Compares the positions of all positioned subscriptions with the tops of their streams.
    ///
    /// It also keeps the streams remembered while somebody listens, because reading renews their time.
    fn check_positions(&mut self, now: Instant) -> Result<(), Disconnect> {
        let delay = self.node.config().client.channel_position_check_delay.get();
        match self.connected_mut() {
            Some(connected) if connected.position_check_at <= now => {
                connected.position_check_at = now + delay;
            }
            _ => return Ok(()),
        }
        for subscription in self.subscriptions.iter().filter(|subscription| subscription.is_positioned) {
            if has_position(&self.node, subscription) {
                continue;
            }
            if subscription.membership.role().is_server_side {
                return Err(Disconnect::INSUFFICIENT_STATE);
            }
            subscription.membership.end(&UnsubscribeCode::INSUFFICIENT_STATE);
        }
        self.subscriptions.forget_ended();
        Ok(())
    }
}

/// Whether a subscription stands where its stream does. A store that cannot say does not end subscriptions.
fn has_position(node: &Node, subscription: &super::subscriptions::Subscription) -> bool {
    let channel = subscription.membership.channel();
    let Ok(resolved) = node.resolve(channel) else { return true };
    let meta_ttl = node.meta_ttl(resolved.options());
    match subscription.membership.has_position(meta_ttl) {
        Ok(has_position) => has_position,
        Err(error) => {
            node.store_failed(channel, &error);
            true
        }
    }
}

/// A number from 0 to 1, from the random bits of an identifier: the one source of randomness here already.
fn random_fraction() -> f64 {
    // The last 48 bits of a version 4 UUID are random, and a double holds them exactly.
    let bits = uuid::Uuid::new_v4().as_u128() as u64 & ((1 << 48) - 1);
    bits as f64 / (1_u64 << 48) as f64
}
