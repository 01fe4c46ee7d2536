//! The sample file: every key with its default, and what it does.

use std::fmt::Write as _;

use super::namespaces::{option_entries, proxy_entries};
use super::reader::entries;
use super::schema::Entry;

const HEAD: &str = "\
# Settings of Bowline: every key, with its default as the value.
#
# Any of them may also be given as an environment variable, which wins over this file: `client.channel_limit` is
# BOWLINE_CLIENT_CHANNEL_LIMIT. JSON and YAML files hold the same keys. Durations have a unit: 500ms, 25s, 10m, 720h.
";

/// Renders a TOML file that sets every key to its default and says what it does.
#[must_use]
pub fn render_defaults() -> String {
    let mut sample = HEAD.to_owned();
    let entries = entries();
    // TOML puts the keys of a table before its subtables, whatever the order of declaration.
    keys_of("", &entries, &mut sample);
    for section in &entries {
        let Entry::Section { key: section, doc } = section else { continue };
        sample.push('\n');
        comment(&mut sample, doc);
        let _ = writeln!(sample, "[{section}]");
        keys_of(section, &entries, &mut sample);
    }
    proxy_sample(&mut sample);
    namespace_sample(&mut sample);
    sample
}

fn keys_of(section: &str, entries: &[Entry], sample: &mut String) {
    for entry in entries {
        let Entry::Key { key, doc, allowed, default, .. } = entry else { continue };
        let (before, name) = key.rsplit_once('.').unwrap_or(("", key));
        if before != section {
            continue;
        }
        sample.push('\n');
        comment(sample, doc);
        if !matches!(default.as_str(), "true" | "false") {
            comment(sample, &format!("Takes {allowed}."));
        }
        let _ = writeln!(sample, "{name} = {default}");
    }
}

/// Shows how an application is named, as a comment: the default is to ask none.
fn proxy_sample(sample: &mut String) {
    sample.push_str(
        "\n# An application that is asked. Remove `proxies = []` at the top when you add the first.\n\
         #\n# [[proxies]]\n# name = \"app\"\n# endpoint = \"http://127.0.0.1:3000/centrifugo\"\n",
    );
    for entry in proxy_entries() {
        if let Entry::Key { key, default, .. } = entry
            && key != "endpoint"
        {
            let _ = writeln!(sample, "# {key} = {default}");
        }
    }
}

/// Shows how a namespace looks, as a comment: the default is to have none.
fn namespace_sample(sample: &mut String) {
    sample.push_str(
        "\n# A namespace: options of the channels whose name begins with \"chat:\". It takes every key of\n\
         # [channel.without_namespace]. Remove `namespaces = []` above when you add the first.\n\
         #\n# [[channel.namespaces]]\n# name = \"chat\"\n",
    );
    for entry in option_entries("") {
        if let Entry::Key { key, default, .. } = entry {
            let _ = writeln!(sample, "# {key} = {default}");
        }
    }
}

fn comment(sample: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(sample, "# {line}");
    }
}
