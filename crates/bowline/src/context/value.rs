//! Values that go down the tree: a request's id, a tenant, a trace.
//!
//! A value lies with the future of its `with_value` and goes with it; the node below it knows it weakly. So looking at the
//! tree, which may hold a node's last reference, never drops a user's value.

use std::any::{Any, TypeId};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::node::{Alive, Node, NodeKind};
use crate::record::{self, Record};
use crate::root;
use crate::site::{self, Site};
use crate::track;

/// What a node knows of the value put there.
pub(crate) struct Value {
    of: TypeId,
    value: Weak<dyn Any + Send + Sync>,
}

/// Runs `future` with `value` in its context: in itself, in the scopes and groups it opens, and in their tasks.
///
/// [`value()`] finds it by its type, so give it one of its own (`struct RequestId(u64)`). The innermost wins; nothing changes a
/// value, and tasks that belong to a scope further out do not see it. It is dropped when `future` has ended. Values are for
/// what everything on a path carries and nothing decides by, such as ids for logs; what a function needs is a parameter.
///
/// # Cancel safety
///
/// Dropping it drops `future`, then `value` unless somebody still holds what [`value()`] returned.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Cancelled, scope, value, with_value};
///
/// struct RequestId(u64);
///
/// with_value(RequestId(7), async {
///     scope("page", async |s| {
///         let id = s.spawn("load", async { Ok(value::<RequestId>().map(|id| id.0)) });
///         assert_eq!(id.await?, Some(7));
///         Ok::<_, Cancelled>(())
///     })
///     .await
/// })
/// .await
/// # }).unwrap();
/// ```
#[track_caller]
pub fn with_value<V, F>(value: V, future: F) -> impl Future<Output = F::Output>
where
    V: Send + Sync + 'static,
    F: Future,
{
    let site = site::intern(std::any::type_name::<V>(), std::panic::Location::caller());
    With { future: Some(future), record: None, alive: None, value: Some((site, Arc::new(value))) }
}

/// Returns the innermost value of this type that was given to the current context or an ancestor; see [`with_value`].
///
/// It walks up through the enclosing scopes and takes no lock. Hold on to what it returns in a loop.
#[must_use]
pub fn value<T: Send + Sync + 'static>() -> Option<Arc<T>> {
    record::with_nearest(|current| current.and_then(find))
}

/// Lets `node`, and all that is below it, know of a value that somebody else keeps.
pub(crate) fn put<T: Send + Sync + 'static>(node: &Node, value: &Arc<T>) {
    let weak: Weak<T> = Arc::downgrade(value);
    let _ = node.value.set(Value { of: TypeId::of::<T>(), value: weak });
}

/// Returns whether there is a value of this type for which `is` holds in the current context or an ancestor, the innermost or
/// not. `is` runs no user code.
pub(crate) fn any<T: Send + Sync + 'static>(is: impl Fn(&T) -> bool) -> bool {
    record::with_nearest(|current| {
        let mut at = current;
        while let Some(record) = at {
            let known = record.node.value.get().filter(|known| known.of == TypeId::of::<T>());
            let value = known.and_then(|known| known.value.upgrade()?.downcast::<T>().ok());
            if value.is_some_and(|value| is(&value)) {
                return true;
            }
            at = record.node.parent();
        }
        false
    })
}

/// Looks at `record` and upwards. Runs no user code: only a value of the right type is touched, and it is returned.
pub(super) fn find<T: Send + Sync + 'static>(record: &Arc<Record>) -> Option<Arc<T>> {
    let mut at = Some(record);
    while let Some(record) = at {
        if let Some(known) = record.node.value.get() {
            if known.of == TypeId::of::<T>() {
                if let Some(value) = known.value.upgrade() {
                    return value.downcast().ok();
                }
            }
        }
        at = record.node.parent();
    }
    None
}

pin_project! {
    // Not a `Strand`: the rule of cancellation is left to the task around it, since there is no other value than the future's.
    struct With<V, F> {
        #[pin]
        future: Option<F>,
        record: Option<Arc<Record>>,
        // After the record: whoever waits for what is around sees everything done.
        alive: Option<Alive>,
        value: Option<(&'static Site, Arc<V>)>,
    }

    impl<V, F> PinnedDrop for With<V, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            record::enter(this.record, || this.future.set(None));
            if let Some(record) = this.record {
                record.mark_ended();
            }
        }
    }
}

/// A node that knows the value.
fn open<V: Send + Sync + 'static>(site: &'static Site, value: &Arc<V>) -> Alive {
    let parent = record::current().or_else(root::of_runtime);
    let alive = Node::open(site, NodeKind::Value, parent, None, false);
    root::list_if_orphan(alive.node());
    put(alive.node(), value);
    alive
}

impl<V: Send + Sync + 'static, F: Future> Future for With<V, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some((site, value)) = this.value.as_ref() else { panic!("polled after it had ended") };
        if this.record.is_none() {
            let alive = open(site, value);
            *this.record = Some(alive.node().list_body());
            *this.alive = Some(alive);
        }
        let Some(record) = this.record.as_ref() else { unreachable!("opened above") };
        let flags = record.flags();
        let _elsewhere = track::away_from_home(record);
        record.poll_begins();
        let future = &mut this.future;
        let polled = record::enter(this.record, || {
            let polled = future.as_mut().as_pin_mut().map_or(Poll::Pending, |running| running.poll(cx));
            if polled.is_ready() {
                future.set(None);
            }
            polled
        });
        let Some(record) = this.record.as_ref() else { unreachable!("`enter` puts the record back") };
        record.poll_ends();
        if polled.is_pending() {
            track::remember(record, cx);
            fence(Ordering::SeqCst); // pairs with the fence in `Record::wake`, as at a task's root
            if record.flags() != flags {
                record.wake(); // a cancel came meanwhile and may not have found the waker
            }
            return Poll::Pending;
        }
        record.mark_ended();
        *this.record = None;
        *this.alive = None;
        *this.value = None;
        polled
    }
}
