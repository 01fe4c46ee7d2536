//! A bounded pool of byte buffers: they come back, they are never more than stated, and who keeps them is named.

use std::collections::HashSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::testing::poll_once;
use bowline::{BufferFull, Buffers, Cancelled, TakeError, buffers, join, on_alert, scope, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[bowline::test]
async fn a_buffer_begins_empty_and_does_not_grow() {
    let pool = Buffers::new("read", 8, 1);
    let mut buffer = pool.take().await.unwrap();
    assert!(buffer.is_empty() && buffer.capacity() == 8 && buffer.room().len() == 8);
    buffer.append(b"sheet").unwrap();
    assert_eq!(buffer.append(b"bend"), Err(BufferFull { wanted_bytes: 4, room_bytes: 3 }));
    assert_eq!(&buffer[..], b"sheet", "nothing was appended");
    assert!(buffer.write_all(b"bend").is_err(), "what fits was written");
    assert_eq!(&buffer[..], b"sheetben");
    buffer.truncate(2);
    assert_eq!(buffer.room().len(), 6);
    buffer.room()[0] = b'!';
    buffer.advance(1);
    assert_eq!(&buffer[..], b"sh!");
    drop(buffer);
    let again = pool.take().await.unwrap();
    assert!(again.is_empty(), "what an earlier holder left is not there to be read");
}

#[bowline::test]
async fn more_cannot_be_taken_in_than_there_is_room() {
    let pool = Buffers::new("read", 8, 1);
    let mut buffer = pool.take().await.unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| buffer.advance(9))).is_err());
    assert!(buffer.is_empty());
}

#[bowline::test]
async fn memory_is_allocated_when_it_is_needed_and_used_again() {
    let pool = Buffers::new("read", 1024, 4);
    assert_eq!(pool.stats().resident_bytes, 0);
    for _ in 0..1_000 {
        let _one = pool.take().await.unwrap();
        let _other = pool.try_take().unwrap();
    }
    let stats = pool.stats();
    assert_eq!((stats.taken, stats.allocated, stats.high_water), (2_000, 2, 2));
    assert_eq!((stats.held, stats.idle, stats.resident_bytes), (0, 2, 2 * 1024));
}

#[bowline::test(schedules = 50)]
async fn there_are_never_more_than_stated_and_all_come_back() {
    const COUNT: usize = 3;
    let pool = Buffers::new("read", 16, COUNT);
    let taken = scope("peers", async |s| {
        for peer in 0..10 {
            let pool = pool.clone();
            s.spawn("peer", async move {
                for _ in 0..5 {
                    let buffer = pool.take().await?;
                    let stats = pool.stats();
                    assert!(stats.held + stats.idle <= COUNT, "{stats:?}");
                    tokio::task::yield_now().await;
                    if peer % 3 == 0 {
                        return Ok(()); // gone early, with the buffer in its hands
                    }
                    drop(buffer);
                }
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    });
    taken.await.unwrap();
    let stats = pool.stats();
    assert_eq!((stats.held, stats.waiting), (0, 0));
    assert!(stats.allocated <= COUNT as u64, "{stats:?}");
}

#[bowline::test(allow_panics)]
async fn a_buffer_comes_back_from_a_panic_and_from_a_cancel() {
    let pool = Buffers::new("read", 16, 1);
    let holder = pool.clone();
    let panicked = scope("peer", async move |s| {
        s.spawn::<(), _>("parse", async move {
            let _buffer = holder.take().await?;
            panic!("bad input");
        });
        Ok::<_, Cancelled>(())
    });
    assert!(bowline::join(async { catch(panicked).await }, async {}).await.0);
    assert_eq!(pool.stats().held, 0);

    let holder = pool.clone();
    let cancelled = timeout(Duration::from_millis(1), async move {
        let _buffer = holder.take().await?;
        std::future::pending::<Result<(), TakeError>>().await
    });
    assert!(cancelled.await.is_err());
    assert_eq!(pool.stats().held, 0);
    assert!(pool.try_take().is_some());
}

/// Whether the future panics.
async fn catch(future: impl Future) -> bool {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(|_| false),
        Err(_) => std::task::Poll::Ready(true),
    })
    .await
}

#[bowline::test]
async fn buffers_are_handed_out_in_the_order_of_the_line() {
    let pool = Buffers::new("read", 16, 1);
    let held = pool.take().await.unwrap();
    let mut first = Box::pin(pool.take());
    let mut second = Box::pin(pool.take());
    assert!(poll_once(&mut first).await.is_pending() && poll_once(&mut second).await.is_pending());
    drop(held);
    assert!(pool.try_take().is_none(), "it is promised to the first in line");
    assert!(poll_once(&mut second).await.is_pending());
    drop(first); // what was granted to it goes to the next
    assert!(poll_once(&mut second).await.is_ready());
}

#[bowline::test(start_paused = true)]
async fn who_keeps_the_buffers_is_named_to_who_waited_in_vain() {
    let pool = Buffers::new("read", 16, 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let _hook = on_alert(move |alert| tell.lock().unwrap().push(alert.to_string()));
    scope("server", async |s| {
        let (gives, taken) = tokio::sync::oneshot::channel();
        let holding = pool.clone();
        let holder = s.spawn::<(), _>("slow peer", async move {
            let _buffer = holding.take().await?;
            gives.send(()).unwrap();
            Err(bowline::cancelled().await)
        });
        taken.await.unwrap();
        let task = holder.id();
        let late = timeout(5 * SECOND, pool.take()).await.unwrap().unwrap_err();
        let text = late.to_string();
        let TakeError::Deadline { name: "read", waited, holders } = late else { panic!("{late:?}") };
        assert!(waited >= 5 * SECOND && waited < 6 * SECOND);
        assert_eq!((holders.len(), holders[0].task), (1, task));
        assert!(holders[0].place.contains("buffers.rs"), "{holders:?}");
        assert!(text.starts_with("no buffer of `read` came back within 500"), "{text}");
        assert!(text.contains(" ms: held by task #") && text.contains("taken at crates"), "{text}");
        assert_eq!(pool.stats().holders[0].task, task);
        holder.cancel("seen");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("buffer held: `read`"), "{told:?}");
    assert!(told[0].contains("1 wait for one of 1 buffers: held by task #"), "{told:?}");
}

#[bowline::test(start_paused = true)]
async fn what_a_burst_needed_beyond_is_given_back_after_half_a_minute() {
    let pool = Buffers::new("read", 1024, 10);
    let burst: Vec<_> = (0..10).map(|_| pool.try_take().unwrap()).collect();
    drop(burst);
    assert_eq!(pool.stats().resident_bytes, 10 * 1024);
    for _ in 0..29 {
        drop(pool.take().await.unwrap());
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(pool.stats().idle, 10);
    for _ in 0..10 {
        drop(pool.take().await.unwrap());
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(pool.stats().idle, 1, "one is used all the time");
    assert_eq!(pool.stats().allocated, 10);
}

#[bowline::test]
async fn a_frozen_buffer_is_one_memory_and_comes_back_when_the_last_queue_lets_go() {
    let pool = Buffers::new("publications", 64, 1);
    let mut buffer = pool.take().await.unwrap();
    buffer.append(b"to everybody").unwrap();
    let lies_at = buffer.as_ptr();
    let payload = buffer.freeze();
    let subscribers: Vec<bytes::Bytes> = (0..1_000).map(|_| payload.clone()).collect();
    let piece = payload.slice(3..);
    drop(payload);
    assert!(subscribers.iter().all(|payload| payload.as_ptr() == lies_at && **payload == *b"to everybody"));
    assert_eq!(pool.stats().held, 1);
    drop(subscribers);
    assert_eq!((pool.stats().held, &*piece), (1, &b"everybody"[..]), "a slice holds it too");
    drop(piece);
    assert_eq!((pool.stats().held, pool.stats().idle), (0, 1));
}

#[bowline::test]
async fn ten_thousand_payloads_lie_in_the_memory_of_as_many_as_were_held_at_once() {
    const HELD: usize = 4;
    let pool = Buffers::new("publications", 64 * 1024, 16);
    let mut places = HashSet::new();
    for payload in 0..10_000_u32 {
        let mut held = Vec::with_capacity(HELD);
        for _ in 0..HELD {
            held.push(pool.take().await.unwrap());
        }
        let mut last = held.pop().unwrap();
        last.append(&payload.to_le_bytes()).unwrap();
        places.extend(held.iter().chain([&last]).map(|buffer| buffer.as_ptr()));
        let last = last.freeze();
        drop((held, last.clone(), last));
    }
    assert_eq!(places.len(), HELD);
    assert_eq!(pool.stats().allocated, HELD as u64);
}

#[bowline::test]
async fn a_pool_is_in_the_list_while_anybody_has_a_handle_or_a_buffer() {
    let pool = Buffers::new("of this test alone", 64, 2);
    let named = || buffers().into_iter().filter(|stats| stats.name == "of this test alone").count();
    let (buffer, other) = join(pool.take(), pool.take()).await;
    drop((pool, other));
    assert_eq!(named(), 1);
    drop(buffer);
    assert_eq!(named(), 0);
}
