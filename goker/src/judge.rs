//! What the detector says, in the words of this crate: the one place that knows its types.

use bowline::{Deadlock, DeadlockKind};

use crate::oracle::Picture;
use crate::{Dead, Expected, Form, Tier};

/// A task the detector calls dead.
#[derive(Clone, Debug)]
pub struct Called {
    /// Its id in the process.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `file:line` of its spawn.
    pub spawned_at: String,
    /// `file:line` of its wait; empty if the report does not say.
    pub waits_at: String,
    /// The operation it waits in.
    pub op: String,
}

/// A proof.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Who is dead.
    pub tasks: Vec<Called>,
    /// What they wait at, by name.
    pub resources: Vec<String>,
    /// What the proof rests on.
    pub tier: Tier,
    /// Whether its tasks may be polled again and stand still all the same: the detector wakes one that was granted what it
    /// does not look at, to be certain that it does not.
    pub is_woken: bool,
    /// The report as people read it.
    pub text: String,
}

/// Asks the detector about everything that runs here, now. `None`: there is no detector to be asked.
#[must_use]
pub fn ask_now() -> Option<Vec<Finding>> {
    Some(bowline::testing::deadlocks_now().into_iter().map(Finding::from).collect())
}

/// Asks for what the detector has found by itself, in all that runs in the process.
#[must_use]
pub fn ask_standing() -> Option<Vec<Finding>> {
    Some(bowline::deadlocks().into_iter().map(Finding::from).collect())
}

impl From<Deadlock> for Finding {
    fn from(deadlock: Deadlock) -> Self {
        let text = deadlock.to_string();
        let is_woken = deadlock.kind == DeadlockKind::Futurelock;
        let waits = deadlock.tasks.iter().flat_map(|task| &task.waits).map(|wait| wait.name.to_owned());
        let resources =
            deadlock.resources.iter().map(|resource| resource.name.to_owned()).chain(waits).collect();
        let tier = match deadlock.tier {
            bowline::Tier::Exact => Tier::Exact,
            bowline::Tier::Bound => Tier::Bound,
            bowline::Tier::Shared => Tier::Shared,
            _ => Tier::ClosedWorld,
        };
        let tasks = deadlock.tasks.into_iter().map(|task| {
            let wait = task.waits.first();
            Called {
                id: task.id,
                name: task.name.to_owned(),
                spawned_at: task.spawned_at,
                waits_at: wait.map(|wait| wait.place.clone()).unwrap_or_default(),
                op: wait.map(|wait| wait.op.to_owned()).unwrap_or_default(),
            }
        });
        Self { tasks: tasks.collect(), resources, tier, is_woken, text }
    }
}

/// Leaves those that are about tasks of one run.
pub fn of_run(findings: &mut Vec<Finding>, run: &Picture) {
    findings.retain(|finding| finding.tasks.iter().any(|task| run.contains_key(&task.id)));
}

/// Whether `task` is one that its scope ends: it is rightly said to wait for that, and then it is gone.
#[must_use]
pub fn ends_by_scope(form: &Form, task: &Called) -> bool {
    matches!(form.expected, Expected::ByScope(tasks) if tasks.contains(&task.name.as_str()))
}

/// Whether `finding` claims to know who holds an end that anybody may have.
#[must_use]
pub fn is_too_sure(form: &Form, finding: &Finding) -> bool {
    matches!(form.expected, Expected::Unprovable(_)) && finding.tier != Tier::ClosedWorld
}

/// Says what is wrong with `findings` about tasks that stand still and are rightly called `dead`; `None` if nothing is.
#[must_use]
pub fn fault(findings: &[Finding], dead: &Dead, stuck: &Picture) -> Option<String> {
    let called = || findings.iter().flat_map(|finding| &finding.tasks);
    for (id, task) in stuck {
        let Some(named) = called().find(|named| named.id == *id) else {
            return Some(format!("{} #{id} is dead and was not called so", task.name));
        };
        if named.name != task.name || named.spawned_at != task.place {
            return Some(format!("{} spawned at {} is called {named:?}", task.name, task.place));
        }
        if named.waits_at.is_empty() || named.op.is_empty() {
            return Some(format!("nothing is said of where {} waits: {named:?}", task.name));
        }
    }
    let mut resources: Vec<_> = findings.iter().flat_map(|finding| &finding.resources).collect();
    resources.sort_unstable();
    resources.dedup();
    if let Some(missing) = dead.resources.iter().find(|name| !resources.iter().any(|known| known == *name)) {
        return Some(format!("they wait at {missing}, and the report names {resources:?}"));
    }
    let weakest = findings.iter().map(|finding| finding.tier).max();
    weakest
        .filter(|tier| *tier > dead.tier)
        .map(|tier| format!("{tier:?} is a weaker proof than {:?}", dead.tier))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Seen;

    const DEAD: Dead = Dead::new(&["T1"], &["svm"]);

    fn stuck() -> Picture {
        Picture::from([(7, Seen { name: "T1", place: "kernel.rs:5".to_owned(), polls: 3, closes: false })])
    }

    fn finding() -> Finding {
        let called = Called {
            id: 7,
            name: "T1".to_owned(),
            spawned_at: "kernel.rs:5".to_owned(),
            waits_at: "kernel.rs:9".to_owned(),
            op: "lock".to_owned(),
        };
        let (resources, text) = (vec!["svm".to_owned()], String::new());
        Finding { tasks: vec![called], resources, tier: Tier::Exact, is_woken: false, text }
    }

    /// What is wrong once `change` has been made to a report that was right.
    fn after(change: impl FnOnce(&mut Finding)) -> Option<String> {
        let mut finding = finding();
        change(&mut finding);
        fault(&[finding], &DEAD, &stuck())
    }

    #[test]
    fn a_report_is_right_only_with_every_task_its_places_its_resource_and_a_proof() {
        assert_eq!(after(|_| {}), None);
        assert!(fault(&[], &DEAD, &stuck()).is_some(), "nothing was said");
        assert!(after(|finding| finding.tasks[0].id = 8).is_some(), "another task");
        assert!(after(|finding| finding.tasks[0].name = "T2".to_owned()).is_some(), "another name");
        assert!(
            after(|finding| finding.tasks[0].spawned_at = "kernel.rs:6".to_owned()).is_some(),
            "another spawn"
        );
        assert!(after(|finding| finding.tasks[0].waits_at.clear()).is_some(), "no place of the wait");
        assert!(after(|finding| finding.tasks[0].op.clear()).is_some(), "no operation");
        assert!(after(|finding| finding.resources[0] = "log".to_owned()).is_some(), "another resource");
        assert!(after(|finding| finding.tier = Tier::ClosedWorld).is_some(), "a weaker proof");
    }

    #[test]
    fn findings_about_other_runs_are_left_out() {
        let mut other = finding();
        other.tasks[0].id = 1_000;
        let mut findings = vec![finding(), other];
        of_run(&mut findings, &stuck());
        assert_eq!(findings.len(), 1);
    }
}
