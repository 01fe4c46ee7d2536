//! Filters of publications by their tags: made once for a subscription, asked for every publication.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bowline_protocol::{FilterNode, filter::TagsFilter};
//!
//! let node = FilterNode { key: "price".into(), cmp: "lt".into(), val: "10.5".into(), ..FilterNode::default() };
//! let filter = TagsFilter::new(&node)?;
//! assert!(filter.matches(&BTreeMap::from([("price".to_owned(), "9".to_owned())])));
//! assert!(!filter.matches(&BTreeMap::new()));
//! # Ok::<(), bowline_protocol::filter::BadFilter>(())
//! ```
//!
//! # Invariants
//!
//! 1. A filter has at most [`MAX_NODES`] nodes and values and nests at most [`MAX_DEPTH`] deep, so that asking it costs
//!    bounded time and stack, whoever wrote it.
//! 2. What cannot be compared does not match: a tag that is missing or no number is neither below nor above anything.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::FilterNode;

/// The most nodes and values of one filter: a publication is held against all of them for each subscriber.
pub const MAX_NODES: usize = 128;

/// The deepest nesting of a filter.
pub const MAX_DEPTH: usize = 8;

/// A filter in the form in which it is asked.
#[derive(Clone, Debug)]
pub struct TagsFilter(Node);

/// What is wrong with a filter. The client wrote it wrongly, and trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadFilter {
    /// `op` or `cmp` is none of those that there are.
    Unknown,
    /// A comparison has no key, a comparison with a list has none, a combination has no nodes, or `not` another number
    /// than one.
    Incomplete,
    /// The value of a numeric comparison is no decimal number.
    NotANumber,
    /// There are more nodes and values than [`MAX_NODES`], or it nests deeper than [`MAX_DEPTH`].
    TooLarge,
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "the filter has an unknown operation",
            Self::Incomplete => "a part of the filter is missing",
            Self::NotANumber => "the filter compares with what is no number",
            Self::TooLarge => "the filter is too large",
        })
    }
}

impl std::error::Error for BadFilter {}

impl TagsFilter {
    /// Makes a filter of what a client sent.
    ///
    /// # Errors
    ///
    /// [`BadFilter`] if it does not make sense, or is too large.
    pub fn new(root: &FilterNode) -> Result<Self, BadFilter> {
        let mut room = MAX_NODES;
        Node::new(root, MAX_DEPTH, &mut room).map(Self)
    }

    /// Whether a publication with `tags` passes.
    #[must_use]
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        self.0.matches(tags)
    }
}

#[derive(Clone, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Tag { key: Box<str>, test: Test },
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    NotExists,
    Equals(Box<str>),
    NotEquals(Box<str>),
    In(BTreeSet<Box<str>>),
    NotIn(BTreeSet<Box<str>>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Number(fn(Ordering) -> bool, Decimal),
}

impl Node {
    fn new(node: &FilterNode, depth: usize, room: &mut usize) -> Result<Self, BadFilter> {
        let depth = depth.checked_sub(1).ok_or(BadFilter::TooLarge)?;
        *room = room.checked_sub(1 + node.vals.len()).ok_or(BadFilter::TooLarge)?;
        let mut nodes = || match &node.nodes[..] {
            [] => Err(BadFilter::Incomplete),
            nodes => nodes.iter().map(|node| Self::new(node, depth, room)).collect::<Result<Vec<_>, _>>(),
        };
        Ok(match node.op.as_str() {
            "and" => Self::All(nodes()?),
            "or" => Self::Any(nodes()?),
            "not" => match <[Self; 1]>::try_from(nodes()?) {
                Ok([node]) => Self::Not(Box::new(node)),
                Err(_) => return Err(BadFilter::Incomplete),
            },
            "" if node.key.is_empty() => return Err(BadFilter::Incomplete),
            "" => Self::Tag { key: node.key.as_str().into(), test: Test::new(node)? },
            _ => return Err(BadFilter::Unknown),
        })
    }

    fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Self::Not(node) => !node.matches(tags),
            Self::Tag { key, test } => test.matches(tags.get(&**key).map(String::as_str)),
        }
    }
}

impl Test {
    fn new(node: &FilterNode) -> Result<Self, BadFilter> {
        let value = || node.val.as_str().into();
        let values = || match &node.vals[..] {
            [] => Err(BadFilter::Incomplete),
            values => Ok(values.iter().map(|value| value.as_str().into()).collect()),
        };
        let number = |is_met| {
            let number = Decimal::parse(&node.val).ok_or(BadFilter::NotANumber)?;
            Ok(Self::Number(is_met, number))
        };
        Ok(match node.cmp.as_str() {
            "ex" => Self::Exists,
            "nex" => Self::NotExists,
            "eq" => Self::Equals(value()),
            "neq" => Self::NotEquals(value()),
            "in" => Self::In(values()?),
            "nin" => Self::NotIn(values()?),
            "sw" => Self::StartsWith(value()),
            "ew" => Self::EndsWith(value()),
            "ct" => Self::Contains(value()),
            "lt" => number(Ordering::is_lt)?,
            "lte" => number(Ordering::is_le)?,
            "gt" => number(Ordering::is_gt)?,
            "gte" => number(Ordering::is_ge)?,
            _ => return Err(BadFilter::Unknown),
        })
    }

    fn matches(&self, tag: Option<&str>) -> bool {
        let Some(tag) = tag else {
            // What is not there equals nothing and is in no list; otherwise by invariant 2.
            return matches!(self, Self::NotExists | Self::NotEquals(_) | Self::NotIn(_));
        };
        match self {
            Self::Exists => true,
            Self::NotExists => false,
            Self::Equals(value) => tag == &**value,
            Self::NotEquals(value) => tag != &**value,
            Self::In(values) => values.contains(tag),
            Self::NotIn(values) => !values.contains(tag),
            Self::StartsWith(value) => tag.starts_with(&**value),
            Self::EndsWith(value) => tag.ends_with(&**value),
            Self::Contains(value) => tag.contains(&**value),
            Self::Number(is_met, number) => Decimal::parse(tag).is_some_and(|tag| is_met(tag.cmp(number))),
        }
    }
}

/// A decimal number as its digits, so that comparing is exact whatever their count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decimal {
    /// Never set for zero.
    is_negative: bool,
    /// Without zeros in front.
    whole: Box<str>,
    /// Without zeros behind.
    fraction: Box<str>,
}

impl Decimal {
    /// Reads `[+-]digits[.digits]`; one of the groups of digits may be missing.
    fn parse(text: &str) -> Option<Self> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() && fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self { is_negative: is_negative && !is_zero, whole: whole.into(), fraction: fraction.into() })
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let size = |number: &Self| number.whole.len();
        let magnitude = size(self)
            .cmp(&size(other))
            .then_with(|| self.whole.cmp(&other.whole))
            .then_with(|| self.fraction.cmp(&other.fraction));
        match (self.is_negative, other.is_negative) {
            (false, false) => magnitude,
            (true, true) => magnitude.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(cmp: &str, val: &str) -> FilterNode {
        FilterNode { key: "k".into(), cmp: cmp.into(), val: val.into(), ..FilterNode::default() }
    }

    fn list(cmp: &str, vals: &[&str]) -> FilterNode {
        FilterNode { vals: vals.iter().map(|v| (*v).to_owned()).collect(), ..leaf(cmp, "") }
    }

    fn combined(op: &str, nodes: Vec<FilterNode>) -> FilterNode {
        FilterNode { op: op.into(), nodes, ..FilterNode::default() }
    }

    #[test]
    fn each_comparison_means_what_it_is_called() {
        let cases = [
            (leaf("eq", "abc"), "abc", "abd", false),
            (leaf("neq", "abc"), "abd", "abc", true),
            (list("in", &["a", "b"]), "b", "c", false),
            (list("nin", &["a", "b"]), "c", "b", true),
            (leaf("sw", "ab"), "abc", "cab", false),
            (leaf("ew", "bc"), "abc", "bca", false),
            (leaf("ct", "b"), "abc", "ac", false),
            (leaf("lt", "10"), "9.99", "10", false),
            (leaf("lte", "10"), "10.0", "10.01", false),
            (leaf("gt", "-1"), "-0.5", "-1", false),
            (leaf("gte", "9007199254740993"), "9007199254740993", "9007199254740992", false),
            (leaf("gt", "5"), "6", "six", false),
        ];
        for (node, passing, failing, without) in cases {
            let filter = TagsFilter::new(&node).unwrap();
            let tags = |value: &str| BTreeMap::from([("k".to_owned(), value.to_owned())]);
            assert!(filter.matches(&tags(passing)), "{node:?} {passing}");
            assert!(!filter.matches(&tags(failing)), "{node:?} {failing}");
            assert_eq!(filter.matches(&BTreeMap::new()), without, "{node:?}");
        }
        let tags = BTreeMap::from([("k".to_owned(), String::new())]);
        for (cmp, expected) in [("ex", true), ("nex", false)] {
            let filter = TagsFilter::new(&leaf(cmp, "")).unwrap();
            assert_eq!(filter.matches(&tags), expected);
            assert_eq!(filter.matches(&BTreeMap::new()), !expected);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let named = leaf("eq", "x");
        for (node, expected) in [
            (FilterNode::default(), BadFilter::Incomplete),
            (leaf("like", "x"), BadFilter::Unknown),
            (leaf("", "x"), BadFilter::Unknown),
            (leaf("lt", "1e3"), BadFilter::NotANumber),
            (leaf("lt", "."), BadFilter::NotANumber),
            (list("in", &[]), BadFilter::Incomplete),
            (combined("and", vec![]), BadFilter::Incomplete),
            (combined("not", vec![named.clone(), named.clone()]), BadFilter::Incomplete),
            (combined("xor", vec![named.clone()]), BadFilter::Unknown),
            (combined("or", vec![named.clone(), leaf("?", "")]), BadFilter::Unknown),
            (combined("or", vec![named.clone(); MAX_NODES]), BadFilter::TooLarge),
            (list("in", &["x"; MAX_NODES]), BadFilter::TooLarge),
            ((0..MAX_DEPTH).fold(named.clone(), |node, _| combined("not", vec![node])), BadFilter::TooLarge),
        ] {
            assert_eq!(TagsFilter::new(&node).err(), Some(expected), "{node:?}");
        }
        assert!(TagsFilter::new(&combined("or", vec![named.clone(); MAX_NODES - 1])).is_ok());
        let deep = (1..MAX_DEPTH).fold(named, |node, _| combined("not", vec![node]));
        assert!(TagsFilter::new(&deep).is_ok());
    }
}
