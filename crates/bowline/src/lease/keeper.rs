//! The keeper of a pool: its one task, which makes, checks, resets and discards in tasks of its own.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use super::acquire::stuck;
use super::hooks::{Done, Hooks};
use super::rule::{Chore, Item, Rules, Task};
use super::stats::Why;
use super::upkeep::{News, Round};
use super::{BoxError, LeaseHolder, act};
use crate::alert::{self, AlertKind, Subject};
use crate::cause::Cancelled;
use crate::group::{Discard, Group, group};
use crate::lock::FreeCount;
use crate::lock::core::Core;
use crate::timeout::shielded;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

const GONE: &str = "its scope has ended";

pub(super) struct Keeper<T: Send + 'static> {
    core: Arc<Core<Rules<T>>>,
    hooks: Arc<Hooks<T>>,
    /// Given up last: whoever waits for the end of the pool sees everything gone.
    _over: FreeCount,
}

impl<T: Send + 'static> Keeper<T> {
    pub(super) fn new(core: Arc<Core<Rules<T>>>, hooks: Hooks<T>, over: FreeCount) -> Self {
        Self { core, hooks: Arc::new(hooks), _over: over }
    }

    pub(super) async fn run(self) -> Result<(), Cancelled> {
        // How its tasks ended is in the books: `Busy` enters it.
        let _ = group("upkeep", Discard, async |g| {
            let mut alarm = None;
            while let Ok(round) = self.next(&mut alarm).await {
                self.tell(round.news);
                for chore in round.chores {
                    self.spawn(g, chore);
                }
                for _ in 0..round.makes {
                    let busy = Busy::new(&self.core, Doing::Making, None);
                    g.spawn("make", make(busy, Arc::clone(&self.hooks)));
                }
                if round.is_over {
                    break;
                }
            }
        })
        .await;
        // Over, or cancelled: then what is idle has not gone yet.
        let left = act(&self.core, |state, wakes| state.rule.keeper_ends(&mut state.line, GONE, wakes));
        if !left.is_empty() && self.hooks.has_discard() {
            let all_of_it = group("discard", Discard, async |g| {
                for chore in left {
                    self.spawn(g, Chore { task: Task::Discard, ..chore });
                }
            });
            match self.hooks.tend_within {
                Some(within) => drop(shielded(within, all_of_it).await),
                None => drop(all_of_it.await),
            }
        }
        Ok(())
    }

    fn spawn(&self, g: &Group<(), Infallible, Discard>, chore: Chore<T>) {
        let (name, doing) = match chore.task {
            Task::Check => ("check", Doing::Tending),
            Task::Reset => ("reset", Doing::Tending),
            Task::Discard => ("discard", Doing::Discarding),
            Task::LetGo => ("let go", Doing::Discarding),
        };
        let busy = Busy::new(&self.core, doing, Some(chore.item));
        g.spawn(name, tend(busy, Arc::clone(&self.hooks), chore.task));
    }

    /// Waits until there is something to do.
    async fn next(&self, alarm: &mut Option<Pin<Box<Sleep>>>) -> Result<Round<T>, Cancelled> {
        let mut leaf = Leaf::default();
        poll_fn(|cx| {
            Leaf::check()?;
            loop {
                let round = self.look(cx);
                if round.is_over || round.makes > 0 || !round.chores.is_empty() || !round.news.is_empty() {
                    leaf.clear();
                    return Poll::Ready(Ok(round));
                }
                if !is_due(alarm, round.look_at, cx) {
                    break;
                }
            }
            match leaf.park(cx, Wait { op: Op::Notified, on: self.core.id }) {
                Ok(()) => Poll::Pending,
                Err(cancelled) => Poll::Ready(Err(cancelled)),
            }
        })
        .await
    }

    fn look(&self, cx: &Context<'_>) -> Round<T> {
        let (waker, now) = (waker::leaf_waker(cx), Instant::now());
        let (round, _stale) =
            self.core.with(|state, wakes| state.rule.round(&mut state.line, waker, now, wakes));
        round
    }

    fn tell(&self, news: Vec<News>) {
        let site = self.core.site;
        for News { about, stands } in news {
            let Some(holder) = about else {
                alert::clear(&stuck(site.name, site.place), "a lease came back".into());
                continue;
            };
            let subject = Subject { kind: AlertKind::LeaseHeld, name: site.name.into(), place: holder.place };
            let held = LeaseHolder::from(holder);
            if stands {
                alert::raise(subject, format!("held by {held}"));
            } else {
                alert::clear(&subject, format!("given back by {held}"));
            }
        }
    }
}

/// Whether the time has come; otherwise `cx` is woken when it has.
fn is_due(alarm: &mut Option<Pin<Box<Sleep>>>, at: Option<Instant>, cx: &mut Context<'_>) -> bool {
    let Some(at) = at else {
        *alarm = None;
        return false;
    };
    let sleep = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
    if sleep.deadline() != at {
        sleep.as_mut().reset(at);
    }
    sleep.as_mut().poll(cx).is_ready()
}

impl<T: Send + 'static> Drop for Keeper<T> {
    /// However it ends, nobody waits for it in vain, and what it had to do is dropped, outside of the lock.
    fn drop(&mut self) {
        let (_left, news) =
            self.core.with(|state, wakes| state.rule.keeper_goes(&mut state.line, GONE, wakes));
        self.tell(news);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Making,
    Tending,
    Discarding,
    /// It has come to its end, and counts elsewhere.
    Nothing,
}

/// A place in the pool while one of the keeper's tasks has it. Dropped half-way, whatever was there is gone, and the place is free.
struct Busy<T: Send + 'static> {
    core: Arc<Core<Rules<T>>>,
    doing: Doing,
    item: Option<Item<T>>,
}

impl<T: Send + 'static> Busy<T> {
    fn new(core: &Arc<Core<Rules<T>>>, doing: Doing, item: Option<Item<T>>) -> Self {
        Self { core: Arc::clone(core), doing, item }
    }

    /// The item is good: it goes to the first in line.
    fn shelve(mut self, item: Item<T>) {
        let doing = std::mem::replace(&mut self.doing, Doing::Nothing);
        let _was_failing = act(&self.core, |state, wakes| {
            let rule = &mut state.rule;
            *count(rule, doing) -= 1;
            let failing = match doing {
                Doing::Making => {
                    rule.counters.made += 1;
                    rule.failing.take()
                }
                _ => None,
            };
            rule.shelve(&mut state.line, item, Instant::now(), wakes);
            failing
        });
    }

    fn failed(self, error: BoxError) {
        // The place is freed after this, and by then it is known how long to wait.
        let _before = self.core.with(|state, _| state.rule.failed(error));
    }

    fn condemn(&mut self, why: Why) {
        self.core.with(|state, _| {
            state.rule.counters.discarded.count(why);
            *count(&mut state.rule, self.doing) -= 1;
            state.rule.discarding += 1;
        });
        self.doing = Doing::Discarding;
    }
}

fn count<T>(rule: &mut Rules<T>, doing: Doing) -> &mut usize {
    match doing {
        Doing::Making => &mut rule.making,
        Doing::Tending => &mut rule.tending,
        Doing::Discarding | Doing::Nothing => &mut rule.discarding,
    }
}

impl<T: Send + 'static> Drop for Busy<T> {
    fn drop(&mut self) {
        if self.doing == Doing::Nothing {
            return;
        }
        let _place = Place(&self.core, self.doing); // freed when the item is gone
        let _before = (self.doing == Doing::Making && std::thread::panicking())
            .then(|| self.core.with(|state, _| state.rule.failed("making it panicked".into())));
        self.item = None;
    }
}

struct Place<'a, T: Send + 'static>(&'a Core<Rules<T>>, Doing);

impl<T: Send + 'static> Drop for Place<'_, T> {
    fn drop(&mut self) {
        act(self.0, |state, wakes| {
            *count(&mut state.rule, self.1) -= 1;
            state.rule.place_is_free(&state.line, wakes);
        });
    }
}

async fn make<T: Send + 'static>(busy: Busy<T>, hooks: Arc<Hooks<T>>) -> Result<(), Infallible> {
    match hooks.make().await {
        Done::Value(Ok(value)) => {
            let limits = busy.core.with(|state, _| state.rule.limits);
            busy.shelve(Item::new(value, &limits, Instant::now()));
        }
        Done::Value(Err(error)) => busy.failed(error),
        Done::TooLong(within) => busy.failed(format!("making it took longer than {within:?}").into()),
        Done::Cancelled => {}
    }
    Ok(())
}

async fn tend<T: Send + 'static>(
    mut busy: Busy<T>,
    hooks: Arc<Hooks<T>>,
    task: Task,
) -> Result<(), Infallible> {
    if let (Some(item), Task::Check | Task::Reset) = (&mut busy.item, task) {
        let (done, flaw) = match task {
            Task::Check => (hooks.check(&mut item.value).await, Why::Broken),
            _ => (hooks.reset(&mut item.value).await, Why::ResetFailed),
        };
        match done {
            Done::Value(Ok(())) => {
                if let Some(item) = busy.item.take() {
                    busy.shelve(item);
                }
                return Ok(());
            }
            Done::Value(Err(_)) | Done::TooLong(_) => busy.condemn(flaw),
            Done::Cancelled => busy.condemn(Why::Closed),
        }
    }
    let ends = busy.item.take().filter(|_| task != Task::LetGo);
    let Some(ends) = ends else { return Ok(()) };
    if let Some(discard) = hooks.discard(ends.value) {
        match hooks.tend_within {
            // A cancelled scope lets it finish.
            Some(within) => drop(shielded(within, discard).await),
            None => discard.await,
        }
    }
    Ok(())
}
