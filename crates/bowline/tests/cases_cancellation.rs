//! Work that others lost half-done when it was cancelled. More of these are in `queue.rs`, `delivery.rs` and `merge_streams.rs`:
//! `CASES.md` has the list.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bowline::{Cancelled, scope};
use support::{cancel_everywhere, yield_now};

#[derive(Default)]
struct Ledger {
    from: AtomicI32,
    to: AtomicI32,
}

impl Ledger {
    async fn transfer(&self) {
        yield_now(1).await;
        self.from.fetch_sub(1, Ordering::Relaxed);
        yield_now(1).await;
        self.to.fetch_add(1, Ordering::Relaxed);
        yield_now(1).await;
    }

    /// What has left one account and not arrived at the other.
    fn lost(&self) -> i32 {
        -self.from.load(Ordering::Relaxed) - self.to.load(Ordering::Relaxed)
    }
}

/// dropshot#701: the client disconnects, and its handler is dropped wherever it stands; the default became to detach handlers.
/// janus#4857: with another framework the default changes, and every endpoint has to be looked at again. A write belongs to the
/// server, which waits for it; the handler waits for the answer only, and may go at any time.
#[bowline::test]
async fn a_client_that_leaves_cuts_the_wait_for_the_answer_and_not_the_work() -> Result<(), Cancelled> {
    let bare = Ledger::default();
    cancel_everywhere(|| bare.transfer(), async |_, _| ()).await;
    assert_eq!(bare.lost(), 1, "the bare handler stops half-way");

    let ledger = Arc::new(Ledger::default());
    let rounds = scope("server", async |s| {
        let handler = || async {
            let ledger = Arc::clone(&ledger);
            s.spawn("transfer", async move {
                ledger.transfer().await;
                Ok(())
            })
            .await
        };
        Ok::<_, Cancelled>(cancel_everywhere(handler, async |_, _| ()).await)
    })
    .await?;
    assert!(rounds >= 2, "one was cut");
    // The server has ended, and with it every transfer that was begun.
    assert_eq!((ledger.lost(), ledger.to.load(Ordering::Relaxed) as usize), (0, rounds));
    Ok(())
}
