//! Plain tokio: the base line. What Go has and tokio has not, built from tokio's parts, and how these forms are run.
//!
//! Nobody detects anything here; a form is run on a paused clock, and who has not ended after longer than any timer is counted.

#![allow(
    clippy::disallowed_methods,
    reason = "the base line: tasks nobody owns are what these forms are about"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bowline::Either;
use futures_util::future;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::go::coin;
use crate::oracle::HORIZON;
use crate::seeded::SLOW;
use crate::{Env, Form};

/// Starts a task, as `go` does.
pub fn go(task: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        turn().await;
        task.await;
    })
}

/// A turn that may be given to others.
pub async fn turn() {
    while coin() {
        yield_now().await;
    }
}

/// One of two futures; by chance, if both are ready.
pub async fn select<L: Future, R: Future>(left: L, right: R) -> Either<L::Output, R::Output> {
    let (left, right) = (pin!(left), pin!(right));
    if coin() {
        return match future::select(left, right).await {
            future::Either::Left((value, _)) => Either::Left(value),
            future::Either::Right((value, _)) => Either::Right(value),
        };
    }
    match future::select(right, left).await {
        future::Either::Left((value, _)) => Either::Right(value),
        future::Either::Right((value, _)) => Either::Left(value),
    }
}

/// A Go channel without room: one handle for both ends, and a send ends when somebody has the item.
pub struct Rdv<T>(Arc<Inner<T>>);

struct Inner<T> {
    offers: mpsc::Sender<Offer<T>>,
    offered: Mutex<mpsc::Receiver<Offer<T>>>,
}

/// An item, and whom to tell that it was taken; who has gone has taken the item back.
type Offer<T> = (T, oneshot::Sender<()>);

impl<T> Clone for Rdv<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Rdv<T> {
    fn default() -> Self {
        let (offers, offered) = mpsc::channel(1);
        Self(Arc::new(Inner { offers, offered: Mutex::new(offered) }))
    }
}

impl<T> Rdv<T> {
    /// Waits until somebody has taken `item`.
    pub async fn send(&self, item: T) {
        turn().await;
        let (took, taken) = oneshot::channel();
        let _ = self.0.offers.send((item, took)).await;
        let _ = taken.await;
    }

    /// Hands `item` over if somebody waits for one.
    pub async fn try_send(&self, item: T) -> bool {
        turn().await;
        // Who waits does so with the lock of the receiving end.
        let (took, taken) = oneshot::channel();
        if self.0.offered.try_lock().is_ok() || self.0.offers.try_send((item, took)).is_err() {
            return false;
        }
        taken.await.is_ok()
    }

    /// Waits for an item.
    pub async fn recv(&self) -> T {
        turn().await;
        let mut offered = self.0.offered.lock().await;
        loop {
            let (item, took) = offered.recv().await.expect("both ends are in one hand");
            if took.send(()).is_ok() {
                return item;
            }
        }
    }

    /// Takes an item if somebody offers one.
    pub async fn try_recv(&self) -> Option<T> {
        turn().await;
        let mut offered = self.0.offered.try_lock().ok()?;
        let (item, took) = offered.try_recv().ok()?;
        took.send(()).ok().map(|()| item)
    }
}

/// A Go channel that is only ever closed.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Gate {
    /// Opens it for good.
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits until it is closed.
    pub async fn wait(&self) {
        turn().await;
        let _ = self.0.acquire().await;
    }
}

/// Runs a form under a seed and says how many tasks are left.
///
/// # Panics
///
/// If the system gives no runtime.
#[must_use]
pub fn run(form: &Form, seed: u64) -> usize {
    fastrand::seed(seed);
    let env = Env { kind: form.kind, slow: SLOW };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("the system gives a runtime");
    let program = (form.run)(env);
    runtime.block_on(async {
        go(async move {
            let ended = program.await;
            debug_assert!(ended.is_ok(), "nobody cancels here");
        });
        sleep(HORIZON * 2).await;
    });
    runtime.metrics().num_alive_tasks()
}
