//! Calls that may fail.

use bowline::{Attempts, Backoff, Breaker, Bulkhead, Call, Class, Hedge, Idempotent, Keep, LocalCopy, Retry};

use super::*;

rows! {
    a_retry: "retry::Retry::run" => {
        let ledger = Ledger::default();
        let backoff = Backoff::exponential(Duration::from_millis(5), Duration::from_millis(5));
        let retry = Retry::new(backoff, Attempts::at_most(3));
        let make = || retry.run(async |attempt| {
            let _token = ledger.one();
            yield_now(1).await;
            if attempt.is_last() { Ok(()) } else { Err(Class::Network) }
        });
        everywhere(make, async || ledger.is_even()).await;
        Ok(())
    }

    an_effect_of_a_key:
        "once::Effects::once", "once::Effects::once_or_find", "once::Effects::settle" =>
    {
        let (ledger, key) = (Ledger::default(), Cell::new(0));
        scope("owner", async |s| {
            let keep = Keep { time: Duration::from_secs(60), at_most_keys: 100_000 };
            let effects = Idempotent::new("effects", keep).start::<u64, Arc<()>, Class>(s);
            let make = || {
                let (one, two) = (key.get(), key.get() + 1);
                key.set(key.get() + 2);
                let token = || ledger.one();
                let (effect, found) = (token(), token());
                let doubtful = async move || {
                    yield_now(2).await;
                    drop(effect);
                    Err(Class::Timeout)
                };
                let effects = &effects;
                async move {
                    effects.once(one, doubtful).await.unwrap_err();
                    effects.once_or_find(one, async || Err(Class::Bug), async move || {
                        yield_now(2).await;
                        drop(found);
                        Ok(None)
                    })
                    .await
                    .unwrap_err();
                    effects.settle(two, None).await.ok(); // cancelled, perhaps
                }
            };
            everywhere(make, async || {
                ledger.is_even();
                assert_eq!(effects.stats().in_flight, 0);
            })
            .await;
            Ok::<_, Error>(())
        })
        .await
    }

    a_call_with_all_its_layers: "stack::Call::run", "fallback::FallbackCall::run" => {
        let ledger = Ledger::default();
        let ms = Duration::from_millis(1);
        let (breaker, bulkhead) = (Breaker::new("upstream"), Bulkhead::new("upstream", 2));
        let call = Call::new("call")
            .idempotent()
            .timeout(20 * ms)
            .within(200 * ms)
            .retry(Retry::new(Backoff::exponential(5 * ms, 5 * ms), Attempts::at_most(2)))
            .hedge(Hedge::after(5 * ms))
            .breaker(&breaker)
            .bulkhead(&bulkhead);
        let make = || {
            let hangs = async || {
                let _token = ledger.one();
                std::future::pending::<Result<(), Class>>().await
            };
            let fallback = async |_| {
                let _token = ledger.one();
                yield_now(1).await;
                Ok(())
            };
            call.fallback(fallback).run(hangs)
        };
        everywhere(make, async || {
            ledger.is_even();
            assert_eq!(bulkhead.stats().in_flight, 0);
            breaker.release();
        })
        .await;
        Ok(())
    }

    a_read_of_a_copy: "copy::Copies::read" => {
        let (ledger, key) = (Ledger::default(), Cell::new(0));
        scope("owner", async |s| {
            let copies = LocalCopy::new("copies", Duration::from_secs(60)).start(s, async |key: u64| {
                yield_now(2).await;
                Ok::<_, Class>(key)
            });
            let make = || {
                key.set(key.get() + 1);
                let (token, key, copies) = (ledger.one(), key.get(), &copies);
                async move {
                    let _token = token;
                    copies.read(key).await.ok();
                }
            };
            everywhere(make, async || {
                ledger.is_even();
                assert_eq!(copies.stats().refreshing, 0);
            })
            .await;
            Ok::<_, Error>(())
        })
        .await
    }
}
