//! The watchdog: what a person should look at although nobody has failed.
//!
//! One thread per process, outside of every runtime, looks at the roots that [`Runner::run`](crate::Runner::run) has started. It
//! stops nothing and repairs nothing: it raises [alerts](crate::on_alert), and says when they are over.
//!
//! | what | how it is seen | kind of alert |
//! |---|---|---|
//! | one poll holds a thread | a worker's own books stand still; the tree says who is being polled (`workers`, `polls`) | `LongPoll` |
//! | no worker gets on | all of them stand still, or all sleep though tasks are queued (`workers`) | `Frozen` |
//! | input, and nobody takes it | a queue, pool or pipeline whose books stand still while its oldest item ages (`intake`) | `NoProgress` |
//! | items are lost or refused | its books (`intake`) | `Dropping` |
//! | a queue is half full, and stays so | its books (`intake`) | `QueueHigh` |
//! | blocking tasks wait for a thread | they were spawned and have not begun (`census`) | `BlockingFull` |
//! | more and more tasks of one name | a count by name, every 30 s, against what was usual (`baseline`) | `TasksGrew` |
//!
//! The rules are plain structs that are fed with what was seen and return what is the matter; `thread` feeds them, `census` walks
//! the tree for them. What merely waits for long is no alert: [`suspicions`] lists it.
//!
//! # Invariants
//!
//! 1. The watchdog takes no part in any poll, spawn or send: it reads words they write anyway, and short locks as views do.
//! 2. It uses at most about a hundredth of a core: after a walk it rests 99 times as long.
//! 3. Time counts only as far as the watchdog was awake to see it: a machine that was suspended, or a process that was stopped,
//!    is not a program that stood still.
//! 4. What it keeps is bounded: by the number of workers, of queues that are not empty, and by [`MAX_NAMES`](baseline::MAX_NAMES).
//!
//! # End
//!
//! A root is forgotten at the first look after its end, and with it what stood. The thread sleeps until the next root comes.

mod baseline;
mod census;
mod intake;
mod polls;
mod settings;
mod suspicion;
mod thread;
mod times;
mod workers;

use std::collections::HashMap;

use crate::alert::Subject;

pub use self::settings::Watchdog;
pub use self::suspicion::{Suspicion, suspicions};
pub(crate) use self::thread::watch;
pub use self::times::PollTimes;
pub(crate) use self::times::{
    Times, asked_for as asked_for_poll_times, begin as poll_begins, switch_on as time_polls,
};

/// What is the matter now, with a text for people. A rule says it anew at every look for as long as it holds.
type Matter = (Subject, String);

/// News for the board.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Raised(Subject, String),
    Over(Subject, String),
}

/// What stands: turns "this is the matter now" into news.
#[derive(Default)]
struct Standing(HashMap<Subject, String>);

impl Standing {
    /// `matters` is all that is the matter now; what is not in it any more is over.
    fn compare(&mut self, matters: impl IntoIterator<Item = Matter>) -> Vec<Finding> {
        let mut before = std::mem::take(&mut self.0);
        let mut news = Vec::new();
        for (subject, text) in matters {
            if self.0.contains_key(&subject) {
                continue; // the first of several with one name at one place speaks for all
            }
            let text = match before.remove(&subject) {
                Some(told) => told,
                None => {
                    news.push(Finding::Raised(subject.clone(), text.clone()));
                    text
                }
            };
            self.0.insert(subject, text);
        }
        news.extend(
            before.into_iter().map(|(subject, told)| Finding::Over(subject, format!("it was: {told}"))),
        );
        news
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::alert::AlertKind;

    #[test]
    fn what_stands_is_told_once_and_once_more_when_it_is_over() {
        let subject = |name: &'static str| Subject {
            kind: AlertKind::LongPoll,
            name: name.into(),
            place: Location::caller(),
        };
        let mut standing = Standing::default();
        let matter = |name, text: &str| (subject(name), text.to_owned());
        let news = standing.compare([matter("a", "one"), matter("a", "of the same"), matter("b", "two")]);
        let raised = |name, text: &str| Finding::Raised(subject(name), text.to_owned());
        assert_eq!(news, [raised("a", "one"), raised("b", "two")]);
        assert_eq!(standing.compare([matter("a", "grew"), matter("b", "two")]), []);
        let over = Finding::Over(subject("a"), "it was: one".to_owned());
        assert_eq!(standing.compare([matter("b", "two")]), [over]);
        assert_eq!(standing.compare([matter("a", "again"), matter("b", "two")]), [raised("a", "again")]);
    }
}
