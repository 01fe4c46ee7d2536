//! Pools of leases beside a model: whatever is done in whatever order, who has what is what a list of a few lines says.

mod support;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bowline::testing::harness::{self, Options};
use bowline::{Cancelled, Lease, LeaseError, LeasePool, Leases, scope};
use proptest::prelude::*;
use support::{poll_once, yield_now};

/// Turns after which everything that is possible without time has happened.
const SETTLED: usize = 12;

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    TryAcquire,
    /// Gives one back: the one at this place of those that are held.
    GiveBack(usize),
    Poison(usize),
    TakeOut(usize),
    /// Drops the wait at this place of the line.
    Leave(usize),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Acquire),
        2 => Just(Step::TryAcquire),
        5 => any::<usize>().prop_map(Step::GiveBack),
        2 => any::<usize>().prop_map(Step::Poison),
        1 => any::<usize>().prop_map(Step::TakeOut),
        3 => any::<usize>().prop_map(Step::Leave),
    ];
    (prop::collection::vec(step, 1..60), any::<bool>()).prop_map(|(mut steps, closes)| {
        if closes {
            steps.insert(steps.len() * 2 / 3, Step::Close);
        }
        steps
    })
}

type Wait<'a> = Pin<Box<dyn Future<Output = Result<Lease<Arc<()>>, LeaseError>> + 'a>>;

/// What a pool is, in numbers.
#[derive(Debug, Default)]
struct Model {
    max: usize,
    held: usize,
    waiting: usize,
    closed: bool,
}

impl Model {
    /// Those in line get what they can.
    fn settle(&mut self) {
        if self.closed {
            self.waiting = 0;
        }
        let served = self.waiting.min(self.max - self.held);
        self.held += served;
        self.waiting -= served;
    }
}

async fn compare(max: usize, resets: bool, steps: &[Step]) {
    let count = Arc::new(());
    let counted = Arc::downgrade(&count);
    let ended = scope("model", async |s| {
        let make = move || {
            let one = counted.upgrade();
            async move { one.ok_or("the test is over") }
        };
        let mut leases = Leases::new("pool", max, make);
        if resets {
            leases = leases.reset(async |_: &mut Arc<()>| {
                yield_now(1).await;
                Ok::<_, Infallible>(())
            });
        }
        let pool: LeasePool<_> = leases.start(s);
        let mut model = Model { max, ..Model::default() };
        let mut held: Vec<Lease<_>> = Vec::new();
        let mut line: VecDeque<Wait<'_>> = VecDeque::new();
        for step in steps {
            match *step {
                Step::Acquire => {
                    line.push_back(Box::pin(pool.acquire()));
                    model.waiting += 1;
                    // A place in line is taken by the first poll.
                    if let Some(wait) = line.back_mut() {
                        if let Poll::Ready(ended) = poll_once(wait).await {
                            held.extend(ended.ok());
                            line.pop_back();
                        }
                    }
                }
                Step::TryAcquire => {
                    let before = pool.stats();
                    let lease = pool.try_acquire();
                    let could = !model.closed && before.idle > 0 && before.waiting == 0;
                    assert_eq!(lease.is_some(), could);
                    model.held += usize::from(lease.is_some());
                    held.extend(lease);
                }
                Step::GiveBack(at) | Step::Poison(at) | Step::TakeOut(at) if !held.is_empty() => {
                    let mut lease = held.swap_remove(at % held.len());
                    model.held -= 1;
                    match step {
                        Step::Poison(_) => lease.poison(),
                        Step::TakeOut(_) => drop(lease.into_inner()),
                        _ => lease.give_back(),
                    }
                }
                Step::Leave(at) if !line.is_empty() => {
                    let at = at % line.len();
                    drop(line.remove(at));
                    model.waiting -= 1;
                }
                Step::Close => {
                    drop(pool.close());
                    model.closed = true;
                }
                _ => {}
            }
            // Everything happens that can; those at the head of the line are served before those behind them.
            yield_now(SETTLED).await;
            model.settle();
            let mut someone_waits = false;
            let mut left = VecDeque::new();
            for mut wait in std::mem::take(&mut line) {
                match poll_once(&mut wait).await {
                    Poll::Ready(Ok(lease)) => {
                        assert!(!someone_waits, "it overtook");
                        held.push(lease);
                    }
                    Poll::Ready(Err(LeaseError::Closed { .. })) => assert!(model.closed),
                    Poll::Ready(Err(error)) => panic!("{error}"),
                    Poll::Pending => {
                        someone_waits = true;
                        left.push_back(wait);
                    }
                }
            }
            line = left;
            yield_now(SETTLED).await;
            let stats = pool.stats();
            assert_eq!((held.len(), line.len()), (model.held, model.waiting), "{step:?}: {stats:?}");
            assert_eq!((stats.leased, stats.waiting), (model.held, model.waiting), "{step:?}");
            assert_eq!((stats.making, stats.tending, stats.discarding), (0, 0, 0), "{step:?}");
            let alive = Arc::strong_count(&count) - 1;
            assert_eq!(alive, stats.idle + stats.leased, "{step:?}: one was lost");
            assert!(alive <= max, "{step:?}");
            assert!(stats.idle == 0 || line.is_empty(), "{step:?}: somebody waits beside an idle one");
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(ended, Ok(()));
    assert_eq!(Arc::strong_count(&count), 1, "everything has gone with the scope");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pool_does_what_its_model_does(max in 1_usize..4, resets: bool, steps in steps()) {
        harness::run(Options::new("model"), compare(max, resets, &steps));
    }
}
