//! Over TLS, against a certificate made for these tests: who is trusted, and who is not.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;

const CERTIFICATE: &[u8] = include_bytes!("certificate.der");

fn acceptor() -> TlsAcceptor {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(include_bytes!("private.der").to_vec()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(CERTIFICATE)], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

fn trusting_it() -> Outgoing {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(CERTIFICATE)).unwrap();
    Outgoing::trusting(roots)
}

/// What getting `https://{host}:…` brings from a server that has the certificate of 127.0.0.1.
async fn get(outgoing: Outgoing, host: &str) -> Result<Bytes, FetchError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let (socket, _) = listener.accept().await.unwrap();
        // A client that does not trust us goes before the handshake is done.
        let Ok(mut socket) = acceptor().accept(socket).await else { return };
        let mut request = [0; 1024];
        let length = socket.read(&mut request).await.unwrap();
        assert!(request[..length].starts_with(b"GET /keys?a=b HTTP/1.1\r\n"), "{length}");
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        let _ = socket.shutdown().await;
    };
    let endpoint = format!("https://{host}:{port}/keys?a=b").parse().unwrap();
    tokio::join!(outgoing.get(&endpoint, 100), serve).0
}

#[tokio::test]
async fn a_certificate_is_trusted_if_its_issuer_is_and_it_is_for_the_name() {
    assert_eq!(get(trusting_it(), "127.0.0.1").await.unwrap(), "hello");
    assert!(matches!(get(trusting_it(), "localhost").await, Err(FetchError::Unreachable(_))), "another name");
    let nobody = Outgoing::trusting(RootCertStore::empty());
    assert!(matches!(get(nobody, "127.0.0.1").await, Err(FetchError::Unreachable(_))));
}

/// A name that an attacker has lead to the metadata service of a cloud.
#[test]
fn a_name_that_leads_to_link_local_addresses_leads_nowhere() {
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    for found in
        [&["169.254.169.254:80"][..], &["[fe80::1]:80", "[::ffff:169.254.0.1]:80", "0.0.0.0:80"], &[]]
    {
        assert!(matches!(allowed(addresses(found).into_iter()), Err(FetchError::Unfit(_))), "{found:?}");
    }
    let found = addresses(&["169.254.169.254:80", "10.0.0.7:80"]);
    assert_eq!(allowed(found.into_iter()).unwrap(), addresses(&["10.0.0.7:80"]));
}
