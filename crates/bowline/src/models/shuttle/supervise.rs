//! Supervisors: what is asked of a child races with what the child does.

use super::{Tally, check, check_rare, dawdle, draw};
use crate::supervise::timeless;
use crate::{Cancelled, Child, ChildState, Life, Restart, Strategy, cancelled, scope};

/// A child that falls at random in its first lives. It notes that it lives, and if another one of it does.
fn child(name: &'static str, lives: &Tally, twice: &Tally) -> Child {
    let (lives, twice) = (lives.clone(), twice.clone());
    Child::new(name, async move |life: Life| {
        if lives.now() > 0 {
            twice.more();
        }
        let _one = lives.one();
        dawdle().await;
        if life.incarnation() < 4 && draw(2) == 0 {
            return Err("it falls".into());
        }
        Err(cancelled().await.into())
    })
    .stop_within(std::time::Duration::MAX)
}

/// Somebody stops it and somebody starts it again while it falls; then it is stopped for good, and then wanted once more.
async fn a_stop_a_restart_and_an_end() {
    let (lives, twice) = (Tally::default(), Tally::default());
    scope("top", async |s| {
        let running =
            timeless("feeds", Strategy::OneForOne).child_with(child("feed", &lives, &twice)).start(s);
        let feed = running.child("feed").unwrap();
        let (stops, restarts) = (feed.clone(), feed.clone());
        let stopper = s.spawn("stops", async move {
            dawdle().await;
            let _ = stops.stop().await;
            Ok(())
        });
        let restarter = s.spawn("restarts", async move {
            dawdle().await;
            restarts.restart();
            Ok(())
        });
        stopper.await?;
        restarter.await?;
        feed.stop().await.unwrap();
        assert_eq!(lives.now(), 0, "it is stopped and lives");
        dawdle().await;
        assert_eq!((lives.now(), feed.state()), (0, ChildState::Stopped), "it was resurrected");
        let before = feed.incarnation();
        feed.restart();
        assert!(feed.wait_running().await.unwrap() > before);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!((lives.now(), twice.now()), (0, 0));
}

#[test]
fn what_is_stopped_stays_so_and_there_is_one_life_at_a_time() {
    check(a_stop_a_restart_and_an_end);
}

#[test]
fn what_is_stopped_stays_so_and_there_is_one_life_at_a_time_in_rare_orders() {
    check_rare(a_stop_a_restart_and_an_end);
}

/// The scope ends while children fall together, one is added, and somebody waits.
async fn the_end_meets_everything() {
    let (a, b, late, twice) = (Tally::default(), Tally::default(), Tally::default(), Tally::default());
    let running = scope("top", async |s| {
        let running = timeless("feeds", Strategy::OneForAll)
            .child_with(child("a", &a, &twice))
            .child_with(child("b", &b, &twice))
            .start(s);
        let (adds, added) = (running.clone(), child("late", &late, &twice).restart(Restart::Temporary));
        s.spawn("adds", async move {
            dawdle().await;
            if let Ok(child) = adds.add(added) {
                let _ = child.wait_running().await;
            }
            Ok(())
        });
        if draw(2) == 0 {
            let _ = running.wait_ready().await;
        }
        dawdle().await;
        Ok::<_, Cancelled>(running)
    })
    .await
    .unwrap();
    assert!(running.wait_ended().await.is_ok());
    assert_eq!((a.now(), b.now(), late.now(), twice.now()), (0, 0, 0, 0));
}

#[test]
fn a_supervisor_that_ends_in_the_middle_of_anything_leaves_nobody() {
    check(the_end_meets_everything);
}
