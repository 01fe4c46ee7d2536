//! Where a long-lived part of a program is started: in the scope that owns it from then on.

use std::future::Future;
use std::panic::Location;

use crate::cause::Cancelled;
use crate::handle::Handle;
use crate::record::Kind;
use crate::scope::{self, Scope, ScopeClosed, ScopeHandle};

/// What can own a pool, a pipeline, a supervisor: a [`Scope`], or a [`ScopeHandle`] from anywhere.
///
/// Everything that is started in an owner is one named child of its scope, and what it runs is below that child: views show
/// it there, the scope's cancellation reaches it, and the scope returns when it is gone.
pub trait Owner: sealed::Owns {}

impl<E: From<Cancelled> + Send + 'static> Owner for Scope<E> {}
impl<E: From<Cancelled> + Send + 'static> Owner for ScopeHandle<E> {}

/// What the scope of an owner does about a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// It stays open until the part has come to its end.
    Stays,
    /// It does not: when everybody else is gone the part is cancelled, as a daemon is.
    Serves,
}

pub(crate) mod sealed {
    use super::{Cancelled, Future, Handle, Location, ScopeClosed, Tie};

    pub trait Owns {
        /// Spawns `part` as a task with this name and place. It fails its owner only by a panic or by returning a
        /// [`Cancelled`] nobody asked for.
        fn own<T, F>(
            &self,
            name: &'static str,
            place: &'static Location<'static>,
            tie: Tie,
            part: F,
        ) -> Result<Handle<T>, ScopeClosed>
        where
            F: Future<Output = Result<T, Cancelled>> + Send + 'static,
            T: Send + 'static;
    }
}

impl<E: From<Cancelled> + Send + 'static> sealed::Owns for Scope<E> {
    fn own<T, F>(
        &self,
        name: &'static str,
        place: &'static Location<'static>,
        tie: Tie,
        part: F,
    ) -> Result<Handle<T>, ScopeClosed>
    where
        F: Future<Output = Result<T, Cancelled>> + Send + 'static,
        T: Send + 'static,
    {
        self.handle().own(name, place, tie, part)
    }
}

impl<E: From<Cancelled> + Send + 'static> sealed::Owns for ScopeHandle<E> {
    fn own<T, F>(
        &self,
        name: &'static str,
        place: &'static Location<'static>,
        tie: Tie,
        part: F,
    ) -> Result<Handle<T>, ScopeClosed>
    where
        F: Future<Output = Result<T, Cancelled>> + Send + 'static,
        T: Send + 'static,
    {
        let kind = match tie {
            Tie::Stays => Kind::Task,
            Tie::Serves => Kind::Daemon,
        };
        let record = scope::list(self.node(), name, place, kind)?;
        Ok(scope::spawn_listed::<_, _, E>(record, async move { part.await.map_err(E::from) }))
    }
}
