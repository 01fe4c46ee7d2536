//! The chapters of the book are what the rows say: `BOWLINE_BLESS=1 cargo test -p bowline-incidents --test book` writes them.

use std::fs;
use std::path::{Path, PathBuf};

use bowline_incidents::report::{chapter, table};
use bowline_incidents::rows;

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/book/src")
}

/// Writes what is expected if it is to be blessed, and complains about any difference otherwise.
fn held(file: &Path, expected: &str, stale: &mut Vec<PathBuf>) {
    if fs::read_to_string(file).is_ok_and(|present| present == expected) {
        return;
    }
    if std::env::var_os("BOWLINE_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, expected).unwrap();
    } else {
        stale.push(file.to_owned());
    }
}

#[test]
fn every_row_has_its_chapter_and_its_line_in_the_contents() {
    let mut stale = Vec::new();
    let chapters = book().join("incidents");
    for row in rows::ALL {
        let id = row.id.to_lowercase();
        let has_picture = chapters.join(format!("{id}.svg")).is_file();
        held(&chapters.join(format!("{id}.md")), &chapter::markdown(row, has_picture), &mut stale);
    }
    let contents: Vec<String> = rows::ALL.iter().map(|row| format!("  - {}", chapter::link(row))).collect();
    let introduction = rows::ALL
        .iter()
        .map(|row| format!("- {}: {}", chapter::link(row), chapter::first_sentence(row.broke)));
    let lists =
        [("SUMMARY.md", contents.join("\n")), ("incidents.md", introduction.collect::<Vec<_>>().join("\n"))];
    for (name, list) in lists {
        let file = book().join(name);
        let present = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let expected = table::between(&present, &list)
            .unwrap_or_else(|| panic!("{} has no markers of the incidents", file.display()));
        held(&file, &expected, &mut stale);
    }
    assert!(
        stale.is_empty(),
        "{stale:?} differ from the rows: run BOWLINE_BLESS=1 cargo test -p bowline-incidents --test book"
    );
}

#[test]
fn no_chapter_is_left_of_a_row_that_is_gone() {
    for entry in fs::read_dir(book().join("incidents")).unwrap() {
        let path = entry.unwrap().path();
        let id = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(rows::find(&id).is_some(), "{} belongs to no row", path.display());
    }
}
