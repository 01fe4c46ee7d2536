//! Contexts and tokio-util's tokens: each follows the other, and nobody is left behind.

#![cfg(feature = "tokio-util")]

mod support;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Cancelled, Cause, Context, race_all, scope, timeout, with_token};
use support::{cancel_everywhere, yield_now};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

#[bowline::test(worker_threads = 2)]
async fn a_token_made_of_a_context_is_cancelled_with_it() {
    for _ in 0..200 {
        let ended = scope("outer", async |s| {
            let (give, take) = oneshot::channel();
            s.spawn("task", async {
                let context = Context::current();
                give.send((context.to_token(), context)).unwrap();
                Err::<(), _>(bowline::cancelled().await)
            });
            let (early, context) = take.await.unwrap();
            assert!(!early.is_cancelled());
            // One is made while the cancel runs, on another thread.
            let late = s.handle().spawn("makes one", async move { Ok(context.to_token()) }).unwrap();
            s.cancel("enough");
            let late = bowline::shielded(SECOND, late).await?;
            early.cancelled().await;
            if let Ok(late) = late {
                late.cancelled().await;
            }
            Ok::<_, Cancelled>(())
        });
        assert_eq!(ended.await.unwrap_err().cause(), &Cause::Requested("enough"));
    }
}

#[bowline::test]
async fn a_token_made_of_a_context_is_cancelled_when_its_task_has_ended() {
    let (token, context) = scope("outer", async |s| {
        let task = s.spawn("task", async { Ok((Context::current().to_token(), Context::current())) });
        let (token, context) = task.await?;
        token.cancelled().await;
        Ok::<_, Cancelled>((token, context))
    })
    .await
    .unwrap();
    assert!(token.is_cancelled());
    assert!(context.to_token().is_cancelled(), "also one that is made afterwards");
}

#[bowline::test]
async fn cancelling_the_token_of_a_context_does_nothing_to_the_context_or_to_other_tokens() {
    let context = Context::current();
    let (one, other) = (context.to_token(), context.to_token());
    one.cancel();
    assert!(!context.is_cancelled() && !bowline::is_cancelled() && !other.is_cancelled());
}

#[bowline::test(start_paused = true)]
async fn a_context_ends_with_the_token_it_runs_under() {
    let token = CancellationToken::new();
    let guard = Arc::new(());
    let held = Arc::clone(&guard);
    let ended = scope("outer", async |s| {
        let token = token.clone();
        let works = s.spawn("works", async move {
            let under = with_token(token.child_token(), async move {
                scope("inner", async |s| {
                    s.spawn("deep", async move {
                        let _held = held;
                        Err::<(), _>(bowline::cancelled().await)
                    });
                    Ok::<_, Cancelled>(())
                })
                .await
            });
            Ok(under.await)
        });
        yield_now(3).await;
        assert!(!works.is_finished());
        token_of(&bowline::tree().to_string());
        Ok::<_, Cancelled>(works)
    });
    let (ended, ()) = bowline::join(ended, async {
        yield_now(10).await;
        token.cancel();
    })
    .await;
    let inner: Cancelled = ended.unwrap().await.unwrap().unwrap().unwrap_err();
    assert_eq!(inner.cause(), &Cause::Requested("the token was cancelled"));
    assert!(format!("{inner:#}").contains(" ← token ("), "{inner:#}");
    assert_eq!(Arc::strong_count(&guard), 1, "its tasks are gone");
}

/// The tree shows what runs under a token.
fn token_of(tree: &str) {
    assert!(tree.contains("[token] token"), "{tree}");
}

#[bowline::test(start_paused = true)]
async fn a_token_that_comes_too_late_or_was_early_is_no_trouble() {
    let token = CancellationToken::new();
    assert_eq!(with_token(token.clone(), yield_now(1)).await, Ok(()));
    token.cancel();
    // Its one poll: what is ready then is a value.
    assert_eq!(with_token(token.clone(), std::future::ready(7)).await, Ok(7));
    assert!(with_token(token.clone(), yield_now(3)).await.is_err());
    let both = timeout(SECOND, with_token(CancellationToken::new(), pending::<()>()));
    assert!(both.await.unwrap().unwrap_err().is_deadline());
    race_all([token.cancelled(), token.cancelled()]).await;
}

#[bowline::test]
async fn a_dropped_with_token_drops_its_future_and_leaves_nothing() {
    let guard = Arc::new(());
    let make = || {
        let held = Arc::clone(&guard);
        with_token(CancellationToken::new(), async move {
            let _held = held;
            yield_now(3).await;
        })
    };
    let polls = cancel_everywhere(make, async |_, _| assert_eq!(Arc::strong_count(&guard), 1));
    assert_eq!(polls.await, 4);
    assert!(bowline::tree().roots[0].scopes.is_empty());
}
