//! The rule of mutexes, read-write locks and semaphores: permits, handed out first come first served.

use super::core::{Ask, Core, Rule, Wakes};
use super::line::{Key, Left, Line, Stage};
use crate::resource::{HeldFact, ResourceKind, ResourceState, Who};

/// What lies behind the permits and is handed out with them, in the same critical section.
pub(super) trait Content: Send + 'static {
    type Out;
    const KIND: ResourceKind;

    fn take(&mut self, permits: usize) -> Self::Out;
}

pub(super) struct Permits<C> {
    pub(super) free: usize,
    pub(super) total: usize,
    /// Permits in hand beyond the total, since it was made smaller: they go out of circulation as they come back.
    pub(super) owed: usize,
    /// Whether more permits may come: then no request is too large.
    pub(super) grows: bool,
    pub(super) closed: Option<&'static str>,
    pub(super) max_waiting: usize,
    /// A holder panicked, and nobody has said since that the content is in order.
    pub(super) suspect: bool,
    pub(super) content: C,
}

/// Why permits are refused.
pub(super) enum Refusal {
    Closed(&'static str),
    TooLarge { total: usize },
    RoomFull { waiting: usize },
}

impl<C: Content> Permits<C> {
    pub(super) fn new(total: usize, content: C) -> Self {
        Self {
            free: total,
            total,
            owed: 0,
            grows: false,
            closed: None,
            max_waiting: usize::MAX,
            suspect: false,
            content,
        }
    }

    /// Permits come back, or are new; what is owed is paid first.
    pub(super) fn give(&mut self, permits: usize) {
        let paid = permits.min(self.owed);
        self.owed -= paid;
        self.free += permits - paid;
    }

    /// Makes it so many permits in all. Those in hand stay valid: there may be more in hand than that for a while.
    pub(super) fn resize(&mut self, total: usize) {
        if total >= self.total {
            let more = total - self.total;
            self.total = total;
            self.give(more);
        } else {
            let less = self.total - total;
            self.total = total;
            let free = less.min(self.free);
            self.free -= free;
            self.owed += less - free;
        }
    }

    /// Hands free permits to whoever is first, as long as the first fits: nobody overtakes, so nobody starves.
    pub(super) fn grant(&mut self, line: &mut Line, wakes: &mut Wakes) {
        while let Some((key, need)) = line.first() {
            if need > self.free || self.closed.is_some() {
                return;
            }
            self.free -= need;
            wakes.add(line.grant(key));
        }
    }
}

impl<C: Content> Rule for Permits<C> {
    type Pass = (Key, C::Out);
    type Refusal = Refusal;

    const KIND: ResourceKind = C::KIND;

    fn enter(
        &mut self,
        line: &mut Line,
        ask: Ask,
        who: Who,
        _wakes: &mut Wakes,
    ) -> Option<Result<Self::Pass, Refusal>> {
        if let Some(refusal) = self.refusal(ask.need) {
            return Some(Err(refusal));
        }
        // Who needs nothing takes nothing from those in line.
        if ask.need == 0 || (line.is_empty() && ask.need <= self.free) {
            self.free -= ask.need;
            let key = line.hold(ask.need, who, ask.op);
            return Some(Ok((key, self.content.take(ask.need))));
        }
        (line.waiting() >= self.max_waiting).then(|| Err(Refusal::RoomFull { waiting: line.waiting() }))
    }

    fn fetch(&mut self, line: &mut Line, key: Key) -> Self::Pass {
        line.fetch(key);
        (key, self.content.take(line.need(key)))
    }

    fn refusal(&self, need: usize) -> Option<Refusal> {
        match self.closed {
            Some(reason) => Some(Refusal::Closed(reason)),
            None if need > self.total && !self.grows => Some(Refusal::TooLarge { total: self.total }),
            None => None,
        }
    }

    fn left(&mut self, line: &mut Line, left: &Left, wakes: &mut Wakes) {
        if left.stage == Stage::Granted {
            self.give(left.need);
        }
        self.grant(line, wakes); // also if it only waited: the next may be smaller
    }

    fn state(&self, _line: &Line) -> ResourceState {
        match self.closed {
            Some(reason) => ResourceState::Closed { reason },
            None => ResourceState::Permits { free: self.free, total: self.total },
        }
    }

    fn held(&self, line: &Line) -> Vec<HeldFact> {
        line.held()
    }

    fn is_open_ended(&self) -> bool {
        C::KIND == ResourceKind::Semaphore
    }
}

impl<C: Content> Core<Permits<C>> {
    /// Takes permits back, and whatever was handed out with them.
    pub(super) fn release(&self, key: Key, panicked: bool, put_back: impl FnOnce(&mut C)) {
        self.with(|state, wakes| {
            let left = state.line.leave(key);
            put_back(&mut state.rule.content);
            state.panicked += u64::from(panicked);
            state.rule.suspect |= panicked;
            state.rule.give(left.need);
            state.rule.grant(&mut state.line, wakes);
        });
    }
}
