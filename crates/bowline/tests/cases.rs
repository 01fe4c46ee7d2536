//! `CASES.md`, the list of bugs that others shipped, and the tests that stand for them: neither names what the other does not know.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One row: its threads by name, and its tests by file and function.
#[derive(Debug)]
struct Row {
    threads: Vec<String>,
    tests: Vec<(String, String)>,
}

/// What stands between the two marks, again and again.
fn between(text: &str, open: char, close: char) -> impl Iterator<Item = &str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close).map(|(inside, _)| inside))
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn rows() -> Vec<Row> {
    let list = fs::read_to_string(crate_dir().join("tests/CASES.md")).unwrap();
    let mut rows = Vec::new();
    for line in list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| thread |")) {
        let [_, threads, _, tests, _] = &line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("not three columns: {line}")
        };
        let mut names: Vec<_> = between(threads, '[', ']').map(str::to_owned).collect();
        if names.is_empty() {
            names.extend(quoted(threads).next().map(str::to_owned)); // a type, not a thread
        }
        assert!(!names.is_empty(), "who is it about? {line}");
        for (name, link) in names.iter().zip(between(threads, '(', ')')) {
            let number = name.rsplit('#').next().unwrap();
            assert!(link.starts_with("https://"), "{link}");
            assert!(
                !name.contains('#') || link.ends_with(&format!("/issues/{number}")),
                "{name} goes to {link}"
            );
        }
        let tests = quoted(tests).filter_map(|test| test.split_once("::"));
        rows.push(Row {
            threads: names,
            tests: tests.map(|(file, name)| (file.to_owned(), name.to_owned())).collect(),
        });
    }
    rows
}

/// Returns the doc comment of the function `name` in the file, if both exist.
fn doc_of(file: &str, name: &str) -> Option<String> {
    let source = fs::read_to_string(crate_dir().join("tests").join(file)).ok()?;
    let mut doc = String::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc += text;
        } else if line.split_once("fn ").is_some_and(|(_, rest)| rest.starts_with(&format!("{name}("))) {
            return Some(doc);
        } else if !line.starts_with("#[") {
            doc.clear();
        }
    }
    None
}

#[test]
fn every_test_in_the_list_exists_and_names_its_case() {
    let rows = rows();
    let tests: usize = rows.iter().map(|row| row.tests.len()).sum();
    assert!(rows.len() > 90 && tests > 100, "they were not read: {} rows, {tests} tests", rows.len());
    for Row { threads, tests } in &rows {
        for (file, name) in tests {
            let Some(doc) = doc_of(file, name) else { panic!("{threads:?}: there is no {file}::{name}") };
            assert!(
                threads.iter().any(|thread| doc.contains(thread)),
                "{file}::{name} names none of {threads:?}"
            );
        }
    }
}

#[test]
fn every_case_that_a_test_names_is_in_the_list() {
    fn sources(dir: PathBuf, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let listed: BTreeSet<_> = rows().into_iter().flat_map(|row| row.threads).collect();
    let mut files = Vec::new();
    sources(crate_dir().join("src"), &mut files);
    sources(crate_dir().join("tests"), &mut files);
    let mut named = 0;
    for file in files {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let Some(doc) = line.trim().strip_prefix("///") else { continue };
            for word in doc.split(|c: char| !(c.is_ascii_alphanumeric() || "#/._-".contains(c))) {
                let Some((thread, number)) = word.split_once('#') else { continue };
                let number = number.trim_end_matches('.');
                if thread.is_empty() || number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                    continue;
                }
                named += 1;
                assert!(
                    listed.contains(&format!("{thread}#{number}")),
                    "{}: {word} has no row",
                    file.display()
                );
            }
        }
    }
    assert!(named > 100, "they were not found: {named}");
}
