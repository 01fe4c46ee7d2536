//! From a proof to a report: names, places, and for each wait why nothing ends it.

use std::collections::{BTreeSet, HashMap};
use std::panic::Location;

use tokio::time::Instant;

use super::pieces::{Piece, pieces};
use super::prove::Fate;
use super::report::{
    Canceller, ClosingEdge, DeadTask, DeadWait, Deadlock, DeadlockKind, HeldUp, Tier, Verdict,
};
use super::scan::Case;
use super::world::{CancelBy, Leaf, Permits, Place, ResourceId, StrandId, TaskId, Waits};
use crate::clock;
use crate::holders::IN_TRANSIT;
use crate::record::{Kind, Record};
use crate::resource::{Facts, ResourceKind, WaiterFact};
use crate::sync::Arc;
use crate::tree;
use crate::wait::Op;

/// What a test, or a program, does outside of all tasks.
const BODY: &str = "the test's own body";

/// How many holders and waiters a report names one by one.
const NAMED: usize = 8;

/// Who stands still in a report: a task, and its polls. It is reported once.
pub(super) type Standing = (TaskId, u32);

/// One report for each piece, and who is in it.
pub(super) fn tell(case: &Case) -> Vec<(Deadlock, Vec<Standing>)> {
    let is_dead: Vec<bool> = case
        .fates
        .iter()
        .map(|fate| case.is_closed || matches!(fate, Fate::Dead | Fate::OnlyCancel))
        .collect();
    let teller = Teller { case, is_dead: &is_dead };
    pieces(&case.gathered.world, &is_dead).iter().map(|piece| teller.tell(piece)).collect()
}

struct Teller<'a> {
    case: &'a Case,
    is_dead: &'a [bool],
}

impl Teller<'_> {
    fn tell(&self, piece: &Piece) -> (Deadlock, Vec<Standing>) {
        let parked = &self.case.walked.parked;
        let kind = self.kind(piece);
        let all = || piece.causes.iter().chain(&piece.behind).copied();
        let tasks: Vec<DeadTask> =
            all().map(|strand| self.task(strand, piece.causes.contains(&strand))).collect();
        let mut resources: Vec<ResourceId> = all().flat_map(|strand| self.awaited(strand)).collect();
        resources.sort_unstable();
        resources.dedup();
        let resources =
            resources.into_iter().map(|resource| self.case.gathered.facts[resource].clone().into());
        let deadlock = Deadlock {
            id: 0,
            verdict: self.verdict(piece),
            tier: self.tier_of(piece),
            kind,
            closed_by: closing_edge(&tasks),
            tasks,
            resources: resources.collect(),
            effects: self.effects(&all().collect::<Vec<_>>()),
            remedy: remedy(kind).to_owned(),
        };
        let standing = all().map(|strand| (parked[strand].id, parked[strand].signals.polls));
        (deadlock, standing.collect())
    }

    fn facts(&self, resource: ResourceId) -> &Facts {
        &self.case.gathered.facts[resource]
    }

    fn leaves(&self, strand: StrandId) -> &[Leaf] {
        match &self.case.gathered.world.strands[strand].waits {
            Waits::Any(leaves) => leaves,
            Waits::Race { .. } | Waits::Join => &[],
        }
    }

    /// The resources a strand waits for.
    fn awaited(&self, strand: StrandId) -> Vec<ResourceId> {
        let of = |leaf: &Leaf| match leaf {
            Leaf::Right { on, .. } | Leaf::Turn { on } => Some(*on),
            _ => None,
        };
        let awaited: BTreeSet<ResourceId> = self.leaves(strand).iter().filter_map(of).collect();
        awaited.into_iter().collect()
    }

    fn strand(&self, task: TaskId) -> Option<StrandId> {
        self.case.walked.index.get(&task).copied().filter(|strand| self.is_dead[*strand])
    }

    /// A task as a report names it.
    fn named(&self, task: TaskId) -> String {
        let at = self.case.walked.index.get(&task);
        match at.and_then(|at| self.case.walked.parked[*at].record.as_ref()) {
            Some(record) if record.kind == Kind::Strand => BODY.to_owned(),
            Some(record) => format!("`{}` #{task}", record.site.name),
            None => format!("task #{task}"),
        }
    }

    fn named_all(&self, tasks: &BTreeSet<TaskId>) -> String {
        let named: Vec<String> = tasks.iter().take(NAMED).map(|task| self.named(*task)).collect();
        match tasks.len().saturating_sub(NAMED) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }

    fn kind(&self, piece: &Piece) -> DeadlockKind {
        let world = &self.case.gathered.world;
        let is_kept = |resource: &ResourceId| {
            let id = self.facts(*resource).id;
            self.case.gathered.unfetched.iter().any(|(of, _)| *of == id)
        };
        let is_left_behind = |resource: &ResourceId| {
            let resource = &world.resources[*resource];
            let held = resource.permits.iter().flat_map(|permits| &permits.held);
            resource.rights.iter().any(|right| right.place == Place::Nobody)
                || held.into_iter().any(|(place, _)| *place == Place::Nobody)
        };
        if piece.resources.iter().any(is_kept) {
            DeadlockKind::Futurelock
        } else if piece.is_circle {
            if piece.causes.len() == 1 { DeadlockKind::SelfWait } else { DeadlockKind::Cycle }
        } else if piece.resources.iter().any(is_left_behind) {
            DeadlockKind::ForgottenGuard
        } else if piece.resources.iter().any(|resource| self.facts(*resource).kind == ResourceKind::Notify) {
            DeadlockKind::LostNotifier
        } else {
            DeadlockKind::OrphanWait
        }
    }

    fn tier_of(&self, piece: &Piece) -> Tier {
        let all = || piece.causes.iter().chain(&piece.behind).copied();
        // Of the body of a test the books do not tell enough; but if it waits for who is dead, they need not.
        let counts =
            |strand: &StrandId| piece.causes.contains(strand) || !self.case.walked.parked[*strand].is_body();
        let is_alive = |strand: StrandId| self.case.fates[strand] == Fate::Alive;
        // By what is known of holders; that nothing moves is known besides.
        if self.case.is_closed && all().filter(counts).any(is_alive) {
            return Tier::ClosedWorld;
        }
        all().map(|strand| self.tier(strand)).max().unwrap_or(Tier::Exact)
    }

    fn tier(&self, strand: StrandId) -> Tier {
        let world = &self.case.gathered.world;
        let of = |leaf: &Leaf| match leaf {
            Leaf::Right { on, .. } => {
                let is_shared = |place| matches!(place, Place::Object(_) | Place::Buffer(_));
                let shared = world.resources[*on].rights.iter().any(|right| is_shared(right.place));
                match self.facts(*on).kind {
                    _ if shared => Tier::Shared,
                    // Counts are given out one by one, and each is somebody's: as exact as a permit.
                    ResourceKind::Latch => Tier::Exact,
                    _ => Tier::Bound,
                }
            }
            Leaf::Turn { on } => {
                // A guard that could leave its task is nobody's to name: then there would be no proof. But whoever can reach a
                // semaphore can add permits to it.
                let extended =
                    world.resources[*on].permits.as_ref().is_some_and(|p| !p.extended_by.is_empty());
                if extended { Tier::Shared } else { Tier::Exact }
            }
            _ => Tier::Exact,
        };
        self.leaves(strand).iter().map(of).max().unwrap_or(Tier::Exact)
    }

    fn verdict(&self, piece: &Piece) -> Verdict {
        if self.case.is_closed || piece.causes.iter().any(|strand| self.case.fates[*strand] == Fate::Dead) {
            return Verdict::Dead;
        }
        let mut by: Vec<Canceller> = Vec::new();
        // Whoever is around them, if nobody can cancel them directly.
        for strands in [&piece.causes, &piece.behind] {
            for strand in if by.is_empty() { &strands[..] } else { &[] } {
                by.extend(self.cancellers(*strand));
            }
            by.dedup();
        }
        Verdict::OnlyCancel { by }
    }

    /// What may still cancel a strand.
    fn cancellers(&self, strand: StrandId) -> Vec<Canceller> {
        let walked = &self.case.walked;
        let parked = &walked.parked[strand];
        let lives = |task: &TaskId| self.strand(*task).is_none();
        let mut found = Vec::new();
        for cancel in &self.case.gathered.world.strands[strand].cancels {
            match &cancel.by {
                CancelBy::Deadline => {
                    let at = parked.record.as_ref().and_then(|record| record.node.deadline());
                    let left = at.map(|at| at.saturating_duration_since(Instant::now()));
                    let in_ms = left.map_or(0, |left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
                    found.push(Canceller::Deadline { in_ms });
                }
                CancelBy::Owner(task) if lives(task) => found.push(Canceller::Owner { task: *task }),
                _ => {}
            }
        }
        for id in parked.scopes.iter().chain([&parked.scope]) {
            let Some(scope) = walked.scopes.get(id).filter(|scope| scope.is_fail_fast) else { continue };
            if scope.members.iter().any(lives) {
                let name = scope.node.as_ref().map_or("", |node| node.site.name);
                found.push(Canceller::Scope { name });
            }
        }
        found
    }

    fn task(&self, strand: StrandId, is_cause: bool) -> DeadTask {
        let parked = &self.case.walked.parked[strand];
        let mut waits: Vec<DeadWait> = Vec::new();
        for on in self.awaited(strand) {
            let facts = self.facts(on);
            for waiter in
                facts.waiters.iter().filter(|waiter| waiter.who.task == parked.id && !waiter.granted)
            {
                waits.push(self.wait_at(on, facts, waiter));
            }
        }
        for (wait, since) in &parked.joins {
            waits.push(self.join(wait.op, wait.on, *since));
        }
        let record = parked.record.as_ref();
        let name = |record: &Arc<Record>| if record.kind == Kind::Strand { BODY } else { record.site.name };
        DeadTask {
            id: parked.id,
            name: record.map_or("", name),
            path: record.map_or_else(String::new, |record| tree::task_and_path(record).1),
            spawned_at: record.map_or_else(String::new, |record| tree::place(&record.site)),
            age_ms: record.map_or(0, |record| age_ms(record.born())),
            is_cause,
            waits_elsewhere: self.case.is_closed
                && (waits.is_empty() || !parked.is_body() && parked.waits_elsewhere()),
            waits,
        }
    }

    fn wait_at(&self, on: ResourceId, facts: &Facts, waiter: &WaiterFact) -> DeadWait {
        DeadWait {
            op: waiter.op,
            on: facts.id,
            name: facts.site.name,
            place: place(waiter.who.at),
            for_ms: age_ms(waiter.who.since),
            why: match &self.case.gathered.world.resources[on].permits {
                Some(permits) => self.why_no_turn(facts, waiter, permits),
                None => self.why_no_end(on, facts, waiter),
            },
        }
    }

    /// Why somebody in a line has no turn: who holds what there is, and what is kept by futures that nobody polls.
    fn why_no_turn(&self, facts: &Facts, waiter: &WaiterFact, permits: &Permits) -> Vec<String> {
        let mut why = Vec::new();
        for held in facts.held.iter().take(NAMED) {
            let (task, at) = (held.who.task, place(held.who.at));
            let by = self.named(task);
            let is_kept = facts.waiters.iter().any(|other| {
                other.granted && other.who.task == task && std::ptr::eq(other.who.at, held.who.at)
            });
            why.push(match self.strand(task) {
                _ if is_kept => format!("granted to {by} at {at}, in a future it does not poll any more"),
                Some(_) if task == waiter.who.task => format!("held by itself, taken at {at}"),
                Some(_) => format!("held by {by}, taken at {at}, which stands still"),
                None if self.is_left_behind(task) => {
                    format!("taken by task #{task} at {at}, which has ended without giving it back")
                }
                None => format!("held by {by}, taken at {at}: that alone would not be enough"),
            });
        }
        let ahead = facts.waiters.iter().take_while(|other| !std::ptr::eq(*other, waiter));
        let ahead: BTreeSet<TaskId> =
            ahead.filter(|other| !other.granted).map(|other| other.who.task).collect();
        if !ahead.is_empty() {
            why.push(format!("first in line: {}", self.named_all(&ahead)));
        }
        let reaches = permits.extended_by.iter().flat_map(|place| match place {
            Place::Object(object) => self.case.gathered.world.objects[*object].holders.clone(),
            other => vec![*other],
        });
        let reaches = reaches.filter_map(|place| match place {
            Place::Task(task) if self.strand(task).is_some() => Some(task),
            _ => None,
        });
        let (itself, others): (BTreeSet<_>, BTreeSet<_>) = reaches.partition(|task| *task == waiter.who.task);
        if !itself.is_empty() {
            why.push("it could add permits or close it, as one who shares it".to_owned());
        }
        if !others.is_empty() {
            let stand = if others.len() == 1 { "stands" } else { "stand" };
            why.push(format!(
                "shared by {}, which {stand} still: who runs could add permits or close it",
                self.named_all(&others)
            ));
        }
        if why.is_empty() {
            why.push("nobody is left who could add permits or close it".to_owned());
        }
        why
    }

    fn is_left_behind(&self, task: TaskId) -> bool {
        self.case.walked.unmet.contains(&task)
    }

    /// Why nobody uses an end: who holds them.
    fn why_no_end(&self, on: ResourceId, facts: &Facts, waiter: &WaiterFact) -> Vec<String> {
        let mut roles: Vec<&'static str> = match waiter.op {
            "recv" | "changed" | "reply" => vec!["sender", "delivery"],
            "send" => vec!["receiver", "delivery"],
            "closed" => vec!["receiver", "sender", "delivery"],
            _ => facts.rights.iter().map(|right| right.role).collect(),
        };
        roles.sort_unstable();
        roles.dedup();
        let mut why = Vec::new();
        for kept in facts.waiters.iter().filter(|other| other.granted).take(NAMED) {
            let by = self.named(kept.who.task);
            why.push(format!("granted to {by}, for a {} in a future it does not poll any more", kept.op));
        }
        for role in roles {
            let held = facts.rights.iter().filter(|right| right.role == role);
            let places: BTreeSet<TaskId> = held.map(|right| right.place).collect();
            let (itself, mut others): (BTreeSet<_>, BTreeSet<_>) =
                places.into_iter().partition(|place| *place == waiter.who.task);
            let ended: BTreeSet<TaskId> =
                others.iter().copied().filter(|place| self.is_left_behind(*place)).collect();
            let unknown = others.iter().any(|place| *place == 0 || *place >= IN_TRANSIT);
            others.retain(|place| self.strand(*place).is_some());
            if self.case.is_closed && unknown {
                why.push(format!("a {role} was freed, or is on its way: whoever has it does not move"));
            }
            if !itself.is_empty() {
                why.push(format!("it holds a {role} itself"));
            }
            if !others.is_empty() {
                let stand = if others.len() == 1 { "stands" } else { "stand" };
                why.push(format!("{role} held by {}, which {stand} still", self.named_all(&others)));
            }
            for task in ended {
                why.push(format!("{role} left behind by task #{task}, which has ended"));
            }
        }
        if why.is_empty() {
            why.push("nobody is left who could end it".to_owned());
        }
        let _ = on;
        why
    }

    fn join(&self, op: Op, on: u64, since: u32) -> DeadWait {
        let (name, at, why) = match op {
            Op::Join => {
                let at = self.case.walked.index.get(&on).map(|at| &self.case.walked.parked[*at]);
                let record = at.and_then(|parked| parked.record.as_ref());
                let name = record.map_or("", |record| record.site.name);
                let at = record.map_or_else(String::new, |record| tree::place(&record.site));
                (name, at, format!("{} stands still", self.named(on)))
            }
            _ => {
                let scope = self.case.walked.scopes.get(&on);
                let node = scope.and_then(|scope| scope.node.as_ref());
                let members = scope.map_or(&[][..], |scope| &scope.members[..scope.lasting]);
                let dead: BTreeSet<TaskId> =
                    members.iter().copied().filter(|task| self.strand(*task).is_some()).collect();
                let name = node.map_or("", |node| node.site.name);
                let at = node.map_or_else(String::new, |node| tree::place(node.site));
                (name, at, format!("its task {} stands still", self.named_all(&dead)))
            }
        };
        DeadWait { op: op.name(), on, name, place: at, for_ms: age_ms(since), why: vec![why] }
    }

    fn effects(&self, strands: &[StrandId]) -> HeldUp {
        let parked = &self.case.walked.parked;
        let tasks: BTreeSet<TaskId> = strands.iter().map(|strand| parked[*strand].id).collect();
        let scopes: BTreeSet<u64> = strands.iter().map(|strand| parked[*strand].scope).collect();
        let mut permits_held = 0;
        let mut others: BTreeSet<TaskId> = BTreeSet::new();
        for facts in &self.case.gathered.facts {
            let of_these = facts.held.iter().filter(|held| tasks.contains(&held.who.task));
            let held: usize = of_these.map(|held| held.amount).sum();
            permits_held += held;
            if held > 0 {
                let waiting = facts.waiters.iter().filter(|waiter| !waiter.granted);
                others.extend(waiting.map(|w| w.who.task).filter(|task| self.strand(*task).is_none()));
            }
        }
        HeldUp { permits_held, scopes_open: scopes.len(), others_waiting: others.len() }
    }
}

/// The wait of a cause that began last.
fn closing_edge(tasks: &[DeadTask]) -> Option<ClosingEdge> {
    let causes = tasks.iter().filter(|task| task.is_cause);
    let waits = causes.flat_map(|task| task.waits.iter().map(move |wait| (task, wait)));
    let (task, wait) = waits.min_by_key(|(_, wait)| wait.for_ms)?;
    Some(ClosingEdge { task: task.id, name: task.name, op: wait.op, on: wait.on, place: wait.place.clone() })
}

fn remedy(kind: DeadlockKind) -> &'static str {
    match kind {
        DeadlockKind::SelfWait => {
            "let go of the end, guard or permit before waiting for it: drop it, or hand it to the task that is to use it"
        }
        DeadlockKind::Cycle => {
            "take locks and permits in one order everywhere, and hold none while waiting for another task"
        }
        DeadlockKind::OrphanWait => {
            "keep an end where the work is done, or end the wait when the last one goes"
        }
        DeadlockKind::Futurelock => {
            "do not keep a future that waits for a lock and is not polled: hand it to `race` by value, or make it a task"
        }
        DeadlockKind::ForgottenGuard => {
            "do not `forget` what gives a permit, a guard or a count back when it is dropped"
        }
        DeadlockKind::LostNotifier => {
            "keep a notifier where the condition changes, or say it with a watch or a latch"
        }
    }
}

fn place(at: &Location<'_>) -> String {
    format!("{}:{}", at.file(), at.line())
}

fn age_ms(since: u32) -> u64 {
    u64::try_from(clock::since(since).as_millis()).unwrap_or(u64::MAX)
}

/// Which scope to cancel, so that a deadlock is over: the smallest around all that cause it.
pub(super) fn smallest_scope(case: &Case, deadlock: &Deadlock) -> Option<u64> {
    let mut chains: Vec<Vec<u64>> = Vec::new();
    for task in deadlock.tasks.iter().filter(|task| task.is_cause) {
        let record = case.walked.parked[*case.walked.index.get(&task.id)?].record.as_ref()?;
        let mut chain = vec![record.node.id];
        let mut at = record.node.parent();
        while let Some(record) = at {
            chain.push(record.node.id);
            at = record.node.parent();
        }
        chains.push(chain);
    }
    let mut times: HashMap<u64, usize> = HashMap::new();
    chains.iter().flatten().for_each(|id| *times.entry(*id).or_default() += 1);
    chains.first()?.iter().copied().find(|id| times[id] == chains.len())
}
