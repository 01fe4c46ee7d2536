//! Membership in a drain phase: a part of a program that finishes when its turn comes.
//!
//! A member is whatever was started under a [`DrainPhase`]. Its node ends the membership when everything below is gone:
//! adopted tasks included, without a list that could miss a late one.
//!
//! # End
//!
//! Whose turn it is, and when it is over, is for the module `turns`. A member that is dropped, whether it was ever run or
//! not, is one less to wait for.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::cause::{Cancelled, Cause};
use crate::node::{Alive, Node, NodeKind};
use crate::record;
use crate::root::{self, Membership};
use crate::site;
use crate::track::{End, Strand};

/// Registers the caller in the drain phase of this name: at the shutdown, phases finish one after the other, **the one that
/// was registered last first**.
///
/// So a program that starts its store, then its workers, then its accept loop, stops the accept loop first, then the
/// workers, and closes the store when nobody uses it any more:
///
/// - [`draining`](crate::draining()) inside of a phase returns when its turn has come; outside of any phase, when the
///   shutdown begins.
/// - A turn is over when everything that was registered in the phase has ended, tasks below it included, or its time is
///   up: what is left is then cancelled, gets another tenth of that time to clean up, and is named in the report.
/// - The time for draining is shared evenly by the phases still to come ([`Runner::drain_phase`](crate::Runner::drain_phase)
///   gives one more, or another place). What a phase does not use is left to the others, and one without members takes none.
///
/// The place in the order is that of the first registration of the name; several may register under one name. What is
/// registered must be [`run`](DrainPhase::run) or dropped, or else its turn lasts until its time is up. Without a
/// [`Runner`](crate::Runner), as in tests, [`shut_down`](crate::shut_down()) begins the turns, and they have no time limit.
/// Where nothing of ours runs, no turn ever comes.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, Overflow, drain_phase, draining, scope};
///
/// let stored = scope("service", async |s| {
///     let (save, saved) = s.queue::<u32>("saved", Bound::items(8), Overflow::Block);
///     let (submit, submitted) = s.queue::<u32>("submitted", Bound::items(8), Overflow::Block);
///
///     let phase = drain_phase("store");
///     let store = s.spawn_with("store", saved, async |_cx, saved| {
///         phase
///             .run(async {
///                 let mut rows = 0;
///                 while let Some(row) = saved.recv().await? {
///                     rows += row;
///                 }
///                 Ok(rows) // nobody writes any more: flush, close
///             })
///             .await
///     });
///     let phase = drain_phase("workers");
///     s.spawn_with("worker", (submitted, save), async |_cx, (submitted, save)| {
///         phase
///             .run(async {
///                 while let Some(job) = submitted.recv().await? {
///                     save.send(2 * job).await?;
///                 }
///                 Ok(())
///             })
///             .await
///     });
///     let phase = drain_phase("accept");
///     s.spawn_with("accept", submit, async |_cx, submit| {
///         phase
///             .run(async {
///                 submit.send(21).await?;
///                 draining().await; // the first to stop, because it was the last to start
///                 Ok(())
///             })
///             .await
///     });
///     bowline::shut_down("enough");
///     Ok::<_, Cancelled>(store.await?)
/// })
/// .await;
/// assert_eq!(stored, Ok(42));
/// # });
/// ```
#[track_caller]
#[must_use = "its turn lasts until what was registered is run or dropped"]
pub fn drain_phase(name: &'static str) -> DrainPhase {
    let place = Location::caller();
    let record = record::current().or_else(root::of_runtime);
    let root = record.as_ref().and_then(|record| record.node.root.as_ref());
    DrainPhase { name, place, member: root.map(|root| root.join_drain_phase(name, place)) }
}

/// A membership in a drain phase, from [`drain_phase`] on: run what belongs to the phase under it.
#[must_use = "its turn lasts until what was registered is run or dropped"]
pub struct DrainPhase {
    name: &'static str,
    place: &'static Location<'static>,
    member: Option<Membership>,
}

impl DrainPhase {
    /// Runs `future` as a member of the phase; the membership ends when it and every task below it are gone.
    ///
    /// If the turn's time is up before that, the context inside is cancelled. Where a task is nothing but this, the *task* is
    /// cancelled: its answer to that does not fail its scope.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `future` and ends the membership.
    ///
    /// # Errors
    ///
    /// `future`'s own; `E::from(Cancelled)` if it was cancelled and came to no end by itself.
    ///
    /// # Panics
    ///
    /// With the panic of `future`.
    pub fn run<T, E, F>(self, future: F) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Cancelled>,
    {
        InPhase { strand: Strand::unopened(future), state: State::New(self), output: PhantomData }
    }
}

impl std::fmt::Debug for DrainPhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DrainPhase").field("name", &self.name).finish_non_exhaustive()
    }
}

pin_project! {
    /// A future that is a member of a phase. Written out, because an `async` block would hold the future twice.
    struct InPhase<F, T, E> {
        #[pin]
        strand: Strand<F>,
        state: State,
        output: PhantomData<fn() -> Result<T, E>>,
    }
}

enum State {
    New(DrainPhase),
    Open(Alive),
    Ended,
}

impl<F, T, E> Future for InPhase<F, T, E>
where
    F: Future<Output = Result<T, E>>,
    E: From<Cancelled>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let State::New(phase) = this.state {
            let parent = record::current().or_else(root::of_runtime);
            let site = site::intern(phase.name, phase.place);
            let alive = match phase.member.take() {
                Some(member) => Node::open_in_phase(site, parent, member),
                // Registered where no root runs, it belongs to that of the parent, outside of any phase.
                None => Node::open(site, NodeKind::Drain, parent, None, false),
            };
            let node = alive.node();
            match (&node.root, node.parent()) {
                (Some(root), _) => root.list_member(node),
                (None, None) => root::list_orphan(node),
                (None, Some(_)) => {}
            }
            this.strand.as_mut().open(node);
            *this.state = State::Open(alive);
        }
        let Poll::Ready(end) = this.strand.poll(cx) else { return Poll::Pending };
        let State::Open(alive) = std::mem::replace(this.state, State::Ended) else {
            unreachable!("the strand is polled only while the node is open");
        };
        match end {
            End::Value(value) => Poll::Ready(value),
            End::Cancelled => Poll::Ready(Err(E::from(
                alive.node().why().unwrap_or_else(|| Cancelled::new(Cause::Aborted)),
            ))),
            End::Panicked(panic) => panic.resume(),
        }
    }
}
