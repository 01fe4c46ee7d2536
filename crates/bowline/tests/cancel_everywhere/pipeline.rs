//! Pipelines.

use super::*;
use bowline::{Errors, Failed, Feed, Parallel, Pipeline, PipelineReady, SendError, Stage};

type Token = Arc<()>;

/// Fed by hand, with every kind of stage, failures handed on, and a sink that takes its time.
fn pipeline(ledger: &Ledger) -> PipelineReady {
    let tokens: Vec<Token> = (0..4).map(|_| ledger.one()).collect();
    Pipeline::fed("pipeline", async move |feed: Feed<Token>| {
        for token in tokens {
            a_while().await;
            feed.send(token).await?;
        }
        Ok::<_, SendError<Token>>(())
    })
    .stage("pass", Parallel::ordered(2), Bound::items(1), async |token: &Token| {
        a_while().await;
        Ok::<_, bowline::Cancelled>(Arc::clone(token))
    })
    .edit("fail", Parallel::unordered(2), Bound::items(1), async |_: &mut Token| Err::<(), _>("bad"))
    .errors(Errors::each(2, async |failed: Failed| {
        a_while().await;
        drop(failed);
    }))
    .sink("take", Parallel::unordered(1), Bound::items(1), async |_: &Token| Ok::<_, bowline::Cancelled>(()))
}

rows! {
    a_pipeline_run_by_its_caller: "ready::PipelineReady::run", "source::Feed::send" => {
        let ledger = Ledger::default();
        let make = || async { drop(pipeline(&ledger).run().await) };
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    a_pipeline_in_a_scope_and_those_who_wait_for_its_end: "handle::PipelineHandle::wait_ended" => {
        let ledger = Ledger::default();
        let make = || scope("owner", async |s| {
            let running = pipeline(&ledger).start(s);
            let end = running.wait_ended().await?;
            let stats = running.stats();
            assert!(end.is_complete());
            assert_eq!(stats.received, stats.done + stats.failed + stats.filtered + stats.cancelled);
            Ok::<_, Error>(())
        });
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    deliveries_in_a_pipeline: "ready::PipelineReady::run" => {
        let (tx, rx) = support::queue(Bound::items(4), Overflow::Block).await;
        let make = || {
            for n in tx.stats().depth_items..3 {
                tx.try_send(n).expect("there is room");
            }
            let sink = async |_: &usize| {
                a_while().await;
                Ok::<_, bowline::Cancelled>(())
            };
            let pipeline = Pipeline::acknowledged("orders", rx.clone());
            let ready = pipeline.sink("ship", Parallel::unordered(2), Bound::items(1), sink);
            async move {
                // All are shipped, and the source waits for more.
                drop(timeout(Duration::from_millis(60), ready.run()).await);
            }
        };
        everywhere(make, async || {
            let books = rx.stats();
            assert_eq!(books.in_flight, 0, "a delivery is in nobody's hands: {books:?}");
            assert_eq!(books.sent, books.received + books.depth_items as u64, "an order is lost: {books:?}");
            nothing_lives();
        })
        .await;
        Ok(())
    }

    a_stage_run_alone: "stage::Stage::run_on" => {
        let ledger = Ledger::default();
        let make = || async {
            let tokens: Vec<Token> = (0..4).map(|_| ledger.one()).collect();
            let stage = Stage::filter("stage", Parallel::ordered(2), async |_: &Token| {
                a_while().await;
                Ok::<_, bowline::Cancelled>(true)
            });
            drop(stage.run_on(tokens).await);
        };
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }
}
