//! Deadlocks that others shipped, each as a program that stands still: what the views say of it while it does, and that it
//! ends with its context. More of these are in `mutex.rs`, `rwlock.rs` and `race.rs`: `CASES.md` has the list.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bowline::{Bound, Cancelled, Mutex, Overflow, ResourceInfo, RwLock, Rx, Tx, contended, scope, timeout};
use support::{parked, poll_once, yield_now};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// How long a test waits before it calls a program stuck. The clock is paused: it costs nothing.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn seen(name: &str) -> ResourceInfo {
    contended().into_iter().find(|seen| seen.name == name).expect("somebody waits for it")
}

/// Starts at the queue `name` and goes from who waits for room in it to who holds its receiver, and to the queue in which that task
/// waits for room. Returns the names on the way if it comes back to the start: a cycle.
fn cycle_from(name: &'static str) -> Option<Vec<&'static str>> {
    let mut way = vec![name];
    loop {
        let queue = seen(way[way.len() - 1]);
        let receiver = queue.ends.iter().find(|end| end.role == "receiver")?.task?;
        let next = contended().into_iter().find(|queue| {
            queue.waiters.iter().any(|waiter| waiter.op == "send" && waiter.task == Some(receiver))
        })?;
        if next.name == name {
            return Some(way);
        }
        assert!(!way.contains(&next.name), "{way:?}");
        way.push(next.name);
    }
}

/// An actor that answers each message of its inbox with two to the next: under load, all inboxes are full.
async fn actor<'t>((inbox, next): (Rx<'t, u32>, Tx<'t, u32>)) -> Result<(), Cancelled> {
    while let Some(message) = inbox.recv().await? {
        next.send(message + 1).await?;
        next.send(message + 1).await?;
    }
    Ok(())
}

/// iroha#3393: actors whose bounded mailboxes form a ring freeze under load. Who waits for whom can be read off, around the ring.
#[bowline::test(start_paused = true)]
async fn a_ring_of_full_mailboxes_can_be_followed_around_and_ends_at_its_deadline() {
    let node = scope("node", async |s| {
        let (to_a, a) = s.queue("consensus", Bound::items(2), Overflow::Block);
        let (to_b, b) = s.queue("storage", Bound::items(2), Overflow::Block);
        let (to_c, c) = s.queue("network", Bound::items(2), Overflow::Block);
        to_a.send(0).await?;
        s.spawn_with("consensus", (a, to_b), async |_cx, ends| actor(ends).await);
        s.spawn_with("storage", (b, to_c), async |_cx, ends| actor(ends).await);
        s.spawn_with("network", (c, to_a), async |_cx, ends| actor(ends).await);
        sleep(SECOND).await;
        assert_eq!(cycle_from("consensus"), Some(vec!["consensus", "storage", "network"]));
        Ok::<_, Cancelled>(())
    });
    let late = timeout(FOR_EVER, node).await;
    assert!(matches!(late, Ok(Err(late)) | Err(late) if late.is_deadline()));
    assert!(contended().iter().all(|queue| !["consensus", "storage", "network"].contains(&queue.name)));
}

/// smoldot#520: two bounded channels in opposite directions between a service and its worker.
#[bowline::test(start_paused = true)]
async fn two_full_queues_in_opposite_directions_are_a_cycle_of_two() {
    let service = scope("sync service", async |s| {
        let (requests, to_do) = s.queue("requests", Bound::items(1), Overflow::Block);
        let (events, news) = s.queue("events", Bound::items(1), Overflow::Block);
        s.spawn_with("front", (news, requests), async |_cx, (news, requests)| {
            for request in 0..10 {
                requests.send(request).await?; // and reads no news meanwhile
            }
            while news.recv().await?.is_some() {}
            Ok(())
        });
        s.spawn_with("background", (to_do, events), async |_cx, ends| actor(ends).await);
        sleep(SECOND).await;
        assert_eq!(cycle_from("requests"), Some(vec!["requests", "events"]));
        s.cancel("seen");
        Ok::<_, Cancelled>(())
    });
    assert_eq!(service.await.unwrap_err().to_string(), "cancelled: seen");
}

/// polkadot#5426: cycles of subsystems are broken by an unbounded channel in each, for want of priorities. One edge with another
/// policy breaks the cycle and keeps its bound: here an urgent lane for answers, which room for requests does not hold up.
#[bowline::test(start_paused = true)]
async fn an_edge_with_a_lane_for_answers_breaks_a_cycle_and_keeps_its_bound() -> Result<(), Cancelled> {
    for urgent in [false, true] {
        let overseer = scope("overseer", async |s| {
            let (ask, asked) = s.queue("asked", Bound::items(1), Overflow::Block);
            let (to_me, inbox) = s.queue("inbox", Bound::items(1).and_urgent(4), Overflow::Block);
            to_me.send(100).await?; // a request of a third subsystem: the lane for requests is full
            s.spawn_with("answers", (asked, to_me), async move |_cx, (asked, to_me)| {
                while let Some(request) = asked.recv().await? {
                    if urgent {
                        to_me.send_urgent(request).await?;
                    } else {
                        to_me.send(request).await?;
                    }
                }
                Ok(())
            });
            let mut answers = 0;
            for request in 0..4 {
                ask.send(request).await?;
            }
            drop(ask);
            while let Some(message) = inbox.recv().await? {
                answers += u32::from(message < 100);
            }
            Ok::<_, Cancelled>(answers)
        });
        match timeout(FOR_EVER, overseer).await {
            Ok(Ok(answers)) => assert!(urgent && answers == 4, "{answers}"),
            Ok(Err(late)) | Err(late) => assert!(!urgent && late.is_deadline(), "{late}"),
        }
    }
    Ok(())
}

/// rapid-gossip-sync-server#32: a blocking send into a full channel from every worker thread; the task that would receive is never
/// scheduled. A queue has no send that blocks a thread: one thread is enough for any number of senders and their receiver.
#[bowline::test]
async fn senders_of_a_full_queue_leave_the_thread_to_its_receiver() -> Result<(), Cancelled> {
    let received = scope("gossip", async |s| {
        let (tx, rx) = s.queue("messages", Bound::items(1), Overflow::Block);
        for _ in 0..20 {
            s.spawn_with("router", tx.clone(), async |_cx, tx| {
                for message in 0..10_u32 {
                    if let Err(full) = tx.try_send(message) {
                        tx.send(full.into_inner()).await?;
                    }
                }
                Ok(())
            });
        }
        drop(tx);
        let persister = s.spawn_with("persister", rx, async |_cx, rx| {
            let mut received = 0;
            while rx.recv().await?.is_some() {
                received += 1;
            }
            Ok(received)
        });
        persister.await
    });
    assert_eq!(received.await?, 200);
    Ok(())
}

/// vector#25330: at a reload the source's pump waits for the new sink, which is connected when the old sink has ended, which ends
/// when the pump has let go of it: every source stands still. The fix bounds the wait for the old sink; here any wait can be bounded.
#[bowline::test(start_paused = true)]
async fn a_reload_that_waits_in_a_circle_shows_all_three_waits_and_ends_with_its_bound()
-> Result<(), Cancelled> {
    scope("topology", async |s| {
        let (events, old_sink) = s.queue::<u32>("old sink", Bound::items(4), Overflow::Block);
        let (control, changes) = s.queue("control", Bound::items(1), Overflow::Block);
        let sink = s.spawn_with("old sink", old_sink, async |_cx, events| {
            while events.recv().await?.is_some() {}
            Ok("drained")
        });
        let pump = s.spawn_with("pump", (events, changes), async |_cx, (events, changes)| {
            events.send(1).await?;
            let _replacement = changes.recv().await?; // paused: it sends nothing, and keeps its end meanwhile
            drop(events);
            Ok("released")
        });
        let reload = s.spawn_with("reload", control, async move |_cx, control| {
            let drained = timeout(30 * SECOND, sink).await;
            control.send("replace").await?;
            Ok(drained)
        });
        sleep(SECOND).await;
        let tree = bowline::tree().to_string();
        for (task, waits) in [
            ("old sink #", "waiting to recv"),
            ("pump #", "waiting to recv"),
            ("reload #", "waiting to join"),
        ] {
            let line = tree.lines().find(|line| line.trim_start().starts_with(task)).expect(&tree);
            assert!(line.contains(waits), "{tree}");
        }
        assert!(matches!(reload.await?, Ok(Err(late)) | Err(late) if late.is_deadline()));
        assert_eq!(pump.await?, "released");
        Ok(())
    })
    .await
}

/// neon#12875: a read guard is returned to the caller, who keeps it while it talks to the network; a writer waits all that time.
/// The place that took the guard is named, and `with_read` has no guard to return.
#[bowline::test(start_paused = true)]
async fn a_guard_kept_over_network_io_is_named_by_the_line_that_took_it() -> Result<(), Cancelled> {
    let config = Arc::new(RwLock::new("config", String::from("peer:80")));
    scope("proxy", async |s| {
        let theirs = Arc::clone(&config);
        let line = line!() + 2;
        s.spawn("talks", async move {
            let peer = theirs.read().await?;
            sleep(60 * SECOND).await; // connects to `peer`
            drop(peer);
            Ok(())
        });
        let theirs = Arc::clone(&config);
        let writer = s.spawn("reloads", async move { theirs.with_write(String::clear).await });
        sleep(SECOND).await;
        let lock = seen("config");
        assert_eq!((lock.waiters.len(), lock.waiters[0].op), (1, "write"));
        let [holder] = &lock.holders[..] else { panic!("{lock:?}") };
        assert!(holder.place.ends_with(&format!("tests/cases_locks.rs:{line}")), "{}", holder.place);
        writer.await
    })
    .await?;

    let began = tokio::time::Instant::now();
    scope("proxy", async |s| {
        let theirs = Arc::clone(&config);
        s.spawn("talks", async move {
            let _peer = theirs.with_read(String::clone).await?;
            sleep(60 * SECOND).await;
            Ok(())
        });
        yield_now(2).await;
        config.with_write(|peer| peer.push_str("peer:81")).await?;
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody holds it");
        Ok(())
    })
    .await
}

/// lighthouse#6412: thread A reads the block cache, thread B asks to write, thread A reads again; it took a debugger on the stacks of
/// all threads to find out. The same from the program itself: two waiters of one lock, and one of them holds it.
#[bowline::test(start_paused = true)]
async fn who_reads_again_behind_a_writer_is_found_without_a_debugger() -> Result<(), Cancelled> {
    let cache = Arc::new(RwLock::new("block cache", 0));
    scope("beacon node", async |s| {
        let theirs = Arc::clone(&cache);
        let reader = s.spawn("produce block", async move {
            let first = theirs.read().await?;
            yield_now(2).await;
            let second = timeout(SECOND, theirs.read()).await;
            drop(first);
            Ok(matches!(second, Ok(Err(late)) | Err(late) if late.is_deadline()))
        });
        let theirs = Arc::clone(&cache);
        let writer = s.spawn("prune blocks", async move { theirs.with_write(|blocks| *blocks += 1).await });
        let ids = (reader.id(), writer.id());
        sleep(SECOND / 2).await;
        let lock = seen("block cache");
        let waiters: Vec<_> = lock.waiters.iter().map(|waiter| (waiter.task, waiter.op)).collect();
        assert_eq!(waiters, [(ids.1, "write"), (ids.0, "read")]);
        assert_eq!(lock.holders.iter().map(|holder| holder.task).collect::<Vec<_>>(), [ids.0], "itself");
        assert!(reader.await?, "its second wait ends at its deadline");
        writer.await
    })
    .await?;
    assert_eq!(cache.with_read(|blocks| *blocks).await?, 1);
    Ok(())
}

/// omicron#4931: a ticket that fails to become an instance terminates itself in its drop, which locks the map of instances that the
/// creator holds: no instance is created any more. A drop cannot wait for this lock: it finds it taken, and leaves a note.
#[bowline::test(start_paused = true)]
async fn a_drop_that_locks_what_its_owner_holds_does_not_wait() -> Result<(), Cancelled> {
    struct Ticket {
        id: u32,
        instances: Arc<Mutex<Vec<u32>>>,
        terminated: bowline::FreeTx<u32>,
    }
    impl Drop for Ticket {
        fn drop(&mut self) {
            match self.instances.try_lock() {
                Some(mut instances) => instances.retain(|id| *id != self.id),
                None => self.terminated.try_send(self.id).expect("the sled agent has room for a note"),
            }
        }
    }
    scope("sled agent", async |s| {
        let instances = Arc::new(Mutex::new("instances", Vec::new()));
        let (terminated, notes) = s.queue("terminated", Bound::items(8), Overflow::Reject);
        let terminated = terminated.free();
        for id in 0..3 {
            let mut managed = timeout(SECOND, instances.lock()).await.expect("it is free again")?;
            managed.push(id);
            let ticket = Ticket { id, instances: Arc::clone(&instances), terminated: terminated.clone() };
            drop(ticket); // its host name is not valid
            drop(managed);
            while let Ok(id) = notes.try_recv() {
                instances.with(|managed| managed.retain(|managed| *managed != id)).await?;
            }
        }
        assert!(instances.with(|managed| managed.is_empty()).await?);

        // Written as a wait, it stands still in sight: the one that waits is the one that holds.
        let managed = instances.lock_in(s.cx()).await?;
        let mut terminate = parked(instances.lock()).await;
        let lock = seen("instances");
        assert_eq!(
            (lock.waiters[0].task, lock.holders[0].task),
            (Some(s.cx().task_id()), Some(s.cx().task_id()))
        );
        drop(managed);
        assert!(poll_once(&mut terminate).await.is_ready());
        Ok(())
    })
    .await
}

/// quickwit#4070: a test does not end in about half of its runs; the two tasks that hang were found with a console: one waits for the
/// next fetch response, the other, which would send it, for `changed()`. Both are seen here, and both end when the source does.
#[bowline::test(start_paused = true)]
async fn a_fetch_stream_ends_with_the_shard_whose_changes_it_waits_for() -> Result<(), Cancelled> {
    scope("ingester", async |s| {
        let (records, new_records) = s.watch("new records", 0_u64);
        let (respond, responses) = s.queue("responses", Bound::items(1), Overflow::Block);
        let shard = records.free();
        let consumer = s.spawn_with("source", responses, async |_cx, responses| {
            let mut last = 0;
            while let Some(position) = responses.recv().await? {
                last = position;
            }
            Ok(last)
        });
        let ends = (new_records, respond);
        s.spawn_with("fetch stream", ends, async |_cx, (mut new_records, respond)| {
            while let Ok(()) = new_records.changed().await {
                respond.send(new_records.with(|position| *position)).await?;
            }
            bowline::check() // `Ok` if it was the shard that ended
        });
        shard.send(7);
        sleep(SECOND).await;
        let tree = bowline::tree().to_string();
        for (task, waits) in [("source #", "waiting to recv"), ("fetch stream #", "waiting for a change")] {
            let line = tree.lines().find(|line| line.trim_start().starts_with(task)).expect(&tree);
            assert!(line.contains(waits), "{tree}");
        }
        drop(shard);
        let last = tokio::time::timeout(FOR_EVER, consumer).await.expect("it ends");
        assert_eq!(last?, 7);
        Ok(())
    })
    .await
}

/// centrifugo#207: millions of goroutines wait for one lock that somebody has taken and does not give back. The crowd is one entry,
/// with the line that holds it up; cancelled, all of it goes.
#[bowline::test(start_paused = true)]
async fn a_crowd_at_one_lock_is_one_entry_with_the_line_that_holds_it_up() {
    const CROWD: usize = 10_000;
    let lock = Arc::new(Mutex::new("connection", ()));
    let hub = scope("hub", async |s| {
        let theirs = Arc::clone(&lock);
        let line = line!() + 2;
        s.spawn("stuck", async move {
            let _held = theirs.lock().await?;
            std::future::pending::<Result<(), Cancelled>>().await
        });
        yield_now(1).await;
        for _ in 0..CROWD {
            let theirs = Arc::clone(&lock);
            s.spawn("unsubscribe", async move { theirs.lock().await.map(drop) });
        }
        sleep(SECOND).await;
        let seen = seen("connection");
        assert_eq!(seen.waiters.len(), CROWD);
        assert!(seen.holders[0].place.ends_with(&format!("tests/cases_locks.rs:{line}")), "{seen:?}");
        s.cancel("seen");
        Ok::<_, Cancelled>(())
    });
    hub.await.unwrap_err();
    assert!(lock.try_lock().is_some() && lock.stats().waiters.is_empty());
}
