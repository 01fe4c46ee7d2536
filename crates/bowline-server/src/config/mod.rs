//! The settings of the server: what can be set, where it is read from, and what is refused.
//!
//! Settings come from a file (TOML, JSON or YAML), then the environment, then flags; the later wins. They are
//! parsed once, into types that cannot be wrong, and [`Config::load`] reports everything that is amiss at once:
//! unknown keys with the nearest known one, values that are not allowed, rules between settings.
//!
//! ```
//! use bowline_server::config::{Config, Sources};
//!
//! let env = [("BOWLINE_CLIENT_CHANEL_LIMIT".to_owned(), "64".to_owned())];
//! let error = Config::load(Sources::of_env(env.into_iter())).unwrap_err();
//! assert!(error.to_string().contains("did you mean `BOWLINE_CLIENT_CHANNEL_LIMIT`?"));
//! ```
//!
//! Inside: `settings` declares every key once through the macro of `schema`; `file` and `layers` build one `tree`
//! out of the sources; `reader` turns the tree into a [`Config`]; `check` holds the rules between settings; `sample`
//! prints the declaration as a file; `centrifugo` and `flat` know the keys of others, and `report` says what becomes of each.
//!
//! # Invariants
//!
//! 1. A key, its default and its effect are stated in one place, the declaration; the sample file parses back to
//!    [`Config::default`].
//! 2. The value of a secret stands in no error, no note and no `Debug` output.
//! 3. A [`Config`] that was loaded keeps every rule of `check`.

mod centrifugo;
mod check;
mod dev;
mod endpoint;
mod error;
mod file;
mod flat;
mod hooks;
mod layers;
mod namespaces;
mod network;
mod origin;
mod public_key;
mod reader;
mod report;
mod sample;
mod schema;
mod settings;
mod suggest;
mod tls;
mod tree;
mod types;
mod value;

use std::path::PathBuf;

pub use dev::DEV_API_KEY;
pub(crate) use endpoint::is_link_local;
pub use endpoint::{Endpoint, HookEndpoint};
pub use error::{ConfigError, Place, Problem};
pub(crate) use hooks::{DEFAULT_PROXY, DISCONNECT_CODES, ERROR_CODES, MAX_REASON_BYTES, is_identity};
pub use hooks::{ForwardedHeader, StatusAnswer, StatusTransform};
pub use network::Network;
pub use origin::OriginPattern;
pub(crate) use public_key::PublicKey;
pub use public_key::{EcdsaPublicKey, Ed25519PublicKey, RsaPublicKey};
pub use report::{DefaultReport, KeyReport, Report, Verdict};
pub use sample::render_defaults;
pub use settings::{
    Channel, ChannelOptions, ChannelProxy, Client, ClientProxy, Config, Emulation, EventProxy, GrpcApi,
    History, HttpApi, HttpServer, Log, Namespace, NodeIdentity, PersonalChannel, Proxy, ProxyGrpc, ProxyHttp,
    ProxyOptions, ProxyTls, Rpc, RpcNamespace, RpcOptions, RpcPing, Schedule, Shutdown, Store, Streaming,
    SubscriptionToken, Tls, Token, UniGrpc, WebSocket,
};
pub use tls::Pem;
pub use types::{
    ClaimName, DataFormat, DeltaType, DirectoryPath, ErrorMode, FilePath, Headers, HistoryDurability,
    LONGEST_DURATION, LogLevel, Malformed, NamespaceName, NonZeroDuration, Pattern, RecoveryMode, Secret,
    Separator, UrlPath,
};

use error::Place as At;
use reader::Reader;
use tree::Node;

/// Where settings are read from.
#[derive(Debug, Clone)]
pub struct Sources<E> {
    /// The settings file; its extension tells the format.
    pub file: Option<PathBuf>,
    /// The environment: see [`process_env`]. Only variables with the prefixes `BOWLINE_` and `CENTRIFUGO_` count.
    pub env: E,
    /// Flags: paths of keys such as `http_server.port`, and their values.
    pub overrides: Vec<(String, String)>,
    /// Starts from the defaults of [`Config::dev`], and refuses listeners that others can reach.
    pub dev: bool,
}

impl Sources<std::iter::Empty<(String, String)>> {
    /// Returns sources that set nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::of_env(std::iter::empty())
    }
}

impl<E> Sources<E> {
    /// Returns sources of which only the environment sets something.
    pub fn of_env(env: E) -> Self {
        Self { file: None, env, overrides: Vec::new(), dev: false }
    }
}

/// Returns the environment of this process. Variables whose name or value is not Unicode are left out.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Settings, and what the operator should know about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Things that are not wrong but worth a line in the log: ignored variables, weak keys, open doors.
    pub notes: Vec<String>,
}

impl Config {
    /// Loads the settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem: a file that cannot be read, unknown keys, values that are not allowed,
    /// rules between settings. Each names the key and where it stands.
    pub fn load<E>(sources: Sources<E>) -> Result<Self, ConfigError>
    where
        E: Iterator<Item = (String, String)>,
    {
        Self::load_with_notes(sources).map(|loaded| loaded.config)
    }

    /// Loads the settings, and tells what the operator should know about them.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_with_notes<E>(sources: Sources<E>) -> Result<Loaded, ConfigError>
    where
        E: Iterator<Item = (String, String)>,
    {
        let (config, reader) = Self::read(sources);
        ConfigError::of(reader.problems)?;
        Ok(Loaded { config, notes: reader.notes })
    }

    /// Reads the settings as [`load`](Self::load) does, and tells what becomes of each key, whether it is right or wrong.
    #[must_use]
    pub fn examine<E>(sources: Sources<E>) -> Report
    where
        E: Iterator<Item = (String, String)>,
    {
        let (_, Reader { seen, problems, notes, .. }) = Self::read(sources);
        Report::new(seen, &problems, notes)
    }

    /// Reads the sources and holds them against the rules; what is wrong is the reader's to tell.
    fn read<E>(sources: Sources<E>) -> (Self, Reader)
    where
        E: Iterator<Item = (String, String)>,
    {
        let mut config = if sources.dev { Self::dev() } else { Self::default() };
        let channel_defaults =
            if sources.dev { config.channel.without_namespace.clone() } else { Default::default() };
        let mut reader = Reader::new(channel_defaults);
        let mut tree = Node::empty_table(At::Default);
        let mut whole = true;
        match sources.file.as_deref().map(file::read) {
            None => {}
            Some(Ok(root)) => tree = root,
            Some(Err(problem)) => {
                whole = false;
                reader.problems.push(problem);
            }
        }
        layers::environment(&mut tree, sources.env, &mut reader);
        layers::flags(&mut tree, sources.overrides, &mut reader);
        reader.section(&mut config, "", tree);
        // Without the file the rules would be about settings that nobody made.
        if whole {
            check::rules(&config, &mut reader);
            if sources.dev {
                check::dev(&config, &mut reader);
            }
        }
        (config, reader)
    }

    /// Returns the options of the channels of `namespace`, or of those outside every namespace for `None`.
    ///
    /// A namespace that is not configured has no options: its channels do not exist (error 102).
    #[must_use]
    pub fn channel_options(&self, namespace: Option<&str>) -> Option<&ChannelOptions> {
        match namespace {
            None => Some(&self.channel.without_namespace),
            // A scan: deployments have a handful of namespaces, and comparing lengths comes first.
            Some(name) => self.channel.namespaces.iter().find(|ns| &*ns.name == name).map(|ns| &ns.options),
        }
    }
}
