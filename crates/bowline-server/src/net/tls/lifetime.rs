//! When a certificate ends.

use std::time::Duration;

use spki::der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use spki::der::{Decode as _, Error, Reader, SliceReader, Tag};

/// When the certificate `der` ends, as time since 1970; `None` if that cannot be read.
///
/// Source: RFC 5280 §4.1.
pub(super) fn not_after(der: &[u8]) -> Option<Duration> {
    let certificate = |reader: &mut SliceReader<'_>| {
        reader.sequence(|certificate| {
            let not_after = certificate.sequence(|signed| {
                if signed.peek_tag()?.is_context_specific() {
                    AnyRef::decode(signed)?; // version
                }
                for _serial_algorithm_issuer in 0..3 {
                    AnyRef::decode(signed)?;
                }
                let not_after = signed.sequence(|validity| {
                    AnyRef::decode(validity)?; // not before
                    time(validity)
                })?;
                skip(signed)?;
                Ok(not_after)
            })?;
            skip(certificate)?;
            Ok(not_after)
        })
    };
    SliceReader::new(der).and_then(|mut reader| certificate(&mut reader)).ok()
}

fn time<'r>(reader: &mut impl Reader<'r>) -> Result<Duration, Error> {
    match reader.peek_tag()? {
        Tag::UtcTime => UtcTime::decode(reader).map(|time| time.to_unix_duration()),
        _ => GeneralizedTime::decode(reader).map(|time| time.to_unix_duration()),
    }
}

fn skip<'r>(reader: &mut impl Reader<'r>) -> Result<(), Error> {
    while !reader.is_finished() {
        AnyRef::decode(reader)?;
    }
    Ok(())
}
