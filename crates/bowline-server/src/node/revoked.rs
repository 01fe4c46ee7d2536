//! Who is refused although their token holds: users that are blocked, tokens that were revoked, and the tokens of a user from
//! before a time. Back ends say so by the server API.
//!
//! The lists are kept in memory: they are lost with the process. Give tokens an `exp` that is not far away, and block in the
//! application too.
//!
//! # Invariants
//!
//! 1. First noted, then looked for. A connection asks the lists in the critical section in which it takes what it was let in
//!    for, its place in the table of users or a subscription in what it has; whoever notes something looks through both
//!    afterwards. So a client that gets in meanwhile is found, or finds itself refused.
//! 2. There are at most [`MAX_ENTRIES`], and none that has expired is kept for long. Beyond them nothing is noted, and the
//!    back end is told.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_protocol::{Disconnect, ErrorCode, UnsubscribeCode};
use tokio::time::Instant;

use super::connection::Connection;
use super::{ApiError, Node};
use crate::token::unix_now;

/// Entries of all lists together: about twenty megabytes.
const MAX_ENTRIES: usize = 100_000;

/// Bytes of the longest id of a token, a user or a channel that is noted.
const MAX_ID_BYTES: usize = 1024;

/// What is remembered of the token that something was granted for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenTrace {
    /// Its `jti`.
    pub(crate) id: Option<Box<str>>,
    /// Its `iat`.
    pub(crate) issued_at: Option<u64>,
}

impl TokenTrace {
    /// What there is to remember, if there is anything.
    pub(crate) fn of(id: Option<String>, issued_at: Option<u64>) -> Self {
        Self { id: id.map(String::into_boxed_str), issued_at }
    }
}

/// For which of its grants a token is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantOf<'a> {
    Connection,
    Channel(&'a str),
}

/// The lists.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    lists: Mutex<Lists>,
    /// Entries, for those who need not look because there are none. Relaxed: the lock of the critical section of invariant 1
    /// orders it.
    entries: AtomicUsize,
}

#[derive(Debug, Default)]
struct Lists {
    blocked: HashMap<Box<str>, Until>,
    tokens: HashMap<Box<str>, Until>,
    /// By user, and by channel; the channel is empty for all that the tokens of the user grant.
    users: HashMap<Box<str>, HashMap<Box<str>, Invalid>>,
    /// Entries of `users`.
    pairs: usize,
}

/// When an entry ends; `None` for never.
type Until = Option<Instant>;

/// Tokens from before a time.
#[derive(Clone, Copy, Debug)]
struct Invalid {
    issued_before: u64,
    until: Until,
}

impl Revoked {
    pub(crate) fn is_blocked(&self, user: &str) -> bool {
        self.entries.load(Ordering::Relaxed) > 0 && self.lock().blocked.get(user).is_some_and(|u| stands(*u))
    }

    /// Whether a token of `user` no longer grants what it is asked about.
    pub(crate) fn refuses(&self, user: &str, token: &TokenTrace, grant: GrantOf<'_>) -> bool {
        if self.entries.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let lists = self.lock();
        if token.id.as_ref().and_then(|id| lists.tokens.get(id)).is_some_and(|until| stands(*until)) {
            return true;
        }
        let Some(of_user) = lists.users.get(user) else { return false };
        let channel = match grant {
            GrantOf::Connection => None,
            GrantOf::Channel(channel) => of_user.get(channel),
        };
        // A token that does not say when it was issued cannot show that it is a new one.
        let is_old = |invalid: &Invalid| {
            stands(invalid.until) && token.issued_at.is_none_or(|at| at < invalid.issued_before)
        };
        of_user.get("").is_some_and(is_old) || channel.is_some_and(is_old)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Forgets what has expired.
    pub(crate) fn sweep(&self) {
        if self.len() == 0 {
            return;
        }
        let mut lists = self.lock();
        lists.blocked.retain(|_, until| stands(*until));
        lists.tokens.retain(|_, until| stands(*until));
        lists.users.retain(|_, channels| {
            channels.retain(|_, invalid| stands(invalid.until));
            !channels.is_empty()
        });
        lists.pairs = lists.users.values().map(HashMap::len).sum();
        self.count(&lists);
    }

    /// Changes the lists, unless there is no room for one more entry.
    fn note(&self, change: impl FnOnce(&mut Lists)) -> Result<(), ApiError> {
        let mut lists = self.lock();
        if lists.len() >= MAX_ENTRIES {
            return Err(ApiError {
                message: "too many users and tokens are refused: let entries expire with expire_at".into(),
                ..ErrorCode::LIMIT_EXCEEDED.into()
            });
        }
        change(&mut lists);
        self.count(&lists);
        Ok(())
    }

    fn count(&self, lists: &Lists) {
        self.entries.store(lists.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        // Changed in single steps, so a poisoned list is whole.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    fn len(&self) -> usize {
        self.blocked.len() + self.tokens.len() + self.pairs
    }
}

fn stands(until: Until) -> bool {
    until.is_none_or(|until| Instant::now() < until)
}

/// Adds an entry, or has the one that is there stand for longer.
fn prolong<K: Hash + Eq>(list: &mut HashMap<K, Until>, key: K, until: Until) {
    let known = list.entry(key).or_insert(until);
    *known = later(*known, until);
}

fn later(one: Until, other: Until) -> Until {
    one.zip(other).map(|(one, other)| one.max(other))
}

/// Until when an entry stands that a back end gives a time in seconds since 1970; 0 is never. The outer `None` is for a time
/// that has passed.
fn until(expire_at: u64) -> Option<Until> {
    if expire_at == 0 {
        return Some(None);
    }
    let left = expire_at.checked_sub(unix_now()).filter(|seconds| *seconds > 0)?;
    // What no clock can say is never.
    Some(Instant::now().checked_add(Duration::from_secs(left)))
}

impl Node {
    /// Refuses a token from now on, by its `jti`, and takes back what it granted; answers how many connections and
    /// subscriptions ended.
    ///
    /// Clients whose connection ends are told 3014, those whose subscription ends 2502: they forget the token and ask the
    /// application for another. With the old one they get no further. It looks at every connection there is.
    ///
    /// `expire_at` is when the entry may be forgotten, in seconds since 1970: that of the token. 0 for never.
    ///
    /// # Errors
    ///
    /// 107 without an id or with one that is too long, 106 if there is no room to note it.
    pub fn revoke_token(&self, id: &str, expire_at: u64) -> Result<usize, ApiError> {
        check_id(id)?;
        if let Some(until) = until(expire_at) {
            self.revoked.note(|lists| prolong(&mut lists.tokens, id.into(), until))?;
        }
        let is_it = |token: &TokenTrace, _: GrantOf<'_>| token.id.as_deref() == Some(id);
        let mut ended = 0;
        self.users.for_each(|connection| ended += connection.take_back(is_it));
        Ok(ended)
    }

    /// Refuses every token of a user that was issued before a time, and takes back what such tokens granted, as
    /// [`revoke_token`](Self::revoke_token) does.
    ///
    /// With a `channel` it is about subscription tokens for that channel only. `issued_before` is in seconds since 1970; 0 for
    /// now. A token that does not say when it was issued (`iat`) counts as an old one.
    ///
    /// # Errors
    ///
    /// 107 without a user, 106 if there is no room to note it.
    pub fn invalidate_user_tokens(
        &self,
        user: &str,
        channel: &str,
        issued_before: u64,
        expire_at: u64,
    ) -> Result<usize, ApiError> {
        check_id(user)?;
        if channel.len() > MAX_ID_BYTES {
            return Err(ErrorCode::BAD_REQUEST.into());
        }
        let issued_before = if issued_before == 0 { unix_now() } else { issued_before };
        if let Some(until) = until(expire_at) {
            self.revoked.note(|lists| {
                let of_user = lists.users.entry(user.into()).or_default();
                let before = of_user.len();
                let known = of_user.entry(channel.into()).or_insert(Invalid { issued_before, until });
                known.issued_before = known.issued_before.max(issued_before);
                known.until = later(known.until, until);
                lists.pairs += of_user.len() - before;
            })?;
        }
        let is_old = |token: &TokenTrace, grant: GrantOf<'_>| {
            (channel.is_empty() || grant == GrantOf::Channel(channel))
                && token.issued_at.is_none_or(|at| at < issued_before)
        };
        Ok(self.users.of(user).iter().map(|connection| connection.take_back(is_old)).sum())
    }

    /// Lets a user in no more, and closes the user's connections with 3507; answers how many there were.
    ///
    /// `expire_at` is when the user may come again, in seconds since 1970. 0 for never.
    ///
    /// # Errors
    ///
    /// 107 without a user, 106 if there is no room to note it.
    pub fn block_user(&self, user: &str, expire_at: u64) -> Result<usize, ApiError> {
        check_id(user)?;
        if let Some(until) = until(expire_at) {
            self.revoked.note(|lists| {
                // The last word counts, also if it is for a shorter time.
                lists.blocked.insert(user.into(), until);
            })?;
        }
        let connections = self.users.of(user);
        connections.iter().for_each(|connection| connection.outbox.close(Disconnect::PERMISSION_DENIED));
        Ok(connections.len())
    }

    /// Lets a user in again. One who is not blocked is no error.
    ///
    /// # Errors
    ///
    /// 107 without a user.
    pub fn unblock_user(&self, user: &str) -> Result<(), ApiError> {
        check_id(user)?;
        let mut lists = self.revoked.lock();
        lists.blocked.remove(user);
        self.revoked.count(&lists);
        Ok(())
    }

    /// Who is refused although their token holds.
    pub(crate) fn revoked(&self) -> &Revoked {
        &self.revoked
    }
}

fn check_id(id: &str) -> Result<(), ApiError> {
    if id.is_empty() || id.len() > MAX_ID_BYTES { Err(ErrorCode::BAD_REQUEST.into()) } else { Ok(()) }
}

impl Connection {
    /// Takes back what was granted for tokens that `is_void` picks; answers how much that was.
    fn take_back(&self, is_void: impl Fn(&TokenTrace, GrantOf<'_>) -> bool) -> usize {
        let mut held = self.held();
        if held.token.as_ref().is_some_and(|token| is_void(token, GrantOf::Connection)) {
            self.outbox.close(Disconnect::STATE_INVALIDATED);
            return 1;
        }
        let mut ended = 0;
        for subscription in held.subscriptions.iter() {
            let grant = GrantOf::Channel(subscription.membership.channel());
            if subscription.token.as_ref().is_some_and(|token| is_void(token, grant)) {
                subscription.membership.end(&UnsubscribeCode::STATE_INVALIDATED);
                ended += 1;
            }
        }
        held.subscriptions.forget_ended();
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str, issued_at: u64) -> TokenTrace {
        TokenTrace { id: Some(id.into()), issued_at: Some(issued_at) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_stands_until_it_expires_and_the_longest_counts() {
        let node = Node::new(Default::default(), std::sync::Arc::new(bowline_store::MemoryStore::default()));
        let refuses = || node.revoked.refuses("u", &token("t", 5), GrantOf::Connection);
        assert!(!refuses());
        node.revoke_token("t", unix_now() + 100).unwrap();
        node.revoke_token("t", unix_now() + 10).unwrap();
        assert!(refuses());
        tokio::time::advance(Duration::from_secs(50)).await;
        assert!(refuses(), "the longer of the two");
        tokio::time::advance(Duration::from_secs(51)).await;
        assert!(!refuses());
        assert_eq!(node.revoked.len(), 1);
        node.revoked.sweep();
        assert_eq!(node.revoked.len(), 0);
        node.revoke_token("t", 1).unwrap();
        assert_eq!(node.revoked.len(), 0, "what has passed is not noted");
    }

    #[test]
    fn a_channel_is_about_subscriptions_and_none_is_about_everything() {
        let node = Node::new(Default::default(), std::sync::Arc::new(bowline_store::MemoryStore::default()));
        let refuses = |issued_at: Option<u64>, grant| {
            node.revoked.refuses("u", &TokenTrace { id: None, issued_at }, grant)
        };
        node.invalidate_user_tokens("u", "a", 10, 0).unwrap();
        assert!(refuses(Some(9), GrantOf::Channel("a")) && refuses(None, GrantOf::Channel("a")));
        assert!(!refuses(Some(10), GrantOf::Channel("a")) && !refuses(Some(9), GrantOf::Channel("b")));
        assert!(!refuses(Some(9), GrantOf::Connection));
        node.invalidate_user_tokens("u", "", 8, 0).unwrap();
        assert!(refuses(Some(7), GrantOf::Connection) && refuses(Some(7), GrantOf::Channel("b")));
        assert!(!refuses(Some(8), GrantOf::Connection) && refuses(Some(9), GrantOf::Channel("a")));
        assert!(!node.revoked.refuses("other", &token("t", 1), GrantOf::Connection));
        // A smaller time does not take back what was said before.
        node.invalidate_user_tokens("u", "a", 1, 0).unwrap();
        assert!(refuses(Some(9), GrantOf::Channel("a")));
    }

    #[test]
    fn there_are_only_so_many_and_who_asks_for_more_is_told() {
        let revoked = Revoked::default();
        for number in 0..MAX_ENTRIES {
            revoked.note(|lists| prolong(&mut lists.tokens, number.to_string().into(), None)).unwrap();
        }
        let full = revoked.note(|lists| prolong(&mut lists.tokens, "one more".into(), None)).unwrap_err();
        assert!(full.code == 106 && full.message.contains("expire_at"), "{full}");
        assert!(!revoked.refuses("", &token("one more", 0), GrantOf::Connection));
        assert!(revoked.refuses("", &token("7", 0), GrantOf::Connection));
    }
}
