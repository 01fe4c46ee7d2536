//! One run of a form on real threads and the real clock, where the detector finds what it finds by itself.
//!
//! It is a program of its own, as in production: with a [`Runner`], for the detector leaves tests alone.
//!
//! A task that was not polled for `QUIET` stands still: no kernel has a pause that long, except timers that are there to end
//! what the bug has left alive. That is a guess on a machine that has other things to do, so nothing is called wrong
//! before `PATIENCE` is over.

use std::collections::HashMap;
use std::time::Duration;

use bowline::{Runner, scope};
use tokio::time::{Instant, sleep};

use crate::judge;
use crate::oracle::{Left, Picture, look, names};
use crate::seeded::Outcome;
use crate::{Dead, Env, Expected, Form};

/// Who was not polled for so long stands still.
const QUIET: Duration = Duration::from_millis(400);
/// How long a proof may take, and how long something odd must last.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the slow form's pauses are: several periods of a detector that looks every 25 ms.
const SLOW: Duration = Duration::from_millis(150);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// After a proof, how long it must hold before it is believed.
const HOLDS: Duration = Duration::from_millis(50);

/// The task that [`Runner`] starts: it is ours, and no kernel's.
const DRIVER: &str = "main";

/// Runs `form` once with so many workers.
///
/// # Panics
///
/// If the system gives no threads, or the form panics.
#[must_use]
pub fn run(form: &'static Form, workers: usize, seed: u64) -> Outcome {
    let env = Env { kind: form.kind, slow: SLOW };
    let runner = Runner::new("goker").worker_threads(workers).without_signals();
    let (outcome, report) = runner.run(async move {
        fastrand::seed(seed);
        let _told_by_the_outcome = bowline::on_alert(|_| {});
        scope("driver", async |s| {
            let program = s.spawn("T0", (form.run)(env));
            let outcome = watch(form).await;
            program.cancel("judged");
            Ok::<_, bowline::Cancelled>(outcome)
        })
        .await
    });
    match outcome {
        Some(Ok(outcome)) if report.is_clean() => outcome,
        _ => Outcome::Broken(format!("it was cancelled, and did not end in order: {report}")),
    }
}

/// When each task was polled last, as far as was seen.
#[derive(Default)]
struct Moves(HashMap<u64, (u32, Instant)>);

impl Moves {
    fn note(&mut self, picture: &Picture) {
        let now = Instant::now();
        for (id, seen) in picture {
            let known = self.0.entry(*id).or_insert((seen.polls, now));
            if known.0 != seen.polls {
                *known = (seen.polls, now);
            }
        }
    }

    fn quiet(&self, id: u64) -> Duration {
        self.0.get(&id).map_or(Duration::ZERO, |(_, at)| at.elapsed())
    }
}

async fn watch(form: &Form) -> Outcome {
    let mut moves = Moves::default();
    let mut proved: Option<(Instant, Duration)> = None;
    let mut called = HashMap::new();
    let mut alone = None;
    loop {
        sleep(LOOK).await;
        let mut findings = judge::ask_standing();
        let mut seen = look();
        seen.retain(|_, task| task.name != DRIVER);
        moves.note(&seen);
        judge::of_run(&mut findings, &seen);
        for finding in &findings {
            if judge::is_too_sure(form, finding) {
                return Outcome::False(format!("a guess: {}", finding.text));
            }
            for task in finding.tasks.iter().filter(|task| !judge::ends_by_scope(form, task)) {
                // Dead is who does not move: whoever is called so and is polled again is not.
                let polls = seen.get(&task.id).map(|seen| seen.polls);
                let has_moved = *called.entry(task.id).or_insert(polls) != polls;
                if has_moved || polls.is_none() {
                    return Outcome::False(format!("{} has moved in: {}", task.name, finding.text));
                }
            }
        }
        if seen.is_empty() {
            return Outcome::Ended;
        }
        if outlive(form, &seen) {
            if alone.get_or_insert_with(Instant::now).elapsed() >= QUIET {
                return unexpected(form, &Left::default(), &findings);
            }
            continue;
        }
        let quiet = |tasks: &Picture| tasks.keys().map(|id| moves.quiet(*id)).min().unwrap_or_default();
        if let Some((dead, others)) = proof(form, &findings, &seen) {
            let (at, after) = *proved.get_or_insert((Instant::now(), quiet(&dead)));
            // It is the whole of it if nobody else stands still as well.
            if at.elapsed() >= HOLDS && others.keys().all(|id| moves.quiet(*id) < HOLDS) {
                return Outcome::Proved { after };
            }
        }
        let (still, moving): (Picture, Picture) =
            seen.iter().map(|(id, seen)| (*id, seen.clone())).partition(|(id, _)| moves.quiet(*id) >= QUIET);
        let mut left = Left::between(&still, &still);
        left.alive = moving;
        match expected(form, &left) {
            Some(_) if matches!(form.expected, Expected::Unprovable(_)) => return Outcome::Unjudged,
            Some(dead) if quiet(&left.stuck) >= PATIENCE => {
                return Outcome::Missed(judge::fault(&findings, dead, &left.stuck).unwrap_or_default());
            }
            None if quiet(&seen) >= PATIENCE => return unexpected(form, &left, &findings),
            _ => {}
        }
    }
}

/// If those are called dead who can be, and rightly: who they are, and who else there is but owners of theirs.
fn proof(form: &Form, findings: &[judge::Finding], seen: &Picture) -> Option<(Picture, Picture)> {
    let Expected::Dead { sets, .. } = form.expected else { return None };
    let mut seen = seen.clone();
    seen.retain(|_, task| !task.closes);
    let proved = sets.iter().filter_map(|dead| {
        let (called, others): (Picture, Picture) =
            seen.clone().into_iter().partition(|(_, task)| dead.tasks.contains(&task.name));
        let is_it = names(&called) == dead.tasks && judge::fault(findings, dead, &called).is_none();
        is_it.then_some((called, others))
    });
    proved.max_by_key(|(called, _)| called.len())
}

/// Whether those are left that outlive their work, and nobody else but owners of theirs.
fn outlive(form: &Form, seen: &Picture) -> bool {
    let mut left = seen.clone();
    left.retain(|_, task| !task.closes);
    matches!(form.expected, Expected::Outlives(tasks) if names(&left) == tasks)
}

fn expected(form: &Form, left: &Left) -> Option<&'static Dead> {
    let (Expected::Dead { sets, .. } | Expected::Unprovable(sets)) = form.expected else { return None };
    let found = left.names();
    sets.iter().find(|dead| dead.tasks == found && dead.resources == left.resources)
}

fn unexpected(form: &Form, left: &Left, findings: &[judge::Finding]) -> Outcome {
    if let Expected::Outlives(_) = form.expected {
        return match findings.first() {
            Some(finding) => Outcome::False(finding.text.clone()),
            None => Outcome::Ended,
        };
    }
    Outcome::Broken(format!(
        "stuck: {:?} at {:?}, alive: {:?}",
        left.names(),
        left.resources,
        names(&left.alive)
    ))
}
