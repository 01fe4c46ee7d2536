//! Circuit breakers: when they open, whom they let pass meanwhile, what counts, and what they say about it.

mod support;

use std::cell::RefCell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    Alert, AlertKind, Breaker, BreakerError, BreakerState, Breakers, Cancelled, Class, breakers, on_alert,
    scope, timeout,
};
use support::{parked, yield_now};

const SECOND: Duration = Duration::from_secs(1);

/// Opens after 4 calls, half of them failed; probes one at a time, two of which must succeed.
fn quick() -> Breaker {
    Breaker::new("billing").at_least(4).open_for(SECOND).probes(1).close_after(2)
}

fn ends(breaker: &Breaker, class: Class) {
    breaker.admit().expect("it is closed").failed(class);
}

fn opened() -> Breaker {
    let breaker = quick();
    for _ in 0..4 {
        ends(&breaker, Class::Timeout);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

/// An open time with what chance may add.
async fn open_time() {
    tokio::time::advance(SECOND.mul_f64(1.25)).await;
}

#[bowline::test(start_paused = true)]
async fn it_opens_when_half_of_enough_calls_failed_and_says_why() {
    let breaker = Breaker::new("billing").open_for(18 * SECOND);
    for n in 0..19 {
        match n % 3 {
            0 => breaker.admit().unwrap().succeeded(),
            1 => ends(&breaker, Class::Timeout),
            _ => ends(&breaker, Class::Network),
        }
    }
    assert_eq!(breaker.state(), BreakerState::Closed, "19 calls are too few to judge by");
    let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
    breaker.admit().unwrap().failed_because(Class::Network, &refused);
    tokio::time::advance(2 * SECOND).await;
    let explained = breaker.explain();
    let begins = "open since 2 s: 13 of 20 calls failed in the last 10 s \
                  (6 time-outs, 7 network; last: network: connection refused); next probe in ";
    assert!(explained.starts_with(begins), "{explained}");
    let open = breaker.admit().unwrap_err();
    assert_eq!((&*open.name, open.since), ("billing", 2 * SECOND));
    assert!((16 * SECOND..=16 * SECOND + 18 * SECOND / 4).contains(&open.retry_in.unwrap()), "{open:?}");
    assert!(open.to_string().starts_with("breaker `billing` is open since 2 s: 13 of 20 calls failed"));
}

/// gobreaker#21: counts that are dropped whole at fixed times make 9% look like 90% at the beginning of a period.
#[bowline::test(start_paused = true)]
async fn the_window_slides() {
    let breaker = Breaker::new("billing");
    for tenth in 0..100 {
        for _ in 0..100 {
            breaker.admit().unwrap().succeeded();
        }
        if tenth < 99 {
            tokio::time::advance(SECOND / 10).await;
        }
    }
    tokio::time::advance(SECOND).await;
    for _ in 0..900 {
        ends(&breaker, Class::Timeout);
    }
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.failures), (BreakerState::Closed, 900), "{stats:?}");
    assert!(stats.calls >= 9_000, "{stats:?}");
    tokio::time::advance(10 * SECOND).await;
    assert_eq!(breaker.stats().calls, 0);
}

#[bowline::test(start_paused = true)]
async fn a_window_of_calls_judges_an_upstream_that_is_rarely_called() {
    let breaker = Breaker::new("billing").window_of_calls(10);
    for _ in 0..9 {
        assert_eq!(breaker.state(), BreakerState::Closed);
        ends(&breaker, Class::Network);
        tokio::time::advance(3600 * SECOND).await;
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(breaker.explain().contains("9 of the last 9 calls failed (9 network"), "{}", breaker.explain());
}

#[bowline::test(start_paused = true)]
async fn slow_calls_open_it_though_they_succeed() {
    let breaker = quick().slow_calls(SECOND, 0.5);
    for n in 0..4 {
        let permit = breaker.admit().unwrap();
        tokio::time::advance(if n < 2 { SECOND / 2 } else { SECOND }).await;
        permit.succeeded();
    }
    let explained = breaker.explain();
    assert!(explained.contains("2 of 4 calls took 1 s or longer in the last 10 s"), "{explained}");
    open_time().await;
    let probe = breaker.admit().unwrap();
    tokio::time::advance(SECOND).await;
    probe.succeeded();
    assert_eq!(breaker.state(), BreakerState::Open, "{}", breaker.explain());
}

#[bowline::test(start_paused = true)]
async fn an_upstream_that_says_no_works() {
    let breaker = quick();
    for _ in 0..100 {
        ends(&breaker, Class::Business);
    }
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.succeeded, stats.failed), (BreakerState::Closed, 100, 0));
}

#[bowline::test(start_paused = true)]
async fn what_was_cancelled_counts_as_nothing() {
    let breaker = quick();
    for _ in 0..10 {
        drop(breaker.admit().unwrap());
        drop(parked(breaker.run(async || pending::<Result<(), Class>>().await)).await);
        ends(&breaker, Class::Cancelled);
        let cancelled = scope("request", async |s| {
            s.cancel("the client left");
            breaker.run(async || pending::<Result<(), Class>>().await).await.ok();
            Ok::<_, Cancelled>(())
        });
        assert!(cancelled.await.is_err());
    }
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.calls, stats.unknown), (BreakerState::Closed, 0, 40));
}

/// Otherwise a breaker whose callers all have a deadline around it would never learn that the upstream hangs.
#[bowline::test(start_paused = true)]
async fn a_call_that_ran_into_its_callers_deadline_is_a_time_out() {
    let breaker = quick();
    for _ in 0..4 {
        let call = breaker.run(async || pending::<Result<(), Class>>().await);
        assert!(timeout(SECOND, call).await.unwrap_err().is_deadline());
    }
    assert!(breaker.explain().contains("4 of 4 calls failed in the last 10 s (4 time-outs"));
}

#[bowline::test(start_paused = true)]
async fn a_panic_is_a_bug_and_gives_the_place_of_a_probe_back() {
    let breaker = opened();
    open_time().await;
    let call = catch_unwind(AssertUnwindSafe(|| {
        let _permit = breaker.admit().unwrap();
        panic!("no such field");
    }));
    assert!(call.is_err());
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.failed), (BreakerState::Open, 5));
    assert!(stats.explained.contains("a probe failed (bug); before that, 4 of 4 calls failed"), "{stats:?}");
}

#[bowline::test(start_paused = true)]
async fn probes_are_few_and_close_it_when_enough_succeeded() {
    let breaker = opened();
    open_time().await;
    let probe = breaker.admit().unwrap();
    let refused = breaker.admit().unwrap_err();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(refused.retry_in.is_some());
    probe.succeeded();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.admit().unwrap().succeeded();
    assert_eq!(breaker.state(), BreakerState::Closed);
    let all: Vec<_> = (0..100).map(|_| breaker.admit().unwrap()).collect();
    drop(all);
}

/// tower-resilience#382: probes are counted when they have ended, so that any number is under way; and one that is dropped
/// takes its place with it for ever. gobreaker#30 and gobreaker#49: nobody can tell when too many are refused.
#[bowline::test(start_paused = true)]
async fn a_probe_is_counted_from_its_admission_to_its_end_whichever_that_is() {
    let breaker = opened().probes(2);
    open_time().await;
    for round in 0..50 {
        let first = breaker.admit().expect("the places are free again");
        let second = breaker.admit().expect("two may be under way");
        let refused = breaker.admit().expect_err("and not three");
        assert!(refused.retry_in.is_some_and(|retry_in| retry_in <= 30 * SECOND), "{round}: {refused:?}");
        drop(first);
        let third = parked(breaker.run(async || pending::<Result<(), Class>>().await)).await;
        assert_eq!(breaker.stats().probes_in_flight, 2);
        drop((second, third));
        assert_eq!(breaker.stats().probes_in_flight, 0);
    }
    assert_eq!(breaker.state(), BreakerState::HalfOpen, "nobody knows more than before");
}

/// Hystrix#1350: of a hundred calls that were under way when it opened, the late ones end when it is half-open, and decide instead
/// of the probe.
#[bowline::test(start_paused = true)]
async fn results_from_before_a_change_do_not_count_after_it() {
    let breaker = quick();
    let late: Vec<_> = (0..6).map(|_| breaker.admit().unwrap()).collect();
    for _ in 0..4 {
        ends(&breaker, Class::Timeout);
    }
    open_time().await;
    let probe = breaker.admit().unwrap();
    for (n, permit) in late.into_iter().enumerate() {
        match n % 3 {
            0 => permit.succeeded(),
            1 => permit.failed(Class::Timeout),
            _ => drop(permit),
        }
        let stats = breaker.stats();
        assert_eq!((stats.state, stats.probes_in_flight), (BreakerState::HalfOpen, 1), "{stats:?}");
    }
    assert_eq!(breaker.stats().stale, 6);
    probe.succeeded();
}

/// gobreaker#122: the callback of a call that was admitted before a change is dropped, and nobody is told. Here it is counted.
#[bowline::test(start_paused = true)]
async fn a_result_that_came_too_late_is_counted_as_such() {
    let breaker = opened();
    open_time().await;
    let probe = breaker.admit().unwrap();
    breaker.force_open("maintenance");
    breaker.release();
    probe.failed(Class::Timeout);
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.stale, stats.calls), (BreakerState::Closed, 1, 0));
}

/// OmniRoute#13836: the only probe never ends, and for six days every call is refused.
#[bowline::test(start_paused = true)]
async fn a_probe_that_hangs_does_not_keep_it_half_open_for_ever() {
    let breaker = opened();
    open_time().await;
    let hangs = breaker.admit().unwrap();
    tokio::time::advance(29 * SECOND).await;
    assert!(breaker.admit().is_err());
    tokio::time::advance(SECOND).await;
    let refused = breaker.admit().unwrap_err();
    assert!(refused.why.starts_with("no probe came back within 30 s"), "{refused}");
    tokio::time::advance(2 * SECOND.mul_f64(1.25)).await;
    breaker.admit().expect("a new period, and a new probe").succeeded();
    hangs.succeeded();
    assert_eq!(breaker.state(), BreakerState::HalfOpen, "the old one does not count");
    breaker.admit().unwrap().succeeded();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// Rarely called, it is half-open for longer than a probe may take, and no probe hangs.
#[bowline::test(start_paused = true)]
async fn probes_that_come_back_do_not_open_it_however_rare_they_are() {
    let breaker = opened().probes(2).close_after(3);
    open_time().await;
    breaker.admit().unwrap().succeeded();
    tokio::time::advance(40 * SECOND).await;
    let both = (breaker.admit().unwrap(), breaker.admit().unwrap());
    let refused = breaker.admit().expect_err("both places are taken");
    assert_eq!((breaker.state(), refused.retry_in), (BreakerState::HalfOpen, Some(30 * SECOND)), "{refused}");
    both.0.succeeded();
    both.1.succeeded();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[bowline::test(start_paused = true)]
async fn an_error_that_panics_when_it_is_shown_takes_no_place_with_it() {
    struct Unshowable;

    impl std::fmt::Display for Unshowable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("it cannot be shown")
        }
    }

    let breaker = opened();
    open_time().await;
    let shown = catch_unwind(AssertUnwindSafe(|| {
        breaker.admit().unwrap().failed_because(Class::Network, &Unshowable);
    }));
    assert!(shown.is_err());
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.failed), (BreakerState::Open, 5), "it counts as a bug: {stats:?}");
}

#[bowline::test(start_paused = true)]
async fn no_time_is_too_long() {
    let long = Duration::MAX;
    let years = Some(10_000 * 24 * 3600 * SECOND);
    let breaker = quick().window(long).open_for(long).probe_time(long).slow_calls(long, 1.0);
    for _ in 0..4 {
        ends(&breaker, Class::Timeout);
    }
    let refused = breaker.admit().unwrap_err();
    assert!(refused.retry_in > years, "{refused:?}");
    let breaker = opened().probe_time(long);
    open_time().await;
    let _probe = breaker.admit().unwrap();
    assert!(breaker.admit().unwrap_err().retry_in > years);
}

#[bowline::test(start_paused = true)]
async fn it_stays_open_twice_as_long_each_time_up_to_a_bound() {
    let breaker = opened().open_at_most(5 * SECOND);
    let mut before = Duration::ZERO;
    for seconds in [1, 2, 4, 5, 5] {
        let retry_in = breaker.admit().unwrap_err().retry_in.unwrap();
        let bounds = seconds * SECOND..=seconds * SECOND.mul_f64(1.25);
        assert!(bounds.contains(&retry_in), "{retry_in:?} is not in {bounds:?}");
        assert!(retry_in != before, "chance is at work");
        before = retry_in;
        tokio::time::advance(retry_in).await;
        breaker.admit().unwrap().failed(Class::Network);
    }
    // Chains of reasons do not grow.
    let why = breaker.explain();
    assert_eq!(why.matches("before that").count(), 1, "{why}");
    tokio::time::advance(7 * SECOND).await;
    for _ in 0..2 {
        breaker.admit().unwrap().succeeded();
    }
    for _ in 0..4 {
        ends(&breaker, Class::Network);
    }
    let soon = breaker.admit().unwrap_err().retry_in.unwrap();
    assert!(soon >= 5 * SECOND, "so soon after closing it is the same trouble: {soon:?}");
}

#[bowline::test(start_paused = true)]
async fn a_person_may_force_it_either_way() {
    let breaker = opened();
    breaker.force_closed("no service without it");
    for _ in 0..100 {
        ends(&breaker, Class::Timeout);
    }
    assert_eq!(breaker.explain(), "forced closed since 0 ms: no service without it");
    breaker.force_open("ledger migration");
    tokio::time::advance(3600 * SECOND).await;
    let refused = breaker.admit().unwrap_err();
    assert_eq!((refused.retry_in, &*refused.why), (None, "ledger migration"));
    breaker.release();
    assert_eq!((breaker.state(), breaker.stats().calls), (BreakerState::Closed, 0));
    breaker.release();
    for _ in 0..4 {
        ends(&breaker, Class::Timeout);
    }
    assert_eq!(breaker.state(), BreakerState::Open, "it judges by itself again");
}

fn listen() -> (Arc<Mutex<Vec<Alert>>>, bowline::AlertHook) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hook = on_alert({
        let heard = Arc::clone(&heard);
        move |alert: &Alert| heard.lock().unwrap().push(alert.clone())
    });
    (heard, hook)
}

/// gobreaker#37: told of the change under its lock, the callback asks the breaker something and waits for itself.
#[bowline::test(start_paused = true)]
async fn who_is_told_that_it_opened_may_ask_it() {
    let breaker = quick();
    let said = Arc::new(Mutex::new(Vec::new()));
    let _hook = on_alert({
        let (breaker, said) = (breaker.clone(), Arc::clone(&said));
        move |alert: &Alert| said.lock().unwrap().push((alert.raised, breaker.explain()))
    });
    for _ in 0..4 {
        ends(&breaker, Class::Timeout);
    }
    open_time().await;
    for _ in 0..2 {
        breaker.admit().unwrap().succeeded();
    }
    let said = said.lock().unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].0 && said[0].1.starts_with("open since 0 ms: 4 of 4"), "{said:?}");
    assert!(!said[1].0 && said[1].1.starts_with("closed since 0 ms"), "{said:?}");
}

#[bowline::test(start_paused = true)]
async fn its_alert_is_over_when_it_is_gone() {
    let (heard, _hook) = listen();
    let breaker = opened();
    let stands: Vec<_> = bowline::alerts().into_iter().map(|alert| (alert.kind, alert.name)).collect();
    assert_eq!(stands, [(AlertKind::BreakerOpen, "billing".into())]);
    drop(breaker);
    assert!(bowline::alerts().is_empty());
    assert_eq!(heard.lock().unwrap().iter().map(|alert| alert.raised).collect::<Vec<_>>(), [true, false]);
}

#[bowline::test(start_paused = true)]
async fn a_call_it_refuses_is_not_made() {
    let breaker = opened();
    let made = Rc::new(RefCell::new(0));
    let refused = breaker
        .run(async || {
            *made.borrow_mut() += 1;
            Ok::<_, Class>(())
        })
        .await;
    assert!(matches!(refused, Err(BreakerError::Open(_))), "{refused:?}");
    assert_eq!(*made.borrow(), 0);
    assert_eq!(breaker.stats().refused, 1);
    yield_now(1).await;
}

#[bowline::test(start_paused = true)]
async fn breakers_of_keys_are_as_many_as_may_be_and_open_ones_stay() {
    let hosts = Breakers::new("hosts").at_most(16).each(|breaker| breaker.at_least(4));
    for host in ["bad-1", "bad-2"] {
        for _ in 0..4 {
            ends(&hosts.of(host), Class::Network);
        }
    }
    let held = hosts.of("good");
    for n in 0..1_000 {
        hosts.of(&format!("host-{n}")).admit().unwrap().succeeded();
        assert!(hosts.stats().len() <= 16);
    }
    let open: Vec<_> =
        hosts.stats().into_iter().filter(|one| one.state == BreakerState::Open).map(|one| one.name).collect();
    assert_eq!(open, ["hosts: bad-1", "hosts: bad-2"]);
    held.admit().unwrap().succeeded(); // it has gone from the set, and works
    assert_eq!(hosts.of("host-999").stats().succeeded, 1, "those used last are there");
    assert!(breakers().iter().any(|breaker| breaker.name == "hosts: bad-1"));
}

#[bowline::test]
async fn zero_is_not_unlimited() {
    for make in [
        (|| drop(Breaker::new("b").probes(0))) as fn(),
        || drop(Breaker::new("b").close_after(0)),
        || drop(Breaker::new("b").at_least(0)),
        || drop(Breaker::new("b").failure_rate(0.0)),
        || drop(Breaker::new("b").window_of_calls(0)),
        || drop(Breaker::new("b").window(Duration::ZERO)),
        || drop(Breakers::new("b").at_most(0)),
    ] {
        assert!(catch_unwind(make).is_err());
    }
}
