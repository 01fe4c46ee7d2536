//! How many tasks of a name are usual, and when there are more.
//!
//! A count that only grows is a leak, or the morning. They differ in the evening: what has come back down is usual from then on, and
//! what never did is not. So a level becomes usual only
//!
//! - by having been there in the first [`LEARNS`] samples of the name;
//! - as the peak of a rise that has come back down to what was usual before;
//! - if neither its lowest nor its highest count has risen from one hour to the next;
//!
//! and none of these is true of something that grows steadily. It is usual no more when the peaks of a whole week were below it.
//!
//! There are *more* of a name when [`PATIENCE`] samples in a row are over what is usual by more than a tenth, and by more than a
//! floor below which chance is at work: 16, and five times the square root (which is the deviation of a count of things that come
//! by chance). A leak may hide below the ups and downs of a day. The lowest counts of the days show it: they are compared with
//! each other, and three rises in a row, each by more than a tenth, are told, whatever is usual.
//!
//! A leak of one task per second is told within five minutes of learning, two of patience, and the time it takes to exceed the
//! slack: 16 s if there were none before, 50 s at a hundred, 17 min at ten thousand.

use std::collections::HashMap;

use crate::alert::{AlertKind, Subject};
use crate::site::Site;

use super::Matter;
use super::census::{SiteKey, key};

/// Names that are kept. What more there are is counted together, under one name.
pub(super) const MAX_NAMES: usize = 1_024;

/// Samples from which a name's first level is learned: five minutes.
const LEARNS: u32 = 10;
/// Samples in a row that are to be over the limit: two minutes.
const PATIENCE: u32 = 4;
/// Samples of an hour, and hours that are compared.
const HOUR: u32 = 120;
/// Samples of a day.
const DAY: u32 = 24 * HOUR;
/// Days of which the highest peak says what is still usual.
const WEEK: usize = 7;

/// What is more than chance, in deviations: of any count, and of the lowest of a day, which swings less.
const OF_COUNTS: u32 = 5;
const OF_LOWS: u32 = 2;

/// What is still chance.
fn slack(usual: u32, deviations: u32) -> u32 {
    let tenth = usual / 10;
    tenth.max(deviations * usual.isqrt()).max(16)
}

/// The lowest and the highest of some samples.
#[derive(Clone, Copy, Debug)]
struct Range {
    low: u32,
    high: u32,
}

impl Range {
    const NONE: Self = Self { low: u32::MAX, high: 0 };

    fn add(&mut self, count: u32) {
        self.low = self.low.min(count);
        self.high = self.high.max(count);
    }
}

/// One name over time.
#[derive(Debug)]
struct Level {
    samples: u32,
    usual: u32,
    /// Samples in a row over the limit.
    over: u32,
    /// The highest since it came to be over the limit.
    peak: u32,
    /// The hour that goes on, and the one before.
    hour: Range,
    last_hour: Range,
    day: Range,
    /// The lowest of the last days, the last first.
    lows: [u32; 4],
    peaks: [u32; WEEK],
    days: usize,
    /// Whether it was the last time.
    grew: bool,
    creeps: bool,
}

/// What is wrong with a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Usual,
    Grew {
        usual: u32,
    },
    /// The lowest counts of the last days, the last first.
    Creeps {
        lows: [u32; 4],
    },
}

impl Level {
    fn new() -> Self {
        Self {
            samples: 0,
            usual: 0,
            over: 0,
            peak: 0,
            hour: Range::NONE,
            last_hour: Range::NONE,
            day: Range::NONE,
            lows: [0; 4],
            peaks: [0; WEEK],
            days: 0,
            grew: false,
            creeps: false,
        }
    }

    fn look(&mut self, count: u32) -> Verdict {
        self.samples = self.samples.saturating_add(1);
        if self.samples <= LEARNS {
            self.usual = self.usual.max(count);
        }
        self.hour.add(count);
        self.day.add(count);
        let limit = self.usual.saturating_add(slack(self.usual, OF_COUNTS));
        if count > limit {
            self.over = self.over.saturating_add(1);
            self.peak = self.peak.max(count);
            self.grew |= self.over >= PATIENCE;
        } else {
            self.over = 0;
            if count <= self.usual {
                self.came_back();
            }
        }
        if self.samples % HOUR == 0 {
            self.hour_ends();
        }
        if self.samples % DAY == 0 {
            self.day_ends();
        }
        match (self.grew, self.creeps) {
            (true, _) => Verdict::Grew { usual: self.usual },
            (false, true) => Verdict::Creeps { lows: self.lows },
            (false, false) => Verdict::Usual,
        }
    }

    /// It is as before the rise: so high it may go.
    fn came_back(&mut self) {
        self.usual = self.usual.max(self.peak);
        (self.grew, self.peak) = (false, 0);
    }

    fn hour_ends(&mut self) {
        let hour = std::mem::replace(&mut self.hour, Range::NONE);
        let last = std::mem::replace(&mut self.last_hour, hour);
        // A steady rise raises both from each hour to the next; a count that swings around a level lowers them as often.
        let stands_still = hour.low <= last.low && hour.high <= last.high;
        if self.grew && stands_still {
            self.usual = self.usual.max(last.high);
            (self.grew, self.peak, self.over) = (false, 0, 0);
        }
    }

    fn day_ends(&mut self) {
        let day = std::mem::replace(&mut self.day, Range::NONE);
        self.lows.rotate_right(1);
        self.lows[0] = day.low;
        self.peaks.rotate_right(1);
        self.peaks[0] = day.high;
        self.days += 1;
        // The first day began with the program, so its low says nothing.
        let [a, b, c, d] = self.lows;
        let rises = |from: u32, to: u32| to > from.saturating_add(slack(from, OF_LOWS));
        self.creeps = self.days > self.lows.len() && rises(d, c) && rises(c, b) && rises(b, a);
        if self.days >= WEEK {
            self.usual = self.usual.min(self.peaks.into_iter().max().unwrap_or(0));
        }
    }

    /// Whether nothing would be lost with it.
    fn is_nothing(&self) -> bool {
        self.samples >= LEARNS && self.usual == 0 && self.day.high == 0 && !self.grew && !self.creeps
    }
}

/// The names of a root over time.
#[derive(Default)]
pub(super) struct Baselines {
    levels: HashMap<SiteKey, (Site, Level)>,
}

impl Baselines {
    /// Takes a sample, every 30 s. `others` is the site under which what is too much to be kept is counted.
    pub(super) fn look(
        &mut self,
        counts: impl IntoIterator<Item = (Site, u32)>,
        others: Site,
    ) -> Vec<Matter> {
        let mut now: HashMap<SiteKey, u32> = HashMap::new();
        for (site, count) in counts {
            let is_kept = self.levels.contains_key(&key(&site)) || self.make_room();
            let site = if is_kept { site } else { others };
            self.levels.entry(key(&site)).or_insert_with(|| (site, Level::new()));
            *now.entry(key(&site)).or_default() += count;
        }
        let mut matters = Vec::new();
        for (key, (site, level)) in &mut self.levels {
            let count = now.get(key).copied().unwrap_or(0);
            let Some(text) = text(count, level.look(count)) else { continue };
            matters.push((
                Subject { kind: AlertKind::TasksGrew, name: site.name.into(), place: site.place },
                text,
            ));
        }
        matters
    }

    fn make_room(&mut self) -> bool {
        if self.levels.len() < MAX_NAMES {
            return true;
        }
        let nothing = self.levels.iter().find(|(_, (_, level))| level.is_nothing());
        let nothing = nothing.map(|(key, _)| *key);
        nothing.is_some_and(|key| self.levels.remove(&key).is_some())
    }
}

fn text(count: u32, verdict: Verdict) -> Option<String> {
    match verdict {
        Verdict::Usual => None,
        Verdict::Grew { usual } => {
            let more = count.saturating_sub(usual);
            Some(format!("{count} of them live, {more} more than the {usual} that are usual"))
        }
        Verdict::Creeps { lows: [a, b, c, d] } => {
            Some(format!("there are never less than {a}; on the days before that were {b}, {c} and {d}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use fastrand::Rng;

    use super::*;

    /// Tasks that come by chance and live for about `life` samples: the count swings around `mean`.
    struct Crowd {
        rng: Rng,
        count: f64,
    }

    impl Crowd {
        fn new(seed: u64, mean: f64) -> Self {
            Self { rng: Rng::with_seed(seed), count: mean }
        }

        /// Normal, by the sum of twelve.
        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.rng.f64()).sum::<f64>() - 6.0
        }

        fn next(&mut self, mean: f64, life: f64) -> u32 {
            // An Ornstein-Uhlenbeck process with the variance of a queue of infinitely many servers: the mean.
            let keep = (-1.0 / life).exp();
            let swing = (mean * (1.0 - keep * keep)).sqrt() * self.normal();
            self.count = mean + (self.count - mean) * keep + swing;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small, and not negative"
            )]
            let count = self.count.max(0.0).round() as u32;
            count
        }
    }

    /// A curve over the day, from `low` at night to `high` at noon.
    fn daily(sample: u32, low: f64, high: f64) -> f64 {
        let day = f64::from(sample % DAY) / f64::from(DAY);
        low + (high - low) * (1.0 - (day * std::f64::consts::TAU).cos()) / 2.0
    }

    /// Runs of chance that are the same each time; each draws its own numbers.
    fn each_seed(run: impl Fn(u64, &mut Rng)) {
        for seed in 0..64 {
            run(seed, &mut Rng::with_seed(!seed));
        }
    }

    /// A number between the two.
    fn between(draw: &mut Rng, low: f64, high: f64) -> f64 {
        low + (high - low) * draw.f64()
    }

    #[test]
    fn a_load_that_swings_around_a_level_is_silent_for_three_days() {
        each_seed(|seed, draw| {
            let (mean, life) = (10_f64.powf(between(draw, -1.0, 4.5)), between(draw, 0.2, 2.0));
            let (mut crowd, mut level) = (Crowd::new(seed, mean), Level::new());
            for sample in 0..3 * DAY {
                let count = crowd.next(mean, life);
                assert_eq!(level.look(count), Verdict::Usual, "seed {seed}, {sample}: {count} of {mean}");
            }
        });
    }

    #[test]
    fn a_daily_curve_is_told_on_its_first_day_at_most_and_that_is_over_before_the_second() {
        each_seed(|seed, draw| {
            let (low, times) = (between(draw, 10.0, 1_000.0), between(draw, 1.0, 20.0));
            let begins = draw.u32(..DAY);
            let (mut crowd, mut level) = (Crowd::new(seed, daily(begins, low, low * times)), Level::new());
            for sample in 0..10 * DAY {
                let count = crowd.next(daily(begins + sample, low, low * times), 1.0);
                let verdict = level.look(count);
                if sample >= DAY + DAY / 4 {
                    assert_eq!(verdict, Verdict::Usual, "seed {seed}, {sample} from {begins}: {count}");
                }
            }
        });
    }

    #[test]
    fn a_leak_of_one_per_second_is_told_in_time_and_from_then_on() {
        each_seed(|seed, draw| {
            let (mean, begins) = (10_f64.powf(between(draw, -1.0, 4.0)), draw.u32(..2 * HOUR));
            let (mut crowd, mut level) = (Crowd::new(seed, mean), Level::new());
            let mut told = None;
            for sample in 0..begins + 2 * DAY {
                let leaked = 30 * sample.saturating_sub(begins);
                let verdict = level.look(crowd.next(mean, 1.0) + leaked);
                let is_told = verdict != Verdict::Usual;
                assert!(is_told || told.is_none(), "seed {seed}: told at {told:?}, and not at {sample}");
                assert!(
                    !is_told || sample > begins,
                    "seed {seed}: told at {sample}, and it began at {begins}"
                );
                told = told.or(is_told.then_some(sample));
            }
            // What leaked while it was learned has to be exceeded as well.
            let learned = mean + 4.0 * mean.sqrt() + f64::from(30 * LEARNS);
            let rise =
                learned - mean + (learned / 10.0).max(5.0 * learned.sqrt()).max(16.0) + 4.0 * mean.sqrt();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
            let bound = begins.max(LEARNS) + PATIENCE + (rise / 30.0).ceil() as u32;
            assert!(told.is_some_and(|told| told <= bound), "seed {seed}: {told:?}, not by {bound}");
        });
    }

    #[test]
    fn a_leak_that_hides_below_a_daily_curve_is_told_within_a_week() {
        each_seed(|seed, draw| {
            let (low, times) = (between(draw, 50.0, 500.0), between(draw, 2.0, 10.0));
            let begins = draw.u32(..DAY);
            let (mut crowd, mut level) = (Crowd::new(seed, daily(begins, low, low * times)), Level::new());
            let told = (0..8 * DAY).find(|sample| {
                let leaked = low * f64::from(*sample) / f64::from(DAY); // less in a day than the curve itself rises
                let count = crowd.next(daily(begins + sample, low, low * times) + leaked, 1.0);
                level.look(count) != Verdict::Usual && *sample >= 2 * DAY
            });
            assert!(told.is_some_and(|told| told <= 7 * DAY), "seed {seed}: {told:?}");
        });
    }

    #[test]
    fn a_load_that_has_doubled_and_stays_there_is_told_and_is_usual_the_next_day() {
        each_seed(|seed, draw| {
            let mean = between(draw, 100.0, 10_000.0);
            let (mut crowd, mut level) = (Crowd::new(seed, mean), Level::new());
            for sample in 0..4 * DAY {
                let now = if sample < HOUR { mean } else { 2.0 * mean };
                let verdict = level.look(crowd.next(now, 0.5));
                match sample {
                    ..HOUR => assert_eq!(verdict, Verdict::Usual, "seed {seed}, {sample}"),
                    _ if sample == HOUR + 6 => {
                        assert!(matches!(verdict, Verdict::Grew { .. }), "seed {seed}")
                    }
                    _ if sample > 2 * DAY => assert_eq!(verdict, Verdict::Usual, "seed {seed}, {sample}"),
                    _ => {}
                }
            }
        });
    }

    #[test]
    fn a_leak_is_not_learned_even_from_the_first_sample_on() {
        let mut level = Level::new();
        let verdicts: Vec<_> = (0..DAY).map(|sample| level.look(30 * sample)).collect();
        let told = verdicts.iter().position(|verdict| *verdict != Verdict::Usual).unwrap();
        assert_eq!(
            told, 15,
            "ten samples are learned, four are waited for, and the slack is exceeded after one"
        );
        assert!(verdicts[told..].iter().all(|verdict| matches!(verdict, Verdict::Grew { usual: 270 })));
    }

    #[test]
    fn a_slow_leak_that_swings_around_the_limit_is_not_learned_at_each_swing_back() {
        let mut level = Level::new();
        let mut is_told = false;
        for sample in 0..DAY {
            let swing = [0, 30, 60, 30][sample as usize % 4];
            let verdict = level.look(1_000 + swing + sample);
            assert!(!is_told || verdict != Verdict::Usual, "forgotten at {sample}");
            is_told |= verdict != Verdict::Usual;
        }
        assert!(is_told && level.usual < 1_100, "{level:?}");
    }

    #[test]
    fn what_was_usual_once_is_no_more_when_a_whole_week_was_below() {
        let mut level = Level::new();
        let high = (0..HOUR).map(|_| 1_000);
        let low = (0..10 * DAY).map(|_| 100);
        high.chain(low).for_each(|count| assert_eq!(level.look(count), Verdict::Usual));
        let verdicts: Vec<_> = (0..PATIENCE).map(|_| level.look(900)).collect();
        assert_eq!(verdicts.last(), Some(&Verdict::Grew { usual: 100 }));
    }

    #[test]
    fn names_are_bounded_and_what_is_too_much_is_counted_together() {
        let place = Location::caller();
        let site = |name: &'static str| Site { name, place };
        let names: Vec<&'static str> =
            (0..2 * MAX_NAMES).map(|n| &*Box::leak(n.to_string().into_boxed_str())).collect();
        let others = site("other names");
        let mut baselines = Baselines::default();
        for _ in 0..=LEARNS {
            let counts = names.iter().map(|name| (site(name), 1));
            assert_eq!(baselines.look(counts, others), []);
        }
        assert_eq!(baselines.levels.len(), MAX_NAMES + 1);
        let (_, rest) = &baselines.levels[&key(&others)];
        assert_eq!(rest.usual as usize, MAX_NAMES);
        // A name of which there is nothing any more makes room.
        for _ in 0..2 * DAY {
            baselines.look([], others);
        }
        for (_, level) in baselines.levels.values_mut() {
            level.usual = 0;
        }
        baselines.look([(site("new"), 1)], others);
        assert!(baselines.levels.contains_key(&key(&site("new"))));
    }

    #[test]
    fn the_text_says_which_name_grew_by_how_much_and_from_where() {
        let site = Site { name: "publish", place: Location::caller() };
        let mut baselines = Baselines::default();
        let counts = std::iter::repeat_n(1_000, 20).chain(std::iter::repeat_n(2_000, PATIENCE as usize));
        let told: Vec<_> = counts.flat_map(|count| baselines.look([(site, count)], site)).collect();
        let [(subject, text)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(
            (subject.kind, &*subject.name, subject.place),
            (AlertKind::TasksGrew, "publish", site.place)
        );
        assert_eq!(text, "2000 of them live, 1000 more than the 1000 that are usual");
    }
}
