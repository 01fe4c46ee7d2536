//! What went wrong in others' pools, and what a pool of leases makes of it. `CASES.md` has the list; more of these are in
//! `lease.rs` and `semaphore.rs`.

mod support;

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bowline::{Cancelled, LeaseError, LeasePool, Leases, Scope, scope, shielded, timeout};
use support::{cancel_context_everywhere, cancel_everywhere, parked, yield_now};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// More turns than the pool needs for what it has to do.
const SETTLED: usize = 20;

/// A connection, and what the server at its other end thinks that it is doing.
#[derive(Debug, Default, PartialEq)]
struct Connection {
    in_transaction: bool,
}

impl Connection {
    /// `BEGIN`, a query and `COMMIT`, each a round trip.
    async fn transaction(&mut self) {
        self.in_transaction = true;
        yield_now(3).await;
        self.in_transaction = false;
    }
}

fn leases(connections: usize) -> Leases<Connection> {
    Leases::new("db", connections, async || {
        yield_now(1).await;
        Ok::<_, io::Error>(Connection::default())
    })
}

/// Runs `body` in a service with a pool.
async fn with_pool<R>(leases: Leases<Connection>, body: impl AsyncFnOnce(&LeasePool<Connection>) -> R) -> R {
    let ran = scope("service", async |s: &Scope<Cancelled>| Ok(body(&leases.start(s)).await)).await;
    ran.expect("nobody cancels it")
}

/// The pool has all its places, nothing in it is dirty, and nobody waits.
async fn is_whole(pool: &LeasePool<Connection>) {
    yield_now(SETTLED).await;
    let stats = pool.stats();
    assert_eq!((stats.leased, stats.waiting, stats.making, stats.discarding), (0, 0, 0, 0));
    let mut all = Vec::new();
    for _ in 0..stats.max {
        let lease = pool.acquire().await.expect("the place is free");
        assert!(!lease.in_transaction, "somebody else's transaction");
        all.push(lease);
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

    let checked = leases(CONNECTIONS)
        .check(async |_: &mut Connection| {
            yield_now(1).await; // is it still good?
            Ok::<_, io::Error>(())
        })
        .check_after(Duration::ZERO);
    with_pool(checked, async |pool| {
        let handler = || async {
            let _lease = pool.acquire().await?;
            yield_now(1).await; // a query
            Ok::<_, LeaseError>(())
        };
        // More handlers than connections: some of those that are cut stand in line, or have just been given one.
        let handlers = || async {
            let (a, b, c) = futures_util::future::join3(handler(), handler(), handler()).await;
            a.and(b).and(c)
        };
        assert!(cancel_everywhere(handlers, async |_, _| is_whole(pool).await).await >= 3);
        let discarded = pool.stats().discarded;
        assert_eq!(discarded.cancelled, 0, "a mere drop gives back");
        assert!(cancel_context_everywhere(handlers, async |_, _| is_whole(pool).await).await >= 3);
    })
    .await;
}

/// sqlx#4393, sqlx#4385: cancelled while its BEGIN is on the way, the connection goes back into the pool inside of a transaction.
/// windmill#10823: in production, 20 minutes in which every query of one pod fails in somebody else's aborted transaction.
/// diesel_async#96: transactions dangle in a pool of deadpool's when the future that had begun them is dropped.
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

    // Dropped by whomever: seen where it is used in `using`.
    with_pool(leases(1), async |pool| {
        is_whole(pool).await; // there is one: the first cut is in the transaction
        let handler = || async {
            let mut lease = pool.acquire().await?;
            lease.using(async |connection| connection.transaction().await).await;
            Ok::<_, LeaseError>(())
        };
        let rounds = cancel_everywhere(handler, async |_, _| is_whole(pool).await).await;
        assert!(rounds >= 4);
        assert!(pool.stats().discarded.cancelled >= 3, "one for each await of the transaction");
    })
    .await;

    // A pool that takes no drop for a good end sees it without.
    with_pool(leases(1).discard_dropped(), async |pool| {
        is_whole(pool).await;
        let handler = || async {
            let mut lease = pool.acquire().await?;
            lease.transaction().await;
            lease.give_back();
            Ok::<_, LeaseError>(())
        };
        cancel_everywhere(handler, async |_, _| is_whole(pool).await).await;
        assert!(pool.stats().discarded.cancelled >= 3);
    })
    .await;

    // Cancelled by a deadline, a client or a shutdown, as a context: seen in any case.
    with_pool(leases(1), async |pool| {
        is_whole(pool).await;
        let handler = || async {
            let mut lease = pool.acquire().await?;
            lease.transaction().await;
            Ok::<_, LeaseError>(())
        };
        cancel_context_everywhere(handler, async |_, _| is_whole(pool).await).await;
        assert!(pool.stats().discarded.cancelled >= 3);
    })
    .await;

    // A reset takes back whatever was left, however it was left.
    let rolls_back = leases(1).reset(async |connection: &mut Connection| {
        yield_now(1).await;
        connection.in_transaction = false;
        Ok::<_, io::Error>(())
    });
    with_pool(rolls_back, async |pool| {
        let handler = || async {
            let mut lease = pool.acquire().await?;
            lease.transaction().await;
            Ok::<_, LeaseError>(())
        };
        cancel_everywhere(handler, async |_, _| is_whole(pool).await).await;
        assert_eq!(pool.stats().made, 1);
    })
    .await;
}

/// blockfrost-platform#183: the client leaves, its handler is dropped in the middle of a protocol with the node, and the connection is
/// used again in a state in which it is not ours to speak. What must be said to its end is said under a shield.
#[bowline::test(start_paused = true)]
async fn an_exchange_under_a_shield_comes_to_its_end_and_its_connection_is_used_again() {
    with_pool(leases(1), async |pool| {
        let handler = || async {
            let mut lease = pool.acquire().await?;
            yield_now(2).await; // reads the request
            shielded(5 * SECOND, lease.transaction()).await?;
            lease.give_back();
            Ok::<_, Cancelled>(())
        };
        let rounds = cancel_context_everywhere(handler, async |_, _| is_whole(pool).await).await;
        assert!(rounds >= 4);

        // Cancelled inside of the exchange, after its first round trip.
        let made = pool.stats().made;
        let handled = scope("server", async |s| {
            let server = s.handle();
            let mut lease = pool.acquire().await?;
            let leaves = async {
                yield_now(1).await;
                server.cancel("the client left");
            };
            shielded(5 * SECOND, futures_util::future::join(lease.transaction(), leaves)).await?;
            lease.give_back();
            bowline::check()
        });
        assert_eq!(handled.await.unwrap_err().to_string(), "cancelled: the client left");
        assert_eq!((pool.stats().idle, pool.stats().made), (1, made), "it was not closed");
        is_whole(pool).await;
    })
    .await;
}

/// sqlx#2276: "pool timed out" has at least four causes: too many wait, something leaks connections, connecting fails, queries are slow;
/// and nothing says which. Here the error does: each names another one.
#[bowline::test(start_paused = true)]
async fn whoever_times_out_at_a_pool_can_say_who_holds_it() -> Result<(), Cancelled> {
    let refuses = || Leases::new("db", 2, async || Err::<Connection, _>(io::Error::other("no route")));
    let slow = || {
        Leases::new("db", 2, async || {
            sleep(10 * SECOND).await;
            Ok::<_, io::Error>(Connection::default())
        })
    };
    with_pool(refuses(), async |pool| {
        let error = pool.acquire().await.unwrap_err();
        assert!(matches!(error, LeaseError::CannotMake(_)), "{error}");
        assert!(
            error.to_string().ends_with("no route; of 2: 0 leased, 0 idle, 0 being made; others in line: 0")
        );
    })
    .await;
    with_pool(slow(), async |pool| {
        let error = pool.acquire().await.unwrap_err();
        assert!(matches!(error, LeaseError::TooSlow(_)), "{error}");
        assert!(error.to_string().contains("0 leased, 0 idle, 1 being made"), "{error}");
    })
    .await;
    scope("service", async |s| {
        let pool = leases(2).start(s);
        let (of_leak, of_report) = (pool.clone(), pool.clone());
        let (leaks, slow) = (line!() + 2, line!() + 6);
        s.spawn("leaks", async move {
            let _forgotten = of_leak.acquire().await?;
            std::future::pending::<Result<(), Cancelled>>().await
        });
        s.spawn("slow query", async move {
            let _lease = of_report.acquire().await?;
            sleep(MINUTE).await;
            Ok(())
        });
        sleep(MINUTE / 2).await;
        for _ in 0..3 {
            let pool = pool.clone();
            s.spawn("request", async move {
                sleep(SECOND).await;
                pool.acquire().await.map(drop).or(Ok(()))
            });
        }
        let error = pool.acquire().await.unwrap_err();
        let LeaseError::AllLeased(shortage) = &error else { panic!("{error}") };
        assert_eq!(shortage.waiting, 3, "{error}");
        let holders = shortage.holders.iter().map(|h| (h.task, h.place.rsplit(':').next().unwrap()));
        let (leaks, slow) = (leaks.to_string(), slow.to_string());
        let wanted = [(Some("leaks"), &*leaks), (Some("slow query"), &*slow)];
        assert!(holders.eq(wanted), "{error}");
        assert!(shortage.holders.iter().all(|holder| holder.held_for_ms / 1_000 == 35), "{error}");
        s.cancel("seen");
        Ok(())
    })
    .await
    .or_else(|why: Cancelled| if why.to_string() == "cancelled: seen" { Ok(()) } else { Err(why) })
}

/// sqlx#2848: an acquire that has decided to open a connection tries just that until its time is up, with a server that refuses,
/// while connections come back to the pool. Here the pool tries, and whoever waits takes what comes first.
#[bowline::test(start_paused = true)]
async fn an_acquire_that_cannot_connect_takes_the_connection_that_comes_back() {
    static REFUSES: AtomicBool = AtomicBool::new(false);
    static TRIES: AtomicUsize = AtomicUsize::new(0);
    let leases = Leases::new("db", 2, async || {
        TRIES.fetch_add(1, Relaxed);
        yield_now(1).await;
        if REFUSES.load(Relaxed) { Err(io::Error::other("too many")) } else { Ok(Connection::default()) }
    });
    with_pool(leases, async |pool| {
        let held = pool.acquire().await.unwrap();
        REFUSES.store(true, Relaxed);
        let comes_back = async {
            sleep(SECOND).await;
            drop(held);
        };
        let began = Instant::now();
        let (acquired, ()) = futures_util::future::join(pool.acquire(), comes_back).await;
        drop(acquired.expect("it came back"));
        assert_eq!(began.elapsed().as_secs(), 1);
        assert!(TRIES.load(Relaxed) > 2, "the pool tried meanwhile");
    })
    .await;
}

/// sea-orm#896: the pool is exhausted, and the wrapper does not pass the knob of the acquire time-out through. A wait here needs no
/// knob: it ends with the deadline of whoever waits.
#[bowline::test(start_paused = true)]
async fn a_wait_for_a_connection_ends_with_the_deadline_of_the_request() {
    async fn library_call(pool: &LeasePool<Connection>) -> Result<(), LeaseError> {
        pool.acquire().await.map(drop) // knows of no time limit
    }
    with_pool(leases(1), async |pool| {
        let held = pool.acquire().await.unwrap();
        let began = Instant::now();
        let late = match timeout(3 * SECOND, library_call(pool)).await {
            Ok(ended) => Cancelled::from(ended.unwrap_err()),
            Err(late) => late,
        };
        assert!(late.is_deadline());
        assert_eq!((began.elapsed().as_secs(), pool.stats().waiting), (3, 0));
        drop(held);
        library_call(pool).await.unwrap();
    })
    .await;
}

/// deadpool#9: waiting, connecting and recycling have no time limit unless somebody wraps each call in one; an exhausted pool
/// hangs. Here each has one.
/// rsky#224: what that came to: work that silently stands still, and connections that are idle for 23 hours.
#[bowline::test(start_paused = true)]
async fn nothing_about_a_pool_waits_for_ever_unless_somebody_says_so() {
    let hangs = Leases::new("db", 1, async || std::future::pending::<io::Result<Connection>>().await);
    with_pool(hangs, async |pool| {
        let began = Instant::now();
        assert!(pool.acquire().await.is_err());
        assert_eq!(began.elapsed().as_secs(), 5);
        sleep(10 * SECOND).await;
        assert!(pool.stats().make_failures >= 1, "connecting has a limit too");
    })
    .await;
    let hangs = leases(1)
        .reset(async |_: &mut Connection| std::future::pending::<io::Result<()>>().await)
        .check(async |_: &mut Connection| std::future::pending::<io::Result<()>>().await);
    with_pool(hangs, async |pool| {
        drop(pool.acquire().await.unwrap());
        drop(pool.acquire().await.unwrap()); // after the reset was given up
        assert_eq!(pool.stats().discarded.reset_failed, 1);
    })
    .await;
    with_pool(leases(5), async |pool| {
        let all: Vec<_> = bowline::join_all((0..5).map(|_| pool.acquire()).collect::<Vec<_>>()).await;
        drop(all);
        assert_eq!(pool.stats().idle, 5);
        sleep(10 * MINUTE).await;
        assert_eq!((pool.stats().idle, pool.stats().discarded.idle), (0, 5));
    })
    .await;
}

/// linkerd2#15623: connections that are pooled and used never age out: 700 KB each are kept for every one of 300 peers.
#[bowline::test(start_paused = true)]
async fn a_connection_that_is_always_in_use_ages_out_all_the_same() {
    with_pool(leases(1), async |pool| {
        for _ in 0..60 {
            drop(pool.acquire().await.unwrap());
            sleep(MINUTE).await;
        }
        let stats = pool.stats();
        assert!((2..=3).contains(&stats.discarded.age), "{stats:?}");
        assert!(stats.made > stats.discarded.age, "{stats:?}");
    })
    .await;
}

/// bb8#122: a release that comes between looking and queueing wakes nobody, and the waiter sleeps beside a free connection. A
/// waiter that was granted one and does not come for it is the same in other clothes.
#[bowline::test]
async fn a_release_beside_waiters_that_leave_always_reaches_the_next() {
    with_pool(leases(1), async |pool| {
        for leaves in 0..3 {
            let held = pool.acquire().await.unwrap();
            let mut waiters = Vec::new();
            for _ in 0..3 {
                waiters.push(parked(pool.acquire()).await);
            }
            drop(held);
            drop(waiters.remove(leaves));
            for waiter in waiters {
                drop(waiter.await.unwrap());
            }
            assert_eq!(pool.stats().waiting, 0);
        }
    })
    .await;
}
