//! Every setting of the server: name, type, default and effect, each stated once.
//!
//! The doc comment of a field is also what `bowline config defaults` prints above the key, so it says the
//! unit and what happens at the bound. A setting of type `Option` is off when it is written as `0` or `""`.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::endpoint::{Endpoint, HookEndpoint};
use super::hooks::{ForwardedHeader, StatusTransform};
use super::network::Network;
use super::origin::OriginPattern;
use super::public_key::{EcdsaPublicKey, Ed25519PublicKey, RsaPublicKey};
use super::schema::settings;
use super::tls::Pem;
use super::types::{
    ClaimName, DataFormat, DeltaType, DirectoryPath, ErrorMode, FilePath, Headers, HistoryDurability,
    LogLevel, NamespaceName, NonZeroDuration, Pattern, RecoveryMode, Secret, Separator, UrlPath, nonzero,
};

settings! {
    /// The settings of one server process.
    pub struct Config {
        /// The two listeners.
        http_server: HttpServer = HttpServer::default(),
        /// The HTTP API that back ends call, served by the internal listener.
        http_api: HttpApi = HttpApi::default(),
        /// The gRPC API that back ends call, on a listener of its own.
        grpc_api: GrpcApi = GrpcApi::default(),
        /// Streams over gRPC for clients that only listen, on a listener of its own.
        uni_grpc: UniGrpc = UniGrpc::default(),
        /// The WebSocket endpoint of clients.
        websocket: WebSocket = WebSocket::default(),
        /// HTTP streaming: replies come as the lines of an answer that goes on, commands in requests of their own.
        http_stream: Streaming = Streaming::at("/connection/http_stream"),
        /// Server-sent events, for an `EventSource`: as HTTP streaming, with replies as events.
        sse: Streaming = Streaming::at("/connection/sse"),
        /// Where commands of clients of HTTP streaming and server-sent events are posted.
        emulation: Emulation = Emulation::default(),
        /// A WebSocket for clients that only listen: they say who they are, and get bare pushes.
        uni_websocket: UniWebSocket = UniWebSocket::default(),
        /// HTTP streaming for clients that only listen: pushes as lines, and nothing to post.
        uni_http_stream: Streaming = Streaming::at("/connection/uni_http_stream"),
        /// Server-sent events for clients that only listen, such as a plain `EventSource`.
        uni_sse: Streaming = Streaming::at("/connection/uni_sse"),
        /// An address that does nothing, for clients that want a request to have gone through before they connect.
        init: Init = Init::default(),
        /// Client connections: timing, limits, authentication.
        client: Client = Client::default(),
        /// Channels and their options.
        channel: Channel = Channel::default(),
        /// Where publications of channels with history are kept.
        store: Store = Store::default(),
        /// Publishing later: what the server API was asked to publish after a delay, at a time, or again and again.
        schedule: Schedule = Schedule::default(),
        /// Calls from clients.
        rpc: Rpc = Rpc::default(),
        /// Applications that are asked about their clients, each with a `name` and an `endpoint`.
        proxies: Vec<Proxy> = Vec::new(),
        /// How the process ends.
        shutdown: Shutdown = Shutdown::default(),
        /// Logging.
        log: Log = Log::default(),
        /// What the process is called.
        node: NodeIdentity = NodeIdentity::default(),
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
        /// are closed at accept, or refused with 429 behind a proxy. 0 for no limit.
        connections_per_address: Option<NonZeroUsize> = Some(nonzero(4096)),
        /// Connections that one address (IPv6: one /64 network) may begin per second; ten times as many at once if it was
        /// quiet before. More are closed at accept, or refused with 429 behind a proxy. 0 for no limit.
        handshakes_per_address: Option<NonZeroUsize> = Some(nonzero(100)),
        /// Proxies in front of this server. Their connections count for the client that the header X-Forwarded-For names
        /// last before them, or for nobody if there is none. From others the header is not believed.
        trusted_proxies: Vec<Network> = vec![literal("127.0.0.0/8"), literal("::1")],
        /// Encryption of the public listener: https and wss.
        tls: Tls = Tls::default(),
        /// Encryption of the internal listener, with a certificate of its own.
        internal_tls: Tls = Tls::default(),
    }

    /// Encryption of a listener. Files are read again when they change, and on SIGHUP: a new certificate needs no restart.
    pub struct Tls {
        /// Takes TLS connections only.
        enabled: bool = false,
        /// The certificate, then those between it and a root that clients trust, in PEM. Better a file, which can be renewed.
        cert_pem: Option<Pem> = None,
        /// File with the certificate, then those between it and a root that clients trust, in PEM.
        cert_pem_file: Option<FilePath> = None,
        /// The private key of the certificate, in PEM. Better a file, which others cannot read.
        key_pem: Option<Pem> = None,
        /// File with the private key of the certificate, in PEM.
        key_pem_file: Option<FilePath> = None,
        /// Roots that the certificates of clients lead to, in PEM. If set, a client without one is refused.
        client_ca_pem: Option<Pem> = None,
        /// File with roots that the certificates of clients lead to, in PEM. If set, a client without one is refused.
        client_ca_pem_file: Option<FilePath> = None,
    }

    /// The HTTP API that back ends call, served by the internal listener.
    pub struct HttpApi {
        /// The key back ends present. Empty: every call is refused with 401.
        key: Option<Secret> = None,
        /// Further keys that are accepted, so that a key can be changed without a moment in which back ends are refused.
        more_keys: Vec<Secret> = Vec::new(),
        /// Path below which the methods are served.
        handler_prefix: UrlPath = literal("/api"),
        /// Accepts calls without a key. Only for a listener that nobody else can reach.
        insecure: bool = false,
        /// How failures are reported: in the body of a 200 response, or as an HTTP status.
        error_mode: ErrorMode = ErrorMode::Body,
        /// Bytes of the largest request body; a larger one is refused with 413.
        max_request_body_size: NonZeroUsize = nonzero(1024 * 1024),
    }

    /// The gRPC API that back ends call, on a listener of its own.
    pub struct GrpcApi {
        /// Opens the listener.
        enabled: bool = false,
        /// Address it binds. Keep it private.
        address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST),
        /// Port it binds. 0 lets the system choose.
        port: u16 = 10000,
        /// The key back ends present as metadata `authorization: apikey <key>`. Empty: every call is refused.
        key: Option<Secret> = None,
        /// Further keys that are accepted, so that a key can be changed without a moment in which back ends are refused.
        more_keys: Vec<Secret> = Vec::new(),
        /// Accepts calls without a key. Only for a listener that nobody else can reach.
        insecure: bool = false,
        /// How failures are reported: in the response, or as a status.
        error_mode: ErrorMode = ErrorMode::Body,
        /// Tells tools such as grpcurl what there is to call.
        reflection: bool = false,
        /// Bytes of the largest message taken; a larger one gets the status OUT_OF_RANGE.
        max_receive_message_size: NonZeroUsize = nonzero(4 * 1024 * 1024),
        /// Encrypts the listener.
        tls: Tls = Tls::default(),
    }

    /// Streams over gRPC for clients that only listen: `CentrifugoUniStream.Consume`.
    pub struct UniGrpc {
        /// Opens the listener.
        enabled: bool = false,
        /// Address it binds. `0.0.0.0` or `::` for all interfaces.
        address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST),
        /// Port it binds. 0 lets the system choose.
        port: u16 = 11000,
        /// Bytes of the largest request that begins a stream; a larger one gets the status OUT_OF_RANGE.
        max_receive_message_size: NonZeroUsize = nonzero(64 * 1024),
        /// Encrypts the listener.
        tls: Tls = Tls::default(),
        /// A stream of which the client takes nothing for this long is closed with 3009.
        write_timeout: NonZeroDuration = NonZeroDuration::of_secs(1),
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
        /// Agrees to compression (permessage-deflate) with clients that offer it: less to send, more to compute. Each message
        /// is compressed for itself, and once for all who get it. A compressed message may inflate to ten times
        /// `message_size_limit`.
        compression: bool = false,
        /// How hard is tried, from 1, which is fast, to 9, which makes short.
        compression_level: u16 = 1,
        /// Bytes of the shortest message that is compressed.
        compression_min_size: u16 = 128,
    }

    /// A WebSocket for clients that only listen: they say who they are, and get bare pushes.
    pub struct UniWebSocket {
        /// Switches the endpoint on.
        enabled: bool = false,
        /// Path of the endpoint.
        handler_prefix: UrlPath = literal("/connection/uni_websocket"),
        /// Bytes of the largest connect request; a larger one closes the connection with 1009.
        message_size_limit: NonZeroUsize = nonzero(64 * 1024),
        /// A write that the client does not take for this long closes the connection.
        write_timeout: NonZeroDuration = NonZeroDuration::of_secs(1),
        /// Agrees to compression, as `websocket.compression`.
        compression: bool = false,
        /// How hard is tried, from 1, which is fast, to 9, which makes short.
        compression_level: u16 = 1,
        /// Bytes of the shortest message that is compressed.
        compression_min_size: u16 = 128,
    }

    /// An address that does nothing, for clients that want a request to have gone through before they connect.
    pub struct Init {
        /// Answers requests with an empty object.
        enabled: bool = false,
        /// Path of the endpoint.
        handler_prefix: UrlPath = literal("/connection/init"),
    }

    /// An endpoint that answers with a stream.
    pub struct Streaming {
        /// Switches the endpoint on.
        enabled: bool = false,
        /// Path of the endpoint.
        handler_prefix: UrlPath = literal("/connection/http_stream"),
        /// Bytes of the largest request that begins a stream; a larger one is refused with 413.
        max_request_body_size: NonZeroUsize = nonzero(64 * 1024),
        /// A write that the client does not take for this long closes the connection.
        write_timeout: NonZeroDuration = NonZeroDuration::of_secs(1),
    }

    /// Where commands of clients of HTTP streaming and server-sent events are posted.
    pub struct Emulation {
        /// Path of the endpoint.
        handler_prefix: UrlPath = literal("/emulation"),
        /// Bytes of the largest request; a larger one is refused with 413.
        max_request_body_size: NonZeroUsize = nonzero(64 * 1024),
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
        /// Commands of one connection that may wait for applications at once. With 0 or 1 they are done one after the other and
        /// answered in order; with more, commands that do not concern the same channel overtake each other.
        concurrency: Option<NonZeroUsize> = None,
        /// Publications one history call of a client may return.
        history_max_publication_limit: NonZeroUsize = nonzero(300),
        /// Publications one recovery may bring back; a client that missed more starts anew.
        recovery_max_publication_limit: NonZeroUsize = nonzero(300),
        /// Connections one authenticated user may hold at once; a further one is closed with 3504. 0 for no limit.
        user_connection_limit: Option<NonZeroUsize> = None,
        /// Connections this process holds at once; a further one is closed with 3504. 0 for no limit.
        connection_limit: Option<NonZeroUsize> = None,
        /// Commands, and pings and pongs of WebSocket, that one connection may send per second; ten times as many at once
        /// if it was quiet before. One that sends more is closed with 3013. 0 for no limit.
        command_rate_limit: Option<NonZeroUsize> = Some(nonzero(1000)),
        /// Bytes of commands one connection may send per second; ten times as many at once if it was quiet before. One that
        /// sends more is closed with 3013. 0 for no limit.
        byte_rate_limit: Option<NonZeroUsize> = Some(nonzero(1024 * 1024)),
        /// Subscriptions one connection may begin per second; ten times as many at once if it was quiet before. A further
        /// one gets error 111, after which clients try again later. 0 for no limit.
        subscribe_rate_limit: Option<NonZeroUsize> = Some(nonzero(50)),
        /// Connections of clients that may begin per second, whoever they are; ten times as many at once if it was quiet
        /// before. Others are answered 503 and told to come back. 0 for no limit.
        connection_rate_limit: Option<NonZeroUsize> = None,
        /// Lets every client do everything without a token. Only for experiments.
        insecure: bool = false,
        /// Accepts connections without a token, as the anonymous user "".
        allow_anonymous_connect_without_token: bool = false,
        /// Web origins that may connect, such as `https://example.com` or `https://*.example.com`; `*` for all.
        /// Requests without an Origin header are not from a browser and always pass this check.
        allowed_origins: Vec<OriginPattern> = Vec::new(),
        /// Tells clients the time of the server when they connect.
        connect_include_server_time: bool = false,
        /// How connection tokens are verified, and subscription tokens unless they have their own keys.
        token: Token = Token::default(),
        /// Own keys for subscription tokens.
        subscription_token: SubscriptionToken = SubscriptionToken::default(),
        /// A channel of its own for every user.
        subscribe_to_user_personal_channel: PersonalChannel = PersonalChannel::default(),
        /// Header in which a proxy in front says who a client is; the client needs no token then. Only
        /// `http_server.trusted_proxies` are believed, and they have to drop it where a client has set it. Empty: none.
        user_id_http_header: Option<ForwardedHeader> = None,
        /// Applications that are asked about connections.
        proxy: ClientProxy = ClientProxy::default(),
    }

    /// Applications that are asked about connections.
    pub struct ClientProxy {
        /// Asks who connects, if the client brings no token.
        connect: EventProxy = EventProxy::default(),
        /// Asks whether a connection may go on when it expires. Its clients need not bring new tokens.
        refresh: EventProxy = EventProxy::default(),
        /// Tells that a connection has ended. Applications are told at least once, in order, and are not waited for.
        disconnect: EventProxy = EventProxy::default(),
    }

    /// An application that is asked about one event of every connection.
    pub struct EventProxy {
        /// Asks it.
        enabled: bool = false,
        ..
        /// Where it is and how it is asked.
        options: ProxyOptions = ProxyOptions::default(),
    }

    /// A channel of its own for every user: the server subscribes each connection of user 42 to `#42`.
    pub struct PersonalChannel {
        /// Subscribes every connection of an authenticated user to the user's channel.
        enabled: bool = false,
        /// Namespace of these channels, which gives them their options. Empty: they are outside every namespace.
        personal_channel_namespace: Option<NamespaceName> = None,
        /// Keeps one connection per user: a new one closes the others with 3504.
        single_connection: bool = false,
    }

    /// How tokens are verified.
    pub struct Token {
        /// Secret key of HS256, HS384 and HS512 tokens, 32 bytes or more. Empty: tokens are refused.
        hmac_secret_key: Option<Secret> = None,
        /// Public key of RS256, RS384 and RS512 tokens: RSA of 2048 to 4096 bits, in PEM.
        rsa_public_key: Option<RsaPublicKey> = None,
        /// Public key of ES256 or ES384 tokens: on the curve P-256 or P-384, in PEM.
        ecdsa_public_key: Option<EcdsaPublicKey> = None,
        /// Public key of EdDSA tokens: Ed25519, in PEM.
        ed25519_public_key: Option<Ed25519PublicKey> = None,
        /// URL of a JSON Web Key Set, `https` or on this machine: tokens that name a key by `kid` are verified with it.
        jwks_public_endpoint: Option<Endpoint> = None,
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

    /// Where publications of channels with history are kept.
    pub struct Store {
        /// Directory that keeps them over restarts, failures of the process and of power. It is made if it is missing, for its
        /// owner alone, and one process has it at a time. Empty: they are in memory alone, and gone at the end.
        path: Option<DirectoryPath> = Some(literal("bowline-data")),
        /// When a publication is acknowledged and delivered: once it is on the disk (`always`), or once it was handed to the
        /// system, which syncs within `interval` (`interval`) or when it likes (`never`). The latter two survive the end of
        /// the process; after a power failure their clients start over.
        durability: HistoryDurability = HistoryDurability::Always,
        /// Longest time until publications with the durability `interval` are synced.
        interval: NonZeroDuration = NonZeroDuration::of_secs(1),
        /// Bytes of publications that may wait for the disk, and as many that may wait to be delivered, of which an eighth is
        /// kept apart, in equal parts for a few lines of channels, so that one that fills the rest leaves room to those in other
        /// lines; a further one is refused with error 111, and may be tried again.
        queue_max_size: NonZeroUsize = nonzero(64 * 1024 * 1024),
        /// Bytes that all files may have; beyond, the oldest publications go before their time. 0 for no limit.
        max_bytes: Option<NonZeroUsize> = None,
    }

    /// Channels and their options.
    pub struct Channel {
        /// Bytes of the longest channel name.
        max_length: NonZeroUsize = nonzero(255),
        /// Time that a stream's epoch and offset are kept after its last use. Above every `history_ttl`.
        history_meta_ttl: NonZeroDuration = NonZeroDuration::of_secs(720 * 3600),
        /// Time until applications are told that a channel is vacated: not at all if somebody is back before. 0 tells at once.
        vacated_delay: Duration = Duration::from_secs(5),
        /// Prefix of channels that need a subscription token whatever else is allowed. Empty: no such prefix.
        private_prefix: Option<Separator> = Some(literal("$")),
        /// Mark after the namespace in a channel name.
        namespace_boundary: Separator = literal(":"),
        /// Mark before the users in the name of a user-limited channel.
        user_boundary: Separator = literal("#"),
        /// Mark between the users in the name of a user-limited channel.
        user_separator: Separator = literal(","),
        /// Applications that are asked about channels whose options name no other.
        proxy: ChannelProxy = ChannelProxy::default(),
        /// Options of channels outside every namespace.
        without_namespace: ChannelOptions = ChannelOptions::default(),
        /// The namespaces, each with a `name` and the options of its channels.
        namespaces: Vec<Namespace> = Vec::new(),
    }

    /// Applications that are asked about channels whose options name no other: those with the name `default`.
    pub struct ChannelProxy {
        /// Is asked whether a client may subscribe, where `subscribe_proxy_enabled` is set.
        subscribe: ProxyOptions = ProxyOptions::default(),
        /// Is asked whether a client may publish, where `publish_proxy_enabled` is set.
        publish: ProxyOptions = ProxyOptions::default(),
        /// Is asked whether a subscription may go on when it expires, where `sub_refresh_proxy_enabled` is set.
        sub_refresh: ProxyOptions = ProxyOptions::default(),
        /// Is told that a channel has its first subscriber, or none any more, where `state_proxy_enabled` is set.
        state: ProxyOptions = ProxyOptions::default(),
        /// Is told that a subscription has ended, where `unsubscribe_proxy_enabled` is set.
        unsubscribe: ProxyOptions = ProxyOptions::default(),
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
        /// What an acknowledged publication survives. Empty for `store.durability`.
        history_durability: Option<HistoryDurability> = None,
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
        /// Gives every subscriber the latest publication when it subscribes, whether it asks for it or not. Takes
        /// `force_recovery_mode = "cache"`, and subscriptions that recover.
        auto_cache_recover: bool = false,
        /// Formats of deltas that clients may ask for: `fossil`. A delta is what a publication differs by from the one before.
        allowed_delta_types: Vec<DeltaType> = Vec::new(),
        /// Makes deltas of all publications, also of those that do not ask for it.
        delta_publish: bool = false,
        /// Lets clients take only the publications whose tags pass a filter.
        allow_tags_filter: bool = false,
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
        /// Asks an application whether a client without a token may subscribe.
        subscribe_proxy_enabled: bool = false,
        /// The name of one of `proxies`, or `default` for `channel.proxy.subscribe`.
        subscribe_proxy_name: String = "default".to_owned(),
        /// Asks an application whether a client may publish, and what.
        publish_proxy_enabled: bool = false,
        /// The name of one of `proxies`, or `default` for `channel.proxy.publish`.
        publish_proxy_name: String = "default".to_owned(),
        /// Asks an application whether a subscription may go on when it expires. Clients need not bring new tokens.
        sub_refresh_proxy_enabled: bool = false,
        /// The name of one of `proxies`, or `default` for `channel.proxy.sub_refresh`.
        sub_refresh_proxy_name: String = "default".to_owned(),
        /// Tells an application that the channel has its first subscriber (`occupied`), or none any more (`vacated`).
        state_proxy_enabled: bool = false,
        /// The name of one of `proxies`, or `default` for `channel.proxy.state`.
        state_proxy_name: String = "default".to_owned(),
        /// Tells an application that a subscription has ended (`unsubscribed`).
        unsubscribe_proxy_enabled: bool = false,
        /// The name of one of `proxies`, or `default` for `channel.proxy.unsubscribe`.
        unsubscribe_proxy_name: String = "default".to_owned(),
    }

    /// Publishing later.
    pub struct Schedule {
        /// Publications that may wait for their time; a further one gets error 106. 0 for no limit.
        max_pending: Option<NonZeroUsize> = Some(nonzero(100_000)),
        /// Publications that may wait for their time in one channel; a further one gets error 106. 0 for no limit.
        max_pending_per_channel: Option<NonZeroUsize> = Some(nonzero(1_000)),
        /// Bytes of what may wait, half a kilobyte for each and six for a pattern counted in; what is beyond gets error
        /// 106. All of it is in memory. 0 for no limit.
        max_pending_bytes: Option<NonZeroUsize> = Some(nonzero(128 * 1024 * 1024)),
        /// How far ahead a publication may be scheduled, at most; one that is further gets error 107.
        max_delay: NonZeroDuration = NonZeroDuration::of_secs(366 * 24 * 3600),
    }

    /// Calls from clients.
    pub struct Rpc {
        /// Mark after the namespace in a method name.
        namespace_boundary: Separator = literal(":"),
        /// A method the server itself answers.
        ping: RpcPing = RpcPing::default(),
        /// Answers methods whose options name no other application: the one with the name `default`.
        proxy: ProxyOptions = ProxyOptions::default(),
        /// Who answers methods outside of every namespace.
        without_namespace: RpcOptions = RpcOptions::default(),
        /// The namespaces, each with a `name` and who answers its methods.
        namespaces: Vec<RpcNamespace> = Vec::new(),
    }

    /// Who answers the calls of clients.
    pub struct RpcOptions {
        /// Asks the application that `proxy_name` names.
        proxy_enabled: bool = false,
        /// The name of one of `proxies`, or `default` for `rpc.proxy`.
        proxy_name: String = "default".to_owned(),
        /// Names of several of `proxies`, instead of `proxy_enabled`: all are asked at once, and the client gets an object
        /// with what each has said in time.
        fan_out: Vec<NamespaceName> = Vec::new(),
        /// Time that those of `fan_out` have together. Each has its own `timeout` too.
        fan_out_timeout: NonZeroDuration = NonZeroDuration::of_secs(1),
    }

    /// An application that is asked about its clients.
    pub struct ProxyOptions {
        /// Its URL, such as `http://app:3000/centrifugo`, or `grpc://app:3001`. Redirects are not followed.
        endpoint: Option<HookEndpoint> = None,
        /// Time it has for an answer.
        timeout: NonZeroDuration = NonZeroDuration::of_secs(1),
        /// Names of the headers of a client's own request that it is told. Whatever the client says of itself is what
        /// these say: believe them as far as whoever set them.
        http_headers: Vec<ForwardedHeader> = Vec::new(),
        /// Names of headers that a client may send in its connect command instead, as browsers must. What is listed here
        /// the client chooses freely, unless its own request had a header of the name that `http_headers` lists.
        emulated_headers: Vec<ForwardedHeader> = Vec::new(),
        /// Names of the metadata of a client's own gRPC call that it is told.
        grpc_metadata: Vec<ForwardedHeader> = Vec::new(),
        /// Tells it what tokens and applications have said about the connection under `meta`.
        include_connection_meta: bool = false,
        /// Sends application data in base64, in the fields that begin with `b64`.
        binary_encoding: bool = false,
        /// Bytes of the longest answer that is read.
        max_response_size: NonZeroUsize = nonzero(1024 * 1024),
        /// Questions that wait for an answer at once; one more fails.
        max_in_flight: NonZeroUsize = nonzero(512),
        /// What is said by HTTP.
        http: ProxyHttp = ProxyHttp::default(),
        /// How it is asked by gRPC.
        grpc: ProxyGrpc = ProxyGrpc::default(),
    }

    /// How an application is asked by gRPC.
    pub struct ProxyGrpc {
        /// Metadata of every question.
        static_metadata: Headers = Headers::default(),
        /// Name of the metadata that holds a key by which the application knows who asks, such as `authorization`.
        credentials_key: Option<ForwardedHeader> = None,
        /// The key.
        credentials_value: Option<Secret> = None,
        /// Encrypts the connection.
        tls: ProxyTls = ProxyTls::default(),
    }

    /// How the connection to an application is encrypted, and whom to trust.
    pub struct ProxyTls {
        /// Encrypts the connection.
        enabled: bool = false,
        /// Certificates of the authorities that are trusted, in PEM. Empty: those that the system trusts.
        server_ca_pem: Option<Pem> = None,
        /// A file that holds them, instead of `server_ca_pem`.
        server_ca_pem_file: Option<FilePath> = None,
        /// Whose certificate it must show. Empty: that of the host in `endpoint`.
        server_name: Option<String> = None,
    }

    /// What an application is told by HTTP.
    pub struct ProxyHttp {
        /// Headers of every question, such as a key by which it knows who asks.
        static_headers: Headers = Headers::default(),
        /// What an answer means whose status is not 200: a list of `status_code` with `to_error` (`code`, `message`,
        /// `temporary`) or `to_disconnect` (`code`, `reason`). Any other status is a failure.
        status_to_code_transforms: Vec<StatusTransform> = Vec::new(),
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

    /// What the process is called.
    pub struct NodeIdentity {
        /// Its name for people, in what the server API tells of it. Empty: host and public port.
        name: String = String::new(),
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
    /// Who answers its methods.
    pub options: RpcOptions,
}

/// An application that is asked about its clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// The name by which other settings refer to it.
    pub name: NamespaceName,
    /// Where it is and how it is asked.
    pub options: ProxyOptions,
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

impl GrpcApi {
    /// Returns every key that is accepted.
    pub fn keys(&self) -> impl Iterator<Item = &Secret> {
        self.key.iter().chain(&self.more_keys)
    }
}

impl HttpApi {
    /// Returns every key that is accepted.
    pub fn keys(&self) -> impl Iterator<Item = &Secret> {
        self.key.iter().chain(&self.more_keys)
    }
}

impl Token {
    /// Tells whether there is a key: without one every token is refused.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.hmac_secret_key.is_some()
            || self.rsa_public_key.is_some()
            || self.ecdsa_public_key.is_some()
            || self.ed25519_public_key.is_some()
            || self.jwks_public_endpoint.is_some()
    }
}

impl PersonalChannel {
    /// Tells whether a new connection of a user takes the place of the others.
    #[must_use]
    pub fn allows_one_connection_only(&self) -> bool {
        self.enabled && self.single_connection
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

impl Streaming {
    /// The defaults of the endpoint at `path`.
    fn at(path: &'static str) -> Self {
        Self { handler_prefix: literal(path), ..Self::default() }
    }
}

/// Makes a default from a literal of the right form.
fn literal<T: std::str::FromStr>(text: &'static str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("the default {text:?} is malformed"))
}
