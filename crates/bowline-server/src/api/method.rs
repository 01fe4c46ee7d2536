//! The table of methods: each has a name, a request to decode, and a call that answers.

use std::future::Future;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, DeserializeSeed, Deserializer};

use super::Api;
use super::calls::Outcome;
use super::history::{History, HistoryRemove};
use super::info::{Channels, Info};
use super::json::Object;
use super::planned::{Planned, Rpc};
use super::presence::{Presence, PresenceStats};
use super::publish::{Broadcast, Publish};
use super::user::{Disconnect, Unsubscribe};
use crate::node::ApiError;

/// A request of one method, decoded.
pub(super) trait Request: DeserializeOwned + Send {
    /// The result of a call that did not fail.
    type Answer: Serialize + Send;

    /// Runs the call. Async for those that let others run in between.
    fn call(self, api: &Api) -> impl Future<Output = Result<Self::Answer, ApiError>> + Send;
}

/// The result of a method that tells nothing but that it was done.
#[derive(Debug, Serialize)]
pub(super) struct Done {}

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

/// The path of a request with many calls.
const BATCH: &str = "batch";

/// Number of routes.
pub(super) const ROUTES: usize = Method::ALL.len() + 1;

macro_rules! methods {
    ($offered:ident: $($name:literal = $variant:ident($request:ty)),+; $planned:ident: $($planned_name:literal = $planned_variant:ident($planned_request:ty)),+;) => {
        methods!(@table $($name = $variant($request),)+ $($planned_name = $planned_variant($planned_request),)+);

        /// The names of the methods that work, apart from the batch of them.
        pub(crate) const $offered: &[&str] = &[$($name),+];

        /// The names of the methods that are known and have nothing behind them yet.
        pub(crate) const $planned: &[&str] = &[$($planned_name),+];
    };
    (@table $($name:literal = $variant:ident($request:ty),)+) => {
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
        pub(super) enum Command { $($variant($request)),+ }

        impl Command {
            pub(super) const fn method(&self) -> Method {
                match self { $(Self::$variant(_) => Method::$variant),+ }
            }

            /// Runs the call, appends its result to `out` as JSON, and counts it. On failure `out` may end with a part
            /// of a result, which the caller cuts off.
            pub(super) async fn run(self, api: &Api, out: &mut Vec<u8>) -> Result<(), Failure> {
                let method = self.method();
                let answered = match self {
                    $(Self::$variant(request) => write(method, request.call(api).await, out)),+
                };
                let outcome = match &answered {
                    Ok(()) => Outcome::Ok,
                    Err(Failure::Api(error)) => Outcome::Error(error.code),
                    Err(Failure::Inexpressible) => Outcome::Error(bowline_protocol::ErrorCode::INTERNAL.code),
                };
                api.calls().count(Route::Method(method), outcome);
                answered
            }
        }
    };
}

methods! {
    OFFERED:
        "publish" = Publish(Publish),
        "broadcast" = Broadcast(Broadcast),
        "presence" = Presence(Presence),
        "presence_stats" = PresenceStats(PresenceStats),
        "history" = History(History),
        "history_remove" = HistoryRemove(HistoryRemove),
        "channels" = Channels(Channels),
        "info" = Info(Info),
        "unsubscribe" = Unsubscribe(Unsubscribe),
        "disconnect" = Disconnect(Disconnect);
    PLANNED:
        "subscribe" = Subscribe(Planned),
        "refresh" = Refresh(Planned),
        "rpc" = Rpc(Rpc);
}

fn write<T: Serialize>(
    method: Method,
    answer: Result<T, ApiError>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let answer = answer.map_err(Failure::Api)?;
    serde_json::to_writer(out, &answer).map_err(|error| {
        tracing::error!(method = method.name(), %error, "the answer holds data that is not JSON");
        Failure::Inexpressible
    })
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
        assert_eq!(OFFERED.len() + PLANNED.len() + 1, ROUTES);
        for name in ["", "Publish", "publish/", "map_publish", "connections", "batch/publish"] {
            assert_eq!(Route::find(name), None, "{name:?}");
        }
    }
}
