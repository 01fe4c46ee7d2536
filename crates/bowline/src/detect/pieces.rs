//! The shape of what is dead: who waits for whom, in pieces that hang together, each with its causes.
//!
//! The graph has the dead strands, what they wait for, and the shared objects between those and their holders. A cause is
//! what everything else leads to and which leads nowhere else: a circle, or a resource that nobody holds.

use std::collections::HashMap;

use super::world::{Act, Leaf, Place, ResourceId, Roles, StrandId, TaskId, Waiter, Waits, World};

/// Dead strands that hang together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Those that cause it.
    pub(super) causes: Vec<StrandId>,
    /// Those that wait for them.
    pub(super) behind: Vec<StrandId>,
    /// Whether the causes wait in a circle. If not, they wait for nobody.
    pub(super) is_circle: bool,
    /// What the causes wait for.
    pub(super) resources: Vec<ResourceId>,
}

/// Takes the dead apart into pieces.
pub(super) fn pieces(world: &World, is_dead: &[bool]) -> Vec<Piece> {
    let graph = Graph::of(world, is_dead);
    let circles = graph.circles();
    let count = circles.iter().max().map_or(0, |last| last + 1);
    // What leads nowhere else is a cause; so is who waits directly for such a thing, if it is not a strand itself.
    let (mut leads_on, mut has_strand) = (vec![false; count], vec![false; count]);
    let mut goes_round = vec![false; count];
    let mut size = vec![0; count];
    for (from, edges) in graph.edges.iter().enumerate() {
        has_strand[circles[from]] |= from < graph.strands;
        size[circles[from]] += 1;
        for to in edges {
            leads_on[circles[from]] |= circles[*to] != circles[from];
        }
    }
    for circle in 0..count {
        goes_round[circle] = size[circle] > 1;
    }
    for (from, edges) in graph.edges.iter().enumerate() {
        if edges.contains(&from) {
            goes_round[circles[from]] = true; // it joins itself
        }
    }
    let is_sink = |vertex: usize| !leads_on[circles[vertex]];
    let mut found: HashMap<usize, Piece> = HashMap::new();
    let groups = graph.groups();
    for strand in (0..graph.strands).filter(|strand| is_dead[*strand]) {
        let waits_for_nobody =
            || graph.edges[strand].iter().any(|to| is_sink(*to) && !has_strand[circles[*to]]);
        let piece = found.entry(groups[strand]).or_insert_with(|| Piece {
            causes: Vec::new(),
            behind: Vec::new(),
            is_circle: false,
            resources: Vec::new(),
        });
        if is_sink(strand) || waits_for_nobody() {
            piece.is_circle |= goes_round[circles[strand]] && is_sink(strand);
            piece.causes.push(strand);
            let resources = graph.edges[strand].iter().filter_map(|to| graph.resource_of(*to));
            piece.resources.extend(resources);
        } else {
            piece.behind.push(strand);
        }
    }
    let mut pieces: Vec<Piece> = found.into_values().collect();
    for piece in &mut pieces {
        piece.resources.sort_unstable();
        piece.resources.dedup();
    }
    pieces.sort_by_key(|piece| piece.causes.first().copied());
    pieces
}

struct Graph {
    /// Strands come first; then what they wait for.
    strands: usize,
    edges: Vec<Vec<usize>>,
    /// Which resource stands behind a vertex.
    resources: HashMap<usize, ResourceId>,
}

impl Graph {
    fn of(world: &World, is_dead: &[bool]) -> Self {
        let strands = world.strands.len();
        let mut graph = Self { strands, edges: vec![Vec::new(); strands], resources: HashMap::new() };
        let roots =
            world.strands.iter().enumerate().filter(|(at, strand)| strand.arm_of.is_none() && is_dead[*at]);
        let roots: HashMap<TaskId, StrandId> = roots.map(|(at, strand)| (strand.task, at)).collect();
        let mut vertices = Vertices { roots, ..Vertices::default() };
        for (at, strand) in world.strands.iter().enumerate().filter(|(at, _)| is_dead[*at]) {
            if let Some(root) = strand.arm_of {
                graph.edges[root].push(at);
            }
            let Waits::Any(leaves) = &strand.waits else { continue };
            for leaf in leaves {
                let to = match leaf {
                    Leaf::Right { on, roles, by: Act::RunsOrDrops | Act::AllRunOrDrop } => {
                        vec![vertices.rights(&mut graph, world, *on, *roles)]
                    }
                    // That somebody might close it is not what is waited for.
                    Leaf::Right { .. } if leaves.len() > 1 => Vec::new(),
                    Leaf::Right { on, roles, .. } => vec![vertices.rights(&mut graph, world, *on, *roles)],
                    Leaf::Turn { on } => vertices.turn(&mut graph, world, *on, at, is_dead),
                    Leaf::End(task) => vertices.roots.get(task).copied().into_iter().collect(),
                    Leaf::AllEnd(tasks) => {
                        tasks.iter().filter_map(|task| vertices.roots.get(task).copied()).collect()
                    }
                    Leaf::Never | Leaf::Unknown => Vec::new(),
                };
                graph.edges[at].extend(to);
            }
        }
        graph
    }

    fn vertex(&mut self) -> usize {
        self.edges.push(Vec::new());
        self.edges.len() - 1
    }

    fn resource_of(&self, vertex: usize) -> Option<ResourceId> {
        self.resources.get(&vertex).copied()
    }

    /// For each vertex the number of its circle: strongly connected components, by Tarjan, without recursion.
    fn circles(&self) -> Vec<usize> {
        const NEW: usize = usize::MAX;
        let count = self.edges.len();
        let (mut number, mut low, mut circle) = (vec![NEW; count], vec![0; count], vec![NEW; count]);
        let (mut open, mut path, mut next, mut circles) = (Vec::new(), Vec::new(), 0, 0);
        for start in 0..count {
            if number[start] != NEW {
                continue;
            }
            path.push((start, 0));
            while let Some((at, edge)) = path.pop() {
                if edge == 0 {
                    number[at] = next;
                    low[at] = next;
                    next += 1;
                    open.push(at);
                }
                match self.edges[at].get(edge) {
                    Some(&to) => {
                        path.push((at, edge + 1));
                        if number[to] == NEW {
                            path.push((to, 0));
                        } else if circle[to] == NEW {
                            low[at] = low[at].min(number[to]);
                        }
                    }
                    None => {
                        if let Some((before, _)) = path.last() {
                            low[*before] = low[*before].min(low[at]);
                        }
                        if low[at] == number[at] {
                            while let Some(one) = open.pop() {
                                circle[one] = circles;
                                if one == at {
                                    break;
                                }
                            }
                            circles += 1;
                        }
                    }
                }
            }
        }
        circle
    }

    /// For each vertex a representative of all that hang together with it.
    fn groups(&self) -> Vec<usize> {
        fn top(groups: &mut [usize], mut at: usize) -> usize {
            while groups[at] != at {
                groups[at] = groups[groups[at]];
                at = groups[at];
            }
            at
        }
        let mut groups: Vec<usize> = (0..self.edges.len()).collect();
        for (from, edges) in self.edges.iter().enumerate() {
            for to in edges {
                let (one, other) = (top(&mut groups, from), top(&mut groups, *to));
                groups[one] = other;
            }
        }
        (0..groups.len()).map(|at| top(&mut groups, at)).collect()
    }
}

/// The vertices that are no strands.
#[derive(Default)]
struct Vertices {
    roots: HashMap<TaskId, StrandId>,
    rights: HashMap<(ResourceId, Roles), usize>,
    lines: HashMap<ResourceId, usize>,
    /// Whom somebody in a line waits for, though there would be permits for it.
    ahead: HashMap<(ResourceId, StrandId), StrandId>,
    objects: HashMap<usize, usize>,
}

impl Vertices {
    fn rights(&mut self, graph: &mut Graph, world: &World, on: ResourceId, roles: Roles) -> usize {
        if let Some(vertex) = self.rights.get(&(on, roles)) {
            return *vertex;
        }
        let vertex = graph.vertex();
        self.rights.insert((on, roles), vertex);
        graph.resources.insert(vertex, on);
        for right in world.resources[on].rights.iter().filter(|right| right.role.overlaps(roles)) {
            self.holder(graph, world, vertex, right.place);
        }
        vertex
    }

    /// Who stands in the way of a turn: those who hold the permits; or, if there would be enough of them, who stands ahead.
    fn turn(
        &mut self,
        graph: &mut Graph,
        world: &World,
        on: ResourceId,
        strand: StrandId,
        is_dead: &[bool],
    ) -> Vec<usize> {
        let line = match self.lines.get(&on) {
            Some(line) => *line,
            None => self.line(graph, world, on, is_dead),
        };
        std::iter::once(line).chain(self.ahead.get(&(on, strand)).copied()).collect()
    }

    fn line(&mut self, graph: &mut Graph, world: &World, on: ResourceId, is_dead: &[bool]) -> usize {
        let vertex = graph.vertex();
        self.lines.insert(on, vertex);
        graph.resources.insert(vertex, on);
        let Some(permits) = &world.resources[on].permits else { return vertex };
        let mut to_come = permits.free;
        for (place, amount) in &permits.held {
            self.holder(graph, world, vertex, *place);
            let comes_back = match place {
                Place::Task(task) => !self.roots.contains_key(task),
                _ => *place != Place::Nobody,
            };
            to_come = to_come.saturating_add(if comes_back { *amount } else { 0 });
        }
        let mut ahead = None;
        for place in &permits.line {
            if let Waiter::Strand(strand) = place.waiter {
                if let Some(ahead) = ahead.filter(|_| place.need <= to_come) {
                    self.ahead.insert((on, strand), ahead);
                }
                ahead = Some(strand).filter(|strand| is_dead[*strand]).or(ahead);
            }
        }
        vertex
    }

    fn holder(&mut self, graph: &mut Graph, world: &World, from: usize, place: Place) {
        let to = match place {
            Place::Task(task) => self.roots.get(&task).copied(),
            // One that nobody holds leads nowhere.
            Place::Object(object) => {
                Some(self.object(graph, world, object)).filter(|object| !graph.edges[*object].is_empty())
            }
            Place::Buffer(queue) => Some(self.rights(graph, world, queue, Roles::RECEIVER)),
            Place::Nobody | Place::Unknown => None,
        };
        graph.edges[from].extend(to);
    }

    fn object(&mut self, graph: &mut Graph, world: &World, object: usize) -> usize {
        if let Some(vertex) = self.objects.get(&object) {
            return *vertex;
        }
        let vertex = graph.vertex();
        self.objects.insert(object, vertex);
        for place in &world.objects[object].holders {
            self.holder(graph, world, vertex, *place);
        }
        vertex
    }
}
