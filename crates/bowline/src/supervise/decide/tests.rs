//! The rules against a world that does as it likes: children end, hang, are deaf, come and go, and time passes.

use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::call::Backoff;
use crate::supervise::spec::{Restart, Restarts};

const MS: Duration = Duration::from_millis(1);

/// A child as the world sees it.
#[derive(Debug)]
struct Real {
    terms: Terms,
    /// The living incarnation; what was asked of it.
    lives: Option<u64>,
    is_asked: bool,
    is_stuck: bool,
    /// It is deaf to a cancel, or to an abort as well.
    deaf: u8,
    last: u64,
    may_start: bool,
    beat: Instant,
}

struct World {
    core: Core,
    at_most: usize,
    within: Duration,
    now: Instant,
    children: BTreeMap<u64, Real>,
    restarts: Vec<Instant>,
    is_closing: bool,
    over: u32,
}

impl World {
    fn new(strategy: Strategy, at_most: u32) -> Self {
        let within = 1_000 * MS;
        let rules = Rules {
            strategy,
            restarts: Restarts::at_most(at_most).within(within),
            backoff: Some(Backoff::exponential(10 * MS, 200 * MS)),
            stable_after: 400 * MS,
            draw: |longest| longest / 2,
        };
        Self {
            core: Core::new(rules),
            at_most: at_most as usize,
            within,
            now: Instant::now(),
            children: BTreeMap::new(),
            restarts: Vec::new(),
            is_closing: false,
            over: 0,
        }
    }

    fn add(&mut self, terms: Terms, in_turn: bool) {
        let key = self.core.add(terms, in_turn, self.now);
        let real = Real {
            terms,
            lives: None,
            is_asked: false,
            is_stuck: false,
            deaf: 0,
            last: 0,
            may_start: true,
            beat: self.now,
        };
        self.children.insert(key, real);
        self.core.settle(self.now);
        self.obey();
    }

    /// Does what the core says, and checks that it may say so.
    fn obey(&mut self) {
        while let Some(action) = self.core.take_action() {
            match action {
                Action::Start { key, incarnation } => {
                    let real = self.children.get_mut(&key).expect("it was added");
                    assert_eq!(real.lives, None, "two lives of {key} at once");
                    assert!(real.may_start, "{key} was stopped and is started");
                    assert!(!self.is_closing, "{key} is started at the end");
                    assert_eq!(incarnation, real.last + 1);
                    (real.lives, real.last) = (Some(incarnation), incarnation);
                    real.may_start &= real.terms.restart != Restart::Temporary; // that was it
                    (real.is_asked, real.is_stuck, real.beat) = (false, false, self.now);
                    if real.terms.ready_within.is_none() {
                        self.core.ready(key, incarnation, self.now);
                    }
                }
                Action::Cancel { key } => {
                    let real = &self.children[&key];
                    assert!(real.lives.is_some() && !real.is_asked, "{key} is asked twice, or gone");
                    if self.is_closing {
                        let mut later = self.children.range(key + 1..);
                        assert!(
                            later.all(|(_, later)| later.lives.is_none() || later.is_stuck),
                            "{key} is asked before those after it are gone"
                        );
                    }
                    self.asked(key, 1);
                }
                Action::Abort { key } => {
                    assert!(self.children[&key].is_asked, "{key} is aborted and was never asked");
                    self.asked(key, 2);
                }
                Action::Forget { key } => {
                    let real = self.children.remove(&key).expect("forgotten once");
                    assert!(real.lives.is_none(), "{key} lives and is forgotten");
                }
                Action::Tell { news: News::Restarts { .. }, .. } => {
                    self.restarts.push(self.now);
                    let from = self.restarts.iter().filter(|at| self.now - **at < self.within);
                    assert!(from.count() <= self.at_most, "too many restarts: {:?}", self.restarts);
                }
                Action::Tell { news: News::GaveUp { .. }, .. } => {
                    let from = self.restarts.iter().filter(|at| self.now - **at < self.within);
                    assert_eq!(from.count(), self.at_most, "it gave up too early");
                    self.is_closing = true;
                }
                Action::Tell { key, news: News::Stuck } => {
                    let real = self.children.get_mut(&key).expect("it is there");
                    assert!(real.lives.is_some(), "{key} is stuck and gone");
                    real.is_stuck = true;
                }
                Action::Tell { .. } => {}
                Action::Over { .. } => {
                    self.over += 1;
                    assert!(self.is_closing && self.over == 1);
                    let mut all = self.children.values();
                    assert!(
                        all.all(|real| real.lives.is_none() || real.is_stuck),
                        "over, and some are there"
                    );
                }
            }
        }
    }

    /// It was asked with this force, and goes at once unless it is too deaf for that.
    fn asked(&mut self, key: u64, force: u8) {
        let real = self.children.get_mut(&key).expect("it is there");
        real.is_asked = true;
        if real.deaf < force {
            self.ends(key, How::Cancelled);
        }
    }

    fn ends(&mut self, key: u64, how: How) {
        let Some(real) = self.children.get_mut(&key) else { return };
        let Some(incarnation) = real.lives.take() else { return };
        // What the model knows: who has ended by himself and is not to come again.
        if !real.is_asked && !self.is_closing {
            real.may_start &= match real.terms.restart {
                Restart::Permanent => true,
                Restart::Transient => how != How::Returned,
                Restart::Temporary => false,
            };
        }
        self.core.ended(key, incarnation, how, self.now);
    }

    /// Lets time pass, tick by tick, and as a driver would: only when the core asks for it.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.core.next_tick(self.now).filter(|at| *at <= end) {
            self.now = at;
            self.tick();
        }
        self.now = end;
        self.tick();
    }

    fn tick(&mut self) {
        let children = &self.children;
        self.core.tick(self.now, |key| Pulse::Beat(children[&key].beat));
        self.obey();
    }

    fn step(&mut self, (what, who, ms): (u8, u8, u64)) {
        let keys: Vec<_> = self.children.keys().copied().collect();
        let key = keys.get(usize::from(who) % keys.len().max(1)).copied();
        match (what, key) {
            (0 | 1, _) => self.pass(Duration::from_millis(ms)),
            (2, Some(key)) => self.ends(key, How::Failed),
            (3, Some(key)) => self.ends(key, How::Returned),
            (4 | 5, Some(key)) => {
                let real = self.children.get_mut(&key).expect("it is there");
                real.beat = self.now;
                let last = real.last;
                self.core.ready(key, last, self.now);
            }
            (6, Some(key)) => {
                self.children.get_mut(&key).expect("it is there").may_start = false;
                self.core.stop(key, self.now);
            }
            (7, Some(key)) => {
                let real = self.children.get_mut(&key).expect("it is there");
                real.may_start |= !self.is_closing;
                self.core.restart(key, self.now);
            }
            (8, Some(key)) if ms % 3 == 0 => {
                self.children.get_mut(&key).expect("it is there").may_start = false;
                self.core.remove(key, self.now);
                // Nobody can ask for it any more: the handle says that it is gone.
                self.obey();
                if self.children.contains_key(&key) {
                    self.children.get_mut(&key).expect("it is there").deaf = 0;
                    self.ends(key, How::Cancelled);
                }
            }
            (9, Some(key)) => self.children.get_mut(&key).expect("it is there").deaf = who % 3,
            (10, _) if ms % 7 == 0 => {
                self.is_closing = true;
                self.core.end(self.now);
            }
            (11, Some(key)) => self.ends(key, How::Cancelled), // who was deaf goes at last
            (_, _) if !self.is_closing => self.add(terms(who, ms), false),
            _ => {}
        }
        self.obey();
    }
}

fn terms(who: u8, ms: u64) -> Terms {
    Terms {
        restart: [Restart::Permanent, Restart::Permanent, Restart::Transient, Restart::Temporary]
            [usize::from(who) % 4],
        stop_within: Duration::from_millis(ms % 50),
        ready_within: (who % 3 == 0).then(|| Duration::from_millis(20 + ms % 100)),
        heartbeat: (who % 5 == 0).then(|| 100 * MS),
    }
}

fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold_and_in_the_end_everybody_runs_who_should(
        strategy in strategies(),
        at_most in 0_u32..12,
        children in prop::collection::vec((any::<u8>(), any::<u64>()), 0..5),
        steps in prop::collection::vec((0_u8..13, any::<u8>(), 0_u64..400), 0..60),
    ) {
        let mut world = World::new(strategy, at_most);
        for (who, ms) in children {
            world.core.add(terms(who, ms), true, world.now);
            let key = world.children.len() as u64;
            let real = Real {
                terms: terms(who, ms), lives: None, is_asked: false, is_stuck: false, deaf: 0, last: 0,
                may_start: true, beat: world.now,
            };
            world.children.insert(key, real);
        }
        world.core.settle(world.now);
        world.obey();
        for step in steps {
            world.step(step);
        }
        // From here on everybody behaves: hears, beats, gets ready.
        for _ in 0..200 {
            world.children.values_mut().for_each(|real| real.deaf = 0);
            let asked: Vec<_> = world.children.iter().filter(|(_, real)| real.is_asked).map(|(key, _)| *key).collect();
            for key in asked {
                world.ends(key, How::Cancelled);
                world.obey();
            }
            for key in world.children.keys().copied().collect::<Vec<_>>() {
                world.step((4, 0, 0));
                if let Some(real) = world.children.get_mut(&key) {
                    real.beat = world.now;
                    let last = real.last;
                    world.core.ready(key, last, world.now);
                    world.obey();
                }
            }
            world.pass(10 * MS);
        }
        if world.is_closing {
            prop_assert_eq!(world.over, 1);
            prop_assert!(world.children.values().all(|real| real.lives.is_none()));
        } else {
            let lasting = world.children.iter().filter(|(_, real)| real.terms.restart != Restart::Temporary);
            for (key, real) in lasting {
                prop_assert_eq!(real.lives.is_some(), real.may_start, "{}: {:?}, {:?}", key, real, world.core.look(*key));
            }
        }
    }
}
