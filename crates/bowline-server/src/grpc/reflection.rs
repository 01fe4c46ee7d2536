//! What there is to call, for tools such as grpcurl: both versions of the protocol of reflection.
//!
//! A stream of questions, each answered as it comes, within the call: nothing is spawned for it. Descriptors tell how a
//! message looks, not what is in the server.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::{Request, Response, Status, Streaming};
use tonic_reflection::pb::{v1, v1alpha};

use super::pb::API_DESCRIPTORS;
use crate::net::Shared;

/// Answers about the messages and services of the API.
#[derive(Clone, Debug)]
pub(super) struct Reflection {
    files: Arc<Files>,
    shared: Shared,
}

/// Descriptors, encoded.
#[derive(Debug, Default)]
struct Files {
    by_name: HashMap<String, Vec<u8>>,
    /// The file of each message, service and method, by its whole name.
    of_symbol: HashMap<String, String>,
    services: Vec<String>,
}

/// What is asked, in either version.
enum Question {
    FileByName(String),
    FileOf(String),
    Services,
    Extension,
}

/// What is answered, in either version.
enum Answer {
    File(Vec<u8>),
    Services(Vec<String>),
    NotFound(String),
}

impl Reflection {
    pub(super) fn new(shared: Shared) -> Self {
        let sets = [API_DESCRIPTORS, v1::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
        let mut files = Files::default();
        for set in sets {
            let set = FileDescriptorSet::decode(set).expect("descriptors are written by the generator");
            set.file.into_iter().for_each(|file| files.add(&file));
        }
        Self { files: Arc::new(files), shared }
    }
}

impl Files {
    fn add(&mut self, file: &FileDescriptorProto) {
        let whole = |name: &str| format!("{}.{name}", file.package());
        let mut symbols: Vec<String> =
            file.message_type.iter().map(|message| whole(message.name())).collect();
        symbols.extend(file.enum_type.iter().map(|enumeration| whole(enumeration.name())));
        for service in &file.service {
            let name = whole(service.name());
            symbols.extend(service.method.iter().map(|method| format!("{name}.{}", method.name())));
            self.services.push(name.clone());
            symbols.push(name);
        }
        self.of_symbol.extend(symbols.into_iter().map(|symbol| (symbol, file.name().to_owned())));
        self.by_name.insert(file.name().to_owned(), file.encode_to_vec());
    }

    fn answer(&self, question: &Question) -> Answer {
        let file = |name: &str| self.by_name.get(name).map(|file| Answer::File(file.clone()));
        match question {
            Question::Services => Answer::Services(self.services.clone()),
            Question::FileByName(name) => {
                file(name).unwrap_or_else(|| Answer::NotFound(format!("there is no file {name}")))
            }
            Question::FileOf(symbol) => {
                let found = self.of_symbol.get(symbol).and_then(|name| file(name));
                found.unwrap_or_else(|| Answer::NotFound(format!("there is no {symbol}")))
            }
            Question::Extension => Answer::NotFound("there are no extensions".to_owned()),
        }
    }
}

macro_rules! versions {
    ($($version:ident)+) => {$(
        #[tonic::async_trait]
        impl $version::server_reflection_server::ServerReflection for Reflection {
            type ServerReflectionInfoStream =
                Pin<Box<dyn Stream<Item = Result<$version::ServerReflectionResponse, Status>> + Send>>;

            async fn server_reflection_info(
                &self,
                request: Request<Streaming<$version::ServerReflectionRequest>>,
            ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                use $version::server_reflection_request::MessageRequest as Asked;
                use $version::server_reflection_response::MessageResponse as Answered;

                let files = Arc::clone(&self.files);
                let answer = move |request: $version::ServerReflectionRequest| {
                    let question = match request.message_request.as_ref() {
                        Some(Asked::FileByFilename(name)) => Question::FileByName(name.clone()),
                        Some(Asked::FileContainingSymbol(symbol)) => Question::FileOf(symbol.clone()),
                        Some(Asked::ListServices(_)) => Question::Services,
                        Some(Asked::FileContainingExtension(_) | Asked::AllExtensionNumbersOfType(_)) => {
                            Question::Extension
                        }
                        None => return Err(Status::invalid_argument("nothing is asked")),
                    };
                    let answered = match files.answer(&question) {
                        Answer::File(file) => Answered::FileDescriptorResponse($version::FileDescriptorResponse {
                            file_descriptor_proto: vec![file.into()],
                        }),
                        Answer::Services(names) => {
                            let service = names.into_iter().map(|name| $version::ServiceResponse { name }).collect();
                            Answered::ListServicesResponse($version::ListServiceResponse { service })
                        }
                        Answer::NotFound(error_message) => Answered::ErrorResponse($version::ErrorResponse {
                            error_code: tonic::Code::NotFound as i32,
                            error_message,
                        }),
                    };
                    Ok($version::ServerReflectionResponse {
                        valid_host: request.host.clone(),
                        original_request: Some(request),
                        message_response: Some(answered),
                    })
                };
                // A tool that keeps its stream open must not keep the server from stopping.
                let questions = request.into_inner().take_until(Box::pin(self.shared.stopped()));
                Ok(Response::new(Box::pin(questions.map(move |question| question.and_then(&answer)))))
            }
        }
    )+};
}

versions!(v1 v1alpha);
