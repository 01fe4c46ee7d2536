//! The subscriptions of one connection. The session makes them; the server API may add some.
//!
//! A list: connections have a handful, the limit is about a hundred, and an idle connection should cost little.

use super::expiry::Expiry;
use super::membership::Membership;
use super::revoked::TokenTrace;

/// One subscription. Dropping it leaves the channel.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) membership: Membership,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) origin: Origin,
    /// The token that the client has last shown for it.
    pub(crate) token: Option<Box<TokenTrace>>,
    /// Whether the node compares its position with the stream from time to time.
    pub(crate) is_positioned: bool,
}

/// Who wanted a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The client, with a command.
    Client,
    /// The token it connected with. A new token must name the same channels.
    Token,
    /// The server: the personal channel of a user, or a back end by the server API.
    Server,
}

/// The list. Subscriptions that the node ended are as good as gone.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    pub(crate) fn find(&self, channel: &str) -> Option<&Subscription> {
        self.iter().find(|subscription| **subscription.membership.channel() == *channel)
    }

    pub(crate) fn find_mut(&mut self, channel: &str) -> Option<&mut Subscription> {
        self.0.iter_mut().find(|s| !s.membership.has_ended() && **s.membership.channel() == *channel)
    }

    /// Adds a subscription to a channel that is not in the list.
    pub(crate) fn insert(&mut self, subscription: Subscription) {
        self.forget_ended();
        // Most connections have one or two: the first growth is by one, not by four.
        if self.0.len() < 2 {
            self.0.reserve_exact(1);
        }
        self.0.push(subscription);
    }

    /// Takes a subscription out of the list; dropping it leaves the channel.
    pub(crate) fn remove(&mut self, channel: &str) -> Option<Subscription> {
        self.forget_ended();
        let index = self.0.iter().position(|s| **s.membership.channel() == *channel)?;
        Some(self.0.swap_remove(index))
    }

    pub(crate) fn forget_ended(&mut self) {
        self.0.retain(|subscription| !subscription.membership.has_ended());
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.0.iter().filter(|subscription| !subscription.membership.has_ended())
    }
}
