//! Effects: exactly one per key, whoever races, joins, leaves and comes again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Tally, check, check_rare, dawdle, draw, give_up_early};
use crate::sync::{Arc, LockExt};
use crate::{Cancelled, Class, Effects, Idempotent, Keep, OnceError, scope};

const KEEP: Keep = Keep { time: Duration::from_secs(3600), at_most_keys: 100 };

/// How often each key's effect has happened, looked at from outside of the schedule.
type Bank = Arc<std::sync::Mutex<BTreeMap<usize, usize>>>;

fn effects(s: &crate::Scope<Cancelled>) -> Effects<usize, usize, Class> {
    Idempotent::new("effects", KEEP).at_once(2).start(s)
}

/// Happens, or fails before or after that, as the schedule draws it.
async fn effect(bank: Bank, key: usize) -> Result<usize, Class> {
    dawdle().await;
    if draw(4) == 0 {
        return Err(Class::Network);
    }
    *bank.lock_unpoisoned().entry(key).or_default() += 1;
    dawdle().await;
    if draw(4) == 0 { Err(Class::Timeout) } else { Ok(key) }
}

async fn callers_race_join_and_leave() {
    let bank = Bank::default();
    let alive = Tally::default();
    let paid = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ended = scope("owner", async |s| {
        let effects = effects(s);
        for _ in 0..3 {
            let (effects, bank, paid, alive) =
                (effects.clone(), Arc::clone(&bank), Arc::clone(&paid), alive.clone());
            s.spawn("caller", async move {
                for _ in 0..2 {
                    let (key, bank, one) = (draw(2), Arc::clone(&bank), alive.one());
                    let call = effects.once(key, async move || {
                        let _one = one;
                        effect(bank, key).await
                    });
                    let told = if draw(2) == 0 { give_up_early(call).await } else { Some(call.await) };
                    match told {
                        Some(Ok(value)) => {
                            assert_eq!(*value, key);
                            paid.lock_unpoisoned().push(key);
                        }
                        Some(Err(OnceError::Failed { .. } | OnceError::InDoubt { .. })) | None => {}
                        Some(Err(other)) => panic!("{other}"),
                    }
                }
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    });
    ended.await.expect("nobody cancels");
    let bank = bank.lock_unpoisoned();
    assert!(bank.values().all(|times| *times == 1), "twice: {bank:?}");
    assert!(paid.lock_unpoisoned().iter().all(|key| bank.contains_key(key)), "paid, and nobody charged");
    assert_eq!(alive.now(), 0, "an effect is left");
}

#[test]
fn an_effect_happens_once_whoever_races_joins_and_leaves() {
    check(callers_race_join_and_leave);
}

#[test]
fn an_effect_happens_once_in_rare_orders() {
    check_rare(callers_race_join_and_leave);
}

#[test]
fn a_scope_that_is_cancelled_leaves_nobody_waiting() {
    check(async || {
        let begun = Arc::new(AtomicUsize::new(0));
        let ended = scope("owner", async |s| {
            let effects = effects(s);
            for _ in 0..2 {
                let (effects, begun) = (effects.clone(), Arc::clone(&begun));
                s.spawn("caller", async move {
                    let once = effects.once(7, async move || {
                        begun.fetch_add(1, Ordering::Relaxed);
                        dawdle().await;
                        Ok(7)
                    });
                    let _told = once.await;
                    Ok(())
                });
            }
            dawdle().await;
            s.cancel("enough");
            Ok::<_, Cancelled>(())
        });
        drop(ended.await);
        assert!(begun.load(Ordering::Relaxed) <= 1);
    });
}
