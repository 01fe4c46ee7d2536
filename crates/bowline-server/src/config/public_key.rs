//! Public keys of tokens: read once, with every length checked before a signature is ever looked at.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use spki::der::Document;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::types::Malformed;

/// Bits of an RSA key: below, it can be broken (NIST SP 800-131A); above, verifying costs more than it protects.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A public key of a kind that tokens are verified with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// RSA: modulus and exponent, big-endian.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// NIST P-256: the uncompressed point, of 65 bytes.
    P256(Vec<u8>),
    /// NIST P-384: the uncompressed point, of 97 bytes.
    P384(Vec<u8>),
    /// Ed25519.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Reads a key in PEM: `BEGIN PUBLIC KEY`, or `BEGIN RSA PUBLIC KEY`.
    pub(crate) fn from_pem(text: &str) -> Option<Self> {
        let (label, document) = Document::from_pem(text.trim()).ok()?;
        match label {
            "PUBLIC KEY" => Self::from_spki(document.as_bytes()),
            "RSA PUBLIC KEY" => Self::from_pkcs1(document.as_bytes()),
            _ => None,
        }
    }

    fn from_spki(der: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoRef::try_from(der).ok()?;
        let key = info.subject_public_key.as_bytes()?;
        match info.algorithm.oid {
            RSA => Self::from_pkcs1(key),
            EC => match info.algorithm.parameters_oid().ok()? {
                P256 => Self::p256(key.to_vec()),
                P384 => Self::p384(key.to_vec()),
                _ => None,
            },
            ED25519 => Self::ed25519(key),
            _ => None,
        }
    }

    fn from_pkcs1(der: &[u8]) -> Option<Self> {
        let key = pkcs1::RsaPublicKey::try_from(der).ok()?;
        Self::rsa(key.modulus.as_bytes(), key.public_exponent.as_bytes())
    }

    /// Takes modulus and exponent, big-endian, of 2048 to 4096 bits and odd.
    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let strip = |bytes: &[u8]| bytes.iter().copied().skip_while(|&byte| byte == 0).collect::<Vec<_>>();
        let (modulus, exponent) = (strip(modulus), strip(exponent));
        let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        // An exponent of one would make every message its own signature.
        let is_exponent = exponent.len() <= 4 && is_odd(&exponent) && exponent != [1];
        (RSA_BITS.contains(&bits) && is_odd(&modulus) && is_exponent)
            .then_some(Self::Rsa { modulus, exponent })
    }

    /// Takes an uncompressed point of P-256.
    pub(crate) fn p256(point: Vec<u8>) -> Option<Self> {
        (point.len() == 65 && point[0] == 4).then_some(Self::P256(point))
    }

    /// Takes an uncompressed point of P-384.
    pub(crate) fn p384(point: Vec<u8>) -> Option<Self> {
        (point.len() == 97 && point[0] == 4).then_some(Self::P384(point))
    }

    /// Takes the 32 bytes of an Ed25519 key.
    pub(crate) fn ed25519(key: &[u8]) -> Option<Self> {
        key.try_into().ok().map(Self::Ed25519)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } => "RSA",
            Self::P256(_) => "P-256",
            Self::P384(_) => "P-384",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}

/// Declares a setting that holds a public key of one kind.
macro_rules! key_types {
    ($($(#[$doc:meta])* $name:ident = $pattern:pat),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            pem: Box<str>,
            key: PublicKey,
        }

        impl $name {
            /// Returns the key as it was written.
            #[must_use]
            pub fn pem(&self) -> &str {
                &self.pem
            }

            pub(crate) fn key(&self) -> &PublicKey {
                &self.key
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                match PublicKey::from_pem(text) {
                    Some(key @ $pattern) => Ok(Self { pem: text.into(), key }),
                    _ => Err(Malformed),
                }
            }
        }
    )+};
}

key_types! {
    /// An RSA public key of 2048 to 4096 bits, in PEM.
    RsaPublicKey = PublicKey::Rsa { .. },
    /// An elliptic-curve public key on P-256 or P-384, in PEM.
    EcdsaPublicKey = PublicKey::P256(_) | PublicKey::P384(_),
    /// An Ed25519 public key, in PEM.
    Ed25519PublicKey = PublicKey::Ed25519(_),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsa_keys_have_a_length_and_an_exponent_that_protect() {
        let modulus = |bytes: usize| {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = 0x80;
            modulus
        };
        assert!(PublicKey::rsa(&modulus(256), &[1, 0, 1]).is_some());
        assert!(PublicKey::rsa(&[&[0], &modulus(512)[..]].concat(), &[0, 3]).is_some(), "leading zeros");
        for (modulus, exponent) in [
            (modulus(255), vec![1, 0, 1]),
            (modulus(513), vec![1, 0, 1]),
            (modulus(256), vec![1]),
            (modulus(256), vec![2]),
            (modulus(256), vec![]),
            (modulus(256), vec![1, 0, 0, 0, 1]),
            (vec![], vec![3]),
            ([&modulus(255)[..], &[0]].concat(), vec![3]),
        ] {
            assert_eq!(PublicKey::rsa(&modulus, &exponent), None, "{} {exponent:?}", modulus.len());
        }
    }

    #[test]
    fn points_and_short_keys_are_refused_before_anybody_computes_with_them() {
        assert_eq!(PublicKey::p256(vec![4; 64]), None);
        assert_eq!(PublicKey::p256(vec![2; 65]), None, "compressed");
        assert_eq!(PublicKey::p384(vec![4; 65]), None);
        assert_eq!(PublicKey::ed25519(&[1; 31]), None);
        assert_eq!(PublicKey::ed25519(&[1; 33]), None);
        for pem in ["", "key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
            assert_eq!(PublicKey::from_pem(pem), None);
        }
    }
}
