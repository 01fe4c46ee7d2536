//! What all kinds of questions have in common.

use bowline_protocol::{ErrorCode, Payload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::about::About;
use super::answer::Refused;

/// A question about one kind of event.
pub(super) trait Event: Send + Sync {
    /// What an application answers.
    type Answer: DeserializeOwned + Send;

    /// What is asked besides what every question says.
    fn fields(&self) -> Fields<'_>;
}

/// What a question says besides what every one does. `None` and empty data are left out.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Fields<'a> {
    /// Who connects is not known yet.
    #[serde(skip)]
    pub(super) is_connect: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) version: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) channels: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<&'a str>,
    #[serde(skip)]
    pub(super) data: Option<&'a Payload>,
}

/// A question in JSON.
#[derive(Serialize)]
struct Question<'a> {
    client: &'a str,
    transport: &'static str,
    protocol: &'static str,
    encoding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(flatten)]
    fields: Fields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
}

/// How an application wants to be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) is_binary: bool,
    pub(super) has_meta: bool,
}

impl Form {
    /// How application data is encoded in the question.
    pub(super) fn encoding(self) -> &'static str {
        if self.is_binary { "binary" } else { "json" }
    }
}

/// Writes a question in JSON. A client that sends something else to an application that wants JSON made a mistake.
pub(super) fn to_json(form: Form, about: &About, event: &impl Event) -> Result<Vec<u8>, Refused> {
    let fields = event.fields();
    let data = fields.data.filter(|data| !data.is_empty());
    let json = data.filter(|_| !form.is_binary).map(|data| serde_json::from_slice(data.as_bytes()));
    let meta = Some(&about.meta).filter(|meta| form.has_meta && !fields.is_connect && !meta.is_empty());
    let question = Question {
        client: &about.client,
        transport: about.transport,
        protocol: about.protocol,
        encoding: form.encoding(),
        user: (!fields.is_connect).then_some(&about.user),
        fields,
        data: json.transpose().map_err(|_| Refused::Error(ErrorCode::BAD_REQUEST))?,
        b64data: data.filter(|_| form.is_binary).map(|data| BASE64_STANDARD.encode(data.as_bytes())),
        // It was JSON when it came.
        meta: meta.and_then(|meta| serde_json::from_slice(meta.as_bytes()).ok()),
    };
    serde_json::to_vec(&question).map_err(|_| Refused::Error(ErrorCode::INTERNAL))
}
