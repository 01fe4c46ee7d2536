//! The sample file: every key with its default, and what it does.

use std::fmt::Write as _;

use super::namespaces::option_entries;
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
    for section in &entries {
        let Entry::Section { key: section, doc } = section else { continue };
        sample.push('\n');
        comment(&mut sample, doc);
        let _ = writeln!(sample, "[{section}]");
        for entry in &entries {
            let Entry::Key { key, doc, allowed, default, .. } = entry else { continue };
            let Some((_, name)) = key.rsplit_once('.').filter(|(before, _)| before == section) else {
                continue;
            };
            sample.push('\n');
            comment(&mut sample, doc);
            if !matches!(default.as_str(), "true" | "false") {
                comment(&mut sample, &format!("Takes {allowed}."));
            }
            let _ = writeln!(sample, "{name} = {default}");
        }
    }
    namespace_sample(&mut sample);
    sample
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
