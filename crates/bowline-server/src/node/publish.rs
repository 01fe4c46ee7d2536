//! The path of a publication: check the data, append, encode once, fan out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_protocol::{ClientInfo, ErrorCode, Payload, Publication, Push};
use bowline_store::{Append, Appended, Position, Publisher, Retention, StoreError, Version};

use super::Node;
use super::channel::{Channel, State};
use super::frame::Frame;
use super::resolve::ResolvedChannel;
use crate::config::DataFormat;

/// Room for the fixed parts of a publication's push, so that encoding one allocates once.
const PUSH_BYTES: usize = 96;

/// One publication on its way into a channel, with everything but the permission checked by [`Node::publish_into`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing<'a> {
    pub(crate) data: Payload,
    /// The publishing client; `None` for the server API.
    pub(crate) info: Option<Arc<ClientInfo>>,
    pub(crate) tags: BTreeMap<String, String>,
    /// Delivers without keeping it in history.
    pub(crate) skip_history: bool,
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) version: Option<Version<'a>>,
}

impl Node {
    /// Publishes into `channel` and answers the position, if the publication is kept in history.
    ///
    /// A repeat of an idempotency key and an old version are no errors: they answer the position the caller would
    /// have found, and deliver nothing.
    pub(crate) fn publish_into(
        &self,
        channel: &ResolvedChannel<'_>,
        outgoing: Outgoing<'_>,
    ) -> Result<Option<Position>, ErrorCode> {
        check_format(channel.options().publication_data_format, &outgoing.data)?;
        let retention = if outgoing.skip_history { None } else { self.retention(channel.options()) };
        let published = self.hub.with_channel(channel.as_str(), |place, state| {
            self.append_and_deliver(place, state, outgoing, retention)
        });
        published.map_err(|error| self.store_failed(channel.as_str(), &error))
    }

    /// Appends and fans out under the channel's lock, which makes the order of offsets the order of delivery.
    fn append_and_deliver(
        &self,
        channel: &Channel,
        state: &mut State,
        outgoing: Outgoing<'_>,
        retention: Option<Retention>,
    ) -> Result<Option<Position>, StoreError> {
        // Without history and key there is nothing to ask the store: most channels of most deployments.
        let position = if retention.is_none() && outgoing.idempotency_key.is_none() {
            None
        } else {
            let append = Append {
                channel: &channel.name,
                publication: to_store(&outgoing, retention.is_some()),
                retention,
                idempotency_key: outgoing.idempotency_key,
                // A version is compared with those of kept publications only.
                version: outgoing.version.filter(|_| retention.is_some()),
            };
            match self.store.append(append)? {
                Appended::Kept(position) => Some(position),
                Appended::NotKept => None,
                Appended::Duplicate(position) => return Ok(position),
                Appended::Stale(top) => return Ok(Some(top)),
            }
        };
        self.counters.publications.add(1);
        if !state.is_vacant() {
            let frame = encode(&channel.name, outgoing, position.as_ref());
            match frame {
                Ok(frame) => state.deliver(channel, &frame, position.as_ref(), &self.counters),
                Err(_) => state.refuse_inexpressible(&self.counters),
            }
        }
        Ok(position)
    }

    /// Logs a failure of the store; the client learns that it may try again.
    pub(crate) fn store_failed(&self, channel: &str, error: &StoreError) -> ErrorCode {
        tracing::error!(channel, %error, "the store failed");
        ErrorCode::INTERNAL
    }
}

/// Checks data against the namespace's format; without one, only missing data is refused.
fn check_format(format: Option<DataFormat>, data: &Payload) -> Result<(), ErrorCode> {
    let fits = match format {
        Some(DataFormat::Binary) => true,
        None => !data.is_empty(),
        Some(DataFormat::Json) => data.to_json().is_ok(),
        Some(DataFormat::JsonObject) => data.to_json().is_ok_and(|json| json.as_bytes().starts_with(b"{")),
    };
    if fits { Ok(()) } else { Err(ErrorCode::BAD_REQUEST) }
}

fn encode(
    channel: &Arc<str>,
    outgoing: Outgoing<'_>,
    position: Option<&Position>,
) -> Result<Frame, bowline_protocol::NotJson> {
    let payload_bytes = PUSH_BYTES
        + channel.len()
        + outgoing.data.len()
        + outgoing.info.as_ref().map_or(0, |info| 96 + info.conn_info.len() + info.chan_info.len())
        + outgoing.tags.iter().map(|(key, value)| 6 + key.len() + value.len()).sum::<usize>();
    let publication = Publication {
        data: outgoing.data,
        info: outgoing.info,
        offset: position.map_or(0, |position| position.offset),
        tags: outgoing.tags,
        // Only a reader of the stream's first publication may not know the epoch yet.
        epoch: position
            .filter(|position| position.offset == 1)
            .map(|position| position.epoch.to_string())
            .unwrap_or_default(),
        ..Publication::default()
    };
    Frame::push(Push::Publication { channel: Arc::clone(channel), publication }, payload_bytes)
}

/// The form in which the store keeps a publication; data alone if it only looks at the idempotency key.
fn to_store(outgoing: &Outgoing<'_>, is_kept: bool) -> bowline_store::Publication {
    if !is_kept {
        return bowline_store::Publication::new(bytes::Bytes::new());
    }
    let some = |payload: &Payload| (!payload.is_empty()).then(|| payload.clone().into_bytes());
    let info = outgoing.info.as_ref().map(|info| {
        Arc::new(Publisher {
            user: info.user.as_str().into(),
            client: info.client.as_str().into(),
            conn_info: some(&info.conn_info),
            chan_info: some(&info.chan_info),
        })
    });
    let tags = (!outgoing.tags.is_empty()).then(|| Arc::new(outgoing.tags.clone()));
    bowline_store::Publication { data: outgoing.data.clone().into_bytes(), info, tags }
}

/// The form in which a client or the server API reads a kept publication.
pub(crate) fn from_store(kept: bowline_store::Kept) -> Publication {
    let bowline_store::Publication { data, info, tags } = kept.publication;
    // Opaque, so that the encoder looks at it: a store is outside, and its bytes must not forge a message.
    let payload = |bytes: Option<bytes::Bytes>| bytes.map_or(Payload::EMPTY, Payload::opaque);
    let info = info.map(|info| {
        Arc::new(ClientInfo {
            user: info.user.to_string(),
            client: info.client.to_string(),
            conn_info: payload(info.conn_info.clone()),
            chan_info: payload(info.chan_info.clone()),
        })
    });
    Publication {
        data: Payload::opaque(data),
        info,
        offset: kept.offset,
        tags: tags.map(Arc::unwrap_or_clone).unwrap_or_default(),
        ..Publication::default()
    }
}
