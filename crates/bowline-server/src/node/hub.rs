//! The table of channels: a name leads to its [`Channel`] while it is not vacant.
//!
//! A channel comes into the table with its first member, or with a publication, and stays while it has a member or a
//! publication waits for the disk: so a publication and a subscription that begins meanwhile always meet under one channel
//! lock. The last to leave takes it out.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::channel::{Channel, State};
use crate::events::Events;

/// Shards of the table: a publication holds one lock for a lookup, about fifty nanoseconds.
const SHARDS: usize = 64;

/// The channels by name.
#[derive(Debug)]
pub(crate) struct Hub {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// Who is told of what happens in channels.
    events: Arc<Events>,
}

type Shard = HashMap<Arc<str>, Arc<Channel>>;

impl Hub {
    pub(crate) fn new(events: Arc<Events>) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new(), events }
    }

    /// The channel called `name`, if it is in the table.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Channel>> {
        self.shard(name).get(name).cloned()
    }

    /// Runs `act` under the lock of the channel called `name`, which is made if need be, and forgets the channel
    /// afterwards if it is vacant.
    pub(crate) fn with_channel<T>(&self, name: &str, act: impl FnOnce(&Arc<Channel>, &mut State) -> T) -> T {
        loop {
            let channel = self.find_or_insert(name);
            // Between the lookup and the lock it may have become vacant. The thread that found it so took the channel out
            // before it let go of the lock, so the next lookup finds another.
            let Some(mut state) = channel.lock() else { continue };
            let answer = act(&channel, &mut state);
            let is_vacant = state.is_vacant();
            drop(state);
            if is_vacant {
                self.forget_if_vacant(&channel);
            }
            return answer;
        }
    }

    /// Runs `act` under the lock of `channel` and forgets the channel afterwards if it is vacant.
    ///
    /// Answers `None` if the channel is gone from the table, which it is not while it is not vacant.
    pub(crate) fn within<T>(
        &self,
        channel: &Arc<Channel>,
        act: impl FnOnce(&Arc<Channel>, &mut State) -> T,
    ) -> Option<T> {
        let mut state = channel.lock()?;
        let answer = act(channel, &mut state);
        let is_vacant = state.is_vacant();
        drop(state);
        if is_vacant {
            self.forget_if_vacant(channel);
        }
        Some(answer)
    }

    /// Every channel in the table, a shard at a time.
    pub(crate) fn for_each(&self, mut act: impl FnMut(&Channel)) {
        for shard in &self.shards {
            for channel in lock(shard).values() {
                act(channel);
            }
        }
    }

    fn find_or_insert(&self, name: &str) -> Arc<Channel> {
        let mut shard = self.shard(name);
        if let Some(channel) = shard.get(name) {
            return Arc::clone(channel);
        }
        let channel = Arc::new(Channel::new(name, self.events.of_channel(name)));
        shard.insert(Arc::clone(&channel.name), Arc::clone(&channel));
        channel
    }

    fn forget_if_vacant(&self, channel: &Channel) {
        let mut shard = self.shard(&channel.name);
        // Shard before channel, as everywhere. Whoever holds a nearly vacant channel holds it briefly.
        let Some(mut state) = channel.lock() else { return };
        if state.is_vacant() {
            state.remove();
            shard.remove(&channel.name);
            if shard.len() < shard.capacity() / 8 {
                let keep = shard.len() * 2;
                shard.shrink_to(keep);
            }
        }
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        // The remainder is below SHARDS, so the index exists.
        lock(&self.shards[(self.hasher.hash_one(name) % SHARDS as u64) as usize])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing under the lock can stop half-way, so a poisoned shard is whole.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
