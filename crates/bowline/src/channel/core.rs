//! The frame all channels stand in: one lock, the books, and ends that know where they are booked.

use std::task::Waker;

use super::wait::Waiter;
use super::{ChannelStats, ObservedChannel};
use crate::carry::Cx;
use crate::holders::{FREE, Holders, IN_TRANSIT};
use crate::queue::Holder;
use crate::record::{self, next_id};
use crate::resource::{self, Facts, Resource, ResourceKind, ResourceState, RightFact, WaiterFact};
use crate::site::Site;
use crate::sync::{Arc, LockExt, Mutex};
use crate::wait::Op;

/// The two sides of every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Sending,
    Receiving,
}

/// What makes a channel a watch, a broadcast, …; called under the lock.
pub(super) trait State: Sized {
    const KIND: &'static str;
    /// What may be left over when an end goes; dropped outside of the lock.
    type Scrap;

    /// Where a new end begins to see.
    fn start(&self) -> u64 {
        0
    }

    /// A copy of an end has come, which has seen as much as the original.
    fn copied(&mut self, _side: Side, _mark: u64) {}

    /// An end has gone, and is not counted any more.
    fn left(inside: &mut Inside<Self>, side: Side, mark: u64, after: &mut After<Self::Scrap>);

    /// Fills in what the books do not know: depth, bound, how many wait.
    fn fill(&self, stats: &mut ChannelStats);

    /// Shows everybody who waits, in the order of the line, and whether what it waits for is there for it.
    fn waiters(&self, see: &mut dyn FnMut(&Waiter, bool));

    /// Whether an item is there for whoever asks next.
    fn has_fired(&self) -> bool;
}

pub(super) struct Chan<S> {
    pub(super) id: u64,
    pub(super) site: &'static Site,
    inside: Mutex<Inside<S>>,
}

/// What the lock protects.
pub(super) struct Inside<S> {
    pub(super) own: S,
    pub(super) senders: Holders,
    pub(super) receivers: Holders,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) missed: u64,
    pub(super) abandoned: u64,
    pub(super) waits: u64,
    /// Whether the registry of what is waited for knows this channel, or is being told.
    listed: bool,
}

impl<S> Inside<S> {
    /// Counts a wait; `true` if the channel has to be listed once the lock is released.
    pub(super) fn count_wait(&mut self) -> bool {
        self.waits += 1;
        !std::mem::replace(&mut self.listed, true)
    }

    pub(super) fn has_senders(&self) -> bool {
        self.senders.total() > 0
    }

    pub(super) fn has_receivers(&self) -> bool {
        self.receivers.total() > 0
    }

    fn holders(&mut self, side: Side) -> &mut Holders {
        match side {
            Side::Sending => &mut self.senders,
            Side::Receiving => &mut self.receivers,
        }
    }
}

/// What has to happen after the lock is released (invariant 3). Mostly it is one wake-up, which needs no list.
pub(super) struct After<X> {
    first: Option<Waker>,
    more: Vec<Waker>,
    pub(super) drop: Vec<X>,
}

impl<X> Default for After<X> {
    fn default() -> Self {
        Self { first: None, more: Vec::new(), drop: Vec::new() }
    }
}

impl<X> After<X> {
    pub(super) fn wake(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.more.push(waker),
        }
    }

    fn run(self) {
        self.first.into_iter().chain(self.more).for_each(Waker::wake);
        drop(self.drop);
    }
}

impl<S: State> Chan<S> {
    pub(super) fn new(site: &'static Site, own: S) -> Arc<Self> {
        let inside = Inside {
            own,
            senders: Holders::default(),
            receivers: Holders::default(),
            sent: 0,
            received: 0,
            missed: 0,
            abandoned: 0,
            waits: 0,
            listed: false,
        };
        Arc::new(Self { id: next_id(), site, inside: Mutex::new(inside) })
    }

    /// Runs `act` under the lock, and what it leaves to be done after it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Inside<S>, &mut After<S::Scrap>) -> R) -> R {
        let mut after = After::default();
        let result = act(&mut self.inside.lock_unpoisoned(), &mut after);
        after.run();
        result
    }
}

impl<S: State + Send + 'static> Chan<S> {
    /// Tells the registry that somebody waits here.
    pub(super) fn list(self: &Arc<Self>) {
        let known: Arc<dyn Resource> = self.clone();
        resource::list(self.id, Arc::downgrade(&known));
    }
}

impl<S: State + Send> Resource for Chan<S> {
    fn facts(&self) -> Facts {
        self.with(|inside, _| {
            let mut waiters = Vec::new();
            inside.own.waiters(&mut |waiter, granted| {
                // Without a receiver nobody will take what is offered, and whoever offers was told.
                let granted = granted || waiter.op == Op::Send && !inside.has_receivers();
                waiters.push(WaiterFact { who: waiter.who, op: waiter.op.name(), need: 1, granted });
            });
            let rights = |role, holders: &Holders| {
                holders.places().into_iter().map(move |(place, count)| RightFact { role, place, count })
            };
            Facts {
                id: self.id,
                kind: ResourceKind::Channel,
                site: self.site,
                state: match (inside.has_senders(), inside.has_receivers()) {
                    _ if inside.own.has_fired() => ResourceState::Fired,
                    (true, true) => ResourceState::Waiting,
                    (false, _) => ResourceState::Closed { reason: "no sender is left" },
                    (true, false) => ResourceState::Closed { reason: "no receiver is left" },
                },
                waiters,
                held: Vec::new(),
                rights: rights("sender", &inside.senders)
                    .chain(rights("receiver", &inside.receivers))
                    .collect(),
                handles: (inside.senders.total() + inside.receivers.total()) as usize,
                open_ended: false,
                receivers_close: false,
                lies_at: 0,
                waits: inside.waits,
                panicked: 0,
            }
        })
    }

    fn unlist(&self) -> bool {
        self.with(|inside, _| {
            let mut nobody_waits = true;
            inside.own.waiters(&mut |_, _| nobody_waits = false);
            inside.listed &= !nobody_waits;
            nobody_waits
        })
    }
}

/// Makes a channel, stands it in the tree below the current task, and gives that task an end of each side.
pub(super) fn open<S>(cx: &Cx, site: &'static Site, own: S) -> (Seat<S>, Seat<S>)
where
    S: State + Send + 'static,
{
    let chan = Chan::new(site, own);
    if let Some(record) = record::current() {
        let view: Arc<dyn ObservedChannel> = chan.clone();
        record.list_channel(Arc::downgrade(&view));
    }
    let sending = Seat::new(&chan, Side::Sending, cx.task_id());
    let receiving = Seat::new(&chan, Side::Receiving, cx.task_id());
    (sending, receiving)
}

/// One end: the place it is booked at, and how much it has seen.
pub(super) struct Seat<S: State> {
    pub(super) chan: Arc<Chan<S>>,
    side: Side,
    place: u64,
    /// The state's own: the version or the sequence number this end has come to.
    pub(super) mark: u64,
}

impl<S: State> Seat<S> {
    fn new(chan: &Arc<Chan<S>>, side: Side, place: u64) -> Self {
        let mark = chan.with(|inside, _| {
            inside.holders(side).add(place);
            inside.own.start()
        });
        Self { chan: Arc::clone(chan), side, place, mark }
    }

    /// A new receiving end with the same holder.
    pub(super) fn subscribe(&self) -> Self {
        Self::new(&self.chan, Side::Receiving, self.place)
    }

    pub(super) fn moved_to(mut self, place: u64) -> Self {
        self.chan.with(|inside, _| inside.holders(self.side).move_to(self.place, place));
        self.place = place;
        self
    }
}

impl<S: State> Clone for Seat<S> {
    fn clone(&self) -> Self {
        self.chan.with(|inside, _| {
            inside.holders(self.side).add(self.place);
            inside.own.copied(self.side, self.mark);
        });
        Self { chan: Arc::clone(&self.chan), ..*self }
    }
}

impl<S: State> Drop for Seat<S> {
    fn drop(&mut self) {
        self.chan.with(|inside, after| {
            inside.holders(self.side).remove(self.place);
            S::left(inside, self.side, self.mark, after);
        });
    }
}

impl<S: State + Send> ObservedChannel for Chan<S> {
    fn stats(&self) -> ChannelStats {
        self.with(|inside, _| {
            let mut stats = ChannelStats {
                id: self.id,
                name: self.site.name,
                kind: S::KIND,
                place: format!("{}:{}", self.site.place.file(), self.site.place.line()),
                depth_items: 0,
                max_items: 0,
                sent: inside.sent,
                received: inside.received,
                missed: inside.missed,
                abandoned: inside.abandoned,
                waits: inside.waits,
                waiting_senders: 0,
                waiting_receivers: 0,
                senders: holders(&inside.senders),
                receivers: holders(&inside.receivers),
            };
            inside.own.fill(&mut stats);
            stats
        })
    }
}

fn holders(holders: &Holders) -> Vec<Holder> {
    let known = |place| if place == FREE || place == IN_TRANSIT { None } else { Some(place) };
    holders.places().into_iter().map(|(place, ends)| Holder { task: known(place), ends }).collect()
}

/// Makes the public type of an end, with what all ends can: be freed, bound, carried to another task, and looked at.
macro_rules! end {
    (
        $(#[$doc:meta])* $name:ident,
        $(#[$free_doc:meta])* $free:ident,
        $state:ident of $($bound:ident),+
    ) => {
        $(#[$doc])*
        pub struct $name<'t, T> {
            seat: Seat<$state<T>>,
            /// The task's own context: the end cannot outlive the task that holds it.
            cx: PhantomData<&'t Cx>,
        }

        $(#[$free_doc])*
        pub type $free<T> = $name<'static, T>;

        impl<T> $name<'_, T> {
            fn at(seat: Seat<$state<T>>) -> Self {
                Self { seat, cx: PhantomData }
            }
        }

        impl<T: $($bound +)+ 'static> $name<'_, T> {
            /// Leaves the tracked world: the result may be kept and sent anywhere, and its holder counts as unknown.
            #[must_use]
            pub fn free(self) -> $free<T> {
                $name::at(self.seat.moved_to(FREE))
            }

            /// Returns what the channel was and is.
            #[must_use]
            pub fn stats(&self) -> ChannelStats {
                self.seat.chan.stats()
            }
        }

        impl<T: $($bound +)+ 'static> $name<'static, T> {
            /// Binds the end to the current task, which is its known holder from here on.
            #[must_use]
            pub fn bind_to(self, cx: &Cx) -> $name<'_, T> {
                self.bind(cx)
            }
        }

        impl<T: $($bound +)+ 'static> Carry for $name<'_, T> {
            type Packed = $free<T>;
            fn pack(self) -> $free<T> {
                $name::at(self.seat.moved_to(IN_TRANSIT))
            }
        }

        impl<T: $($bound +)+ 'static> Bind for $name<'static, T> {
            type In<'c> = $name<'c, T>;
            fn bind(self, cx: &Cx) -> $name<'_, T> {
                $name::at(self.seat.moved_to(cx.task_id()))
            }
        }

        impl<T> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("name", &self.seat.chan.site.name).finish_non_exhaustive()
            }
        }
    };
}

pub(super) use end;
