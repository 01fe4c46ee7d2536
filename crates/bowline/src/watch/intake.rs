//! What comes in somewhere and is to be taken: queues, pools, stages. Whether anybody takes it, and what is lost.

use std::collections::HashMap;
use std::panic::Location;
use std::time::Duration;

use crate::alert::{AlertKind, Subject};

use super::Matter;

/// Bounds below this are half full all the time.
const MIN_HIGH: usize = 8;
/// For how long a queue is more than half full before that is told.
const HIGH_FOR: Duration = Duration::from_secs(10);
/// For how long what was dropped or refused is told.
const DROPS_FOR: Duration = Duration::from_secs(60);

/// The books of a queue, pool or stage at one moment.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    pub(super) id: u64,
    pub(super) what: &'static str,
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    pub(super) waiting: usize,
    pub(super) max: usize,
    /// Whether it is for us to tell that it is half full. A pool tells it itself, and a stage's buffer is full by design
    /// wherever the next is slower.
    pub(super) tells_high: bool,
    /// How long the first has waited, if that is known.
    pub(super) oldest: Option<Duration>,
    /// How many were taken so far.
    pub(super) taken: u64,
    /// How many are taken and not done.
    pub(super) in_hands: usize,
    pub(super) dropped: u64,
    pub(super) refused: u64,
    /// Tasks that are to take them.
    pub(super) takers: Vec<u64>,
    /// What is known of those, if the oldest is ripe.
    pub(super) receivers: Vec<Receiver>,
}

/// Somebody who is to take what waits.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    pub(super) task: u64,
    pub(super) path: String,
    pub(super) polls: u32,
    pub(super) state: String,
}

/// What is kept of one intake that is not empty, or has lost something.
#[derive(Default)]
struct Seen {
    taken: u64,
    in_hands: usize,
    /// For how long something has waited and nothing moved.
    still: Duration,
    /// The polls of the receivers when they were first looked at.
    polls: Vec<(u64, u32)>,
    /// For how long it has been more than half full.
    high: Option<Duration>,
    is_high: bool,
    lost: (u64, u64),
    /// Lost within the last minute: what was there before, and how long ago the last was.
    losing: Option<((u64, u64), Duration)>,
}

/// All intakes of a root over time.
#[derive(Default)]
pub(super) struct Intakes {
    seen: HashMap<(&'static str, u64), Seen>,
    /// What was lost before the first look is not news.
    has_looked: bool,
}

impl Intakes {
    /// Takes a look; `passed` is the time since the one before, as far as it counts.
    pub(super) fn look(
        &mut self,
        passed: Duration,
        no_progress: Duration,
        intakes: &[Intake],
    ) -> Vec<Matter> {
        let mut before = std::mem::take(&mut self.seen);
        let mut matters = Vec::new();
        for intake in intakes {
            let known = before.remove(&(intake.what, intake.id));
            let had_looked = self.has_looked;
            let mut seen = known.unwrap_or_else(|| Seen {
                // A queue that came since the last look has lost what it has lost since then; one that is kept no more because
                // it was empty had lost nothing.
                lost: if had_looked { (0, 0) } else { (intake.dropped, intake.refused) },
                taken: u64::MAX, // the first look says what is there, and not since when
                ..Seen::default()
            });
            let mut tell = |kind, text| {
                matters.push((Subject { kind, name: intake.name.into(), place: intake.place }, text));
            };
            if let Some(text) = seen.progress(passed, no_progress, intake) {
                tell(AlertKind::NoProgress, text);
            }
            if let Some(text) = seen.height(passed, intake) {
                tell(AlertKind::QueueHigh, text);
            }
            if let Some(text) = seen.losses(passed, intake) {
                tell(AlertKind::Dropping, text);
            }
            if intake.waiting > 0 || seen.is_high || intake.dropped + intake.refused > 0 {
                self.seen.insert((intake.what, intake.id), seen);
            }
        }
        self.has_looked = true;
        matters
    }
}

impl Seen {
    fn progress(&mut self, passed: Duration, limit: Duration, intake: &Intake) -> Option<String> {
        let moved = (self.taken, self.in_hands) != (intake.taken, intake.in_hands);
        (self.taken, self.in_hands) = (intake.taken, intake.in_hands);
        if moved || intake.waiting == 0 {
            self.still = Duration::ZERO;
            self.polls.clear();
            return None;
        }
        self.still += passed;
        for receiver in &intake.receivers {
            if self.polls.iter().all(|(task, _)| *task != receiver.task) {
                self.polls.push((receiver.task, receiver.polls));
            }
        }
        // Both: an item that came a moment ago may still be taken, and what was not seen to stand still may have moved.
        let waited = intake.oldest.unwrap_or(self.still).min(self.still);
        (waited >= limit).then(|| self.stands_still(waited, intake))
    }

    fn stands_still(&self, waited: Duration, intake: &Intake) -> String {
        let Intake { what, waiting, .. } = intake;
        let hands = match intake.in_hands {
            0 => String::new(),
            some => format!(", and {some} are taken and not done"),
        };
        let whose = match &intake.receivers[..] {
            [] if what == &"queue" => "; who is to take them is not known".to_owned(),
            [] => String::new(),
            [receiver, others @ ..] => {
                let Receiver { task, path, polls, state } = receiver;
                let before =
                    self.polls.iter().find(|(known, _)| known == task).map_or(*polls, |(_, polls)| *polls);
                let polled = match polls.wrapping_sub(before) {
                    0 => "was not polled".to_owned(),
                    times => format!("was polled {times} times without taking one"),
                };
                let others = match others.len() {
                    0 => String::new(),
                    others => format!(", as have {others} others"),
                };
                format!("; task #{task} `{path}`, {state}, {polled}{others}")
            }
        };
        format!("{waiting} wait in this {what}{hands}, and none was taken for {waited:?}{whose}")
    }

    fn height(&mut self, passed: Duration, intake: &Intake) -> Option<String> {
        let Intake { waiting, max, .. } = *intake;
        if max < MIN_HIGH || !intake.tells_high {
            return None;
        }
        if waiting > max / 2 {
            let high = self.high.map_or(Duration::ZERO, |high| high + passed);
            self.high = Some(high);
            self.is_high |= high >= HIGH_FOR;
        } else {
            self.high = None;
            self.is_high &= waiting > max / 4;
        }
        self.is_high.then(|| format!("{waiting} of {max} wait, for more than {HIGH_FOR:?}"))
    }

    fn losses(&mut self, passed: Duration, intake: &Intake) -> Option<String> {
        let now = (intake.dropped, intake.refused);
        let before = std::mem::replace(&mut self.lost, now);
        self.losing = match self.losing {
            _ if now == before => {
                self.losing.map(|(from, ago)| (from, ago + passed)).filter(|(_, ago)| *ago < DROPS_FOR)
            }
            Some((from, _)) => Some((from, Duration::ZERO)),
            None => Some((before, Duration::ZERO)),
        };
        let (from, _) = self.losing?;
        let lost = [(now.0.saturating_sub(from.0), "dropped"), (now.1.saturating_sub(from.1), "refused")];
        let lost: Vec<_> = lost.iter().filter(|(many, _)| *many > 0).collect();
        let lost: Vec<_> = lost.iter().map(|(many, how)| format!("{many} {how}")).collect();
        Some(format!("{}: it is full, or was ({} of {} wait)", lost.join(", "), intake.waiting, intake.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_secs(5);
    const LIMIT: Duration = Duration::from_secs(30);

    fn queue(waiting: usize, taken: u64, oldest_s: u64) -> Intake {
        Intake {
            id: 1,
            what: "queue",
            name: "orders",
            place: Location::caller(),
            waiting,
            max: 16,
            tells_high: true,
            oldest: (waiting > 0).then(|| Duration::from_secs(oldest_s)),
            taken,
            in_hands: 0,
            dropped: 0,
            refused: 0,
            takers: vec![7],
            receivers: Vec::new(),
        }
    }

    /// What is told at each of some looks.
    fn told(intakes: &mut Intakes, looks: impl IntoIterator<Item = Intake>) -> Vec<Vec<(AlertKind, String)>> {
        let told = looks.into_iter().map(|intake| intakes.look(LOOK, LIMIT, &[intake]));
        told.map(|told| told.into_iter().map(|(subject, text)| (subject.kind, text)).collect()).collect()
    }

    fn kinds(told: &[Vec<(AlertKind, String)>]) -> Vec<AlertKind> {
        told.iter().flatten().map(|(kind, _)| *kind).collect()
    }

    #[test]
    fn items_that_nobody_takes_for_too_long_are_told_with_who_should() {
        let receiver = |polls| Receiver {
            task: 7,
            path: "main/packer".to_owned(),
            polls,
            state: "waiting to lock #9 for 31.0 s".to_owned(),
        };
        let mut intakes = Intakes::default();
        let looks = (0..7).map(|n| Intake { receivers: vec![receiver(40)], ..queue(3, 8, 5 * n) });
        let told = told(&mut intakes, looks);
        assert_eq!(kinds(&told), [AlertKind::NoProgress], "at the last look, 30 s after the first");
        assert_eq!(
            told[6][0].1,
            "3 wait in this queue, and none was taken for 30s; task #7 `main/packer`, waiting to lock #9 for 31.0 s, was \
             not polled"
        );
        let polled = Intake { receivers: vec![receiver(45)], ..queue(3, 8, 35) };
        let text = &intakes.look(LOOK, LIMIT, &[polled])[0].1;
        assert!(text.ends_with("was polled 5 times without taking one"), "{text}");
        assert_eq!(intakes.look(LOOK, LIMIT, &[queue(2, 9, 40)]), [], "one was taken");
    }

    #[test]
    fn a_slow_receiver_a_young_item_and_an_empty_queue_are_no_standstill() {
        let slow = (0..100).map(|n| queue(5, n / 5, 600)); // one in 25 s
        assert_eq!(kinds(&told(&mut Intakes::default(), slow)), []);
        let young = (0..100).map(|n| queue(1, 8, if n % 7 == 6 { 30 } else { 5 }));
        assert_eq!(kinds(&told(&mut Intakes::default(), young.take(6))), []);
        let empty = (0..100).map(|_| queue(0, 8, 0));
        assert_eq!(kinds(&told(&mut Intakes::default(), empty)), []);
        // An item that was there long before the first look may be taken at any moment.
        assert_eq!(kinds(&told(&mut Intakes::default(), (0..6).map(|_| queue(1, 8, 3_600)))), []);
        // Taken and not done yet is progress.
        let in_hands = (0..20).map(|n| Intake { in_hands: n / 4, ..queue(5, 8, 600) });
        assert_eq!(kinds(&told(&mut Intakes::default(), in_hands)), []);
    }

    #[test]
    fn a_queue_that_stays_more_than_half_full_is_told_until_it_is_down_to_a_quarter() {
        let mut intakes = Intakes::default();
        let depths = [9, 9, 9, 9, 8, 5, 4, 9, 4];
        let looks = depths.iter().zip(0..).map(|(depth, n)| queue(*depth, n, 1));
        let told = told(&mut intakes, looks);
        let high: Vec<bool> =
            told.iter().map(|told| kinds(std::slice::from_ref(told)) == [AlertKind::QueueHigh]).collect();
        assert_eq!(high, [false, false, true, true, true, true, false, false, false]);
        let small = (0..100).map(|n| Intake { max: MIN_HIGH - 1, ..queue(7, n, 1) });
        assert_eq!(kinds(&self::told(&mut Intakes::default(), small)), []);
    }

    #[test]
    fn drops_are_told_for_a_minute_and_those_before_the_first_look_are_not() {
        let dropped = |dropped, refused| Intake { dropped, refused, ..queue(0, 8, 0) };
        let mut intakes = Intakes::default();
        assert_eq!(kinds(&told(&mut intakes, [dropped(100, 0), dropped(100, 0)])), []);
        let first = told(&mut intakes, [dropped(103, 2)]);
        assert_eq!(first[0][0].1, "3 dropped, 2 refused: it is full, or was (0 of 16 wait)");
        let more = told(&mut intakes, [dropped(103, 2), dropped(104, 2)]);
        assert!(more[1][0].1.starts_with("4 dropped, 2 refused"), "{more:?}");
        let quiet = told(&mut intakes, (0..20).map(|_| dropped(104, 2)));
        assert_eq!(kinds(&quiet).len(), 11, "for less than a minute more");
        assert_eq!(quiet[11..].iter().flatten().count(), 0);
        // One that came since the last look, and has dropped already.
        let new = Intake { id: 2, ..dropped(1, 0) };
        assert_eq!(kinds(&told(&mut intakes, [new])), [AlertKind::Dropping]);
    }
}
