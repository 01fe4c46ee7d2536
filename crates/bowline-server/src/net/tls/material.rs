//! Certificates and keys: from the settings to what rustls takes.

use std::fmt;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::lifetime;
use crate::config::{FilePath, Pem, Tls};

/// Bytes of the longest file that is read; a chain of certificates has a few thousand.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What the settings name, as it lies there now. Two that are equal make the same.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    certificate: Source,
    key: Source,
    client_roots: Option<Source>,
}

#[derive(Clone, PartialEq, Eq)]
struct Source {
    /// The last part of the key of the settings.
    name: &'static str,
    file: Option<PathBuf>,
    pem: Vec<u8>,
}

/// A listener cannot encrypt with what its settings name.
#[derive(Debug)]
pub struct TlsError {
    key: String,
    file: Option<PathBuf>,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    NotSet,
    Unreadable(io::Error),
    TooLong,
    NoCertificate,
    NoKey,
    /// The key is of no use, or is not that of the certificate.
    Unfit(tokio_rustls::rustls::Error),
    Roots,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, file, reason } = self;
        write!(f, "`{key}`")?;
        if let Some(file) = file {
            write!(f, ", file {}", file.display())?;
        }
        f.write_str(": ")?;
        match reason {
            Reason::NotSet => f.write_str("not set"),
            Reason::Unreadable(error) => write!(f, "{error}"),
            Reason::TooLong => write!(f, "longer than {MAX_FILE_BYTES} bytes"),
            Reason::NoCertificate => f.write_str("there is no whole `BEGIN CERTIFICATE` in it"),
            Reason::NoKey => f.write_str("there is no whole `BEGIN PRIVATE KEY`, without a password, in it"),
            Reason::Unfit(error) => write!(f, "key and certificate do not work together: {error}"),
            Reason::Roots => f.write_str("not every certificate in it can be a root"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Unreadable(error) => Some(error),
            Reason::Unfit(error) => Some(error),
            _ => None,
        }
    }
}

impl Material {
    /// Reads what is named.
    pub(super) fn read(settings: &Tls, section: &str) -> Result<Self, TlsError> {
        let source = |name, pem: &Option<Pem>, file: &Option<FilePath>| {
            Source::read(name, pem.as_ref(), file.as_ref()).map_err(|(file, reason)| TlsError {
                key: key(section, name, file.is_some()),
                file,
                reason,
            })
        };
        let needed = |name, pem: &Option<Pem>, file: &Option<FilePath>| {
            let unset = || TlsError { key: key(section, name, false), file: None, reason: Reason::NotSet };
            source(name, pem, file)?.ok_or_else(unset)
        };
        Ok(Self {
            certificate: needed("cert_pem", &settings.cert_pem, &settings.cert_pem_file)?,
            key: needed("key_pem", &settings.key_pem, &settings.key_pem_file)?,
            client_roots: source("client_ca_pem", &settings.client_ca_pem, &settings.client_ca_pem_file)?,
        })
    }

    /// What a listener that speaks `protocol` needs.
    pub(super) fn config(
        &self,
        protocol: &'static [u8],
        section: &str,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = self.certificate.certificates(section)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.pem);
        let key = key.map_err(|_| self.key.error(section, Reason::NoKey))?;
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|_| unreachable!("ring has the default versions"));
        let clients = match &self.client_roots {
            None => versions.with_no_client_auth(),
            Some(source) => {
                let mut roots = RootCertStore::empty();
                let unfit = |()| source.error(section, Reason::Roots);
                for certificate in source.certificates(section)? {
                    roots.add(certificate).map_err(|_| unfit(()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                versions.with_client_cert_verifier(verifier.map_err(|_| unfit(()))?)
            }
        };
        let config = clients.with_single_cert(chain, key);
        let mut config = config.map_err(|error| self.key.error(section, Reason::Unfit(error)))?;
        config.alpn_protocols = vec![protocol.to_vec()];
        // Who comes back need not be signed for again, and no table of sessions is kept for them. The tickets are good for
        // this certificate and these roots: a new configuration has new keys for them.
        if let Ok(tickets) = ring::Ticketer::new() {
            config.ticketer = tickets;
            config.send_tls13_tickets = 1;
        }
        Ok(Arc::new(config))
    }

    /// When the certificate ends, as time since 1970; `None` if that cannot be read.
    pub(super) fn not_after(&self) -> Option<Duration> {
        let certificate = CertificateDer::from_pem_slice(&self.certificate.pem).ok()?;
        lifetime::not_after(&certificate)
    }
}

impl Source {
    fn read(
        name: &'static str,
        pem: Option<&Pem>,
        file: Option<&FilePath>,
    ) -> Result<Option<Self>, (Option<PathBuf>, Reason)> {
        let Some(file) = file else {
            return Ok(pem.map(|pem| Self { name, file: None, pem: pem.expose().into() }));
        };
        let file = file.get().to_owned();
        let mut pem = Vec::new();
        let opened = std::fs::File::open(&file);
        match opened.and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut pem)) {
            Err(error) => Err((Some(file), Reason::Unreadable(error))),
            Ok(_) if pem.len() as u64 > MAX_FILE_BYTES => Err((Some(file), Reason::TooLong)),
            Ok(_) => Ok(Some(Self { name, file: Some(file), pem })),
        }
    }

    /// Every certificate; at least one, and none that is broken.
    fn certificates(&self, section: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(&self.pem).collect::<Result<Vec<_>, _>>();
        certificates
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| self.error(section, Reason::NoCertificate))
    }

    fn error(&self, section: &str, reason: Reason) -> TlsError {
        TlsError { key: key(section, self.name, self.file.is_some()), file: self.file.clone(), reason }
    }
}

fn key(section: &str, name: &str, is_file: bool) -> String {
    format!("{section}.{name}{}", if is_file { "_file" } else { "" })
}
