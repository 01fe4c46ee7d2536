//! Ends that others got wrong, beside ours. More of these are in `shut_down.rs`, `drain.rs` and `group.rs`: `CASES.md` has the
//! list.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowline::{Cancelled, Cause, ScopeHandle, scope};

/// Counts what lives.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(held: &Arc<AtomicUsize>) -> Self {
        held.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(held))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// zio#3910: between a `fork` and its registration somebody else closes the parent's scope: a defect, and a child that nobody
/// interrupts. Here "is it open" and "enter it" are one step: a late child is refused unpolled, an early one is waited for.
#[bowline::test(worker_threads = 2)]
async fn a_fork_that_races_the_closing_scope_is_refused_or_waited_for() {
    for round in 0..200 {
        let (held, inside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (give, take) = tokio::sync::oneshot::channel::<ScopeHandle<Cancelled>>();
        let (theirs, ran) = (Arc::clone(&held), Arc::clone(&inside));
        #[expect(clippy::disallowed_methods, reason = "somebody outside of the scope is what this is about")]
        let forks = tokio::spawn(async move {
            let parent = take.await.unwrap();
            for forked in 0.. {
                let (held, ran) = (Held::new(&theirs), Arc::clone(&ran));
                let child = async move {
                    let _held = (held, Held::new(&ran));
                    std::future::pending::<Result<(), Cancelled>>().await
                };
                if let Err(closed) = parent.spawn("child", child) {
                    return (closed, forked);
                }
            }
            unreachable!("the scope closes")
        });
        let ended = scope("parent", async |s| {
            give.send(s.handle()).ok();
            // In some rounds at once, in others in the middle of the forking: never by luck alone.
            while round % 2 == 1 && held.load(Ordering::Relaxed) < 2 + round % 5 {
                tokio::task::yield_now().await;
            }
            s.cancel("close");
            Ok::<_, Cancelled>(())
        });
        let _ = ended.await; // cancelled, unless no child had come yet
        assert_eq!(inside.load(Ordering::Relaxed), 0, "one was not waited for in round {round}");
        let (why, forks) = forks.await.unwrap();
        assert!(
            round % 2 == 0 || forks > round % 5,
            "{forks} were forked before the scope closed in round {round}"
        );
        assert!(matches!(why.cause(), Cause::Requested("close") | Cause::ScopeClosed), "{why}");
        assert_eq!(held.load(Ordering::Relaxed), 0, "one was neither run nor dropped in round {round}");
    }
}
