//! What others have of a running supervisor: a handle on it, and one on each child that outlives the child's incarnations.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::error::{AddChildError, NoSuchChild, NotRunning, StopChildError};
use super::report::{ChildState, ChildStats, GaveUp, SupervisorStats};
use super::spec::Child;
use super::state::{Inner, State};

/// A running supervisor. It can be cloned and kept anywhere.
///
/// Dropping it, also the last one, stops nothing: the supervisor serves until its scope ends.
#[derive(Clone)]
pub struct SupervisorHandle {
    pub(super) inner: Arc<Inner>,
}

impl SupervisorHandle {
    /// Waits until every child that is to run is ready. Children that have finished or were stopped are not waited for.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped.
    ///
    /// # Errors
    ///
    /// [`NotRunning`] if the supervisor gave up or ended before, or the waiting context was cancelled.
    pub async fn wait_ready(&self) -> Result<(), NotRunning> {
        let ready = |state: &State| {
            let mut looks = state.core.keys().filter_map(|key| state.look(key));
            looks.all(|look| look.ready || !look.is_wanted)
        };
        self.inner
            .wait_until(|state| ended(state).map(Err).or_else(|| ready(state).then_some(Ok(()))))
            .await?
    }

    /// Waits until the supervisor has ended: its scope has, or it gave up. All its children are gone then.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped.
    ///
    /// # Errors
    ///
    /// [`NotRunning::GaveUp`] if that was its end, [`NotRunning::Cancelled`] if the waiting context was cancelled.
    pub async fn wait_ended(&self) -> Result<(), NotRunning> {
        match self.inner.wait_until(|state| state.over().cloned()).await? {
            Some(gave_up) => Err(NotRunning::GaveUp(gave_up)),
            None => Ok(()),
        }
    }

    /// Takes one more child and starts it at once. In the order of stops and restarts it is the last.
    ///
    /// # Errors
    ///
    /// [`AddChildError`] gives the child back: its name is taken, there are as many as allowed, or the supervisor ends.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Cancelled, Child, Restart, Strategy, Supervisor, scope};
    ///
    /// scope("rooms", async |s| {
    ///     let rooms = Supervisor::new("rooms", Strategy::OneForOne).start(s);
    ///     let number = 17; // known at run time
    ///     let room = Child::new(format!("room {number}"), async |_life| Err(bowline::cancelled().await.into()));
    ///     let room = rooms.add(room.restart(Restart::Transient)).unwrap();
    ///     room.wait_running().await?;
    ///     rooms.remove("room 17").await?;
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    pub fn add(&self, child: Child) -> Result<ChildRef, AddChildError> {
        let name = child.name.clone();
        let key = self.inner.add(child)?;
        Ok(ChildRef { inner: Arc::clone(&self.inner), key, name })
    }

    /// Returns the child of this name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<ChildRef> {
        let (key, name) = self.inner.with(|state| {
            let key = state.key_of(name)?;
            Some((key, state.name_of(key)?))
        })?;
        Some(ChildRef { inner: Arc::clone(&self.inner), key, name })
    }

    fn known(&self, name: &str) -> Result<ChildRef, NoSuchChild> {
        self.child(name).ok_or_else(|| NoSuchChild { name: name.to_owned() })
    }

    /// Stops a child and waits until it is gone, destructors and all. It stays stopped, also if it was just about to be started
    /// again; [`restart`](Self::restart) starts it.
    ///
    /// # Cancel safety
    ///
    /// From its first poll on the child stops, whether this is awaited or not.
    ///
    /// # Errors
    ///
    /// [`StopChildError::Stuck`] if it was aborted and is still not gone, so this returns in any case.
    pub async fn stop(&self, name: &str) -> Result<(), StopChildError> {
        self.known(name).map_err(StopChildError::NoSuchChild)?.stop().await
    }

    /// Stops a child as [`stop`](Self::stop) does, and gives its seat and its name up.
    ///
    /// # Cancel safety
    ///
    /// From its first poll on the child stops and goes, whether this is awaited or not.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub async fn remove(&self, name: &str) -> Result<(), StopChildError> {
        self.known(name).map_err(StopChildError::NoSuchChild)?.remove().await
    }

    /// Asks for a fresh incarnation of a child: one that runs is stopped first, one in its back-off or stopped is
    /// started at once. It does not count as a failure, and nobody else is started again with it.
    ///
    /// # Errors
    ///
    /// [`NoSuchChild`] if there is none of this name.
    pub fn restart(&self, name: &str) -> Result<(), NoSuchChild> {
        self.known(name).map(|child| child.restart())
    }

    /// Returns the supervisor's books.
    #[must_use]
    pub fn stats(&self) -> SupervisorStats {
        self.inner.stats()
    }

    /// Returns why it gave up, if it did.
    #[must_use]
    pub fn gave_up(&self) -> Option<GaveUp> {
        self.inner.with(|state| state.gave_up().cloned())
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// Why nobody runs any more.
fn ended(state: &State) -> Option<NotRunning> {
    if let Some(gave_up) = state.gave_up() {
        return Some(NotRunning::GaveUp(gave_up.clone()));
    }
    (state.over().is_some() || state.core.is_closing()).then_some(NotRunning::Ended)
}

/// A child, whichever incarnation of it lives now. It can be cloned and kept anywhere, and keeps nothing alive.
#[derive(Clone)]
pub struct ChildRef {
    inner: Arc<Inner>,
    key: u64,
    name: Cow<'static, str>,
}

impl ChildRef {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what it is at.
    #[must_use]
    pub fn state(&self) -> ChildState {
        self.inner.with(|state| state.look(self.key)).map_or(ChildState::Gone, |look| look.state)
    }

    /// Returns the number of its living incarnation, or of the last one, counted from 1; 0 if there was none, and if it is
    /// [`Gone`](ChildState::Gone).
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.inner.with(|state| state.look(self.key)).map_or(0, |look| look.incarnation)
    }

    /// Returns its books; none if it is gone.
    #[must_use]
    pub fn stats(&self) -> Option<ChildStats> {
        self.inner.with(|state| state.child_stats(self.key))
    }

    /// Waits until it runs and is ready, and returns the number of that incarnation.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped.
    ///
    /// # Errors
    ///
    /// [`NotRunning`] if it was stopped, has finished or is gone, if the supervisor gave up or ended, or the waiting context
    /// was cancelled.
    pub async fn wait_running(&self) -> Result<u64, NotRunning> {
        self.wait_beyond(0).await
    }

    /// Waits until an incarnation later than `incarnation` runs and is ready, and returns its number: for whoever has noticed that
    /// the one it talked to is gone, perhaps before the supervisor has.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped.
    ///
    /// # Errors
    ///
    /// As [`wait_running`](Self::wait_running).
    pub async fn wait_beyond(&self, incarnation: u64) -> Result<u64, NotRunning> {
        let stopped = || NotRunning::Stopped { child: self.name.clone().into_owned() };
        let found = self.inner.wait_until(|state| {
            if let Some(ended) = ended(state) {
                return Some(Err(ended));
            }
            match state.look(self.key) {
                Some(look) if look.ready && look.incarnation > incarnation => Some(Ok(look.incarnation)),
                Some(look) if look.is_wanted => None,
                Some(_) | None => Some(Err(stopped())),
            }
        });
        found.await?
    }

    /// Stops it and waits until it is gone; see [`SupervisorHandle::stop`].
    ///
    /// # Cancel safety
    ///
    /// From its first poll on the child stops, whether this is awaited or not.
    ///
    /// # Errors
    ///
    /// [`StopChildError::Stuck`] if it was aborted and is still not gone.
    pub async fn stop(&self) -> Result<(), StopChildError> {
        let stopped = self.inner.change(|state, now| {
            state.core.stop(self.key, now);
            state.look(self.key).map_or(0, |look| look.incarnation)
        });
        self.wait_gone(stopped).await
    }

    /// Stops it and gives its seat up; see [`SupervisorHandle::remove`].
    ///
    /// # Cancel safety
    ///
    /// From its first poll on the child stops and goes, whether this is awaited or not.
    ///
    /// # Errors
    ///
    /// [`StopChildError::Stuck`] if it was aborted and is still not gone; it loses its seat when it goes.
    pub async fn remove(&self) -> Result<(), StopChildError> {
        let removed = self.inner.change(|state, now| {
            state.core.remove(self.key, now);
            state.look(self.key).map_or(0, |look| look.incarnation)
        });
        self.wait_gone(removed).await
    }

    /// Waits until this incarnation is gone; somebody may ask for the next one at any time.
    async fn wait_gone(&self, incarnation: u64) -> Result<(), StopChildError> {
        let gone = self.inner.wait_until(|state| {
            let Some(look) = state.look(self.key) else { return Some(Ok(())) };
            match look.state {
                _ if look.incarnation > incarnation => Some(Ok(())),
                ChildState::Stuck => {
                    Some(Err(StopChildError::Stuck { child: self.name.clone().into_owned() }))
                }
                ChildState::Starting | ChildState::Running | ChildState::Stopping => None,
                _ => Some(Ok(())),
            }
        });
        gone.await?
    }

    /// Asks for a fresh incarnation; see [`SupervisorHandle::restart`]. Nothing happens if it is gone.
    pub fn restart(&self) {
        self.inner.change(|state, now| state.core.restart(self.key, now));
    }
}

impl fmt::Debug for ChildRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildRef")
            .field("name", &self.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
