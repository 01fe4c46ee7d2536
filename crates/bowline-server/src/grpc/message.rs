//! Messages as gRPC has them in a body: a mark whether it is compressed, the length in four bytes, the message.

use std::error::Error;

use bytes::{Buf as _, BufMut as _, Bytes};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use tonic::Status;

/// Bytes before each message.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Appends what stands before a message of `length` bytes.
pub(crate) fn put_prefix(length: usize, out: &mut Vec<u8>) {
    out.put_u8(0);
    // A message of four gigabytes does not get this far: queues and answers are bounded below.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Reads a body that is one message, of at most `max_bytes`.
///
/// # Errors
///
/// The status that says what is wrong with it.
pub(crate) async fn read_one<B>(body: B, max_bytes: usize) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let too_long = || Status::out_of_range(format!("the message is longer than {max_bytes} bytes"));
    let limit = max_bytes.saturating_add(PREFIX_BYTES);
    let mut body = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_long()),
        Err(_) => return Err(Status::cancelled("the message is not complete")),
    };
    if body.len() < PREFIX_BYTES {
        return Err(Status::internal("there is no message"));
    }
    let (is_compressed, length) = (body.get_u8() != 0, body.get_u32());
    if is_compressed {
        return Err(Status::unimplemented("compressed messages are not read"));
    }
    match body.len() as u64 == u64::from(length) {
        true => Ok(body),
        false => Err(Status::internal("the body is not one whole message")),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_body_is_one_whole_message_or_says_why_not() {
        let mut whole = Vec::new();
        put_prefix(3, &mut whole);
        whole.extend_from_slice(b"abc");
        let read = async |body: &[u8]| read_one(Full::new(Bytes::copy_from_slice(body)), 3).await;
        assert_eq!(read(&whole).await.unwrap(), "abc");
        let code = async |body: &[u8]| read(body).await.unwrap_err().code();
        assert_eq!(code(b"").await, Code::Internal);
        assert_eq!(code(&whole[..7]).await, Code::Internal, "cut off");
        assert_eq!(code(&[&whole[..], b"d"].concat()).await, Code::OutOfRange);
        assert_eq!(code(&[1, 0, 0, 0, 0]).await, Code::Unimplemented, "compressed");
        assert_eq!(code(&[0, 0, 0, 0, 1, b'a', b'b']).await, Code::Internal, "two things in one body");
    }
}
