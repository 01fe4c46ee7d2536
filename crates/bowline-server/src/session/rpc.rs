//! The rpc command. There are no methods but the server's own ping, if that is switched on.

use bowline_protocol::{CommandResult, ErrorCode, Payload, RpcRequest, RpcResult};
use bytes::Bytes;

use super::Session;
use super::rejection::Rejection;

impl Session {
    pub(super) fn rpc(&self, request: &RpcRequest) -> Result<CommandResult, Rejection> {
        let settings = &self.node.config().rpc;
        if settings.ping.enabled && request.method == settings.ping.method {
            let data = Payload::from_checked_json(Bytes::from_static(b"{}"));
            return Ok(CommandResult::Rpc(RpcResult { data }));
        }
        let namespace =
            request.method.split_once(&*settings.namespace_boundary).map(|(namespace, _)| namespace);
        let is_known = |name: &str| settings.namespaces.iter().any(|namespace| *namespace.name == *name);
        match namespace {
            // With no namespace at all, calls are off, and which one was meant does not matter.
            Some(name) if !settings.namespaces.is_empty() && !is_known(name) => {
                Err(ErrorCode::METHOD_NOT_FOUND.into())
            }
            _ => Err(ErrorCode::NOT_AVAILABLE.into()),
        }
    }
}
