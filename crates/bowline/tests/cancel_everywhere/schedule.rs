//! Schedules.

use std::sync::atomic::{AtomicUsize, Ordering};

use bowline::Schedule;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

rows! {
    a_run_that_is_asked_for: "jobs::Jobs::trigger" => {
        scope("service", async |s| {
            let ran = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&ran);
            let jobs = Schedule::new("upkeep", 1)
                .every("sweep", DAY, async move |_run| {
                    yield_now(1).await;
                    counted.fetch_add(1, Ordering::SeqCst);
                })
                .start(s);
            everywhere(|| jobs.trigger("sweep"), async || {
                let stats = jobs.stats();
                let sweep = stats.job("sweep").unwrap();
                // Whether or not somebody waited for it: what was asked for took place, and nothing is left of it.
                assert_eq!((sweep.due, sweep.waiting, sweep.running), (sweep.ok, 0, 0), "{sweep:?}");
                assert_eq!(ran.load(Ordering::SeqCst) as u64, sweep.ok);
            })
            .await;
            assert!(ran.load(Ordering::SeqCst) > 1);
            Ok::<_, Error>(())
        })
        .await
    }

    the_stop_of_a_schedule: "jobs::Jobs::stop" => {
        let ledger = Ledger::default();
        let make = || scope("service", async |s| {
            let held = ledger.one();
            let jobs = Schedule::new("upkeep", 1)
                .every("sweep", Duration::from_millis(10), async move |_run| {
                    let _held = held;
                    a_while().await;
                })
                .start(s);
            sleep(Duration::from_millis(12)).await?;
            jobs.stop().await?;
            assert!(jobs.running().is_empty());
            Ok::<_, Error>(())
        });
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }
}
