//! What `--dev` changes: the defaults. Whatever file, environment or flags set still wins.

use super::settings::{ChannelOptions, Config};
use super::types::{NonZeroDuration, Secret, nonzero};

/// The key of the server API under `--dev`. It is public: loopback listeners are all that protects it.
pub const DEV_API_KEY: &str = "bowline-dev-key";

/// Pages that a developer serves from the same machine, on any port.
const DEV_ORIGINS: [&str; 6] = [
    "http://localhost",
    "http://localhost:*",
    "http://127.0.0.1",
    "http://127.0.0.1:*",
    "http://[::1]",
    "http://[::1]:*",
];

impl Config {
    /// Returns the defaults of `--dev`: anonymous users may connect and use every channel.
    #[must_use]
    pub fn dev() -> Self {
        let mut config = Self::default();
        // A demo leaves nothing behind, and two of them do not meet in one directory.
        config.store.path = None;
        config.http_api.key = Secret::new(DEV_API_KEY);
        config.client.allow_anonymous_connect_without_token = true;
        config.client.allowed_origins = DEV_ORIGINS.iter().filter_map(|origin| origin.parse().ok()).collect();
        config.channel.without_namespace = channel_options();
        config
    }
}

/// Returns the options of every channel under `--dev`.
fn channel_options() -> ChannelOptions {
    ChannelOptions {
        presence: true,
        join_leave: true,
        history_size: Some(nonzero(100)),
        history_ttl: Some(NonZeroDuration::of_secs(10 * 60)),
        allow_positioning: true,
        allow_recovery: true,
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        allow_publish_for_subscriber: true,
        allow_publish_for_anonymous: true,
        allow_presence_for_client: true,
        allow_presence_for_subscriber: true,
        allow_presence_for_anonymous: true,
        allow_history_for_client: true,
        allow_history_for_subscriber: true,
        allow_history_for_anonymous: true,
        ..ChannelOptions::default()
    }
}
