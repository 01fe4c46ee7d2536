//! A network of conditions that come true one from another: who is alive, spread from those who are for certain.
//!
//! A node is true once as many of its sources are as it needs: one for "or", all of them for "and". Nothing becomes false
//! again, so every edge is followed once, and more sources may be added after the rest has settled.

/// Index of a node.
pub(crate) type NodeId = u32;

/// What is true from the beginning.
pub(crate) const ALIVE: NodeId = 0;

/// Nothing: the end of a list of edges, or what a turn in a line makes true if nobody looks.
pub(crate) const NONE: u32 = u32::MAX;

/// What happens when a node comes true, beside the nodes it makes true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    /// So many permits come back to that line.
    Gives {
        line: u32,
        amount: usize,
    },
    /// That line gets as many permits as anybody may want.
    Extends {
        line: u32,
    },
    /// Whoever stands at that place of that line goes on, one way or another.
    Passes {
        line: u32,
        entry: u32,
    },
}

struct Node {
    /// How many sources are still to come true; 0 is true.
    needs: u32,
    /// The first of its edges.
    edges: u32,
    effect: Effect,
}

struct Edge {
    to: NodeId,
    next: u32,
}

/// One who stands in a line.
pub(crate) struct Entry {
    pub(crate) need: usize,
    /// True when whoever stands here goes on, with or without its turn.
    pub(crate) goes_on: NodeId,
    /// What its turn makes true; [`NONE`]: nobody looks, and it keeps what it gets.
    pub(crate) turn: NodeId,
    /// Whether it keeps permits now.
    keeps: bool,
}

impl Entry {
    pub(crate) fn new(need: usize, goes_on: NodeId, turn: NodeId) -> Self {
        Self { need, goes_on, turn, keeps: false }
    }
}

/// First come, first served: everybody before `next` has had a turn, or goes on without, or keeps what it got.
pub(crate) struct Queue {
    pub(crate) free: usize,
    pub(crate) entries: Vec<Entry>,
    pub(crate) ignores_order: bool,
    /// What those before `next` keep.
    lost: usize,
    next: usize,
    /// How many before `next` have not had a turn.
    passed_over: usize,
}

impl Queue {
    pub(crate) fn new(free: usize, entries: Vec<Entry>) -> Self {
        Self { free, entries, ignores_order: false, lost: 0, next: 0, passed_over: 0 }
    }
}

/// The network.
pub(crate) struct Net {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    lines: Vec<Queue>,
    /// True, and its edges not followed yet.
    due: Vec<NodeId>,
}

impl Net {
    pub(crate) fn new() -> Self {
        let alive = Node { needs: 0, edges: NONE, effect: Effect::Nothing };
        Self { nodes: vec![alive], edges: Vec::new(), lines: Vec::new(), due: Vec::new() }
    }

    /// A node that needs one of its sources.
    pub(crate) fn any(&mut self) -> NodeId {
        self.node(1, Effect::Nothing)
    }

    /// A node that needs so many. Of none: it is true when it is asked for the first time.
    pub(crate) fn all(&mut self, sources: usize) -> NodeId {
        if sources == 0 {
            return ALIVE;
        }
        self.node(small(sources), Effect::Nothing)
    }

    /// A node that does something.
    pub(crate) fn with_effect(&mut self, effect: Effect) -> NodeId {
        self.node(1, effect)
    }

    fn node(&mut self, needs: u32, effect: Effect) -> NodeId {
        self.nodes.push(Node { needs, edges: NONE, effect });
        small(self.nodes.len() - 1)
    }

    pub(crate) fn line(&mut self, queue: Queue) -> u32 {
        self.lines.push(queue);
        small(self.lines.len() - 1)
    }

    /// Makes `from` a source of `to`; also after the fact.
    pub(crate) fn edge(&mut self, from: NodeId, to: NodeId) {
        if self.is_true(from) {
            self.one_more(to);
            return;
        }
        let node = &mut self.nodes[from as usize];
        self.edges.push(Edge { to, next: node.edges });
        node.edges = small(self.edges.len() - 1);
    }

    pub(crate) fn is_true(&self, node: NodeId) -> bool {
        self.nodes[node as usize].needs == 0
    }

    #[cfg(test)]
    pub(crate) fn edges(&self) -> usize {
        self.edges.len()
    }

    /// Makes a node true, whatever it needs.
    pub(crate) fn set(&mut self, node: NodeId) {
        if !self.is_true(node) {
            self.nodes[node as usize].needs = 0;
            self.due.push(node);
        }
    }

    fn one_more(&mut self, to: NodeId) {
        let node = &mut self.nodes[to as usize];
        if node.needs == 0 {
            return;
        }
        node.needs -= 1;
        if node.needs == 0 {
            self.due.push(to);
        }
    }

    /// Follows everything that is true to what it makes true.
    pub(crate) fn settle(&mut self) {
        for line in 0..self.lines.len() {
            self.advance(line);
        }
        while let Some(node) = self.due.pop() {
            let mut at = std::mem::replace(&mut self.nodes[node as usize].edges, NONE);
            while let Some(&Edge { to, next }) = self.edges.get(at as usize) {
                self.one_more(to);
                at = next;
            }
            match self.nodes[node as usize].effect {
                Effect::Nothing => {}
                Effect::Gives { line, amount } => {
                    let queue = &mut self.lines[line as usize];
                    queue.free = queue.free.saturating_add(amount);
                    self.advance(line as usize);
                }
                Effect::Extends { line } => {
                    self.lines[line as usize].free = usize::MAX;
                    self.advance(line as usize);
                }
                Effect::Passes { line, entry } => {
                    let queue = &mut self.lines[line as usize];
                    let entry = &mut queue.entries[entry as usize];
                    if std::mem::take(&mut entry.keeps) {
                        queue.lost -= entry.need;
                    }
                    self.advance(line as usize);
                }
            }
        }
    }

    /// Gives turns until somebody stands in the way.
    fn advance(&mut self, line: usize) {
        self.look_again(line);
        loop {
            let queue = &mut self.lines[line];
            let Some(entry) = queue.entries.get_mut(queue.next) else { return };
            let (goes_on, turn) = (entry.goes_on, entry.turn);
            let fits = entry.need.checked_add(queue.lost).is_some_and(|wanted| wanted <= queue.free);
            let passes = self.nodes[goes_on as usize].needs == 0;
            if !fits && !passes && !queue.ignores_order {
                return;
            }
            if turn == NONE {
                entry.keeps = fits && !passes;
                queue.lost += if entry.keeps { entry.need } else { 0 };
            } else if !fits && self.nodes[turn as usize].needs > 0 {
                queue.passed_over += 1;
            }
            queue.next += 1;
            if turn != NONE && fits {
                self.set(turn);
            }
        }
    }

    /// Gives turns to those who were passed over because they go on anyway - dropped, perhaps - and for whom there was not
    /// enough then.
    fn look_again(&mut self, line: usize) {
        if self.lines[line].passed_over == 0 {
            return;
        }
        let (mut lost, mut passed_over) = (0, 0);
        for at in 0..self.lines[line].next {
            let queue = &self.lines[line];
            let Entry { need, turn, keeps, .. } = queue.entries[at];
            if keeps {
                lost += need;
            } else if turn != NONE && !self.is_true(turn) {
                if need.checked_add(lost).is_some_and(|wanted| wanted <= queue.free) {
                    self.set(turn);
                } else {
                    passed_over += 1;
                }
            }
        }
        self.lines[line].passed_over = passed_over;
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).expect("2^32 nodes do not fit into memory")
}
