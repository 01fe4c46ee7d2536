//! Who may call, and which service is called.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service as _, StdError};
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::pb::{v1, v1alpha};

use super::pb::api::centrifugo_api_server::CentrifugoApiServer;
use super::reflection::Reflection;
use super::service::Service;
use crate::api::admits;
use crate::config::GrpcApi;
use crate::net::Shared;

/// The services of the listener.
#[derive(Debug)]
pub(super) struct Router {
    api: CentrifugoApiServer<Service>,
    health: HealthServer<HealthService>,
    reporter: HealthReporter,
    reflection: Option<Reflection>,
    shared: Shared,
}

impl Router {
    pub(super) fn new(shared: &Shared) -> Self {
        let config = settings(shared);
        let service = Service::new(Arc::clone(&shared.api), config.error_mode);
        let limit = config.max_receive_message_size.get();
        let reporter = HealthReporter::new();
        Self {
            api: CentrifugoApiServer::new(service).max_decoding_message_size(limit),
            health: HealthServer::new(HealthService::from_health_reporter(reporter.clone())),
            reporter,
            reflection: config.reflection.then(|| Reflection::new(shared.clone())),
            shared: shared.clone(),
        }
    }

    /// Answers one call. Health is asked by whoever runs the server, who has no key.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    {
        let path = request.uri().path();
        let service =
            path.strip_prefix('/').and_then(|path| path.split_once('/')).map(|(service, _)| service);
        if service == Some(<HealthServer<HealthService> as NamedService>::NAME) {
            return infallible(self.health.clone().call(request).await);
        }
        let config = settings(&self.shared);
        if !admits(config.insecure, config.keys(), request.headers(), None) {
            self.shared.api.count_unauthorized();
            return refuse(Status::unauthenticated(
                "metadata `authorization: apikey <key>` must hold the key of `grpc_api.key`",
            ));
        }
        match (service, &self.reflection) {
            (Some(<CentrifugoApiServer<Service> as NamedService>::NAME), _) => {
                infallible(self.api.clone().call(request).await)
            }
            (Some(v1::server_reflection_server::SERVICE_NAME), Some(reflection)) => {
                let mut server =
                    v1::server_reflection_server::ServerReflectionServer::new(reflection.clone());
                infallible(server.call(request).await)
            }
            (Some(v1alpha::server_reflection_server::SERVICE_NAME), Some(reflection)) => {
                let mut server =
                    v1alpha::server_reflection_server::ServerReflectionServer::new(reflection.clone());
                infallible(server.call(request).await)
            }
            _ => refuse(Status::unimplemented(format!("there is no {path} here"))),
        }
    }

    /// Tells those who watch the health that it ends, and lets them go.
    pub(super) async fn stop(&self) {
        let mut reporter = self.reporter.clone();
        reporter.set_service_status("", ServingStatus::NotServing).await;
        reporter.clear_service_status("").await;
    }
}

fn settings(shared: &Shared) -> &GrpcApi {
    &shared.node.config().grpc_api
}

fn refuse(status: Status) -> Response<Body> {
    status.into_http()
}

fn infallible(answer: Result<Response<Body>, std::convert::Infallible>) -> Response<Body> {
    match answer {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
