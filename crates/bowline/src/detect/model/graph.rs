//! The exhaustive oracle: all states of a program, and who makes progress on some path from each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::program::Program;
use super::state::{State, Strands};
use super::step::{Cancels, Next};

/// Programs with more states are left out.
pub(super) const MOST_STATES: usize = 4_000;

/// A hash of a few words; the default one would take most of the time here.
#[derive(Default)]
pub(super) struct Quick(u64);

pub(super) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

impl Hasher for Quick {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a state is hashed as words");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}

/// The states that can be reached, and how.
pub(super) struct Graph {
    pub(super) states: Vec<State>,
    /// From each state: where to, and whose progress that is.
    pub(super) edges: Vec<Vec<(usize, Strands)>>,
    /// Who makes progress, or is dropped, on some path from each state.
    pub(super) progress: Vec<Strands>,
}

impl Graph {
    /// All states from those given; `None` if they are too many.
    pub(super) fn from(program: &Program, starts: &[State], cancels: Cancels) -> Option<Self> {
        let mut states: Vec<State> = starts.to_vec();
        let mut known: QuickMap<State, usize> = QuickMap::default();
        known.extend(starts.iter().enumerate().map(|(at, state)| (*state, at)));
        let mut edges: Vec<Vec<(usize, Strands)>> = Vec::new();
        let mut next: Vec<Next> = Vec::new();
        while edges.len() < states.len() {
            states[edges.len()].successors(program, cancels, &mut next);
            let mut out: Vec<(usize, Strands)> = Vec::with_capacity(next.len());
            for Next { state, moved } in &next {
                let to = *known.entry(*state).or_insert_with(|| {
                    states.push(*state);
                    states.len() - 1
                });
                out.push((to, *moved));
            }
            edges.push(out);
            if states.len() > MOST_STATES * 2 || states.len() > starts.len() + MOST_STATES {
                return None;
            }
        }
        let progress = progress(&edges);
        Some(Self { states, edges, progress })
    }

    /// Who waits in a state and never makes progress.
    pub(super) fn dead(&self, program: &Program, at: usize) -> Strands {
        self.states[at].parked(program) & !self.progress[at]
    }

    /// Whether nothing happens any more in a state.
    pub(super) fn is_at_rest(&self, at: usize) -> bool {
        self.edges[at].is_empty()
    }
}

/// Spreads progress backwards until nothing changes.
fn progress(edges: &[Vec<(usize, Strands)>]) -> Vec<Strands> {
    let mut progress = vec![0; edges.len()];
    let mut from: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (at, out) in edges.iter().enumerate() {
        for (to, moved) in out {
            progress[at] |= moved;
            from[*to].push(at);
        }
    }
    let mut changed: Vec<usize> = (0..edges.len()).collect();
    while let Some(to) = changed.pop() {
        for at in &from[to] {
            let more = progress[*at] | progress[to];
            if more != progress[*at] {
                progress[*at] = more;
                changed.push(*at);
            }
        }
    }
    progress
}
