//! The path of a publication: check the data, append, wait for the commit (`line`), encode once for each wire, fan out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_protocol::{ClientInfo, ErrorCode, Payload, Publication, Push};
use bowline_store::{
    Append, Appended, Commit, CommitError, Durability, Position, Publisher, Receipt, Retention, StoreError,
    Version,
};

use super::Node;
use super::channel::{Channel, State};
use super::forms::Forms;
use super::line::{Late, Place};
use super::resolve::ResolvedChannel;
use crate::config::{ChannelOptions, DataFormat};
use crate::store;

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
    /// Lets members that negotiated deltas get the difference to the publication before.
    pub(crate) makes_delta: bool,
}

impl Node {
    /// Gives the publication its place in `channel`; the receipt says when it is kept and delivered, and then its position, if
    /// it is kept in history.
    ///
    /// A repeat of an idempotency key and an old version are no errors: they answer the position the caller would
    /// have found, and deliver nothing.
    pub(crate) fn publish_into(
        &self,
        channel: &ResolvedChannel<'_>,
        mut outgoing: Outgoing<'_>,
    ) -> Result<Receipt<Option<Position>>, ErrorCode> {
        let options = channel.options();
        outgoing.makes_delta |= options.delta_publish;
        check_format(options.publication_data_format, &outgoing.data)?;
        let retention = if outgoing.skip_history { None } else { self.retention(options) };
        let durability = self.durability(options);
        let published = self.hub.with_channel(channel.as_str(), |place, state| {
            self.append_and_deliver(place, state, outgoing, retention, durability)
        });
        published.map_err(|error| self.store_failed(channel.as_str(), &error))
    }

    /// Appends and fans out under the channel's lock, which makes the order of offsets the order of delivery. What is not
    /// committed at once is left to the channel's line.
    fn append_and_deliver(
        &self,
        channel: &Arc<Channel>,
        state: &mut State,
        outgoing: Outgoing<'_>,
        retention: Option<Retention>,
        durability: Durability,
    ) -> Result<Receipt<Option<Position>>, StoreError> {
        // Without history and key there is nothing to ask the store: most channels of most deployments.
        let asks_store = retention.is_some() || outgoing.idempotency_key.is_some();
        let lines = self.lines.get().filter(|_| asks_store || state.awaits_delivery());
        let place = lines.map(|lines| lines.reserve(channel, durability, outgoing.data.len())).transpose()?;
        let receipt = if asks_store {
            self.store.append(Append {
                channel: &channel.name,
                publication: to_store(&outgoing, retention.is_some()),
                retention,
                idempotency_key: outgoing.idempotency_key,
                // A version is compared with those of kept publications only.
                version: outgoing.version.filter(|_| retention.is_some()),
                durability: Some(durability),
            })?
        } else {
            Receipt::committed(Appended::NotKept)
        };
        let taken = if state.awaits_delivery() { Err(receipt) } else { receipt.try_take() };
        let receipt = match taken {
            Ok(appended) => {
                let (position, is_new) = placed(appended?);
                if is_new {
                    let makes_delta = outgoing.makes_delta;
                    let forms =
                        (!state.is_empty()).then(|| forms(&channel.name, outgoing, position.as_ref()));
                    self.deliver(channel, state, forms, makes_delta, position.as_ref());
                }
                return Ok(Receipt::committed(position));
            }
            Err(receipt) => receipt,
        };
        let Some(Place { permit, room }) = place else {
            return Err(StoreError::Closed); // on disk, and the server does not run: nobody would deliver it
        };
        let (position, is_new) = placed(receipt.outcome().clone());
        let makes_delta = outgoing.makes_delta;
        let forms = is_new.then(|| forms(&channel.name, outgoing, position.as_ref()));
        let told = Commit::new();
        let answer = told.receipt(position);
        let channel = Arc::clone(channel);
        // If the line was closed meanwhile, what is in it is dropped, and the answer says so.
        if permit.send(Late { channel, receipt, forms, makes_delta, told, room }).is_ok() {
            state.await_delivery();
        }
        Ok(answer)
    }

    /// Delivers what has waited for its commit and is committed, unless it was there before.
    pub(super) fn deliver_late(
        &self,
        channel: &Arc<Channel>,
        forms: Option<Forms>,
        makes_delta: bool,
        position: Option<&Position>,
    ) {
        self.hub.within(channel, |channel, state| {
            state.has_delivered();
            if forms.is_some() {
                self.deliver(channel, state, forms, makes_delta, position);
            }
        });
    }

    /// Takes notice that what has waited for its commit is not kept, which its publisher is told.
    pub(super) fn not_kept(&self, channel: &Arc<Channel>, error: &CommitError) {
        tracing::debug!(channel = &*channel.name, %error, "a publication was not kept");
        self.counters.store_refusals.add(1);
        self.hub.within(channel, |_, state| state.has_delivered());
    }

    /// Delivers a new publication, in `forms` if there is anybody.
    fn deliver(
        &self,
        channel: &Channel,
        state: &mut State,
        forms: Option<Forms>,
        makes_delta: bool,
        position: Option<&Position>,
    ) {
        self.counters.publications.add(1);
        if let Some(mut forms) = forms
            && !state.is_empty()
        {
            state.deliver(channel, &mut forms, makes_delta, position, &self.counters);
        }
    }

    /// What publications into channels with these options survive once they are acknowledged.
    fn durability(&self, options: &ChannelOptions) -> Durability {
        let settings = &self.config.store;
        store::durability(options.history_durability.unwrap_or(settings.durability), settings)
    }

    /// Logs a failure of the store; the client learns whether it may try again.
    pub(crate) fn store_failed(&self, channel: &str, error: &StoreError) -> ErrorCode {
        match error {
            // An alert stands for as long as that is so.
            StoreError::DiskFull | StoreError::Overloaded { .. } => {
                tracing::debug!(channel, %error, "a publication was refused");
            }
            _ => tracing::error!(channel, %error, "the store failed"),
        }
        self.counters.store_refusals.add(1);
        match error {
            StoreError::Overloaded { .. } => ErrorCode::TOO_MANY_REQUESTS,
            StoreError::TooLarge { .. } => ErrorCode::LIMIT_EXCEEDED,
            StoreError::DiskFull => disk_full(),
            _ => ErrorCode::INTERNAL,
        }
    }
}

/// The position that a publisher is told, and whether there is something to deliver.
pub(super) fn placed(appended: Appended) -> (Option<Position>, bool) {
    match appended {
        Appended::Kept(position) => (Some(position), true),
        Appended::NotKept => (None, true),
        Appended::Duplicate(position) => (position, false),
        Appended::Stale(top) => (Some(top), false),
    }
}

/// What publishers learn of what was not committed: they may try again, and an idempotency key makes that safe.
pub(crate) fn not_committed(error: &CommitError) -> ErrorCode {
    match error {
        CommitError::DiskFull => disk_full(),
        _ => ErrorCode::INTERNAL,
    }
}

fn disk_full() -> ErrorCode {
    ErrorCode { message: "the disk of the server is full".into(), ..ErrorCode::INTERNAL }
}

/// Checks data against the namespace's format; without one, only missing data is refused.
pub(crate) fn check_format(format: Option<DataFormat>, data: &Payload) -> Result<(), ErrorCode> {
    let fits = match format {
        Some(DataFormat::Binary) => true,
        None => !data.is_empty(),
        Some(DataFormat::Json) => data.to_json().is_ok(),
        Some(DataFormat::JsonObject) => data.to_json().is_ok_and(|json| json.as_bytes().starts_with(b"{")),
    };
    if fits { Ok(()) } else { Err(ErrorCode::BAD_REQUEST) }
}

fn forms(channel: &Arc<str>, outgoing: Outgoing<'_>, position: Option<&Position>) -> Forms {
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
    Forms::new(Push::Publication { channel: Arc::clone(channel), publication }, payload_bytes)
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
