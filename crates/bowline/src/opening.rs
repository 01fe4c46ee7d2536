//! Opening a scope or group, running its body, and closing it: the part both share.
//!
//! # End
//!
//! When the body has ended, the opener gives up its own reference to the node and waits until the node is gone.
//! Dropped before that, it cancels and aborts what is below and lets go: see adoption in the module `node`.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use crate::cause::Cause;
use crate::node::{Done, Failure, Node, NodeKind};
use crate::record::{self, ABORT, CANCEL, Kind};
use crate::root;
use crate::site;
use crate::timeout::Timer;
use crate::track::{End, Leaf, Shield, Strand};
use crate::wait::{Op, Wait};

/// An open scope or group. Dropped before it was run to its end, it aborts what is below.
pub(crate) struct Opened {
    node: Arc<Node>,
    timer: Timer,
    armed: Armed,
    _shield: Shield,
}

/// A scope or group that has run to its end.
pub(crate) struct Ran<T> {
    pub(crate) body: End<T>,
    pub(crate) failure: Option<Failure>,
    pub(crate) cause: Option<Cause>,
    /// Holds off the rule of cancellation until the results are collected too.
    _shield: Shield,
}

impl Opened {
    pub(crate) fn new(
        name: &'static str,
        place: &'static Location<'static>,
        kind: NodeKind,
        fail_fast: bool,
    ) -> Self {
        crate::clock::start();
        crate::panic::install_hook();
        let parent = record::current().or_else(root::of_runtime);
        let inherited = parent.as_ref().and_then(|parent| parent.node.deadline());
        let node = Node::open(site::intern(name, place), kind, parent, None, fail_fast);
        if node.parent().is_none() {
            root::list_orphan(&node);
        }
        let timer = Timer::for_node(&node, inherited);
        let armed = Armed { node: Arc::downgrade(&node), live: true };
        Self { node, timer, armed, _shield: Shield::raise() }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Runs the body, then waits until everything below is gone.
    pub(crate) async fn run<F: Future>(self, body: F) -> Ran<F::Output> {
        let Self { node, mut timer, mut armed, _shield } = self;
        let body = {
            let mut strand = pin!(Strand::new(&node, body));
            poll_fn(|cx| {
                if let Poll::Ready(end) = strand.as_mut().poll(cx) {
                    return Poll::Ready(end);
                }
                if timer.has_fired(cx) {
                    node.cancel(CANCEL, &Cause::DeadlineExceeded);
                    return strand.as_mut().poll(cx);
                }
                Poll::Pending
            })
            .await
        };
        if let End::Panicked(_) = body {
            node.cancel(CANCEL, &Cause::BodyFailed);
        }
        let done = node.done();
        drop(node); // ours was one of the references that say "something lives below"
        close(&done, &armed.node, &mut timer).await;
        armed.live = false;
        Ran { body, failure: done.take_failure(), cause: done.cause(), _shield }
    }
}

/// Waits until the node is gone. Cancellation does not end this wait: it makes what is waited for end.
async fn close(done: &Done, node: &Weak<Node>, timer: &mut Timer) {
    let mut leaf = Leaf::default();
    poll_fn(|cx| {
        if done.poll(cx).is_ready() {
            leaf.clear();
            return Poll::Ready(());
        }
        if timer.has_fired(cx) {
            if let Some(node) = node.upgrade() {
                node.cancel(CANCEL, &Cause::DeadlineExceeded);
            }
        }
        leaf.stand_by(cx, Wait { op: Op::Close, on: 0 });
        Poll::Pending
    })
    .await;
}

/// The drop of a scope's future before its end: cause recorded, tasks cancelled and aborted, adoption counted.
struct Armed {
    node: Weak<Node>,
    live: bool,
}

impl Drop for Armed {
    fn drop(&mut self) {
        if !self.live {
            return;
        }
        let Some(node) = self.node.upgrade() else { return };
        node.close();
        node.cancel(CANCEL | ABORT, &Cause::ScopeDropped);
        let mut living = 0;
        node.each_child(|child| living += u64::from(child.kind != Kind::Strand));
        if let Some(root) = &node.root {
            root.add_adopted(living);
        }
    }
}
