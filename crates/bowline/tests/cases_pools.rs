//! What went wrong in others' pools, in the forms that a semaphore and a queue give it: a lease is a permit with a connection, or a
//! delivery of a queue of connections. More of these are in `semaphore.rs`: `CASES.md` has the list.

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline::{
    AcquireError, Bound, Cancelled, Either, Overflow, Semaphore, SemaphorePermit, race, scope, shielded,
    timeout,
};
use support::{cancel_context_everywhere, cancel_everywhere, queue, yield_now};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// A connection, and what the server at its other end thinks that it is doing.
#[derive(Debug, Default, PartialEq)]
struct Connection {
    in_transaction: bool,
}

/// As many connections as permits; those that nobody uses are idle.
struct Pool {
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
    opened: AtomicU32,
}

/// A permit and its connection. Dropped, the connection is closed: only [`finish`](Self::finish) says that it can be used again.
struct Lease<'a> {
    pool: &'a Pool,
    connection: Connection,
    _slot: SemaphorePermit<'a>,
}

impl Pool {
    fn new(connections: usize) -> Self {
        Self { slots: Semaphore::new("pool", connections), idle: Mutex::default(), opened: AtomicU32::new(0) }
    }

    async fn lease(&self) -> Result<Lease<'_>, AcquireError> {
        let slot = self.slots.acquire(1).await?;
        let idle = self.idle.lock().unwrap().pop();
        let connection = idle.unwrap_or_else(|| {
            self.opened.fetch_add(1, Ordering::Relaxed);
            Connection::default()
        });
        Ok(Lease { pool: self, connection, _slot: slot })
    }
}

impl Lease<'_> {
    /// `BEGIN`, a query and `COMMIT`, each a round trip.
    async fn transaction(&mut self) {
        self.connection.in_transaction = true;
        yield_now(3).await;
        self.connection.in_transaction = false;
    }

    fn finish(self) {
        self.pool.idle.lock().unwrap().push(self.connection);
    }
}

/// bb8#59: dropped by a time-out between the checkout and the making of its guard, the connection is lost.
/// bb8#67: the same when hyper cancels handlers whose clients have gone: soon the pool is empty, and everybody times out.
#[bowline::test]
async fn a_checkout_cut_at_any_await_leaves_every_connection_in_the_pool() {
    const CONNECTIONS: usize = 2;

    let (put, take) = tokio::sync::mpsc::channel(CONNECTIONS);
    (0..CONNECTIONS).for_each(|connection| put.try_send(connection).unwrap());
    let take = tokio::sync::Mutex::new(take);
    let bare = || async {
        let connection = take.lock().await.recv().await.unwrap();
        yield_now(1).await; // is it still good?
        put.try_send(connection).unwrap();
    };
    cancel_everywhere(bare, async |_, _| ()).await;
    assert!(take.lock().await.len() < CONNECTIONS, "the bare pool has lost one");

    let (put, take) = queue(Bound::items(CONNECTIONS), Overflow::Reject).await;
    (0..CONNECTIONS).for_each(|connection| put.try_send(connection).unwrap());
    let handler = || async {
        let connection = take.recv_delivery().await?.expect("the pool is open");
        yield_now(1).await; // is it still good?
        yield_now(1).await; // a query
        connection.nack(); // back to where it came from, as without this line
        Ok::<_, Cancelled>(())
    };
    // More handlers than connections: some of those that are cut stand in line, or have just been given one.
    let handlers = || async {
        let (a, b, c) = futures_util::future::join3(handler(), handler(), handler()).await;
        a.and(b).and(c)
    };
    let check = async |_, _| {
        let stats = put.stats();
        assert_eq!((stats.depth_items, stats.in_flight, stats.waiting_receivers), (CONNECTIONS, 0, 0));
    };
    assert!(cancel_everywhere(handlers, check).await >= 3);
    assert!(cancel_context_everywhere(handlers, check).await >= 3);
}

/// sqlx#4393, sqlx#4385: cancelled while its BEGIN is on the way, the connection goes back into the pool inside of a transaction.
/// windmill#10823: in production, 20 minutes in which every query of one pod fails in somebody else's aborted transaction.
#[bowline::test]
async fn a_lease_that_is_cut_is_not_used_again_and_its_slot_is() {
    let pool = Mutex::new(vec![Connection::default()]);
    let bare = || async {
        struct ReturnsOnDrop<'a>(&'a Mutex<Vec<Connection>>, Option<Connection>);
        impl Drop for ReturnsOnDrop<'_> {
            fn drop(&mut self) {
                self.0.lock().unwrap().extend(self.1.take());
            }
        }
        let connection = pool.lock().unwrap().pop();
        let mut guard = ReturnsOnDrop(&pool, connection);
        guard.1.as_mut().unwrap().in_transaction = true;
        yield_now(1).await;
        guard.1.as_mut().unwrap().in_transaction = false;
    };
    let mut poisoned = 0;
    cancel_everywhere(bare, async |_, _| {
        poisoned += usize::from(pool.lock().unwrap()[0].in_transaction);
    })
    .await;
    assert_eq!(poisoned, 1, "the bare pool hands it out");

    let pool = Pool::new(1);
    let handler = || async {
        let mut lease = pool.lease().await?;
        lease.transaction().await;
        lease.finish();
        Ok::<_, AcquireError>(())
    };
    let check = async |_, _| {
        assert_eq!(pool.slots.free_permits(), 1);
        assert!(pool.idle.lock().unwrap().iter().all(|idle| !idle.in_transaction));
    };
    let rounds = cancel_everywhere(handler, check).await;
    assert!(rounds >= 3);
    // One closed and opened anew for each round that was cut.
    assert_eq!(pool.opened.load(Ordering::Relaxed) as usize, rounds);
}

/// blockfrost-platform#183: the client leaves, its handler is dropped in the middle of a protocol with the node, and the connection is
/// used again in a state in which it is not ours to speak. What must be said to its end is said under a shield.
#[bowline::test(start_paused = true)]
async fn an_exchange_under_a_shield_comes_to_its_end_and_its_connection_is_used_again() {
    let pool = Pool::new(1);
    let handler = || async {
        let mut lease = pool.lease().await?;
        yield_now(2).await; // reads the request
        shielded(5 * SECOND, lease.transaction()).await?;
        lease.finish();
        Ok::<_, Cancelled>(())
    };
    let rounds = cancel_context_everywhere(handler, async |_, _| {
        assert_eq!(pool.slots.free_permits(), 1);
        assert!(pool.idle.lock().unwrap().iter().all(|idle| !idle.in_transaction));
    })
    .await;
    assert!(rounds >= 4);

    // Cancelled inside of the exchange, after its first round trip.
    let opened = pool.opened.load(Ordering::Relaxed);
    let handled = scope("server", async |s| {
        let server = s.handle();
        let handled = async {
            let mut lease = pool.lease().await?;
            let leaves = async {
                yield_now(1).await;
                server.cancel("the client left");
            };
            shielded(5 * SECOND, futures_util::future::join(lease.transaction(), leaves)).await?;
            lease.finish();
            bowline::check()
        };
        handled.await
    });
    assert_eq!(handled.await.unwrap_err().to_string(), "cancelled: the client left");
    assert_eq!(*pool.idle.lock().unwrap(), [Connection { in_transaction: false }]);
    assert_eq!(pool.opened.load(Ordering::Relaxed), opened, "and it was not closed");
}

/// sqlx#2276: "pool timed out" has at least four causes: too many wait, something leaks connections, connecting fails, queries are slow;
/// and nothing says which. Whoever times out here can look at who waits, and at who holds, since when and where.
#[bowline::test(start_paused = true)]
async fn whoever_times_out_at_a_pool_can_say_who_holds_it() -> Result<(), Cancelled> {
    scope("service", async |s| {
        let pool = s.cx().share("pool", Pool::new(2));
        let (leaks, slow) = (line!() + 2, line!() + 6);
        s.spawn_with("leaks", pool.clone(), async |_cx, pool| {
            let _forgotten = pool.slots.acquire(1).await?;
            std::future::pending::<Result<(), Cancelled>>().await
        });
        s.spawn_with("slow query", pool.clone(), async |_cx, pool| {
            let _slot = pool.slots.acquire(1).await?;
            sleep(60 * SECOND).await;
            Ok(())
        });
        yield_now(2).await;
        for _ in 0..3 {
            s.spawn_with("request", pool.clone(), async |_cx, pool| {
                pool.slots.acquire(1).await.map(drop).map_err(Cancelled::from)
            });
        }
        let look = async {
            sleep(SECOND / 2).await;
            pool.slots.stats()
        };
        let (late, seen) = bowline::join(timeout(SECOND, pool.lease()), look).await;
        assert!(!matches!(late, Ok(Ok(_))));
        assert_eq!(seen.waiters.len(), 4, "{seen:?}");
        let places: Vec<_> = seen.holders.iter().map(|holder| holder.place.rsplit(':').next()).collect();
        assert_eq!(places, [Some(&*leaks.to_string()), Some(&*slow.to_string())], "{seen:?}");
        assert!(seen.holders.iter().all(|holder| holder.task.is_some()));
        s.cancel("seen");
        Ok(())
    })
    .await
    .or_else(|why: Cancelled| if why.to_string() == "cancelled: seen" { Ok(()) } else { Err(why) })
}

/// sqlx#2848: an acquire that has decided to open a connection tries just that until its time is up, with a server that refuses,
/// while connections come back to the pool. A race takes what comes first, and its loser is gone.
#[bowline::test(start_paused = true)]
async fn an_acquire_that_cannot_connect_takes_the_connection_that_comes_back() {
    let (put, idle) = queue(Bound::items(1), Overflow::Reject).await;
    let tries = AtomicU32::new(0);
    let connect = async {
        loop {
            tries.fetch_add(1, Ordering::Relaxed);
            sleep(SECOND / 10).await; // "too many connections": once more
        }
    };
    let comes_back = async {
        sleep(SECOND).await;
        put.try_send(Connection::default()).unwrap();
    };
    let began = Instant::now();
    let acquire = timeout(30 * SECOND, race(idle.recv_delivery(), connect));
    let (acquired, ()) = futures_util::future::join(acquire, comes_back).await;
    let Ok(Either::<_, ()>::Left(Ok(Some(connection)))) = acquired else { panic!("it timed out") };
    assert_eq!((began.elapsed().as_secs(), tries.load(Ordering::Relaxed)), (1, 10));
    drop(connection);
}

/// sea-orm#896: the pool is exhausted, and the wrapper does not pass the knob of the acquire time-out through. A wait here needs no
/// knob: it ends with the deadline of whoever waits.
#[bowline::test(start_paused = true)]
async fn a_wait_for_a_connection_ends_with_the_deadline_of_the_request() -> Result<(), AcquireError> {
    async fn library_call(pool: &Pool) -> Result<(), AcquireError> {
        pool.lease().await?.finish(); // knows of no time limit
        Ok(())
    }
    let pool = Pool::new(1);
    let held = pool.lease().await?;
    let began = Instant::now();
    let ended = timeout(3 * SECOND, library_call(&pool)).await;
    assert!(matches!(ended, Ok(Err(AcquireError::Cancelled(late))) | Err(late) if late.is_deadline()));
    assert_eq!((began.elapsed().as_secs(), pool.slots.stats().waiters.len()), (3, 0));
    held.finish();
    library_call(&pool).await
}
