//! The calls of the API.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::batch::BatchRequest;
use super::pb::api as pb;
use super::pb::api::centrifugo_api_server::CentrifugoApi;
use super::status::{mixed_up, mode_of, status_of};
use crate::api::{Answer, Api, Command};
use crate::config::ErrorMode;

/// The API of the node.
#[derive(Debug)]
pub(super) struct Service {
    api: Arc<Api>,
    error_mode: ErrorMode,
}

impl Service {
    pub(super) fn new(api: Arc<Api>, error_mode: ErrorMode) -> Self {
        Self { api, error_mode }
    }
}

macro_rules! calls {
    ($($call:ident = $variant:ident($request:ident) -> $response:ident,)+) => {
        #[tonic::async_trait]
        impl CentrifugoApi for Service {
            async fn batch(&self, request: Request<BatchRequest>) -> Result<Response<pb::BatchResponse>, Status> {
                request.into_inner().run(&self.api).await.map(Response::new)
            }

            $(
                async fn $call(
                    &self,
                    request: Request<pb::$request>,
                ) -> Result<Response<pb::$response>, Status> {
                    let mode = mode_of(self.error_mode, request.metadata());
                    let answered = match Command::$variant(request.into_inner().into()).run(&self.api).await {
                        Ok(Answer::$variant(answer)) => Ok(answer),
                        Ok(_) => Err(mixed_up()),
                        Err(error) => Err(error),
                    };
                    match (answered, mode) {
                        (Ok(answer), _) => {
                            Ok(Response::new(pb::$response { error: None, result: Some(answer.into()) }))
                        }
                        (Err(error), ErrorMode::Body) => {
                            Ok(Response::new(pb::$response { error: Some(error.into()), result: None }))
                        }
                        (Err(error), ErrorMode::Transport) => Err(status_of(&error)),
                    }
                }
            )+
        }
    };
}

calls! {
    publish = Publish(PublishRequest) -> PublishResponse,
    broadcast = Broadcast(BroadcastRequest) -> BroadcastResponse,
    subscribe = Subscribe(SubscribeRequest) -> SubscribeResponse,
    unsubscribe = Unsubscribe(UnsubscribeRequest) -> UnsubscribeResponse,
    disconnect = Disconnect(DisconnectRequest) -> DisconnectResponse,
    presence = Presence(PresenceRequest) -> PresenceResponse,
    presence_stats = PresenceStats(PresenceStatsRequest) -> PresenceStatsResponse,
    history = History(HistoryRequest) -> HistoryResponse,
    history_remove = HistoryRemove(HistoryRemoveRequest) -> HistoryRemoveResponse,
    info = Info(InfoRequest) -> InfoResponse,
    rpc = Rpc(RpcRequest) -> RpcResponse,
    refresh = Refresh(RefreshRequest) -> RefreshResponse,
    channels = Channels(ChannelsRequest) -> ChannelsResponse,
    connections = Connections(ConnectionsRequest) -> ConnectionsResponse,
    block_user = BlockUser(BlockUserRequest) -> BlockUserResponse,
    unblock_user = UnblockUser(UnblockUserRequest) -> UnblockUserResponse,
    revoke_token = RevokeToken(RevokeTokenRequest) -> RevokeTokenResponse,
    invalidate_user_tokens = InvalidateUserTokens(InvalidateUserTokensRequest) -> InvalidateUserTokensResponse,
    schedule_list = ScheduleList(ScheduleListRequest) -> ScheduleListResponse,
    schedule_cancel = ScheduleCancel(ScheduleCancelRequest) -> ScheduleCancelResponse,
}
