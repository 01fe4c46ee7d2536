//! Settings of certificates and keys: PEM text, or the name of a file that holds it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::types::Malformed;

const BEGIN: &str = "-----BEGIN ";

/// Certificates or a key, in PEM. The text is never shown: it may be a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(Box<str>);

impl Pem {
    /// Returns the PEM text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pem {
    type Err = Malformed;

    /// Reads PEM text, or base64 of it, which survives environments that lose line ends.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let is_pem = |text: &str| text.contains(BEGIN);
        if is_pem(text) {
            return Ok(Self(text.into()));
        }
        let packed: String = text.split_whitespace().collect();
        let decoded = STANDARD.decode(packed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.filter(|text| is_pem(text)).map(|text| Self(text.into())).ok_or(Malformed)
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_may_come_packed_in_base64_and_is_never_shown() {
        let text = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let plain: Pem = text.parse().unwrap();
        let packed: Pem = format!(" {} ", STANDARD.encode(text)).parse().unwrap();
        assert_eq!(plain, packed);
        assert_eq!((plain.expose(), format!("{plain:?}")), (text, "***".to_owned()));
        for other in ["", "server.crt", "/etc/tls/key.pem", &STANDARD.encode("key")] {
            assert_eq!(other.parse::<Pem>(), Err(Malformed), "{other:?}");
        }
    }
}
