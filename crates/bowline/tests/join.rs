//! Joining: all values in order, the first error, and what is dropped when.

mod support;

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Bound, Overflow, join, join_all, scope, try_join, try_join_all};
use proptest::prelude::*;
use support::{cancel_context_everywhere, cancel_everywhere, queue, yield_now};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

type Boxed<T> = std::pin::Pin<Box<dyn Future<Output = T>>>;

async fn after<T>(seconds: u32, value: T) -> T {
    sleep(SECOND * seconds).await;
    value
}

#[bowline::test(start_paused = true)]
async fn all_arms_run_at_once_and_their_values_come_in_order() {
    let began = Instant::now();
    assert_eq!(join(after(3, "a"), after(1, 2)).await, ("a", 2));
    assert_eq!(began.elapsed().as_secs(), 3);
    let tuple = (
        after(8, 1),
        after(7, "2"),
        after(6, 3),
        after(5, '4'),
        after(4, 5),
        after(3, 6),
        after(2, 7),
        after(1, 8),
    );
    assert_eq!(join_all(tuple).await, (1, "2", 3, '4', 5, 6, 7, 8));
    assert_eq!(join_all([3, 1, 2].map(|n| after(n, n))).await, [3, 1, 2]);
    assert_eq!(join_all((1..=100).rev().map(|n| after(n, n)).collect::<Vec<_>>()).await.len(), 100);
    assert_eq!(began.elapsed().as_secs(), 3 + 8 + 3 + 100);
}

#[bowline::test]
async fn a_join_of_nobody_ends_at_once() {
    assert!(join_all(Vec::<std::future::Pending<()>>::new()).await.is_empty());
    assert_eq!(join_all([] as [std::future::Pending<()>; 0]).await, []);
    let none: Vec<std::future::Pending<Result<(), ()>>> = Vec::new();
    assert_eq!(try_join_all(none).await, Ok(vec![]));
}

/// Says when it is dropped, in the order of all drops.
struct Dropped(&'static str, Rc<RefCell<Vec<&'static str>>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0);
    }
}

#[bowline::test(start_paused = true)]
async fn an_arm_is_dropped_when_it_is_ready_not_when_all_are() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let arm = |name, seconds| {
        let held = Dropped(name, Rc::clone(&log));
        // Held by the future, not by what it runs: it goes with the future.
        let mut sleeping = Box::pin(sleep(SECOND * seconds));
        std::future::poll_fn(move |cx| {
            let _held = &held;
            sleeping.as_mut().poll(cx)
        })
    };
    let looks = async {
        sleep(SECOND * 2).await;
        log.borrow().clone()
    };
    let ((), (), seen) = join_all((arm("early", 1), arm("late", 3), looks)).await;
    assert_eq!(seen, ["early"]);
    let looks = sleep(SECOND * 2);
    log.borrow_mut().clear();
    let list: Vec<Boxed<()>> = vec![Box::pin(arm("early", 1)), Box::pin(looks), Box::pin(arm("late", 3))];
    let mut list = std::pin::pin!(join_all(list));
    assert!(tokio::time::timeout(SECOND * 2 + SECOND / 2, list.as_mut()).await.is_err());
    assert_eq!(*log.borrow(), ["early"]);
}

#[bowline::test(start_paused = true)]
async fn the_first_error_drops_the_others_at_once() {
    let guard = Arc::new(());
    let parks = || {
        let guard = Arc::clone(&guard);
        async move {
            let _guard = guard;
            pending::<Result<u32, &str>>().await
        }
    };
    let began = Instant::now();
    let fails = || after(1, Err::<u32, _>("no route"));
    assert_eq!(try_join(parks(), fails()).await, Err("no route"));
    assert_eq!(Arc::strong_count(&guard), 1);
    let mut joining = std::pin::pin!(try_join_all((parks(), fails(), parks())));
    assert_eq!(joining.as_mut().await, Err("no route"));
    assert_eq!(Arc::strong_count(&guard), 1);
    let list: Vec<Boxed<Result<u32, &str>>> = vec![Box::pin(parks()), Box::pin(fails()), Box::pin(parks())];
    let mut joining = std::pin::pin!(try_join_all(list)); // kept: nothing but the join itself drops them
    assert_eq!(joining.as_mut().await, Err("no route"));
    assert_eq!((Arc::strong_count(&guard), began.elapsed().as_secs()), (1, 3));
    assert_eq!(try_join(ready(Ok::<_, &str>(1)), ready(Ok("a"))).await, Ok((1, "a")));
    assert_eq!(try_join_all([1, 2].map(|n| ready(Ok::<_, ()>(n)))).await, Ok([1, 2]));
    assert_eq!(try_join_all([1, 2].map(|n| ready(Err::<(), _>(n)))).await, Err(1), "the first in the list");
}

#[bowline::test]
async fn a_dropped_join_drops_its_arms_and_the_values_it_has() {
    let guard = Arc::new(());
    let arm = |turns: usize| {
        let guard = Arc::clone(&guard);
        async move {
            yield_now(turns).await;
            Ok::<_, ()>(guard)
        }
    };
    let make = || async {
        let _ = join_all((arm(0), arm(3), arm(1))).await;
        let _ = try_join_all([arm(0), arm(3), arm(1)]).await.unwrap();
        let _ = try_join(arm(2), arm(0)).await.unwrap();
    };
    let polls = cancel_everywhere(make, async |_, _| assert_eq!(Arc::strong_count(&guard), 1)).await;
    assert_eq!(polls, 3 + 3 + 2 + 1);
}

#[bowline::test]
async fn every_arm_of_a_cancelled_join_hears_it() {
    let make = || async {
        let (_tx, rx) = queue::<u32>(Bound::items(1), Overflow::Block).await;
        let waits = async || {
            let turns = async {
                yield_now(2).await;
                Ok(None)
            };
            bowline::race(turns, rx.recv()).await.into_inner()
        };
        let (a, b) = join(waits(), waits()).await;
        let list = join_all([waits(), waits(), waits()]).await;
        [a, b].into_iter().chain(list).filter(Result::is_err).count()
    };
    let polls = cancel_context_everywhere(make, async |polls, cut| {
        // All arms of the combinator that was cut short, and those that began after it.
        assert_eq!(cut, Some([5, 3, 3, 0, 0][polls - 1]), "after {polls} polls");
    });
    assert_eq!(polls.await, 5);
}

#[bowline::test]
async fn the_panic_of_an_arm_goes_on_when_the_others_are_gone() {
    let guard = Arc::new(());
    let outcome = bowline::group("group", bowline::CollectAll, async |g| {
        let guard = Arc::clone(&guard);
        g.spawn("panics", async move {
            let parks = async move {
                let _guard = guard;
                pending::<()>().await;
            };
            join(parks, async { panic!("one of two") }).await;
            Ok::<_, ()>(())
        });
    })
    .await;
    assert!(
        matches!(&outcome.slots()[0].1, bowline::Slot::Panicked(panic) if panic.message() == "one of two")
    );
    assert_eq!(Arc::strong_count(&guard), 1);
}

#[bowline::test]
async fn joins_nest_in_scopes_and_borrow_from_them() {
    let sum = Cell::new(0);
    let add = async |n: u32| {
        yield_now(1).await;
        sum.set(sum.get() + n);
    };
    scope("outer", async |s| {
        let three = s.spawn("three", async { Ok(3) });
        let (_, _, three) = join_all((add(1), join(add(2), add(4)), three)).await;
        sum.set(sum.get() + three?);
        Ok::<_, bowline::Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(sum.get(), 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the order in which arms become ready, a list has the values of all in its own order.
    #[test]
    fn a_list_has_every_value_at_its_place(delays in prop::collection::vec(0_u32..20, 0..40)) {
        let values = bowline::testing::example_paused(join_all(
            delays.iter().enumerate().map(|(at, delay)| after(*delay, at)).collect::<Vec<_>>(),
        ));
        prop_assert_eq!(values, (0..delays.len()).collect::<Vec<_>>());
    }
}
