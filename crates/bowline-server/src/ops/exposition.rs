//! A writer of the Prometheus text format, version 0.0.4.
//!
//! A family is its `HELP` line, its `TYPE` line and its samples, and stands in one place: [`Exposition::family`] begins
//! one, and the previous cannot be written to any more. One without samples is left out.

use std::fmt::{Display, Write};

/// What the numbers of a family do over time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// They only go up, until the process ends. The name ends with `_total`.
    Counter,
    /// They go up and down.
    Gauge,
}

/// Metrics as text.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// One family that is being written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    /// The lines before its first sample, until that comes.
    head: String,
}

impl Exposition {
    /// Begins a family.
    pub(super) fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let mut head = format!("# HELP {name} ");
        escape(help, "\\\n", &mut head);
        // Writing into a String does not fail.
        let _ = writeln!(head, "\n# TYPE {name} {kind}");
        Family { text: &mut self.text, name, head }
    }

    /// Writes a family of one number that only goes up.
    pub(super) fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(Kind::Counter, name, help).sample(&[], value);
    }

    /// Writes a family of one number.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(Kind::Gauge, name, help).sample(&[], value);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// Writes one number. The labels tell the numbers of the family apart.
    pub(super) fn sample(&mut self, labels: &[(&'static str, &str)], value: impl Display) {
        self.text.push_str(&std::mem::take(&mut self.head));
        self.text.push_str(self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(text, "\\\n\"", self.text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Appends `text` with a backslash before each of `special`; a line break becomes `\n`.
fn escape(text: &str, special: &str, out: &mut String) {
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

    #[test]
    fn labels_and_help_are_escaped_each_in_its_way_and_what_has_no_samples_is_left_out() {
        let mut exposition = Exposition::default();
        exposition.family(Kind::Counter, "bowline_none_total", "Nothing to be seen.");
        let mut family = exposition.family(Kind::Gauge, "bowline_x", "a \"b\"\\\nc");
        family.sample(&[("name", "a\"b\\c\nd}"), ("other", "")], 1.5);
        assert_eq!(
            exposition.into_text(),
            "# HELP bowline_x a \"b\"\\\\\\nc\n# TYPE bowline_x gauge\nbowline_x{name=\"a\\\"b\\\\c\\nd}\",other=\"\"} 1.5\n"
        );
    }
}
