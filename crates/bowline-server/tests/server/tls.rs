//! TLS on the listeners: everything that works without it, who is kept waiting, and what is refused.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::process::Process;
use crate::support::{KEY, PATIENCE, config, read_to_end, read_until, send, with_server};
use bowline_protocol::websocket::{Opcode, masked_frame};
use bowline_server::config::Config;
use bowline_server::net::Server;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// An authority that lives for one test, and a directory for what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    /// Makes an authority that has signed a server's certificate.
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bowline-server-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, directory };
        std::fs::write(authority.file("ca.pem"), authority.issuer.pem()).unwrap();
        authority.renew();
        authority
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    /// Signs a new certificate; returns it.
    fn renew(&self) -> rcgen::Certificate {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(self.file("cert.pem"), certificate.pem()).unwrap();
        certificate
    }

    /// Settings with which the public listener encrypts.
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("http_server.tls.enabled", "true".to_owned()),
            ("http_server.tls.cert_pem_file", self.file("cert.pem")),
            ("http_server.tls.key_pem_file", self.file("key.pem")),
        ]
    }

    fn config(&self, more: &[(&'static str, &str)]) -> Config {
        let own = self.settings();
        let own = own.iter().map(|(key, value)| (*key, value.as_str()));
        config(&own.chain(more.iter().copied()).collect::<Vec<_>>())
    }

    /// What a client trusts, with a certificate of its own if it has one.
    fn connector(&self, own: Option<(&rcgen::Certificate, &KeyPair)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let trusting = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => trusting.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                trusting.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, server: SocketAddr) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(server).await.unwrap();
        self.connector(None).connect(name(), socket).await.unwrap()
    }

    /// An answer to one request, on a connection of its own.
    async fn ask(&self, server: SocketAddr, request: &str) -> String {
        let mut stream = self.connect(server).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await.unwrap()
    }

    /// A WebSocket that has sent these commands.
    async fn websocket(&self, server: SocketAddr, commands: &[&str]) -> TlsStream<TcpStream> {
        let mut stream = self.connect(server).await;
        let mut sent = b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
        for command in commands {
            sent.extend(masked_frame(Opcode::Text, command.as_bytes(), [1, 2, 3, 4]));
        }
        stream.write_all(&sent).await.unwrap();
        stream
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"a"}}"#;

#[bowline::test]
async fn websockets_streams_and_the_server_api_work_as_they_do_without() {
    let authority = Authority::new("works");
    // Both read in turn, and one of them waits for the other.
    let patient = [("sse.enabled", "true"), ("sse.write_timeout", "60s"), ("websocket.write_timeout", "60s")];
    with_server(authority.config(&patient), async |server| {
        let mut websocket = authority.websocket(server.public, &[CONNECT, SUBSCRIBE]).await;
        assert_eq!(websocket.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        read_until(&mut websocket, r#""subscribe":{"#).await;
        let mut events = authority.connect(server.public).await;
        let commands: String =
            form_urlencoded::byte_serialize(format!("{CONNECT}\n{SUBSCRIBE}").as_bytes()).collect();
        let request = format!("GET /connection/sse?cf_connect={commands} HTTP/1.1\r\nHost: x\r\n\r\n");
        events.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut events, r#""subscribe":{"#).await;

        // More than a socket takes at once: what is left waits for the peer to read.
        let data = "x".repeat(900_000);
        let body = format!(r#"{{"channel":"a","data":"{data}"}}"#);
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = authority.ask(server.public, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("result"), "{answer}");
        for stream in [&mut websocket, &mut events] {
            let (mut read, end) = (Vec::new(), br#"x","offset":"#);
            while !read.windows(end.len()).rev().take(64).any(|window| window == end) {
                let more = tokio::time::timeout(PATIENCE, stream.read_buf(&mut read)).await;
                assert_ne!(more.expect("the publication comes").unwrap(), 0);
            }
            assert!(String::from_utf8_lossy(&read).contains(&data));
        }

        let (_, metrics) = server.get("/metrics").await;
        for line in [
            r#"bowline_tls_handshakes_total{listener="http_server.tls"} 3"#,
            r#"bowline_tls_failed_handshakes_total{listener="http_server.tls"} 0"#,
            r#"bowline_tls_certificate_refused{listener="http_server.tls"} 0"#,
            r#"bowline_tls_certificate_not_after_seconds{listener="http_server.tls"} "#,
        ] {
            assert!(metrics.contains(line), "{line} is not in {metrics}");
        }
        // The server stops: both are told why, and the end of TLS before the end of the socket.
        server.stop.notify_one();
        let read = read_to_end(&mut events).await.unwrap();
        assert!(read.contains(r#""code":3001"#) && read.ends_with("0\r\n\r\n"), "{read}");
        let mut rest = Vec::new();
        websocket.write_all(&masked_frame(Opcode::Close, &3001_u16.to_be_bytes(), [0; 4])).await.unwrap();
        websocket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest[..4], [0x88, 10, 0x0b, 0xb9]);
    })
    .await;
}

#[bowline::test]
async fn who_does_not_speak_tls_is_told_so() {
    let authority = Authority::new("plain");
    with_server(authority.config(&[]), async |server| {
        let mut stream = send(server.public, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = read_to_end(&mut stream).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{answer}");
        assert!(body.contains("https://") && body.contains("wss://"), "{answer}");
        // The other listener does not encrypt; who speaks TLS to it gets an end too.
        assert_eq!(server.get("/health").await.0, 200);
        let socket = TcpStream::connect(server.internal).await.unwrap();
        let refused = tokio::time::timeout(PATIENCE, authority.connector(None).connect(name(), socket)).await;
        assert!(refused.expect("the server closes").is_err());
    })
    .await;
}

/// acton-service#96, zenoh#1570, tokio-rustls#4: a handshake inside accept lets one silent peer keep everybody out.
#[bowline::test]
async fn security_13_who_is_silent_in_a_handshake_is_closed_in_time_and_keeps_nobody_out() {
    let authority = Authority::new("silent");
    with_server(authority.config(&[("http_server.handshake_timeout", "2s")]), async |server| {
        let mut silent = Vec::new();
        for n in 0..300_usize {
            let mut socket = TcpStream::connect(server.public).await.unwrap();
            // A record that is announced and does not come, or comes in part.
            let begun = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
            socket.write_all(&begun[..1 + n % begun.len()]).await.unwrap();
            silent.push(socket);
        }
        let mut websocket = authority.websocket(server.public, &[CONNECT]).await;
        read_until(&mut websocket, r#""connect":{"#).await;
        for mut socket in silent {
            let end =
                tokio::time::timeout(PATIENCE, socket.read(&mut [0; 64])).await.expect("closed in time");
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
        let (_, metrics) = server.get("/metrics").await;
        let line = r#"bowline_tls_failed_handshakes_total{listener="http_server.tls"} 300"#;
        assert!(metrics.contains(line), "{metrics}");
        // Who was there all the time is there still.
        websocket.write_all(&masked_frame(Opcode::Text, SUBSCRIBE.as_bytes(), [0; 4])).await.unwrap();
        read_until(&mut websocket, r#""subscribe":{"#).await;
    })
    .await;
}

#[bowline::test]
async fn clients_without_a_certificate_are_refused_where_one_is_asked_for() {
    let authority = Authority::new("mutual");
    let roots = authority.file("ca.pem");
    with_server(authority.config(&[("http_server.tls.client_ca_pem_file", &roots)]), async |server| {
        let request = "GET /connection/websocket HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let ask = async |connector: TlsConnector| {
            let socket = TcpStream::connect(server.public).await.unwrap();
            // In TLS 1.3 the client learns with its first read that it was refused.
            let mut stream = connector.connect(name(), socket).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map(|_| answer)
        };
        assert!(ask(authority.connector(None)).await.is_err());
        let (key, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        let own = params.self_signed(&stranger).unwrap();
        assert!(ask(authority.connector(Some((&own, &stranger)))).await.is_err());
        let signed = params.signed_by(&key, &authority.issuer).unwrap();
        let answer = ask(authority.connector(Some((&signed, &key)))).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    })
    .await;
}

#[bowline::test]
async fn a_certificate_that_cannot_be_used_keeps_the_server_from_starting_and_it_says_why() {
    let (authority, other) = (Authority::new("wrong"), Authority::new("other"));
    std::fs::write(authority.file("empty.pem"), "").unwrap();
    let pem = |file: &str| std::fs::read_to_string(authority.file(file)).unwrap();
    let (certificate, key) = (pem("cert.pem"), pem("key.pem"));
    let (cert_file, key_file) = ("http_server.tls.cert_pem_file", "http_server.tls.key_pem_file");
    // (the setting, its value, what is said)
    let wrong = [
        (cert_file, authority.file("none.pem"), "No such file"),
        (cert_file, authority.file("empty.pem"), "BEGIN CERTIFICATE"),
        (cert_file, authority.file("key.pem"), "BEGIN CERTIFICATE"),
        (cert_file, other.file("cert.pem"), "do not work together"),
        (key_file, authority.file("cert.pem"), "BEGIN PRIVATE KEY"),
        (key_file, authority.file(""), "directory"),
        ("http_server.tls.client_ca_pem_file", authority.file("empty.pem"), "BEGIN CERTIFICATE"),
    ];
    for (setting, value, what) in wrong {
        let error = Server::bind(authority.config(&[(setting, &value)]), true).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(what), "{setting} = {value}: {said}");
        let named = if what.contains("together") { key_file } else { setting };
        assert!(said.contains(named) && said.contains(".pem") || value.ends_with('/'), "{said}");
        assert!(!said.contains("MI"), "nothing of a key is said: {said}");
    }
    // Inline, also packed: as good as files.
    let packed = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &key);
    let mut inline = config(&[]);
    inline.http_server.tls.enabled = true;
    inline.http_server.tls.cert_pem = Some(certificate.parse().unwrap());
    inline.http_server.tls.key_pem = Some(packed.parse().unwrap());
    Server::bind(inline, true).await.unwrap();
}

/// On SIGHUP at once, and by itself every few seconds.
#[bowline::test]
async fn a_new_certificate_needs_no_restart() {
    let authority = Authority::new("renewed");
    let settings = authority.settings();
    let process =
        Process::serve(&settings.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>());
    let served = async || {
        let stream = authority.connect(process.public).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let until_served = async |certificate: &rcgen::Certificate| {
        let until = tokio::time::Instant::now() + PATIENCE;
        while served().await != *certificate.der() {
            assert!(tokio::time::Instant::now() < until, "the new certificate is not served");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut websocket = authority.websocket(process.public, &[CONNECT]).await;
    read_until(&mut websocket, r#""connect":{"#).await;
    let new = authority.renew();
    process.signal("HUP");
    until_served(&new).await;
    let newer = authority.renew();
    until_served(&newer).await;
    // Who is connected keeps what the connection began with.
    websocket.write_all(&masked_frame(Opcode::Text, SUBSCRIBE.as_bytes(), [0; 4])).await.unwrap();
    read_until(&mut websocket, r#""subscribe":{"#).await;
}
