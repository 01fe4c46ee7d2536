//! The proof: which strands of a [`World`] will neither run nor be dropped, whatever the others do.
//!
//! Everybody starts as dead; those who can go on for certain spread life to whom they can wake, until nothing changes. What
//! is left cannot be woken by anybody: each of its alternatives needs somebody who is left too, or nobody.
//!
//! A strand has two marks. It *runs* if it may be polled to progress again; it *drops* if it may be dropped with all it
//! holds: the loser of a race, a task that is aborted. To be dropped closes queues and frees locks, but notifies nobody.
//!
//! # Invariants
//!
//! 1. Who runs also counts as dropping: it may drop anything it holds.
//! 2. Life is spread without cancellation first, then with it on top. So what is dead with it is dead without it.
//! 3. The cost is that of looking at every fact once: all holders of a role are joined before they reach those who wait.

use std::collections::HashMap;

use super::net::{ALIVE, Effect, Entry, NONE, Net, NodeId, Queue};
use super::world::{
    Act, Cancel, CancelBy, Leaf, Permits, Place, ResourceId, Right, Roles, StrandId, TaskId, Waiter, Waits,
    World,
};

/// The rules of the proof, one by one. All of them hold; a test takes one away to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// An arm of a race that runs or is dropped can be dropped.
    pub(crate) arms_drop: bool,
    /// Who stands in line waits for those ahead of it.
    pub(crate) line_order: bool,
    /// An end in a queue's buffer can come to whoever may receive it.
    pub(crate) ends_in_transit: bool,
    /// Tasks can be cancelled and aborted.
    pub(crate) cancels: bool,
    /// Whoever holds a shared object can use what lies in it.
    pub(crate) shared_holders: bool,
    /// Any strand of a task can act with what the task holds, not only its root.
    pub(crate) every_strand: bool,
    /// A future that is not polled keeps what it is granted.
    pub(crate) unattended_keep: bool,
    /// Who is dropped lets go of what it holds.
    pub(crate) drops_release: bool,
    /// Who is only dropped does nothing else.
    pub(crate) drops_do_nothing: bool,
    /// A task that is not among the candidates is alive.
    pub(crate) unseen_live: bool,
}

impl Rules {
    pub(crate) const ALL: Self = Self {
        arms_drop: true,
        line_order: true,
        ends_in_transit: true,
        cancels: true,
        shared_holders: true,
        every_strand: true,
        unattended_keep: true,
        drops_release: true,
        drops_do_nothing: true,
        unseen_live: true,
    };
}

/// What is proved of a strand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It may run.
    Alive,
    /// It will not run, but it may be dropped: it is the arm of a live race.
    Doomed,
    /// Only a cancel can end it.
    OnlyCancel,
    /// It will neither run nor be dropped.
    Dead,
}

#[derive(Clone, Copy)]
struct Marks {
    runs: NodeId,
    drops: NodeId,
}

impl Marks {
    const ALIVE: Self = Self { runs: ALIVE, drops: ALIVE };
}

/// What can be proved of a world, without cancellation.
pub(crate) struct Proof<'w> {
    world: &'w World,
    rules: Rules,
    net: Net,
    strands: Vec<Marks>,
    /// Of every candidate: all its strands together.
    tasks: HashMap<TaskId, Marks>,
    /// Of every candidate: its root strand.
    roots: HashMap<TaskId, StrandId>,
    objects: Vec<Marks>,
    buffers: HashMap<ResourceId, Marks>,
    /// Holders of roles, joined (invariant 3).
    hubs: HashMap<(ResourceId, Roles, Act), NodeId>,
}

impl<'w> Proof<'w> {
    pub(crate) fn of(world: &'w World) -> Self {
        Self::with(world, Rules::ALL)
    }

    pub(crate) fn with(world: &'w World, rules: Rules) -> Self {
        let mut proof = Self {
            world,
            rules,
            net: Net::new(),
            strands: Vec::with_capacity(world.strands.len()),
            tasks: HashMap::with_capacity(world.strands.len()),
            roots: HashMap::with_capacity(world.strands.len()),
            objects: Vec::with_capacity(world.objects.len()),
            buffers: HashMap::new(),
            hubs: HashMap::new(),
        };
        proof.add_strands();
        proof.add_objects();
        proof.add_waits();
        for permits in world.resources.iter().filter_map(|resource| resource.permits.as_ref()) {
            proof.add_line(permits);
        }
        proof.net.settle();
        proof
    }

    /// Candidates that were seen to move are alive, and so is whom they can wake.
    pub(crate) fn revive(&mut self, moved: impl IntoIterator<Item = StrandId>) {
        for strand in moved {
            self.net.set(self.strands[strand].runs);
        }
        self.net.settle();
    }

    /// Whether a strand may run.
    pub(crate) fn runs(&self, strand: StrandId) -> bool {
        self.net.is_true(self.strands[strand].runs)
    }

    /// Whether whoever is at that place may act.
    pub(crate) fn acts(&mut self, place: Place, act: Act) -> bool {
        let marks = self.at(place);
        let node = marks.map(|marks| self.mark(marks, act));
        self.net.settle(); // the place may have been looked at for the first time
        node.is_some_and(|node| self.net.is_true(node))
    }

    /// Looks at cancellation too, and says what is proved of each strand.
    pub(crate) fn finish(mut self) -> Vec<Fate> {
        let without: Vec<(bool, bool)> = (self.strands.iter())
            .map(|marks| (self.net.is_true(marks.runs), self.net.is_true(marks.drops)))
            .collect();
        if self.rules.cancels {
            self.add_cancels();
            self.net.settle();
        }
        let fate = |((runs, drops), marks): (_, &Marks)| match (runs, drops) {
            (true, _) => Fate::Alive,
            (false, true) => Fate::Doomed,
            (false, false) if self.net.is_true(marks.drops) => Fate::OnlyCancel,
            (false, false) => Fate::Dead,
        };
        without.into_iter().zip(&self.strands).map(fate).collect()
    }

    fn add_strands(&mut self) {
        for strand in &self.world.strands {
            let marks = Marks { runs: self.net.any(), drops: self.net.any() };
            self.net.edge(marks.runs, marks.drops);
            self.strands.push(marks);
            if strand.arm_of.is_none() {
                self.roots.insert(strand.task, self.strands.len() - 1);
                self.tasks.insert(strand.task, marks);
            }
        }
        for (at, strand) in self.world.strands.iter().enumerate() {
            let Some(root) = strand.arm_of else { continue };
            if self.rules.arms_drop {
                self.net.edge(self.strands[root].drops, self.strands[at].drops);
            }
            if self.rules.every_strand {
                let task = self.with_arms(strand.task);
                self.net.edge(self.strands[at].runs, task.runs);
            }
        }
    }

    /// The marks of a task that has arms: those of its root, and more.
    fn with_arms(&mut self, task: TaskId) -> Marks {
        let (known, root) = (self.tasks[&task], self.strands[self.roots[&task]]);
        if known.runs != root.runs {
            return known;
        }
        let marks = Marks { runs: self.net.any(), drops: self.net.any() };
        self.net.edge(root.runs, marks.runs);
        self.net.edge(root.drops, marks.drops);
        self.net.edge(marks.runs, marks.drops);
        self.tasks.insert(task, marks);
        marks
    }

    fn add_objects(&mut self) {
        for _ in &self.world.objects {
            let marks = Marks { runs: self.net.any(), drops: self.net.any() };
            self.objects.push(marks);
        }
        for (object, marks) in self.world.objects.iter().zip(self.objects.clone()) {
            for holder in object.holders.iter().filter_map(|place| self.at(*place)).collect::<Vec<_>>() {
                self.net.edge(holder.runs, marks.runs);
                self.net.edge(holder.drops, marks.drops);
            }
            if object.holders.is_empty() {
                self.net.edge(ALIVE, marks.runs); // somebody is about to drop it, and what lies in it
                self.net.edge(ALIVE, marks.drops);
            }
        }
    }

    /// Who is at a place: the strands of a task, the holders of an object; `None` if nobody ever will be.
    fn at(&mut self, place: Place) -> Option<Marks> {
        match place {
            Place::Unknown => Some(Marks::ALIVE),
            Place::Nobody => None,
            Place::Task(task) => self.task(task),
            Place::Object(object) => self.rules.shared_holders.then(|| self.objects[object]),
            Place::Buffer(queue) => self.rules.ends_in_transit.then(|| self.buffer(queue)),
        }
    }

    fn task(&self, task: TaskId) -> Option<Marks> {
        self.tasks.get(&task).copied().or(self.rules.unseen_live.then_some(Marks::ALIVE))
    }

    fn root(&self, task: TaskId) -> Option<Marks> {
        match self.roots.get(&task) {
            Some(root) => Some(self.strands[*root]),
            None => self.rules.unseen_live.then_some(Marks::ALIVE),
        }
    }

    /// What lies in a queue's buffer comes to a receiver, or is dropped: by the last receiver, or to make room.
    fn buffer(&mut self, queue: ResourceId) -> Marks {
        if let Some(marks) = self.buffers.get(&queue) {
            return *marks;
        }
        let marks = Marks { runs: self.net.any(), drops: self.net.any() };
        self.net.edge(marks.runs, marks.drops);
        self.buffers.insert(queue, marks); // before its receivers: one may lie in it
        let is_receiver = |right: &Right| right.role.overlaps(Roles::RECEIVER);
        if !self.world.resources[queue].rights.iter().any(is_receiver) {
            self.net.edge(ALIVE, marks.runs); // somebody is about to drop what lies in it
        }
        let runs = self.hub(queue, Roles::RECEIVER, Act::Runs);
        let drops = self.hub(queue, Roles::RECEIVER, Act::RunsOrDrops);
        self.net.edge(runs, marks.runs);
        self.net.edge(drops, marks.drops);
        if self.world.resources[queue].drops_oldest {
            let senders = self.hub(queue, Roles::SENDER, Act::Runs);
            self.net.edge(senders, marks.drops);
        }
        marks
    }

    /// True if any holder of one of these roles acts; or all of them, if the act asks for that.
    fn hub(&mut self, on: ResourceId, roles: Roles, act: Act) -> NodeId {
        if let Some(hub) = self.hubs.get(&(on, roles, act)) {
            return *hub;
        }
        let world = self.world;
        let rights = || world.resources[on].rights.iter().filter(|right| right.role.overlaps(roles));
        let hub = if act == Act::AllRunOrDrop { self.net.all(rights().count()) } else { self.net.any() };
        self.hubs.insert((on, roles, act), hub);
        for right in rights() {
            if let Some(marks) = self.at(right.place) {
                self.net.edge(self.mark(marks, act), hub);
            }
        }
        hub
    }

    fn mark(&self, marks: Marks, act: Act) -> NodeId {
        match act {
            Act::Runs if self.rules.drops_do_nothing => marks.runs,
            Act::RunsOrDrops | Act::AllRunOrDrop if !self.rules.drops_release => marks.runs,
            Act::Runs | Act::RunsOrDrops | Act::AllRunOrDrop => marks.drops,
        }
    }

    fn add_waits(&mut self) {
        let mut arms = vec![0_usize; self.world.strands.len()];
        for root in self.world.strands.iter().filter_map(|strand| strand.arm_of) {
            arms[root] += 1;
        }
        // Where the arms of a strand lead to.
        let mut arms_wake: Vec<NodeId> = Vec::with_capacity(arms.len());
        for (at, strand) in self.world.strands.iter().enumerate() {
            let runs = self.strands[at].runs;
            arms_wake.push(match &strand.waits {
                Waits::Any(leaves) => {
                    leaves.iter().for_each(|leaf| self.add_leaf(leaf, runs));
                    runs
                }
                Waits::Race { ended: 0 } => runs,
                Waits::Race { .. } => {
                    self.net.set(runs);
                    runs
                }
                Waits::Join => {
                    let all = self.net.all(arms[at]);
                    self.net.edge(all, runs);
                    all
                }
            });
        }
        for (at, strand) in self.world.strands.iter().enumerate() {
            if let Some(root) = strand.arm_of {
                self.net.edge(self.strands[at].runs, arms_wake[root]);
            }
        }
    }

    fn add_leaf(&mut self, leaf: &Leaf, runs: NodeId) {
        match leaf {
            Leaf::Never => {}
            Leaf::Unknown => self.net.set(runs),
            Leaf::Right { on, roles, by } => {
                let hub = self.hub(*on, *roles, *by);
                self.net.edge(hub, runs);
            }
            // Its line leads to it.
            Leaf::Turn { on } if self.world.resources[*on].permits.is_some() => {}
            Leaf::Turn { .. } => self.net.set(runs),
            Leaf::End(task) => {
                if let Some(root) = self.root(*task) {
                    self.net.edge(root.drops, runs);
                }
            }
            Leaf::AllEnd(tasks) => {
                let all = self.net.all(tasks.len());
                for root in tasks.iter().filter_map(|task| self.root(*task)).collect::<Vec<_>>() {
                    self.net.edge(root.drops, all);
                }
                self.net.edge(all, runs);
            }
        }
    }

    fn add_line(&mut self, permits: &Permits) {
        let never = self.net.any();
        let entries = permits.line.iter().map(|place| match place.waiter {
            Waiter::Strand(strand) => {
                Entry::new(place.need, self.strands[strand].drops, self.strands[strand].runs)
            }
            Waiter::Unattended(task) if self.rules.unattended_keep => {
                Entry::new(place.need, self.task(task).map_or(never, |marks| marks.drops), NONE)
            }
            Waiter::Unattended(_) | Waiter::Alive => Entry::new(place.need, ALIVE, NONE),
        });
        let mut queue = Queue::new(permits.free, entries.collect());
        queue.ignores_order = !self.rules.line_order;
        let goes_on: Vec<NodeId> = queue.entries.iter().map(|entry| entry.goes_on).collect();
        let line = self.net.line(queue);
        for (entry, goes_on) in (0..).zip(goes_on) {
            if goes_on != ALIVE {
                let passes = self.net.with_effect(Effect::Passes { line, entry });
                self.net.edge(goes_on, passes);
            }
        }
        for (place, amount) in &permits.held {
            if let Some(holder) = self.at(*place) {
                let gives = self.net.with_effect(Effect::Gives { line, amount: *amount });
                self.net.edge(self.mark(holder, Act::RunsOrDrops), gives);
            }
        }
        for place in &permits.extended_by {
            if let Some(holder) = self.at(*place) {
                let extends = self.net.with_effect(Effect::Extends { line });
                self.net.edge(self.mark(holder, Act::Runs), extends);
            }
        }
    }

    /// Whoever is cancelled is polled once more, with all its arms; whoever is aborted is only dropped.
    fn add_cancels(&mut self) {
        let mut cancelled = HashMap::new();
        for (at, strand) in self.world.strands.iter().enumerate() {
            for Cancel { by, then } in &strand.cancels {
                let source = match by {
                    CancelBy::Deadline => Some(ALIVE),
                    CancelBy::Holder(place) => self.at(*place).map(|holder| self.mark(holder, Act::Runs)),
                    CancelBy::Sibling(task) => self.task(*task).map(|sibling| sibling.runs),
                    CancelBy::Owner(task) => self.task(*task).map(|owner| owner.drops),
                };
                let Some(source) = source else { continue };
                match then {
                    Act::RunsOrDrops | Act::AllRunOrDrop => self.net.edge(source, self.strands[at].drops),
                    Act::Runs => {
                        let polled = *cancelled.entry(strand.task).or_insert_with(|| self.net.any());
                        self.net.edge(source, polled);
                    }
                }
            }
        }
        for (at, strand) in self.world.strands.iter().enumerate() {
            if let Some(polled) = cancelled.get(&strand.task) {
                self.net.edge(*polled, self.strands[at].runs);
            }
        }
    }
}

#[cfg(test)]
mod tests;
