//! A meeting of a fixed number of seats: nobody goes on before all have come, and nobody waits for one who will not.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bowline::{BarrierError, Cancelled, FreeSeat, ResourceState, scope};
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

async fn seats<const N: usize>() -> [FreeSeat; N] {
    let seats = scope("barrier", async |s| {
        Ok::<_, Cancelled>(s.cx().barrier("step", N).into_iter().map(|seat| seat.free()).collect::<Vec<_>>())
    })
    .await
    .expect("nobody cancels this scope");
    seats.try_into().expect("as many as were asked for")
}

#[bowline::test]
async fn a_round_ends_when_all_have_arrived_and_one_leads() -> Result<(), BarrierError> {
    let [mut a, mut b, mut c] = seats().await;
    for round in 1..=3 {
        let mut first = parked(a.wait()).await;
        let mut second = parked(b.wait()).await;
        assert!(poll_once(&mut first).await.is_pending());
        let third = c.wait().await?;
        let Poll::Ready(Ok(second)) = poll_once(&mut second).await else { panic!("all have arrived") };
        let Poll::Ready(Ok(first)) = poll_once(&mut first).await else { panic!("all have arrived") };
        assert_eq!([first, second, third].map(|arrived| arrived.round), [round; 3]);
        assert_eq!([first, second, third].iter().filter(|arrived| arrived.leads).count(), 1);
    }
    Ok(())
}

#[bowline::test]
async fn one_seat_meets_itself() -> Result<(), BarrierError> {
    let [mut only] = seats().await;
    assert!(only.wait().await?.leads);
    assert_eq!(only.wait().await?.round, 2);
    Ok(())
}

#[bowline::test]
async fn a_dropped_seat_breaks_it_for_those_who_wait_and_those_to_come() {
    let ended = scope("parts", async |s| {
        let mut seats = s.cx().barrier("step", 3);
        let mut mine = seats.pop().expect("three");
        let mut other = seats.pop().expect("two");
        let fails = s.spawn_with("fails", seats, async |cx, seats| {
            yield_now(1).await;
            drop(seats);
            Ok(cx.task_id())
        });
        let waited = mine.wait().await;
        let by = Some(fails.await?);
        assert_eq!(waited, Err(BarrierError::Broken { by }));
        assert_eq!(other.wait().await, Err(BarrierError::Broken { by }));
        assert!(matches!(mine.stats().state, ResourceState::Closed { .. }));
        waited?;
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(ended.unwrap_err().to_string(), "cancelled: a seat of the barrier was dropped");
}

#[bowline::test]
async fn whose_round_had_ended_before_the_break_goes_on() -> Result<(), BarrierError> {
    let [mut a, mut b] = seats().await;
    let mut first = parked(a.wait()).await;
    b.wait().await?;
    drop(b);
    assert!(matches!(poll_once(&mut first).await, Poll::Ready(Ok(arrived)) if arrived.round == 1));
    drop(first);
    assert!(a.wait().await.is_err());
    Ok(())
}

#[bowline::test]
async fn leaving_in_order_ends_the_round_of_the_others_and_one_of_them_leads() -> Result<(), BarrierError> {
    let [mut a, mut b, c] = seats().await;
    let mut first = parked(a.wait()).await;
    let second = parked(b.wait()).await;
    c.leave();
    let Poll::Ready(Ok(arrived)) = poll_once(&mut first).await else {
        panic!("all that are left have arrived")
    };
    assert!(arrived.leads);
    assert!(!second.await?.leads);
    drop(first);
    assert_eq!(a.stats().state, ResourceState::Arrived { arrived: 0, seats: 2 });
    b.leave();
    assert!(a.wait().await?.leads);
    Ok(())
}

#[bowline::test]
async fn the_lead_passes_on_when_the_one_that_would_have_led_is_dropped() -> Result<(), BarrierError> {
    let [mut a, mut b, c] = seats().await;
    let first = parked(a.wait()).await;
    let second = parked(b.wait()).await;
    c.leave();
    drop(first);
    assert!(second.await?.leads);
    Ok(())
}

#[bowline::test]
async fn a_wait_that_is_dropped_takes_its_arrival_back() -> Result<(), BarrierError> {
    let [mut a, mut b] = seats().await;
    drop(parked(a.wait()).await);
    assert_eq!(b.stats().state, ResourceState::Arrived { arrived: 0, seats: 2 });
    let mut second = parked(b.wait()).await;
    assert!(poll_once(&mut second).await.is_pending());
    a.wait().await?;
    second.await.map(drop)
}

#[bowline::test]
async fn arrivals_are_booked_wherever_a_wait_is_cut() {
    let seats = std::sync::Mutex::new(Some(seats::<2>().await));
    // The seats are lent for a round and come back however it ends.
    struct Lent<'a>(&'a std::sync::Mutex<Option<[FreeSeat; 2]>>, Option<[FreeSeat; 2]>);
    impl Drop for Lent<'_> {
        fn drop(&mut self) {
            *self.0.lock().expect("no panic") = self.1.take();
        }
    }
    let round = async || {
        let taken = seats.lock().expect("no panic").take();
        let mut lent = Lent(&seats, taken);
        let [a, b] = lent.1.as_mut().expect("lent to nobody else");
        let late = async {
            yield_now(2).await;
            b.wait().await
        };
        let (first, second) = futures_util::future::join(a.wait(), late).await;
        first.and(second).map(drop)
    };
    let check = async |_, _| {
        let seats = seats.lock().expect("no panic");
        let [a, _] = seats.as_ref().expect("they came back");
        assert_eq!(a.stats().state, ResourceState::Arrived { arrived: 0, seats: 2 });
    };
    assert!(cancel_everywhere(round, check).await >= 3);
    assert!(cancel_context_everywhere(round, check).await >= 3);
}

#[bowline::test(worker_threads = 2)]
async fn nobody_is_a_round_ahead() -> Result<(), Cancelled> {
    const SEATS: usize = 5;
    const ROUNDS: u64 = 200;
    let leaders = scope("rounds", async |s| {
        let hub = s.cx().share("hub", (AtomicU64::new(0), AtomicU64::new(0)));
        for seat in s.cx().barrier("round", SEATS) {
            s.spawn_with("part", (seat, hub.clone()), async |_cx, (mut seat, hub)| {
                for round in 1..=ROUNDS {
                    hub.0.fetch_add(1, Ordering::SeqCst);
                    let arrived = seat.wait().await?;
                    assert_eq!(arrived.round, 2 * round - 1);
                    assert_eq!(hub.0.load(Ordering::SeqCst), round * SEATS as u64);
                    hub.1.fetch_add(u64::from(arrived.leads), Ordering::SeqCst);
                    seat.wait().await?; // before the next is counted
                }
                seat.leave();
                Ok(())
            });
        }
        Ok::<_, Cancelled>(hub.free())
    })
    .await?;
    assert_eq!(leaders.1.load(Ordering::SeqCst), ROUNDS);
    Ok(())
}
