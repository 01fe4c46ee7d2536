//! Idempotency keys of one shard: what was published under which key in the last five minutes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::position::Position;

/// How long a key is remembered.
const TTL: Duration = Duration::from_secs(5 * 60);

/// A bounded set of keys; all have the same time to live, so the order of arrival is the order of expiry.
#[derive(Debug)]
pub(super) struct Keys {
    limit: usize,
    first: HashMap<Arc<str>, First>,
    order: VecDeque<Arc<str>>,
    evicted: u64,
}

/// What the first publication under a key got, and until when that is remembered.
#[derive(Debug)]
struct First {
    position: Option<Position>,
    expires: Instant,
}

impl Keys {
    /// Makes an empty set of at most `limit` keys.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, first: HashMap::new(), order: VecDeque::new(), evicted: 0 }
    }

    /// The position the first publication under `key` got, if there was one: `Some(None)` if it was not kept.
    pub(super) fn find(&mut self, channel: &str, key: &str, now: Instant) -> Option<Option<Position>> {
        self.expire(now);
        self.first.get(&*joined(channel, key)).map(|first| first.position.clone())
    }

    /// Remembers `key`, which is not in the set; forgets the oldest if there is no room.
    pub(super) fn remember(&mut self, channel: &str, key: &str, position: Option<Position>, now: Instant) {
        if self.limit == 0 {
            self.evicted += 1;
            return;
        }
        while self.order.len() >= self.limit {
            self.forget_oldest();
            self.evicted += 1;
        }
        let joined: Arc<str> = joined(channel, key).into();
        self.first.insert(Arc::clone(&joined), First { position, expires: now + TTL });
        self.order.push_back(joined);
    }

    /// Forgets the keys whose time is over and returns their number.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let before = self.order.len();
        while let Some(oldest) = self.order.front() {
            if self.first.get(oldest).is_some_and(|first| first.expires > now) {
                break;
            }
            self.forget_oldest();
        }
        before - self.order.len()
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            self.first.remove(&oldest);
        }
    }
}

/// Channel and key as one string; the length in front keeps ("ab", "c") apart from ("a", "bc").
fn joined(channel: &str, key: &str) -> String {
    format!("{}:{channel}{key}", channel.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_key_makes_room_and_is_counted() {
        let now = Instant::now();
        let mut keys = Keys::new(2);
        for key in ["one", "two", "three"] {
            keys.remember("c", key, None, now);
        }
        assert_eq!(keys.find("c", "one", now), None);
        assert_eq!(keys.find("c", "two", now), Some(None));
        assert_eq!(keys.find("c", "three", now), Some(None));
        assert_eq!((keys.len(), keys.evicted()), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_boundary_between_channel_and_key_is_kept() {
        let now = Instant::now();
        let mut keys = Keys::new(2);
        keys.remember("ab", "c", None, now);
        assert_eq!(keys.find("a", "bc", now), None);
    }
}
