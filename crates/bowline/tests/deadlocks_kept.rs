//! What channels have granted to futures that nobody polls, and which ends count for which wait.

use std::time::Duration;

use bowline::testing::{deadlocks_now, poll_once};
use bowline::{Bound, Cancelled, Deadlock, DeadlockKind, Overflow, Scope, scope};

type Play = Scope<Cancelled>;

const A_DAY: Duration = Duration::from_secs(86_400);

/// Lets everybody come to rest: a clock that is paused goes on when nobody has anything to do.
async fn rest() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Who stands still, and why, when a scope with these tasks has come to rest and everybody granted something was woken to look.
async fn proved(play: impl AsyncFnOnce(&Play)) -> Vec<Deadlock> {
    let mut found = Vec::new();
    let _ = scope("play", async |s: &Play| {
        play(s).await;
        rest().await;
        let _ = deadlocks_now(); // wakes who was granted something, to see whether it looks
        rest().await;
        found = deadlocks_now();
        s.cancel("seen");
        Ok(())
    })
    .await;
    found
}

fn dead(found: &[Deadlock]) -> Vec<&'static str> {
    let mut names: Vec<_> = found.iter().flat_map(|found| &found.tasks).map(|task| task.name).collect();
    names.sort_unstable();
    names
}

/// Who else can do something at the queue.
#[derive(Clone, Copy, PartialEq)]
enum Also {
    Nobody,
    /// A task with a sending end sleeps.
    Sender,
    /// A sending end was freed.
    Freed,
}

/// A task keeps a reservation that it does not poll any more, and sends to the same queue. The receiver makes room, which goes
/// to the reservation: the queue is empty, and all wait.
async fn kept_reservation(polls_it: bool, also: Also) -> Vec<Deadlock> {
    proved(async |s| {
        let (tx, rx) = s.queue::<u32>("queue", Bound::items(1), Overflow::Block);
        let _ = tx.send(1).await;
        match also {
            Also::Nobody => {}
            Also::Sender => drop(s.spawn_with("sleeps", tx.clone(), async |_cx, tx| {
                bowline::sleep(A_DAY).await?;
                drop(tx);
                Ok(())
            })),
            Also::Freed => std::mem::forget(tx.clone().free()),
        }
        s.spawn_with("sends", tx, async move |_cx, tx| {
            let mut kept = Box::pin(tx.reserve());
            assert!(poll_once(&mut kept).await.is_pending(), "it is full");
            if polls_it {
                if let Ok(room) = kept.await {
                    let _ = room.send(2);
                }
                return Ok(());
            }
            let _ = tx.send(3).await;
            drop(kept);
            Ok(())
        });
        s.spawn_with("receives", rx, async |_cx, rx| {
            bowline::sleep(Duration::from_micros(100)).await?;
            while rx.recv().await?.is_some() {}
            Ok(())
        });
    })
    .await
}

#[bowline::test(start_paused = true)]
async fn room_granted_to_a_reservation_that_is_not_polled_is_a_futurelock() {
    let found = kept_reservation(false, Also::Nobody).await;
    assert_eq!(dead(&found), ["receives", "sends"]);
    assert_eq!(found[0].kind, DeadlockKind::Futurelock, "{}", found[0]);
    let text = found[0].to_string();
    assert!(text.contains("granted to `sends`") && text.contains("in a future it does not poll"), "{text}");
}

#[bowline::test(start_paused = true)]
async fn of_granted_room_nothing_is_said_while_somebody_with_an_end_lives() {
    assert!(kept_reservation(true, Also::Nobody).await.is_empty(), "it is polled");
    assert!(kept_reservation(false, Also::Sender).await.is_empty(), "it could send, or go");
    assert!(kept_reservation(false, Also::Freed).await.is_empty(), "anybody may have it");
}

/// One keeps a wait for an item that it does not poll, and waits itself; the item goes to the kept wait.
async fn kept_receive(drops_it: bool) -> Vec<Deadlock> {
    proved(async |s| {
        let (tx, rx) = s.queue::<u32>("queue", Bound::items(1), Overflow::Block);
        s.spawn_with("receives", (rx, tx.clone()), async move |_cx, (rx, _tx)| {
            let mut kept = Some(Box::pin(rx.recv()));
            assert!(poll_once(kept.as_mut().unwrap()).await.is_pending(), "it is empty");
            if drops_it {
                kept = None;
            }
            rx.recv().await?;
            drop(kept);
            Ok(())
        });
        rest().await;
        let _ = tx.send(1).await;
        drop(tx);
    })
    .await
}

#[bowline::test(start_paused = true)]
async fn an_item_granted_to_a_receive_that_is_not_polled_is_a_futurelock() {
    let found = kept_receive(false).await;
    assert_eq!(dead(&found), ["receives"]);
    assert_eq!(found[0].kind, DeadlockKind::Futurelock, "{}", found[0]);
    assert!(kept_receive(true).await.is_empty());
}

/// A task waits for an item of which it holds the only sender, while another with a receiving end is busy.
async fn receiver_elsewhere(of_queue: bool) -> Vec<Deadlock> {
    proved(async |s| {
        async fn sleeps<T>(end: T) -> Result<(), Cancelled> {
            bowline::sleep(A_DAY).await?;
            drop(end);
            Ok(())
        }
        if of_queue {
            let (tx, rx) = s.queue::<u32>("queue", Bound::items(1), Overflow::Block);
            s.spawn_with("sleeps", rx.clone(), async |_cx, rx| sleeps(rx).await);
            s.spawn_with("waits", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await.map(drop));
        } else {
            let (tx, rx) = s.rendezvous::<u32>("hand over");
            s.spawn_with("sleeps", rx.clone(), async |_cx, rx| sleeps(rx).await);
            s.spawn_with("waits", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await.map(drop));
        }
    })
    .await
}

#[bowline::test(start_paused = true)]
async fn another_receiver_can_close_a_queue_and_do_nothing_for_a_hand_over() {
    assert!(receiver_elsewhere(true).await.is_empty());
    assert_eq!(dead(&receiver_elsewhere(false).await), ["waits"]);
}
