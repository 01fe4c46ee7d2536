//! Room in a group with a limit: reserved first, spawned into afterwards.
//!
//! Only the body waits. A member that waited for room in its own group would hold a place while it does; if all did, none
//! would ever be free. So a handle answers at once, and a member that is told "full" does the work itself.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};

use super::policy::{AtMost, Unlimited};
use super::{Group, GroupHandle, Member};
use crate::carry::{Bind, Carry, Cx, TaskFn};
use crate::cause::Cancelled;
use crate::node::Node;
use crate::testing::trial;
use crate::track::Leaf;
use crate::wait::{Op, Wait};

/// Room for one task in a group with a limit. Dropped unused, it is given to the next in line.
#[must_use = "the room is given back if nothing is spawned into it"]
pub struct SpawnPermit<T, E, P: Unlimited> {
    group: GroupHandle<T, E, AtMost<P>>,
    place: OwnedSemaphorePermit,
}

impl<T: Send + 'static, E: Send + 'static, P: Unlimited> SpawnPermit<T, E, P> {
    /// Spawns a task whose end gets the next slot. The room is given back when the task's future and its destructors are
    /// gone, whether it came to a value, panicked or was aborted. Tasks of a scope that it dropped half-way (adopted ones) are
    /// not counted.
    ///
    /// If the group was cancelled or closed meanwhile, `future` is dropped unpolled and the slot says why.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn<F>(self, name: &'static str, future: F) -> Member
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.spawn_at(name, Location::caller(), future)
    }

    /// Spawns a task and hands ends over to it, as [`Scope::spawn_with`](crate::Scope::spawn_with).
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn_with<A, F>(self, name: &'static str, carry: A, task: F) -> Member
    where
        A: Carry,
        F: for<'c> AsyncFnOnce(&'c Cx, <A::Packed as Bind>::In<'c>) -> Result<T, E>
            + for<'c> TaskFn<'c, A::Packed, Result<T, E>>
            + Send
            + 'static,
    {
        self.spawn_at(name, Location::caller(), crate::carry::run_task(carry.pack(), task))
    }

    pub(super) fn spawn_at<F>(
        self,
        name: &'static str,
        place: &'static Location<'static>,
        future: F,
    ) -> Member
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let _open = Node::hold(&self.group.node); // until the entry is written (invariant 2 of the group)
        self.group.spawn_at(name, place, self.place, future).unwrap_or_else(|_| Member::refused())
    }
}

impl<T, E, P: Unlimited> fmt::Debug for SpawnPermit<T, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnPermit").finish_non_exhaustive()
    }
}

impl<T: Send + 'static, E: Send + 'static, P: Unlimited> Group<T, E, AtMost<P>> {
    /// Waits until the group runs fewer tasks than its limit, and holds the room for one.
    ///
    /// Take what the task is to work on *after* that: then nothing is in hand while there is no room for it. Waiters get
    /// room in the order in which they were first polled. See [`GroupHandle::try_reserve`] for members.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the place in line is lost, and room that was granted meanwhile goes to the next.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the group was cancelled: by its owner, a deadline, or a failure under
    /// [`FailFast`](crate::FailFast). The body can return: the reason is in the slots.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Cancelled, FailFast, group};
    ///
    /// let pages = group("pages", FailFast.at_most(2), async |g| {
    ///     for page in 1..=5 {
    ///         g.reserve().await?.spawn("page", async move { Ok::<_, Cancelled>(page * 10) });
    ///     }
    ///     Ok(())
    /// })
    /// .await
    /// .all_ok()?;
    /// assert_eq!(pages, [10, 20, 30, 40, 50]);
    /// # Ok::<_, Cancelled>(())
    /// # }).unwrap();
    /// ```
    pub async fn reserve(&self) -> Result<SpawnPermit<T, E, P>, Cancelled> {
        trial::turn().await;
        let place = {
            let mut place = pin!(Arc::clone(&self.handle.desk.places).acquire_owned());
            let mut leaf = Leaf::default();
            poll_fn(|cx| {
                Leaf::check()?;
                match place.as_mut().poll(cx) {
                    Poll::Ready(Ok(place)) => {
                        leaf.clear();
                        Poll::Ready(Ok(place))
                    }
                    Poll::Ready(Err(_)) => unreachable!("nobody closes it"),
                    Poll::Pending => {
                        let on = self.handle.node.id;
                        leaf.park(cx, Wait { op: Op::Spawn, on })?;
                        Poll::Pending
                    }
                }
            })
            .await
        };
        place.map(|place| SpawnPermit { group: self.handle(), place })
    }

    /// Takes room if there is some now, as [`GroupHandle::try_reserve`].
    ///
    /// # Errors
    ///
    /// [`NoRoom`], at once.
    pub fn try_reserve(&self) -> Result<SpawnPermit<T, E, P>, NoRoom> {
        self.handle.try_reserve()
    }
}

impl<T: Send + 'static, E: Send + 'static, P: Unlimited> GroupHandle<T, E, AtMost<P>> {
    /// Takes room in the group if there is some now.
    ///
    /// There is no form that waits: a member holds a place in the group itself, and members that wait for each other's
    /// places wait for ever. A member that finds no room does the work itself:
    ///
    /// # Errors
    ///
    /// [`NoRoom::Full`] if as many tasks run as may; later there may be room. [`NoRoom::Closed`] if the group has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{AtMost, Cancelled, Discard, GroupHandle, group};
    /// use std::pin::Pin;
    ///
    /// type Crawl = GroupHandle<(), Cancelled, AtMost<Discard>>;
    ///
    /// fn page(crawl: Crawl, depth: u32) -> Pin<Box<dyn Future<Output = Result<(), Cancelled>> + Send>> {
    ///     Box::pin(async move {
    ///         for _link in 0..depth {
    ///             let link = page(crawl.clone(), depth - 1);
    ///             match crawl.try_reserve() {
    ///                 Ok(room) => drop(room.spawn("page", link)),
    ///                 Err(_) => link.await?,
    ///             }
    ///         }
    ///         Ok(())
    ///     })
    /// }
    ///
    /// let crawled = group("crawl", Discard.at_most(2), async |g| {
    ///     g.reserve().await?.spawn("page", page(g.handle(), 3));
    ///     Ok(())
    /// })
    /// .await;
    /// crawled.all_ok()?;
    /// # Ok::<_, Cancelled>(())
    /// # }).unwrap();
    /// ```
    pub fn try_reserve(&self) -> Result<SpawnPermit<T, E, P>, NoRoom> {
        if self.node.is_gone() {
            return Err(NoRoom::Closed);
        }
        match Arc::clone(&self.desk.places).try_acquire_owned() {
            Ok(place) => Ok(SpawnPermit { group: self.clone(), place }),
            Err(TryAcquireError::NoPermits) => Err(NoRoom::Full),
            Err(TryAcquireError::Closed) => unreachable!("nobody closes it"),
        }
    }
}

/// Why [`try_reserve`](GroupHandle::try_reserve) gave no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// As many tasks run as may. Trying later may succeed.
    Full,
    /// The group has ended. Trying again cannot succeed.
    Closed,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoRoom::Full => "the group runs as many tasks as it may",
            NoRoom::Closed => "the group has ended",
        })
    }
}

impl std::error::Error for NoRoom {}
