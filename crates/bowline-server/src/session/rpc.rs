//! The rpc command: the server's own ping, and methods that an application answers.

use bowline_protocol::{CommandId, CommandResult, Disconnect, ErrorCode, Payload, RpcRequest, RpcResult};
use bytes::Bytes;

use super::Session;
use super::rejection::Rejection;
use crate::config::RpcOptions;
use crate::proxy::{Refused, RpcQuestion};

impl Session {
    /// What an application has to be asked before the command can be answered.
    pub(super) fn rpc_question(&self, request: &RpcRequest) -> Option<RpcQuestion> {
        if request.method.is_empty() {
            return None;
        }
        let options = self.rpc_options(&request.method)?;
        self.node.proxies().rpc(options, || self.about(), request)
    }

    /// Answers what was asked.
    pub(super) fn answer_rpc(
        &self,
        id: CommandId,
        answered: Result<Payload, Refused>,
    ) -> Result<(), Disconnect> {
        let answered = answered.map_err(Rejection::from);
        let answered = answered.and_then(|data| self.answer(id, CommandResult::Rpc(RpcResult { data })));
        self.settle(id, answered)
    }

    /// Answers a method that no application answers.
    pub(super) fn rpc(&self, request: &RpcRequest) -> Result<CommandResult, Rejection> {
        let settings = &self.node.config().rpc;
        if settings.ping.enabled && request.method == settings.ping.method {
            let data = Payload::from_checked_json(Bytes::from_static(b"{}"));
            return Ok(CommandResult::Rpc(RpcResult { data }));
        }
        // With no namespace at all, calls are off, and which one was meant does not matter.
        if !settings.namespaces.is_empty() && self.rpc_options(&request.method).is_none() {
            return Err(ErrorCode::METHOD_NOT_FOUND.into());
        }
        Err(ErrorCode::NOT_AVAILABLE.into())
    }

    /// The options of a method's namespace; `None` if there is no such namespace, or the server itself answers.
    fn rpc_options(&self, method: &str) -> Option<&RpcOptions> {
        let settings = &self.node.config().rpc;
        if settings.ping.enabled && method == settings.ping.method {
            return None;
        }
        match method.split_once(&*settings.namespace_boundary) {
            None => Some(&settings.without_namespace),
            Some((name, _)) => {
                settings.namespaces.iter().find(|space| *space.name == *name).map(|space| &space.options)
            }
        }
    }
}
