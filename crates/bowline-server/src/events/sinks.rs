//! Who is told of what: the applications that the settings name, and the sink of each.

use std::collections::HashMap;
use std::sync::Arc;

use bowline::{Bound, Cancelled, Overflow, Scope};
use bowline_protocol::channel::ChannelRules;
use tokio::sync::watch;

use super::notify::Notifier;
use super::{ChannelSinks, MAX_QUEUED, Sink, Teller};
use crate::config::{ChannelOptions, Config, DEFAULT_PROXY, ProxyOptions};
use crate::outgoing::Outgoing;

/// Sections of the applications that are told where no other is named.
const STATE: &str = "channel.proxy.state";
const UNSUBSCRIBE: &str = "channel.proxy.unsubscribe";
const DISCONNECT: &str = "client.proxy.disconnect";

/// The applications that are told, and what each is told of.
#[derive(Debug)]
pub(crate) struct Events {
    targets: Vec<Target>,
    /// By namespace; those of channels outside of every one stand at "".
    channels: HashMap<String, Arc<ChannelSinks>>,
    rules: ChannelRules,
    disconnect: Option<Arc<Sink>>,
    vacated_delay: std::time::Duration,
    /// Becomes true when nothing more will happen.
    ended: watch::Sender<bool>,
}

/// One application.
#[derive(Debug)]
struct Target {
    /// Its name in the settings, or the section that it has.
    name: String,
    options: ProxyOptions,
    sink: Arc<Sink>,
}

impl Events {
    pub(crate) fn new(config: &Config, rules: ChannelRules) -> Self {
        let mut events = Self {
            targets: Vec::new(),
            channels: HashMap::new(),
            rules,
            disconnect: None,
            vacated_delay: config.channel.vacated_delay,
            ended: watch::Sender::new(false),
        };
        let spaces = config.channel.namespaces.iter().map(|space| (&*space.name, &space.options));
        for (name, options) in spaces.chain([("", &config.channel.without_namespace)]) {
            if let Some(sinks) = events.of_options(config, options) {
                events.channels.insert(name.to_owned(), Arc::new(sinks));
            }
        }
        let disconnect = &config.client.proxy.disconnect;
        if disconnect.enabled {
            events.disconnect = Some(events.sink(DISCONNECT, &disconnect.options));
        }
        events
    }

    fn of_options(&mut self, config: &Config, options: &ChannelOptions) -> Option<ChannelSinks> {
        let own = &config.channel.proxy;
        let (state, unsubscribe) = (options.state_proxy_enabled, options.unsubscribe_proxy_enabled);
        if !state && !unsubscribe {
            return None;
        }
        let mut named = |is_told: bool, name: &str, section, of_section| {
            let named = config.proxies.iter().find(|proxy| *proxy.name == *name);
            let (name, options) = match named {
                None if name == DEFAULT_PROXY => (section, of_section),
                None => return None, // settings that were checked name nobody else
                Some(proxy) => (&*proxy.name, &proxy.options),
            };
            is_told.then(|| self.sink(name, options))
        };
        Some(ChannelSinks {
            state: named(state, &options.state_proxy_name, STATE, &own.state),
            unsubscribe: named(unsubscribe, &options.unsubscribe_proxy_name, UNSUBSCRIBE, &own.unsubscribe),
        })
    }

    /// The sink of an application: one, however many kinds of events it is told of, so that these stay in order.
    fn sink(&mut self, name: &str, options: &ProxyOptions) -> Arc<Sink> {
        if let Some(known) = self.targets.iter().find(|target| target.name == name) {
            return Arc::clone(&known.sink);
        }
        let sink = Arc::<Sink>::default();
        let target = Target { name: name.to_owned(), options: options.clone(), sink: Arc::clone(&sink) };
        self.targets.push(target);
        sink
    }

    /// Whether there is anybody to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Starts the tasks that tell, in the scope of the server.
    pub(crate) fn start(&self, s: &Scope<Cancelled>) {
        if self.is_empty() {
            return; // reading the system's certificates takes a moment
        }
        let outgoing = Outgoing::new();
        for target in &self.targets {
            let Some(notifier) = Notifier::new(&target.name, &target.options, &outgoing) else { continue };
            let (tx, rx) = s.queue("events", Bound::items(MAX_QUEUED), Overflow::Reject);
            target.sink.open(tx.free());
            let (ended, counts) = (self.ended.subscribe(), Arc::clone(target.sink.counts()));
            s.spawn("events", Teller::new(rx.free(), ended, self.vacated_delay, counts, notifier).run());
        }
    }

    /// Says that nothing more will happen: the tasks tell what is left, and end.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Who is told of what happens in the channel called `name`.
    pub(crate) fn of_channel(&self, name: &str) -> Option<Arc<ChannelSinks>> {
        if self.channels.is_empty() {
            return None;
        }
        let name = self.rules.parse(name).ok()?;
        self.channels.get(name.namespace().unwrap_or_default()).cloned()
    }

    /// Who is told of connections that end.
    pub(crate) fn disconnect(&self) -> Option<&Arc<Sink>> {
        self.disconnect.as_ref()
    }

    /// The applications and what has become of their events.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&str, &super::Counts)> {
        self.targets.iter().map(|target| (target.name.as_str(), &**target.sink.counts()))
    }
}
