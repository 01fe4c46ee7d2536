//! Circuit breakers and bulkheads.

use super::*;
use bowline::{Breaker, Bulkhead, Class, Limit};

rows! {
    a_call_through_a_half_open_breaker: "breaker::Breaker::run" => {
        let _hook = bowline::on_alert(|_| ());
        let ledger = Ledger::default();
        let breaker = Breaker::new("upstream").at_least(1).open_for(Duration::ZERO).probes(1).close_after(u32::MAX);
        breaker.admit()?.failed(Class::Network);
        let make = || breaker.run(async || {
            let _token = ledger.one();
            a_while().await;
            Ok::<_, Class>(())
        });
        everywhere(make, async || {
            ledger.is_even();
            assert_eq!(breaker.stats().probes_in_flight, 0, "the place of a probe is lost");
        })
        .await;
        Ok(())
    }

    places_in_a_bulkhead: "bulkhead::Bulkhead::enter", "bulkhead::Bulkhead::run" => {
        let ledger = Ledger::default();
        let bulkhead = Bulkhead::new("upstream", 1).adapt(Limit::aimd(1..=1));
        let make = || async {
            let call = || bulkhead.run(async || {
                let _token = ledger.one();
                a_while().await;
                Ok::<_, Class>(())
            });
            let waits = async {
                let slot = bulkhead.enter().await;
                let _token = ledger.one();
                a_while().await;
                drop(slot);
            };
            drop(join_all((call(), waits, call())).await);
        };
        everywhere(make, async || {
            ledger.is_even();
            let stats = bulkhead.stats();
            assert_eq!((stats.in_flight, stats.waiting), (0, 0), "{stats:?}");
        })
        .await;
        Ok(())
    }
}
