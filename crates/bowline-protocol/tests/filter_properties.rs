//! A filter against the plainest evaluation of the same nodes.

use std::collections::BTreeMap;

use bowline_protocol::{FilterNode, filter::TagsFilter};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,3}", "-?[0-9]{1,3}", "-?[0-9]{0,2}\\.[0-9]{1,2}"]
}

fn node() -> impl Strategy<Value = FilterNode> {
    let comparison = prop::sample::select(vec![
        "eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "lt", "lte", "gt", "gte",
    ]);
    let leaf = ("[kl]", comparison, word(), vec(word(), 1..4)).prop_map(|(key, cmp, val, vals)| FilterNode {
        key,
        cmp: cmp.into(),
        val,
        vals,
        ..FilterNode::default()
    });
    leaf.prop_recursive(4, 24, 3, |inner| {
        (prop::sample::select(vec!["and", "or", "not"]), vec(inner, 1..4)).prop_map(|(op, mut nodes)| {
            if op == "not" {
                nodes.truncate(1);
            }
            FilterNode { op: op.into(), nodes, ..FilterNode::default() }
        })
    })
}

/// Hundredths, of which all numbers here are made.
fn hundredths(text: &str) -> Option<i64> {
    let number: f64 = text.parse().ok()?;
    Some((number * 100.0).round() as i64)
}

fn plainly(node: &FilterNode, tags: &BTreeMap<String, String>) -> bool {
    let tag = tags.get(&node.key);
    let compared = |is_met: fn(&i64, &i64) -> bool| {
        let numbers = tag.and_then(|tag| hundredths(tag)).zip(hundredths(&node.val));
        numbers.is_some_and(|(tag, val)| is_met(&tag, &val))
    };
    match (node.op.as_str(), node.cmp.as_str()) {
        ("and", _) => node.nodes.iter().all(|node| plainly(node, tags)),
        ("or", _) => node.nodes.iter().any(|node| plainly(node, tags)),
        ("not", _) => !plainly(&node.nodes[0], tags),
        (_, "eq") => tag == Some(&node.val),
        (_, "neq") => tag != Some(&node.val),
        (_, "in") => tag.is_some_and(|tag| node.vals.contains(tag)),
        (_, "nin") => !tag.is_some_and(|tag| node.vals.contains(tag)),
        (_, "ex") => tag.is_some(),
        (_, "nex") => tag.is_none(),
        (_, "sw") => tag.is_some_and(|tag| tag.starts_with(&node.val)),
        (_, "ew") => tag.is_some_and(|tag| tag.ends_with(&node.val)),
        (_, "ct") => tag.is_some_and(|tag| tag.contains(&node.val)),
        (_, "lt") => compared(i64::lt),
        (_, "lte") => compared(i64::le),
        (_, "gt") => compared(i64::gt),
        _ => compared(i64::ge),
    }
}

proptest! {
    #[test]
    fn a_filter_is_what_its_nodes_say(
        node in node(), tags in vec(btree_map("[kl]", word(), 0..3), 1..8)
    ) {
        if let Ok(filter) = TagsFilter::new(&node) {
            for tags in tags {
                prop_assert_eq!(filter.matches(&tags), plainly(&node, &tags), "{:?}", tags);
            }
        }
    }
}
