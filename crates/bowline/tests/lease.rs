//! Pools of leases: who gets what, what goes back and what does not, and what is left when all is over.

mod support;

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    Cancelled, Cause, Lease, LeaseError, LeasePool, Leases, contended, join_all, lease_pools, on_alert,
    scope, shielded, timeout,
};
use support::{parked, yield_now};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What all connections of a test share: how many there were, are, and were at most.
#[derive(Clone, Default)]
struct Server(Arc<Books>);

#[derive(Default)]
struct Books {
    made: AtomicUsize,
    alive: AtomicUsize,
    peak: AtomicUsize,
    connecting: AtomicUsize,
    connecting_peak: AtomicUsize,
    tries: Mutex<Vec<Instant>>,
    refuses: AtomicBool,
}

#[derive(Debug)]
struct Connection {
    number: usize,
    in_transaction: bool,
    _alive: Arc<Alive>,
}

struct Alive(Server);

impl std::fmt::Debug for Alive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alive")
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.alive.fetch_sub(1, Relaxed);
    }
}

impl Server {
    /// Answers after `takes`, or refuses after it.
    async fn connect(self, takes: Duration) -> io::Result<Connection> {
        struct Connecting(Server);
        impl Drop for Connecting {
            fn drop(&mut self) {
                self.0.0.connecting.fetch_sub(1, Relaxed);
            }
        }
        self.0.tries.lock().unwrap().push(Instant::now());
        self.0.connecting_peak.fetch_max(1 + self.0.connecting.fetch_add(1, Relaxed), Relaxed);
        let _connecting = Connecting(self.clone());
        if takes > Duration::ZERO {
            sleep(takes).await;
        }
        if self.0.refuses.load(Relaxed) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the server refuses"));
        }
        self.0.peak.fetch_max(1 + self.0.alive.fetch_add(1, Relaxed), Relaxed);
        let number = self.0.made.fetch_add(1, Relaxed);
        Ok(Connection { number, in_transaction: false, _alive: Arc::new(Alive(self.clone())) })
    }

    fn leases(&self, size: impl Into<bowline::LeaseSize>) -> Leases<Connection> {
        self.leases_that_take(size, Duration::ZERO)
    }

    #[track_caller]
    fn leases_that_take(&self, size: impl Into<bowline::LeaseSize>, takes: Duration) -> Leases<Connection> {
        let server = self.clone();
        Leases::new("db", size, move || server.clone().connect(takes))
    }

    fn alive(&self) -> usize {
        self.0.alive.load(Relaxed)
    }

    fn made(&self) -> usize {
        self.0.made.load(Relaxed)
    }
}

impl Connection {
    async fn transaction(&mut self) {
        self.in_transaction = true;
        sleep(SECOND).await;
        self.in_transaction = false;
    }
}

/// Timers fire up to a millisecond late.
fn is_about(time: Duration, wanted: Duration) -> bool {
    time.abs_diff(wanted) < Duration::from_millis(20)
}

// ---- who gets what

#[bowline::test(start_paused = true, schedules = 20)]
async fn what_is_given_back_is_used_again_and_the_one_used_last_goes_first() -> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db = server.leases(3).start(s);
        let (a, b) = (db.acquire().await?, db.acquire().await?);
        let (first, second) = (a.number, b.number);
        assert_ne!(first, second);
        drop(a);
        drop(b);
        yield_now(20).await;
        assert_eq!(db.acquire().await?.number, second);
        assert_eq!((server.made(), db.stats().idle, db.stats().acquired), (2, 2, 3));
        Ok::<_, Failure>(())
    })
    .await?;
    assert_eq!(server.alive(), 0);
    Ok(())
}

/// The error of the scopes here.
#[derive(Debug)]
enum Failure {
    Lease(LeaseError),
    Cancelled(Cancelled),
}

impl From<LeaseError> for Failure {
    fn from(error: LeaseError) -> Self {
        Self::Lease(error)
    }
}

impl From<Cancelled> for Failure {
    fn from(error: Cancelled) -> Self {
        Self::Cancelled(error)
    }
}

impl From<Failure> for LeaseError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lease(error) => error,
            Failure::Cancelled(cancelled) => LeaseError::Cancelled(cancelled),
        }
    }
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn never_are_there_more_than_the_maximum_whatever_happens_to_those_who_use_them()
-> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db = server.leases_that_take(3, SECOND / 100).max_age(SECOND / 5).start(s);
        let rounds = (0..60).map(|round| {
            let db = db.clone();
            async move {
                sleep(Duration::from_millis(7) * (round % 11)).await;
                let work = async {
                    let mut lease = db.acquire().await?;
                    let time = Duration::from_millis(u64::from(13 * (round % 5)));
                    lease.using(async |_| sleep(time).await).await;
                    if round % 7 == 0 {
                        lease.poison();
                    }
                    Ok::<_, LeaseError>(())
                };
                match round % 3 {
                    0 => drop(tokio::time::timeout(Duration::from_millis(20), work).await),
                    1 => drop(timeout(Duration::from_millis(20), work).await),
                    _ => work.await?,
                }
                Ok::<_, LeaseError>(())
            }
        });
        for ended in join_all(rounds.collect::<Vec<_>>()).await {
            ended?;
        }
        assert!(bowline::alerts().is_empty(), "leases came back all the time");
        yield_now(20).await;
        sleep(SECOND / 10).await;
        let stats = db.stats();
        assert_eq!(
            (stats.leased, stats.making, stats.tending, stats.discarding, stats.waiting),
            (0, 0, 0, 0, 0)
        );
        assert_eq!(stats.idle, server.alive());
        let gone = stats.discarded;
        assert!(gone.cancelled > 0 && gone.broken > 0 && gone.age > 0, "{gone:?}");
        assert_eq!(stats.made, stats.idle as u64 + gone.cancelled + gone.broken + gone.age + gone.idle);
        Ok::<_, Failure>(())
    })
    .await?;
    assert!(server.0.peak.load(Relaxed) <= 3, "{}", server.0.peak.load(Relaxed));
    assert_eq!(server.alive(), 0);
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn those_in_line_are_served_in_the_order_in_which_they_came() -> Result<(), LeaseError> {
    scope("service", async |s| {
        let db = Server::default().leases(1).start(s);
        let held = db.acquire().await?;
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..5 {
            let (db, order) = (db.clone(), Arc::clone(&order));
            s.spawn("request", async move {
                let _lease = db.acquire().await?;
                order.lock().unwrap().push(number);
                sleep(SECOND / 10).await;
                Ok(())
            });
            yield_now(2).await;
        }
        assert!(db.try_acquire().is_none(), "all are leased");
        drop(held);
        assert!(db.try_acquire().is_none(), "it would overtake");
        sleep(SECOND).await;
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert!(db.try_acquire().is_some());
        let stats = db.stats();
        assert_eq!(stats.waits, 6);
        assert!(is_about(Duration::from_millis(stats.waited_max_ms), SECOND * 2 / 5), "{stats:?}");
        assert!(is_about(Duration::from_millis(stats.waited_total_ms), SECOND), "{stats:?}");
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn what_was_being_made_for_one_who_left_goes_to_the_next() -> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db = server.leases_that_take(2, SECOND).start(s);
        let left = parked(db.acquire()).await;
        sleep(SECOND / 2).await;
        drop(left); // half-way
        let began = Instant::now();
        assert_eq!(db.acquire().await?.number, 0);
        assert!(is_about(began.elapsed(), SECOND / 2));
        assert_eq!(server.0.tries.lock().unwrap().len(), 1);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn a_lease_granted_to_one_who_does_not_come_goes_to_the_next() -> Result<(), LeaseError> {
    scope("service", async |s| {
        let db = Server::default().leases(1).start(s);
        let held = db.acquire().await?;
        let first = parked(db.acquire()).await;
        let second = parked(db.acquire()).await;
        drop(held); // granted to the first, which is not polled
        assert!(db.try_acquire().is_none());
        drop(first);
        drop(second.await?);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn no_more_are_made_at_once_than_was_said() -> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db = server.leases_that_take(50, SECOND / 10).start(s);
        let many = join_all((0..20).map(|_| db.acquire()).collect::<Vec<_>>()).await;
        assert!(many.iter().all(Result::is_ok));
        assert_eq!(server.0.connecting_peak.load(Relaxed), 4);
        assert_eq!(server.made(), 20);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

// ---- why not

fn the_last_line(place: &str) -> &str {
    place.rsplit(':').next().unwrap()
}

#[bowline::test(start_paused = true)]
async fn whoever_waits_in_vain_hears_who_holds_everything_since_when_and_where() -> Result<(), Cancelled> {
    scope("service", async |s| {
        let db = Server::default().leases(2).start(s);
        let line = (line!() + 4).to_string();
        for name in ["report", "import"] {
            let db = db.clone();
            s.spawn(name, async move {
                let _lease = db.acquire().await?;
                sleep(MINUTE).await;
                Ok(())
            });
            sleep(SECOND).await;
        }
        let began = Instant::now();
        let (error, _other) = bowline::join(db.acquire(), db.acquire()).await;
        assert!(is_about(began.elapsed(), Leases::<Connection>::ACQUIRE_WITHIN));
        let error = error.unwrap_err();
        let LeaseError::AllLeased(shortage) = &error else { panic!("{error:?}") };
        assert_eq!((shortage.leased, shortage.max, shortage.waiting), (2, 2, 1));
        assert!(!shortage.holders_wait);
        let holders: Vec<_> = shortage.holders.iter().map(|h| (h.task, h.held_for_ms / 100)).collect();
        assert_eq!(holders, [(Some("report"), 70), (Some("import"), 60)]);
        assert!(shortage.holders.iter().all(|holder| the_last_line(&holder.place) == line), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("no lease of `db` within 5")
                && text.contains(": all are leased; of 2: 2 leased"),
            "{text}"
        );
        assert!(text.contains("held by `report` (#") && text.contains("tests/lease.rs:"), "{text}");
        assert_eq!(db.stats().timed_out, 2);
        s.cancel("seen");
        Ok::<_, Cancelled>(())
    })
    .await
    .or_else(|why| if *why.cause() == Cause::Requested("seen") { Ok(()) } else { Err(why) })
}

#[bowline::test(start_paused = true)]
async fn a_wait_ends_with_the_deadline_of_its_context_and_names_the_holders_all_the_same()
-> Result<(), LeaseError> {
    scope("service", async |s| {
        let db = Server::default().leases(1).start(s);
        let _held = db.acquire().await?;
        let began = Instant::now();
        let (give, take) = tokio::sync::oneshot::channel();
        let late = timeout(2 * SECOND, async { give.send(db.acquire().await.map(drop)).unwrap() }).await;
        assert!(late.is_ok() || late.is_err_and(|late| late.is_deadline()));
        let error = take.await.unwrap().unwrap_err();
        assert!(is_about(began.elapsed(), 2 * SECOND));
        assert_eq!(error.shortage().expect("it names them").holders.len(), 1);
        assert!(Cancelled::from(error).is_deadline());
        assert_eq!(db.stats().waiting, 0);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn a_server_that_refuses_is_asked_less_and_less_often_and_named_by_those_who_waited()
-> Result<(), LeaseError> {
    let server = Server::default();
    server.0.refuses.store(true, Relaxed);
    scope("service", async |s| {
        let db = server.leases_that_take(20, SECOND / 100).start(s);
        let many = join_all((0..10).map(|_| db.acquire()).collect::<Vec<_>>()).await;
        for ended in many {
            let error = ended.unwrap_err();
            let LeaseError::CannotMake(shortage) = &error else { panic!("{error}") };
            assert_eq!(shortage.error().unwrap().to_string(), "the server refuses");
            assert!(error.to_string().contains("times in a row: the server refuses"), "{error}");
            let mut source = std::error::Error::source(&error);
            assert!(source.take().unwrap().downcast_ref::<io::Error>().is_some());
        }
        let tries = server.0.tries.lock().unwrap().clone();
        // Four at the beginning, one at a time from then on.
        assert!((6..16).contains(&tries.len()), "{}", tries.len());
        let gaps: Vec<_> = tries[3..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap <= 5 * SECOND + SECOND / 100), "{gaps:?}");
        assert!(gaps.last().unwrap() > &(10 * gaps[0].min(SECOND / 100)), "{gaps:?}");
        assert_eq!(db.stats().last_error.as_deref(), Some("the server refuses"));
        // Nobody waits: nobody asks.
        let asked = server.0.tries.lock().unwrap().len();
        sleep(60 * MINUTE).await;
        assert_eq!(server.0.tries.lock().unwrap().len(), asked);
        server.0.refuses.store(false, Relaxed);
        drop(db.acquire().await?);
        assert_eq!(db.stats().last_error, None);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn making_that_hangs_fails_in_the_end_and_whoever_waits_hears_what_is_going_on()
-> Result<(), LeaseError> {
    scope("service", async |s| {
        let db = Server::default().leases_that_take(1, 60 * MINUTE).make_within(8 * SECOND).start(s);
        let error = db.acquire().await.unwrap_err();
        let LeaseError::TooSlow(shortage) = &error else { panic!("{error}") };
        assert_eq!((shortage.making, shortage.leased), (1, 0));
        let error = db.acquire().await.unwrap_err();
        assert!(error.to_string().contains("making it took longer than 8s"), "{error}");
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn a_wait_inside_of_the_use_of_all_leases_is_refused_at_once() -> Result<(), LeaseError> {
    scope("service", async |s| {
        let db = Server::default().leases(2).start(s);
        let (mut a, mut b) = (db.acquire().await?, db.acquire().await?);
        let began = Instant::now();
        let inner = a.using(async |_| b.using(async |_| db.acquire().await.map(drop)).await).await;
        assert!(matches!(inner, Err(LeaseError::WouldDeadlock { leases: 2, .. })), "{inner:?}");
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(!a.is_poisoned() && !b.is_poisoned());
        drop(b);
        a.using(async |_| db.acquire().await.map(drop)).await?; // there is another one
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn arms_of_one_task_may_wait_for_each_others_leases() -> Result<(), LeaseError> {
    scope("service", async |s| {
        let db = Server::default().leases(2).start(s);
        let arm = async || {
            let mut lease = db.acquire().await?;
            lease.using(async |_| sleep(SECOND / 10).await).await;
            Ok::<_, LeaseError>(())
        };
        for ended in join_all((0..6).map(|_| arm()).collect::<Vec<_>>()).await {
            ended?; // the task holds all leases and waits, and is no deadlock
        }
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn holders_that_all_wait_for_another_lease_are_told() -> Result<(), LeaseError> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&told);
    let _hook = on_alert(move |alert| hook.lock().unwrap().push((alert.raised, alert.to_string())));
    scope("service", async |s| {
        let db = Server::default().leases(2).start(s);
        let tasks: Vec<_> = ["report", "import"]
            .map(|name| {
                let db = db.clone();
                s.spawn(name, async move {
                    let _one = db.acquire().await?;
                    sleep(SECOND).await;
                    Ok(db.acquire().await.map(drop))
                })
            })
            .into();
        let mut ended = Vec::new();
        for task in tasks {
            ended.push(task.await?);
        }
        // The first to give up lets go of its own one: the second passes, or gives up in the same moment.
        let error = ended[0].as_ref().unwrap_err();
        assert!(error.shortage().unwrap().holders_wait, "{error}");
        assert!(error.to_string().contains("everybody who holds one waits for another"), "{error}");
        sleep(SECOND).await;
        let told = told.lock().unwrap();
        assert_eq!(told.iter().map(|(raised, _)| *raised).collect::<Vec<_>>(), [true, false], "{told:?}");
        assert!(told[0].1.contains("everybody who holds a lease waits for another one"), "{told:?}");
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

// ---- what goes back, and what does not

/// Leases the only resource of a pool to `user`, and says which discards there were, or none.
async fn after(
    s: &bowline::Scope<Failure>,
    leases: impl Fn() -> Leases<Connection>,
    user: impl AsyncFn(Lease<Connection>),
) -> Result<(u64, bowline::LeaseDiscards), Failure> {
    let db = leases().start(s);
    user(db.acquire().await?).await;
    yield_now(20).await;
    let stats = db.stats();
    assert_eq!((stats.leased, stats.discarding), (0, 0));
    drop(db.acquire().await?); // its place is free, or the resource is there
    Ok((stats.idle as u64, stats.discarded))
}

#[bowline::test(start_paused = true)]
async fn what_was_cut_off_does_not_go_back_and_what_came_to_its_end_does() -> Result<(), LeaseError> {
    let server = Server::default();
    let plain = || server.leases(1);
    scope("service", async |s| {
        // An end as it should be.
        let (idle, gone) = after(s, plain, async |mut lease| lease.transaction().await).await?;
        assert_eq!((idle, gone), (1, Default::default()));
        let used = async |mut lease: Lease<Connection>| {
            lease.using(async |connection| connection.transaction().await).await;
        };
        let (idle, _) = after(s, plain, used).await?;
        assert_eq!(idle, 1);

        // Dropped by somebody else: seen by `using` only.
        let cut = async |mut lease: Lease<Connection>| {
            let work = lease.using(async |connection| connection.transaction().await);
            drop(tokio::time::timeout(SECOND / 2, work).await);
            assert!(lease.is_poisoned());
            lease.using(async |_| ()).await; // a good end of something else changes nothing
            lease.give_back(); // nor does this
        };
        let (idle, gone) = after(s, plain, cut).await?;
        assert_eq!((idle, gone.cancelled), (0, 1));

        // A context that is cancelled, whatever the code does with it.
        let cancelled = async |mut lease: Lease<Connection>| {
            let work = async move {
                lease.transaction().await;
                drop(lease);
            };
            drop(timeout(SECOND / 2, work).await);
        };
        let (idle, gone) = after(s, plain, cancelled).await?;
        assert_eq!((idle, gone.cancelled), (0, 1));

        // The same, with an end that was given time and says so.
        let shielded = async |mut lease: Lease<Connection>| {
            let work = async move {
                shielded(10 * SECOND, lease.transaction()).await.unwrap();
                assert!(bowline::is_cancelled());
                lease.give_back();
            };
            drop(timeout(SECOND / 2, work).await);
        };
        let (idle, gone) = after(s, plain, shielded).await?;
        assert_eq!((idle, gone.cancelled), (1, 0));

        // An abort.
        let aborted = async |mut lease: Lease<Connection>| {
            let task = s.spawn("aborted", async move {
                lease.transaction().await;
                Ok(())
            });
            sleep(SECOND / 2).await;
            task.abort();
        };
        let (idle, gone) = after(s, plain, aborted).await?;
        assert_eq!((idle, gone.cancelled), (0, 1));

        // Said so.
        let (idle, gone) = after(s, plain, async |mut lease| lease.poison()).await?;
        assert_eq!((idle, gone.broken), (0, 1));
        let (idle, gone) = after(s, plain, async |lease| drop(lease.into_inner())).await?;
        assert_eq!((idle, gone.taken), (0, 1));

        // A pool that trusts nobody.
        let strict = || server.leases(1).discard_dropped();
        let (idle, gone) = after(s, strict, async |mut lease| lease.transaction().await).await?;
        assert_eq!((idle, gone.cancelled), (0, 1));
        let (idle, _) = after(s, strict, used).await?;
        assert_eq!(idle, 1);
        let said = async |mut lease: Lease<Connection>| {
            lease.transaction().await;
            lease.give_back();
        };
        let (idle, _) = after(s, strict, said).await?;
        assert_eq!(idle, 1);
        let (idle, _) = after(s, strict, async |lease| assert!(lease.number < 99)).await?;
        assert_eq!(idle, 1, "it was only looked at");
        Ok::<_, Failure>(())
    })
    .await?;
    assert_eq!(server.alive(), 0);
    Ok(())
}

/// r2d2#53: what was in use when its holder panicked goes back into the pool, tainted or not.
#[bowline::test(start_paused = true)]
async fn a_holder_that_panics_does_not_give_back_and_does_not_keep_the_place() -> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db = server.leases(1).start(s);
        let of_task = db.clone();
        let ended = bowline::group("work", bowline::CollectAll, async |g| {
            g.spawn("panics", async move {
                let _lease = of_task.acquire().await?;
                panic!("in the middle");
                #[expect(unreachable_code)]
                Ok::<(), LeaseError>(())
            });
        })
        .await;
        assert_eq!(ended.counts().panicked, 1);
        yield_now(20).await;
        let stats = db.stats();
        assert_eq!((stats.discarded.panicked, stats.idle, server.alive()), (1, 0, 0));
        assert_eq!(db.resource().panicked_while_held, 1);
        drop(db.acquire().await?);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn a_resource_whose_drop_uses_the_pool_or_panics_frees_its_place() -> Result<(), LeaseError> {
    struct Odd(Option<LeasePool<Odd>>, bool);
    impl Drop for Odd {
        fn drop(&mut self) {
            if let Some(pool) = &self.0 {
                assert_eq!(pool.stats().discarding, 1);
                drop(pool.try_acquire());
            }
            assert!(!self.1, "odd");
        }
    }
    scope("service", async |s| {
        let pool = Leases::new("odd", 1, async || Ok::<_, Infallible>(Odd(None, false))).start(s);
        let mut lease = pool.acquire().await?;
        lease.0 = Some(pool.clone());
        lease.poison();
        drop(lease);
        let mut lease = pool.acquire().await?;
        lease.1 = true;
        lease.poison();
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(lease)));
        assert!(dropped.is_err());
        drop(pool.acquire().await?);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

// ---- checks, resets, ages

#[bowline::test(start_paused = true)]
async fn one_that_was_idle_is_checked_and_replaced_and_whoever_waits_keeps_its_place()
-> Result<(), LeaseError> {
    let server = Server::default();
    let checks = Arc::new(AtomicUsize::new(0));
    scope("service", async |s| {
        let asked = Arc::clone(&checks);
        let check = move |connection: &mut Connection| {
            asked.fetch_add(1, Relaxed);
            let works = connection.number > 0;
            async move {
                sleep(SECOND / 10).await;
                if works { Ok(()) } else { Err("the peer has gone") }
            }
        };
        let db = server.leases_that_take(1, SECOND / 10).check(check).start(s);
        drop(db.acquire().await?);
        drop(db.acquire().await?);
        assert_eq!(checks.load(Relaxed), 0, "just used");
        sleep(2 * SECOND).await;
        let began = Instant::now();
        let first = parked(db.acquire()).await;
        let second = parked(db.acquire()).await;
        let lease = first.await?;
        assert_eq!(lease.number, 1);
        assert!(is_about(began.elapsed(), SECOND / 5));
        drop(lease);
        assert_eq!(second.await?.number, 1);
        assert_eq!((checks.load(Relaxed), db.stats().discarded.broken), (1, 1));
        sleep(2 * SECOND).await;
        assert_eq!(db.acquire().await?.number, 1);
        assert_eq!(checks.load(Relaxed), 2);

        let asked = Arc::clone(&checks);
        let check = move |_: &mut Connection| {
            asked.fetch_add(1, Relaxed);
            async { Ok::<_, Infallible>(()) }
        };
        let db = server.leases(5).check(check).start(s);
        drop(join_all((0..5).map(|_| db.acquire()).collect::<Vec<_>>()).await);
        sleep(2 * SECOND).await;
        drop(db.acquire().await?);
        assert_eq!((checks.load(Relaxed), db.stats().idle), (3, 5), "one waited, so one was asked");
        drop(bowline::join(db.acquire(), db.acquire()).await);
        assert_eq!(checks.load(Relaxed), 4, "and the other had just been");
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn what_comes_back_is_reset_by_the_pool_or_thrown_away() -> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db = server
            .leases(1)
            .reset(async |connection: &mut Connection| match connection.number {
                0 => {
                    sleep(SECOND).await;
                    connection.in_transaction = false;
                    Ok(())
                }
                1 => Err("no"),
                _ => std::future::pending().await,
            })
            .start(s);
        let mut lease = db.acquire().await?;
        drop(tokio::time::timeout(SECOND / 2, lease.transaction()).await); // the bare form is cut off
        assert!(lease.in_transaction);
        drop(lease);
        let mut lease = db.acquire().await?;
        assert_eq!((lease.number, lease.in_transaction), (0, false), "rolled back, and used again");
        lease.poison();
        drop(lease);
        drop(db.acquire().await?);
        let began = Instant::now();
        let lease = db.acquire().await?;
        assert_eq!(lease.number, 2, "its reset failed");
        assert!(is_about(began.elapsed(), Duration::ZERO));
        drop(lease);
        sleep(Leases::<Connection>::TEND_WITHIN).await;
        assert_eq!(db.acquire().await?.number, 3, "its reset hung");
        assert_eq!(db.stats().discarded.reset_failed, 2);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn resources_age_out_one_by_one_and_as_many_as_the_minimum_are_made_anew() -> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db =
            server.leases(3..=10).max_age(10 * MINUTE).max_idle(Duration::MAX).makes_at_once(10).start(s);
        yield_now(20).await;
        assert_eq!((server.alive(), db.stats().idle), (3, 3));
        let many = join_all((0..10).map(|_| db.acquire()).collect::<Vec<_>>()).await;
        drop(many);
        assert_eq!(db.stats().idle, 10);
        sleep(8 * MINUTE - SECOND).await;
        assert_eq!(db.stats().discarded.age, 0, "at most a fifth earlier");
        sleep(MINUTE).await;
        let some = db.stats().discarded.age;
        assert!((1..10).contains(&some), "{some} at once");
        sleep(MINUTE + 2 * SECOND).await;
        let stats = db.stats();
        assert_eq!((stats.discarded.age, stats.idle, server.alive()), (10, 3, 3));

        // One that is leased goes when it comes back.
        let lease = db.acquire().await?;
        let number = lease.number;
        sleep(11 * MINUTE).await;
        assert_eq!(lease.number, number);
        drop(lease);
        yield_now(20).await;
        assert_ne!(db.acquire().await?.number, number);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn what_nobody_uses_goes_down_to_the_minimum_and_what_is_used_stays() -> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db = server.leases(2..=6).max_idle(MINUTE).max_age(Duration::MAX).start(s);
        drop(join_all((0..6).map(|_| db.acquire()).collect::<Vec<_>>()).await);
        let last = db.acquire().await?.number;
        for _ in 0..30 {
            sleep(4 * SECOND).await;
            assert_eq!(db.acquire().await?.number, last);
        }
        let stats = db.stats();
        assert_eq!((stats.idle, stats.discarded.idle, server.alive()), (2, 4, 2));
        sleep(60 * MINUTE).await;
        assert_eq!((server.alive(), server.made()), (2, 6));
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

// ---- what is told

#[bowline::test(start_paused = true)]
async fn a_lease_that_is_held_for_too_long_is_told_by_task_and_place_until_it_comes_back()
-> Result<(), LeaseError> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&told);
    let _hook = on_alert(move |alert| {
        let about = (alert.kind, alert.name.to_string(), alert.place.line());
        hook.lock().unwrap().push((alert.raised, about, alert.text.clone()));
    });
    scope("service", async |s| {
        let db = Server::default().leases(2).held_too_long(30 * SECOND).start(s);
        drop(db.acquire().await?);
        sleep(7 * SECOND).await;
        let began = Instant::now();
        let line = line!() + 3;
        let of_task = db.clone();
        let report = s.spawn("report", async move {
            let _lease = of_task.acquire().await?;
            sleep(50 * SECOND).await;
            Ok(())
        });
        sleep(29 * SECOND).await;
        assert!(told.lock().unwrap().is_empty());
        sleep(2 * SECOND).await;
        {
            let told = told.lock().unwrap();
            let [(true, about, text)] = &told[..] else { panic!("{told:?}") };
            assert_eq!(about, &(bowline::AlertKind::LeaseHeld, "db".to_owned(), line));
            assert!(text.contains("`report` (#") && text.contains(", 30"), "{text}");
        }
        report.await?;
        yield_now(20).await;
        assert!(is_about(began.elapsed(), 50 * SECOND));
        assert_eq!(
            told.lock().unwrap().iter().map(|(raised, ..)| *raised).collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!((bowline::alerts().len(), db.stats().held_too_long), (0, 1));
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn who_waits_and_who_holds_is_seen_where_all_primitives_are() -> Result<(), LeaseError> {
    scope("service", async |s| {
        let db = Server::default().leases(1).start(s);
        let held = db.acquire().await?;
        let of_task = db.clone();
        let task = s.spawn("waits", async move { of_task.acquire().await.map(drop).map_err(Failure::from) });
        yield_now(3).await;
        let id = task.id();
        let seen = contended();
        let [pool] = &seen.iter().filter(|seen| seen.id == db.stats().id).collect::<Vec<_>>()[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((pool.waiters[0].task, pool.waiters[0].op, pool.holders.len()), (id, "lease", 1));
        let tree = bowline::tree().to_string();
        assert!(tree.contains("waiting to lease"), "{tree}");
        assert!(tree.contains("db"), "{tree}");
        let listed = lease_pools();
        let listed = listed.iter().find(|pool| pool.id == db.stats().id).expect("it is listed");
        assert_eq!((listed.leased, listed.waiting, listed.holders.len()), (1, 1, 1));
        assert!(serde_json::to_string(listed).unwrap().contains("\"holders\":[{\"task\":"));
        drop(held);
        task.await?;
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

// ---- the end

#[bowline::test(start_paused = true)]
async fn a_closed_pool_refuses_everybody_and_its_close_waits_for_those_who_hold() -> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db = server.leases(2).start(s);
        let held = db.acquire().await?;
        drop(db.acquire().await?);
        let _both = (db.acquire().await?, parked(db.acquire()).await);
        let waits = parked(db.acquire()).await;
        let late = timeout(3 * SECOND, db.close());
        let (late, refused) = bowline::join(late, waits).await;
        assert!(matches!(refused, Err(LeaseError::Closed { reason: "it was closed", .. })), "{refused:?}");
        let late = late.map_err(LeaseError::Cancelled)?.unwrap_err();
        assert_eq!((late.leased, late.holders.len()), (2, 2));
        assert!(late.to_string().contains("2 leases are out; held by"), "{late}");
        assert!(matches!(db.acquire().await, Err(LeaseError::Closed { .. })));
        drop(_both);
        let (closed, ()) = bowline::join(db.close(), async {
            sleep(SECOND).await;
            assert_eq!(server.alive(), 1, "only the one that is held");
            drop(held);
        })
        .await;
        assert!(closed.is_ok());
        assert_eq!((server.alive(), db.stats().discarded.closed), (0, 2));
        assert_eq!(bowline::tree().tasks, 0, "the keeper has gone");
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[bowline::test(start_paused = true)]
async fn the_last_handle_ends_the_pool_while_its_scope_goes_on() -> Result<(), LeaseError> {
    let server = Server::default();
    scope("service", async |s| {
        let db = server.leases(1..=2).start(s);
        let (kept, lease) = (db.clone(), db.acquire().await?);
        drop(db);
        yield_now(20).await;
        assert_eq!(server.alive(), 1);
        drop(kept);
        yield_now(20).await;
        assert_eq!((server.alive(), bowline::tree().tasks), (1, 1), "the lease is good, and waited for");
        drop(lease);
        yield_now(20).await;
        assert_eq!((server.alive(), bowline::tree().tasks), (0, 0));
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

/// ants#323: the pool's own maintenance outlives the pool; here its scope does not return before it has gone.
#[bowline::test(start_paused = true)]
async fn the_pools_tasks_and_resources_are_gone_when_its_scope_returns() -> Result<(), LeaseError> {
    let server = Server::default();
    let said_goodbye = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&said_goodbye);
    let goodbye = move |connection: Connection| {
        let counted = Arc::clone(&counted);
        async move {
            sleep(SECOND).await;
            counted.fetch_add(1, Relaxed);
            drop(connection);
        }
    };
    let kept = scope("service", async |s| {
        let db = server.leases_that_take(3..=5, SECOND / 10).discard(goodbye).start(s);
        let (lease, _other) = (db.acquire().await?, db.acquire().await?);
        sleep(SECOND).await;
        Ok::<_, Failure>((db, lease))
    })
    .await?;
    let (db, lease) = kept;
    assert_eq!(bowline::tree().tasks, 0);
    assert_eq!((said_goodbye.load(Relaxed), server.alive()), (2, 1), "in order; one is still leased");
    let refused = db.acquire().await;
    assert!(matches!(refused, Err(LeaseError::Closed { reason: "its scope has ended", .. })), "{refused:?}");
    drop(lease);
    assert_eq!((server.alive(), db.stats().leased, db.stats().discarding), (0, 0, 0));
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn a_cancelled_scope_ends_a_pool_in_the_middle_of_everything() {
    let server = Server::default();
    let hangs = async |_: &mut Connection| std::future::pending::<Result<(), Infallible>>().await;
    let ended = scope("service", async |s| {
        let resetting = server.leases(1).reset(hangs).start(s);
        let making = server.leases_that_take(4..=5, 60 * MINUTE).start(s);
        let ending =
            server.leases(1).discard(async |_| std::future::pending().await).tend_within(2 * SECOND).start(s);
        drop(resetting.acquire().await?);
        let mut lease = ending.acquire().await?;
        lease.poison();
        drop(lease);
        let _waits = parked(making.acquire()).await;
        yield_now(20).await;
        assert_eq!((resetting.stats().tending, making.stats().making, ending.stats().discarding), (1, 4, 1));
        s.cancel("enough");
        Ok::<_, Failure>(())
    })
    .await;
    assert!(matches!(ended, Err(Failure::Cancelled(_)) | Ok(())), "{ended:?}");
    assert_eq!((server.alive(), bowline::tree().tasks), (0, 0));
}

#[bowline::test(start_paused = true)]
async fn a_pool_of_a_scope_that_takes_no_tasks_refuses_everybody() {
    let closed = scope("service", async |s| Ok::<_, Cancelled>(s.handle())).await.unwrap();
    let db = Server::default().leases(1).start(&closed);
    assert!(matches!(db.acquire().await, Err(LeaseError::Closed { pool: "db", .. })));
    assert!(db.try_acquire().is_none());
    assert!(db.close().await.is_ok());
}

#[bowline::test(start_paused = true)]
async fn making_that_panics_counts_as_a_failure_and_the_pool_goes_on() -> Result<(), LeaseError> {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    scope("service", async |s| {
        let make = move || {
            let turn = counted.fetch_add(1, Relaxed);
            async move {
                if turn == 0 {
                    bowline::bad_input("the first one");
                }
                Ok::<_, Infallible>(turn)
            }
        };
        let pool = Leases::new("pool", 1, make).start(s);
        assert_eq!(*pool.acquire().await?, 1);
        assert_eq!((pool.stats().make_failures, pool.stats().making), (1, 0));
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

// ---- around another pool

/// Another pool, as there are many: what is dropped comes back, whatever state it is in.
#[derive(Clone, Default)]
struct Theirs(Arc<Mutex<Vec<usize>>>, Arc<AtomicUsize>);

struct Object {
    value: usize,
    home: Option<Theirs>,
}

impl Theirs {
    async fn get(self) -> Result<Object, Infallible> {
        yield_now(1).await;
        let idle = self.0.lock().unwrap().pop();
        let value = idle.unwrap_or_else(|| self.1.fetch_add(1, Relaxed));
        Ok(Object { value, home: Some(self) })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.0.lock().unwrap().push(self.value);
        }
    }
}

#[bowline::test(start_paused = true)]
async fn around_another_pool_good_ends_go_back_there_and_others_do_not() -> Result<(), LeaseError> {
    let theirs = Theirs::default();
    scope("service", async |s| {
        let checkout = {
            let theirs = theirs.clone();
            move || theirs.clone().get()
        };
        let detach = async |mut object: Object| {
            object.home = None;
        };
        let db = Leases::around("db", 2, checkout, detach).start(s);
        drop(db.acquire().await?);
        assert_eq!(*theirs.0.lock().unwrap(), [0], "nothing is kept here");
        let mut lease = db.acquire().await?;
        assert_eq!(lease.value, 0);
        let work = lease.using(async |_| std::future::pending::<()>().await);
        drop(tokio::time::timeout(SECOND, work).await);
        drop(lease);
        yield_now(20).await;
        assert!(theirs.0.lock().unwrap().is_empty(), "what was cut off does not go back");
        // What comes back while others wait goes to them, and what was taken for one who left goes home.
        let (a, b) = (db.acquire().await?, db.acquire().await?);
        let waits = parked(db.acquire()).await;
        let number = a.value;
        drop(a);
        assert_eq!(waits.await?.value, number);
        drop(b);
        drop(parked(db.acquire()).await);
        yield_now(20).await;
        let stats = db.stats();
        assert_eq!((stats.idle, stats.leased, stats.making, stats.discarding), (0, 0, 0, 0));
        assert_eq!(theirs.0.lock().unwrap().len(), 2);
        assert_eq!(stats.discarded.cancelled, 1);
        Ok::<_, Failure>(())
    })
    .await
    .map_err(LeaseError::from)
}

#[test]
#[should_panic(expected = "pool `pool`: a pool of 0 leases never hands one out")]
fn a_pool_of_nothing_is_a_mistake() {
    let _ = Leases::new("pool", 0, async || Ok::<_, Infallible>(()));
}

#[test]
#[should_panic(expected = "pool `pool`: nothing it makes would be young enough to be handed out")]
fn an_age_of_nothing_is_a_mistake_and_no_storm_of_making() {
    let _ = Leases::new("pool", 1, async || Ok::<_, Infallible>(())).max_age(Duration::ZERO);
}

#[bowline::test(start_paused = true, allow_panics)]
async fn a_hook_that_panics_at_the_end_of_a_pool_ends_nothing_else() -> Result<(), LeaseError> {
    let _hook = on_alert(|alert| panic!("cannot cope with {alert}"));
    scope("service", async |s| {
        let pool = Leases::new("pool", 1, async || Ok::<_, Infallible>(())).held_too_long(SECOND).start(s);
        let held = pool.acquire().await?;
        sleep(2 * SECOND).await;
        assert_eq!((bowline::panics().unexpected, pool.stats().held_too_long), (1, 1));
        drop(held);
        assert!(pool.acquire().await.is_ok(), "the pool went with the hook");
        let kept = pool.acquire().await?;
        sleep(2 * SECOND).await;
        drop(pool); // the keeper tells that the alert is over, if need be from its drop
        Ok::<_, LeaseError>(kept)
    })
    .await
    .map(drop)
}

#[test]
fn handles_and_leases_can_be_kept_anywhere() {
    fn anywhere<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    anywhere::<LeasePool<Mutex<u8>>>();
    sent::<Lease<std::cell::Cell<u8>>>();
    anywhere::<LeaseError>();
}
