//! The code of the book's chapter "A short tour", compiled and run. `book.rs` sees to it that the chapter prints these regions.

use std::time::Duration;

use bowline::Cancelled;

/// What the tour is about: somebody else's shops, some of which are slow or refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shop {
    name: &'static str,
    answers_after: Option<Duration>,
    cents: u32,
}

const SHOPS: [Shop; 3] = [
    Shop { name: "corner", answers_after: Some(Duration::from_millis(20)), cents: 900 },
    Shop { name: "harbour", answers_after: Some(Duration::from_millis(80)), cents: 700 },
    Shop { name: "sunken", answers_after: None, cents: 1 },
];

impl Shop {
    async fn ask(self) -> Result<u32, Cancelled> {
        match self.answers_after {
            Some(time) => bowline::sleep(time).await?,
            None => std::future::pending().await,
        }
        Ok(self.cents)
    }
}

// ANCHOR: scope
use bowline::scope;

async fn sum_of_two(left: Shop, right: Shop) -> Result<u32, Cancelled> {
    scope("sum", async |s| {
        let left = s.spawn("left", left.ask());
        let right = s.spawn("right", right.ask());
        Ok(left.await? + right.await?)
    })
    .await
}
// ANCHOR_END: scope

// ANCHOR: deadline
use bowline::{CollectAll, group, timeout};

async fn cheapest(shops: Vec<Shop>) -> Result<Option<u32>, Cancelled> {
    let asked = group("shops", CollectAll, async |g| {
        for shop in shops {
            g.spawn(shop.name, shop.ask());
        }
    });
    let answers = timeout(Duration::from_millis(200), asked).await?;
    Ok(answers.into_ok().min()) // of those that came in time; the others are gone, not forgotten
}
// ANCHOR_END: deadline

// ANCHOR: queue
use bowline::{Bound, Overflow};

async fn count_cheap(shops: Vec<Shop>) -> Result<usize, Cancelled> {
    scope("cheap", async |s| {
        let (tx, rx) = s.queue("prices", Bound::items(8), Overflow::Block);
        for shop in shops {
            s.spawn_with(shop.name, tx.clone(), async move |_cx, tx| Ok(tx.send(shop.ask().await?).await?));
        }
        drop(tx); // the shops have theirs; with the last of them the loop ends
        let mut cheap = 0;
        while let Some(cents) = rx.recv().await? {
            cheap += usize::from(cents < 800);
        }
        Ok(cheap)
    })
    .await
}
// ANCHOR_END: queue

// ANCHOR: pool
use bowline::{Pool, SubmitError, Workers};

async fn take_orders(orders: impl IntoIterator<Item = u32>) -> Result<(u64, u32), Cancelled> {
    scope("orders", async |s| {
        let packers = Pool::new("packers", Workers::fixed(2), Bound::items(10), Overflow::Reject)
            .job_timeout(Duration::from_secs(5))
            .start(s, async |order: u32| pack(order).await);
        let mut refused = 0;
        for order in orders {
            match packers.try_submit(order) {
                Ok(()) => {}
                Err(SubmitError::Full(_order)) => refused += 1, // told at once; the order came back
                Err(other) => return Err(other.into()),
            }
        }
        packers.drain().await?;
        Ok((packers.stats().completed, refused))
    })
    .await
}
// ANCHOR_END: pool

async fn pack(_order: u32) {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

// ANCHOR: shutdown
use bowline::until_draining;
use tokio::net::{TcpListener, TcpStream};

async fn serve(listener: TcpListener) -> Result<(), Cancelled> {
    scope("connections", async |s| {
        while let Some(Ok((socket, _))) = until_draining(listener.accept()).await {
            s.spawn("connection", greet(socket));
        }
        Ok(()) // the scope waits for those that are being served
    })
    .await
}
// ANCHOR_END: shutdown

async fn greet(mut socket: TcpStream) -> Result<(), Cancelled> {
    use tokio::io::AsyncWriteExt as _;
    let _ = socket.write_all(b"ahoy\n").await;
    Ok(())
}

// ANCHOR: test
#[bowline::test(start_paused = true, schedules = 20)]
async fn a_shop_that_never_answers_costs_no_more_than_the_deadline() {
    let began = tokio::time::Instant::now();
    assert_eq!(cheapest(SHOPS.to_vec()).await.unwrap(), Some(700));
    assert!(began.elapsed() < Duration::from_millis(210));
}
// ANCHOR_END: test

#[bowline::test(start_paused = true)]
async fn two_tasks_run_at_the_same_time() {
    let began = tokio::time::Instant::now();
    assert_eq!(sum_of_two(SHOPS[0], SHOPS[1]).await.unwrap(), 1_600);
    assert!(began.elapsed() < Duration::from_millis(90)); // not 100, the sum
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn prices_go_through_a_queue() {
    assert_eq!(count_cheap(SHOPS[..2].to_vec()).await.unwrap(), 1);
}

#[bowline::test]
async fn a_full_pool_refuses() {
    let (done, refused) = take_orders(0..100).await.unwrap();
    assert!(refused > 0 && done + u64::from(refused) == 100, "{done} done, {refused} refused");
}

#[bowline::test]
async fn who_is_being_served_is_served_to_the_end() {
    use tokio::io::AsyncReadExt as _;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = async {
        let mut greeting = String::new();
        TcpStream::connect(address).await.unwrap().read_to_string(&mut greeting).await.unwrap();
        assert_eq!(greeting, "ahoy\n");
        bowline::shut_down("greeted");
    };
    let (served, ()) = tokio::join!(serve(listener), client);
    served.unwrap();
}
