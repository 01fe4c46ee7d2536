//! What back ends ask of the node: the operations of the server API, free of HTTP.
//!
//! They are trusted: no permission is asked. Every operation resolves its channel first, so an unknown namespace
//! is 102 and a name that cannot exist is 107, wherever the request came from.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{error, fmt};

use bowline_protocol::{
    ClientInfo, Disconnect, ErrorCode, HistoryResult, Payload, PresenceStatsResult, StreamPosition,
    UnsubscribeCode,
};
use bowline_store::{Position, Receipt, Version};

use super::connection::Connection;
use super::history::HistoryQuery;
use super::publish::{Outgoing, not_committed};
use super::resolve::ResolvedChannel;
use super::{Node, VERSION};
use crate::token::Overrides;

/// Why an operation of the server API failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The number back ends act on.
    pub code: u32,
    /// A short text for people.
    pub message: Cow<'static, str>,
}

impl From<ErrorCode> for ApiError {
    fn from(error: ErrorCode) -> Self {
        Self { code: error.code, message: error.message }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl error::Error for ApiError {}

/// A publication of a back end.
#[derive(Clone, Debug, Default)]
pub struct PublishParams {
    /// The data.
    pub data: Payload,
    /// Deliver without keeping it in history.
    pub skip_history: bool,
    /// Labels.
    pub tags: BTreeMap<String, String>,
    /// Lets subscribers that negotiated deltas get the difference to the publication before.
    pub makes_delta: bool,
    /// A repeat within five minutes publishes nothing; empty for none.
    pub idempotency_key: String,
    /// The version of the state the data is; 0 for none.
    pub version: u64,
    /// Names the counter `version` comes from.
    pub version_epoch: String,
}

/// A publication that has its place in its channel. Awaiting it says when it is kept and delivered.
///
/// # Cancel safety
///
/// Dropping it changes nothing: what has its place is kept and delivered all the same, only nobody learns of it.
#[derive(Debug)]
#[must_use = "until it is awaited, nobody knows whether the publication is kept"]
pub struct Publishing(Result<Receipt<Option<Position>>, ErrorCode>);

impl Publishing {
    /// What came of it, in a store that commits at once.
    #[cfg(test)]
    pub(crate) fn now(self) -> Result<Option<StreamPosition>, ApiError> {
        Ok(self.0?.wait_blocking().expect("committed").map(stream_position))
    }
}

impl Future for Publishing {
    type Output = Result<Option<StreamPosition>, ApiError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match &mut self.0 {
            Err(error) => Err(error.clone().into()),
            Ok(receipt) => match ready!(Pin::new(receipt).poll(cx)) {
                Ok(position) => Ok(position.map(stream_position)),
                Err(error) => Err(not_committed(&error).into()),
            },
        })
    }
}

fn stream_position(position: Position) -> StreamPosition {
    StreamPosition { offset: position.offset, epoch: position.epoch.to_string() }
}

/// Which connections of a user an operation is about.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Only this connection id, unless empty.
    pub client: String,
    /// Only the connection with this session secret, unless empty.
    pub session: String,
    /// Not these connection ids.
    pub whitelist: Vec<String>,
}

/// A subscription that a back end gives the connections of a user.
#[derive(Clone, Debug, Default)]
pub struct SubscribeParams {
    /// What others see of the subscription.
    pub info: Payload,
    /// What the client is told with it.
    pub data: Payload,
    /// Sends what was published after this position, if the channel can recover.
    pub recover_since: Option<StreamPosition>,
    /// When the subscription expires, in seconds since 1970; it then closes the connection with 3006. 0 for never.
    pub expire_at: u64,
    /// What differs from the channel's options.
    pub overrides: Overrides,
}

/// What becomes of the connections of a user.
#[derive(Clone, Debug, Default)]
pub struct RefreshParams {
    /// Closes them with 3005.
    pub is_expired: bool,
    /// When they expire, in seconds since 1970; a time that has passed closes them. 0 for never.
    pub expire_at: u64,
    /// What others see of them from now on, in publications and in subscriptions to come; empty for no change.
    pub info: Payload,
}

/// What the node is and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Id of this life of the process.
    pub uid: String,
    /// Version of the server.
    pub version: &'static str,
    /// Connections.
    pub num_clients: u64,
    /// Distinct users.
    pub num_users: u64,
    /// Channels with subscribers.
    pub num_channels: u64,
    /// Subscriptions.
    pub num_subs: u64,
    /// Seconds since the node began.
    pub uptime_seconds: u64,
}

impl Node {
    /// Publishes into a channel. It has its place there when this returns; awaiting the answer tells when it is kept and
    /// delivered, and the position if it is kept in history. Many are kept together: publish them all, then await them.
    ///
    /// # Errors
    ///
    /// Awaited: 107 for an impossible channel name or unfit data, 102 for an unknown namespace, 106 for data that no store
    /// takes, 111 if too much waits for the disk, 100 if the store fails or its disk is full. After 111 and 100 trying again
    /// may succeed, and an idempotency key makes that safe.
    pub fn publish(&self, channel: &str, params: &PublishParams) -> Publishing {
        let begin = || {
            let channel = self.resolve(channel)?;
            let outgoing = Outgoing {
                data: params.data.clone(),
                info: None,
                tags: params.tags.clone(),
                skip_history: params.skip_history,
                makes_delta: params.makes_delta,
                idempotency_key: Some(params.idempotency_key.as_str()).filter(|key| !key.is_empty()),
                version: (params.version > 0)
                    .then_some(Version { number: params.version, epoch: &params.version_epoch }),
            };
            self.publish_into(&channel, outgoing)
        };
        Publishing(begin())
    }

    /// Who is present in a channel, by connection id.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish) for the name; 108 if the namespace keeps no presence.
    pub fn presence(&self, channel: &str) -> Result<BTreeMap<String, Arc<ClientInfo>>, ApiError> {
        let channel = self.resolve(channel)?;
        let present = self.present_in(&channel)?;
        Ok(present.into_iter().map(|info| (info.client.clone(), info)).collect())
    }

    /// How many connections and distinct users are present in a channel.
    ///
    /// # Errors
    ///
    /// As [`presence`](Self::presence).
    pub fn presence_stats(&self, channel: &str) -> Result<PresenceStatsResult, ApiError> {
        let channel = self.resolve(channel)?;
        Ok(self.presence_stats_of(&channel)?)
    }

    /// Reads a channel's history, without a cap.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish) for the name; 108 if the namespace keeps no history; 112 if the position is
    /// of another epoch; 107 for reading in reverse from before the first publication.
    pub fn history(&self, channel: &str, query: &HistoryQuery) -> Result<HistoryResult, ApiError> {
        let channel = self.resolve(channel)?;
        Ok(self.read_history(&channel, query, None)?)
    }

    /// Removes a channel's publications; offset and epoch stay, so subscribers keep their position. Nobody sees them any more
    /// when this returns; the receipt says when a restart does not bring them back either.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish) for the name; 108 if the namespace keeps no history; 100 if the store fails.
    pub fn history_remove(&self, channel: &str) -> Result<Receipt<()>, ApiError> {
        let channel = self.resolve(channel)?;
        if !channel.has_history() {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }
        let removed = self.store.remove(channel.as_str());
        Ok(removed.map_err(|error| self.store_failed(channel.as_str(), &error))?)
    }

    /// The channels with subscribers and their number, for names that match `pattern`; empty for all.
    ///
    /// In a pattern, `*` stands for any run of characters and `?` for one.
    #[must_use]
    pub fn channels(&self, pattern: &str) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        self.hub.for_each(|channel| {
            let subscribers = channel.live();
            if subscribers > 0 && (pattern.is_empty() || matches_glob(pattern, &channel.name)) {
                found.insert(channel.name.to_string(), u32::try_from(subscribers).unwrap_or(u32::MAX));
            }
        });
        found
    }

    /// What the node is and holds.
    #[must_use]
    pub fn info(&self) -> NodeInfo {
        let stats = self.stats();
        NodeInfo {
            uid: self.uid.clone(),
            version: VERSION,
            num_clients: stats.clients,
            num_users: stats.users,
            num_channels: stats.channels,
            num_subs: stats.subscriptions,
            uptime_seconds: self.began.elapsed().as_secs(),
        }
    }

    /// Closes connections of a user; answers how many. A user without connections is no error.
    pub fn disconnect(&self, user: &str, target: &Target, reason: &Disconnect) -> usize {
        let chosen = self.connections_of(user, target);
        chosen.iter().for_each(|connection| connection.outbox.close(reason.clone()));
        chosen.len()
    }

    /// Closes every connection, for example because the server shuts down.
    pub fn disconnect_all(&self, reason: &Disconnect) {
        self.users.for_each(|connection| connection.outbox.close(reason.clone()));
    }

    /// Ends a user's subscriptions to a channel and tells the clients `code`; answers how many.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish) for the name.
    pub fn unsubscribe(
        &self,
        user: &str,
        channel: &str,
        target: &Target,
        code: &UnsubscribeCode,
    ) -> Result<usize, ApiError> {
        let channel = self.resolve(channel)?;
        // The members know who they are, not which session they belong to.
        let chosen = self.connections_of(user, target);
        let clients: HashSet<&str> =
            chosen.iter().map(|connection| connection.info.client.as_str()).collect();
        let Some(place) = self.hub.find(channel.as_str()) else { return Ok(0) };
        let ended = self.hub.within(&place, |place, state| {
            state.end_all(place, code, |member| clients.contains(&*member.info.client), &self.counters)
        });
        Ok(ended.unwrap_or(0))
    }

    /// The connections of `user` that `target` means.
    pub(crate) fn connections_of(&self, user: &str, target: &Target) -> Vec<Arc<Connection>> {
        let mut connections = self.users.of(user);
        connections.retain(|connection| {
            let client = &connection.info.client;
            (target.client.is_empty() || target.client == *client)
                && (target.session.is_empty() || target.session == connection.session.expose())
                && !target.whitelist.contains(client)
        });
        connections
    }

    pub(crate) fn present_in(
        &self,
        channel: &ResolvedChannel<'_>,
    ) -> Result<Vec<Arc<ClientInfo>>, ErrorCode> {
        if !channel.options().presence {
            return Err(ErrorCode::NOT_AVAILABLE);
        }
        let place = self.hub.find(channel.as_str());
        Ok(place.and_then(|place| place.lock().map(|state| state.present())).unwrap_or_default())
    }

    pub(crate) fn presence_stats_of(
        &self,
        channel: &ResolvedChannel<'_>,
    ) -> Result<PresenceStatsResult, ErrorCode> {
        let present = self.present_in(channel)?;
        let users: HashSet<&str> = present.iter().map(|info| info.user.as_str()).collect();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(PresenceStatsResult { num_clients: count(present.len()), num_users: count(users.len()) })
    }
}

/// Matches `text` against `pattern`, in which `*` stands for any run of characters and `?` for one.
///
/// On a mismatch the last star takes one more character, so the time is at most the product of the lengths.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while let Some(&character) = text.get(read) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == character => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                read = taken + 1;
            }
        }
    }
    pattern.iter().skip(at).all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_runs_and_single_characters() {
        for (pattern, text) in
            [("*", ""), ("*", "a"), ("a*", "a"), ("a*c*", "abcd"), ("?b", "ab"), ("a**", "ab")]
        {
            assert!(matches_glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a", "ab"), ("*b", "a"), ("?", ""), ("a?", "a"), ("ns:*", "ns")] {
            assert!(!matches_glob(pattern, text), "{pattern} {text}");
        }
    }
}
