//! `SECURITY.md`, the list of attacks that others met, and the tests that stand for them: neither names what the other does
//! not know. And what the build itself promises.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of all crates.
fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tests of every row, as file and function.
fn listed() -> BTreeSet<(String, String)> {
    let list = read(crates().join("bowline-server/tests/SECURITY.md"));
    let rows = list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| attack |"));
    let mut tests = BTreeSet::new();
    for row in rows {
        let [_, attack, _, named, _] = &row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("not three columns: {row}")
        };
        let named = named.split('`').skip(1).step_by(2).filter_map(|test| test.split_once("::"));
        let named: Vec<_> = named.map(|(file, name)| (file.to_owned(), name.to_owned())).collect();
        assert!(!named.is_empty(), "no test stands for it: {attack}");
        tests.extend(named);
    }
    tests
}

/// Whether the file has a test of this name: a function with an attribute, or one that proptest is given.
fn has_test(source: &str, name: &str) -> bool {
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.contains("test");
        } else if line.split_once("fn ").is_some_and(|(_, rest)| rest.starts_with(&format!("{name}("))) {
            return is_test;
        } else if !line.starts_with("//") {
            is_test = false;
        }
    }
    false
}

#[test]
fn every_test_in_the_list_exists() {
    let tests = listed();
    assert!(tests.len() > 70, "they were not read: {}", tests.len());
    for (file, name) in tests {
        assert!(has_test(&read(crates().join(&file)), &name), "there is no {file}::{name}");
    }
}

#[test]
fn every_test_of_the_attacks_is_in_the_list() {
    let listed = listed();
    for file in ["bowline-server/tests/server/security.rs", "bowline-server/src/session/tests/rights.rs"] {
        let source = read(crates().join(file));
        let names = source.split("async fn ").skip(1).filter_map(|rest| rest.split_once('('));
        let tests: Vec<_> = names.map(|(name, _)| name).filter(|name| has_test(&source, name)).collect();
        assert!(tests.len() > 5, "{file}: they were not found");
        for name in tests {
            assert!(listed.contains(&(file.to_owned(), name.to_owned())), "{file}::{name} has no row");
        }
    }
}

/// A profile or a lint that somebody changes for speed would take a promise along without a test noticing.
#[test]
fn a_panic_ends_one_connection_and_arithmetic_is_checked_in_what_is_shipped() {
    let workspace = read(crates().parent().unwrap().join("Cargo.toml"));
    let workspace: toml::Table = workspace.parse().unwrap();
    let release = &workspace["profile"]["release"];
    assert_eq!(release["panic"].as_str(), Some("unwind"), "a panic of one connection would end the process");
    assert_eq!(release["overflow-checks"].as_bool(), Some(true), "numbers from outside would wrap around");
    assert_eq!(workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
}
