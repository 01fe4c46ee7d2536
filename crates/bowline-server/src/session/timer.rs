//! What happens to a connection because time passes: pings, staleness, expiry, comparing positions.

use std::time::Duration;

use bowline_protocol::{Disconnect, UnsubscribeCode};
use tokio::time::Instant;

use super::{Phase, Session};
use crate::jitter::jittered;
use crate::node::subscriptions::Subscription;
use crate::node::{Frame, Node};

/// Asks the client for signs of life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pinger {
    next_ping_at: Instant,
    /// Pings without an answer: more than one if the client is not listened to for longer than an interval.
    unanswered: u32,
    /// When the last of them is to be answered; set while there are any.
    pong_until: Option<Instant>,
}

impl Pinger {
    /// Starts pinging. The first ping comes after half to the whole interval, at random, so that the pings of
    /// clients who came together spread out.
    pub(super) fn new(interval: Duration) -> Self {
        Self { next_ping_at: Instant::now() + jittered(interval), unanswered: 0, pong_until: None }
    }

    /// When there is something to do; a pong is missed only while `listens`.
    fn deadline(&self, listens: bool) -> Instant {
        let pong_until = self.pong_until.filter(|_| listens);
        pong_until.map_or(self.next_ping_at, |until| until.min(self.next_ping_at))
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
        let held = connected.registration.connection().held();
        let expiry = held.expiry.map(|expiry| expiry.closes_at(self.expiry_grace()));
        let subscriptions = held.subscriptions.iter().filter_map(|subscription| {
            let expiry = subscription.expiry?;
            Some(expiry.closes_at(self.sub_expiry_grace(subscription.membership.channel())))
        });
        let has_positions = held.subscriptions.iter().any(|subscription| subscription.is_positioned);
        let position_check = has_positions.then_some(connected.position_check_at);
        let first = connected.pinger.deadline(!self.is_busy());
        let first = expiry.into_iter().chain(subscriptions).chain(position_check).fold(first, Instant::min);
        drop(held);
        self.next_question().map_or(first, |at| at.min(first))
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
        self.ask_about_expired(now);
        self.check_positions(now)?;
        self.ping(now)
    }

    /// Takes the answer to a ping.
    pub(super) fn handle_pong(&mut self) -> Result<(), Disconnect> {
        if self.outbox.wire().is_unidirectional {
            return Ok(()); // some WebSockets answer pings by themselves; nobody waits for it
        }
        let pinger = self.connected_mut().map(|connected| &mut connected.pinger);
        let pinger = pinger.filter(|pinger| pinger.unanswered > 0).ok_or(Disconnect::BAD_REQUEST)?;
        pinger.unanswered -= 1;
        if pinger.unanswered == 0 {
            pinger.pong_until = None;
        }
        Ok(())
    }

    /// Gives the client the whole time for its pong again: it was not listened to.
    pub(super) fn expect_pong_anew(&mut self, now: Instant) {
        let timeout = self.node.config().client.pong_timeout.get();
        let Some(connected) = self.connected_mut() else { return };
        if let Some(until) = &mut connected.pinger.pong_until {
            *until = now + timeout;
        }
    }

    fn ping(&mut self, now: Instant) -> Result<(), Disconnect> {
        let listens = !self.is_busy();
        let is_answered = !self.outbox.wire().is_unidirectional;
        let client = &self.node.config().client;
        let (interval, timeout) = (client.ping_interval.get(), client.pong_timeout.get());
        let Some(connected) = self.connected_mut() else { return Ok(()) };
        let pinger = &mut connected.pinger;
        if listens && pinger.pong_until.is_some_and(|until| until <= now) {
            return Err(Disconnect::NO_PONG);
        }
        if pinger.next_ping_at > now {
            return Ok(());
        }
        // From now, not from when it was due: a process that was stopped does not catch up on pings.
        pinger.next_ping_at = now + interval;
        if is_answered {
            pinger.unanswered = pinger.unanswered.saturating_add(1);
            pinger.pong_until = Some(now + timeout);
        }
        self.enqueue(Frame::ping(self.outbox.wire()))
    }

    fn check_expiry(&self, now: Instant) -> Result<(), Disconnect> {
        let grace = self.expiry_grace();
        let expiry = self.held()?.expiry;
        match expiry {
            Some(expiry) if expiry.closes_at(grace) <= now => Err(Disconnect::EXPIRED),
            _ => Ok(()),
        }
    }

    fn expire_subscriptions(&self, now: Instant) -> Result<(), Disconnect> {
        let mut held = self.held()?;
        let expired = held.subscriptions.iter().filter(|subscription| {
            let grace = || self.sub_expiry_grace(subscription.membership.channel());
            subscription.expiry.is_some_and(|expiry| expiry.closes_at(grace()) <= now)
        });
        for subscription in expired {
            if subscription.membership.role().is_server_side {
                return Err(Disconnect::SUBSCRIPTION_EXPIRED);
            }
            subscription.membership.end(&UnsubscribeCode::EXPIRED);
        }
        held.subscriptions.forget_ended();
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
        let mut held = self.held()?;
        for subscription in held.subscriptions.iter().filter(|subscription| subscription.is_positioned) {
            if has_position(&self.node, subscription) {
                continue;
            }
            if subscription.membership.role().is_server_side {
                return Err(Disconnect::INSUFFICIENT_STATE);
            }
            subscription.membership.end(&UnsubscribeCode::INSUFFICIENT_STATE);
        }
        held.subscriptions.forget_ended();
        Ok(())
    }
}

/// Whether a subscription stands where its stream does. A store that cannot say does not end subscriptions.
fn has_position(node: &Node, subscription: &Subscription) -> bool {
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
