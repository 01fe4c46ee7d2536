//! What the detector says, in the words of this crate: the one place that knows its types.

use std::collections::BTreeSet;
use std::path::Path;

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
    /// The names from the root down to it.
    pub path: String,
    /// `file:line` of its spawn.
    pub spawned_at: String,
    /// What it waits for.
    pub waits: Vec<Wait>,
}

/// A wait of such a task.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The operation.
    pub op: String,
    /// The resource, or the task or scope.
    pub on: u64,
    /// `file:line` of the wait.
    pub place: String,
    /// Why nobody ends it.
    pub why: Vec<String>,
}

/// Something that is waited for.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its id in the process.
    pub id: u64,
    /// The name given at its creation.
    pub name: String,
    /// `file:line` of that.
    pub place: String,
}

/// A proof.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Who is dead.
    pub tasks: Vec<Called>,
    /// What they wait at.
    pub resources: Vec<Named>,
    /// Whether some wait for each other, and which wait was the last to begin: task and place.
    pub is_circle: bool,
    /// See [`is_circle`](Self::is_circle).
    pub closed_by: Option<(u64, String)>,
    /// What the proof rests on.
    pub tier: Tier,
    /// The report as people read it.
    pub text: String,
}

/// Asks the detector about everything that runs here, now. To be called within the run that is judged: elsewhere it looks at
/// everything there is, and wakes what it has to in the runs of others.
#[must_use]
pub fn ask_now() -> Vec<Finding> {
    bowline::testing::deadlocks_now().into_iter().map(Finding::from).collect()
}

/// Asks for what the detector has found by itself, in all that runs in the process.
#[must_use]
pub fn ask_standing() -> Vec<Finding> {
    bowline::deadlocks().into_iter().map(Finding::from).collect()
}

impl From<Deadlock> for Finding {
    fn from(deadlock: Deadlock) -> Self {
        let text = deadlock.to_string();
        let is_circle = matches!(deadlock.kind, DeadlockKind::Cycle | DeadlockKind::SelfWait);
        let named = |resource: bowline::ResourceInfo| Named {
            id: resource.id,
            name: resource.name.to_owned(),
            place: resource.place,
        };
        let resources = deadlock.resources.into_iter().map(named).collect();
        let closed_by = deadlock.closed_by.map(|edge| (edge.task, edge.place));
        let tier = match deadlock.tier {
            bowline::Tier::Exact => Tier::Exact,
            bowline::Tier::Bound => Tier::Bound,
            bowline::Tier::Shared => Tier::Shared,
            _ => Tier::ClosedWorld,
        };
        let wait = |wait: bowline::DeadWait| Wait {
            op: wait.op.to_owned(),
            on: wait.on,
            place: wait.place,
            why: wait.why,
        };
        let tasks = deadlock.tasks.into_iter().map(|task| Called {
            id: task.id,
            name: task.name.to_owned(),
            path: task.path,
            spawned_at: task.spawned_at,
            waits: task.waits.into_iter().map(wait).collect(),
        });
        Self { tasks: tasks.collect(), resources, is_circle, closed_by, tier, text }
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
    let called = || findings.iter().flat_map(|finding| finding.tasks.iter().map(move |task| (finding, task)));
    for (id, task) in stuck {
        let Some((finding, named)) = called().find(|(_, named)| named.id == *id) else {
            return Some(format!("{} #{id} is dead and was not called so", task.name));
        };
        let is_it = named.name == task.name && named.spawned_at == task.place;
        if !is_it || !(named.path == named.name || named.path.ends_with(&format!("/{}", named.name))) {
            return Some(format!("{} spawned at {} is called {named:?}", task.name, task.place));
        }
        if let Some(fault) = fault_of(finding, named, findings) {
            return Some(format!("{fault}\n{}", finding.text));
        }
    }
    if let Some(finding) = findings.iter().find(|finding| !tells_of_the_circle(finding)) {
        return Some(format!("it does not say which wait has closed the circle: {}", finding.text));
    }
    let resources: BTreeSet<&str> = findings
        .iter()
        .flat_map(|finding| finding.resources.iter().map(|resource| resource.name.as_str()))
        .collect();
    if let Some(missing) = dead.resources.iter().find(|name| !resources.contains(**name)) {
        return Some(format!("they wait at {missing}, and the report names {resources:?}"));
    }
    let (tier, expected) = (findings.iter().map(|finding| finding.tier).max()?, dead.tier?);
    (tier != expected).then(|| format!("the proof is {tier:?}, and not {expected:?}"))
}

/// What is wrong with what is said of one task: where it waits and for what, and who does not end that. Whoever is named there
/// is told of as well, in this report or in `all` of the same moment: who shares a semaphore may stand still for another reason.
fn fault_of(finding: &Finding, named: &Called, all: &[Finding]) -> Option<String> {
    let task = format!("{} #{}", named.name, named.id);
    if named.waits.is_empty() {
        return Some(format!("nothing is said of what {task} waits for"));
    }
    for wait in &named.waits {
        let line = source(&wait.place);
        let resource = finding.resources.iter().find(|resource| resource.id == wait.on);
        let is_there = match (wait.op.as_str(), resource) {
            // What is joined, or closed, stands for the place.
            ("join" | "close", None) => !wait.place.is_empty(),
            (_, None) => return Some(format!("{task} waits at #{}, which is not listed", wait.on)),
            // Of a queue the place of the wait is not known: its own stands for it.
            (_, Some(resource)) if resource.place == wait.place => true,
            (op, Some(_)) => {
                line.as_deref().is_none_or(|line| words_of(op).iter().any(|word| line.contains(word)))
            }
        };
        if !is_there || wait.place.is_empty() {
            return Some(format!("{task} does not {} at {}: {line:?}", wait.op, wait.place));
        }
        if let Some(fault) = resource.and_then(fault_of_resource) {
            return Some(fault);
        }
        if wait.why.is_empty() {
            return Some(format!("it does not say why nobody ends the {} of {task}", wait.op));
        }
        for why in wait.why.iter().filter(|why| !why.contains("has ended")) {
            let told_of = |id: &u64| all.iter().flat_map(|finding| &finding.tasks).any(|task| task.id == *id);
            let unknown = ids(why).find(|id| !told_of(id));
            if let Some(id) = unknown {
                return Some(format!("`{why}`, and of #{id} it says nothing"));
            }
        }
    }
    None
}

/// A resource has a name and a place, and that is where it is made.
fn fault_of_resource(resource: &Named) -> Option<String> {
    let Named { id, name, place } = resource;
    let is_made_there =
        source(place).is_none_or(|line| line.contains(&format!("\"{name}\"")) || line.contains("name"));
    (name.is_empty() || place.is_empty() || !is_made_there)
        .then(|| format!("`{name}` #{id} is not made at {place}"))
}

/// Who waits in a circle is told which wait has closed it; it is one of theirs.
fn tells_of_the_circle(finding: &Finding) -> bool {
    let Some((task, place)) = &finding.closed_by else { return !finding.is_circle };
    finding.tasks.iter().any(|known| known.id == *task && known.waits.iter().any(|wait| wait.place == *place))
}

/// The ids in a sentence of a report.
fn ids(text: &str) -> impl Iterator<Item = u64> {
    text.split('#').skip(1).filter_map(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        digits.parse().ok()
    })
}

/// What the line of an operation has in it: its own name, or one of the words of [`go`](crate::go) that stand for it.
fn words_of(op: &str) -> &'static [&'static str] {
    match op {
        "recv" => &["recv"],
        "send" => &["send", "give(", "put(", "reserve"],
        "lock" => &["lock", "with("],
        "read" => &["read"],
        "write" => &["write"],
        "acquire" => &["acquire", "wait("],
        "notified" => &["notified", "wait"],
        "latch" => &["wait("],
        "changed" => &["changed", "wait"],
        "reply" => &["call(", "recv"],
        _ => &[""],
    }
}

/// A line of this crate, if it is one; where the sources are not there nothing is checked.
fn source(place: &str) -> Option<String> {
    let (file, line) = place.rsplit_once(':')?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let text = std::fs::read_to_string(root.join(file)).ok()?;
    text.lines().nth(line.parse::<usize>().ok()?.checked_sub(1)?).map(str::to_owned)
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
        let why = vec!["held by `T2` #8, taken at kernel.rs:2, which stands still".to_owned()];
        let wait = |on, why| Wait { op: "lock".to_owned(), on, place: "kernel.rs:9".to_owned(), why };
        let task = |id, name: &str, wait| Called {
            id,
            name: name.to_owned(),
            path: format!("T0/{name}"),
            spawned_at: "kernel.rs:5".to_owned(),
            waits: vec![wait],
        };
        let other = vec!["held by itself".to_owned()];
        Finding {
            tasks: vec![task(7, "T1", wait(3, why)), task(8, "T2", wait(3, other))],
            resources: vec![Named { id: 3, name: "svm".to_owned(), place: "kernel.rs:1".to_owned() }],
            is_circle: true,
            closed_by: Some((7, "kernel.rs:9".to_owned())),
            tier: Tier::Exact,
            text: String::new(),
        }
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
        assert!(after(|finding| finding.tasks[0].path = "T0/T2".to_owned()).is_some(), "another path");
        assert!(after(|finding| finding.tasks[0].waits[0].place.clear()).is_some(), "no place of the wait");
        assert!(after(|finding| finding.tasks[0].waits.clear()).is_some(), "no wait");
        assert!(after(|finding| finding.tasks[0].waits[0].why.clear()).is_some(), "no reason");
        assert!(after(|finding| drop(finding.tasks.remove(1))).is_some(), "its holder is not in it");
        assert!(after(|finding| finding.resources[0].name = "log".to_owned()).is_some(), "another resource");
        assert!(after(|finding| finding.resources[0].place.clear()).is_some(), "made nowhere");
        assert!(after(|finding| finding.resources.clear()).is_some(), "no resource");
        assert!(after(|finding| finding.closed_by = None).is_some(), "nothing has closed it");
        assert!(
            after(|finding| finding.closed_by = Some((7, "kernel.rs:3".to_owned()))).is_some(),
            "another wait"
        );
        assert!(after(|finding| finding.tier = Tier::Bound).is_some(), "a weaker proof");
    }

    #[test]
    fn a_place_is_a_line_of_the_program_that_does_what_is_said() {
        let here = |line: u32| format!("{}:{line}", file!());
        let line = line!() + 2;
        let words =
            [("lock", "svm.lock().await"), ("acquire", "stop.wait().await"), ("send", "give(&tx, ())")];
        assert!(
            source(&here(line)).is_some_and(|text| words_of("lock").iter().any(|word| text.contains(word)))
        );
        assert!(words.iter().all(|(op, text)| words_of(op).iter().any(|word| text.contains(word))));
        assert!(!words_of("recv").iter().any(|word| "svm.lock().await".contains(word)));
        let mut finding = finding();
        finding.tasks[0].waits[0].place = here(line - 2);
        assert!(
            fault_of(&finding, &finding.tasks[0], std::slice::from_ref(&finding)).is_some(),
            "nothing is locked there"
        );
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
