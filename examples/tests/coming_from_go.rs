//! The Rust code of the book's chapter "Coming from Go", compiled and run.
//!
//! `book.rs` sees to it that the chapter prints these regions and no others. Each module is a section of the chapter.

mod context {
    // ANCHOR: context
    use std::time::Duration;

    use bowline::{Cancelled, sleep, timeout};

    async fn page(user: &str) -> Result<String, Cancelled> {
        timeout(Duration::from_secs(1), fetch(user)).await?
    }

    async fn fetch(user: &str) -> Result<String, Cancelled> {
        sleep(Duration::from_millis(10)).await?; // ends early if the context does
        Ok(format!("the page of {user}"))
    }
    // ANCHOR_END: context

    #[bowline::test(start_paused = true)]
    async fn a_deadline_of_the_caller_reaches_the_innermost_wait() {
        assert_eq!(page("ann").await.unwrap(), "the page of ann");
        let late = timeout(Duration::from_millis(5), page("ann")).await.and_then(|page| page);
        assert!(late.unwrap_err().is_deadline());
    }
}

mod values {
    // ANCHOR: values
    use bowline::{value, with_value};

    struct RequestId(u64);

    async fn handle(id: u64) -> String {
        with_value(RequestId(id), log("charged")).await
    }

    async fn log(what: &str) -> String {
        match value::<RequestId>() {
            Some(id) => format!("request {}: {what}", id.0),
            None => what.to_owned(),
        }
    }
    // ANCHOR_END: values

    #[bowline::test]
    async fn a_value_goes_down_the_calls() {
        assert_eq!(handle(7).await, "request 7: charged");
        assert_eq!(log("idle").await, "idle");
    }
}

mod without_cancel {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    // ANCHOR: shielded
    use bowline::{Cancelled, shielded, sleep};

    async fn session(said_goodbye: Arc<AtomicBool>) -> Result<(), Cancelled> {
        let ended = sleep(Duration::from_secs(3600)).await; // the session; cancelled, it ends with an error
        let goodbye = async {
            sleep(Duration::from_millis(10)).await?; // the cancel is not felt in here
            said_goodbye.store(true, Ordering::Relaxed);
            Ok::<_, Cancelled>(())
        };
        shielded(Duration::from_secs(1), goodbye).await??; // but for a second at most
        ended
    }
    // ANCHOR_END: shielded

    #[bowline::test(start_paused = true)]
    async fn a_cancelled_session_says_goodbye() {
        let said_goodbye = Arc::new(AtomicBool::new(false));
        let ended = bowline::timeout(Duration::from_secs(1), session(Arc::clone(&said_goodbye))).await;
        assert!(ended.and_then(|ended| ended).is_err());
        assert!(said_goodbye.load(Ordering::Relaxed));
    }
}

mod errgroup {
    // ANCHOR: errgroup
    use bowline::{FailFast, map};

    async fn fetch_all(urls: Vec<String>) -> anyhow::Result<Vec<String>> {
        map("fetch", FailFast.at_most(8), urls, fetch).await.all_ok()
    }
    // ANCHOR_END: errgroup

    // ANCHOR: errgroup-different
    use bowline::scope;

    struct Profile {
        name: String,
        posts: u32,
    }

    async fn profile(user: u64) -> anyhow::Result<Profile> {
        scope("profile", async |s| {
            let name = s.spawn("name", name_of(user));
            let posts = s.spawn("posts", posts_of(user));
            Ok(Profile { name: name.await?, posts: posts.await? })
        })
        .await
    }
    // ANCHOR_END: errgroup-different

    // ANCHOR: errgroup-collect
    use bowline::CollectAll;

    async fn fetch_what_can_be_had(urls: Vec<String>) -> (Vec<String>, usize) {
        let outcome = map("fetch", CollectAll.at_most(8), urls, fetch).await;
        let failed = outcome.counts().failed as usize;
        (outcome.into_ok().collect(), failed)
    }
    // ANCHOR_END: errgroup-collect

    async fn fetch(url: String) -> anyhow::Result<String> {
        anyhow::ensure!(url.starts_with("https://"), "not fetched: {url}");
        Ok(format!("body of {url}"))
    }

    async fn name_of(user: u64) -> anyhow::Result<String> {
        Ok(format!("user{user}"))
    }

    async fn posts_of(user: u64) -> anyhow::Result<u32> {
        anyhow::ensure!(user != 0, "there is no user 0");
        Ok(3)
    }

    fn urls(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|&url| url.to_owned()).collect()
    }

    #[bowline::test]
    async fn results_come_in_order_and_the_first_error_wins() {
        let bodies = fetch_all(urls(&["https://a", "https://b"])).await.unwrap();
        assert_eq!(bodies, ["body of https://a", "body of https://b"]);
        assert!(fetch_all(urls(&["https://a", "ftp://b"])).await.is_err());
    }

    #[bowline::test]
    async fn different_tasks_have_results_of_different_types() {
        let profile_of_7 = profile(7).await.unwrap();
        assert_eq!((profile_of_7.name.as_str(), profile_of_7.posts), ("user7", 3));
        let error = profile(0).await.err().unwrap();
        assert_eq!(error.to_string(), "there is no user 0");
    }

    #[bowline::test]
    async fn what_could_be_had_is_not_thrown_away() {
        let had = fetch_what_can_be_had(urls(&["https://a", "ftp://b", "https://c"])).await;
        assert_eq!(had, (vec!["body of https://a".to_owned(), "body of https://c".to_owned()], 1));
    }
}

mod wait_group {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    // ANCHOR: waitgroup
    use bowline::{Cancelled, scope};

    async fn flush_all(shards: Vec<Shard>) -> Result<(), Cancelled> {
        scope("flush", async |s| {
            for shard in shards {
                s.spawn("shard", shard.flush());
            }
            Ok(())
        })
        .await // here all of them are gone
    }
    // ANCHOR_END: waitgroup

    struct Shard(Arc<AtomicU32>);

    impl Shard {
        async fn flush(self) -> Result<(), Cancelled> {
            tokio::task::yield_now().await;
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[bowline::test(schedules = 20)]
    async fn a_scope_waits_for_everybody() {
        let flushed = Arc::new(AtomicU32::new(0));
        flush_all((0..5).map(|_| Shard(Arc::clone(&flushed))).collect()).await.unwrap();
        assert_eq!(flushed.load(Ordering::Relaxed), 5);
    }
}

mod channels {
    // ANCHOR: channel
    use bowline::{Bound, Cancelled, Overflow, scope};

    async fn letters(words: Vec<&'static str>) -> Result<usize, Cancelled> {
        scope("letters", async |s| {
            let (tx, rx) = s.queue("words", Bound::items(16), Overflow::Block);
            s.spawn_with("read", tx, async move |_cx, tx| {
                for word in words {
                    tx.send(word).await?;
                }
                Ok(()) // `tx` ends here, and with the last sender the queue
            });
            let mut letters = 0;
            while let Some(word) = rx.recv().await? {
                letters += word.len();
            }
            Ok(letters)
        })
        .await
    }
    // ANCHOR_END: channel

    // ANCHOR: receiver-leaves
    async fn first(words: Vec<&'static str>) -> Result<Option<&'static str>, Cancelled> {
        scope("first", async |s| {
            let (tx, rx) = s.queue("words", Bound::items(1), Overflow::Block);
            s.spawn_with("read", tx, async move |_cx, tx| {
                for word in words {
                    if tx.send(word).await.is_err() {
                        break; // nobody receives any more; the error has the word
                    }
                }
                Ok(())
            });
            let first = rx.recv().await?;
            drop(rx);
            Ok(first)
        })
        .await
    }
    // ANCHOR_END: receiver-leaves

    // ANCHOR: unbuffered
    async fn hand_over() -> Result<u32, Cancelled> {
        scope("relay", async |s| {
            let (tx, rx) = s.rendezvous("baton");
            s.spawn_with("first runner", tx, async |_cx, tx| {
                tx.send(7).await?; // returns when the second runner has it
                Ok(())
            });
            Ok(rx.recv().await?.unwrap_or_default())
        })
        .await
    }
    // ANCHOR_END: unbuffered

    #[bowline::test(schedules = 20, capacity_one)]
    async fn a_queue_ends_with_its_last_sender() {
        assert_eq!(letters(vec!["sheet", "bend"]).await.unwrap(), 9);
        assert_eq!(letters(vec![]).await.unwrap(), 0);
    }

    #[bowline::test(schedules = 20)]
    async fn a_sender_is_told_that_nobody_receives_any_more() {
        assert_eq!(first(vec!["reef", "clove", "rolling"]).await.unwrap(), Some("reef"));
    }

    #[bowline::test(schedules = 20)]
    async fn a_rendezvous_hands_over() {
        assert_eq!(hand_over().await.unwrap(), 7);
    }
}

mod select {
    use std::time::Duration;

    use bowline::{Bound, Overflow, scope};

    // ANCHOR: select
    use bowline::{Cancelled, Either, Rx, race, sleep_until};
    use tokio::time::Instant;

    async fn collect(jobs: Rx<'_, u32>, mut flush: impl FnMut(Vec<u32>)) -> Result<(), Cancelled> {
        let mut batch = Vec::new();
        let mut next_flush = Instant::now() + Duration::from_secs(1);
        loop {
            match race(sleep_until(next_flush), jobs.recv()).await {
                Either::Left(due) => {
                    due?;
                    flush(std::mem::take(&mut batch));
                    next_flush += Duration::from_secs(1);
                }
                Either::Right(job) => match job? {
                    Some(job) => batch.push(job),
                    None => break flush(batch),
                },
            }
        }
        Ok(())
    }
    // ANCHOR_END: select

    // ANCHOR: nil
    use bowline::merge;

    async fn sum_of_both(left: Rx<'_, u32>, right: Rx<'_, u32>) -> Result<u32, Cancelled> {
        let mut both = merge(left.into_stream(), right.into_stream());
        let mut sum = 0;
        while let Some(item) = both.next().await? {
            sum += item?;
        }
        Ok(sum) // both have ended
    }
    // ANCHOR_END: nil

    #[bowline::test(start_paused = true)]
    async fn a_batch_leaves_every_second_and_the_rest_at_the_end() {
        let mut batches = Vec::new();
        scope("batches", async |s| {
            let (tx, rx) = s.queue("jobs", Bound::items(4), Overflow::Block);
            s.spawn_with("jobs", tx, async |_cx, tx| {
                for (job, at_ms) in [(1, 100), (2, 200), (3, 1_000)] {
                    bowline::sleep(Duration::from_millis(at_ms)).await?;
                    tx.send(job).await?;
                }
                Ok(())
            });
            collect(rx, |batch| batches.push(batch)).await
        })
        .await
        .unwrap();
        assert_eq!(batches, [vec![1, 2], vec![3]]);
    }

    #[bowline::test(schedules = 20)]
    async fn merged_queues_end_when_both_have() {
        let sum = scope("sum", async |s| {
            let (left_tx, left) = s.queue("left", Bound::items(1), Overflow::Block);
            let (right_tx, right) = s.queue("right", Bound::items(1), Overflow::Block);
            s.spawn_with("left", left_tx, async |_cx, tx| {
                for n in 1..=3 {
                    tx.send(n).await?;
                }
                Ok(())
            });
            s.spawn_with("right", right_tx, async |_cx, tx| Ok(tx.send(10).await?));
            sum_of_both(left, right).await
        })
        .await;
        assert_eq!(sum.unwrap(), 16);
    }
}

mod locks {
    // ANCHOR: mutex
    use std::collections::HashMap;

    use bowline::{Cancelled, Mutex, scope};

    async fn count(words: Vec<&'static str>) -> Result<HashMap<&'static str, u32>, Cancelled> {
        scope("count", async |s| {
            let hits = s.cx().share("hits", Mutex::new("hits", HashMap::new()));
            let tasks = words.into_iter().map(|word| {
                s.spawn_with("hit", hits.clone(), async move |_cx, hits| {
                    hits.with(|hits| *hits.entry(word).or_insert(0) += 1).await
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await?;
            }
            hits.with(std::mem::take).await
        })
        .await
    }
    // ANCHOR_END: mutex

    #[bowline::test(schedules = 20)]
    async fn every_hit_is_counted() {
        let hits = count(vec!["reef", "bend", "reef"]).await.unwrap();
        assert_eq!((hits["reef"], hits["bend"]), (2, 1));
    }
}

mod once {
    // ANCHOR: once
    use std::sync::LazyLock;

    use tokio::sync::OnceCell;

    static LIMITS: LazyLock<Vec<u32>> = LazyLock::new(|| vec![10, 100]); // computed
    static ADDRESS: OnceCell<String> = OnceCell::const_new(); // awaited

    async fn address() -> anyhow::Result<&'static str> {
        Ok(ADDRESS.get_or_try_init(look_up).await?)
    }
    // ANCHOR_END: once

    async fn look_up() -> anyhow::Result<String> {
        static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let calls = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        anyhow::ensure!(calls > 0, "the resolver is not up yet");
        Ok("10.0.0.7".into())
    }

    #[bowline::test]
    async fn a_failed_initialisation_may_be_tried_again() {
        assert!(address().await.is_err());
        assert_eq!(address().await.unwrap(), "10.0.0.7");
        assert_eq!(LIMITS.len(), 2);
    }
}

mod sync_pool {
    // ANCHOR: pool-of-buffers
    use std::io::Write;

    use bowline::{Buffers, TakeError};

    async fn render(buffers: &Buffers, user: &str) -> Result<usize, TakeError> {
        let mut page = buffers.take().await?; // waits if all of them are out
        write!(page, "<h1>{user}</h1>").ok(); // an error: it is full
        Ok(page.len())
    } // dropped: it is back
    // ANCHOR_END: pool-of-buffers

    #[bowline::test]
    async fn a_buffer_comes_back() {
        let buffers = Buffers::new("pages", 16 * 1024, 2);
        for _ in 0..5 {
            assert_eq!(render(&buffers, "ann").await.unwrap(), 12);
        }
        assert_eq!((buffers.stats().held, buffers.stats().idle), (0, 1));
    }
}

mod workers {
    // ANCHOR: workers
    use bowline::{Bound, Cancelled, Overflow, Pool, SubmitError, Workers, scope};

    async fn thumbnails(images: Vec<Image>) -> Result<usize, Cancelled> {
        scope("thumbnails", async |s| {
            let resize = Pool::new("resize", Workers::fixed(4), Bound::items(100), Overflow::Reject)
                .start(s, async |image: Image| image.shrink().await);
            let mut refused = 0;
            for image in images {
                match resize.try_submit(image) {
                    Ok(()) => {}
                    Err(SubmitError::Full(image)) => refused += usize::from(image.is_wanted()),
                    Err(other) => return Err(other.into()),
                }
            }
            Ok(refused)
        }) // the last handle is gone: what was accepted is done, and the workers are gone as well
        .await
    }
    // ANCHOR_END: workers

    struct Image;

    impl Image {
        async fn shrink(self) {
            tokio::task::yield_now().await;
        }

        fn is_wanted(&self) -> bool {
            true
        }
    }

    #[bowline::test]
    async fn a_full_pool_says_so_and_gives_the_job_back() {
        assert_eq!(thumbnails((0..100).map(|_| Image).collect()).await.unwrap(), 0);
        assert!(thumbnails((0..1_000).map(|_| Image).collect()).await.unwrap() > 0);
    }
}

mod ticker {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    // ANCHOR: ticker
    use std::time::Duration;

    use bowline::{Cancelled, Schedule, draining, scope};

    async fn service(sessions: Arc<Sessions>) -> Result<(), Cancelled> {
        scope("service", async |s| {
            let jobs = Schedule::new("jobs", 1)
                .every("sweep", Duration::from_secs(5), async move |_run| sessions.sweep())
                .start(s);
            draining().await;
            jobs.stop().await // a sweep that runs comes to its end
        })
        .await
    }
    // ANCHOR_END: ticker

    #[derive(Default)]
    struct Sessions(AtomicU32);

    impl Sessions {
        fn sweep(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[bowline::test(start_paused = true)]
    async fn a_job_runs_every_so_often_until_the_service_stops() {
        let sessions = Arc::new(Sessions::default());
        scope("test", async |s| {
            s.spawn("service", service(Arc::clone(&sessions)));
            bowline::sleep(Duration::from_secs(12)).await?;
            bowline::shut_down("seen enough");
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
        assert_eq!(sessions.0.load(Ordering::Relaxed), 2);
    }
}

mod leaks {
    // ANCHOR: goleak
    #[bowline::test]
    async fn the_page_is_rendered() {
        assert_eq!(render("ann").await, "<h1>ann</h1>");
    } // a task that is left here fails the test, with its name and the place where it was spawned
    // ANCHOR_END: goleak

    async fn render(user: &str) -> String {
        format!("<h1>{user}</h1>")
    }
}

mod dump {
    // ANCHOR: dump
    fn dump() -> String {
        bowline::tree().to_string() // every task, its age, and what it waits for
    }
    // ANCHOR_END: dump

    #[bowline::test(start_paused = true)]
    async fn the_tree_has_every_task_and_what_it_waits_for() {
        bowline::scope("shop", async |s| {
            s.spawn("mailer", async { bowline::sleep(std::time::Duration::from_secs(9)).await });
            tokio::task::yield_now().await;
            let dump = dump();
            assert!(dump.contains("mailer") && dump.contains("sleep"), "{dump}");
            assert!(dump.contains("coming_from_go.rs"), "{dump}");
            Ok::<_, bowline::Cancelled>(())
        })
        .await
        .unwrap();
    }
}

mod shutdown {
    // ANCHOR: shutdown
    use std::process::ExitCode;
    use std::time::Duration;

    use bowline::{Bound, Cancelled, Overflow, Runner, scope, until_draining};

    fn main() -> ExitCode {
        let (_, report) = Runner::new("shop").shutdown_within(Duration::from_secs(10)).run(serve());
        report.exit_code() // 0 if everybody finished in time, 3 if not; the report names who did not
    }

    async fn serve() -> Result<u32, Cancelled> {
        scope("orders", async |s| {
            let (tx, rx) = s.queue("orders", Bound::items(100), Overflow::Block);
            let packed = s.spawn_with("packer", rx, async |_cx, rx| {
                let mut packed = 0;
                while let Some(order) = rx.recv().await? {
                    packed += pack(order).await;
                }
                Ok(packed)
            });
            while let Some(order) = until_draining(next_order()).await {
                tx.send(order).await?;
            }
            drop(tx); // SIGINT or SIGTERM: nothing new, and what was accepted is packed
            packed.await
        })
        .await
    }
    // ANCHOR_END: shutdown

    async fn next_order() -> u32 {
        use std::sync::atomic::{AtomicU32, Ordering};
        static ORDERS: AtomicU32 = AtomicU32::new(0);
        tokio::task::yield_now().await;
        let order = ORDERS.fetch_add(1, Ordering::Relaxed);
        if order == 50 {
            bowline::shut_down("fifty are enough");
            std::future::pending::<()>().await;
        }
        order
    }

    async fn pack(_order: u32) -> u32 {
        1
    }

    #[test]
    fn what_was_accepted_is_packed_before_the_end() {
        let (packed, report) = Runner::new("shop").without_signals().run(serve());
        assert_eq!(packed.unwrap().unwrap(), 50);
        assert!(report.is_clean());
        let _program: fn() -> ExitCode = main;
    }
}

mod panics {
    // ANCHOR: recover
    use bowline::{CollectAll, Slot, map};

    async fn parse_all(files: Vec<&'static str>) -> Vec<String> {
        let outcome = map("parse", CollectAll.at_most(4), files, parse).await;
        let lines = outcome.into_slots().into_iter().map(|(_, slot)| match slot {
            Slot::Ok(rows) => format!("{rows} rows"),
            Slot::Panicked(panic) => format!("a bug: {}", panic.message()),
            other => format!("{other:?}"),
        });
        lines.collect()
    }
    // ANCHOR_END: recover

    async fn parse(file: &'static str) -> Result<usize, bowline::Cancelled> {
        assert!(!file.is_empty(), "nobody tried an empty file");
        Ok(file.lines().count())
    }

    #[bowline::test]
    async fn a_panic_is_a_value_and_the_others_go_on() {
        assert_eq!(
            parse_all(vec!["a\nb", "", "c"]).await,
            ["2 rows", "a bug: nobody tried an empty file", "1 rows"]
        );
    }
}

mod single_flight {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    // ANCHOR: singleflight
    use bowline::{Cancelled, Copies, LocalCopy, Scope};

    fn routes(s: &Scope<Cancelled>, upstream: Arc<Upstream>) -> Copies<&'static str, u16, Down> {
        LocalCopy::new("routes", Duration::from_secs(60)).start(s, move |channel| {
            let upstream = Arc::clone(&upstream);
            async move { upstream.route_of(channel).await }
        })
    }
    // ANCHOR_END: singleflight

    #[derive(Default)]
    struct Upstream(AtomicU32);

    #[derive(Debug)]
    struct Down;

    impl std::fmt::Display for Down {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the upstream is down")
        }
    }

    impl bowline::Classify for Down {
        fn class(&self) -> bowline::Class {
            bowline::Class::Network
        }
    }

    impl Upstream {
        async fn route_of(&self, _channel: &str) -> Result<u16, Down> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(7)
        }
    }

    #[bowline::test(start_paused = true)]
    async fn a_hundred_readers_are_one_question() {
        let upstream = Arc::new(Upstream::default());
        bowline::scope("node", async |s| {
            let routes = routes(s, Arc::clone(&upstream));
            for _ in 0..100 {
                let routes = routes.clone();
                s.spawn("reader", async move {
                    assert_eq!(*routes.read("orders").await.unwrap().value, 7);
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
        assert_eq!(upstream.0.load(Ordering::Relaxed), 1);
    }
}

mod rate {
    use std::time::Duration;

    // ANCHOR: rate
    use bowline::{Cancelled, until_cancelled};
    use tokio::time::{MissedTickBehavior, interval};

    async fn send_all(mails: Vec<Mail>) -> Result<(), Cancelled> {
        let mut turn = interval(Duration::from_millis(100)); // ten a second
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay); // never a burst to catch up
        for mail in mails {
            until_cancelled(turn.tick()).await?;
            mail.send().await;
        }
        Ok(())
    }
    // ANCHOR_END: rate

    struct Mail;

    impl Mail {
        async fn send(self) {}
    }

    #[bowline::test(start_paused = true)]
    async fn ten_mails_a_second_leave() {
        let began = tokio::time::Instant::now();
        send_all((0..11).map(|_| Mail).collect()).await.unwrap();
        let took = began.elapsed(); // tokio's timers are exact to a millisecond
        assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1_050), "{took:?}");
    }
}

mod supervision {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    // ANCHOR: suture
    use bowline::{Child, Owner, Restart, Strategy, Supervisor, SupervisorHandle};

    fn feeds(owner: &impl Owner, prices: Arc<Prices>) -> SupervisorHandle {
        let kraken = Child::new("kraken", move |life| {
            let prices = Arc::clone(&prices);
            async move {
                loop {
                    prices.next().await?; // an error ends this life, and after a while the next begins
                    life.beat(); // three beats missed: it hangs, and is started again
                }
            }
        });
        Supervisor::new("feeds", Strategy::OneForOne)
            .child_with(kraken.restart(Restart::Permanent).heartbeat(Duration::from_secs(1)))
            .start(owner)
    }
    // ANCHOR_END: suture

    #[derive(Default)]
    struct Prices(AtomicU32);

    impl Prices {
        async fn next(&self) -> std::io::Result<()> {
            tokio::time::sleep(Duration::from_millis(100)).await;
            match self.0.fetch_add(1, Ordering::Relaxed) {
                3 => Err(std::io::ErrorKind::ConnectionReset.into()),
                6 => std::future::pending().await, // it hangs
                _ => Ok(()),
            }
        }
    }

    #[bowline::test(start_paused = true)]
    async fn a_feed_that_falls_or_hangs_is_started_again() {
        bowline::scope("prices", async |s| {
            let feeds = feeds(s, Arc::default());
            let kraken = feeds.child("kraken").unwrap();
            assert_eq!(kraken.wait_beyond(1).await.unwrap(), 2); // it fell
            assert_eq!(kraken.wait_beyond(2).await.unwrap(), 3); // it hung
            Ok::<_, bowline::Cancelled>(())
        })
        .await
        .unwrap();
    }
}

mod breaking {
    use std::time::Duration;

    // ANCHOR: breaker
    use bowline::{Attempts, Backoff, Breaker, Call, CallFailed, Retry, RetryBudget};

    struct Billing {
        call: Call,
    }

    impl Billing {
        fn new() -> Self {
            let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));
            let retry = Retry::new(backoff, Attempts::at_most(3)).budget(&RetryBudget::new("billing"));
            let call = Call::new("billing")
                .timeout(Duration::from_secs(1)) // of one attempt
                .within(Duration::from_secs(5)) // of all
                .retry(retry.idempotent())
                .breaker(&Breaker::new("billing"));
            Self { call }
        }

        async fn invoice(&self, order: u64) -> Result<String, CallFailed<std::io::Error>> {
            self.call.run(async || ask(order).await).await
        }
    }
    // ANCHOR_END: breaker

    async fn ask(order: u64) -> std::io::Result<String> {
        if order == 0 {
            Err(std::io::ErrorKind::ConnectionRefused.into())
        } else {
            Ok(format!("order {order}"))
        }
    }

    #[bowline::test(start_paused = true)]
    async fn an_upstream_that_fails_is_left_alone() {
        let billing = Billing::new();
        assert_eq!(billing.invoice(7).await.unwrap(), "order 7");
        for _ in 0..20 {
            billing.invoice(0).await.unwrap_err();
        }
        let refused = billing.invoice(7).await.unwrap_err();
        assert!(refused.to_string().contains("breaker"), "{refused}");
    }
}
