//! Every setting of the server: name, type, default and effect, each stated once.
//!
//! The doc comment of a field is also what `bowline config defaults` prints above the key, so it says the
//! unit and what happens at the bound. A setting of type `Option` is off when it is written as `0` or `""`.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::origin::OriginPattern;
use super::schema::settings;
use super::types::{
    ClaimName, DataFormat, ErrorMode, LogLevel, NamespaceName, NonZeroDuration, Pattern, RecoveryMode,
    Secret, Separator, UrlPath, nonzero,
};

settings! {
    /// The settings of one server process.
    pub struct Config {
        /// The two listeners.
        http_server: HttpServer = HttpServer::default(),
        /// The HTTP API that back ends call, served by the internal listener.
        http_api: HttpApi = HttpApi::default(),
        /// The WebSocket endpoint of clients.
        websocket: WebSocket = WebSocket::default(),
        /// Client connections: timing, limits, authentication.
        client: Client = Client::default(),
        /// Channels and their options.
        channel: Channel = Channel::default(),
        /// Calls from clients.
        rpc: Rpc = Rpc::default(),
        /// How the process ends.
        shutdown: Shutdown = Shutdown::default(),
        /// Logging.
        log: Log = Log::default(),
    }

    /// The two listeners: the public one for clients, the internal one for back ends and operators.
    pub struct HttpServer {
        /// Address the public listener binds. `0.0.0.0` or `::` for all interfaces.
        address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST),
        /// Port of the public listener. 0 lets the system choose.
        port: u16 = 8000,
        /// Address the internal listener binds: server API, health, metrics, debug pages. Keep it private.
        internal_address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST),
        /// Port of the internal listener. 0 lets the system choose.
        internal_port: u16 = 8001,
        /// A connection that sends no byte for this long after it was accepted is closed.
        first_byte_timeout: NonZeroDuration = NonZeroDuration::of_secs(5),
        /// A request whose head is not complete this long after its first byte is closed.
        handshake_timeout: NonZeroDuration = NonZeroDuration::of_secs(10),
        /// Connections of one address (IPv6: of one /64 network) that the public listener holds at once; more
        /// are closed at accept. 0 for no limit: right behind a proxy, where all clients share its address.
        connections_per_address: Option<NonZeroUsize> = None,
    }

    /// The HTTP API that back ends call, served by the internal listener.
    pub struct HttpApi {
        /// The key back ends present. Empty: every call is refused with 401.
        key: Option<Secret> = None,
        /// Path below which the methods are served.
        handler_prefix: UrlPath = literal("/api"),
        /// Accepts calls without a key. Only for a listener that nobody else can reach.
        insecure: bool = false,
        /// How failures are reported: in the body of a 200 response, or as an HTTP status.
        error_mode: ErrorMode = ErrorMode::Body,
        /// Bytes of the largest request body; a larger one is refused with 413.
        max_request_body_size: NonZeroUsize = nonzero(1024 * 1024),
    }

    /// The WebSocket endpoint of clients.
    pub struct WebSocket {
        /// Switches the endpoint off.
        disabled: bool = false,
        /// Path of the endpoint.
        handler_prefix: UrlPath = literal("/connection/websocket"),
        /// Bytes of the largest message a client may send; a larger one closes the connection with 1009.
        message_size_limit: NonZeroUsize = nonzero(64 * 1024),
        /// A write that the client does not take for this long closes the connection.
        write_timeout: NonZeroDuration = NonZeroDuration::of_secs(1),
    }

    /// Client connections: timing, limits, authentication.
    pub struct Client {
        /// Time between pings to a client.
        ping_interval: NonZeroDuration = NonZeroDuration::of_secs(25),
        /// A client that does not answer a ping for this long is disconnected. Below `ping_interval`.
        pong_timeout: NonZeroDuration = NonZeroDuration::of_secs(8),
        /// A connection that has not authenticated after this long is disconnected.
        stale_close_delay: NonZeroDuration = NonZeroDuration::of_secs(10),
        /// Time a client has to bring a new token once its connection has expired.
        expired_close_delay: Duration = Duration::from_secs(25),
        /// Time a client has to bring a new token once a subscription has expired.
        expired_sub_close_delay: Duration = Duration::from_secs(25),
        /// Time between refreshes of a client's presence entries.
        presence_update_interval: NonZeroDuration = NonZeroDuration::of_secs(27),
        /// A positioned subscription not confirmed for this long is compared with the top of its stream.
        channel_position_check_delay: NonZeroDuration = NonZeroDuration::of_secs(40),
        /// Channels one connection may be subscribed to at once; a further subscribe gets error 106.
        channel_limit: NonZeroUsize = nonzero(128),
        /// Bytes that may wait to be written to one client; a slower client is disconnected with 3008.
        queue_max_size: NonZeroUsize = nonzero(1024 * 1024),
        /// Publications one history call of a client may return.
        history_max_publication_limit: NonZeroUsize = nonzero(300),
        /// Publications one recovery may bring back; a client that missed more starts anew.
        recovery_max_publication_limit: NonZeroUsize = nonzero(300),
        /// Connections one authenticated user may hold at once; a further one is closed with 3504. 0 for no limit.
        user_connection_limit: Option<NonZeroUsize> = None,
        /// Connections this process holds at once; a further one is closed with 3504. 0 for no limit.
        connection_limit: Option<NonZeroUsize> = None,
        /// Lets every client do everything without a token. Only for experiments.
        insecure: bool = false,
        /// Accepts connections without a token, as the anonymous user "".
        allow_anonymous_connect_without_token: bool = false,
        /// Web origins that may connect, such as `https://example.com` or `https://*.example.com`; `*` for all.
        /// Requests without an Origin header are not from a browser and always pass this check.
        allowed_origins: Vec<OriginPattern> = Vec::new(),
        /// How connection tokens are verified, and subscription tokens unless they have their own keys.
        token: Token = Token::default(),
        /// Own keys for subscription tokens.
        subscription_token: SubscriptionToken = SubscriptionToken::default(),
    }

    /// How tokens are verified.
    pub struct Token {
        /// Secret key of HS256, HS384 and HS512 tokens, 32 bytes or more. Empty: tokens are refused.
        hmac_secret_key: Option<Secret> = None,
        /// What the `aud` claim must hold. Empty: not checked.
        audience: Option<String> = None,
        /// Regular expression that the `aud` claim must match, instead of `audience`. Empty: not checked.
        audience_regex: Option<Pattern> = None,
        /// What the `iss` claim must be. Empty: not checked.
        issuer: Option<String> = None,
        /// Regular expression that the `iss` claim must match, instead of `issuer`. Empty: not checked.
        issuer_regex: Option<Pattern> = None,
        /// Claim that holds the user id, instead of `sub`.
        user_id_claim: Option<ClaimName> = None,
    }

    /// Own keys for subscription tokens.
    pub struct SubscriptionToken {
        /// Verifies subscription tokens with the keys of this section instead of those of `client.token`.
        enabled: bool = false,
        ..
        /// The keys and checks.
        token: Token = Token::default(),
    }

    /// Channels and their options.
    pub struct Channel {
        /// Bytes of the longest channel name.
        max_length: NonZeroUsize = nonzero(255),
        /// Time that a stream's epoch and offset are kept after its last use. Above every `history_ttl`.
        history_meta_ttl: NonZeroDuration = NonZeroDuration::of_secs(720 * 3600),
        /// Prefix of channels that need a subscription token whatever else is allowed. Empty: no such prefix.
        private_prefix: Option<Separator> = Some(literal("$")),
        /// Mark after the namespace in a channel name.
        namespace_boundary: Separator = literal(":"),
        /// Mark before the users in the name of a user-limited channel.
        user_boundary: Separator = literal("#"),
        /// Mark between the users in the name of a user-limited channel.
        user_separator: Separator = literal(","),
        /// Options of channels outside every namespace.
        without_namespace: ChannelOptions = ChannelOptions::default(),
        /// The namespaces, each with a `name` and the options of its channels.
        namespaces: Vec<Namespace> = Vec::new(),
    }

    /// What channels of one namespace keep, and who may do what in them. All is off by default.
    pub struct ChannelOptions {
        /// Keeps who is present.
        presence: bool = false,
        /// Publishes join and leave events to subscribers that ask for them.
        join_leave: bool = false,
        /// Pushes join and leave events to every subscriber.
        force_push_join_leave: bool = false,
        /// Publications kept per channel. 0 for no history.
        history_size: Option<NonZeroUsize> = None,
        /// Time a publication is kept. Set together with `history_size`.
        history_ttl: Option<NonZeroDuration> = None,
        /// Time that a stream's epoch and offset are kept after its last use. 0 for `channel.history_meta_ttl`.
        history_meta_ttl: Option<NonZeroDuration> = None,
        /// Tracks the position of every subscriber and tells it when a message was lost.
        force_positioning: bool = false,
        /// Lets clients ask for positioning.
        allow_positioning: bool = false,
        /// Recovers missed publications for every subscriber. Needs history.
        force_recovery: bool = false,
        /// Lets clients ask for recovery.
        allow_recovery: bool = false,
        /// What recovery brings back: all missed publications, or only the latest.
        force_recovery_mode: RecoveryMode = RecoveryMode::Stream,
        /// Lets every authenticated user subscribe.
        allow_subscribe_for_client: bool = false,
        /// Widens `allow_subscribe_for_client` to anonymous users.
        allow_subscribe_for_anonymous: bool = false,
        /// Lets subscribers publish.
        allow_publish_for_subscriber: bool = false,
        /// Lets every authenticated user publish.
        allow_publish_for_client: bool = false,
        /// Widens the two options above to anonymous users.
        allow_publish_for_anonymous: bool = false,
        /// Lets subscribers ask who is present.
        allow_presence_for_subscriber: bool = false,
        /// Lets every authenticated user ask who is present.
        allow_presence_for_client: bool = false,
        /// Widens the two options above to anonymous users.
        allow_presence_for_anonymous: bool = false,
        /// Lets subscribers read history.
        allow_history_for_subscriber: bool = false,
        /// Lets every authenticated user read history.
        allow_history_for_client: bool = false,
        /// Widens the two options above to anonymous users.
        allow_history_for_anonymous: bool = false,
        /// Limits channels such as `dialog#42,43` to the users named in them, who need no further right.
        allow_user_limited_channels: bool = false,
        /// Regular expression for the part of the name after the namespace. Empty: any ASCII name.
        channel_regex: Option<Pattern> = None,
        /// What the data of publications must be. Empty: anything but nothing.
        publication_data_format: Option<DataFormat> = None,
    }

    /// Calls from clients.
    pub struct Rpc {
        /// Mark after the namespace in a method name.
        namespace_boundary: Separator = literal(":"),
        /// A method the server itself answers.
        ping: RpcPing = RpcPing::default(),
        /// The namespaces, each with a `name`.
        namespaces: Vec<RpcNamespace> = Vec::new(),
    }

    /// A method the server itself answers with an empty object, for clients that measure the way there.
    pub struct RpcPing {
        /// Answers the method.
        enabled: bool = false,
        /// Name of the method.
        method: String = "ping".to_owned(),
    }

    /// How the process ends.
    pub struct Shutdown {
        /// Time from the signal to stop until connections and tasks still there are cut off.
        timeout: NonZeroDuration = NonZeroDuration::of_secs(30),
    }

    /// Logging.
    pub struct Log {
        /// The least severe messages that are logged.
        level: LogLevel = LogLevel::Info,
    }
}

/// A namespace of channels: those whose name begins with its name and the namespace boundary.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespace {
    /// The name, without the boundary.
    pub name: NamespaceName,
    /// What its channels keep and allow.
    pub options: ChannelOptions,
}

/// A namespace of methods that clients may call.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcNamespace {
    /// The name, without the boundary.
    pub name: NamespaceName,
}

/// How many publications a channel keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Publications kept.
    pub size: NonZeroUsize,
    /// Time each is kept.
    pub ttl: Duration,
}

impl ChannelOptions {
    /// Returns what history is kept, or `None` if none is: it takes both a size and a time to live.
    #[must_use]
    pub fn history(&self) -> Option<History> {
        Some(History { size: self.history_size?, ttl: self.history_ttl?.get() })
    }
}

impl Client {
    /// Returns how subscription tokens are verified: with their own keys if they have some, or as connection tokens.
    #[must_use]
    pub fn token_for_subscriptions(&self) -> &Token {
        if self.subscription_token.enabled { &self.subscription_token.token } else { &self.token }
    }

    /// Tells whether a request may connect: one without an `Origin` is not from a browser and may.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| self.allowed_origins.iter().any(|pattern| pattern.matches(origin)))
    }
}

/// Makes a default from a literal of the right form.
fn literal<T: std::str::FromStr>(text: &'static str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("the default {text:?} is malformed"))
}
