//! Who is connected: every authenticated connection, found by its user.
//!
//! A session owns a [`Registration`] for as long as it is authenticated; dropping it takes the connection out.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_protocol::{ClientInfo, Disconnect, Secret};

use super::Node;
use super::outbox::Outbox;
use super::stats::Counters;

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
    /// Index in the list of the user's connections. Relaxed: guarded by the lock of the user's shard.
    slot: AtomicUsize,
}

impl Connection {
    pub(crate) fn new(info: Arc<ClientInfo>, session: Secret, outbox: Outbox) -> Self {
        Self { info, session, outbox, slot: AtomicUsize::new(0) }
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
    /// [`Disconnect::CONNECTION_LIMIT`] if the node or the user has as many connections as allowed.
    pub(crate) fn new(node: &Arc<Node>, connection: Connection) -> Result<Self, Disconnect> {
        let client = &node.config().client;
        let connection = node.users.insert(
            connection,
            client.connection_limit,
            client.user_connection_limit,
            &node.counters,
        )?;
        Ok(Self { node: Arc::clone(node), connection })
    }

    pub(crate) fn info(&self) -> &Arc<ClientInfo> {
        &self.connection.info
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.node.users.remove(&self.connection, &self.node.counters);
    }
}

/// The connections of every user.
#[derive(Debug)]
pub(crate) struct Users {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

type Shard = HashMap<Box<str>, Vec<Arc<Connection>>>;

impl Users {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// The connections of `user` at this moment.
    pub(crate) fn of(&self, user: &str) -> Vec<Arc<Connection>> {
        self.shard(user).get(user).cloned().unwrap_or_default()
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
    ) -> Result<Arc<Connection>, Disconnect> {
        let user = &*connection.info.user;
        // Anonymous clients are not one user: a limit per user would let one of them shut out the others.
        let user_limit = user_limit.filter(|_| !user.is_empty()).map_or(usize::MAX, NonZeroUsize::get);
        let mut shard = self.shard(user);
        let connected = shard.get(user).map_or(0, Vec::len);
        let limit = limit.map_or(u64::MAX, |limit| limit.get() as u64);
        if connected >= user_limit || !counters.clients.increment_below(limit) {
            return Err(Disconnect::CONNECTION_LIMIT);
        }
        connection.slot.store(connected, Ordering::Relaxed);
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
            .map(|client| users.insert(connection("u", client), None, None, &counters).unwrap())
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
        let insert = |user| users.insert(connection(user, 0), five, two, &counters).map(drop);
        assert_eq!((insert("a"), insert("a")), (Ok(()), Ok(())));
        assert_eq!(insert("a"), Err(Disconnect::CONNECTION_LIMIT));
        assert_eq!((insert(""), insert(""), insert("")), (Ok(()), Ok(()), Ok(())));
        assert_eq!(insert("b"), Err(Disconnect::CONNECTION_LIMIT));
        assert_eq!((counters.clients.value(), counters.users.value()), (5, 2));
    }
}
