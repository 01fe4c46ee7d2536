//! One effect per key: whoever asks, however often, at the same time, and whoever leaves meanwhile.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::testing::seed;
use bowline::{
    AlertKind, Attempts, Backoff, Begun, Cancelled, Class, CollectAll, Effects, Ended, Idempotent, Keep,
    KeyStore, MemoryKeys, OnceError, Retry, ScopeHandle, StoreFailed, group, on_alert, scope, sleep, timeout,
};
use support::{poll_once, yield_now};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const KEEP: Keep = Keep { time: Duration::from_secs(3600), at_most_keys: 100_000 };

type Payments = Effects<u64, u32, Class>;

/// How often each order was really charged, as the bank sees it.
#[derive(Clone, Default)]
struct Bank(Arc<Mutex<HashMap<u64, u32>>>);

impl Bank {
    /// Takes its time, and charges somewhere in the middle.
    async fn charge(self, order: u64, half_way: Duration) -> Result<u32, Class> {
        sleep(half_way).await.map_err(|_| Class::Cancelled)?;
        let charged = {
            let mut orders = self.0.lock().unwrap();
            let times = orders.entry(order).or_default();
            *times += 1;
            *times
        };
        tokio::time::sleep(half_way).await;
        Ok(charged)
    }

    fn times(&self, order: u64) -> u32 {
        self.0.lock().unwrap().get(&order).copied().unwrap_or(0)
    }
}

fn payments(s: &bowline::Scope<Cancelled>) -> Payments {
    Idempotent::new("payments", KEEP).start(s)
}

/// pay-connector#4460: two requests with one key at about the same time both pass the check before either has its entry.
/// zoneless#134: concurrent requests with one key run the operation more than once.
#[bowline::test(start_paused = true, schedules = 50)]
async fn callers_with_one_key_at_the_same_time_share_one_effect() {
    let bank = Bank::default();
    let receipts = scope("shop", async |s| {
        let payments = payments(s);
        let callers = group("callers", CollectAll, async |g| {
            for _ in 0..20 {
                let (payments, bank) = (payments.clone(), bank.clone());
                g.spawn("caller", async move { payments.once(7, move || bank.charge(7, MS)).await });
            }
        });
        let receipts = callers.await.all_ok().unwrap();
        assert_eq!(payments.stats().run, 1);
        Ok::<_, Cancelled>(receipts)
    });
    assert!(receipts.await.unwrap().iter().all(|receipt| **receipt == 1));
    assert_eq!(bank.times(7), 1);
}

#[bowline::test(start_paused = true)]
async fn a_retry_after_its_caller_gave_up_gets_the_result_of_the_first_try() {
    let bank = Bank::default();
    let receipt = scope("shop", async |s| {
        let payments = payments(s);
        // The caller waits for 10 ms, the bank takes 200: three attempts, and all are the same one.
        let retry = Retry::new(Backoff::exponential(SECOND, SECOND), Attempts::at_most(3)).idempotent();
        let pay = retry.run(async |_| {
            let bank = bank.clone();
            let once = timeout(10 * MS, payments.once(7, move || bank.charge(7, 100 * MS)));
            once.await
                .unwrap_or(Err(OnceError::Failed { class: Class::Timeout, error: Arc::new(Class::Timeout) }))
        });
        Ok::<_, Cancelled>(pay.await.unwrap())
    });
    assert_eq!(*receipt.await.unwrap(), 1);
    assert_eq!(bank.times(7), 1);
}

/// Haruki-Sekai-API#59: the first caller is cancelled, and its slot stays or is served to others for ever.
/// remnic#2015: the first caller disconnects, and takes those with it who joined.
#[bowline::test(start_paused = true)]
async fn whoever_leaves_neither_ends_the_effect_nor_takes_others_along() {
    let bank = Bank::default();
    let receipt = scope("shop", async |s| {
        let payments = payments(s);
        let charge = || {
            let bank = bank.clone();
            move || bank.charge(7, 100 * MS)
        };
        let mut first = Box::pin(payments.once(7, charge()));
        assert!(poll_once(&mut first).await.is_pending());
        sleep(10 * MS).await?;
        let second = bowline::join(payments.once(7, charge()), async { drop(first) });
        Ok::<_, Cancelled>(second.await.0.unwrap())
    });
    assert_eq!(*receipt.await.unwrap(), 1);
    assert_eq!(bank.times(7), 1);
}

#[bowline::test(start_paused = true)]
async fn who_leaves_before_its_effect_began_leaves_the_turn_to_the_next() {
    let bank = Bank::default();
    let done = scope("shop", async |s| {
        let payments: Payments = Idempotent::new("payments", KEEP).at_once(1).start(s);
        let busy = Arc::new(payments.clone());
        // One runs, one has the only place in the queue: the first caller of 7 waits for room.
        for other in [1, 2] {
            let (busy, bank) = (Arc::clone(&busy), bank.clone());
            s.spawn("other", async move {
                busy.once(other, move || bank.charge(other, 50 * MS)).await.unwrap();
                Ok(())
            });
        }
        sleep(MS).await?;
        let mut first = Box::pin(payments.once(7, async || Ok(1_000)));
        assert!(poll_once(&mut first).await.is_pending());
        let joined = payments.once(7, {
            let bank = bank.clone();
            move || bank.charge(7, MS)
        });
        let done = bowline::join(joined, async {
            yield_now(3).await;
            drop(first);
        });
        Ok::<_, Cancelled>(done.await.0.unwrap())
    });
    assert_eq!(*done.await.unwrap(), 1, "the effect of the one who stayed");
    assert_eq!(bank.times(7), 1);
}

#[bowline::test(start_paused = true)]
async fn a_failure_that_certainly_did_nothing_leaves_the_key_free() {
    scope("shop", async |s| {
        let payments = payments(s);
        for class in [Class::Network, Class::Business, Class::Overload { retry_after: None }] {
            let failed = payments.once(7, async move || Err(class)).await.unwrap_err();
            assert!(matches!(failed, OnceError::Failed { class: of, .. } if of == class), "{failed}");
        }
        assert_eq!(*payments.once(7, async || Ok(5)).await.unwrap(), 5);
        assert_eq!((payments.stats().run, payments.stats().failed), (4, 3));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn an_unknown_outcome_is_not_run_again_until_somebody_knows() {
    let alerts = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&alerts);
    let _hook = on_alert(move |alert| heard.lock().unwrap().push(alert.kind));
    scope("shop", async |s| {
        let payments = payments(s);
        for (key, class) in [(1, Class::Timeout), (2, Class::Disconnected), (3, Class::Bug)] {
            let lost = payments.once(key, async move || Err(class)).await.unwrap_err();
            assert!(matches!(lost, OnceError::InDoubt { error: Some(_), .. }), "{lost}");
            let again = payments.once(key, async || Ok(1)).await.unwrap_err();
            assert!(matches!(again, OnceError::InDoubt { class: of, error: None } if of == class), "{again}");
        }
        assert_eq!(payments.stats().run, 3);

        // It had happened; it had not; a person knows; and whoever is asked does not know either.
        assert_eq!(*payments.once_or_find(1, async || Ok(1), async || Ok(Some(77))).await.unwrap(), 77);
        assert_eq!(*payments.once_or_find(2, async || Ok(88), async || Ok(None)).await.unwrap(), 88);
        let unknown =
            payments.once_or_find(3, async || Ok(1), async || Err(Class::Network)).await.unwrap_err();
        assert!(matches!(unknown, OnceError::InDoubt { class: Class::Network, .. }), "{unknown}");
        payments.settle(3, None).await.unwrap();
        assert_eq!(*payments.once(3, async || Ok(99)).await.unwrap(), 99);
        payments.settle(3, Some(1)).await.unwrap();
        assert_eq!(*payments.once(3, async || Ok(1)).await.unwrap(), 99, "what is done stays");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(alerts.lock().unwrap().first(), Some(&AlertKind::InDoubt));
}

#[bowline::test(start_paused = true, allow_panics)]
async fn a_panic_half_way_is_in_doubt_and_the_others_go_on() {
    let bank = Bank::default();
    scope("shop", async |s| {
        let payments = payments(s);
        let other = payments.clone();
        let charge = bank.clone();
        let other =
            s.spawn(
                "other",
                async move { Ok(other.once(8, move || charge.charge(8, 100 * MS)).await.unwrap()) },
            );
        let bug = payments.once(7, async || {
            sleep(MS).await.unwrap();
            panic!("a bug")
        });
        let lost = bug.await.unwrap_err();
        assert!(matches!(lost, OnceError::InDoubt { class: Class::Bug, .. }), "{lost}");
        assert_eq!(*other.await?, 1);
        assert!(payments.once(7, async || Ok(1)).await.is_err());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn an_effect_that_takes_too_long_is_in_doubt() {
    scope("shop", async |s| {
        let payments: Payments = Idempotent::new("payments", KEEP).time(SECOND).start(s);
        let began = tokio::time::Instant::now();
        let lost = payments.once(7, async || std::future::pending().await).await.unwrap_err();
        assert!(matches!(lost, OnceError::InDoubt { class: Class::Timeout, error: None }), "{lost}");
        assert_eq!(began.elapsed().as_secs(), 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_cancel_of_the_scope_lets_an_effect_that_has_begun_come_to_its_end() {
    let bank = Bank::default();
    let charge = bank.clone();
    let (told, handle) = tokio::sync::oneshot::channel::<ScopeHandle<Cancelled>>();
    let shop = scope("shop", async move |s| {
        told.send(s.handle()).ok();
        let payments = payments(s);
        let cut = payments.once(7, move || charge.charge(7, SECOND)).await.unwrap_err();
        assert!(matches!(cut, OnceError::Cancelled(_)), "{cut}");
        Err::<(), _>(bowline::cancelled().await)
    });
    let cancel = async {
        let handle = handle.await.unwrap();
        sleep(1_500 * MS).await.unwrap(); // charged, and the answer is on its way
        handle.cancel("closing");
    };
    let began = tokio::time::Instant::now();
    let (ended, ()) = bowline::join(shop, cancel).await;
    assert!(ended.is_err());
    assert_eq!((bank.times(7), began.elapsed().as_secs()), (1, 2));
}

#[bowline::test(start_paused = true)]
async fn a_handle_kept_beyond_its_scope_is_refused() {
    let payments = scope("shop", async |s| {
        let payments = payments(s);
        s.cancel("closing");
        let refused = payments.once(7, async || Ok(1)).await.unwrap_err();
        assert!(matches!(refused, OnceError::Cancelled(_)), "{refused}");
        Ok::<_, Cancelled>(payments)
    });
    let kept = payments.await.unwrap();
    let refused = kept.once(7, async || Ok(1)).await.unwrap_err();
    assert!(matches!(refused, OnceError::Closed), "{refused}");

    let handle = scope("shop", async |s| Ok::<_, Cancelled>(s.handle())).await.unwrap();
    let late: Payments = Idempotent::new("payments", KEEP).start(&handle);
    let refused = late.once(7, async || Ok(1)).await.unwrap_err();
    assert!(matches!(refused, OnceError::Closed), "{refused}");
}

#[bowline::test(start_paused = true)]
async fn what_was_accepted_is_done_when_the_last_handle_is_dropped() {
    let bank = Bank::default();
    let charge = bank.clone();
    scope("shop", async |s| {
        let payments = payments(s);
        let mut left = Box::pin(payments.once(7, move || charge.charge(7, SECOND)));
        assert!(poll_once(&mut left).await.is_pending());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(bank.times(7), 1);
}

#[bowline::test(start_paused = true)]
async fn more_keys_than_may_be_are_refused_and_none_is_forgotten() {
    let alerts = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&alerts);
    let _hook = on_alert(move |alert| heard.lock().unwrap().push((alert.kind, alert.raised)));
    scope("shop", async |s| {
        let keep = Keep { time: 60 * SECOND, at_most_keys: 2 };
        let payments: Payments = Idempotent::new("payments", keep).start(s);
        for key in [1, 2] {
            payments.once(key, async move || Ok(10)).await.unwrap();
        }
        assert!(matches!(payments.once(3, async || Ok(3)).await, Err(OnceError::Full)));
        assert_eq!(*payments.once(1, async || Ok(11)).await.unwrap(), 10);
        sleep(61 * SECOND).await?;
        assert_eq!(*payments.once(3, async || Ok(3)).await.unwrap(), 3);
        assert_eq!(*payments.once(1, async || Ok(11)).await.unwrap(), 11, "its time was over");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(*alerts.lock().unwrap(), [(AlertKind::KeysFull, true), (AlertKind::KeysFull, false)]);
}

/// A store that fails when it is told to.
struct Shaky {
    keys: MemoryKeys<u64, u32>,
    fails: AtomicU32,
}

const BEGIN: u32 = 1;
const END: u32 = 2;

impl KeyStore<u64, u32> for Shaky {
    async fn begin(&self, key: &u64) -> Result<Begun<u32>, StoreFailed> {
        sleep(MS).await.map_err(StoreFailed::new)?;
        if self.fails.load(Ordering::Relaxed) == BEGIN {
            return Err(StoreFailed::new("no connection"));
        }
        self.keys.begin(key).await
    }

    async fn end(&self, key: &u64, ended: Ended<u32>) -> Result<(), StoreFailed> {
        sleep(20 * MS).await.map_err(StoreFailed::new)?;
        if self.fails.load(Ordering::Relaxed) == END {
            return Err(StoreFailed::new("no connection"));
        }
        self.keys.end(key, ended).await
    }
}

#[bowline::test(start_paused = true)]
async fn a_store_that_fails_runs_nothing_before_and_leaves_the_key_in_doubt_after() {
    scope("shop", async |s| {
        let store = Arc::new(Shaky { keys: MemoryKeys::new(KEEP), fails: AtomicU32::new(BEGIN) });
        let payments: Effects<u64, u32, Class, _> =
            Idempotent::new("payments", KEEP).start_with(s, Arc::clone(&store));
        let refused = payments.once(7, async || Ok(1)).await.unwrap_err();
        assert_eq!(refused.to_string(), "the store of the keys failed: no connection");
        assert_eq!(payments.stats().run, 0);

        store.fails.store(END, Ordering::Relaxed);
        assert_eq!(*payments.once(7, async || Ok(1)).await.unwrap(), 1, "it has happened");
        store.fails.store(0, Ordering::Relaxed);
        let later = payments.once(7, async || Ok(2)).await.unwrap_err();
        assert!(matches!(later, OnceError::InDoubt { .. }), "{later}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn who_comes_while_the_store_is_being_told_gets_the_result_and_no_doubt() {
    scope("shop", async |s| {
        let store = Arc::new(Shaky { keys: MemoryKeys::new(KEEP), fails: AtomicU32::new(0) });
        let payments: Effects<u64, u32, Class, _> = Idempotent::new("payments", KEEP).start_with(s, store);
        let late = async {
            sleep(10 * MS).await?; // it has happened, and the store hears of it
            payments.once(7, async || Ok(2)).await
        };
        let (first, late) = bowline::join(payments.once(7, async || Ok(1)), late).await;
        assert_eq!((*first.unwrap(), *late.unwrap()), (1, 1));
        assert_eq!(payments.stats().joined, 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// What a caller may do with its call, drawn by the seed: wait, give up and try again, or leave.
/// Says whether it was told that the order is paid.
async fn race(payments: Payments, bank: Bank, order: u64, mut draw: fastrand::Rng) -> bool {
    for _ in 0..3 {
        let (bank, half_way) = (bank.clone(), MS * draw.u32(0..3));
        let fails = draw.u32(0..4);
        let effect = async move || match fails {
            0 => Err(Class::Network), // before it reached the bank
            1 => bank.charge(order, half_way).await.and(Err(Class::Timeout)), // the answer was lost
            _ => bank.charge(order, half_way).await,
        };
        let patience = MS * draw.u32(1..6);
        if let Ok(Ok(_)) = timeout(patience, payments.once(order, effect)).await {
            return true;
        }
        sleep(MS * draw.u32(0..3)).await.ok();
    }
    false
}

/// The same in the plain form: look whether it was done, do it, write it down.
async fn race_bare(done: Arc<Mutex<HashMap<u64, u32>>>, bank: Bank, order: u64, mut draw: fastrand::Rng) {
    for _ in 0..3 {
        if done.lock().unwrap().contains_key(&order) {
            return;
        }
        let (half_way, patience) = (MS * draw.u32(0..3), MS * draw.u32(1..6));
        if let Ok(Ok(times)) = timeout(patience, bank.clone().charge(order, half_way)).await {
            done.lock().unwrap().insert(order, times);
            return;
        }
        sleep(MS * draw.u32(0..3)).await.ok();
    }
}

/// 10,000 orders, each with three callers that wait, give up, try again and leave as they are drawn: none is charged twice, and
/// none whose caller was told that it was is missing.
#[bowline::test(start_paused = true, schedules = 5, timeout_secs = 120)]
async fn ten_thousand_races_charge_nobody_twice_and_lose_no_receipt() {
    const ORDERS: u64 = 2_000; // in each of six schedules

    let (bank, bare) = (Bank::default(), Bank::default());
    let told = Arc::new(Mutex::new(Vec::new()));
    scope("shop", async |s| {
        let payments = payments(s);
        let done = Arc::default();
        for order in 0..ORDERS {
            for caller in 0..3 {
                let draw = fastrand::Rng::with_seed(seed() << 32 | order << 2 | caller);
                let (ours, bare) = (race(payments.clone(), bank.clone(), order, draw.clone()), bare.clone());
                let bare = race_bare(Arc::clone(&done), bare, order, draw);
                let told = Arc::clone(&told);
                s.spawn("caller", async move {
                    if bowline::join(ours, bare).await.0 {
                        told.lock().unwrap().push(order);
                    }
                    Ok(())
                });
            }
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let doubled = |bank: &Bank| bank.0.lock().unwrap().values().filter(|times| **times > 1).count();
    assert_eq!(doubled(&bank), 0);
    assert!(doubled(&bare) > 100, "the plain form doubles {}: the races are races", doubled(&bare));
    let told = told.lock().unwrap();
    assert!(told.len() > ORDERS as usize, "{}", told.len());
    assert!(
        told.iter().all(|order| bank.times(*order) == 1),
        "somebody was told of a payment that is not there"
    );
}
