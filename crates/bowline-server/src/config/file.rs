//! Reading a settings file: TOML, JSON or YAML by its extension.

use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::error::{Place, Problem};
use super::tree::{Node, Raw};

/// A document, or the line and the text of its first syntax error.
type Parsed = Result<Node, (Option<usize>, String)>;

/// Reads the file at `path` into a tree whose root is a table.
pub(super) fn read(path: &Path) -> Result<Node, Problem> {
    let shown: Arc<str> = path.display().to_string().into();
    let problem = |line: Option<usize>, what: String| Problem {
        place: Place::File { path: shown.clone(), line },
        what,
    };
    let parse: fn(&str, &Arc<str>) -> Parsed = match path.extension().and_then(|extension| extension.to_str())
    {
        Some("toml") => toml,
        Some("json") => json,
        Some("yaml" | "yml") => yaml,
        _ => return Err(problem(None, "the name must end in .toml, .json, .yaml or .yml".to_owned())),
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| problem(None, format!("the file cannot be read: {error}")))?;
    let root = parse(&text, &shown).map_err(|(line, what)| problem(line, what))?;
    match root.raw {
        Raw::Table(_) => Ok(root),
        // An empty YAML document: nothing is set.
        Raw::Null => Ok(Node::empty_table(root.place)),
        other => Err(problem(None, format!("expected sections with keys, found {other}"))),
    }
}

fn toml(text: &str, path: &Arc<str>) -> Parsed {
    let lines = Lines { path: path.clone(), text };
    match DeTable::parse(text) {
        Ok(table) => Ok(lines.table(table.into_inner(), 0)),
        // Only the message: the whole error quotes the line, which may hold a secret.
        Err(error) => Err((error.span().map(|span| lines.line(span.start)), error.message().to_owned())),
    }
}

fn json(text: &str, path: &Arc<str>) -> Parsed {
    match serde_json::from_str::<Node>(text) {
        Ok(node) => Ok(node.placed(&Place::File { path: path.clone(), line: None })),
        Err(error) => Err((Some(error.line()), error.to_string())),
    }
}

fn yaml(text: &str, path: &Arc<str>) -> Parsed {
    match serde_norway::from_str::<Node>(text) {
        Ok(node) => Ok(node.placed(&Place::File { path: path.clone(), line: None })),
        Err(error) => Err((error.location().map(|at| at.line()), error.to_string())),
    }
}

/// Turns a TOML document into nodes that know their line.
struct Lines<'a> {
    path: Arc<str>,
    text: &'a str,
}

impl Lines<'_> {
    /// Returns the line of a byte offset. It scans from the start: settings files are short.
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|&b| b == b'\n').count()
    }

    fn table(&self, table: DeTable<'_>, offset: usize) -> Node {
        let nodes = table
            .into_iter()
            .map(|(key, value)| {
                let offset = key.span().start;
                (key.into_inner().into_owned(), self.value(value.into_inner(), offset))
            })
            .collect();
        self.node(Raw::Table(nodes), offset)
    }

    /// Converts a value that is reported at `offset`, where its key stands.
    fn value(&self, value: DeValue<'_>, offset: usize) -> Node {
        let raw = match value {
            DeValue::String(text) => Raw::Text(text.into_owned()),
            DeValue::Boolean(value) => Raw::Bool(value),
            DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Raw::Int(number),
                Err(_) => Raw::Text(number.as_str().to_owned()),
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Raw::Float(number),
                Err(_) => Raw::Text(number.as_str().to_owned()),
            },
            DeValue::Datetime(time) => Raw::Text(time.to_string()),
            DeValue::Array(items) => Raw::List(
                items
                    .into_iter()
                    .map(|item| {
                        let offset = item.span().start;
                        self.value(item.into_inner(), offset)
                    })
                    .collect(),
            ),
            DeValue::Table(table) => return self.table(table, offset),
        };
        self.node(raw, offset)
    }

    fn node(&self, raw: Raw, offset: usize) -> Node {
        Node { raw, place: Place::File { path: self.path.clone(), line: Some(self.line(offset)) } }
    }
}
