//! What becomes of an existing settings file: key by key, for people on a terminal and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::error::{Place, Problem};
use super::reader::{Outcome, Seen};

/// The narrowest and the widest that lines are broken at.
const NARROWEST: usize = 40;
const WIDEST: usize = 100;

/// What became of the settings.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether the server would start.
    pub valid: bool,
    /// The keys that were set, in the order of the sources.
    pub keys: Vec<KeyReport>,
    /// What is different here although nothing was set; for files that are Centrifugo's.
    pub defaults: Vec<DefaultReport>,
    /// What is wrong, each with its place.
    pub problems: Vec<String>,
    /// What the operator should know though nothing is wrong.
    pub notes: Vec<String>,
    /// Whether there are keys that only Centrifugo has.
    #[serde(skip)]
    pub is_foreign: bool,
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// Its path.
    pub key: String,
    /// Where it was set.
    pub place: String,
    /// What becomes of it.
    pub outcome: Verdict,
    /// What is the case here, or what to do. Empty if there is nothing to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

/// What becomes of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is read, and means the same.
    CarriesOver,
    /// It is ignored: it asks for what is the case anyway, for nothing, or for what is done otherwise.
    Differs,
    /// It asks for what is not here. The server does not start.
    NotSupported,
    /// Nobody knows it. The server does not start.
    Unknown,
    /// Its value is not allowed. The server does not start.
    Wrong,
}

/// A default that differs from Centrifugo's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DefaultReport {
    /// The key that changes it.
    pub key: &'static str,
    /// What is the case there.
    pub there: &'static str,
    /// What is the case here.
    pub here: &'static str,
}

/// Defaults that whoever comes from there will notice.
const DEFAULTS: &[DefaultReport] = &[
    DefaultReport {
        key: "store.path",
        there: "history is in memory, and gone after a restart",
        here: "history is kept in the directory bowline-data; empty for memory",
    },
    DefaultReport {
        key: "http_server.address",
        there: "every interface",
        here: "this machine only, 127.0.0.1; 0.0.0.0 or :: for every interface",
    },
    DefaultReport {
        key: "http_server.internal_port",
        there: "none: everything is on one port",
        here: "8001: health, metrics and debug pages, and the server API as well, on an address of its own",
    },
    DefaultReport {
        key: "http_server.connections_per_address",
        there: "no limit",
        here: "4096; behind a proxy, list it in http_server.trusted_proxies",
    },
    DefaultReport {
        key: "http_server.handshakes_per_address",
        there: "no limit",
        here: "100 per second; behind a proxy, list it in http_server.trusted_proxies",
    },
    DefaultReport {
        key: "client.command_rate_limit",
        there: "no limit",
        here: "1000 commands per second of one connection",
    },
    DefaultReport {
        key: "client.byte_rate_limit",
        there: "no limit",
        here: "1 MiB of commands per second of one connection",
    },
    DefaultReport {
        key: "client.subscribe_rate_limit",
        there: "no limit",
        here: "50 subscriptions per second of one connection",
    },
    DefaultReport {
        key: "grpc_api.key",
        there: "without one every call is accepted",
        here: "without one every call is refused",
    },
];

impl Report {
    pub(super) fn new(seen: Vec<Seen>, problems: &[Problem], notes: Vec<String>) -> Self {
        let is_set = |key: &str| seen.iter().any(|seen| seen.key == key && !is_default(&seen.place));
        let has_grpc = seen.iter().any(|seen| seen.key.starts_with("grpc_api."));
        let defaults = DEFAULTS
            .iter()
            .filter(|default| !is_set(default.key) && (has_grpc || !default.key.starts_with("grpc_api.")));
        let is_foreign = seen.iter().any(|seen| {
            matches!(seen.outcome, Outcome::Ignored { .. } | Outcome::Missing { .. } | Outcome::Flat { .. })
        });
        Self {
            valid: problems.is_empty(),
            defaults: defaults.copied().collect(),
            keys: seen.iter().map(|seen| KeyReport::new(seen, problems)).collect(),
            problems: problems.iter().map(ToString::to_string).collect(),
            notes,
            is_foreign,
        }
    }

    /// How many keys have this outcome.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.keys.iter().filter(|key| key.outcome == verdict).count()
    }

    /// The report as text, for lines of `width` columns.
    #[must_use]
    pub fn text(&self, width: usize) -> String {
        let width = width.clamp(NARROWEST, WIDEST);
        let mut text = String::new();
        for (verdict, title) in [
            (Verdict::CarriesOver, "Carries over"),
            (Verdict::Differs, "Ignored: so anyway, or done otherwise"),
            (Verdict::NotSupported, "Not supported"),
            (Verdict::Unknown, "Unknown"),
            (Verdict::Wrong, "With a value that is not allowed"),
        ] {
            let keys: Vec<_> = self.keys.iter().filter(|key| key.outcome == verdict).collect();
            if keys.is_empty() {
                continue;
            }
            let _ = writeln!(text, "{title} ({})", keys.len());
            if verdict == Verdict::CarriesOver {
                let names: Vec<_> = keys.iter().map(|key| key.key.as_str()).collect();
                wrap(&names.join(", "), 2, width, &mut text);
            } else {
                for key in keys {
                    wrap(&key.key, 2, width, &mut text);
                    wrap(&key.advice, 6, width, &mut text);
                }
            }
            text.push('\n');
        }
        self.rules(width, &mut text);
        if self.is_foreign && !self.defaults.is_empty() {
            text.push_str("Not set, and different here\n");
            for default in &self.defaults {
                wrap(default.key, 2, width, &mut text);
                wrap(&format!("there {}", default.there), 6, width, &mut text);
                wrap(&format!("here {}", default.here), 6, width, &mut text);
            }
            text.push('\n');
        }
        text
    }

    /// What is wrong with the settings as a whole, and what is noteworthy: what is not said of one key above.
    fn rules(&self, width: usize, text: &mut String) {
        let is_said = |what: &str| {
            self.keys
                .iter()
                .any(|key| what.contains(&format!("`{}`", key.key)) && key.outcome != Verdict::CarriesOver)
        };
        for (title, said) in [("Does not fit together", &self.problems), ("To know", &self.notes)] {
            let others: Vec<_> = said.iter().filter(|what| !is_said(what)).collect();
            if others.is_empty() {
                continue;
            }
            let _ = writeln!(text, "{title}");
            others.iter().for_each(|what| wrap(what, 2, width, text));
            text.push('\n');
        }
    }
}

impl KeyReport {
    fn new(seen: &Seen, problems: &[Problem]) -> Self {
        let problem = || {
            let key = format!("`{}`", seen.key);
            let found = problems.iter().find(|problem| problem.what.starts_with(&key));
            found.map(|problem| problem.what.clone()).unwrap_or_default()
        };
        let (outcome, advice) = match &seen.outcome {
            Outcome::Read => (Verdict::CarriesOver, String::new()),
            Outcome::Wrong => (Verdict::Wrong, problem()),
            Outcome::Ignored { why } => {
                (Verdict::Differs, why.strip_prefix("ignored: ").unwrap_or(why).to_owned())
            }
            Outcome::Missing { advice } => (Verdict::NotSupported, (*advice).to_owned()),
            Outcome::Flat { now } => (Verdict::NotSupported, format!("since version 6: {now}")),
            Outcome::Unknown { near } => {
                let near = near.as_ref().map(|near| format!("did you mean {near}?"));
                (Verdict::Unknown, near.unwrap_or_default())
            }
        };
        Self { key: seen.key.clone(), place: seen.place.to_string(), outcome, advice }
    }
}

fn is_default(place: &Place) -> bool {
    *place == Place::Default
}

/// Writes words in lines of at most `width` columns, each after `indent` spaces. A word that is longer has a line of its own.
fn wrap(words: &str, indent: usize, width: usize, text: &mut String) {
    let mut column = 0;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            text.push('\n');
            column = 0;
        }
        if column == 0 {
            text.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    if column > 0 {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_indented() {
        let mut text = String::new();
        wrap("one two three four averyveryverylongword", 2, 12, &mut text);
        assert_eq!(text, "  one two\n  three four\n  averyveryverylongword\n");
        wrap("", 2, 12, &mut text);
        assert!(text.ends_with("word\n"));
    }
}
