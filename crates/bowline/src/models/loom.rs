//! The words of a node and a record, every order of steps.
//!
//! A task is a thread that polls a [`Tracked`] future to its end; loom calls it a deadlock if a wake-up is lost.

use std::convert::Infallible;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Poll, Waker};

use loom::future::block_on;
use loom::thread;

use crate::cause::{Cancelled, Cause};
use crate::lock::Semaphore;
use crate::node::{Alive, Node, NodeKind};
use crate::panic::Panic;
use crate::record::{ABORT, CANCEL, Kind, Record};
use crate::resource::ResourceState;
use crate::site::{self, Site};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, LockExt, Mutex};
use crate::track::{Ending, Tracked};

/// Every order in which the running thread is taken away from at most `preemptions` times besides where it waits.
fn model_within(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Almost every order: five find nearly all that is to be found, and more take hours.
fn model(model: impl Fn() + Sync + Send + 'static) {
    model_within(5, model);
}

fn open(name: &'static str, parent: Option<Arc<Record>>) -> Alive {
    Node::open(site::intern(name, std::panic::Location::caller()), NodeKind::Scope, parent, None, false)
}

fn list(node: &Arc<Node>, name: &'static str, kind: Kind) -> Result<Arc<Record>, Cause> {
    node.list(Site { name, place: std::panic::Location::caller() }, kind)
}

/// Whether a task came to a value or was cancelled.
struct Said<T>(PhantomData<fn(T)>);

impl<T: Send + 'static> Ending for Said<T> {
    type Output = T;
    type Ended = Result<T, Cause>;

    fn value(_: &Arc<Record>, value: T) -> Self::Ended {
        Ok(value)
    }

    fn panicked(_: &Arc<Record>, panic: Panic) -> Self::Ended {
        panic!("{panic}")
    }

    fn cancelled(_: &Arc<Record>, cancelled: Cancelled) -> Self::Ended {
        Err(cancelled.cause().clone())
    }
}

/// Runs a task that waits for something that never comes.
fn run_parked(record: Arc<Record>) -> Result<Infallible, Cause> {
    block_on(Tracked::<_, Said<Infallible>>::new(record, std::future::pending()))
}

/// Waits until the node is gone, as its closer does.
fn close(alive: Alive) {
    let done = alive.node().done();
    drop(alive);
    block_on(poll_fn(|cx| done.poll(cx)));
    assert!(done.is_gone());
}

#[test]
fn a_task_that_parks_while_it_is_cancelled_ends() {
    model(|| {
        let alive = open("scope", None);
        let record = list(alive.node(), "task", Kind::Task).unwrap();
        let task = thread::spawn(move || run_parked(record));
        alive.node().cancel(CANCEL, &Cause::Requested("enough"));
        assert_eq!(task.join().unwrap().unwrap_err(), Cause::Requested("enough"));
        close(alive);
    });
}

#[test]
fn a_task_that_parks_while_it_is_aborted_by_its_handle_ends() {
    model(|| {
        let alive = open("scope", None);
        let record = list(alive.node(), "task", Kind::Task).unwrap();
        let handle = Arc::clone(&record);
        let task = thread::spawn(move || run_parked(record));
        handle.cancel(CANCEL | ABORT, &Cause::Aborted);
        assert_eq!(task.join().unwrap().unwrap_err(), Cause::Aborted);
        drop(handle);
        close(alive);
    });
}

#[test]
fn a_node_opened_while_its_ancestors_are_cancelled_is_cancelled() {
    model(|| {
        let alive = open("outer", None);
        let record = list(alive.node(), "task", Kind::Task).unwrap();
        let task = thread::spawn(move || {
            let inner = open("inner", Some(Arc::clone(&record)));
            let seen = Arc::clone(inner.node());
            drop(inner);
            record.node.release(record.kind);
            seen
        });
        alive.node().cancel(CANCEL, &Cause::Requested("enough"));
        let inner = task.join().unwrap();
        assert_eq!(inner.flags() & CANCEL, CANCEL, "neither the walk nor the new node saw the other");
        assert_eq!(inner.cause(), Some(Cause::Requested("enough")));
        close(alive);
    });
}

#[test]
fn a_node_is_gone_after_its_tasks_and_sees_what_they_did() {
    model(|| {
        let alive = open("scope", None);
        let did = Arc::new(AtomicBool::new(false));
        let record = list(alive.node(), "task", Kind::Task).unwrap();
        let task = {
            let did = Arc::clone(&did);
            thread::spawn(move || {
                did.store(true, Ordering::Relaxed);
                record.mark_ended();
                record.node.release(record.kind);
            })
        };
        close(alive);
        assert!(did.load(Ordering::Relaxed), "gone before the task was");
        task.join().unwrap();
    });
}

#[test]
fn a_spawn_from_elsewhere_is_refused_or_waited_for() {
    model(|| {
        let alive = open("scope", None);
        let handle = Arc::clone(alive.node());
        let ended = Arc::new(AtomicBool::new(false));
        let elsewhere = {
            let ended = Arc::clone(&ended);
            thread::spawn(move || match list(&handle, "late", Kind::Task) {
                Ok(record) => {
                    ended.store(true, Ordering::Relaxed);
                    record.node.release(record.kind);
                    true
                }
                Err(_) => false,
            })
        };
        let done = alive.node().done();
        drop(alive);
        block_on(poll_fn(|cx| done.poll(cx)));
        let ended_by_then = ended.load(Ordering::Relaxed);
        let listed = elsewhere.join().unwrap();
        assert!(!listed || ended_by_then, "a task was listed in a scope that was gone");
    });
}

#[test]
fn a_spawn_from_elsewhere_is_refused_or_waited_for_also_where_only_daemons_are_left() {
    model_within(2, || {
        let alive = open("scope", None);
        let daemon = list(alive.node(), "daemon", Kind::Daemon).unwrap();
        let daemon = thread::spawn(move || run_parked(daemon).unwrap_err());
        let handle = Arc::clone(alive.node());
        let ended = Arc::new(AtomicBool::new(false));
        let elsewhere = {
            let ended = Arc::clone(&ended);
            thread::spawn(move || match list(&handle, "late", Kind::Task) {
                Ok(record) => {
                    ended.store(true, Ordering::Relaxed);
                    record.node.release(record.kind);
                    true
                }
                Err(_) => false,
            })
        };
        close(alive);
        let ended_by_then = ended.load(Ordering::Relaxed);
        let listed = elsewhere.join().unwrap();
        assert!(!listed || ended_by_then, "a task was listed in a scope that only waited for its daemons");
        assert_eq!(daemon.join().unwrap(), Cause::ScopeEnding);
    });
}

#[test]
fn the_last_two_to_go_end_a_node_once() {
    model(|| {
        let outer = open("outer", None);
        let body = outer.node().list_body();
        let inner = open("inner", Some(body));
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let record = list(inner.node(), "task", Kind::Task).unwrap();
                thread::spawn(move || record.node.release(record.kind))
            })
            .collect();
        drop(inner);
        // Let go twice, the count of the outer node would pass zero and never come back to it.
        close(outer);
        for task in tasks {
            task.join().unwrap();
        }
    });
}

#[test]
fn a_daemon_is_cancelled_when_the_last_task_is_gone_and_then_the_node_is_too() {
    model_within(2, || {
        let alive = open("scope", None);
        let daemon = list(alive.node(), "daemon", Kind::Daemon).unwrap();
        let task = list(alive.node(), "task", Kind::Task).unwrap();
        let daemon = thread::spawn(move || run_parked(daemon));
        let task = thread::spawn(move || task.node.release(task.kind));
        close(alive);
        assert_eq!(daemon.join().unwrap().unwrap_err(), Cause::ScopeEnding);
        task.join().unwrap();
    });
}

#[test]
fn a_daemon_that_opens_a_scope_while_its_own_becomes_idle_is_told() {
    model_within(2, || {
        let alive = open("scope", None);
        let daemon = list(alive.node(), "daemon", Kind::Daemon).unwrap();
        let daemon = thread::spawn(move || {
            let inner = open("inner", Some(Arc::clone(&daemon)));
            assert!(inner.node().parent().is_some(), "a daemon that lives may open scopes");
            let task = list(inner.node(), "below", Kind::Task);
            if let Ok(task) = task {
                assert_eq!(run_parked(task).unwrap_err(), Cause::ScopeEnding);
            }
            drop(inner);
            daemon.mark_ended();
            daemon.node.release(daemon.kind);
        });
        close(alive);
        daemon.join().unwrap();
    });
}

#[test]
fn the_first_cause_wins_and_is_there_when_the_flag_is() {
    model(|| {
        let alive = open("scope", None);
        let node = Arc::clone(alive.node());
        let other = thread::spawn(move || node.cancel(CANCEL, &Cause::Requested("theirs")));
        alive.node().cancel(CANCEL, &Cause::Requested("ours"));
        let seen = alive.node().cause();
        assert!(seen.is_some(), "cancelled, and nobody says why");
        other.join().unwrap();
        assert_eq!(alive.node().cause(), seen);
        close(alive);
    });
}

/// A poll that is ready at once.
#[test]
fn a_task_that_ends_while_it_is_cancelled_ends_one_way_or_the_other() {
    model(|| {
        let alive = open("scope", None);
        let record = list(alive.node(), "task", Kind::Task).unwrap();
        let mut polled = false;
        let twice = poll_fn(move |cx| {
            if std::mem::replace(&mut polled, true) {
                return Poll::Ready(7);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let task = thread::spawn(move || block_on(Tracked::<_, Said<i32>>::new(record, twice)));
        alive.node().cancel(CANCEL, &Cause::Requested("enough"));
        match task.join().unwrap() {
            Ok(value) => assert_eq!(value, 7),
            Err(cause) => assert_eq!(cause, Cause::Requested("enough")),
        }
        close(alive);
    });
}

/// A task waits for somebody foreign, who has a clone of its waker, and then for nothing any more. Whoever finds it parked and
/// nothing foreign around, twice and without a change, finds it in the second state, also while that one wakes it and goes.
#[test]
fn a_task_that_is_about_to_be_woken_is_not_taken_for_one_that_nobody_wakes() {
    model_within(3, || {
        let alive = open("scope", None);
        let record = list(alive.node(), "task", Kind::Task).unwrap();
        let (fired, past) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let slot: Arc<Mutex<Option<Waker>>> = Arc::default();
        let task = {
            let (record, slot) = (Arc::clone(&record), Arc::clone(&slot));
            let (fired, past) = (Arc::clone(&fired), Arc::clone(&past));
            thread::spawn(move || {
                let waits = poll_fn(move |cx| {
                    if fired.load(Ordering::Acquire) {
                        past.store(true, Ordering::Relaxed);
                    } else {
                        *slot.lock_unpoisoned() = Some(cx.waker().clone());
                        if fired.load(Ordering::Acquire) {
                            cx.waker().wake_by_ref();
                        }
                    }
                    Poll::<Infallible>::Pending
                });
                block_on(Tracked::<_, Said<Infallible>>::new(record, waits))
            })
        };
        let foreign = {
            let (slot, fired) = (Arc::clone(&slot), Arc::clone(&fired));
            thread::spawn(move || {
                fired.store(true, Ordering::Release);
                let waker = slot.lock_unpoisoned().take();
                waker.into_iter().for_each(Waker::wake);
            })
        };
        let first = record.signals();
        let second = record.signals();
        if first == second && first.is_quiescent() && !first.foreign {
            assert!(past.load(Ordering::Relaxed), "it was still to be woken: {first:?}");
        }
        foreign.join().unwrap();
        record.cancel(ABORT, &Cause::Aborted);
        task.join().unwrap().unwrap_err();
        close(alive);
    });
}

/// A task wakes itself, while somebody foreign wakes it too: it is not at rest before the poll that both have asked for is over.
#[test]
fn a_task_that_wakes_itself_while_it_is_woken_is_not_taken_for_one_at_rest() {
    model_within(3, || {
        let alive = open("scope", None);
        let record = list(alive.node(), "task", Kind::Task).unwrap();
        let past = Arc::new(AtomicBool::new(false));
        let slot: Arc<Mutex<Option<Waker>>> = Arc::default();
        let task = {
            let (record, slot, past) = (Arc::clone(&record), Arc::clone(&slot), Arc::clone(&past));
            thread::spawn(move || {
                let mut polls = 0;
                let turns = poll_fn(move |cx| {
                    polls += 1;
                    match polls {
                        1 => {
                            *slot.lock_unpoisoned() = Some(cx.waker().clone());
                            cx.waker().wake_by_ref();
                        }
                        _ => past.store(true, Ordering::Relaxed),
                    }
                    Poll::<Infallible>::Pending
                });
                block_on(Tracked::<_, Said<Infallible>>::new(record, turns))
            })
        };
        let foreign = thread::spawn(move || {
            let waker = slot.lock_unpoisoned().take();
            waker.into_iter().for_each(Waker::wake);
        });
        let first = record.signals();
        let second = record.signals();
        if first == second && first.is_quiescent() {
            assert!(past.load(Ordering::Relaxed), "it was to be polled once more: {first:?}");
        }
        foreign.join().unwrap();
        record.cancel(ABORT, &Cause::Aborted);
        task.join().unwrap().unwrap_err();
        close(alive);
    });
}

/// A task waits for a lock. It is counted among those who wait there until it is past it, or the lock says that it was granted.
#[test]
fn a_task_that_was_granted_a_lock_is_not_taken_for_one_that_waits() {
    model_within(3, || {
        let alive = open("scope", None);
        let record = list(alive.node(), "task", Kind::Task).unwrap();
        let past = Arc::new(AtomicBool::new(false));
        let lock = Arc::new(Semaphore::empty("lock"));
        let task = {
            let (record, lock, past) = (Arc::clone(&record), Arc::clone(&lock), Arc::clone(&past));
            thread::spawn(move || {
                let waits = async move {
                    let _permit = lock.acquire(1).await;
                    past.store(true, Ordering::Relaxed);
                    std::future::pending().await
                };
                block_on(Tracked::<_, Said<Infallible>>::new(record, waits))
            })
        };
        let giver = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || lock.add_permits(1))
        };
        let first = record.signals();
        let books = lock.stats();
        let second = record.signals();
        let waits = books.waiters.iter().filter(|waiter| !waiter.granted).count();
        if first == second && first.is_quiescent() {
            assert!(!first.foreign, "a wait of ours is not foreign");
            match first.leaves {
                0 => assert!(past.load(Ordering::Relaxed)),
                _ if waits == 1 => assert_eq!(books.state, ResourceState::Permits { free: 0, total: 0 }),
                _ => {} // granted, or not known
            }
        }
        giver.join().unwrap();
        record.cancel(ABORT, &Cause::Aborted);
        task.join().unwrap().unwrap_err();
        close(alive);
    });
}
