//! Ends that no task comes to by itself: a runtime that shuts down under it, a thread it is refused, a destructor that panics,
//! a context that is used from elsewhere. Whoever waits for the task must not wait for ever.

#![allow(
    clippy::disallowed_methods,
    reason = "threads and runtimes that are not ours are what this is about"
)]

mod support;

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use bowline::{Cancelled, Cause, Context, Handle, scope, with_value};
use support::{parked, yield_now};
use tokio::sync::oneshot;

const SECOND: Duration = Duration::from_secs(1);

fn other_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Says where it was dropped.
struct Dropped(mpsc::Sender<bool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(bowline::is_cancelled());
    }
}

#[test]
fn blocking_work_that_finds_no_runtime_does_not_keep_its_scope_open() {
    let mut ended = pin!(scope("no runtime", async |s| {
        s.spawn_blocking("work", || Ok(()));
        Ok::<_, Cancelled>(())
    }));
    let mut cx = TaskContext::from_waker(Waker::noop());
    let polled = catch_unwind(AssertUnwindSafe(|| ended.as_mut().poll(&mut cx)));
    assert!(polled.is_err(), "the panic of `spawn_blocking` goes on when everybody is gone");
}

#[bowline::test(start_paused = true)]
async fn blocking_work_that_a_closed_runtime_drops_ends_in_its_own_context() {
    let closed = other_runtime();
    let handle = closed.handle().clone();
    closed.shutdown_background();
    let (give, take) = mpsc::channel();
    let ended = scope("owner", async |s| {
        let dropped = Dropped(give);
        let _inside = handle.enter();
        let work = s.spawn_blocking("work", move || {
            let _dropped = &dropped;
            Ok(())
        });
        assert!(work.await.is_err());
        Ok::<_, Cancelled>(())
    });
    tokio::time::timeout(SECOND, ended).await.expect("the scope has nobody to wait for").unwrap();
    assert!(!take.recv().unwrap());
}

#[bowline::test(start_paused = true)]
async fn a_task_whose_destructor_panics_in_a_runtime_s_end_is_gone() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }

    let other = other_runtime();
    let ended = scope("owner", async |s| {
        let panics = Panics;
        {
            let _inside = other.enter();
            let _task: Handle<()> = s.spawn("task", async move {
                let _panics = panics;
                pending().await
            });
        }
        other.shutdown_background();
        Ok::<_, Cancelled>(())
    });
    tokio::time::timeout(SECOND, ended).await.expect("the scope has nobody to wait for").unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_cancelled_task_ends_when_the_shield_is_lowered_that_was_raised_elsewhere() {
    let ended = scope("owner", async |s| {
        let (give, take) = oneshot::channel();
        let task: Handle<()> = s.spawn("task", async move {
            give.send(Context::current()).map_err(|_| ()).unwrap();
            pending().await
        });
        let context = take.await.unwrap();
        let elsewhere =
            parked(context.run(scope("elsewhere", async |_| pending::<Result<(), Cancelled>>().await))).await;
        task.cancel("enough");
        yield_now(3).await;
        assert!(!task.is_finished(), "the scope elsewhere is a part of it");
        drop(elsewhere);
        assert!(tokio::time::timeout(SECOND, task).await.expect("nothing shields it any more").is_err());
        Ok::<_, Cancelled>(())
    });
    ended.await.unwrap();
}

#[bowline::test]
async fn a_context_taken_where_the_task_has_ended_meanwhile_says_so() {
    let ended = scope("owner", async |s| {
        let (give, take) = oneshot::channel();
        let (end, ending) = oneshot::channel();
        let task = s.spawn("task", async move {
            give.send(Context::current()).map_err(|_| ()).unwrap();
            ending.await.unwrap();
            Ok(())
        });
        let context = take.await.unwrap();
        let (tell, told) = mpsc::channel();
        let elsewhere = std::thread::spawn(move || {
            let mut end = Some(end);
            let mut run = pin!(context.run(poll_fn(|_| {
                end.take().unwrap().send(()).unwrap();
                told.recv().unwrap();
                Poll::Ready(Context::current())
            })));
            let polled = run.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
            let Poll::Ready(Ok(taken)) = polled else { panic!("it was ready") };
            taken
        });
        task.await.unwrap();
        tell.send(()).unwrap();
        let context = elsewhere.join().unwrap();
        assert!(context.is_cancelled());
        assert_eq!(context.check().unwrap_err().cause(), &Cause::ScopeClosed);
        Ok::<_, Cancelled>(())
    });
    ended.await.unwrap();
}

/// A waker that drops what it owns.
struct Owner(#[allow(dead_code)] Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_stale_waker_is_dropped_outside_of_the_lock_of_whoever_closes() {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || {
        let (inner, outer) = mpsc::channel();
        let mut ended = pin!(scope("owner", async |_| {
            // Polled once here: it keeps the scope open until it is dropped.
            let mut inside: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(with_value(7_u8, pending()));
            let polled = inside.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            inner.send(inside).unwrap();
            Ok::<_, Cancelled>(())
        }));
        let owner = Arc::new(Owner(Mutex::new(None)));
        let waker = Waker::from(Arc::clone(&owner));
        assert!(ended.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        *owner.0.lock().unwrap() = Some(outer.recv().unwrap());
        drop((owner, waker)); // the scope has the last one
        let _ = ended.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
        give.send(ended.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_ready()).unwrap();
    });
    assert_eq!(take.recv_timeout(60 * SECOND), Ok(true));
}
