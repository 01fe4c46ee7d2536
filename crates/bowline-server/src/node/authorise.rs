//! Who may do what: one function, asked wherever a client wants something of a channel.
//!
//! `Node::may` knows the subject, the action and the channel's options, and nothing else; tokens are verified
//! before and count as facts about the subject. Denials are looked at first, so they win; what nothing allows is
//! denied.
//!
//! Delivery needs no question per publication: a seat in the channel is the answer to [`Action::Subscribe`], it is
//! the only way to get publications, and it ends with the permission it came from (expiry, unsubscribe, disconnect).

use bowline_protocol::ErrorCode;

use super::Node;
use super::resolve::ResolvedChannel;

/// What a client wants of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Receive what is published.
    Subscribe,
    /// Publish.
    Publish,
    /// See who is subscribed.
    Presence,
    /// Read what was published.
    History,
    /// Have the server track the position in the stream.
    Position,
    /// Get what was missed when subscribing again.
    Recover,
    /// Hear of joining and leaving.
    JoinLeave,
}

/// Who wants it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Application user id; empty for an anonymous client.
    pub user: &'a str,
    /// What stands between the subject and the channel.
    pub relation: Relation,
}

/// How a subject stands to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Nothing but the user id speaks for it.
    Stranger,
    /// It presented a valid subscription token for the channel, or the connection's token names the channel.
    TokenHolder,
    /// It is subscribed.
    Subscriber,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

impl Decision {
    /// Turns a denial into the error clients get.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::PERMISSION_DENIED`] if denied.
    pub fn into_result(self) -> Result<(), ErrorCode> {
        match self {
            Self::Allow => Ok(()),
            Self::Deny => Err(ErrorCode::PERMISSION_DENIED),
        }
    }

    fn when(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Deny }
    }
}

impl Node {
    /// Decides whether `action` in `channel` is denied to `subject` whoever allows it, applications included.
    pub(crate) fn denies(&self, subject: Subject<'_>, action: Action, channel: &ResolvedChannel<'_>) -> bool {
        // A private channel is entered with a token only; who has not entered it sees neither its past nor who is there.
        let is_stranger = subject.relation == Relation::Stranger;
        let is_refused = match action {
            Action::Subscribe => subject.relation != Relation::TokenHolder,
            Action::History | Action::Presence => is_stranger,
            _ => false,
        };
        if channel.name().is_private() && is_refused {
            return true;
        }
        // Channels of other users. A token or a subscription that one led to is a permission of its own.
        let is_limited = channel.options().allow_user_limited_channels && channel.name().is_user_limited();
        is_limited && is_stranger && !channel.name().lists_user(subject.user) && !self.config.client.insecure
    }

    /// Decides whether `subject` may do `action` in `channel`.
    pub(crate) fn may(
        &self,
        subject: Subject<'_>,
        action: Action,
        channel: &ResolvedChannel<'_>,
    ) -> Decision {
        let options = channel.options();
        let is_insecure = self.config.client.insecure;
        let is_subscriber = subject.relation == Relation::Subscriber;

        if self.denies(subject, action, channel) {
            return Decision::Deny;
        }
        let has_token = subject.relation == Relation::TokenHolder;
        let is_limited = options.allow_user_limited_channels && channel.name().is_user_limited();
        let allows = |for_client: bool, for_subscriber: bool, for_anonymous: bool| {
            let is_known = !subject.user.is_empty() || for_anonymous;
            is_insecure || (is_known && (for_client || (for_subscriber && is_subscriber)))
        };
        let history = || {
            allows(
                options.allow_history_for_client,
                options.allow_history_for_subscriber,
                options.allow_history_for_anonymous,
            )
        };
        Decision::when(match action {
            Action::Subscribe => {
                has_token
                    || is_limited
                    || allows(
                        options.allow_subscribe_for_client,
                        false,
                        options.allow_subscribe_for_anonymous,
                    )
            }
            Action::Publish => allows(
                options.allow_publish_for_client,
                options.allow_publish_for_subscriber,
                options.allow_publish_for_anonymous,
            ),
            Action::Presence => allows(
                options.allow_presence_for_client,
                options.allow_presence_for_subscriber,
                options.allow_presence_for_anonymous,
            ),
            Action::History => history(),
            Action::Position => options.allow_positioning || history(),
            Action::Recover => options.allow_recovery || history(),
            Action::JoinLeave => allows(
                options.allow_presence_for_client,
                options.allow_presence_for_subscriber,
                options.allow_presence_for_anonymous,
            ),
        })
    }
}
