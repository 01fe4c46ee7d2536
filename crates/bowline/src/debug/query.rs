//! What a page is asked for: `?format=json&name=worker&sort=age&limit=50`.

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

/// What stands first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Wait,
    Age,
    Polls,
    Busy,
    Name,
    /// Who was polled last longest ago.
    Idle,
    /// Whose future is the largest.
    Size,
}

/// How many rows a page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    AtMost(usize),
    All,
}

/// More rows than this are not sorted: `limit=all` streams them as they come.
const MAX_SORTED: usize = 100_000;

/// The parameters of a page. Each page takes those that mean something to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) format: Format,
    pub(super) limit: Option<Limit>,
    /// How many of one name in one scope the tree shows.
    pub(super) each: Option<Limit>,
    /// A part of the name or path, in lower case.
    pub(super) name: Option<String>,
    /// The operation that is waited in.
    pub(super) op: Option<String>,
    /// What a task is at: `waiting`, `parked`, …
    pub(super) state: Option<String>,
    pub(super) min_age_ms: u64,
    pub(super) min_wait_ms: u64,
    pub(super) sort: Sort,
    /// Only what is below this task or scope.
    pub(super) below: Option<u64>,
    /// Whether to say why a wait is not proved to be for ever, however much there is to look at.
    pub(super) explain: Option<bool>,
    /// What nobody knows. A newer program's viewer may ask an older program: it is ignored, and people are told.
    pub(super) unknown: Vec<String>,
}

const KNOWN: &str = "format, name, op, state, age, wait, sort, limit, each, below, explain";

impl Query {
    /// Asks for everything, for people.
    pub(super) fn none() -> Self {
        Self {
            format: Format::Text,
            limit: None,
            each: None,
            name: None,
            op: None,
            state: None,
            min_age_ms: 0,
            min_wait_ms: 0,
            sort: Sort::Wait,
            below: None,
            explain: None,
            unknown: Vec::new(),
        }
    }

    /// Reads a query and the `Accept` header; the error says what is wrong with it.
    pub(super) fn parse(query: Option<&str>, accept: Option<&str>) -> Result<Self, String> {
        let mut parsed = Self::none();
        if accept.is_some_and(|accept| accept.contains("application/json")) {
            parsed.format = Format::Json;
        }
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match key {
                "format" => parsed.format = format(&value)?,
                "name" => parsed.name = some(value.to_lowercase()),
                "op" => parsed.op = some(value),
                "state" => parsed.state = some(value),
                "age" => parsed.min_age_ms = millis("age", &value)?,
                "wait" => parsed.min_wait_ms = millis("wait", &value)?,
                "sort" => parsed.sort = sort(&value)?,
                "limit" => parsed.limit = Some(limit("limit", &value)?),
                "each" => parsed.each = Some(limit("each", &value)?),
                "below" => parsed.below = Some(id(&value)?),
                "explain" => parsed.explain = Some(yes_or_no(&value)?),
                _ => parsed.unknown.push(decode(key)),
            }
        }
        Ok(parsed)
    }

    /// How many rows a page of things has that are few.
    pub(super) fn rows(&self, text: usize) -> usize {
        match (self.limit, self.format) {
            (Some(Limit::AtMost(rows)), _) => rows,
            (Some(Limit::All), _) => usize::MAX,
            (None, Format::Text) => text,
            (None, Format::Json) => text.max(1_000),
        }
    }

    pub(super) fn takes_name(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|part| name.to_lowercase().contains(part))
    }

    /// What a person should know who mistyped a parameter.
    pub(super) fn complaint(&self) -> String {
        let mut complaint = String::new();
        for unknown in &self.unknown {
            let line = format!("(no page knows `{unknown}`, it is ignored; known: {KNOWN})");
            super::text::wrap(&mut complaint, &super::text::escape(&line), "");
        }
        complaint
    }
}

fn some(value: String) -> Option<String> {
    Some(value).filter(|value| !value.is_empty())
}

fn format(value: &str) -> Result<Format, String> {
    match value {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("format is text or json".to_owned()),
    }
}

fn sort(value: &str) -> Result<Sort, String> {
    match value {
        "wait" => Ok(Sort::Wait),
        "age" => Ok(Sort::Age),
        "polls" => Ok(Sort::Polls),
        "busy" => Ok(Sort::Busy),
        "name" => Ok(Sort::Name),
        "idle" => Ok(Sort::Idle),
        "size" => Ok(Sort::Size),
        _ => Err("sort is wait, age, polls, busy, idle, size or name".to_owned()),
    }
}

fn yes_or_no(value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("explain is yes or no".to_owned()),
    }
}

fn limit(key: &str, value: &str) -> Result<Limit, String> {
    match value {
        "all" => Ok(Limit::All),
        _ => match value.parse() {
            Ok(rows) if rows <= MAX_SORTED => Ok(Limit::AtMost(rows)),
            _ => Err(format!("{key} is a number up to {MAX_SORTED}, or all")),
        },
    }
}

fn id(value: &str) -> Result<u64, String> {
    value.trim_start_matches('#').parse().map_err(|_| "below is the id of a task or scope".to_owned())
}

/// A time as people write it: `250ms`, `5s`, `2m`, `1h`.
fn millis(key: &str, value: &str) -> Result<u64, String> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &value[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = unit.zip(digits.parse::<u64>().ok()).and_then(|(unit, count)| count.checked_mul(unit));
    millis.ok_or_else(|| format!("{key} is a time: 250ms, 5s, 2m, 1h"))
}

/// Undoes percent-encoding; what is not well encoded stays as it is.
fn decode(text: &str) -> String {
    let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = hex(bytes.get(at + 1)).zip(hex(bytes.get(at + 2)));
        match (byte, pair) {
            (b'%', Some((high, low))) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Query, String> {
        Query::parse(Some(query), None)
    }

    #[test]
    fn a_query_is_read_whole() {
        let query =
            parse("format=json&name=Pack%65r%2F&op=recv&age=5s&wait=250ms&sort=age&limit=7&below=%2312")
                .unwrap();
        assert_eq!(query.format, Format::Json);
        assert_eq!((query.name.as_deref(), query.op.as_deref()), (Some("packer/"), Some("recv")));
        assert_eq!((query.min_age_ms, query.min_wait_ms, query.sort), (5_000, 250, Sort::Age));
        assert_eq!((query.limit, query.below), (Some(Limit::AtMost(7)), Some(12)));
        assert!(query.takes_name("orders/PACKER/x") && !query.takes_name("orders/pack"));
        assert_eq!(query.complaint(), "");
    }

    #[test]
    fn accept_asks_for_json_and_the_query_has_the_last_word() {
        let json = Some("text/html, application/json;q=0.9");
        assert_eq!(Query::parse(None, json).unwrap().format, Format::Json);
        assert_eq!(Query::parse(Some("format=text"), json).unwrap().format, Format::Text);
        assert_eq!(Query::parse(None, Some("*/*")).unwrap().format, Format::Text);
    }

    #[test]
    fn a_value_that_means_nothing_is_an_error_that_says_what_would() {
        for (query, says) in [
            ("format=yaml", "text or json"),
            ("sort=colour", "wait, age, polls, busy, idle, size or name"),
            ("limit=-1", "a number"),
            ("limit=100001", "100000, or all"),
            ("age=5", "250ms, 5s, 2m, 1h"),
            ("wait=99999999999999999999h", "a time"),
            ("below=x", "id of a task"),
            ("explain=perhaps", "yes or no"),
        ] {
            let error = parse(query).unwrap_err();
            assert!(error.contains(says), "{query}: {error}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_ignored_and_told() {
        let query = parse("nmae=x&%1b=").unwrap();
        assert_eq!(query.name, None);
        let complaint = query.complaint();
        assert!(complaint.contains("`nmae`") && complaint.contains("known: format, name"), "{complaint}");
        assert!(!complaint.contains('\x1b'), "{complaint}");
    }

    #[test]
    fn what_is_not_well_encoded_stays_as_it_is() {
        assert_eq!(decode("a%2"), "a%2");
        assert_eq!(decode("%zz+%"), "%zz %");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }
}
