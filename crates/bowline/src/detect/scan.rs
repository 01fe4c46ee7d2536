//! The protocol of a scan: what makes facts that were copied at different moments into a proof.
//!
//! 1. Walk: the words of all tasks. Who is parked, as in the scan before, and cannot be woken by anybody unknown, is a candidate.
//! 2. Copy the books of what candidates wait for, each under its own lock, and see who could be dead. Mostly nobody is, and
//!    that was all.
//! 3. The suspects again, with everything a report needs: walk, copy, prove; and their words once more. Whoever has changed is
//!    alive, and the proof goes on from there.
//!
//! Whoever is left has not acted from before its facts were copied until after. What could wake it was in the hands of others
//! who have not acted either, so each of these facts still holds at the end, and nobody can be the first to act.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::gather::{self, Gathered, Memory};
use super::prove::{Fate, Proof};
use super::walk::{self, Walked, Whose};
use super::world::{Leaf, TaskId, Waits};
use crate::node::Node;
use crate::record::{Record, Signals};

/// Grants that are remembered because their tasks were woken to look at them.
const MAX_WOKEN: usize = 10_000;

/// A proof, and what a report is made of.
pub(super) struct Case {
    pub(super) walked: Walked,
    pub(super) gathered: Gathered,
    /// Of each strand of the world.
    pub(super) fates: Vec<Fate>,
    /// Whether nothing in the process can move: then all are dead, whoever may hold what.
    pub(super) is_closed: bool,
}

impl Case {
    pub(super) fn record(&self, task: TaskId) -> Option<&Arc<Record>> {
        self.walked.parked[*self.walked.index.get(&task)?].record.as_ref()
    }
}

/// What a scan came to.
pub(super) struct Scanned {
    /// If anybody is dead.
    pub(super) case: Option<Case>,
    /// How many tasks live.
    pub(super) living: usize,
    /// How many parked tasks were looked at, of which some were not parked in the scan before.
    pub(super) parked: usize,
    pub(super) newly_parked: usize,
}

/// One scan. What it has seen is in `memory` for the next.
pub(super) fn scan(whose: Whose<'_>, memory: &mut Memory) -> Scanned {
    let walked = walk::walk(whose, std::mem::take(&mut memory.places));
    let mut gathered = gather::gather(&walked, memory, false);
    let proof = Proof::of(&gathered.world);
    let dead = walked.parked.iter().enumerate().filter(|(strand, _)| !proof.runs(*strand));
    let suspects: HashMap<TaskId, Signals> = dead.map(|(_, parked)| (parked.id, parked.signals)).collect();
    drop(proof);
    let known = |parked: &&walk::Parked| memory.parked.get(&parked.id) == Some(&parked.signals.polls);
    let scanned = Scanned {
        case: None,
        living: walked.living,
        parked: walked.parked.len(),
        newly_parked: walked.parked.len() - walked.parked.iter().filter(known).count(),
    };
    wake_to_look(memory, &mut gathered, &walked);
    memory.parked = walked.parked.iter().map(|parked| (parked.id, parked.signals.polls)).collect();
    memory.places = std::mem::take(&mut gathered.places);
    drop((walked, gathered));
    if suspects.is_empty() {
        return scanned;
    }
    let case = convict(&suspects, memory);
    let any = case.fates.iter().any(|fate| matches!(fate, Fate::Dead | Fate::OnlyCancel));
    Scanned { case: Some(case).filter(|_| any), ..scanned }
}

/// The third step.
fn convict(suspects: &HashMap<TaskId, Signals>, memory: &Memory) -> Case {
    let walked = walk::walk(Whose::Suspects(suspects), memory.places.clone());
    let mut gathered = gather::gather(&walked, memory, true);
    gather::add_cancels(&mut gathered.world, &walked);
    let mut proof = Proof::of(&gathered.world);
    // The words again, after everything was copied.
    let strands = walked.parked.iter().enumerate();
    let moved = strands.filter(|(_, parked)| {
        parked
            .record
            .as_ref()
            .is_none_or(|record| record.id() != parked.id || record.signals() != parked.signals)
    });
    proof.revive(moved.map(|(strand, _)| strand).collect::<Vec<_>>());
    let fates = proof.finish();
    Case { walked, gathered, fates, is_closed: false }
}

/// All that stands still below a root, at a moment at which nothing in the process can move.
pub(super) fn at_rest(top: &Arc<Node>) -> Case {
    let mut walked = walk::walk(Whose::AtRest(top), HashSet::new());
    let mut memory = Memory::default();
    memory.parked = walked.parked.iter().map(|parked| (parked.id, parked.signals.polls)).collect();
    // Once more, to know who has ended of those that hold something.
    memory.places = gather::gather(&walked, &memory, false).places;
    walked = walk::walk(Whose::AtRest(top), std::mem::take(&mut memory.places));
    let mut gathered = gather::gather(&walked, &memory, true);
    // Nobody comes to fetch what was granted.
    let unfetched =
        std::mem::take(&mut gathered.to_wake).into_iter().map(|(resource, task, _)| (resource, task));
    gathered.unfetched.extend(unfetched);
    for (strand, parked) in walked.parked.iter().enumerate().filter(|(_, parked)| parked.waits_elsewhere()) {
        debug_assert_eq!(gathered.world.strands[strand].task, parked.id);
        if let Waits::Any(leaves) = &mut gathered.world.strands[strand].waits {
            leaves.push(Leaf::Unknown);
        }
    }
    let fates = Proof::of(&gathered.world).finish();
    Case { walked, gathered, fates, is_closed: true }
}

/// Wakes tasks that were granted what they do not look at, so that the next scan can be certain that they do not.
fn wake_to_look(memory: &mut Memory, gathered: &mut Gathered, walked: &Walked) {
    let to_wake = std::mem::take(&mut gathered.to_wake);
    if memory.woken.len() > MAX_WOKEN {
        memory.woken.clear(); // they are woken once more
    }
    memory.woken.retain(|unfetched, _| {
        let (resource, task, _) = unfetched;
        let is_there = gathered.unfetched.contains(&(*resource, *task)) || to_wake.contains(unfetched);
        is_there || !walked.index.contains_key(task) // it runs, perhaps because it was woken
    });
    if to_wake.is_empty() {
        return;
    }
    let mut asleep: HashMap<TaskId, Signals> = HashMap::new();
    for unfetched in to_wake {
        let Some(at) = walked.index.get(&unfetched.1) else { continue };
        let signals = walked.parked[*at].signals;
        // Woken already, and not polled yet.
        if memory.woken.insert(unfetched, signals.polls).is_none() {
            asleep.insert(unfetched.1, signals);
        }
    }
    let found = walk::walk(Whose::Suspects(&asleep), HashSet::new());
    for record in found.parked.iter().filter_map(|parked| parked.record.as_ref()) {
        record.wake();
    }
}
