//! Certificates that change under way, and bytes that do not fit through the socket at once.

use std::path::PathBuf;
use std::sync::Arc;

use bowline::{Either, race};
use bowline_protocol::websocket::{Decoder, Limits, Message, Opcode, Role, close_frame, frame};
use bytes::BytesMut;
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::watch::Look;
use super::*;
use crate::net::stream::Stream;
use crate::net::writer::Writer;

/// A directory with a certificate and its key, gone with the test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bowline-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let files = Self(directory);
        files.renew();
        files
    }

    /// Makes a certificate that is its own authority; returns it.
    fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2049, 12, 31);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(self.0.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.0.join("key.pem"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    fn settings(&self) -> config::Tls {
        let file = |name: &str| Some(self.0.join(name).to_str().unwrap().parse().unwrap());
        config::Tls {
            enabled: true,
            cert_pem_file: file("cert.pem"),
            key_pem_file: file("key.pem"),
            ..config::Tls::default()
        }
    }

    fn load(&self) -> Arc<Tls> {
        Tls::load(&self.settings(), "http_server.tls", b"http/1.1").unwrap().unwrap()
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(&std::fs::read(self.0.join("cert.pem")).unwrap()).unwrap()
    }

    /// Both ends of a connection, over the certificate that is in the file.
    async fn connect(&self, tls: &Tls) -> (Stream, TlsStream<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap().0;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let limit = Duration::from_secs(60);
        let (server, client) =
            bowline::join(tls.accept(server, limit), connector.connect(name, client)).await;
        (server.unwrap(), client.unwrap())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[bowline::test]
async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let files = Files::new("renewed");
    let tls = files.load();
    assert_eq!(tls.look(), Look::Same);
    assert_eq!(tls.stats().not_after, Some(Duration::from_secs(2_524_521_600)), "2049-12-31");

    let new = files.renew();
    assert_eq!(tls.look(), Look::Renewed);
    let (_server, client) = files.connect(&tls).await;
    assert_eq!(client.get_ref().1.peer_certificates().unwrap()[0], new);

    // The certificate is there before its key.
    let (old_certificate, old_key) =
        (std::fs::read(files.0.join("cert.pem")).unwrap(), std::fs::read(files.0.join("key.pem")).unwrap());
    files.renew();
    std::fs::write(files.0.join("key.pem"), &old_key).unwrap();
    assert_eq!(tls.look(), Look::Unfit);
    assert!(!tls.stats().is_refused, "half of something new is no news");
    assert_eq!(tls.look(), Look::Refused);
    assert!(tls.stats().is_refused);
    std::fs::write(files.0.join("cert.pem"), b"no certificate").unwrap();
    assert_eq!((tls.look(), tls.look()), (Look::Unfit, Look::Refused));
    std::fs::remove_file(files.0.join("cert.pem")).unwrap();
    assert_eq!((tls.look(), tls.look()), (Look::Unfit, Look::Refused));

    // What is in use has stayed.
    std::fs::write(files.0.join("cert.pem"), &old_certificate).unwrap();
    let (_server, client) = files.connect(&tls).await;
    assert_eq!(client.get_ref().1.peer_certificates().unwrap()[0], new);
    assert_eq!(tls.look(), Look::Same);
    assert!(!tls.stats().is_refused);
}

#[bowline::test]
async fn a_plain_connection_costs_what_its_socket_costs() {
    assert!(size_of::<Stream>() <= size_of::<TcpStream>() + size_of::<usize>());
}

/// The kernel takes a part; the rest waits in the session, where the socket's readiness says nothing of it.
#[bowline::test]
async fn what_is_encrypted_and_not_sent_is_not_forgotten() {
    let files = Files::new("unsent");
    let tls = files.load();
    let (mut server, mut client) = files.connect(&tls).await;
    let mut writer = Writer::default();
    let long = frame(Opcode::Binary, &[7; 100_000]);
    // More than the kernel takes of one that nobody reads.
    while writer.is_empty() {
        (0..1000).for_each(|_| writer.push(long.clone()));
        writer.write(&mut server).unwrap();
    }
    assert!(server.has_unsent());
    writer.abandon();
    writer.push(close_frame(3008, "slow"));

    let mut decoder = Decoder::new(Role::Client, Limits { max_message_bytes: 100_000, ..Limits::default() });
    let mut read = BytesMut::new();
    let mut frames = 0;
    loop {
        writer.write(&mut server).unwrap();
        match decoder.decode(&mut read).unwrap() {
            Some(Message::Binary(data)) => assert_eq!(data, vec![7; 100_000]),
            Some(Message::Close(close)) => {
                assert_eq!(close.unwrap().code, 3008);
                break;
            }
            Some(other) => panic!("{other:?}"),
            None => {
                tokio::task::yield_now().await;
                read.reserve(1_000_000);
                let is_done = writer.is_empty() && !server.has_unsent();
                if is_done {
                    assert_ne!(client.read_buf(&mut read).await.unwrap(), 0);
                    continue;
                }
                match race(client.read_buf(&mut read), server.writable()).await {
                    Either::Left(read) => assert_ne!(read.unwrap(), 0),
                    Either::Right(writable) => writable.unwrap(),
                }
                continue;
            }
        }
        frames += 1;
    }
    assert!(frames < 1000, "{frames} frames are what the kernel takes");
}

/// One record brings more than is read at a time; the socket itself has nothing left then.
#[bowline::test]
async fn what_is_decrypted_and_not_read_is_not_forgotten() {
    let files = Files::new("unread");
    let tls = files.load();
    let (mut server, mut client) = files.connect(&tls).await;
    let sent: Vec<u8> = (0..40_000).map(|n| (n % 251) as u8).collect();
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut read = BytesMut::new();
    loop {
        let readable = tokio::time::timeout(Duration::from_secs(60), server.readable()).await;
        readable.expect("something is left to be read").unwrap();
        read.reserve(1000);
        match server.try_read_buf(&mut read) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert_eq!(read, sent);
}

#[bowline::test]
async fn a_certificate_that_cannot_be_read_has_no_end_that_is_known() {
    assert_eq!(lifetime::not_after(b""), None);
    let files = Files::new("lifetime");
    let certificate = files.certificate();
    assert_eq!(lifetime::not_after(&certificate), Some(Duration::from_secs(2_524_521_600)));
    for cut in 0..certificate.len() {
        assert_eq!(lifetime::not_after(&certificate[..cut]), None, "cut at {cut}");
    }
}
