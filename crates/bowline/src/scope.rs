//! Scopes: the owner of tasks. A scope returns when its tasks are gone, not when they were asked to go.
//!
//! # End
//!
//! The first error of a task, or of the body, cancels everybody else; the scope waits for all of them and returns that
//! error. A panic does the same and goes on in the owner once all are gone. Daemons are cancelled when everybody else is
//! gone, and waited for like the others. If the scope's future is dropped, its tasks are
//! aborted, and those still ending keep the enclosing scope open: they are *adopted*, counted, and a failure in tests.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;

use crate::carry::{Bind, Carry, Cx, TaskFn};
use crate::cause::{Cancelled, Cause};
use crate::channel::{Answer, BroadcastRx, BroadcastTx, RendezvousRx, RendezvousTx, Reply, WatchRx, WatchTx};
use crate::done::Failure;
use crate::handle::Handle;
use crate::node::{Node, NodeKind};
use crate::opening::Opened;
use crate::panic::Panic;
use crate::queue::{Bound, Overflow, Rx, Tx};
use crate::record::{CANCEL, Kind, Record};
use crate::site::Site;
use crate::spawner::{self, JoinHandle};
use crate::track::{Blocking, End, Ending, Strand, Tracked};

/// Runs `body` with a scope that owns every task spawned into it, and returns when the last one is gone.
///
/// `E` is the error type of the scope: the body and its tasks return `Result<_, E>`, and the first error cancels the
/// others. It needs a `From<Cancelled>`, which `anyhow::Error` has, a `thiserror` enum gets by `#[from]`, and [`Cancelled`]
/// itself is good enough for scopes that cannot fail otherwise.
///
/// A bare `Box<dyn Error + Send + Sync>` has it too, but where the future must be `Send` (under `#[bowline::main]`, in a
/// task) the compiler refuses it, "implementation of `AsyncFnOnce` is not general enough": put the box into a struct.
///
/// # Cancel safety
///
/// If the future is dropped, the tasks are aborted and those still ending are adopted by the enclosing scope. Values of
/// tasks are lost. Prefer [`timeout`](crate::timeout()) over a foreign `select!`: it lets the scope come to its end.
///
/// # Errors
///
/// The first error of the body or of a task; `E::from(Cancelled)` if the scope was cancelled and nobody had an error.
///
/// # Panics
///
/// With the panic of the body or of a task, after every other task is gone.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Cancelled, scope};
///
/// let sum = scope("sum", async |s| {
///     let two = s.spawn("two", async { Ok(2) });
///     let three = s.spawn("three", async { Ok(3) });
///     Ok::<_, Cancelled>(two.await? + three.await?)
/// })
/// .await;
/// assert_eq!(sum, Ok(5));
/// # });
/// ```
#[track_caller]
pub fn scope<T, E, F>(name: &'static str, body: F) -> impl Future<Output = Result<T, E>>
where
    F: AsyncFnOnce(&Scope<E>) -> Result<T, E>,
    E: From<Cancelled> + Send + 'static,
{
    let place = Location::caller();
    let mut body = Some(body); // lent to the strand: captured by it as well, it would be held three times
    async move {
        let mut opened = Opened::new(name, place, NodeKind::Scope, true);
        let node = Arc::clone(opened.node());
        let lent = &mut body;
        let strand = pin!(Strand::unopened(async {
            let scope = Scope { node, cx: Cx::here(), error: PhantomData };
            let Some(body) = lent.take() else { unreachable!("a strand is run once") };
            body(&scope).await.map_err(|error| scope.fail(error)).ok()
        }));
        let ran = opened.run(strand).await;
        let failure = match ran.failure {
            Some(Failure::Panicked(panic)) => panic.resume(),
            Some(Failure::Error(error)) => Some(match error.downcast::<E>() {
                Ok(error) => *error,
                Err(_) => unreachable!("only tasks of this scope put errors there, and all have its type"),
            }),
            Some(Failure::Cancelled(cancelled)) => Some(E::from(cancelled)),
            None => None,
        };
        match (ran.body, failure) {
            (End::Panicked(panic), _) => panic.resume(),
            (_, Some(error)) => Err(error),
            (End::Value(Some(value)), None) => Ok(value),
            (End::Value(None) | End::Cancelled, None) => {
                Err(E::from(ran.cause.unwrap_or_else(|| Cancelled::new(Cause::Aborted))))
            }
        }
    }
}

/// What a scope's body sees of its scope: spawn tasks, make queues, cancel.
///
/// It lives in the body's own future and cannot leave it; [`handle`](Self::handle) makes something that can.
pub struct Scope<E> {
    node: Arc<Node>,
    cx: Cx,
    error: PhantomData<fn(E)>,
}

impl<E: From<Cancelled> + Send + 'static> Scope<E> {
    /// The body's error is one among others: the first wins, and the others are cancelled.
    fn fail(&self, error: E) {
        self.node.fail(Failure::Error(Box::new(error)), &Cause::BodyFailed);
    }

    /// Spawns a task that owns no Bowline ends; plain data is captured as usual.
    ///
    /// An end or a [`Shared`](crate::Shared) that is captured is an error, "borrowed data escapes outside of closure": hand it
    /// over with [`spawn_with`](Self::spawn_with).
    ///
    /// Its first error cancels the scope. If a task's failure is a value to you, return it as one: `Ok(result)`.
    /// If the scope is cancelled or closed, `future` is dropped unpolled and the handle says why.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn<T, F>(&self, name: &'static str, future: F) -> Handle<T>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
    {
        match list(&self.node, name, Location::caller(), Kind::Task) {
            Ok(record) => spawn_listed::<_, _, E>(record, future),
            Err(closed) => Handle::refused(closed.cause),
        }
    }

    /// Spawns a task and hands queue ends or shared objects over to it: from here on *it* holds them.
    ///
    /// `carry` is an end, or a tuple or `Vec` of ends; the task receives them bound to itself.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Bound, Overflow, Cancelled, scope};
    ///
    /// scope("orders", async |s| {
    ///     let (tx, rx) = s.queue("orders", Bound::items(8), Overflow::Block);
    ///     let packed = s.spawn_with("packer", rx, async |_cx, rx| {
    ///         let mut packed = 0;
    ///         while let Some(order) = rx.recv().await? {
    ///             packed += order;
    ///         }
    ///         Ok(packed)
    ///     });
    ///     for order in 1..=3 {
    ///         tx.send(order).await?;
    ///     }
    ///     drop(tx); // the packer's `recv` now says that no more will come
    ///     assert_eq!(packed.await?, 6);
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn_with<A, T, F>(&self, name: &'static str, carry: A, task: F) -> Handle<T>
    where
        A: Carry,
        T: Send + 'static,
        F: for<'c> AsyncFnOnce(&'c Cx, <A::Packed as Bind>::In<'c>) -> Result<T, E>
            + for<'c> TaskFn<'c, A::Packed, Result<T, E>>
            + Send
            + 'static,
    {
        let packed = carry.pack();
        let future = crate::carry::run_task(packed, task);
        match list(&self.node, name, Location::caller(), Kind::Task) {
            Ok(record) => spawn_listed::<_, _, E>(record, future),
            Err(closed) => Handle::refused(closed.cause),
        }
    }

    /// Spawns a task for which the scope does not stay open: a heartbeat, a metrics writer, a cache's sweeper.
    ///
    /// When the body and all other tasks are gone, daemons are cancelled ([`Cause::ScopeEnding`]), get their one poll more, and
    /// the scope returns when they are gone too. So they serve the others to the end, and need no signal to stop.
    ///
    /// A daemon never returns a value: its type says so, and a `loop` without `break` fits it, `Ok(())` does
    /// not. One that returns does so with an error, which fails the scope as any
    /// other; its answer to being cancelled does not.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example_paused(async {
    /// use std::time::Duration;
    /// use bowline::{Cancelled, scope};
    ///
    /// scope("service", async |s| {
    ///     s.spawn_daemon("heartbeat", async {
    ///         loop {
    ///             bowline::sleep(Duration::from_secs(25)).await?;
    ///             println!("still here");
    ///         }
    ///     });
    ///     s.spawn("work", async { Ok(()) });
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn_daemon<F>(&self, name: &'static str, future: F) -> Handle<Infallible>
    where
        F: Future<Output = Result<Infallible, E>> + Send + 'static,
    {
        match list(&self.node, name, Location::caller(), Kind::Daemon) {
            Ok(record) => spawn_listed::<_, _, E>(record, future),
            Err(closed) => Handle::refused(closed.cause),
        }
    }

    /// Spawns a daemon and hands ends over to it: [`spawn_daemon`](Self::spawn_daemon) and [`spawn_with`](Self::spawn_with) in
    /// one.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn_daemon_with<A, F>(&self, name: &'static str, carry: A, task: F) -> Handle<Infallible>
    where
        A: Carry,
        F: for<'c> AsyncFnOnce(&'c Cx, <A::Packed as Bind>::In<'c>) -> Result<Infallible, E>
            + for<'c> TaskFn<'c, A::Packed, Result<Infallible, E>>
            + Send
            + 'static,
    {
        self.spawn_daemon(name, crate::carry::run_task(carry.pack(), task))
    }

    /// Runs a blocking closure on the runtime's blocking threads, as a task of this scope.
    ///
    /// The context is ambient in it, so long loops can ask [`check`](crate::check()). It cannot be dropped half-way: a cancelled
    /// scope waits for it, and a shutdown that cannot names it.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn_blocking<T, F>(&self, name: &'static str, work: F) -> Handle<T>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
    {
        spawn_blocking_into(&self.node, name, Location::caller(), work)
            .unwrap_or_else(|closed| Handle::refused(closed.cause))
    }

    /// Makes a bounded queue whose both ends are held by this task. See [`Cx::queue`].
    #[track_caller]
    pub fn queue<T: Send + 'static>(
        &self,
        name: &'static str,
        bound: Bound<T>,
        overflow: Overflow,
    ) -> (Tx<'_, T>, Rx<'_, T>) {
        self.cx.queue(name, bound, overflow)
    }

    /// Makes a channel for one answer, both ends held by this task. See [`Cx::oneshot`].
    #[track_caller]
    pub fn oneshot<T: Send + 'static>(&self, name: &'static str) -> (Reply<'_, T>, Answer<'_, T>) {
        self.cx.oneshot(name)
    }

    /// Makes a channel for the latest value, both ends held by this task. See [`Cx::watch`].
    #[track_caller]
    pub fn watch<T: Send + Sync + 'static>(
        &self,
        name: &'static str,
        initial: T,
    ) -> (WatchTx<'_, T>, WatchRx<'_, T>) {
        self.cx.watch(name, initial)
    }

    /// Makes a channel that gives every item to everybody, both ends held by this task. See [`Cx::broadcast`].
    ///
    /// # Panics
    ///
    /// If `capacity` is 0.
    #[track_caller]
    pub fn broadcast<T: Send + Sync + 'static>(
        &self,
        name: &'static str,
        capacity: usize,
    ) -> (BroadcastTx<'_, T>, BroadcastRx<'_, T>) {
        self.cx.broadcast(name, capacity)
    }

    /// Makes a channel without a buffer, both ends held by this task. See [`Cx::rendezvous`].
    #[track_caller]
    pub fn rendezvous<T: Send + 'static>(
        &self,
        name: &'static str,
    ) -> (RendezvousTx<'_, T>, RendezvousRx<'_, T>) {
        self.cx.rendezvous(name)
    }

    /// Returns the body's own context.
    pub fn cx(&self) -> &Cx {
        &self.cx
    }

    /// Returns a handle with which other tasks can spawn into this scope, cancel it or close it.
    pub fn handle(&self) -> ScopeHandle<E> {
        ScopeHandle { node: Arc::clone(&self.node), error: PhantomData }
    }

    /// Cancels every task of the scope and its body.
    pub fn cancel(&self, reason: &'static str) {
        self.handle().cancel(reason);
    }

    /// Takes no more tasks; those that run go on.
    pub fn close(&self) {
        self.handle().close();
    }
}

/// A handle on a scope that can be kept anywhere. It does not keep the scope open.
pub struct ScopeHandle<E> {
    node: Arc<Node>,
    error: PhantomData<fn(E)>,
}

impl<E> Clone for ScopeHandle<E> {
    fn clone(&self) -> Self {
        Self { node: Arc::clone(&self.node), error: PhantomData }
    }
}

impl<E: From<Cancelled> + Send + 'static> ScopeHandle<E> {
    /// Spawns a task into the scope, as [`Scope::spawn`].
    ///
    /// # Errors
    ///
    /// [`ScopeClosed`] if the scope has ended, is closed or cancelled; `future` was dropped unpolled.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn<T, F>(&self, name: &'static str, future: F) -> Result<Handle<T>, ScopeClosed>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
    {
        let record = list(&self.node, name, Location::caller(), Kind::Task)?;
        Ok(spawn_listed::<_, _, E>(record, future))
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Cancels every task of the scope and its body.
    pub fn cancel(&self, reason: &'static str) {
        self.node.cancel(CANCEL, &Cause::Requested(reason));
    }

    /// Takes no more tasks; those that run go on.
    pub fn close(&self) {
        self.node.close();
    }
}

/// A task was refused because its scope has ended, is closed, or was cancelled. Trying again cannot succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeClosed {
    cause: Cause,
}

impl ScopeClosed {
    /// Returns why the scope takes no tasks.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

impl std::fmt::Display for ScopeClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the scope takes no more tasks: {}", self.cause)
    }
}

impl std::error::Error for ScopeClosed {}

/// So that `?` works in a task that spawns into the scope or group it belongs to.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Cancelled, CollectAll, GroupHandle, group};
///
/// fn visit(page: u32, crawl: GroupHandle<u32, Cancelled, CollectAll>) -> Result<(), Cancelled> {
///     let further = crawl.clone();
///     crawl.spawn("page", async move {
///         if page < 3 {
///             visit(page + 1, further)?;
///         }
///         Ok(page)
///     })?;
///     Ok(())
/// }
///
/// let pages = group("crawl", CollectAll, async |g| visit(1, g.handle())).await.all_ok()?;
/// assert_eq!(pages, [1, 2, 3]);
/// # Ok::<_, Cancelled>(())
/// # }).unwrap();
/// ```
impl From<ScopeClosed> for Cancelled {
    fn from(closed: ScopeClosed) -> Self {
        Self::new(closed.cause)
    }
}

// ---- spawning

pub(crate) fn list(
    node: &Arc<Node>,
    name: &'static str,
    place: &'static Location<'static>,
    kind: Kind,
) -> Result<Arc<Record>, ScopeClosed> {
    node.list(Site { name, place }, kind).map_err(|cause| ScopeClosed { cause })
}

pub(crate) fn spawn_listed<T, F, E>(record: Arc<Record>, future: F) -> Handle<T>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let kept = Arc::clone(&record);
    Handle::running(spawn_tracked::<_, OfScope<T, E>>(record, future), kept)
}

pub(crate) fn spawn_tracked<F, O>(record: Arc<Record>, future: F) -> JoinHandle<O::Ended>
where
    F: Future<Output = O::Output> + Send + 'static,
    O: Ending + 'static,
{
    spawner::spawn(Tracked::<F, O>::new(record, future))
}

fn spawn_blocking_into<T, E, F>(
    node: &Arc<Node>,
    name: &'static str,
    place: &'static Location<'static>,
    work: F,
) -> Result<Handle<T>, ScopeClosed>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let record = list(node, name, place, Kind::Blocking)?;
    let kept = Arc::clone(&record);
    Ok(Handle::running(spawn_blocking_tracked::<_, OfScope<T, E>>(record, work), kept))
}

pub(crate) fn spawn_blocking_tracked<W, O>(record: Arc<Record>, work: W) -> JoinHandle<O::Ended>
where
    W: FnOnce() -> O::Output + Send + 'static,
    O: Ending + 'static,
{
    let blocking = Blocking::new(record, work);
    spawner::spawn_blocking(move || blocking.run::<O>())
}

/// A task's end as a scope sees it: an error belongs to the scope, a value to the handle.
struct OfScope<T, E>(PhantomData<fn(T, E)>);

impl<T: Send + 'static, E: Send + 'static> Ending for OfScope<T, E> {
    type Output = Result<T, E>;
    /// Why there is none is in the record: what is handed up at each poll, mostly to say "pending", is best small.
    type Ended = Option<T>;

    fn value(record: &Arc<Record>, value: Result<T, E>) -> Self::Ended {
        match value {
            Ok(value) => return Some(value),
            // Its answer to a cancel through its handle, or of a daemon that is not needed any more: between the two.
            Err(_) if record.was_cancelled_alone() => {}
            Err(error) => {
                record.mark_failed();
                record.node.fail(Failure::Error(Box::new(error)), &Cause::SiblingFailed(record.site.name));
            }
        }
        None
    }

    fn panicked(record: &Arc<Record>, panic: Panic) -> Self::Ended {
        record.mark_failed();
        record.node.fail(Failure::Panicked(panic), &Cause::SiblingPanicked(record.site.name));
        None
    }

    fn cancelled(record: &Arc<Record>, cancelled: Cancelled) -> Self::Ended {
        // Alone, by its handle: that is between the two. With its scope: the scope has no value to show.
        if !record.was_cancelled_alone() {
            let cause = cancelled.cause().clone();
            record.node.fail(Failure::Cancelled(cancelled), &cause);
        }
        None
    }
}
