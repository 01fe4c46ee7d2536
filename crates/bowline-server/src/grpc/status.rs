//! Failures: in the response, or as statuses.

use bowline_protocol::ErrorCode;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::pb::api as pb;
use crate::api::error_mode;
use crate::config::ErrorMode;
use crate::node::ApiError;

impl From<ApiError> for pb::Error {
    fn from(error: ApiError) -> Self {
        Self { code: error.code, message: error.message.into_owned() }
    }
}

/// How failures of one call are reported: as configured, unless its metadata asks for statuses.
pub(super) fn mode_of(configured: ErrorMode, metadata: &MetadataMap) -> ErrorMode {
    error_mode(configured, metadata.as_ref())
}

/// The status that stands for an error.
pub(super) fn status_of(error: &ApiError) -> Status {
    let code = match error.code {
        102 | 104 => Code::NotFound,
        107 | 108 => Code::InvalidArgument,
        112 => Code::OutOfRange,
        113 => Code::AlreadyExists,
        _ => Code::Internal,
    };
    Status::new(code, error.message.clone().into_owned())
}

/// What cannot happen: an answer that is not of the method that was called.
pub(super) fn mixed_up() -> ApiError {
    ErrorCode::INTERNAL.into()
}
