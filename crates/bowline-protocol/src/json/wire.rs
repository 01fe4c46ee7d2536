//! How each message looks on the wire: its fields, and which of them are present even when unset.

use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

use super::object::{Fields, Object, write_object};
use crate::{
    ClientInfo, ConnectRequest, ConnectResult, Disconnect, ErrorCode, FilterNode, HistoryRequest,
    HistoryResult, NotJson, PresenceRequest, PresenceResult, PresenceStatsRequest, PresenceStatsResult,
    Publication, PublishRequest, RefreshRequest, RefreshResult, RpcRequest, RpcResult, SendRequest,
    StreamPosition, SubRefreshRequest, SubRefreshResult, SubscribePush, SubscribeRequest, SubscribeResult,
    UnsubscribeCode, UnsubscribeRequest,
};

impl Fields for Publication {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.payload("data", &self.data)?;
        if let Some(info) = &self.info {
            object.message("info", &**info)?;
        }
        object.number("offset", self.offset);
        object.strings("tags", &self.tags);
        object.flag("delta", self.delta);
        object.number("time", self.time);
        object.string("epoch", &self.epoch);
        Ok(())
    }
}

impl Fields for ClientInfo {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.always_string("user", &self.user);
        object.always_string("client", &self.client);
        object.payload("conn_info", &self.conn_info)?;
        object.payload("chan_info", &self.chan_info)
    }
}

impl Fields for StreamPosition {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.number("offset", self.offset);
        object.string("epoch", &self.epoch);
        Ok(())
    }
}

impl Fields for ErrorCode {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.number("code", self.code);
        object.string("message", &self.message);
        object.flag("temporary", self.temporary);
        Ok(())
    }
}

impl Fields for Disconnect {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.number("code", self.code);
        object.string("reason", &self.reason);
        Ok(())
    }
}

impl Fields for UnsubscribeCode {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.number("code", self.code);
        object.string("reason", &self.reason);
        Ok(())
    }
}

impl Fields for SubscribePush {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.flag("recoverable", self.recoverable);
        object.string("epoch", &self.epoch);
        object.number("offset", self.offset);
        object.flag("positioned", self.positioned);
        object.payload("data", &self.data)
    }
}

impl Fields for ConnectResult {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("client", &self.client);
        object.string("version", &self.version);
        object.flag("expires", self.expires);
        object.number("ttl", self.ttl);
        object.payload("data", &self.data)?;
        object.map::<SubscribeResult>("subs", &self.subs)?;
        object.number("ping", self.ping);
        object.flag("pong", self.pong);
        object.string("session", self.session.expose());
        object.string("node", &self.node);
        object.number("time", self.time);
        Ok(())
    }
}

impl Fields for SubscribeResult {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.flag("expires", self.expires);
        object.number("ttl", self.ttl);
        object.flag("recoverable", self.recoverable);
        object.string("epoch", &self.epoch);
        object.list("publications", &self.publications)?;
        object.flag("recovered", self.recovered);
        object.number("offset", self.offset);
        object.flag("positioned", self.positioned);
        object.payload("data", &self.data)?;
        object.flag("was_recovering", self.was_recovering);
        object.flag("delta", self.delta);
        Ok(())
    }
}

impl Fields for PresenceResult {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.always_map::<ClientInfo>("presence", &self.presence)
    }
}

impl Fields for PresenceStatsResult {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.always_number("num_clients", self.num_clients);
        object.always_number("num_users", self.num_users);
        Ok(())
    }
}

impl Fields for HistoryResult {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.always_list("publications", &self.publications)?;
        object.always_string("epoch", &self.epoch);
        object.always_number("offset", self.offset);
        Ok(())
    }
}

impl Fields for RpcResult {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.payload("data", &self.data)
    }
}

impl Fields for RefreshResult {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("client", &self.client);
        object.string("version", &self.version);
        object.flag("expires", self.expires);
        object.number("ttl", self.ttl);
        Ok(())
    }
}

impl Fields for SubRefreshResult {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.flag("expires", self.expires);
        object.number("ttl", self.ttl);
        Ok(())
    }
}

impl Fields for ConnectRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("token", self.token.expose());
        object.payload("data", &self.data)?;
        object.map::<SubscribeRequest>("subs", &self.subs)?;
        object.string("name", &self.name);
        object.string("version", &self.version);
        object.strings("headers", &self.headers);
        Ok(())
    }
}

impl Fields for SubscribeRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("channel", &self.channel);
        object.string("token", self.token.expose());
        object.flag("recover", self.recover);
        object.string("epoch", &self.epoch);
        object.number("offset", self.offset);
        object.payload("data", &self.data)?;
        object.flag("positioned", self.positioned);
        object.flag("recoverable", self.recoverable);
        object.flag("join_leave", self.join_leave);
        object.string("delta", &self.delta);
        if let Some(filter) = &self.tags_filter {
            object.message("tf", &**filter)?;
        }
        object.number("flag", self.flag);
        object.number("type", self.subscription_type);
        Ok(())
    }
}

impl Fields for FilterNode {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("op", &self.op);
        object.string("key", &self.key);
        object.string("cmp", &self.cmp);
        object.string("val", &self.val);
        object.string_list("vals", &self.vals);
        object.list("nodes", &self.nodes)
    }
}

impl Fields for UnsubscribeRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("channel", &self.channel);
        Ok(())
    }
}

impl Fields for PublishRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("channel", &self.channel);
        object.payload("data", &self.data)?;
        object.number("type", self.publication_type);
        Ok(())
    }
}

impl Fields for PresenceRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("channel", &self.channel);
        Ok(())
    }
}

impl Fields for PresenceStatsRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("channel", &self.channel);
        Ok(())
    }
}

impl Fields for HistoryRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("channel", &self.channel);
        object.number("limit", self.limit);
        if let Some(since) = &self.since {
            object.message("since", since)?;
        }
        object.flag("reverse", self.reverse);
        Ok(())
    }
}

impl Fields for SendRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.payload("data", &self.data)
    }
}

impl Fields for RpcRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.payload("data", &self.data)?;
        object.string("method", &self.method);
        Ok(())
    }
}

impl Fields for RefreshRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("token", self.token.expose());
        Ok(())
    }
}

impl Fields for SubRefreshRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("channel", &self.channel);
        object.string("token", self.token.expose());
        object.number("type", self.refresh_type);
        Ok(())
    }
}

/// The same form as in replies, for APIs in JSON. Works with `serde_json` only.
impl Serialize for Publication {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_raw(self, serializer)
    }
}

/// The same form as in replies, for APIs in JSON. Works with `serde_json` only.
impl Serialize for ClientInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_raw(self, serializer)
    }
}

fn serialize_raw<T: Fields, S: Serializer>(message: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut json = Vec::new();
    write_object(message, &mut json).map_err(S::Error::custom)?;
    let json = String::from_utf8(json).map_err(S::Error::custom)?;
    RawValue::from_string(json).map_err(S::Error::custom)?.serialize(serializer)
}
