//! The table of methods: each has a name, a request to decode, a call, and an answer.
//!
//! Everything that goes by method follows it: routing, batches, counters, the OpenAPI document, and the gRPC API, which
//! makes [`Command`]s of its own messages and messages of [`Answer`]s.

use std::future::Future;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, DeserializeOwned, DeserializeSeed, Deserializer};
use serde::{Serialize, Serializer};

use super::Api;
use super::absent::Absent;
use super::access::{BlockUser, InvalidateUserTokens, RevokeToken, UnblockUser};
use super::calls::Outcome;
use super::connections::Connections;
use super::history::{History, HistoryRemove};
use super::info::{Channels, Info};
use super::json::Object;
use super::presence::{Presence, PresenceStats};
use super::publish::{Broadcast, Placed, Publish, Responses};
use super::rpc::Rpc;
use super::schedule::{ScheduleCancel, ScheduleList};
use super::user::{Disconnect, Refresh, Subscribe, Unsubscribe};
use crate::node::ApiError;

/// A request of one method, decoded.
pub(crate) trait Request: DeserializeOwned + JsonSchema + Send {
    /// The result of a call that did not fail.
    type Answer: Serialize + JsonSchema + Send;

    /// Runs the call. Async for those that let others run in between.
    fn call(self, api: &Api) -> impl Future<Output = Result<Self::Answer, ApiError>> + Send;
}

/// The result of a method that tells nothing but that it was done.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Done {}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The node says so.
    Api(ApiError),
    /// The result holds application data that no JSON message can carry.
    Inexpressible,
}

/// What the path of a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// One call.
    Method(Method),
    /// Many calls in one request.
    Batch,
}

impl Route {
    pub(super) fn find(name: &str) -> Option<Self> {
        if name == BATCH { Some(Self::Batch) } else { Method::find(name).map(Self::Method) }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Method(method) => method.name(),
            Self::Batch => BATCH,
        }
    }

    /// Every route; the index of each is what [`index`](Self::index) says.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Method::ALL.iter().copied().map(Self::Method).chain([Self::Batch])
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Method(method) => method as usize,
            Self::Batch => Method::ALL.len(),
        }
    }
}

/// A position in a reply, with its epoch.
const POSITION_BYTES: usize = 64;

/// The path of a request with many calls.
const BATCH: &str = "batch";

/// Number of routes.
pub(super) const ROUTES: usize = Method::ALL.len() + 1;

macro_rules! methods {
    ($(
        $(#[doc = $list_doc:literal])+
        $list:ident: $($name:literal = $variant:ident($request:ty): $about:literal,)+;
    )+) => {
        $(
            $(#[doc = $list_doc])+
            pub(crate) const $list: &[&str] = &[$($name),+];
        )+

        methods!(@table $($($name = $variant($request): $about,)+)+);
    };
    (@table $($name:literal = $variant:ident($request:ty): $about:literal,)+) => {
        /// A method. As a seed it decodes its request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Method { $($variant),+ }

        impl Method {
            /// Every method, in the order of the variants.
            pub(super) const ALL: &[Self] = &[$(Self::$variant),+];

            pub(super) fn find(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }

            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What it does, in a sentence.
            pub(super) const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),+ }
            }

            /// The schemas of its request and of its answer.
            pub(super) fn schemas(self, generator: &mut SchemaGenerator) -> [Schema; 2] {
                match self {
                    $(Self::$variant => [
                        generator.subschema_for::<$request>(),
                        generator.subschema_for::<<$request as Request>::Answer>(),
                    ]),+
                }
            }
        }

        impl<'de> DeserializeSeed<'de> for Method {
            type Value = Command;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Command, D::Error> {
                match self {
                    $(Self::$variant => {
                        Object::deserialize(deserializer).map(|Object(request)| Command::$variant(request))
                    })+
                }
            }
        }

        /// A method with its request.
        #[derive(Debug)]
        pub(crate) enum Command { $(#[doc = $about] $variant($request)),+ }

        /// What a method answers.
        #[derive(Debug)]
        pub(crate) enum Answer { $(#[doc = $about] $variant(<$request as Request>::Answer)),+ }

        impl Command {
            pub(super) const fn method(&self) -> Method {
                match self { $(Self::$variant(_) => Method::$variant),+ }
            }

            async fn call(self, api: &Api) -> Result<Answer, ApiError> {
                match self { $(Self::$variant(request) => request.call(api).await.map(Answer::$variant)),+ }
            }
        }

        /// Without a name of the method around it.
        impl Serialize for Answer {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(answer) => answer.serialize(serializer)),+ }
            }
        }
    };
}

methods! {
    /// The names of the methods that work, apart from the batch of them.
    OFFERED:
        "publish" = Publish(Publish): "Publishes into a channel.",
        "broadcast" = Broadcast(Broadcast): "Publishes the same into many channels.",
        "subscribe" = Subscribe(Subscribe): "Subscribes the connections of a user to a channel.",
        "unsubscribe" = Unsubscribe(Unsubscribe): "Ends the subscriptions of a user to a channel.",
        "disconnect" = Disconnect(Disconnect): "Closes the connections of a user.",
        "refresh" = Refresh(Refresh): "Renews or ends the connections of a user.",
        "presence" = Presence(Presence): "Tells who is in a channel.",
        "presence_stats" = PresenceStats(PresenceStats): "Tells how many are in a channel.",
        "history" = History(History): "Reads publications of the past; without a limit, only the top position.",
        "history_remove" = HistoryRemove(HistoryRemove): "Removes publications of the past; the position stays.",
        "channels" = Channels(Channels): "Lists the channels that somebody is subscribed to.",
        "info" = Info(Info): "Tells what the nodes are and hold.",
        "rpc" = Rpc(Rpc): "Calls an extension of the server.",
        "connections" = Connections(Connections): "Lists connections, of one user or of everybody.",
        "block_user" = BlockUser(BlockUser): "Closes the connections of a user, and lets the user in no more.",
        "unblock_user" = UnblockUser(UnblockUser): "Lets a user in again.",
        "revoke_token" = RevokeToken(RevokeToken): "Refuses a token, and ends what it granted.",
        "invalidate_user_tokens" = InvalidateUserTokens(InvalidateUserTokens): "Refuses the tokens of a user from before a time.",
        "schedule_list" = ScheduleList(ScheduleList): "Lists publications that wait for their time.",
        "schedule_cancel" = ScheduleCancel(ScheduleCancel): "Cancels a publication that waits for its time.",;
    /// The names of the methods that are known, and answer that they are not available.
    ABSENT:
        "map_publish" = MapPublish(Absent): "Not available: maps.",
        "map_remove" = MapRemove(Absent): "Not available: maps.",
        "map_read_state" = MapReadState(Absent): "Not available: maps.",
        "map_read_stream" = MapReadStream(Absent): "Not available: maps.",
        "map_stats" = MapStats(Absent): "Not available: maps.",
        "map_clear" = MapClear(Absent): "Not available: maps.",
        "shared_poll_publish" = SharedPollPublish(Absent): "Not available: shared polling.",;
}

/// A call that has begun, so that others can begin before it is done.
#[derive(Debug)]
pub(crate) enum Begun {
    /// A publication that has its place.
    Publish(Result<Placed, ApiError>),
    /// Publications, each of which has or was refused.
    Broadcast(Result<Vec<Result<Placed, ApiError>>, ApiError>),
}

impl Begun {
    const fn method(&self) -> Method {
        match self {
            Self::Publish(_) => Method::Publish,
            Self::Broadcast(_) => Method::Broadcast,
        }
    }

    /// Waits until the call is done, and counts it.
    pub(crate) async fn finish(self, api: &Api) -> Result<Answer, ApiError> {
        let method = self.method();
        let answered = match self {
            Self::Publish(Ok(placed)) => placed.kept().await.map(Answer::Publish),
            Self::Broadcast(Ok(placed)) => Ok(Answer::Broadcast(Responses::of(placed).await)),
            Self::Publish(Err(error)) | Self::Broadcast(Err(error)) => Err(error),
        };
        let outcome = answered.as_ref().map_or_else(|error| Outcome::Error(error.code), |_| Outcome::Ok);
        api.calls().count(Route::Method(method), outcome);
        answered
    }
}

impl Command {
    /// Begins to publish, now or later, so that many wait for the disk together; another call is given back. So is a publication
    /// with a `schedule_id`: of two of one id the second begins when the first is kept.
    pub(crate) async fn begin(self: Box<Self>, api: &Api) -> Result<Begun, Box<Self>> {
        match *self {
            Self::Publish(request) if !request.is_named() => Ok(Begun::Publish(request.begin(api))),
            Self::Broadcast(request) => Ok(Begun::Broadcast(request.begin(api).await)),
            _ => Err(self),
        }
    }

    /// Runs the call and counts it.
    pub(crate) async fn run(self, api: &Api) -> Result<Answer, ApiError> {
        let method = self.method();
        let answered = self.call(api).await;
        let outcome = answered.as_ref().map_or_else(|error| Outcome::Error(error.code), |_| Outcome::Ok);
        api.calls().count(Route::Method(method), outcome);
        answered
    }

    /// Runs the call, appends its result to `out` as JSON, and counts it. On failure `out` may end with a part of a
    /// result, which the caller cuts off.
    pub(super) async fn write(self, api: &Api, out: &mut Vec<u8>) -> Result<(), Failure> {
        let method = self.method();
        self.run(api).await.map_err(Failure::Api)?.write(method, out)
    }
}

impl Answer {
    fn write(&self, method: Method, out: &mut Vec<u8>) -> Result<(), Failure> {
        serde_json::to_writer(out, self).map_err(|error| {
            tracing::error!(method = method.name(), %error, "the answer holds data that is not JSON");
            Failure::Inexpressible
        })
    }
}

impl Begun {
    /// Waits until the call is done and appends its result to `out`, as [`Command::write`] does.
    pub(super) async fn write(self, api: &Api, out: &mut Vec<u8>) -> Result<(), Failure> {
        let method = self.method();
        self.finish(api).await.map_err(Failure::Api)?.write(method, out)
    }

    /// About what its reply will take, so that replies to come count too.
    pub(crate) fn reply_bytes(&self) -> usize {
        match self {
            Self::Broadcast(Ok(placed)) => placed.len() * POSITION_BYTES,
            _ => POSITION_BYTES,
        }
    }

    /// The method's name.
    pub(super) const fn name(&self) -> &'static str {
        self.method().name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_found_by_their_names_and_numbered_without_gaps() {
        for (index, route) in Route::all().enumerate() {
            assert_eq!(Route::find(route.name()), Some(route));
            assert_eq!(route.index(), index);
        }
        assert_eq!(Route::all().count(), ROUTES);
        assert_eq!(OFFERED.len() + ABSENT.len() + 1, ROUTES);
        for name in ["", "Publish", "publish/", "map_publis", "connection", "batch/publish"] {
            assert_eq!(Route::find(name), None, "{name:?}");
        }
    }
}
