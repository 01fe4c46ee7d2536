//! The subscriptions of one connection.
//!
//! A list: connections have a handful, the limit is about a hundred, and an idle connection should cost little.

use crate::node::membership::Membership;

use super::timer::Expiry;

/// One subscription. Dropping it leaves the channel.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) membership: Membership,
    pub(super) expiry: Option<Expiry>,
    /// Whether the node compares its position with the stream from time to time.
    pub(super) is_positioned: bool,
}

/// The list. Subscriptions that the node ended are as good as gone.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    pub(super) fn find(&self, channel: &str) -> Option<&Subscription> {
        self.iter().find(|subscription| **subscription.membership.channel() == *channel)
    }

    pub(super) fn find_mut(&mut self, channel: &str) -> Option<&mut Subscription> {
        self.0.iter_mut().find(|s| !s.membership.has_ended() && **s.membership.channel() == *channel)
    }

    /// Adds a subscription to a channel that is not in the list.
    pub(super) fn insert(&mut self, subscription: Subscription) {
        self.forget_ended();
        // Most connections have one or two: the first growth is by one, not by four.
        if self.0.len() < 2 {
            self.0.reserve_exact(1);
        }
        self.0.push(subscription);
    }

    /// Takes a subscription out of the list; dropping it leaves the channel.
    pub(super) fn remove(&mut self, channel: &str) -> Option<Subscription> {
        self.forget_ended();
        let index = self.0.iter().position(|s| **s.membership.channel() == *channel)?;
        Some(self.0.swap_remove(index))
    }

    pub(super) fn forget_ended(&mut self) {
        self.0.retain(|subscription| !subscription.membership.has_ended());
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.0.iter().filter(|subscription| !subscription.membership.has_ended())
    }
}
