//! Circuit breakers: never more probes than allowed, no place lost, and no result that counts twice or nowhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Tally, check, check_rare, dawdle, draw};
use crate::{Breaker, BreakerState, Breakers, Cancelled, Class, alerts, on_alert, scope};

const PROBES: usize = 2;

/// Open, and ready for probes.
fn opened() -> Breaker {
    let breaker = Breaker::new("upstream").at_least(1).probes(2).open_for(Duration::ZERO);
    breaker.admit().expect("it is closed").failed(Class::Network);
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

/// Four ask again and again. None fails, so the breaker stays half-open.
async fn probes_of_one_period() {
    let _hook = on_alert(|_| ());
    let breaker = opened().close_after(u32::MAX);
    let under_way = Tally::default();
    let done = scope("callers", async |s| {
        for _ in 0..4 {
            let (breaker, under_way) = (breaker.clone(), under_way.clone());
            s.spawn("caller", async move {
                for _ in 0..2 {
                    dawdle().await;
                    let Ok(permit) = breaker.admit() else { continue };
                    let one = under_way.one();
                    assert!(under_way.now() <= PROBES, "{} probes are under way", under_way.now());
                    dawdle().await;
                    drop(one);
                    match draw(3) {
                        0 => permit.succeeded(),
                        1 => permit.failed(Class::Cancelled),
                        _ => drop(permit),
                    }
                }
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    let places: Vec<_> = (0..PROBES).map(|_| breaker.admit().expect("every place is free again")).collect();
    assert!(breaker.admit().is_err());
    drop(places);
}

#[test]
fn never_more_probes_than_allowed_and_no_place_is_lost() {
    check(probes_of_one_period);
}

#[test]
fn never_more_probes_than_allowed_and_no_place_is_lost_in_rare_orders() {
    check_rare(probes_of_one_period);
}

/// It opens and closes while calls are under way, and somebody forces it now and then.
async fn states_change() {
    let _hook = on_alert(|_| ());
    // Models run side by side, and their alerts are on one board.
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let name = RUNS.fetch_add(1, Ordering::Relaxed).to_string();
    let quick = |one: Breaker| one.at_least(2).probes(1).close_after(1).open_for(Duration::ZERO);
    let breaker = Breakers::new("upstreams").each(quick).of(&name);
    let admitted = Tally::default();
    let done = scope("callers", async |s| {
        for caller in 0..3 {
            let (breaker, admitted) = (breaker.clone(), admitted.clone());
            s.spawn("caller", async move {
                for _ in 0..3 {
                    if caller == 0 && draw(4) == 0 {
                        breaker.force_open("a test");
                        dawdle().await;
                        breaker.release();
                    }
                    let Ok(permit) = breaker.admit() else { continue };
                    admitted.more();
                    dawdle().await;
                    match draw(4) {
                        0 => permit.succeeded(),
                        1 | 2 => permit.failed(Class::Timeout),
                        _ => drop(permit),
                    }
                }
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    let stats = breaker.stats();
    assert_eq!(stats.probes_in_flight, 0, "{stats:?}");
    let counted = stats.succeeded + stats.failed + stats.unknown + stats.stale;
    assert_eq!(counted, admitted.now() as u64, "{stats:?}");
    breaker.admit().expect("it was open for no time").succeeded();
    assert_eq!(breaker.state(), BreakerState::Closed, "{stats:?}");
    let stands = alerts().into_iter().any(|alert| alert.name == breaker.name());
    assert!(!stands, "its alert stands, and the breaker is closed");
}

#[test]
fn every_admitted_call_counts_once_whatever_changes_meanwhile() {
    check(states_change);
}

#[test]
fn every_admitted_call_counts_once_in_rare_orders() {
    check_rare(states_change);
}
