//! Deadlines and shields: a piece of a task under a context of its own.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::cause::{Cancelled, Cause};
use crate::node::{Alive, Node, NodeKind};
use crate::put_off::Opened;
use crate::record::{self, CANCEL};
use crate::root;
use crate::site;
use crate::track::{End, First, Shield, Strand};
use crate::waker;

/// Runs `future` under a deadline `after` from its first poll; tasks it owns inherit it.
///
/// At the deadline the context inside is cancelled: waits of ours return [`Cancelled`], scopes inside cancel their tasks and
/// wait until those are gone, and an await that knows nothing of contexts is dropped where it stands. If `future` still
/// comes to a value that way - a [`group`](crate::group()) with partial results - that value is returned.
///
/// A deadline of an ancestor that is earlier stays in force.
///
/// # Cancel safety
///
/// Dropping it drops `future`.
///
/// # Errors
///
/// [`Cancelled`] if `future` did not come to a value; [`Cancelled::is_deadline`] tells the deadline from other causes.
///
/// # Examples
///
/// ```
/// # bowline::testing::example_paused(async {
/// use std::time::Duration;
///
/// let slow = tokio::time::sleep(Duration::from_secs(3600));
/// let late = bowline::timeout(Duration::from_secs(1), slow).await.unwrap_err();
/// assert!(late.is_deadline());
/// # });
/// ```
#[track_caller]
pub fn timeout<F: Future>(after: Duration, future: F) -> impl Future<Output = Result<F::Output, Cancelled>> {
    Under::new(Location::caller(), Limit::After(after), NodeKind::Timeout, future)
}

/// Runs `future` under the deadline `at`. Everything said at [`timeout`] holds.
///
/// # Cancel safety
///
/// Dropping it drops `future`.
///
/// # Errors
///
/// [`Cancelled`] if `future` did not come to a value.
#[track_caller]
pub fn deadline_at<F: Future>(at: Instant, future: F) -> impl Future<Output = Result<F::Output, Cancelled>> {
    Under::new(Location::caller(), Limit::At(at), NodeKind::Timeout, future)
}

/// Runs clean-up that a cancelled task still has to do, for at most `grace`.
///
/// Inside, neither the cancellation nor the deadline of the surrounding context is felt: a goodbye can be written, a lease
/// returned. An abort - the scope's future was dropped, or a shutdown has come to its end - still drops it.
///
/// # Cancel safety
///
/// Dropping it drops `future`.
///
/// # Errors
///
/// [`Cancelled`] with [`Cause::DeadlineExceeded`] if `grace` was not enough.
///
/// # Examples
///
/// ```
/// # async fn say_goodbye() {}
/// # async fn serve() -> Result<(), bowline::Cancelled> { Err(bowline::cancelled().await) }
/// # async fn connection() -> Result<(), bowline::Cancelled> {
/// use std::time::Duration;
///
/// let ended = serve().await;
/// bowline::shielded(Duration::from_secs(1), say_goodbye()).await.ok();
/// ended
/// # }
/// ```
#[track_caller]
pub fn shielded<F: Future>(grace: Duration, future: F) -> impl Future<Output = Result<F::Output, Cancelled>> {
    Under::new(Location::caller(), Limit::After(grace), NodeKind::Shield, future)
}

/// When a context ends by itself.
pub(crate) enum Limit {
    /// So long after its first poll.
    After(Duration),
    At(Instant),
    #[cfg(feature = "tokio-util")]
    Token(tokio_util::sync::CancellationToken),
}

pin_project! {
    /// A future under a context of its own. Written out, because an `async fn` would hold the future twice or three times.
    pub(crate) struct Under<F> {
        #[pin]
        strand: Strand<F>,
        state: State,
    }
}

enum State {
    New { place: &'static Location<'static>, limit: Limit, kind: NodeKind },
    Open { alive: Alive, alarm: Alarm, _shield: Option<Shield> },
    Ended,
}

/// What ends an open context from inside.
enum Alarm {
    Timer(Timer),
    #[cfg(feature = "tokio-util")]
    Token(Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>),
}

impl Alarm {
    fn rings(&mut self, cx: &mut Context<'_>) -> Option<Cause> {
        match self {
            Alarm::Timer(timer) => timer.has_fired(cx).then_some(Cause::DeadlineExceeded),
            #[cfg(feature = "tokio-util")]
            Alarm::Token(token) => {
                let cancelled = waker::quietly(cx, |cx| token.as_mut().poll(cx)).is_ready();
                cancelled.then_some(Cause::Requested("the token was cancelled"))
            }
        }
    }
}

impl<F: Future> Under<F> {
    pub(crate) fn new(place: &'static Location<'static>, limit: Limit, kind: NodeKind, future: F) -> Self {
        Self { strand: Strand::unopened(future), state: State::New { place, limit, kind } }
    }
}

fn open<F>(
    strand: Pin<&mut Strand<F>>,
    place: &'static Location<'static>,
    limit: Limit,
    at: Option<Instant>,
    kind: NodeKind,
) -> State {
    let shield = (kind == NodeKind::Shield).then(Shield::raise);
    // In a foreign task - a web framework's handler - the process's root is the parent.
    let parent = record::current().or_else(root::of_runtime);
    let inherited = parent.as_ref().and_then(|parent| parent.node.deadline());
    let alive = Node::open(site::intern(kind.name(), place), kind, parent, at, false);
    root::list_if_orphan(alive.node());
    let alarm = match limit {
        Limit::At(_) | Limit::After(_) => Alarm::Timer(Timer::for_node(alive.node(), inherited)),
        #[cfg(feature = "tokio-util")]
        Limit::Token(token) => Alarm::Token(Box::pin(token.cancelled_owned())),
    };
    strand.open(alive.node());
    State::Open { alive, alarm, _shield: shield }
}

impl Limit {
    /// The deadline, if the first poll is now.
    fn deadline(&self) -> Option<Instant> {
        match self {
            Limit::At(at) => Some(*at),
            Limit::After(after) => Instant::now().checked_add(*after), // too long to add is no deadline
            #[cfg(feature = "tokio-util")]
            Limit::Token(_) => None,
        }
    }
}

/// Whether the first poll can go on without the context being opened. A foreign task has none below, and a cancelled one
/// is to be seen at once.
fn can_be_put_off(limit: &Limit, kind: NodeKind) -> bool {
    kind == NodeKind::Timeout
        && matches!(limit, Limit::At(_) | Limit::After(_))
        && record::with_nearest(|current| current.is_some_and(|record| !record.is_cancelled()))
}

impl<F: Future> Future for Under<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut first = None;
        if matches!(this.state, State::New { .. }) {
            if let State::New { place, limit, kind } = std::mem::replace(this.state, State::Ended) {
                let at = limit.deadline();
                *this.state = if can_be_put_off(&limit, kind) {
                    first = Some(Poll::Pending);
                    match this.strand.as_mut().poll_first(cx, place, at) {
                        First::Value(value) => return Poll::Ready(Ok(value)),
                        First::Panicked(panic) => panic.resume(),
                        First::Pending(Some(Opened { alive, inherited, .. })) => {
                            let alarm = Alarm::Timer(Timer::for_node(alive.node(), inherited));
                            State::Open { alive, alarm, _shield: None }
                        }
                        First::Pending(None) => {
                            let state = open(this.strand.as_mut(), place, limit, at, kind);
                            this.strand.as_mut().park(cx);
                            state
                        }
                    }
                } else {
                    open(this.strand.as_mut(), place, limit, at, kind)
                };
            }
        }
        let State::Open { alive, alarm, .. } = this.state else { panic!("polled after it had ended") };
        let mut polled = first.unwrap_or_else(|| this.strand.as_mut().poll(cx));
        if polled.is_pending() {
            if let Some(cause) = alarm.rings(cx) {
                alive.node().cancel(CANCEL, &cause);
                polled = this.strand.as_mut().poll(cx); // its one poll more, now
            }
        }
        let Poll::Ready(end) = polled else { return Poll::Pending };
        let why = alive.node().why();
        *this.state = State::Ended;
        match end {
            End::Value(value) => Poll::Ready(Ok(value)),
            End::Cancelled => Poll::Ready(Err(why.unwrap_or_else(|| Cancelled::new(Cause::Aborted)))),
            End::Panicked(panic) => panic.resume(),
        }
    }
}

/// The one timer of a deadline: whoever tightened it polls it; everybody below inherits the effect.
pub(crate) struct Timer {
    /// `None`: there is none, or it has fired.
    at: Option<Instant>,
    /// Made when somebody has to wait: most calls end before that.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(crate) fn for_node(node: &Arc<Node>, inherited: Option<Instant>) -> Self {
        let own =
            node.deadline().filter(|at| node.kind == NodeKind::Shield || inherited.is_none_or(|up| *at < up));
        #[cfg(test)]
        tests::MADE.with(|made| made.set(made.get() + usize::from(own.is_some())));
        Self { at: own, sleep: None }
    }

    /// Says once that the deadline has passed.
    pub(crate) fn has_fired(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.at else { return false };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        let fired = waker::quietly(cx, |cx| sleep.as_mut().poll(cx)).is_ready(); // it cancels, and wakes nobody for good
        if fired {
            *self = Self { at: None, sleep: None };
        }
        fired
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::scope;

    thread_local! {
        /// Timers made on this thread; a test has its own.
        pub(super) static MADE: Cell<usize> = const { Cell::new(0) };
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ten_thousand_tasks_under_one_deadline_share_one_timer() {
        crate::testing::example_paused(async {
            let late = timeout(SECOND, async {
                scope("page", async |s| {
                    for _ in 0..10_000 {
                        // A scope and a longer deadline of its own change nothing: it is no earlier than the inherited one.
                        s.spawn("load", timeout_of_its_own());
                    }
                    Ok::<_, Cancelled>(())
                })
                .await
            });
            assert!(late.await.unwrap().unwrap_err().is_deadline());
        });
        assert_eq!(MADE.get(), 1);
    }

    async fn timeout_of_its_own() -> Result<(), Cancelled> {
        timeout(10 * SECOND, scope("inner", async |_| Err(crate::cancelled().await))).await?
    }

    #[test]
    fn whoever_tightens_the_deadline_has_a_timer() {
        crate::testing::example_paused(async {
            let late = timeout(3 * SECOND, timeout(2 * SECOND, timeout(SECOND, crate::cancelled())));
            assert!(late.await.unwrap().unwrap().unwrap().is_deadline());
        });
        assert_eq!(MADE.get(), 3);
    }
}
