//! The layers above the file: environment variables and flags, put into the tree the file gave.
//!
//! A variable is named after its key: `BOWLINE_CLIENT_CHANNEL_LIMIT` is `client.channel_limit`. Options of a
//! namespace follow its name: `BOWLINE_CHANNEL_NAMESPACES_CHAT_HISTORY_SIZE`, where the name is one that the file
//! or `BOWLINE_CHANNEL_NAMESPACES="chat news"` lists. Variables with the prefix `CENTRIFUGO_` are read first, so
//! that an existing deployment carries over and `BOWLINE_` wins.

use std::collections::HashMap;

use super::centrifugo::{self, Wish};
use super::error::Place;
use super::namespaces::{self, LISTS};
use super::reader::{Reader, entries, said};
use super::schema::Entry;
use super::suggest;
use super::tree::{Node, Raw};

const OURS: &str = "BOWLINE_";
const THEIRS: &str = "CENTRIFUGO_";

/// Variables that are not settings: those of the command line, and those that the toolkit reads in every process.
const NOT_SETTINGS: [&str; 7] = ["CONFIG", "DEV", "LOG", "DEADLOCKS", "DETECTOR", "TIME_POLLS", "WATCHDOG"];

/// Returns the part of a variable's name that stands for a key.
pub(super) fn variable(key: &str) -> String {
    key.replace(['.', '-'], "_").to_ascii_uppercase()
}

/// Puts the environment into the tree.
pub(super) fn environment(
    tree: &mut Node,
    variables: impl Iterator<Item = (String, String)>,
    reader: &mut Reader,
) {
    let keys: HashMap<String, String> = key_entries().map(|(key, _)| (variable(&key), key)).collect();
    let mut found: Vec<_> = variables
        .filter_map(|(name, value)| {
            let ours = name.starts_with(OURS);
            let rest = name.strip_prefix(OURS).or_else(|| name.strip_prefix(THEIRS))?.to_owned();
            Some((ours, rest, name, value))
        })
        .collect();
    // `false` first: theirs before ours. The names make the order of problems the same in every run.
    found.sort_unstable();

    let (known, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(_, rest, ..)| keys.contains_key(rest));
    for (_, rest, name, value) in known {
        let (key, place) = (&keys[&rest], Place::Env(name.into()));
        if value.contains(char::REPLACEMENT_CHARACTER) {
            reader.wrong(key, &place, "the value is not Unicode text".to_owned());
            continue;
        }
        put(tree, key, Node::text(value, place), reader);
    }
    // Only now: the variables above may name namespaces.
    for (ours, rest, name, value) in others {
        let node = Node::text(value, Place::Env(name.as_str().into()));
        let Err(node) = put_option(tree, &rest, node) else { continue };
        if ours && NOT_SETTINGS.contains(&rest.as_str()) || is_service_link(&rest) {
            continue;
        }
        match centrifugo::find_variable(&rest, &node) {
            Some(found) if found.wish == Wish::Missing => reader.wrong(&name, &node.place, said(found)),
            Some(found) => reader.notes.push(format!("{}: {}", node.place, said(found))),
            None if ours => {
                let hint = suggest::nearest_variable(&rest, keys.keys().map(String::as_str))
                    .map_or_else(String::new, |known| format!("; did you mean `{OURS}{known}`?"));
                reader.wrong(&name, &node.place, format!("unknown setting{hint}"));
            }
            // Theirs may belong to another program of the same name.
            None => reader.notes.push(format!("{}: ignored: unknown setting", node.place)),
        }
    }
}

/// Puts the flags into the tree.
pub(super) fn flags(tree: &mut Node, flags: Vec<(String, String)>, reader: &mut Reader) {
    let secrets: HashMap<String, bool> = key_entries().collect();
    for (key, value) in flags {
        let node = Node::text(value, Place::Flag);
        match secrets.get(&key) {
            Some(true) => reader.wrong(
                &key,
                &Place::Flag,
                format!(
                    "`{key}` must not stand on the command line, which every user of the machine can read: \
                     put it into the file or into {OURS}{}",
                    variable(&key)
                ),
            ),
            Some(false) => put(tree, &key, node, reader),
            None => {
                if let Err(node) = put_option_of_flag(tree, &key, node) {
                    let (section, name) = key.rsplit_once('.').unwrap_or(("", &key));
                    reader.unknown(section, name, &node);
                }
            }
        }
    }
}

/// Lists the keys that have a value, and whether it is a secret.
fn key_entries() -> impl Iterator<Item = (String, bool)> {
    entries().into_iter().filter_map(|entry| match entry {
        Entry::Key { key, secret, .. } => Some((key, secret)),
        Entry::Section { .. } => None,
    })
}

/// Sets a key to a text, which for a list of namespaces holds names or JSON.
fn put(tree: &mut Node, key: &str, node: Node, reader: &mut Reader) {
    let path: Vec<_> = key.split('.').collect();
    let text = match &node.raw {
        Raw::Text(text) if LISTS.contains(&key) => text.trim(),
        _ => return tree.set(&path, node),
    };
    if text.starts_with('[') {
        match serde_json::from_str::<Node>(text) {
            Ok(list) => tree.set(&path, list.placed(&node.place)),
            Err(error) => reader.wrong(key, &node.place, format!("`{key}` is not JSON: {error}")),
        }
        return;
    }
    for name in text.split(|c: char| c.is_whitespace() || c == ',').filter(|name| !name.is_empty()) {
        element(tree, key, name, &node.place);
    }
}

/// Returns the namespace `name` of a list, added if it is not there.
///
/// `None` if what stands there is not a list of tables; reading it will say so.
fn element<'t>(tree: &'t mut Node, list: &str, name: &str, place: &Place) -> Option<&'t mut Node> {
    let path: Vec<_> = list.split('.').collect();
    if tree.at_mut(&path).is_none_or(|node| node.raw == Raw::Null) {
        tree.set(&path, Node { raw: Raw::List(Vec::new()), place: place.clone() });
    }
    let Raw::List(items) = &mut tree.at_mut(&path)?.raw else { return None };
    let at = items.iter().position(|item| item.name() == Some(name)).unwrap_or_else(|| {
        let mut item = Node::empty_table(place.clone());
        item.set(&["name"], Node::text(name, place.clone()));
        items.push(item);
        items.len() - 1
    });
    items.get_mut(at)
}

/// Sets the option of a namespace that a variable names, or gives the value back.
fn put_option(tree: &mut Node, variable_rest: &str, node: Node) -> Result<(), Node> {
    let list = "channel.namespaces";
    let prefix = format!("{}_", variable(list));
    let Some(rest) = variable_rest.strip_prefix(&prefix) else { return Err(node) };
    let mut names = names(tree, list);
    // The longest first: with the namespaces `a` and `a_force_push`, `A_FORCE_PUSH_JOIN_LEAVE` could be an option of
    // either, and means the one that was named for it.
    names.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        let Some(option) =
            rest.strip_prefix(variable(&name).as_str()).and_then(|rest| rest.strip_prefix('_'))
        else {
            continue;
        };
        if let Some(option) = option_named(|key| variable(key) == option) {
            if let Some(item) = element(tree, list, &name, &node.place) {
                item.set(&[&option], node);
            }
            return Ok(());
        }
    }
    Err(node)
}

/// Sets the option of a namespace that a flag names as `channel.namespaces.NAME.option`, or gives the value back.
fn put_option_of_flag(tree: &mut Node, key: &str, node: Node) -> Result<(), Node> {
    let list = "channel.namespaces";
    let named = key
        .strip_prefix(list)
        .and_then(|rest| rest.strip_prefix('.'))
        // The name may hold dots, options do not.
        .and_then(|rest| rest.rsplit_once('.'));
    let Some((name, option)) = named else { return Err(node) };
    let Some(option) = option_named(|key| key == option) else { return Err(node) };
    if let Some(item) = element(tree, list, name, &node.place) {
        item.set(&[&option], node);
    }
    Ok(())
}

/// Returns the option of channels that fits.
fn option_named(fits: impl Fn(&str) -> bool) -> Option<String> {
    namespaces::option_entries("").into_iter().map(|entry| entry.key().to_owned()).find(|key| fits(key))
}

fn names(tree: &mut Node, list: &str) -> Vec<String> {
    let path: Vec<_> = list.split('.').collect();
    match tree.at_mut(&path).map(|node| &node.raw) {
        Some(Raw::List(items)) => items.iter().filter_map(|item| item.name().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// Tells whether the variable is one of those a Kubernetes service of our name puts into every container.
///
/// A service `bowline` makes `BOWLINE_SERVICE_HOST`, `BOWLINE_PORT_8000_TCP_ADDR` and the like; they are not
/// settings, and refusing to start because of them would be a riddle.
fn is_service_link(rest: &str) -> bool {
    let ends = |end: &str| rest == end || rest.strip_suffix(end).is_some_and(|before| before.ends_with('_'));
    let of_port = || {
        rest.strip_prefix("PORT_").or_else(|| rest.split_once("_PORT_").map(|(_, after)| after)).is_some_and(
            |after| {
                let mut parts = after.split('_');
                parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
                    && parts.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
                    && parts.next().is_none_or(|what| matches!(what, "PROTO" | "PORT" | "ADDR"))
                    && parts.next().is_none()
            },
        )
    };
    ends("SERVICE_HOST")
        || ends("SERVICE_PORT")
        || rest.starts_with("SERVICE_PORT_")
        || rest.contains("_SERVICE_PORT_")
        || ends("PORT")
        || of_port()
}
