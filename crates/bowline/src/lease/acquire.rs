//! Waiting for a lease.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

use super::act;
use super::error::{LeaseError, Shortage, named};
use super::guard::Lease;
use super::pool::Front;
use super::rule::{Item, LEASE, Refusal, Rules};
use crate::alert::{self, AlertKind, Subject};
use crate::cause::Cancelled;
use crate::lock::core::{Stopped, Waiting};
use crate::lock::line::Key;
use crate::resource::Who;

/// A wait for a lease, with a limit.
///
/// Most waits are short, and a timer costs as much as all the rest. So one is made by those only who are polled again: the keeper
/// calls everybody in line when half of the limit has passed since somebody joined.
pub(super) struct Acquire<'a, T: Send + 'static> {
    front: &'a Front<T>,
    at: &'static Location<'static>,
    waiting: Option<Waiting<'a, Rules<T>>>,
    /// Since the first poll that had to wait.
    began: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<'a, T: Send + 'static> Acquire<'a, T> {
    pub(super) fn new(front: &'a Front<T>, at: &'static Location<'static>) -> Self {
        let waiting = Waiting::new(&front.core, LEASE, at, false, 0);
        Self { front, at, waiting: Some(waiting), began: None, alarm: None }
    }

    fn ended(&mut self, passed: Result<(Key, Item<T>), Stopped<Refusal>>) -> Result<Lease<T>, LeaseError> {
        let core = &self.front.core;
        let pool = core.site.name;
        match passed {
            Ok((key, item)) => {
                if let Some(began) = self.began.take() {
                    self.front.waits.note(item.since.saturating_duration_since(began));
                }
                Ok(Lease::new(core, key, item, self.front.discards_dropped))
            }
            Err(Stopped::Refused(Refusal::Closed(reason))) => Err(LeaseError::Closed { pool, reason }),
            Err(Stopped::Refused(Refusal::WouldDeadlock)) => {
                let leases = core.with(|state, _| state.rule.limits.max);
                Err(LeaseError::WouldDeadlock { pool, leases })
            }
            Err(Stopped::Cancelled(cancelled)) => match self.began {
                Some(began) if cancelled.is_deadline() => Err(self.too_late(began, Some(cancelled))),
                _ => Err(LeaseError::Cancelled(cancelled)),
            },
        }
    }

    /// The time is up. The place in line is given up already.
    fn too_late(&self, began: Instant, cut: Option<Cancelled>) -> LeaseError {
        let core = &self.front.core;
        let me = Who::here(self.at, false).task;
        let waited = began.elapsed();
        let (shortage, holders) = core.with(|state, _| {
            let (rule, waiters) = (&mut state.rule, state.line.waiters());
            rule.counters.timed_out += 1;
            let holders_wait = rule.note_holders_wait(&waiters, me, began);
            let shortage = Shortage {
                pool: core.site.name,
                waited,
                max: rule.limits.max,
                leased: rule.leased,
                idle: rule.idle(),
                making: rule.making,
                tending: rule.tending + rule.discarding,
                waiting: waiters.len(),
                failures: rule.failing.as_ref().map_or(0, |failing| failing.times),
                holders: Vec::new(),
                holders_wait,
                error: rule.failing.as_ref().map(|failing| Arc::clone(&failing.error)),
                cut,
            };
            (shortage, rule.holders())
        });
        let shortage = Shortage { holders: named(holders), ..shortage };
        if shortage.holders_wait {
            let text = format!("everybody who holds a lease waits for another one: {shortage}");
            alert::raise(stuck(core.site.name, core.site.place), text);
        }
        shortage.into_error()
    }
}

/// The alert about holders that wait for each other.
pub(super) fn stuck(pool: &'static str, place: &'static Location<'static>) -> Subject {
    Subject { kind: AlertKind::LeaseHeld, name: pool.into(), place }
}

impl<T: Send + 'static> Future for Acquire<'_, T> {
    type Output = Result<Lease<T>, LeaseError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(waiting) = &mut this.waiting else { panic!("polled after it had ended") };
        if let Poll::Ready(passed) = Pin::new(waiting).poll(cx) {
            this.waiting = None;
            return Poll::Ready(this.ended(passed));
        }
        let Some(began) = this.began else {
            this.began = Some(Instant::now());
            return Poll::Pending; // whoever still waits after a while is called by the keeper
        };
        let Some(until) = this.front.acquire_within.and_then(|within| began.checked_add(within)) else {
            return Poll::Pending;
        };
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(alarm.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(Err(this.too_late(began, None)))
    }
}

impl<T: Send + 'static> Drop for Acquire<'_, T> {
    fn drop(&mut self) {
        self.waiting = None;
        if self.began.is_some() {
            act(&self.front.core, |_, _| ()); // what was granted may have come back to a pool without a keeper
        }
    }
}
