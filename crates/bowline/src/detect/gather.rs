//! From the books of the resources to a [`World`]: what each wait needs, and who could give it.
//!
//! # Invariants
//!
//! 1. A task is only judged if all its waits are understood: as many are found in the books as it has parked.
//! 2. What has fired, is closed, or is handed on by whoever drops it, is alive, and so is everybody who waits for it.
//! 3. A holder whose place is not certain is unknown: a guard that can leave its task, an end that was freed, handles that do
//!    not add up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::walk::Walked;
use super::world::{
    Act, Cancel, CancelBy, InLine, Leaf, Object, Permits, Place, Resource, Right, Roles, Strand, TaskId,
    Waiter, Waits, World,
};
use crate::holders::IN_TRANSIT;
use crate::resource::{self, Facts, ResourceKind, ResourceState, WaiterFact, Who};
use crate::share::{self, Sharing};
use crate::wait::Op;

/// A wait that was granted and is not polled: by resource and task, and the polls of the task when it was polled last.
pub(super) type Unfetched = (u64, TaskId, u32);

/// What is known from earlier scans.
#[derive(Default)]
pub(super) struct Memory {
    /// Tasks that parked then, and their polls.
    pub(super) parked: HashMap<TaskId, u32>,
    /// Places that held something and were not parked.
    pub(super) places: HashSet<TaskId>,
    /// Granted waits that are not polled, and the polls of their task when it was woken to look at them.
    pub(super) woken: HashMap<Unfetched, u32>,
}

/// The waits of the process as the proof wants them, and what a report is made of.
pub(super) struct Gathered {
    pub(super) world: World,
    /// Behind each resource of the world; only if asked for.
    pub(super) facts: Vec<Facts>,
    /// Behind each object of the world.
    pub(super) objects: Vec<Arc<Sharing>>,
    /// Grants that their tasks do not look at, as far as it is certain.
    pub(super) unfetched: HashSet<(u64, TaskId)>,
    /// The same, where it is not: the task is to be woken, and looked at again.
    pub(super) to_wake: HashSet<Unfetched>,
    /// Places that hold something and are not parked.
    pub(super) places: HashSet<TaskId>,
}

/// What fires a wait.
enum Awaits {
    /// A holder of these acts.
    Ends(&'static [(Roles, Act)]),
    Turn,
    Unknown,
}

const ANY_END: Roles = Roles::SENDER.and(Roles::RECEIVER).and(Roles::DELIVERY).and(Roles::OTHER);

/// Which role, doing what, fires which wait. What is not listed is alive. `is_kept`: something here was granted to a future
/// that is not polled, or reserved.
fn awaits(facts: &Facts, op: &str, is_kept: bool) -> Awaits {
    const SENDERS: Roles = Roles::SENDER.and(Roles::OTHER);
    const RECEIVERS: Roles = Roles::RECEIVER.and(Roles::OTHER);
    // What is delivered comes back when it is dropped.
    const RECV: &[(Roles, Act)] = &[
        (SENDERS, Act::AllRunOrDrop),
        (SENDERS, Act::Runs),
        (Roles::DELIVERY, Act::RunsOrDrops),
        (Roles::RECEIVER, Act::Runs),
    ];
    // Of those whose receivers cannot close them.
    const RECV_FROM_SENDERS: &[(Roles, Act)] = RECV.split_at(3).0;
    const SEND: &[(Roles, Act)] =
        &[(RECEIVERS, Act::AllRunOrDrop), (RECEIVERS, Act::Runs), (Roles::DELIVERY, Act::RunsOrDrops)];
    match (facts.kind, op) {
        (ResourceKind::Mutex | ResourceKind::RwLock | ResourceKind::Semaphore, _) => Awaits::Turn,
        // Who has it is not known; but it borrows an end, and whoever holds that can give it back or use it.
        (ResourceKind::Channel, _) if is_kept => Awaits::Ends(&[(ANY_END, Act::RunsOrDrops)]),
        (ResourceKind::Channel, "recv" | "changed" | "reply") if facts.receivers_close => Awaits::Ends(RECV),
        (ResourceKind::Channel, "recv" | "changed" | "reply") => Awaits::Ends(RECV_FROM_SENDERS),
        (ResourceKind::Channel, "send") => Awaits::Ends(SEND),
        (ResourceKind::Channel, "closed") => {
            Awaits::Ends(&[(Roles::RECEIVER, Act::AllRunOrDrop), (ANY_END, Act::Runs)])
        }
        // The last to go fires it too.
        (ResourceKind::Notify, _) => {
            Awaits::Ends(&[(Roles::NOTIFIER, Act::AllRunOrDrop), (Roles::NOTIFIER, Act::Runs)])
        }
        (ResourceKind::Latch, _) => Awaits::Ends(&[(Roles::COUNT, Act::AllRunOrDrop)]),
        // A seat that is dropped breaks the barrier.
        (ResourceKind::Barrier, _) => Awaits::Ends(&[(Roles::SEAT, Act::RunsOrDrops)]),
        _ => Awaits::Unknown,
    }
}

fn role(name: &str) -> Roles {
    match name {
        "sender" => Roles::SENDER,
        "receiver" => Roles::RECEIVER,
        "delivery" => Roles::DELIVERY,
        "notifier" => Roles::NOTIFIER,
        "count" => Roles::COUNT,
        "seat" => Roles::SEAT,
        _ => Roles::OTHER,
    }
}

/// Copies the books of everything that the parked wait for.
pub(super) fn gather(walked: &Walked, memory: &Memory, keeps_facts: bool) -> Gathered {
    let strand = |parked: &super::walk::Parked| {
        let mut leaves = Vec::with_capacity(parked.signals.leaves as usize);
        // It goes on by itself, or has moved since the scan before.
        if parked.has_timer || memory.parked.get(&parked.id) != Some(&parked.signals.polls) {
            leaves.push(Leaf::Unknown);
        }
        Strand { task: parked.id, arm_of: None, waits: Waits::Any(leaves), cancels: Vec::new() }
    };
    let mut gathering = Gathering {
        walked,
        memory,
        spans: Spans::of_now(),
        found: vec![0; walked.parked.len()],
        lies_in: Vec::new(),
        keeps_facts,
        out: Gathered {
            world: World { strands: walked.parked.iter().map(strand).collect(), ..World::default() },
            facts: Vec::new(),
            objects: Vec::new(),
            unfetched: HashSet::new(),
            to_wake: HashSet::new(),
            places: HashSet::new(),
        },
    };
    gathering.add_joins();
    resource::scan(|facts| gathering.add(facts));
    gathering.check_objects();
    gathering.check_leaves();
    gathering.out
}

struct Gathering<'a> {
    walked: &'a Walked,
    memory: &'a Memory,
    spans: Spans,
    /// How many waits of each task were found.
    found: Vec<u32>,
    /// Resources whose guards are certain because of the object they lie in.
    lies_in: Vec<(usize, usize)>,
    keeps_facts: bool,
    out: Gathered,
}

impl Gathering<'_> {
    fn leaf(&mut self, strand: usize, leaf: Leaf) {
        if let Waits::Any(leaves) = &mut self.out.world.strands[strand].waits {
            leaves.push(leaf);
        }
    }

    fn revive(&mut self, task: TaskId) {
        if let Some(strand) = self.walked.index.get(&task) {
            self.leaf(*strand, Leaf::Unknown);
        }
    }

    fn add_joins(&mut self) {
        for (strand, parked) in self.walked.parked.iter().enumerate() {
            for (wait, _) in &parked.joins {
                self.found[strand] += 1;
                let leaf = match (wait.op, self.walked.scopes.get(&wait.on)) {
                    (Op::Join, _) => Leaf::End(wait.on),
                    (Op::Close, Some(scope)) => Leaf::AllEnd(scope.members[..scope.lasting].to_vec()),
                    _ => Leaf::Unknown,
                };
                self.leaf(strand, leaf);
            }
        }
    }

    fn add(&mut self, facts: Facts) {
        if !facts.waiters.iter().any(|waiter| self.walked.index.contains_key(&waiter.who.task)) {
            return;
        }
        let has_line = matches!(facts.state, ResourceState::Permits { .. });
        // An item that is there is none of those who wait for room.
        let only_sends = || facts.waiters.iter().all(|waiter| waiter.op == Op::Send.name());
        let is_over = match facts.state {
            ResourceState::Fired => !only_sends(),
            ResourceState::Closed { .. } => true,
            _ => false,
        };
        // A grant that is dropped goes to the next in line: with permits that is counted, with channels it is up to whoever
        // holds an end, elsewhere it is anybody's.
        let has_granted = !has_line && facts.waiters.iter().any(|waiter| waiter.granted);
        let is_handed_on =
            |this: &mut Self| facts.kind != ResourceKind::Channel || !this.are_unfetched(&facts);
        let is_unknown = matches!(facts.kind, ResourceKind::Pool | ResourceKind::Leases);
        if is_over || is_unknown || has_granted && is_handed_on(self) {
            facts.waiters.iter().for_each(|waiter| self.revive(waiter.who.task));
            return;
        }
        let object = self.spans.around(facts.lies_at);
        let known = object.filter(|object| self.object(*object));
        let mut resource = self.ends(&facts);
        if let ResourceState::Permits { free, .. } = facts.state {
            let line = self.line(&facts, known.is_some());
            let held = facts.held.iter().map(|held| (self.holder(held.who, known.is_some()), held.amount));
            let held = held.collect();
            let extended_by = match (facts.open_ended, object) {
                (false, _) => Vec::new(),
                (true, Some(object)) => vec![Place::Object(self.listed(object))],
                (true, None) => vec![Place::Unknown],
            };
            resource.permits = Some(Permits { free, held, line, extended_by });
            if let Some(object) = known {
                self.lies_in.push((self.out.world.resources.len(), object));
            }
        } else {
            let is_kept = has_granted || !facts.held.is_empty();
            let held = facts.rights.iter().fold(Roles::NONE, |held, right| held.and(role(right.role)));
            for waiter in &facts.waiters {
                self.at_ends(&facts, waiter, held, is_kept);
            }
        }
        self.out.world.resources.push(resource);
        if self.keeps_facts {
            self.out.facts.push(facts);
        }
    }

    /// A wait for whoever holds an end. `held`: all roles of which somebody has one.
    fn at_ends(&mut self, facts: &Facts, waiter: &WaiterFact, held: Roles, is_kept: bool) {
        let Some(strand) = self.walked.index.get(&waiter.who.task).copied() else { return };
        self.found[strand] += 1;
        if waiter.granted {
            return; // the task was woken for it, and did not look
        }
        let on = self.out.world.resources.len();
        match awaits(facts, waiter.op, is_kept) {
            Awaits::Ends(ends) => {
                let mut is_anybodys = true;
                for (roles, by) in ends.iter().filter(|(roles, _)| held.overlaps(*roles)) {
                    is_anybodys = false;
                    self.leaf(strand, Leaf::Right { on, roles: *roles, by: *by });
                }
                if is_anybodys {
                    self.leaf(strand, Leaf::Unknown); // it would be closed
                }
            }
            Awaits::Turn | Awaits::Unknown => self.leaf(strand, Leaf::Unknown),
        }
    }

    /// The line at a resource with permits.
    fn line(&mut self, facts: &Facts, is_known: bool) -> Vec<InLine> {
        let on = self.out.world.resources.len();
        let mut line = Vec::with_capacity(facts.waiters.len());
        for waiter in &facts.waiters {
            let WaiterFact { who, need, granted, .. } = *waiter;
            let strand = self.walked.index.get(&who.task).copied();
            let mut stands = Waiter::Alive;
            if let Some(strand) = strand {
                let is_attended = self.is_attended(strand, who);
                self.found[strand] += 1;
                match granted {
                    // A future that is not polled may have moved to another task, unless its lock keeps it here.
                    _ if !is_attended && !is_known && !who.branded => self.leaf(strand, Leaf::Unknown),
                    true if is_attended => self.leaf(strand, Leaf::Unknown),
                    true => _ = self.unfetched(strand, (facts.id, who.task, who.polls)),
                    // Also if it is not polled: its turn would wake the task.
                    false => {
                        self.leaf(strand, Leaf::Turn { on });
                        stands = Waiter::Strand(strand);
                    }
                }
            }
            if !granted {
                line.push(InLine { need, waiter: stands });
            }
        }
        line
    }

    /// Whether the task looked at the wait in its last poll.
    fn is_attended(&self, strand: usize, who: Who) -> bool {
        self.walked.parked[strand].signals.polls / 2 == who.polls.wrapping_add(1)
    }

    /// Whether it is certain of everything that was granted here that nobody comes to fetch it.
    fn are_unfetched(&mut self, facts: &Facts) -> bool {
        let mut are_all = true;
        for waiter in facts.waiters.iter().filter(|waiter| waiter.granted) {
            let who = waiter.who;
            are_all &= match self.walked.index.get(&who.task).copied() {
                Some(strand) if !self.is_attended(strand, who) => {
                    self.unfetched(strand, (facts.id, who.task, who.polls))
                }
                _ => false,
            };
        }
        are_all
    }

    /// A grant that the task has not come to fetch although it was polled. Perhaps it will, in the poll that the grant has
    /// caused; to know that, the task is woken once more. Returns whether it is certain.
    fn unfetched(&mut self, strand: usize, unfetched: Unfetched) -> bool {
        let polls = self.walked.parked[strand].signals.polls;
        let is_certain = self.memory.woken.get(&unfetched).is_some_and(|before| *before != polls);
        if is_certain {
            self.out.unfetched.insert((unfetched.0, unfetched.1));
        } else {
            self.out.to_wake.insert(unfetched);
            self.leaf(strand, Leaf::Unknown);
        }
        is_certain
    }

    fn ends(&mut self, facts: &Facts) -> Resource {
        let mut rights: Vec<Right> = Vec::with_capacity(facts.rights.len());
        for right in &facts.rights {
            rights.push(Right { role: role(right.role), place: self.place(right.place) });
        }
        let counted: usize = facts.rights.iter().map(|right| right.count as usize).sum();
        let has_permits = matches!(facts.state, ResourceState::Permits { .. });
        if counted != facts.handles || facts.open_ended && !has_permits {
            rights.push(Right {
                role: ANY_END.and(Roles::NOTIFIER).and(Roles::COUNT).and(Roles::SEAT),
                place: Place::Unknown,
            });
        }
        Resource { rights, ..Resource::default() }
    }

    /// Where a guard or permit is: with the task that took it, if it cannot leave that.
    fn holder(&mut self, who: Who, is_known: bool) -> Place {
        if who.branded || is_known { self.place(who.task) } else { Place::Unknown }
    }

    fn place(&mut self, task: TaskId) -> Place {
        if task == 0 || task >= IN_TRANSIT {
            return Place::Unknown;
        }
        if self.walked.index.contains_key(&task) {
            return Place::Task(task);
        }
        self.out.places.insert(task);
        // It held this in the scan before already, and was met by no walk since: it has ended, and left it behind.
        if self.walked.unmet.contains(&task) { Place::Nobody } else { Place::Task(task) }
    }

    /// Whether all holders of an object are known; then nothing that is borrowed from it can leave them.
    fn object(&mut self, span: usize) -> bool {
        let object = self.listed(span);
        !self.out.world.objects[object].holders.contains(&Place::Unknown)
    }

    /// The object at a span, in the world.
    fn listed(&mut self, span: usize) -> usize {
        if let Some(object) = self.spans.all[span].object {
            return object;
        }
        let sharing = Arc::clone(&self.spans.all[span].sharing);
        let holders = sharing.places().into_iter().map(|(place, _)| self.place(place)).collect();
        self.out.world.objects.push(Object { holders });
        self.out.objects.push(sharing);
        let object = self.out.world.objects.len() - 1;
        self.spans.all[span].object = Some(object);
        object
    }

    /// What was found at the address of an object that went while we looked was perhaps another thing.
    fn check_objects(&mut self) {
        for (resource, span) in &self.lies_in {
            if self.spans.all[*span].sharing.span().is_none() {
                if let Some(permits) = &mut self.out.world.resources[*resource].permits {
                    permits.extended_by.push(Place::Unknown);
                }
            }
        }
    }

    /// Invariant 1.
    fn check_leaves(&mut self) {
        for (strand, parked) in self.walked.parked.iter().enumerate() {
            if self.found[strand] != parked.signals.leaves {
                self.leaf(strand, Leaf::Unknown);
            }
        }
    }
}

/// Where the shared objects lie, by address.
struct Spans {
    all: Vec<Span>,
}

struct Span {
    from: usize,
    bytes: usize,
    sharing: Arc<Sharing>,
    object: Option<usize>,
}

impl Spans {
    fn of_now() -> Self {
        let objects = share::objects().into_iter();
        let spans = objects.filter_map(|sharing| {
            let (from, bytes) = sharing.span()?;
            Some(Span { from, bytes, sharing, object: None })
        });
        let mut all: Vec<Span> = spans.collect();
        all.sort_by_key(|span| span.from);
        Self { all }
    }

    /// The object that an address lies in.
    fn around(&self, address: usize) -> Option<usize> {
        let at = self.all.partition_point(|span| span.from <= address).checked_sub(1)?;
        let span = &self.all[at];
        (address - span.from < span.bytes).then_some(at)
    }
}

/// What could cancel each of the parked.
pub(super) fn add_cancels(world: &mut World, walked: &Walked) {
    let mut objects: HashMap<u64, usize> = HashMap::new();
    let mut members = |world: &mut World, id: u64, scope: &super::walk::Scope| {
        *objects.entry(id).or_insert_with(|| {
            let holders = scope.members.iter().map(|task| Place::Task(*task)).collect();
            world.objects.push(Object { holders });
            world.objects.len() - 1
        })
    };
    for (strand, parked) in walked.parked.iter().enumerate() {
        let mut cancels = Vec::new();
        let mut add = |by| cancels.push(Cancel { by, then: Act::Runs });
        if parked.record.as_ref().is_some_and(|record| record.node.deadline().is_some()) {
            add(CancelBy::Deadline);
        }
        if let Some(owner) = walked.scopes.get(&parked.scope).and_then(|scope| scope.owner) {
            add(CancelBy::Owner(owner));
        }
        for id in parked.scopes.iter().chain([&parked.scope]) {
            if let Some(scope) = walked.scopes.get(id).filter(|scope| scope.is_fail_fast) {
                add(CancelBy::Holder(Place::Object(members(world, *id, scope))));
            }
        }
        world.strands[strand].cancels = cancels;
    }
}
