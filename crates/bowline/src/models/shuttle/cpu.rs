//! Work for the processor, and buffers: nothing is computed twice or lost, nobody waits for ever, and all permits come back.

use super::{Tally, check, check_rare, dawdle, give_up_early};
use crate::{Bound, Buffers, Cancelled, CpuPool, compute, join, scope};

async fn a_computation() {
    let computed = Tally::default();
    let of_f = computed.clone();
    let outcome = compute("compute", 0..6, move |item| {
        of_f.more();
        if item == 4 { Err(Cancelled::new(crate::Cause::Failed)) } else { Ok(item) }
    })
    .await;
    assert_eq!(computed.now(), 6, "once each");
    assert_eq!((outcome.counts().ok, outcome.counts().failed), (5, 1));
    assert!(outcome.into_ok().eq([0, 1, 2, 3, 5]), "in the order of the items");
}

#[test]
fn every_item_is_computed_once_and_pieces_are_joined_in_order() {
    check(a_computation);
}

#[test]
fn every_item_is_computed_once_in_rare_orders() {
    check_rare(a_computation);
}

#[test]
fn a_computation_that_is_dropped_or_cancelled_leaves_nothing() {
    check(async || {
        let items = Tally::default();
        let owned: Vec<_> = (0..6).map(|_| items.one()).collect();
        let done = scope("scope", async |s| {
            drop(give_up_early(compute("compute", owned, Ok::<_, Cancelled>)).await);
            s.cancel("over");
            Ok::<_, Cancelled>(())
        })
        .await;
        drop(done);
        assert_eq!(items.now(), 0, "the scope has waited for the threads");
    });
}

async fn three_callers_of_a_lane() {
    let (jobs, ended) = (Tally::default(), Tally::default());
    let of_work = ended.clone();
    let done = scope("scope", async |s| {
        let lane = CpuPool::new("lane", Bound::items(1)).threads(2).start(s, move |job| {
            of_work.more();
            job
        });
        for patient in [true, true, false, false] {
            let (lane, job) = (lane.clone(), jobs.one());
            s.spawn("caller", async move {
                if patient {
                    drop(lane.call(job).await?);
                } else {
                    drop(give_up_early(lane.call(job)).await);
                }
                Ok(())
            });
        }
        let stats = lane.clone();
        drop(lane);
        dawdle().await;
        let stats = stats.stats();
        let there = (stats.queued + stats.running.len()) as u64;
        assert_eq!(stats.accepted, stats.completed + stats.withdrawn + stats.refused + there, "{stats:?}");
        assert!(stats.running.len() <= 2 && stats.queued <= 1, "{stats:?}");
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()), "who waits has a result: no job is stuck in the queue");
    assert!((2..=4).contains(&ended.now()), "{}", ended.now());
    assert_eq!(jobs.now(), 0);
}

#[test]
fn a_job_in_a_lane_is_worked_off_or_comes_back() {
    check(three_callers_of_a_lane);
}

#[test]
fn a_job_in_a_lane_is_worked_off_or_comes_back_in_rare_orders() {
    check_rare(three_callers_of_a_lane);
}

#[test]
fn a_lane_that_is_cancelled_leaves_no_caller_waiting() {
    check(async || {
        let jobs = Tally::default();
        let calls = async |lane: crate::CpuLane<super::One, super::One>, job| drop(lane.call(job).await);
        let (gives, takes) = (std::sync::Mutex::new(None), std::sync::Mutex::new(Vec::new()));
        for _ in 0..3 {
            takes.lock().unwrap().push(jobs.one());
        }
        let inner = scope("inner", async |s| {
            let lane = CpuPool::new("lane", Bound::items(1)).threads(1).start(s, |job| job);
            *gives.lock().unwrap() = Some(lane.clone());
            dawdle().await;
            s.cancel("over");
            Ok::<(), Cancelled>(())
        });
        let callers = async {
            loop {
                let lane = gives.lock().unwrap().take();
                if let Some(lane) = lane {
                    let mut jobs = std::mem::take(&mut *takes.lock().unwrap()).into_iter();
                    let mut next = || calls(lane.clone(), jobs.next().expect("three"));
                    let (one, two, three) = (next(), next(), next());
                    join(one, join(two, three)).await;
                    return;
                }
                shuttle::future::yield_now().await;
            }
        };
        let _ = join(inner, callers).await;
        assert_eq!(jobs.now(), 0);
    });
}

#[test]
fn buffers_are_never_more_than_stated_and_nobody_waits_beside_a_free_one() {
    const COUNT: usize = 2;
    check(async || {
        let (pool, out) = (Buffers::new("buffers", 8, COUNT), Tally::default());
        let done = scope("scope", async |s| {
            for _ in 0..3 {
                let (pool, out) = (pool.clone(), out.clone());
                s.spawn("task", async move {
                    drop(give_up_early(pool.take()).await);
                    let buffer = pool.take().await?;
                    let one = out.one();
                    assert!(out.now() <= COUNT);
                    dawdle().await;
                    drop((one, buffer));
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        let stats = pool.stats();
        assert_eq!((stats.held, stats.waiting), (0, 0), "{stats:?}");
        assert!(stats.idle <= COUNT && stats.allocated <= COUNT as u64, "{stats:?}");
    });
}
