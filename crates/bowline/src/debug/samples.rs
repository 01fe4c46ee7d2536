//! Numbers under names: what metrics are before they are written.
//!
//! # Invariants
//!
//! 1. There are at most [`MAX_NAMES`] values of a label: the first that come have series of their own for good, and the rest are
//!    summed up as `other`. So a series never changes its meaning, and no program can flood who collects them.
//! 2. A counter never goes down, though it is the sum of things that come and go: it grows by what the sum grew. What a thing
//!    counted after it was looked at last goes with it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

/// How many values of a label are told apart.
pub(super) const MAX_NAMES: usize = 100;

/// What stands for all others.
const OTHER: &str = "other";

/// What the numbers of a family do over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// They only go up, until the process ends. The name ends with `_total`.
    Counter,
    /// They go up and down; those of one name are added up.
    Gauge,
    /// The same; of those of one name the greatest counts.
    Greatest,
}

/// Labels by key, in the order of the family.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Numbers of one meaning.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: BTreeMap<Labels, f64>,
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By family of names: those that have series of their own.
    names: HashMap<&'static str, HashSet<String>>,
    /// Of each counter the sum when it was looked at last, and what was told.
    counters: HashMap<(&'static str, Labels), (f64, f64)>,
}

impl Memory {
    fn name(&mut self, of: &'static str, name: &str) -> String {
        let known = self.names.entry(of).or_default();
        let is_known = known.contains(name) || (known.len() < MAX_NAMES && known.insert(name.to_owned()));
        if is_known { name.to_owned() } else { OTHER.to_owned() }
    }

    fn count(&mut self, family: &'static str, labels: &Labels, sum: f64) -> f64 {
        let (before, told) = self.counters.entry((family, labels.clone())).or_insert((0.0, 0.0));
        *told += (sum - *before).max(0.0);
        *before = sum;
        *told
    }
}

/// Families in the making.
pub(super) struct Samples<'a> {
    memory: &'a mut Memory,
    families: Vec<Family>,
}

impl<'a> Samples<'a> {
    pub(super) fn new(memory: &'a mut Memory) -> Self {
        Self { memory, families: Vec::new() }
    }

    /// Begins a family.
    pub(super) fn family(&mut self, kind: Kind, name: &'static str, help: &'static str) {
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        self.families.push(Family { name, help, kind, samples: BTreeMap::new() });
    }

    /// Adds a number to the family that was begun last. `of` says whose names they are: pools and breakers do not share theirs.
    pub(super) fn add(&mut self, of: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let names = labels.iter().map(|(key, value)| (*key, self.memory.name(of, value)));
        let labels: Labels = names.collect();
        let Some(family) = self.families.last_mut() else { return };
        let sum = family.samples.entry(labels).or_insert(0.0);
        *sum = if family.kind == Kind::Greatest { sum.max(value) } else { *sum + value };
    }

    /// A family of one number.
    pub(super) fn one(&mut self, kind: Kind, name: &'static str, help: &'static str, value: f64) {
        self.family(kind, name, help);
        self.add(name, &[], value);
    }

    pub(super) fn finish(mut self) -> Vec<Family> {
        for family in self.families.iter_mut().filter(|family| family.kind == Kind::Counter) {
            for (labels, value) in &mut family.samples {
                *value = self.memory.count(family.name, labels, *value);
            }
        }
        self.families
    }
}

/// Writes the text format of Prometheus, version 0.0.4. A family without numbers is left out.
pub(super) fn exposition(families: &[Family]) -> String {
    let mut text = String::new();
    for Family { name, help, kind, samples } in families.iter().filter(|family| !family.samples.is_empty()) {
        let kind = if *kind == Kind::Counter { "counter" } else { "gauge" };
        // Writing into a String does not fail.
        let _ = write!(text, "# HELP {name} ");
        escape(&mut text, help, "\\\n");
        let _ = writeln!(text, "\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            text.push_str(name);
            for (at, (key, label)) in labels.iter().enumerate() {
                let _ = write!(text, "{}{key}=\"", if at == 0 { '{' } else { ',' });
                escape(&mut text, label, "\\\n\"");
                text.push('"');
            }
            let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
        }
    }
    text
}

/// Appends `text` with a backslash before each of `special`; a line break becomes `\n`.
fn escape(out: &mut String, text: &str, special: &str) {
    for character in text.chars() {
        if special.contains(character) {
            out.push('\\');
        }
        out.push(if character == '\n' { 'n' } else { character });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(memory: &mut Memory, values: &[(&str, f64)]) -> String {
        let mut samples = Samples::new(memory);
        samples.family(Kind::Counter, "bowline_x_total", "Something.");
        for (name, value) in values {
            samples.add("things", &[("name", name)], *value);
        }
        let text = exposition(&samples.finish());
        text.lines().skip(2).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_counter_does_not_go_down_when_one_of_its_things_goes() {
        let memory = &mut Memory::default();
        assert_eq!(look(memory, &[("a", 5.0), ("a", 2.0)]), "bowline_x_total{name=\"a\"} 7");
        assert_eq!(look(memory, &[("a", 2.0)]), "bowline_x_total{name=\"a\"} 7");
        assert_eq!(look(memory, &[("a", 3.0)]), "bowline_x_total{name=\"a\"} 8");
        assert_eq!(look(memory, &[]), "");
        assert_eq!(look(memory, &[("a", 4.0)]), "bowline_x_total{name=\"a\"} 9");
    }

    #[test]
    fn names_beyond_the_bound_are_summed_up_and_stay_so() {
        let memory = &mut Memory::default();
        let names: Vec<String> = (0..MAX_NAMES + 5).map(|n| format!("n{n:03}")).collect();
        let all: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
        let text = look(memory, &all);
        assert_eq!(text.lines().count(), MAX_NAMES + 1);
        assert!(text.ends_with("{name=\"other\"} 5"), "{text}");
        assert_eq!(look(memory, &all[MAX_NAMES..MAX_NAMES + 1]), "bowline_x_total{name=\"other\"} 5");
        assert_eq!(look(memory, &all[..1]), "bowline_x_total{name=\"n000\"} 1");
    }

    #[test]
    fn labels_and_help_are_escaped_each_in_its_way_and_the_greatest_counts() {
        let mut memory = Memory::default();
        let mut samples = Samples::new(&mut memory);
        samples.family(Kind::Greatest, "bowline_x", "a \"b\"\\\nc");
        samples.add("x", &[("name", "a\"b\\c\nd}"), ("other", "")], 1.5);
        samples.add("x", &[("name", "a\"b\\c\nd}"), ("other", "")], 0.5);
        samples.one(Kind::Gauge, "bowline_y", "One.", 3.0);
        assert_eq!(
            exposition(&samples.finish()),
            "# HELP bowline_x a \"b\"\\\\\\nc\n# TYPE bowline_x gauge\nbowline_x{name=\"a\\\"b\\\\c\\nd}\",other=\"\"} 1.5\n\
             # HELP bowline_y One.\n# TYPE bowline_y gauge\nbowline_y 3\n"
        );
    }
}
