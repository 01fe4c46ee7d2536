//! The members of a channel, and what happens to them under its lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowline_protocol::{ClientInfo, Disconnect, Payload, Push, UnsubscribeCode};
use bowline_store::{Epoch, Position};

use super::held_back::{Held, HeldBack};
use super::{Channel, LostPosition, Member};
use crate::node::forms::{Forms, Shape};
use crate::node::frame::Frame;
use crate::node::outbox::{Outbox, PushError};
use crate::node::stats::{Counters, Refusal, Tally};

/// Room for the fixed parts of a push, so that encoding one allocates once.
const PUSH_BYTES: usize = 128;

/// What the channel's lock guards.
#[derive(Debug, Default)]
pub(crate) struct State {
    members: Vec<Seat>,
    /// The stream's epoch as of the last publication or positioned member.
    epoch: Option<Epoch>,
    /// Members that hear of joining and leaving.
    listeners: usize,
    /// Members that negotiated deltas.
    delta_members: usize,
    /// The data of the last publication, while there are such members: invariant 6.
    previous: Option<Payload>,
    /// Publications that have their place and are not delivered yet.
    undelivered: usize,
    /// Invariant 5.
    is_removed: bool,
}

/// A connection's place among the members. The membership holds the other reference.
#[derive(Debug)]
struct Seat {
    member: Arc<Member>,
    outbox: Outbox,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The subscription is not answered yet: invariant 2.
    Pending(Box<HeldBack>),
    /// Frames go to the queue; `next` is the offset to come for a positioned member, 0 for others.
    Live { next: u64, chain: Chain, is_filtered: bool },
}

/// What a live member can do with a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    /// Nothing: it did not negotiate deltas.
    Off,
    /// Nothing yet: it takes the next publication whole.
    Broken,
    /// It has the last publication.
    Whole,
}

impl Chain {
    fn shape(self) -> Shape {
        match self {
            Self::Off => Shape::Plain,
            Self::Broken => Shape::Whole,
            Self::Whole => Shape::Delta,
        }
    }

    /// After a publication that the member got, or did not.
    fn follow(&mut self, is_sent: bool) {
        if *self != Self::Off {
            *self = if is_sent { Self::Whole } else { Self::Broken };
        }
    }
}

impl Seat {
    /// In what shape the member takes `forms`; `None` if its filter does not let it through.
    fn shape(&self, forms: &Forms) -> Option<Shape> {
        let intake = &self.member.intake;
        let (shape, is_filtered) = match &self.phase {
            // What comes next is not known to follow what it has: what is held back goes whole.
            Phase::Pending(_) if intake.takes_delta => (Shape::Whole, intake.filter.is_some()),
            Phase::Pending(_) => (Shape::Plain, intake.filter.is_some()),
            // Here the member itself is not looked at: it would be a further cache line for each.
            Phase::Live { chain, is_filtered, .. } => (chain.shape(), *is_filtered),
        };
        let filter = if is_filtered { intake.filter.as_ref() } else { None };
        let passes = filter.zip(forms.publication()).is_none_or(|(filter, p)| filter.matches(&p.tags));
        passes.then_some(shape)
    }
}

impl State {
    /// Whether nobody is there and nothing is on its way; the table then forgets the channel.
    pub(crate) fn is_vacant(&self) -> bool {
        self.members.is_empty() && self.undelivered == 0
    }

    /// Whether there is nobody to deliver to.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether publications have their place and are not delivered yet: what comes next goes behind them.
    pub(crate) fn awaits_delivery(&self) -> bool {
        self.undelivered > 0
    }

    /// Notes that one more publication went into the channel's line.
    pub(crate) fn await_delivery(&mut self) {
        self.undelivered += 1;
    }

    /// Notes that one came out of it.
    pub(crate) fn has_delivered(&mut self) {
        self.undelivered = self.undelivered.saturating_sub(1);
    }

    /// Marks the channel as gone from the table; it is vacant.
    pub(crate) fn remove(&mut self) {
        self.is_removed = true;
    }

    pub(super) fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// Adds `member` as pending.
    pub(crate) fn seat(&mut self, member: &Arc<Member>, outbox: Outbox, counters: &Counters) {
        if self.members.is_empty() {
            counters.channels.increment();
            // Most channels of many deployments have one member: room for one, and from then on by doubling.
            self.members.reserve_exact(1);
        }
        self.listeners += usize::from(member.role.listens);
        self.delta_members += usize::from(member.intake.takes_delta);
        member.slot.store(self.members.len(), Ordering::Relaxed);
        let phase = Phase::Pending(Box::default());
        self.members.push(Seat { member: Arc::clone(member), outbox, phase });
    }

    /// Answers a pending member's subscription and lets it go live behind the answer.
    ///
    /// `start` is the position the answer tells a positioned member. The joining is announced last, so that the
    /// new member hears of itself after its answer.
    pub(crate) fn go_live(
        &mut self,
        channel: &Channel,
        member: &Arc<Member>,
        start: Option<Position>,
        answer: Option<Frame>,
        counters: &Counters,
    ) -> Result<(), LostPosition> {
        let Some(seat) = self.find(member) else { return Err(LostPosition) };
        let Phase::Pending(held_back) = &seat.phase else { return Err(LostPosition) };
        // Looked at first: a subscription that fails leaves no trace, so nothing may be in the queue yet.
        let mut next = held_back.check(start.as_ref())?;
        let mut chain = if member.intake.takes_delta { Chain::Broken } else { Chain::Off };
        let is_filtered = member.intake.filter.is_some();
        let live = Phase::Live { next: 0, chain, is_filtered };
        let Phase::Pending(held_back) = std::mem::replace(&mut seat.phase, live) else {
            return Err(LostPosition);
        };

        if let Some(answer) = answer {
            push_event(&seat.outbox, answer, counters);
        }
        let mut tally = counters.resume(held_back.publications());
        for held in held_back.frames {
            match held {
                Held::Event(frame) => push_event(&seat.outbox, frame, counters),
                Held::Publication { position: Some(position), .. } if next != 0 && position.offset < next => {
                    // By recovery: what the member has is that, or what follows.
                    chain.follow(false);
                    tally.refused(Refusal::AlreadySeen);
                }
                Held::Publication { frame, position } => {
                    if next != 0 && position.is_some() {
                        next += 1;
                    }
                    chain.follow(frame.is_some());
                    push_publication(&seat.outbox, frame, &mut tally);
                }
            }
        }
        drop(tally);
        seat.phase = Phase::Live { next, chain, is_filtered };

        counters.subscriptions.increment();
        channel.enter();
        if let Some(start) = start {
            self.enter_epoch(channel, &start.epoch, Some(member), counters);
        }
        if member.role.announces {
            let info = Arc::clone(&member.info);
            self.announce(Push::Join { channel: Arc::clone(&channel.name), info }, counters);
        }
        Ok(())
    }

    /// Puts a publication into the queue of every member.
    pub(crate) fn deliver(
        &mut self,
        channel: &Channel,
        forms: &mut Forms,
        makes_delta: bool,
        position: Option<&Position>,
        counters: &Counters,
    ) {
        if let Some(position) = position {
            self.enter_epoch(channel, &position.epoch, None, counters);
        }
        if self.delta_members > 0 {
            let data = forms.publication().map(|publication| publication.data.clone());
            let previous = std::mem::replace(&mut self.previous, data);
            forms.set_base(previous.filter(|_| makes_delta));
        }
        let mut lost = Vec::new();
        let mut tally = counters.accept(self.members.len());
        for (slot, seat) in self.members.iter_mut().enumerate() {
            let frame = seat.shape(forms).map(|shape| forms.shaped(seat.outbox.wire(), shape)).transpose();
            let Ok(frame) = frame else {
                // Of this encoding nobody can be told; the others get it.
                tally.refused(Refusal::Inexpressible);
                seat.outbox.close(Disconnect::INAPPROPRIATE_PROTOCOL);
                continue;
            };
            match (&mut seat.phase, position) {
                (Phase::Pending(held_back), _) => {
                    let held = Held::Publication { frame, position: position.cloned() };
                    if held_back.hold(held) { tally.deferred() } else { tally.refused(Refusal::PositionLost) }
                }
                (Phase::Live { next: 0, chain, .. }, _) | (Phase::Live { chain, .. }, None) => {
                    chain.follow(frame.is_some());
                    push_publication(&seat.outbox, frame, &mut tally);
                }
                (Phase::Live { next, chain, .. }, Some(position)) if *next == position.offset => {
                    *next += 1;
                    chain.follow(frame.is_some());
                    push_publication(&seat.outbox, frame, &mut tally);
                }
                (Phase::Live { next, chain, .. }, Some(position)) if *next > position.offset => {
                    chain.follow(false);
                    tally.refused(Refusal::AlreadySeen);
                }
                (Phase::Live { .. }, Some(_)) => {
                    tally.refused(Refusal::PositionLost);
                    lost.push(slot);
                }
            }
        }
        drop(tally);
        self.end_slots(channel, &lost, &UnsubscribeCode::INSUFFICIENT_STATE, counters);
    }

    /// Takes `member` away without telling its client, who asked for it or is gone.
    pub(crate) fn leave(&mut self, channel: &Channel, member: &Arc<Member>, counters: &Counters) {
        if self.find(member).is_some() {
            self.remove_slot(channel, member.slot.load(Ordering::Relaxed), counters);
        }
    }

    /// Takes `member` away and tells its client `code`.
    pub(crate) fn end(
        &mut self,
        channel: &Channel,
        member: &Arc<Member>,
        code: &UnsubscribeCode,
        counters: &Counters,
    ) {
        if self.find(member).is_some() {
            self.end_slots(channel, &[member.slot.load(Ordering::Relaxed)], code, counters);
        }
    }

    /// Takes the members away that `chosen` picks and tells their clients `code`; answers how many.
    pub(crate) fn end_all(
        &mut self,
        channel: &Channel,
        code: &UnsubscribeCode,
        chosen: impl Fn(&Member) -> bool,
        counters: &Counters,
    ) -> usize {
        let slots: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .filter(|(_, s)| chosen(&s.member))
            .map(|(slot, _)| slot)
            .collect();
        self.end_slots(channel, &slots, code, counters);
        slots.len()
    }

    /// Whether a live positioned member stands at `top`; a member that is not positioned always does.
    ///
    /// The caller read `top` under this lock, so that no publication lies between; while some are on their way, they may be
    /// counted in the top and come yet.
    pub(crate) fn stands_at(&mut self, member: &Arc<Member>, top: &Position) -> bool {
        if self.awaits_delivery() {
            return true;
        }
        let epoch_is_same = self.epoch.as_ref().is_none_or(|epoch| *epoch == top.epoch);
        match self.find(member).map(|seat| &seat.phase) {
            Some(Phase::Live { next, .. }) if *next != 0 => {
                epoch_is_same && *next == top.offset.saturating_add(1)
            }
            _ => true,
        }
    }

    /// Who is present.
    pub(crate) fn present(&self) -> Vec<Arc<ClientInfo>> {
        self.members
            .iter()
            .filter(|seat| seat.member.role.is_present && matches!(seat.phase, Phase::Live { .. }))
            .map(|seat| Arc::clone(&seat.member.info))
            .collect()
    }

    /// Notes the stream's epoch. When it changes, every positioned member stands in a stream that is gone.
    fn enter_epoch(
        &mut self,
        channel: &Channel,
        epoch: &Epoch,
        newest: Option<&Arc<Member>>,
        counters: &Counters,
    ) {
        let has_changed = self.epoch.as_ref().is_some_and(|known| known != epoch);
        if self.epoch.as_ref() != Some(epoch) {
            self.epoch = Some(epoch.clone());
        }
        if has_changed {
            let is_newest = |seat: &Seat| newest.is_some_and(|member| Arc::ptr_eq(&seat.member, member));
            let is_positioned = |seat: &Seat| matches!(seat.phase, Phase::Live { next, .. } if next != 0);
            let slots: Vec<_> = self
                .members
                .iter()
                .enumerate()
                .filter(|(_, seat)| is_positioned(seat) && !is_newest(seat))
                .map(|(slot, _)| slot)
                .collect();
            self.end_slots(channel, &slots, &UnsubscribeCode::INSUFFICIENT_STATE, counters);
        }
    }

    /// Ends the seats at `slots`, which rise, and tells their clients.
    fn end_slots(&mut self, channel: &Channel, slots: &[usize], code: &UnsubscribeCode, counters: &Counters) {
        // From the back: removing one moves only seats behind it.
        for &slot in slots.iter().rev() {
            let Some(seat) = self.remove_slot(channel, slot, counters) else { continue };
            if seat.member.role.is_server_side && code.resubscribes() {
                // The client cannot ask for this subscription again; it reconnects to get it anew.
                seat.outbox.close(Disconnect::INSUFFICIENT_STATE);
                continue;
            }
            let push = Push::Unsubscribe { channel: Arc::clone(&channel.name), code: code.clone() };
            if let Ok(frame) = Frame::push(seat.outbox.wire(), &push, PUSH_BYTES) {
                push_event(&seat.outbox, frame, counters);
            }
        }
    }

    /// Removes a seat, refuses what was held back for it, and announces the leaving of a live member.
    fn remove_slot(&mut self, channel: &Channel, slot: usize, counters: &Counters) -> Option<Seat> {
        if slot >= self.members.len() {
            return None;
        }
        let seat = self.members.swap_remove(slot);
        if let Some(moved) = self.members.get(slot) {
            moved.member.slot.store(slot, Ordering::Relaxed);
        }
        seat.member.has_ended.store(true, Ordering::Relaxed);
        if self.members.is_empty() {
            counters.channels.decrement();
        } else if self.members.len() < self.members.capacity() / 4 {
            // A channel that was popular once does not hold the memory of its best day.
            self.members.shrink_to(self.members.len() * 2);
        }
        self.listeners -= usize::from(seat.member.role.listens);
        self.delta_members -= usize::from(seat.member.intake.takes_delta);
        if self.delta_members == 0 {
            self.previous = None;
        }
        match &seat.phase {
            Phase::Pending(held_back) => {
                counters.resume(held_back.publications()).refuse_rest(Refusal::NotSubscribed);
            }
            Phase::Live { .. } => {
                counters.subscriptions.decrement();
                channel.leave(&seat.member.info);
                if seat.member.role.announces {
                    let info = Arc::clone(&seat.member.info);
                    self.announce(Push::Leave { channel: Arc::clone(&channel.name), info }, counters);
                }
            }
        }
        Some(seat)
    }

    /// Tells the members that listen of a joining or leaving.
    fn announce(&mut self, push: Push, counters: &Counters) {
        if self.listeners == 0 {
            return;
        }
        let mut forms = Forms::new(push, PUSH_BYTES);
        for seat in self.members.iter_mut().filter(|seat| seat.member.role.listens) {
            // What a token says about a client is checked JSON; without it there is nothing to tell.
            let Ok(frame) = forms.frame(seat.outbox.wire()) else { continue };
            match &mut seat.phase {
                Phase::Pending(held_back) => {
                    held_back.hold(Held::Event(frame));
                }
                Phase::Live { .. } => push_event(&seat.outbox, frame, counters),
            }
        }
    }

    fn find(&mut self, member: &Arc<Member>) -> Option<&mut Seat> {
        let seat = self.members.get_mut(member.slot.load(Ordering::Relaxed))?;
        Arc::ptr_eq(&seat.member, member).then_some(seat)
    }
}

fn push_publication(outbox: &Outbox, frame: Option<Frame>, tally: &mut Tally<'_>) {
    let Some(frame) = frame else { return tally.refused(Refusal::Filtered) };
    match outbox.push(frame) {
        Ok(()) => tally.delivered(),
        Err(PushError::Full) => tally.refused(Refusal::Slow),
        Err(PushError::Closed) => tally.refused(Refusal::Closed),
    }
}

fn push_event(outbox: &Outbox, frame: Frame, counters: &Counters) {
    // A full or closed queue has recorded why; the connection's owner ends it.
    if outbox.push(frame).is_ok() {
        counters.messages_out.add(1);
    }
}
