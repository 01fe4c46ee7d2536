//! A session's hold on one subscription: pending at first, live once answered, gone when dropped.

use std::sync::Arc;
use std::time::Duration;

use bowline_protocol::{ClientInfo, UnsubscribeCode};
use bowline_store::{Position, StoreError};

use super::Node;
use super::channel::{Channel, Intake, LostPosition, Member, Role};
use super::frame::Frame;
use super::outbox::Outbox;

/// One subscription of one connection. Dropping it takes the member out of the channel and announces its leaving.
#[derive(Debug)]
pub(crate) struct Membership {
    node: Arc<Node>,
    channel: Arc<Channel>,
    member: Arc<Member>,
}

impl Membership {
    /// Takes a pending place in the channel called `name`: from here on its publications are held back for
    /// `outbox`, so what is read of the stream next and what was held back leave no gap between them.
    pub(crate) fn begin(
        node: &Arc<Node>,
        name: &str,
        info: Arc<ClientInfo>,
        role: Role,
        intake: Intake,
        outbox: &Outbox,
    ) -> Self {
        let member = Member::new(info, role, intake);
        let channel = node.hub.with_channel(name, |channel, state| {
            state.seat(&member, outbox.clone(), &node.counters);
            Arc::clone(channel)
        });
        Self { node: Arc::clone(node), channel, member }
    }

    /// Puts `answer` into the queue, what was held back behind it, and goes live.
    ///
    /// `start` is the position that the answer tells a positioned subscriber. There is no answer if the queue holds
    /// it already.
    ///
    /// # Errors
    ///
    /// [`LostPosition`] if what was held back does not continue `start`. Nothing was put into the queue.
    pub(crate) fn go_live(&self, start: Option<Position>, answer: Option<Frame>) -> Result<(), LostPosition> {
        self.node
            .hub
            .within(&self.channel, |channel, state| {
                state.go_live(channel, &self.member, start, answer, &self.node.counters)
            })
            .unwrap_or(Err(LostPosition))
    }

    /// Whether the subscription still stands where its stream is; the stream is remembered for longer.
    ///
    /// # Errors
    ///
    /// As the store's read.
    pub(crate) fn has_position(&self, meta_ttl: Duration) -> Result<bool, StoreError> {
        self.node
            .hub
            .within(&self.channel, |channel, state| {
                let top = self.node.store.position(&channel.name, meta_ttl)?;
                Ok(state.stands_at(&self.member, &top))
            })
            .unwrap_or(Ok(true))
    }

    /// Ends the subscription from the server's side and tells the client `code`.
    pub(crate) fn end(&self, code: &UnsubscribeCode) {
        self.node.hub.within(&self.channel, |channel, state| {
            state.end(channel, &self.member, code, &self.node.counters);
        });
    }

    pub(crate) fn channel(&self) -> &Arc<str> {
        &self.channel.name
    }

    pub(crate) fn info(&self) -> &Arc<ClientInfo> {
        &self.member.info
    }

    pub(crate) fn role(&self) -> Role {
        self.member.role
    }

    /// Whether the node ended the subscription: the client was told, and the session forgets it.
    pub(crate) fn has_ended(&self) -> bool {
        self.member.has_ended()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        self.node.hub.within(&self.channel, |channel, state| {
            state.leave(channel, &self.member, &self.node.counters);
        });
    }
}
