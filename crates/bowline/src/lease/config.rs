//! What a pool of leases is asked for, and what it does if it is not asked.

use std::future::Future;
use std::ops::RangeInclusive;
use std::panic::Location;
use std::time::Duration;

use super::Limits;
use super::hooks::{Hook, Hooks};
use super::keeper::Keeper;
use super::pool::LeasePool;
use super::rule::Rules;
use crate::lock::core::Core;
use crate::owner::{Owner, Tie};
use crate::record::next_id;

/// How many resources there may be: at most `20`, or `2..=20` to keep two of them in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSize {
    min: usize,
    max: usize,
}

impl From<usize> for LeaseSize {
    fn from(max: usize) -> Self {
        Self { min: 0, max }
    }
}

impl From<RangeInclusive<usize>> for LeaseSize {
    fn from(sizes: RangeInclusive<usize>) -> Self {
        Self { min: *sizes.start(), max: *sizes.end() }
    }
}

/// A pool of leases that has not been started: how a resource is made, how many there may be, and everything else that a
/// pool can be told. Each option has a default that a service can live with.
///
/// # Examples
///
/// ```
/// # use std::io;
/// # struct Connection;
/// # impl Connection {
/// #     async fn open(_: &str) -> io::Result<Self> { Ok(Self) }
/// #     async fn ping(&mut self) -> io::Result<()> { Ok(()) }
/// #     async fn rollback(&mut self) -> io::Result<()> { Ok(()) }
/// #     async fn goodbye(self) {}
/// #     async fn insert(&mut self, _: u32) -> io::Result<()> { Ok(()) }
/// # }
/// # #[derive(Debug)] struct Error(String);
/// # impl From<bowline::Cancelled> for Error { fn from(e: bowline::Cancelled) -> Self { Self(e.to_string()) } }
/// # impl From<bowline::LeaseError> for Error { fn from(e: bowline::LeaseError) -> Self { Self(e.to_string()) } }
/// # impl From<io::Error> for Error { fn from(e: io::Error) -> Self { Self(e.to_string()) } }
/// # bowline::testing::example_paused(async {
/// use std::time::Duration;
/// use bowline::{Leases, scope};
///
/// scope("service", async |s| {
///     let db = Leases::new("db", 2..=20, || Connection::open("db.internal:5432"))
///         .check(async |connection: &mut Connection| connection.ping().await)
///         .reset(async |connection: &mut Connection| connection.rollback().await)
///         .discard(|connection| connection.goodbye())
///         .acquire_within(Duration::from_secs(2))
///         .start(s);
///
///     let mut connection = db.acquire().await?; // first come first served
///     connection.insert(7).await?;
///     drop(connection); // back into the pool
///     Ok::<_, Error>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use = "a pool that is not started makes nothing"]
pub struct Leases<T> {
    name: &'static str,
    place: &'static Location<'static>,
    limits: Limits,
    hooks: Hooks<T>,
    acquire_within: Option<Duration>,
    discards_dropped: bool,
}

impl<T> Leases<T> {
    /// How long somebody waits for a lease, unless told otherwise: most callers have gone by then, and a request that waits longer
    /// is better refused.
    pub const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);
    /// How old a resource gets, unless told otherwise. Servers, proxies and load balancers move on; a connection that never ends
    /// never follows.
    pub const MAX_AGE: Duration = Duration::from_secs(30 * 60);
    /// How long a resource may be idle, unless told otherwise: longer than a pause between two bursts, and far shorter than a
    /// night.
    pub const MAX_IDLE: Duration = Duration::from_secs(10 * 60);
    /// How long a lease is held before that is told, unless told otherwise. It is longer than any query a person waits for.
    pub const HELD_TOO_LONG: Duration = Duration::from_secs(30);
    /// How long a resource must have been idle for a check to be worth its while, unless told otherwise. What was used within the last
    /// second is as good as checked.
    pub const CHECK_AFTER: Duration = Duration::from_secs(1);
    /// How long making one may take, unless told otherwise: several retries of a lost packet of a handshake.
    pub const MAKE_WITHIN: Duration = Duration::from_secs(15);
    /// How long a check, a reset or a discard may take, unless told otherwise. Meanwhile the resource counts, and serves nobody; so it
    /// is less than [`ACQUIRE_WITHIN`](Self::ACQUIRE_WITHIN), and whoever waits gets the one that is made in its place.
    pub const TEND_WITHIN: Duration = Duration::from_secs(3);
    /// How many are made at the same time, unless told otherwise. A server that comes back is not to be met by every pool's
    /// whole size at once.
    pub const MAKES_AT_ONCE: usize = 4;
}

impl<T: Send + 'static> Leases<T> {
    /// Describes a pool of resources that `make` makes: at most `20`, or `2..=20` of them, those included that are
    /// being made or thrown away.
    ///
    /// `make` runs in a task of the pool and not in that of whoever waits, so a cancelled wait does not waste it. If it
    /// fails it is called again while somebody waits: after 50 ms, after twice that, and so on up to 5 s, jittered. One
    /// that takes longer than [`make_within`](Self::make_within) has failed.
    ///
    /// # Panics
    ///
    /// If the maximum is 0, or less than the minimum.
    #[track_caller]
    pub fn new<F, Fut, E>(name: &'static str, size: impl Into<LeaseSize>, make: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let LeaseSize { min, max } = size.into();
        assert!(max > 0, "pool `{name}`: a pool of 0 leases never hands one out");
        assert!(min <= max, "pool `{name}`: of at most {max} resources it cannot keep {min}");
        let limits = Limits {
            id: next_id(),
            min,
            max,
            max_age: Self::MAX_AGE,
            max_idle: Self::MAX_IDLE,
            held_too_long: Self::HELD_TOO_LONG,
            check_after: None,
            resets: false,
            discards: false,
            keeps_idle: true,
            makes_at_once: Self::MAKES_AT_ONCE,
            call_every: None,
        };
        Self {
            name,
            place: Location::caller(),
            limits,
            hooks: Hooks::new(make, Self::MAKE_WITHIN, Self::TEND_WITHIN),
            acquire_within: Some(Self::ACQUIRE_WITHIN),
            discards_dropped: false,
        }
    }

    /// Describes a pool around another one - of sqlx, deadpool, bb8 - that gives its resources what a lease has: a line, a
    /// deadline that names the holders, an alert when one is held for too long, and above all an end other than "back into
    /// the pool" when its use was cut off.
    ///
    /// `checkout` takes one from the other pool. A lease that ends well is dropped, which gives it back there; one that does
    /// not goes to `detach`, which has to take it out of there for good. Nothing is kept idle here, so ages are the other pool's
    /// affair. Choose `max` as large as the other pool, and its own time limit longer than this one's.
    ///
    /// # Panics
    ///
    /// If `max` is 0.
    ///
    /// # Examples
    ///
    /// Around deadpool, whose object is detached by `Object::take`; around sqlx it would be
    /// `|connection| async { connection.close().await.ok(); }`.
    ///
    /// ```
    /// # mod deadpool {
    /// #     use std::convert::Infallible;
    /// #     #[derive(Clone)] pub struct Pool;
    /// #     pub struct Object;
    /// #     impl Pool { pub async fn get(&self) -> Result<Object, Infallible> { Ok(Object) } }
    /// #     impl Object { pub fn take(_: Object) {} pub async fn query(&mut self) {} }
    /// # }
    /// # use deadpool::Object;
    /// # bowline::testing::example_paused(async {
    /// # let pool = deadpool::Pool;
    /// # bowline::scope("service", async |s| {
    /// use bowline::Leases;
    ///
    /// let checkout = move || {
    ///     let pool = pool.clone();
    ///     async move { pool.get().await }
    /// };
    /// let db = Leases::around("db", 16, checkout, async |object| drop(Object::take(object))).start(s);
    ///
    /// let mut lease = db.acquire().await?;
    /// lease.using(async |object| object.query().await).await; // cut off in here, the connection is closed
    /// # Ok::<_, bowline::Cancelled>(())
    /// # }).await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn around<F, Fut, E, D, Gone>(name: &'static str, max: usize, checkout: F, detach: D) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        D: Fn(T) -> Gone + Send + Sync + 'static,
        Gone: Future<Output = ()> + Send + 'static,
    {
        let mut leases = Self::new(name, max, checkout).discard(detach).makes_at_once(max);
        leases.limits.keeps_idle = false;
        leases
    }

    /// Asks the resource whether it still works before it is handed out, if it was idle for [`CHECK_AFTER`](Self::CHECK_AFTER) or
    /// [`check_after`](Self::check_after). It is asked by a task of the pool; one that fails is discarded, and whoever is first
    /// in line gets the next.
    pub fn check<F, E>(mut self, check: F) -> Self
    where
        F: for<'a> Hook<'a, T, Result<(), E>> + Send + Sync + 'static,
        F: for<'a> AsyncFn(&'a mut T) -> Result<(), E>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.hooks.set_check(check);
        self.limits.check_after.get_or_insert(Self::CHECK_AFTER);
        self
    }

    /// Says how long a resource must have been idle to be checked; zero is "always". Without [`check`](Self::check) it does nothing.
    pub fn check_after(mut self, idle: Duration) -> Self {
        self.limits.check_after = Some(idle);
        self
    }

    /// Brings the resource back to what it was, after each lease, in a task of the pool: rolls back, clears, unsubscribes. If it
    /// fails or takes too long, the resource is discarded.
    ///
    /// It is the answer to code that may leave anything behind. It costs a task, and mostly a round trip, for every lease.
    pub fn reset<F, E>(mut self, reset: F) -> Self
    where
        F: for<'a> Hook<'a, T, Result<(), E>> + Send + Sync + 'static,
        F: for<'a> AsyncFn(&'a mut T) -> Result<(), E>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.hooks.set_reset(reset);
        self.limits.resets = true;
        self
    }

    /// Ends a resource that is not used any more, in a task of the pool, which a cancelled scope lets finish. Without
    /// this it is dropped.
    pub fn discard<F, Fut>(mut self, discard: F) -> Self
    where
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks.set_discard(discard);
        self.limits.discards = true;
        self
    }

    /// Says how long somebody waits for a lease at most: [`ACQUIRE_WITHIN`](Self::ACQUIRE_WITHIN) otherwise. The deadline of the
    /// context holds too.
    pub fn acquire_within(mut self, within: Duration) -> Self {
        self.acquire_within = Some(within);
        self
    }

    /// Says how old a resource gets, less up to a fifth by chance: [`MAX_AGE`](Self::MAX_AGE) otherwise. One that is leased then goes
    /// when it comes back. [`Duration::MAX`] is "any age".
    ///
    /// # Panics
    ///
    /// If it is zero: what is made would be too old to be handed out.
    #[track_caller]
    pub fn max_age(mut self, age: Duration) -> Self {
        assert!(
            !age.is_zero(),
            "pool `{}`: nothing it makes would be young enough to be handed out",
            self.name
        );
        self.limits.max_age = age;
        self
    }

    /// Says how long a resource may be idle, less up to a fifth by chance: [`MAX_IDLE`](Self::MAX_IDLE) otherwise. As many as the
    /// minimum stay. [`Duration::MAX`] is "for ever".
    pub fn max_idle(mut self, idle: Duration) -> Self {
        self.limits.max_idle = idle;
        self
    }

    /// Says after how long a lease that is still held is told as an [alert](crate::on_alert):
    /// [`HELD_TOO_LONG`](Self::HELD_TOO_LONG) otherwise. It names the task and the line that took it, and is over when the
    /// lease comes back. [`Duration::MAX`] is "never".
    ///
    /// # Panics
    ///
    /// If it is zero: every lease would be held for too long.
    #[track_caller]
    pub fn held_too_long(mut self, held: Duration) -> Self {
        assert!(!held.is_zero(), "pool `{}`: every lease would be held for too long", self.name);
        self.limits.held_too_long = held;
        self
    }

    /// Says how long making a resource may take: [`MAKE_WITHIN`](Self::MAKE_WITHIN) otherwise.
    pub fn make_within(mut self, within: Duration) -> Self {
        self.hooks.make_within = Some(within);
        self
    }

    /// Says how long a check, a reset or a discard may take: [`TEND_WITHIN`](Self::TEND_WITHIN) otherwise.
    pub fn tend_within(mut self, within: Duration) -> Self {
        self.hooks.tend_within = Some(within);
        self
    }

    /// Says how many resources are made at the same time at most: [`MAKES_AT_ONCE`](Self::MAKES_AT_ONCE) otherwise. While making
    /// fails it is one.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[track_caller]
    pub fn makes_at_once(mut self, makes: usize) -> Self {
        assert!(makes > 0, "a pool that makes 0 at once makes none");
        self.limits.makes_at_once = makes;
        self
    }

    /// Discards what comes back by a mere drop, if it was used by mutable reference: only [`give_back`](super::Lease::give_back) and
    /// [`using`](super::Lease::using) say that it is good.
    ///
    /// For code that is dropped where this crate cannot see it, as by a web server whose client has gone: a drop in the middle of
    /// a transaction looks there as one at the end.
    pub fn discard_dropped(mut self) -> Self {
        self.discards_dropped = true;
        self
    }

    /// Without any use of time: a model has none.
    #[cfg(all(test, bowline_shuttle))]
    pub(crate) fn without_time(mut self) -> Self {
        self.acquire_within = None;
        self.hooks.make_within = None;
        self.hooks.tend_within = None;
        self.max_age(Duration::MAX).max_idle(Duration::MAX).held_too_long(Duration::MAX)
    }

    /// Starts the pool: its keeper is a daemon of `owner`, so the scope does not stay open for it, and does not end before
    /// it.
    ///
    /// If the scope has ended, was closed or cancelled, every [`acquire`](LeasePool::acquire) says so.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[must_use = "the pool closes when its last handle is dropped: keep it"]
    #[track_caller]
    pub fn start(mut self, owner: &impl Owner) -> LeasePool<T> {
        // Not more often than a timer can tell apart.
        self.limits.call_every = self.acquire_within.map(|within| (within / 2).max(Duration::from_millis(1)));
        let core = Core::new(self.name, self.place, Rules::new(self.limits));
        let (pool, over) = LeasePool::new(&core, self.acquire_within, self.discards_dropped);
        let keeper = Keeper::new(core, self.hooks, over);
        // Refused, the keeper is dropped, and closes the pool.
        let _ = owner.own(self.name, Location::caller(), Tie::Serves, keeper.run());
        pool
    }
}
