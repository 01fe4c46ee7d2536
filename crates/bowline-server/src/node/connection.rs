//! Who is connected: every authenticated connection, found by its user.
//!
//! A session owns a [`Registration`] for as long as it is authenticated; dropping it takes the connection out of the
//! table, and its subscriptions out of their channels.
//!
//! What a connection has and back ends may change, its subscriptions and its expiry, lies in [`Held`] under a lock of
//! its own: the session takes it for each command, the server API for each call. It comes before all locks of channels.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_protocol::{ClientInfo, Disconnect, Secret};

use super::Node;
use super::expiry::Expiry;
use super::outbox::Outbox;
use super::revoked::{GrantOf, Revoked, TokenTrace};
use super::stats::Counters;
use super::subscriptions::Subscriptions;
use crate::token::unix_now;

/// Shards of the table of users: connecting and leaving hold one lock for about a hundred nanoseconds.
const SHARDS: usize = 64;

/// One authenticated connection, as the rest of the node sees it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// User, connection id and what the token says about the connection; shared with every publication of it.
    pub(crate) info: Arc<ClientInfo>,
    /// The secret by which other requests name this connection; empty on transports that need none.
    pub(crate) session: Secret,
    /// The outgoing queue.
    pub(crate) outbox: Outbox,
    /// What operators are told about it.
    pub(crate) about: About,
    held: Mutex<Held>,
    /// Whether a back end changed something that ends at a time. Relaxed: what it announces is read under the lock.
    is_renewed: AtomicBool,
    /// Rises with every connection of the node. Relaxed: set under the lock of the user's shard, before anybody sees it.
    number: AtomicU64,
    /// Index in the list of the user's connections. Relaxed: guarded by the lock of the user's shard.
    slot: AtomicUsize,
}

impl Connection {
    pub(crate) fn new(info: Arc<ClientInfo>, session: Secret, outbox: Outbox) -> Self {
        Self {
            info,
            session,
            outbox,
            about: About::default(),
            held: Mutex::default(),
            is_renewed: AtomicBool::new(false),
            number: AtomicU64::new(0),
            slot: AtomicUsize::new(0),
        }
    }

    /// Notes what operators are told about the connection.
    pub(crate) fn told_of(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    /// Notes the token that let the connection in, if one did.
    pub(crate) fn with_token(mut self, token: Option<Box<TokenTrace>>) -> Self {
        self.held.get_mut().unwrap_or_else(PoisonError::into_inner).token = token;
        self
    }

    /// Says which of two connections of one user came later: that with the larger number.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Notes that what ends when is to be looked at anew. A push that wakes the connection's owner goes with it.
    pub(crate) fn note_renewed(&self) {
        self.is_renewed.store(true, Ordering::Relaxed);
    }

    /// Whether something was noted since the last call.
    pub(crate) fn take_renewed(&self) -> bool {
        self.is_renewed.load(Ordering::Relaxed) && self.is_renewed.swap(false, Ordering::Relaxed)
    }

    /// What the connection has. Nothing waits while it is locked.
    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        // A panic under the lock leaves the list whole: it is changed in single steps.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What operators are told about a connection.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// The name of its transport.
    pub(crate) transport: &'static str,
    /// When it connected, in seconds since 1970.
    pub(crate) connected_at: u64,
    /// Name and version of the application, as the client says.
    app: Option<Box<(Box<str>, Box<str>)>>,
}

/// Bytes that are kept of the name, and of the version, that a client gives its application.
const MAX_APP_BYTES: usize = 128;

impl About {
    pub(crate) fn new(transport: &'static str, name: &str, version: &str) -> Self {
        let cut = |text: &str| Box::from(text.get(..text.floor_char_boundary(MAX_APP_BYTES)).unwrap_or(""));
        let has_app = !name.is_empty() || !version.is_empty();
        let app = has_app.then(|| Box::new((cut(name), cut(version))));
        Self { transport, connected_at: unix_now(), app }
    }

    /// Name and version of the application; empty where the client says nothing.
    pub(crate) fn app(&self) -> (&str, &str) {
        self.app.as_deref().map_or(("", ""), |(name, version)| (name, version))
    }
}

/// What a connection has that both its session and back ends change.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) subscriptions: Subscriptions,
    /// When the connection expires.
    pub(crate) expiry: Option<Expiry>,
    /// What a back end said about the connection since it connected.
    pub(crate) info: Option<Arc<ClientInfo>>,
    /// The token that the connection has last shown.
    pub(crate) token: Option<Box<TokenTrace>>,
    phase: HeldPhase,
}

/// Whether back ends may change what a connection has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HeldPhase {
    /// Not yet: the connect command is not answered.
    #[default]
    Connecting,
    Open,
    /// No more: the session is gone, and nothing would ever take away what is added now.
    Closed,
}

impl Held {
    /// Lets back ends in, behind the answer to the connect command.
    pub(crate) fn open(&mut self) {
        self.phase = HeldPhase::Open;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == HeldPhase::Open
    }
}

/// A connection's place in the table of users, given up when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    node: Arc<Node>,
    connection: Arc<Connection>,
}

impl Registration {
    /// Takes `connection` into the table.
    ///
    /// # Errors
    ///
    /// [`Disconnect::CONNECTION_LIMIT`] if the node or the user has as many connections as allowed,
    /// [`Disconnect::PERMISSION_DENIED`] if the user is blocked, [`Disconnect::INVALID_TOKEN`] if the token was revoked.
    pub(crate) fn new(node: &Arc<Node>, connection: Connection) -> Result<Self, Disconnect> {
        let client = &node.config().client;
        let connection = node.users.insert(
            connection,
            client.connection_limit,
            client.user_connection_limit,
            &node.counters,
            &node.revoked,
        )?;
        Ok(Self { node: Arc::clone(node), connection })
    }

    pub(crate) fn info(&self) -> &Arc<ClientInfo> {
        &self.connection.info
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut held = self.connection.held();
        let has_connected = held.phase == HeldPhase::Open;
        held.phase = HeldPhase::Closed;
        let subscriptions = std::mem::take(&mut held.subscriptions);
        drop(held);
        // Members leave their channels before the connection leaves the table of users.
        drop(subscriptions);
        self.node.users.remove(&self.connection, &self.node.counters);
        // Of one that was refused in the end nobody was told that it connected.
        if let Some(sink) = self.node.events.disconnect().filter(|_| has_connected) {
            let reason = self.connection.outbox.disconnect().unwrap_or(Disconnect::CONNECTION_CLOSED);
            sink.tell_disconnected(&self.connection.info, self.connection.about.transport, reason);
        }
    }
}

/// The connections of every user.
#[derive(Debug)]
pub(crate) struct Users {
    shards: Box<[Mutex<Shard>]>,
    /// Connections there have been.
    numbers: AtomicU64,
    hasher: RandomState,
}

type Shard = HashMap<Box<str>, Vec<Arc<Connection>>>;

impl Users {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            numbers: AtomicU64::new(0),
            hasher: RandomState::new(),
        }
    }

    /// The connections of `user` at this moment.
    pub(crate) fn of(&self, user: &str) -> Vec<Arc<Connection>> {
        self.shard(user).get(user).cloned().unwrap_or_default()
    }

    /// At most `most` connections, of whoever they are.
    pub(crate) fn some(&self, most: usize) -> Vec<Arc<Connection>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let left = most - found.len();
            found.extend(lock(shard).values().flatten().take(left).cloned());
        }
        found
    }

    /// Calls `act` for every connection there is, a shard at a time.
    pub(crate) fn for_each(&self, mut act: impl FnMut(&Connection)) {
        for shard in &self.shards {
            // Copied out, so that no lock is held while `act` takes others.
            let connections: Vec<_> = lock(shard).values().flatten().cloned().collect();
            for connection in &connections {
                act(connection);
            }
        }
    }

    fn insert(
        &self,
        connection: Connection,
        limit: Option<NonZeroUsize>,
        user_limit: Option<NonZeroUsize>,
        counters: &Counters,
        revoked: &Revoked,
    ) -> Result<Arc<Connection>, Disconnect> {
        let user = &*connection.info.user;
        // Anonymous clients are not one user: a limit per user would let one of them shut out the others.
        let user_limit = user_limit.filter(|_| !user.is_empty()).map_or(usize::MAX, NonZeroUsize::get);
        let mut shard = self.shard(user);
        // Under the lock: see invariant 1 of `revoked`.
        if revoked.is_blocked(user) {
            return Err(Disconnect::PERMISSION_DENIED);
        }
        let is_void = |token: &TokenTrace| revoked.refuses(user, token, GrantOf::Connection);
        if connection.held().token.as_deref().is_some_and(is_void) {
            return Err(Disconnect::INVALID_TOKEN);
        }
        let connected = shard.get(user).map_or(0, Vec::len);
        let limit = limit.map_or(u64::MAX, |limit| limit.get() as u64);
        if connected >= user_limit || !counters.clients.increment_below(limit) {
            return Err(Disconnect::CONNECTION_LIMIT);
        }
        connection.slot.store(connected, Ordering::Relaxed);
        connection.number.store(self.numbers.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let connection = Arc::new(connection);
        match shard.get_mut(&*connection.info.user) {
            Some(connections) => connections.push(Arc::clone(&connection)),
            None => {
                counters.users.increment();
                shard.insert(connection.info.user.as_str().into(), vec![Arc::clone(&connection)]);
            }
        }
        Ok(connection)
    }

    fn remove(&self, connection: &Arc<Connection>, counters: &Counters) {
        let user = &*connection.info.user;
        let mut shard = self.shard(user);
        let Some(connections) = shard.get_mut(user) else { return };
        let slot = connection.slot.load(Ordering::Relaxed);
        if !connections.get(slot).is_some_and(|found| Arc::ptr_eq(found, connection)) {
            return;
        }
        connections.swap_remove(slot);
        if let Some(moved) = connections.get(slot) {
            moved.slot.store(slot, Ordering::Relaxed);
        }
        counters.clients.decrement();
        if connections.is_empty() {
            shard.remove(user);
            counters.users.decrement();
        }
    }

    fn shard(&self, user: &str) -> MutexGuard<'_, Shard> {
        // The remainder is below SHARDS, so the index exists.
        lock(&self.shards[(self.hasher.hash_one(user) % SHARDS as u64) as usize])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing under the lock can stop half-way, so a poisoned shard is whole.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(user: &str, client: usize) -> Connection {
        let info = ClientInfo { user: user.into(), client: client.to_string(), ..ClientInfo::default() };
        Connection::new(Arc::new(info), Secret::default(), Outbox::new(NonZeroUsize::MIN))
    }

    fn clients(users: &Users, user: &str) -> Vec<String> {
        let mut clients: Vec<_> = users.of(user).iter().map(|c| c.info.client.clone()).collect();
        clients.sort();
        clients
    }

    #[test]
    fn connections_leave_in_any_order() {
        let (users, counters) = (Users::new(), Counters::new());
        let mut connected: Vec<_> = (0..5)
            .map(|client| {
                users.insert(connection("u", client), None, None, &counters, &Revoked::default()).unwrap()
            })
            .collect();
        users.remove(&connected.remove(1), &counters);
        users.remove(&connected.remove(3), &counters);
        assert_eq!(clients(&users, "u"), ["0", "2", "3"]);
        users.remove(&connected[0], &counters);
        users.remove(&connected[0], &counters);
        assert_eq!(clients(&users, "u"), ["2", "3"]);
        assert_eq!((counters.clients.value(), counters.users.value()), (2, 1));
        for connection in &connected {
            users.remove(connection, &counters);
        }
        assert_eq!((counters.clients.value(), counters.users.value()), (0, 0));
        assert!(users.shards.iter().all(|shard| lock(shard).is_empty()));
    }

    #[test]
    fn limits_hold_for_the_user_and_for_the_node_but_not_for_the_anonymous_user() {
        let (users, counters) = (Users::new(), Counters::new());
        let (two, five) = (NonZeroUsize::new(2), NonZeroUsize::new(5));
        let insert =
            |user| users.insert(connection(user, 0), five, two, &counters, &Revoked::default()).map(drop);
        assert_eq!((insert("a"), insert("a")), (Ok(()), Ok(())));
        assert_eq!(insert("a"), Err(Disconnect::CONNECTION_LIMIT));
        assert_eq!((insert(""), insert(""), insert("")), (Ok(()), Ok(()), Ok(())));
        assert_eq!(insert("b"), Err(Disconnect::CONNECTION_LIMIT));
        assert_eq!((counters.clients.value(), counters.users.value()), (5, 2));
    }
}
