//! Lists of namespaces: tables that each have a `name`.

use std::collections::HashSet;

use super::reader::Reader;
use super::schema::{Entry, Section as _, Setting, join};
use super::settings::{ChannelOptions, Namespace, Proxy, ProxyOptions, RpcNamespace, RpcOptions};
use super::tree::{Node, Raw};
use super::types::NamespaceName;
use super::value::Value as _;

/// The keys whose value is a list of namespaces.
pub(super) const LISTS: [&str; 3] = ["channel.namespaces", "proxies", "rpc.namespaces"];

impl Setting for Vec<Namespace> {
    fn read(&mut self, key: &str, node: Node, reader: &mut Reader) {
        let namespaces = named(key, node, reader, |name, key, rest, reader| {
            let mut options = reader.channel_defaults.clone();
            reader.section(&mut options, key, rest);
            Namespace { name, options }
        });
        if let Some(namespaces) = namespaces {
            *self = namespaces;
        }
    }

    fn describe(&self, key: &str, doc: &str, entries: &mut Vec<Entry>) {
        entries.push(list_entry(key, doc));
    }
}

impl Setting for Vec<RpcNamespace> {
    fn read(&mut self, key: &str, node: Node, reader: &mut Reader) {
        let namespaces = named(key, node, reader, |name, key, rest, reader| {
            let mut options = RpcOptions::default();
            reader.section(&mut options, key, rest);
            RpcNamespace { name, options }
        });
        if let Some(namespaces) = namespaces {
            *self = namespaces;
        }
    }

    fn describe(&self, key: &str, doc: &str, entries: &mut Vec<Entry>) {
        entries.push(list_entry(key, doc));
    }
}

impl Setting for Vec<Proxy> {
    fn read(&mut self, key: &str, node: Node, reader: &mut Reader) {
        let proxies = named(key, node, reader, |name, key, rest, reader| {
            let mut options = ProxyOptions::default();
            reader.section(&mut options, key, rest);
            Proxy { name, options }
        });
        if let Some(proxies) = proxies {
            *self = proxies;
        }
    }

    fn describe(&self, key: &str, doc: &str, entries: &mut Vec<Entry>) {
        entries.push(list_entry(key, doc));
    }
}

/// Lists the keys of one namespace.
pub(super) fn option_entries(section: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    ChannelOptions::default().describe_keys(section, &mut entries);
    entries
}

/// Lists the keys of one application.
pub(super) fn proxy_entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    ProxyOptions::default().describe_keys("", &mut entries);
    entries
}

fn list_entry(key: &str, doc: &str) -> Entry {
    Entry::Key {
        key: key.to_owned(),
        doc: doc.to_owned(),
        allowed: "a list of sections, each with a `name`".to_owned(),
        default: "[]".to_owned(),
        secret: false,
    }
}

/// Reads the elements of a list; `read` gets the name, the key and the remaining table of each.
fn named<T>(
    key: &str,
    node: Node,
    reader: &mut Reader,
    mut read: impl FnMut(NamespaceName, &str, Node, &mut Reader) -> T,
) -> Option<Vec<T>> {
    let items = match node.raw {
        Raw::Null => return None,
        Raw::List(items) => items,
        other => {
            let what = format!("`{key}` cannot be {other}: expected a list of sections, each with a `name`");
            reader.wrong(key, &node.place, what);
            return None;
        }
    };
    let mut seen = HashSet::new();
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let item_key = format!("{key}[{index}]");
        let place = item.place;
        let Raw::Table(mut table) = item.raw else {
            let what = format!("`{item_key}` cannot be {}: expected a section with a `name`", item.raw);
            reader.wrong(&item_key, &place, what);
            continue;
        };
        let Some(name) = table.remove("name") else {
            reader.wrong(&item_key, &place, format!("`{item_key}` has no `name`"));
            continue;
        };
        let Some(valid) = NamespaceName::parse(&name.raw) else {
            let what = format!(
                "`{}` cannot be {}: expected {}",
                join(&item_key, "name"),
                name.raw,
                NamespaceName::allowed()
            );
            reader.wrong(&item_key, &name.place, what);
            continue;
        };
        let named_key = join(key, &valid);
        if !seen.insert(valid.clone()) {
            reader.wrong(&named_key, &name.place, format!("`{key}` holds the name `{valid}` twice"));
            continue;
        }
        list.push(read(valid, &named_key, Node { raw: Raw::Table(table), place }, reader));
    }
    Some(list)
}
