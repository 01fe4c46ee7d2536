//! Opening a scope or group, running its body, and closing it: the part both share.
//!
//! # End
//!
//! When the body has ended, the opener gives up its own count of the node and waits until the node is gone.
//! Dropped before that, it cancels and aborts what is below and lets go: see adoption in the module `node`.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use crate::cause::{Cancelled, Cause};
use crate::done::{Done, Failure};
use crate::node::{Alive, Node, NodeKind};
use crate::record::{self, ABORT, CANCEL, Kind};
use crate::root;
use crate::site;
use crate::timeout::Timer;
use crate::track::{End, Leaf, Shield, Strand};
use crate::wait::{Op, Wait};

/// An open scope or group. Dropped before it was run to its end, it aborts what is below.
pub(crate) struct Opened {
    armed: Armed,
    timer: Timer,
    _shield: Shield,
}

/// A scope or group that has run to its end.
pub(crate) struct Ran<T> {
    pub(crate) body: End<T>,
    pub(crate) failure: Option<Failure>,
    pub(crate) cause: Option<Cancelled>,
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
        let alive = Node::open(site::intern(name, place), kind, parent, None, fail_fast);
        if alive.node().parent().is_none() {
            root::list_orphan(alive.node());
            crate::detect::start();
        }
        let timer = Timer::for_node(alive.node(), inherited);
        let armed = Armed { node: Arc::clone(alive.node()), alive: Some(alive), over: false };
        Self { armed, timer, _shield: Shield::raise() }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.armed.node
    }

    /// Runs the body, which is opened here, then waits until everything below is gone.
    ///
    /// The rule of cancellation is held off until `self` is dropped: results are collected first.
    pub(crate) async fn run<F: Future>(&mut self, mut body: Pin<&mut Strand<F>>) -> Ran<F::Output> {
        let Self { armed, timer, .. } = self;
        body.as_mut().open(&armed.node);
        let body = poll_fn(|cx| {
            if let Poll::Ready(end) = body.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            if timer.has_fired(cx) {
                armed.node.cancel(CANCEL, &Cause::DeadlineExceeded);
                return body.as_mut().poll(cx);
            }
            Poll::Pending
        })
        .await;
        if let End::Panicked(_) = body {
            armed.node.cancel(CANCEL, &Cause::BodyFailed);
        }
        armed.alive = None; // ours was one of those the node outlives
        let done = armed.node.done();
        close(&armed.node, &done, timer).await;
        armed.over = true;
        Ran { body, failure: done.take_failure(), cause: done.cause() }
    }
}

/// Waits until the node is gone. Cancellation does not end this wait: it makes what is waited for end.
async fn close(node: &Arc<Node>, done: &Done, timer: &mut Timer) {
    let mut leaf = Leaf::default();
    poll_fn(|cx| {
        if done.poll(cx).is_ready() {
            leaf.clear();
            return Poll::Ready(());
        }
        if timer.has_fired(cx) {
            node.cancel(CANCEL, &Cause::DeadlineExceeded);
        }
        leaf.stand_by(cx, Wait { op: Op::Close, on: node.id });
        Poll::Pending
    })
    .await;
}

/// The drop of a scope's future before its end: cause recorded, tasks cancelled and aborted, adoption counted.
struct Armed {
    node: Arc<Node>,
    /// Given up when the body has ended. Dropped after this drop has run: the node is not gone before.
    alive: Option<Alive>,
    over: bool,
}

impl Drop for Armed {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.node.close();
        // Counted before the abort: on another worker an aborted task is gone at once.
        let mut living = 0;
        self.node.each_child(|child| living += u64::from(child.kind != Kind::Strand));
        self.node.cancel(CANCEL | ABORT, &Cause::ScopeDropped);
        if let Some(root) = &self.node.root {
            root.add_adopted(living);
        }
    }
}
