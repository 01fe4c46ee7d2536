//! The messages, free of any encoding: commands with their requests, replies with their results, pushes.
//!
//! The `Deserialize` implementations read the JSON form: every field may be missing, may be `null`, and unknown
//! fields are ignored, because clients and servers of different age talk to each other.

mod command;
mod emulation;
mod publication;
mod push;
mod reply;

pub use command::{
    Command, CommandId, ConnectRequest, FilterNode, HistoryRequest, PresenceRequest, PresenceStatsRequest,
    PublishRequest, RefreshRequest, Request, RpcRequest, SendRequest, SubRefreshRequest, SubscribeRequest,
    UnsubscribeRequest,
};
pub use emulation::EmulationRequest;
pub use publication::{ClientInfo, Publication, StreamPosition};
pub use push::{Push, SubscribePush};
pub use reply::{
    CommandResult, ConnectResult, HistoryResult, PresenceResult, PresenceStatsResult, RefreshResult, Reply,
    RpcResult, SubRefreshResult, SubscribeResult,
};

use serde::{Deserialize, Deserializer};

/// Reads a field that may be `null`, which means "unset".
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
