//! From a channel's name to its options: the checks every command and every API call makes first.

use bowline_protocol::ErrorCode;
use bowline_protocol::channel::{ChannelName, ChannelRules};
use bowline_store::Retention;

use super::Node;
use crate::config::{Channel, ChannelOptions, RecoveryMode};

/// A channel name that may exist, with the options of its namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResolvedChannel<'a> {
    name: ChannelName<'a>,
    options: &'a ChannelOptions,
}

impl<'a> ResolvedChannel<'a> {
    pub(crate) fn as_str(&self) -> &'a str {
        self.name.as_str()
    }

    pub(crate) fn name(&self) -> &ChannelName<'a> {
        &self.name
    }

    pub(crate) fn options(&self) -> &'a ChannelOptions {
        self.options
    }

    /// Whether subscribers get the latest publication without asking for it.
    pub(crate) fn recovers_unasked(&self) -> bool {
        self.options.auto_cache_recover && self.options.force_recovery_mode == RecoveryMode::Cache
    }

    /// Whether the channel keeps publications.
    pub(crate) fn has_history(&self) -> bool {
        self.options.history().is_some()
    }
}

impl Node {
    /// Divides `name` and finds its options.
    ///
    /// # Errors
    ///
    /// In this order: 107 for an empty or too long name, 102 for an unknown namespace, 107 for a name that is not
    /// what the namespace allows.
    pub(crate) fn resolve<'a>(&'a self, name: &'a str) -> Result<ResolvedChannel<'a>, ErrorCode> {
        let name = self.parse_name(name)?;
        let options = self.config.channel_options(name.namespace()).ok_or(ErrorCode::UNKNOWN_CHANNEL)?;
        let is_valid = match &options.channel_regex {
            Some(regex) => regex.is_match(name.rest()),
            None => name.require_ascii().is_ok(),
        };
        if is_valid { Ok(ResolvedChannel { name, options }) } else { Err(ErrorCode::BAD_REQUEST) }
    }

    /// Divides `name` alone: the check that comes before those of the connection's own state.
    pub(crate) fn parse_name<'a>(&'a self, name: &'a str) -> Result<ChannelName<'a>, ErrorCode> {
        // What the server keeps for itself in the store is called so.
        if name.starts_with('\0') {
            return Err(ErrorCode::BAD_REQUEST);
        }
        self.rules.parse(name).map_err(|_| ErrorCode::BAD_REQUEST)
    }

    /// How long channels with these options keep what is published, if they do.
    pub(crate) fn retention(&self, options: &ChannelOptions) -> Option<Retention> {
        let history = options.history()?;
        Retention::new(history.size.get(), history.ttl, self.meta_ttl(options))
    }

    /// How long channels with these options remember epoch and offset after their last use.
    pub(crate) fn meta_ttl(&self, options: &ChannelOptions) -> std::time::Duration {
        options.history_meta_ttl.unwrap_or(self.config.channel.history_meta_ttl).get()
    }
}

/// The signs of the configuration, in the form the parser takes.
pub(super) fn rules(channel: &Channel) -> ChannelRules {
    ChannelRules {
        private_prefix: channel.private_prefix.as_ref().map(|prefix| prefix.to_string()).unwrap_or_default(),
        namespace_boundary: channel.namespace_boundary.to_string(),
        user_boundary: channel.user_boundary.to_string(),
        user_separator: channel.user_separator.to_string(),
        max_length_bytes: channel.max_length.get(),
    }
}
