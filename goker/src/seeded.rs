//! One run of a form under a seed: on one thread, on a paused clock, with turns given away as the seed says.
//!
//! The same seed is the same run. The detector is asked at a random early moment, at some fixed ones, and when nothing has
//! moved for longer than any timer; then the run is cancelled, and must leave nothing behind.

use std::pin::Pin;
use std::time::Duration;

use bowline::testing::harness::{self, Options};
use bowline::{Cancelled, scope};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::judge::{self, Finding};
use crate::oracle::{HORIZON, Left, Picture, look, names};
use crate::{Dead, End, Env, Expected, Form, Kernel, Kind};

/// How long the slow form's pauses are: longer than any tool's patience.
pub const SLOW: Duration = Duration::from_secs(45);

/// When the detector is asked, from the start; before that once among the first turns.
const PROBES: [Duration; 3] = [Duration::from_millis(1), Duration::from_secs(5), Duration::from_secs(60)];

/// After the last of them, before who stands still is looked for.
const SETTLES: Duration = Duration::from_secs(1);

/// What one run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All tasks ended by themselves, and nothing was reported.
    Ended,
    /// Tasks stood still for ever, and the detector said which and why.
    Proved {
        /// When it had said so first, on the run's clock.
        after: Duration,
    },
    /// Tasks stood still for ever, and nobody could know it.
    Unjudged,
    /// Tasks stood still for ever, and what the detector said was not it.
    Missed(String),
    /// A task was called dead that lives.
    False(String),
    /// The port is wrong: what is left is not what the kernel says.
    Broken(String),
}

/// What was seen of a run, and what the detector said of it.
#[derive(Clone, Debug)]
pub struct Watched {
    probes: Vec<Probe>,
    /// What was left after the cancel: tasks, waiters, and permits in the hands of those. It is to be nothing.
    remains: Vec<String>,
    /// What is left when nothing moves any more.
    pub left: Left,
}

/// One look.
#[derive(Clone, Debug)]
struct Probe {
    at: Duration,
    seen: Picture,
    findings: Vec<Finding>,
}

/// Runs `form` once.
///
/// # Panics
///
/// If it panics, or leaves a task behind after it was cancelled.
#[must_use]
pub fn run(kernel: &Kernel, form: &Form, seed: u64) -> Outcome {
    let env = Env { kind: form.kind, slow: SLOW };
    observe(kernel.name, seed, (form.run)(env)).judge(form)
}

/// Runs `program` once, as the task `T0`, and looks on.
///
/// # Panics
///
/// If it panics, or leaves a task behind after it was cancelled.
#[must_use]
pub fn observe(name: &'static str, seed: u64, program: Pin<Box<dyn Future<Output = End> + Send>>) -> Watched {
    fastrand::seed(seed);
    // Pools are told of the panics of their jobs, and supervisors of those of their children.
    let options = Options { start_paused: true, seed, allow_panics: true, ..Options::new(name) };
    let watched = harness::run(options, async move {
        let mut watched = scope("driver", async |s| {
            let program = s.spawn("T0", program);
            let watched = watch().await;
            program.cancel("judged");
            watched
        })
        .await?;
        watched.remains = watched.remaining();
        Ok::<_, Cancelled>(watched)
    });
    watched.expect("nobody cancels the driver")
}

async fn watch() -> Result<Watched, Cancelled> {
    let mut probes = Vec::new();
    for _ in 0..fastrand::u32(0..24) {
        yield_now().await;
    }
    let mut at = Duration::ZERO;
    probes.push(probe(at));
    for next in PROBES.into_iter().chain([HORIZON]) {
        sleep(next - at).await;
        at = next;
        probes.push(probe(at));
        if probes[probes.len() - 1].seen.is_empty() {
            return Ok(Watched { probes, remains: Vec::new(), left: Left::default() });
        }
    }
    // Whom the last question has woken is to be asleep again.
    sleep(SETTLES).await;
    let before = look();
    sleep(HORIZON).await;
    let seen = look();
    let left = Left::between(&before, &seen);
    probes.push(Probe { seen, ..probe(at + SETTLES + HORIZON) });
    Ok(Watched { probes, remains: Vec::new(), left })
}

fn probe(at: Duration) -> Probe {
    let mut findings = judge::ask_now();
    let seen = look();
    judge::of_run(&mut findings, &seen);
    Probe { at, seen, findings }
}

impl Watched {
    /// What there is of the run's tasks, now that it was cancelled.
    fn remaining(&self) -> Vec<String> {
        let of_run = |task: Option<u64>| {
            task.is_some_and(|task| self.probes.iter().any(|probe| probe.seen.contains_key(&task)))
        };
        let mut remains: Vec<_> = look().values().map(|task| format!("task {}", task.name)).collect();
        for resource in bowline::contended() {
            let waiters = resource.waiters.iter().filter(|waiter| of_run(waiter.task)).count();
            let holders = resource.holders.iter().filter(|holder| of_run(holder.task)).count();
            if waiters + holders > 0 {
                remains.push(format!("{waiters} waiters and {holders} holders at {}", resource.name));
            }
        }
        remains
    }

    fn judge(&self, form: &Form) -> Outcome {
        if !self.remains.is_empty() {
            return Outcome::Broken(format!("after the cancel there are still {:?}", self.remains));
        }
        if let Some(wrong) = self.false_report(Some(form)) {
            return Outcome::False(wrong);
        }
        let left = &self.left;
        let found = left.names();
        let alive = names(&left.alive);
        let dead = match form.expected {
            Expected::Ends | Expected::ByScope(_) => None,
            Expected::Outlives(tasks) if alive == tasks && found.is_empty() => return Outcome::Ended,
            Expected::Outlives(_) => None,
            Expected::Dead { sets, .. } | Expected::Unprovable(sets) => {
                sets.iter().find(|dead| dead.tasks == found && dead.resources == left.resources)
            }
        };
        let sometimes = matches!(
            form.expected,
            Expected::Ends | Expected::ByScope(_) | Expected::Dead { always: false, .. }
        );
        match dead {
            Some(_) if matches!(form.expected, Expected::Unprovable(_)) && left.alive.is_empty() => {
                Outcome::Unjudged
            }
            None if left.is_nothing() && sometimes => Outcome::Ended,
            Some(dead) if left.alive.is_empty() => self.proof(dead),
            _ => Outcome::Broken(format!("stuck: {found:?} at {:?}, alive: {alive:?}", left.resources)),
        }
    }

    /// Says who was called dead and is not: whoever is must never have moved again, but for those whose scope ends them.
    #[must_use]
    pub fn false_report(&self, form: Option<&Form>) -> Option<String> {
        let last = self.probes.last()?;
        for probe in &self.probes {
            for finding in &probe.findings {
                if form.is_some_and(|form| judge::is_too_sure(form, finding)) {
                    return Some(format!("a guess at {:?}: {}", probe.at, finding.text));
                }
                let by_scope = |task| form.is_some_and(|form| judge::ends_by_scope(form, task));
                for task in finding.tasks.iter().filter(|task| !by_scope(task)) {
                    let then = probe.seen.get(&task.id).map(|seen| seen.polls);
                    let now = last.seen.get(&task.id).map(|seen| seen.polls);
                    if then.is_none() || then != now || self.left.alive.contains_key(&task.id) {
                        return Some(format!("{} at {:?} in: {}", task.name, probe.at, finding.text));
                    }
                }
            }
        }
        None
    }

    /// Compares what was said with `dead`, who is really left.
    #[must_use]
    pub fn proof(&self, dead: &Dead) -> Outcome {
        let mut last = String::new();
        for probe in &self.probes {
            match judge::fault(&probe.findings, dead, &self.left.stuck) {
                None => return Outcome::Proved { after: probe.at },
                Some(fault) => last = fault,
            }
        }
        Outcome::Missed(last)
    }
}

/// Whether the form is one that [`run`] runs; plain tokio is run in [`bare`](crate::bare).
#[must_use]
pub fn runs(form: &Form) -> bool {
    form.kind != Kind::Tokio
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Called;
    use crate::oracle::Seen;

    fn picture(polls: u32) -> Picture {
        Picture::from([(7, Seen { name: "T1", place: "kernel.rs:5".to_owned(), polls, closes: false })])
    }

    /// A run in which T1 was called dead after three polls, and which looked so at its last two looks.
    fn called_dead(before: &Picture, last: &Picture) -> Watched {
        let wait = judge::Wait {
            op: "lock".to_owned(),
            on: 3,
            place: "kernel.rs:9".to_owned(),
            why: vec!["held by itself".to_owned()],
        };
        let called = Called {
            id: 7,
            name: "T1".to_owned(),
            path: "T0/T1".to_owned(),
            spawned_at: "kernel.rs:5".to_owned(),
            waits: vec![wait],
        };
        let svm = judge::Named { id: 3, name: "m".to_owned(), place: "kernel.rs:1".to_owned() };
        let finding = Finding {
            tasks: vec![called],
            resources: vec![svm],
            is_circle: true,
            closed_by: Some((7, "kernel.rs:9".to_owned())),
            tier: crate::Tier::Exact,
            text: String::new(),
        };
        let probe = |at, seen: &Picture, findings| Probe { at, seen: seen.clone(), findings };
        let probes = vec![
            probe(Duration::ZERO, &picture(3), vec![finding]),
            probe(HORIZON, before, Vec::new()),
            probe(HORIZON * 2, last, Vec::new()),
        ];
        Watched { probes, remains: Vec::new(), left: Left::between(before, last) }
    }

    #[test]
    fn who_was_called_dead_and_moved_later_was_called_so_wrongly() {
        let is_false = |before, last| called_dead(&before, &last).false_report(None).is_some();
        assert!(!is_false(picture(3), picture(3)), "it never moved again");
        assert!(is_false(picture(3), picture(4)), "it moves still");
        assert!(is_false(picture(4), picture(4)), "it moved, and then stood still");
        assert!(is_false(picture(3), Picture::new()), "it ended");
    }

    #[test]
    fn a_form_that_leaves_others_than_it_says_is_broken() {
        fn none(_: Env) -> Pin<Box<dyn Future<Output = End> + Send>> {
            Box::pin(async { Ok(()) })
        }
        const FORM: Form = Form::always_dead(Kind::Lock, none, &[Dead::new(&["T1"], &[])]);
        let run = called_dead(&picture(3), &picture(3));
        assert!(matches!(run.judge(&FORM), Outcome::Proved { after: Duration::ZERO }));
        let ends = Form::ends(Kind::Fixed, none);
        assert!(matches!(run.judge(&ends), Outcome::Broken(_)), "it should have ended");
        let nothing_left = Watched { probes: Vec::new(), remains: Vec::new(), left: Left::default() };
        let remains = Watched { remains: vec!["task T1".to_owned()], ..nothing_left.clone() };
        assert!(matches!(remains.judge(&ends), Outcome::Broken(_)), "it should be gone");
        assert!(matches!(nothing_left.judge(&FORM), Outcome::Broken(_)), "it should have stood still");
        assert_eq!(nothing_left.judge(&ends), Outcome::Ended);
        let silent = Watched {
            probes: vec![Probe { at: HORIZON, seen: picture(3), findings: Vec::new() }],
            remains: Vec::new(),
            left: Left::between(&picture(3), &picture(3)),
        };
        assert!(matches!(silent.judge(&FORM), Outcome::Missed(_)));
    }
}
