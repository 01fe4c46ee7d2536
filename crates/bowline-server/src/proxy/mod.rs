//! What an application is asked about its clients ("proxy", webhooks).
//!
//! ```text
//! session ─▶ Ask<Event> ─▶ Hook ─▶ breaker ─▶ bulkhead ─▶ time-out ─▶ Carrier ─▶ answer, checked ─▶ session
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `connect`, `subscribe`, `publish`, `refresh`, `rpc` | the events: what is asked, and what the answer comes to |
//! | `event` | what questions have in common, and how one is written in JSON |
//! | `about` | whom a question is about, and which headers of a client are told |
//! | `hook` | one application and the policies of asking it |
//! | `carrier` | how a question gets there and the answer back |
//! | `answer` | result, error or disconnect, and the checks of each |
//!
//! A question is asked by the task of the connection it is about: it has no task of its own, holds nothing of the session,
//! and ends with the connection.
//!
//! # Invariants
//!
//! 1. A hook is asked once per question: it is sent again only if certainly nothing of it was sent before. An application may
//!    have done what it was asked to although there is no answer, so only it can tell whether asking again is harmless.
//! 2. What a hook says is checked before it reaches a client: codes of errors and disconnects in their ranges, data that is
//!    JSON, no more bytes than allowed. What is wrong with it goes to the log; the client gets error 100.
//! 3. No answer is no permission.
//!
//! # End
//!
//! Dropping a question closes the connection it went over, or resets its call. Idle connections belong to their carrier;
//! [`Proxies::sweep`] closes those that nobody needs. Connections of gRPC are kept by daemons of the server.

mod about;
mod answer;
mod carrier;
mod connect;
mod event;
mod hook;
mod publish;
mod refresh;
mod rpc;
mod subscribe;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use bowline::Breakers;
use bowline_protocol::{ConnectRequest, PublishRequest, RpcRequest, SubscribeRequest};
use tokio::time::Instant;

pub(crate) use self::about::{About, Headers, Wanted};
pub(crate) use self::answer::Refused;
pub(crate) use self::connect::{Admitted, Connect};
use self::hook::Hook;
pub(crate) use self::publish::{Passed, Publish};
pub(crate) use self::refresh::{Refresh, Renewal, SubRefresh};
pub(crate) use self::rpc::RpcQuestion;
use self::rpc::Upstreams;
pub(crate) use self::subscribe::{Allowed, Subscribe};
use crate::config::{ChannelOptions, Config, DEFAULT_PROXY, ProxyOptions, RpcOptions};
use crate::outgoing::Outgoing;
use crate::outgoing::grpc::Channel;

/// A question about one event, and who answers it.
#[derive(Debug)]
pub(crate) struct Ask<E> {
    hook: Arc<Hook>,
    about: About,
    event: E,
}

/// The applications.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    /// By name. Those that an event has by default are named as their section, which no other name can be.
    hooks: HashMap<String, Arc<Hook>>,
    connect: Option<Arc<Hook>>,
    refresh: Option<Arc<Hook>>,
    /// Whether there are channels whose subscriptions an application renews.
    sub_refreshes: bool,
    wanted: Wanted,
}

/// Sections of the applications that are asked where no other is named.
const SUBSCRIBE: &str = "channel.proxy.subscribe";
const PUBLISH: &str = "channel.proxy.publish";
const SUB_REFRESH: &str = "channel.proxy.sub_refresh";
const RPC: &str = "rpc.proxy";

impl Proxies {
    pub(crate) fn new(config: &Config) -> Self {
        let (client, channel) = (&config.client.proxy, &config.channel.proxy);
        let enabled = |proxy: &crate::config::EventProxy| proxy.enabled.then(|| proxy.options.clone());
        let (connect, refresh) = (enabled(&client.connect), enabled(&client.refresh));
        let named = config.proxies.iter().map(|proxy| (&*proxy.name, &proxy.options));
        let of_events = [
            (SUBSCRIBE, &channel.subscribe),
            (PUBLISH, &channel.publish),
            (SUB_REFRESH, &channel.sub_refresh),
            (RPC, &config.rpc.proxy),
        ];
        let of_client = [("client.proxy.connect", &connect), ("client.proxy.refresh", &refresh)];
        let of_client = of_client.into_iter().filter_map(|(name, options)| Some((name, options.as_ref()?)));
        let all: Vec<(&str, &ProxyOptions)> = named
            .chain(of_events)
            .chain(of_client)
            .filter(|(_, options)| options.endpoint.is_some())
            .collect();
        if all.is_empty() {
            // Reading the system's certificates takes a moment.
            return Self { wanted: Wanted::new(std::iter::empty(), config), ..Self::default() };
        }
        let (outgoing, breakers) = (Outgoing::new(), Breakers::new("webhook"));
        let wanted = Wanted::new(all.iter().map(|(_, options)| *options), config);
        let mut hooks: HashMap<_, _> = all
            .into_iter()
            .filter_map(|(name, options)| {
                let hook = Hook::new(name, options, &breakers.of(name), &outgoing)?;
                Some((name.to_owned(), Arc::new(hook)))
            })
            .collect();
        let connect = hooks.remove("client.proxy.connect");
        let refresh = hooks.remove("client.proxy.refresh");
        let channels = config.channel.namespaces.iter().map(|namespace| &namespace.options);
        let sub_refreshes = channels
            .chain([&config.channel.without_namespace])
            .any(|options| options.sub_refresh_proxy_enabled);
        Self { hooks, connect, refresh, sub_refreshes, wanted }
    }

    /// The headers of clients that applications want to be told.
    pub(crate) fn wanted_headers(&self) -> &Wanted {
        &self.wanted
    }

    /// Who connects? `None` if nobody is to be asked.
    pub(crate) fn connect(
        &self,
        about: impl FnOnce() -> About,
        request: &ConnectRequest,
    ) -> Option<Ask<Connect>> {
        let hook = Arc::clone(self.connect.as_ref()?);
        Some(Ask { hook, about: about(), event: Connect::new(request) })
    }

    /// Whether an application says when connections end, so that clients need not bring new tokens.
    pub(crate) fn refreshes(&self) -> bool {
        self.refresh.is_some()
    }

    /// May a connection go on?
    pub(crate) fn refresh(&self, about: impl FnOnce() -> About) -> Option<Ask<Refresh>> {
        let hook = Arc::clone(self.refresh.as_ref()?);
        Some(Ask { hook, about: about(), event: Refresh })
    }

    /// May a client subscribe?
    pub(crate) fn subscribe(
        &self,
        options: &ChannelOptions,
        about: impl FnOnce() -> About,
        request: &SubscribeRequest,
    ) -> Option<Ask<Subscribe>> {
        let is_asked = options.subscribe_proxy_enabled;
        let hook = is_asked.then(|| self.find(&options.subscribe_proxy_name, SUBSCRIBE)).flatten()?;
        Some(Ask { hook, about: about(), event: Subscribe::new(request) })
    }

    /// May a client publish?
    pub(crate) fn publish(
        &self,
        options: &ChannelOptions,
        about: impl FnOnce() -> About,
        request: &PublishRequest,
    ) -> Option<Ask<Publish>> {
        let is_asked = options.publish_proxy_enabled;
        let hook = is_asked.then(|| self.find(&options.publish_proxy_name, PUBLISH)).flatten()?;
        Some(Ask { hook, about: about(), event: Publish::new(request) })
    }

    /// Whether there are channels for which an application says when subscriptions end.
    pub(crate) fn sub_refreshes(&self) -> bool {
        self.sub_refreshes
    }

    /// May a subscription go on?
    pub(crate) fn sub_refresh(
        &self,
        options: &ChannelOptions,
        about: impl FnOnce() -> About,
        channel: &str,
    ) -> Option<Ask<SubRefresh>> {
        let is_asked = options.sub_refresh_proxy_enabled;
        let hook = is_asked.then(|| self.find(&options.sub_refresh_proxy_name, SUB_REFRESH)).flatten()?;
        Some(Ask { hook, about: about(), event: SubRefresh::new(channel) })
    }

    /// What does a method answer? `None` if the options name nobody.
    pub(crate) fn rpc(
        &self,
        options: &RpcOptions,
        about: impl FnOnce() -> About,
        request: &RpcRequest,
    ) -> Option<RpcQuestion> {
        let asked = if options.proxy_enabled {
            Upstreams::One(self.find(&options.proxy_name, RPC)?)
        } else if options.fan_out.is_empty() {
            return None;
        } else {
            let hooks = options.fan_out.iter().map(|name| self.find(name, RPC)).collect::<Option<_>>()?;
            Upstreams::All(hooks, options.fan_out_timeout.get())
        };
        Some(RpcQuestion::new(asked, about(), request))
    }

    /// Closes connections to applications that were idle for too long. The owner of the node calls it from time to time.
    pub(crate) fn sweep(&self, now: Instant) {
        self.hooks.values().chain(&self.connect).chain(&self.refresh).for_each(|hook| hook.sweep(now));
    }

    /// The connections that have to be kept for as long as anybody asks: see [`Channel::keep`].
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.hooks.values().chain(&self.connect).chain(&self.refresh).filter_map(|hook| hook.channel())
    }

    /// The application called `name`; `section` is that of the event, for the name `default`.
    fn find(&self, name: &str, section: &str) -> Option<Arc<Hook>> {
        let of_event = if name == DEFAULT_PROXY { self.hooks.get(section) } else { None };
        of_event.or_else(|| self.hooks.get(name)).cloned()
    }
}
