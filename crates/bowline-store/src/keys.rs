//! Idempotency keys of one shard: what was published under which key in the last five minutes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long a key is remembered.
pub(crate) const TTL: Duration = Duration::from_secs(5 * 60);

/// A bounded set of keys with a `V` each; the caller says until when, of its clock, each is remembered.
///
/// All keys have the same time to live, so the order of arrival is the order of expiry.
#[derive(Debug)]
pub(crate) struct Keys<T, V> {
    limit: usize,
    first: HashMap<Arc<str>, First<T, V>>,
    order: VecDeque<Arc<str>>,
    evicted: u64,
}

/// What the first publication under a key got, and until when that is remembered.
#[derive(Debug)]
struct First<T, V> {
    value: V,
    expires: T,
}

impl<T: PartialOrd, V> Keys<T, V> {
    /// Makes an empty set of at most `limit` keys.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, first: HashMap::new(), order: VecDeque::new(), evicted: 0 }
    }

    /// What the first publication under `key` got, if there was one.
    pub(crate) fn find(&mut self, channel: &str, key: &str, now: T) -> Option<&V> {
        self.expire(now);
        self.first.get(&*joined(channel, key)).map(|first| &first.value)
    }

    /// Remembers `key`, which is not in the set; forgets the oldest if there is no room.
    pub(crate) fn remember(&mut self, channel: &str, key: &str, value: V, expires: T) {
        if self.limit == 0 {
            self.evicted += 1;
            return;
        }
        while self.order.len() >= self.limit {
            self.forget_oldest();
            self.evicted += 1;
        }
        let joined: Arc<str> = joined(channel, key).into();
        if self.first.insert(Arc::clone(&joined), First { value, expires }).is_none() {
            self.order.push_back(joined);
        }
    }

    /// Forgets the keys whose time is over and returns their number.
    pub(crate) fn expire(&mut self, now: T) -> usize {
        let before = self.order.len();
        while let Some(oldest) = self.order.front() {
            if self.first.get(oldest).is_some_and(|first| first.expires > now) {
                break;
            }
            self.forget_oldest();
        }
        before - self.order.len()
    }

    /// The channels and keys, with what is remembered of each and until when; the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &V, &T)> {
        self.order.iter().filter_map(|joined| {
            let (channel, key) = split(joined)?;
            self.first.get(joined).map(|first| (channel, key, &first.value, &first.expires))
        })
    }

    /// What is remembered of a key, to be changed, and until when.
    pub(crate) fn entry(&mut self, channel: &str, key: &str) -> Option<(&mut V, &T)> {
        self.first.get_mut(&*joined(channel, key)).map(|first| (&mut first.value, &first.expires))
    }

    /// Forgets the keys whose value is not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&mut V) -> bool) {
        let Self { first, order, .. } = self;
        first.retain(|_, first| keep(&mut first.value));
        order.retain(|key| first.contains_key(key));
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn evicted(&self) -> u64 {
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

fn split(joined: &str) -> Option<(&str, &str)> {
    let (length, rest) = joined.split_once(':')?;
    rest.split_at_checked(length.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_key_makes_room_and_is_counted() {
        let mut keys = Keys::new(2);
        for (key, value) in [("one", 1), ("two", 2), ("three", 3)] {
            keys.remember("c", key, value, 10);
        }
        assert_eq!(keys.find("c", "one", 0), None);
        assert_eq!(keys.find("c", "two", 0), Some(&2));
        assert_eq!(keys.find("c", "three", 0), Some(&3));
        assert_eq!((keys.len(), keys.evicted()), (2, 1));
        keys.retain(|value| *value != 2);
        assert_eq!(keys.find("c", "two", 0), None);
        assert_eq!(keys.len(), 1);
        assert_eq!(keys.find("c", "three", 10), None, "expired");
    }

    #[test]
    fn a_boundary_between_channel_and_key_is_kept() {
        let mut keys = Keys::new(2);
        keys.remember("ab", "c", (), 1);
        assert_eq!(keys.find("a", "bc", 0), None);
        assert_eq!(keys.iter().collect::<Vec<_>>(), [("ab", "c", &(), &1)]);
    }
}
