//! The documentation is true: its code is that which is compiled and run, its links lead somewhere, and its Go code passes `go vet` and `go test`.
//!
//! Before a block of code of the book stands `<!-- code: FILE#REGION -->`, which no reader sees. The block holds what lies in that
//! file between `// ANCHOR: REGION` and `// ANCHOR_END: REGION`. After changing one of them,
//! `BOWLINE_BLESS=1 cargo test -p bowline-examples --test book` writes the pages anew.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The files whose regions are for the book.
const CODE: [&str; 2] = ["examples", "docs/book/go"];

/// Pages outside of `docs` whose links are looked at as well.
const PAGES: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "DESIGN.md",
    "SECURITY.md",
    "examples/README.md",
    "bench/README.md",
    "conformance/README.md",
    "crates/bowline/tests/CASES.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below `directory` with this extension.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What lies between the marks of `region`, without the marks of others, and without the indentation that all lines share.
fn region(source: &str, region: &str) -> Option<String> {
    let (begin, end) = (format!("// ANCHOR: {region}"), format!("// ANCHOR_END: {region}"));
    let mut lines = source.lines();
    lines.find(|line| line.trim() == begin)?;
    let inside: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != end).collect();
    let inside: Vec<&str> = inside.into_iter().filter(|line| !line.trim().starts_with("// ANCHOR")).collect();
    let filled = inside.iter().filter(|line| !line.trim().is_empty());
    let indent = filled.map(|line| line.len() - line.trim_start().len()).min()?;
    let dedented: Vec<&str> = inside.iter().map(|line| line.get(indent..).unwrap_or_default()).collect();
    Some(dedented.join("\n").trim_matches('\n').to_owned() + "\n")
}

/// The page with its blocks of code as they are in their sources.
fn printed(page: &Path) -> String {
    let text = read(page);
    let mut lines = text.lines();
    let mut printed = String::new();
    while let Some(line) = lines.next() {
        printed += line;
        printed.push('\n');
        let Some(wanted) = line.trim().strip_prefix("<!-- code: ").and_then(|line| line.strip_suffix(" -->"))
        else {
            continue;
        };
        let (file, name) =
            wanted.split_once('#').unwrap_or_else(|| panic!("{wanted}: FILE#REGION is expected"));
        let code = region(&read(&root().join(file)), name)
            .unwrap_or_else(|| panic!("{}: no region `{name}` in {file}", page.display()));
        let language = if file.ends_with(".go") { "go" } else { "rust" };
        printed += &format!("```{language}\n{code}```\n");
        let mut fences = 0;
        while fences < 2 {
            let line = lines.next().unwrap_or_else(|| panic!("{}: {wanted} has no block", page.display()));
            assert!(
                fences > 0 || line.starts_with("```"),
                "{}: a block is expected after {wanted}",
                page.display()
            );
            fences += usize::from(line.starts_with("```"));
        }
    }
    printed
}

#[test]
fn the_book_prints_what_is_compiled() {
    let bless = std::env::var_os("BOWLINE_BLESS").is_some();
    for page in files(&root().join("docs/book/src"), "md") {
        let printed = printed(&page);
        if printed == read(&page) {
            continue;
        }
        assert!(
            bless,
            "{} prints other code than is compiled: BOWLINE_BLESS=1 writes it anew",
            page.display()
        );
        fs::write(&page, printed).unwrap();
    }
}

#[test]
fn every_region_is_printed_somewhere() {
    let pages: String = files(&root().join("docs/book/src"), "md").iter().map(|page| read(page)).collect();
    for directory in CODE {
        for extension in ["rs", "go"] {
            for file in files(&root().join(directory), extension) {
                let source = read(&file);
                let file = file.strip_prefix(root()).unwrap().display();
                for line in source.lines() {
                    let Some(region) = line.trim().strip_prefix("// ANCHOR: ") else { continue };
                    let wanted = format!("<!-- code: {file}#{region} -->");
                    assert!(pages.contains(&wanted), "nobody prints it: {wanted}");
                }
            }
        }
    }
}

/// The text without blocks of code and without `code`.
fn prose(page: &str) -> String {
    let mut prose = String::new();
    let mut in_block = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            let words = line.split('`').enumerate().map(|(n, words)| if n % 2 == 0 { words } else { "code" });
            words.for_each(|words| prose += words);
        }
        prose.push('\n');
    }
    prose
}

/// The targets of all links of a page.
fn links(prose: &str) -> Vec<&str> {
    let ends = prose.match_indices("](").map(|(at, _)| at + 2);
    ends.filter_map(|from| prose[from..].split_once(')').map(|(target, _)| target)).collect()
}

/// The fragments by which a page's headings are reached, on a forge as in the book.
fn fragments(page: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let headings = page.lines().filter(|line| {
        in_block ^= line.trim_start().starts_with("```");
        !in_block && line.starts_with('#')
    });
    let slug = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings.map(slug).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = files(&root().join("docs"), "md");
    pages.extend(PAGES.map(|page| root().join(page)));
    let mut dead = Vec::new();
    let mut followed = 0;
    for page in pages {
        let text = read(&page);
        let prose = prose(&text);
        for link in links(&prose) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_page = target.extension().is_some_and(|extension| extension == "md");
            let is_there = target.exists()
                && (fragment.is_empty() || !is_page || fragments(&read(&target)).contains(fragment));
            if !is_there {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
    assert!(followed > 50, "only {followed} links were found: are they still looked for?");
}

#[test]
fn every_page_is_in_the_summary() {
    let book = root().join("docs/book/src");
    let summary = read(&book.join("SUMMARY.md"));
    for page in files(&book, "md") {
        let page = page.strip_prefix(&book).unwrap().display().to_string();
        assert!(page == "SUMMARY.md" || summary.contains(&format!("({page})")), "not in SUMMARY.md: {page}");
    }
}

/// Runs `go` on the code of the book.
fn go(go: &str, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(go).args(arguments).current_dir(root().join("docs/book/go")).output()
}

#[test]
fn the_go_code_passes_vet_and_test() {
    let program = std::env::var("GO").unwrap_or_else(|_| "go".into());
    // Said on the terminal also when the test passes: the test's own standard error would be kept back.
    let skip = |why: &str| {
        let _ = writeln!(std::io::stderr(), "SKIPPED: the Go code of the book was not compiled: {why}");
    };
    match go(&program, &["version"]) {
        Ok(version) if version.status.success() => {}
        _ => return skip("there is no `go` (the environment variable GO may name one)"),
    }
    match go(&program, &["mod", "download"]) {
        Ok(download) if download.status.success() => {}
        _ => return skip("its modules cannot be had here"),
    }
    for command in ["vet", "test"] {
        let ran = go(&program, &[command, "./..."]).unwrap();
        assert!(
            ran.status.success(),
            "go {command}:\n{}{}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
    }
}

#[test]
fn a_region_is_found_without_its_indentation() {
    let source = "mod x {\n    // ANCHOR: a\n    fn f() {\n        g();\n    }\n    // ANCHOR_END: a\n}\n";
    assert_eq!(region(source, "a").as_deref(), Some("fn f() {\n    g();\n}\n"));
    assert_eq!(region(source, "b"), None);
}
