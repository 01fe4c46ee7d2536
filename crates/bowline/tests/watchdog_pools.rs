//! The watchdog, and what knows no root: pools and pipelines. Alone in its process, since it looks at them only where there is
//! one root.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bowline::{
    AlertKind, Bound, Cancelled, Overflow, Parallel, Pipeline, Pool, Runner, Semaphore, Watchdog, Workers,
    on_alert, scope,
};

/// Longer than any machine takes for it.
const ENOUGH: Duration = Duration::from_secs(60);

#[test]
fn a_pool_and_a_stage_that_take_nothing_are_told_with_their_places() {
    let watchdog = Watchdog::new().no_progress(Duration::from_millis(200));
    let runner = Runner::new("shop").worker_threads(1).without_signals().watchdog(watchdog);
    let (told, report) = runner.run(async {
        let (tell, hears) = sync_channel(1_000);
        let _hook = on_alert(move |alert| drop(tell.try_send(alert.clone())));
        scope("orders", async |s| {
            let gate = Arc::new(Semaphore::empty("gate"));
            let opens = Arc::clone(&gate);
            let work = move |_: u32| {
                let opens = Arc::clone(&opens);
                async move { drop(opens.acquire(1).await) }
            };
            let jobs = Pool::new("jobs", Workers::fixed(1), Bound::items(8), Overflow::Block).start(s, work);
            for job in 0..4 {
                jobs.submit(job).await.unwrap();
            }
            let loads = Arc::clone(&gate);
            s.spawn("people", async move {
                let load = async move |_: &u32| {
                    drop(loads.acquire(1).await);
                    Ok::<_, Infallible>(())
                };
                let people = Pipeline::new("people", 0..4_u32);
                let people = people.sink("load", Parallel::ordered(1), Bound::items(8), load);
                people.run().await.unwrap();
                Ok(())
            });
            let told = s.spawn_blocking("hears", move || {
                let mut told = BTreeMap::new();
                while told.len() < 2 {
                    let alert = hears.recv_timeout(ENOUGH).expect("it is told");
                    if alert.kind == AlertKind::NoProgress {
                        told.insert(alert.name.to_string(), alert);
                    }
                }
                Ok(told)
            });
            let told = told.await?;
            gate.add_permits(8);
            jobs.drain().await.unwrap();
            Ok::<_, Cancelled>(told)
        })
        .await
    });
    assert!(report.is_clean(), "{report}");
    let told = told.unwrap().unwrap();
    assert_eq!(told.keys().collect::<Vec<_>>(), ["jobs", "load"]);
    for alert in told.values() {
        assert_eq!(alert.place.file(), file!(), "{alert}");
        assert!(alert.text.contains(" wait in this "), "{alert}");
        assert!(alert.text.contains("and 1 are taken and not done, and none was taken for "), "{alert}");
    }
}
