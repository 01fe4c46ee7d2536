//! Reading JSON without ever failing.

use serde_json::Value;

use crate::top::words::clean;

/// Lines of [`outline`], and how deep it goes.
const MAX_LINES: usize = 500;
const MAX_DEPTH: usize = 12;

/// The fields of a JSON object, or of anything else, which has none.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'v>(pub(crate) &'v Value);

impl<'v> Fields<'v> {
    pub(crate) fn value(self, name: &str) -> Option<&'v Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn inside(self, name: &str) -> Fields<'v> {
        Fields(self.0.get(name).unwrap_or(&Value::Null))
    }

    /// A count. One that is told as text, as some writers do with 64 bits, is read too.
    pub(crate) fn some_number(self, name: &str) -> Option<u64> {
        let value = self.value(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    pub(crate) fn number(self, name: &str) -> u64 {
        self.some_number(name).unwrap_or(0)
    }

    pub(crate) fn some_text(self, name: &str) -> Option<String> {
        self.value(name).map(plain).filter(|text| !text.is_empty())
    }

    pub(crate) fn text(self, name: &str) -> String {
        self.some_text(name).unwrap_or_default()
    }

    pub(crate) fn is_true(self, name: &str) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn list<T>(self, name: &str, read: impl FnMut(Fields<'v>) -> T) -> Vec<T> {
        items(self.value(name)).map(Fields).map(read).collect()
    }
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// The entries of a page: a list, or an object in which the list stands under the page's name.
pub(crate) fn entries<T>(page: &Value, name: &str, read: fn(Fields<'_>) -> T) -> Vec<T> {
    let listed = if page.is_array() { Some(page) } else { page.get(name) };
    items(listed).map(Fields).map(read).collect()
}

/// A value in a few words: text as it is, an object by what it says it is.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let first = ["is", "kind", "name", "text"].iter().find_map(|name| fields.get(*name));
            let mut said = first.map(plain).unwrap_or_default();
            for (name, value) in fields.iter().filter(|(_, value)| value.is_number()) {
                said.push_str(&format!(" {} {value}", words(name)));
            }
            // One with a single field is that field's: `{"OnlyCancel": {…}}` as some writers put their enums.
            if said.is_empty() && fields.len() == 1 {
                said = fields.keys().map(|name| words(name)).collect();
            }
            said
        }
    }
}

/// `high_water_items` as people write it.
fn words(name: &str) -> String {
    clean(name).replace('_', " ")
}

/// Any JSON as lines for people, two spaces deeper for what is inside.
pub(crate) fn outline(value: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    write(&mut lines, value, 0);
    lines.truncate(MAX_LINES);
    lines
}

fn write(lines: &mut Vec<String>, value: &Value, depth: usize) {
    if lines.len() >= MAX_LINES || depth >= MAX_DEPTH {
        return;
    }
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Null => {}
                    Value::Array(items) if items.is_empty() => {}
                    Value::Object(_) | Value::Array(_) => {
                        lines.push(format!("{indent}{}:", words(name)));
                        write(lines, value, depth + 1);
                    }
                    _ => lines.push(format!("{indent}{}: {}", words(name), plain(value))),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let first = lines.len();
                let is_nested = item.is_object() || item.is_array();
                write(lines, item, depth + usize::from(is_nested));
                // The dash says where an item begins.
                if let Some(line) = lines.get_mut(first).filter(|_| is_nested) {
                    line.replace_range(depth * 2..depth * 2 + 1, "-");
                }
            }
        }
        Value::Null => {}
        _ => lines.push(format!("{indent}{}", plain(value))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_or_of_another_kind_reads_as_empty() {
        let value =
            json!({"id": "18446744073709551615", "name": 7, "age_ms": -1, "tasks": {}, "closed": null});
        let fields = Fields(&value);
        assert_eq!(fields.number("id"), u64::MAX);
        assert_eq!(fields.text("name"), "7");
        assert_eq!((fields.some_number("age_ms"), fields.number("polls")), (None, 0));
        assert!(fields.list("tasks", |_| ()).is_empty() && fields.some_text("closed").is_none());
        assert_eq!(Fields(&json!([1])).inside("a").inside("b").text("c"), "");
    }

    #[test]
    fn an_outline_shows_what_nobody_here_knows() {
        let value = json!({
            "tier": "exact", "since_ms": 12, "nothing": null, "none": [],
            "tasks": [{"name": "a", "at": "x.rs:1"}, {"name": "b"}], "why": ["one", "two"],
        });
        assert_eq!(
            outline(&value),
            [
                "since ms: 12",
                "tasks:",
                "  - at: x.rs:1",
                "    name: a",
                "  - name: b",
                "tier: exact",
                "why:",
                "  one",
                "  two"
            ]
        );
        let deep = (0..100).fold(json!(1), |inside, _| Value::Array(vec![inside, json!("beside")]));
        assert_eq!(outline(&deep).len(), MAX_DEPTH, "what is deeper is left out");
        assert_eq!(outline(&json!(vec![1; 9_000])).len(), MAX_LINES);
    }

    #[test]
    fn a_value_in_a_few_words() {
        assert_eq!(plain(&json!({"is": "permits", "free": 0, "total": 1})), "permits free 0 total 1");
        assert_eq!(plain(&json!({"OnlyCancel": {"by": "deadline"}})), "OnlyCancel");
        assert_eq!(plain(&json!(["a", 1])), "a, 1");
    }
}
