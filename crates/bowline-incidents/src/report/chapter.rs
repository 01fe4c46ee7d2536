//! The chapters of the book, made of the rows alone: no figures of a run, so that they change only with the row.

use std::fmt::Write as _;

use super::need;
use super::words::limit;
use crate::row::Row;

/// The chapter of a row as markdown; with a picture beside it, `<id>.svg`, if it `has_picture`.
#[must_use]
pub fn markdown(row: &Row, has_picture: bool) -> String {
    let mut text = format!("# {} {}\n\n{}\n", row.id, row.title, story(row.source));
    let _ = write!(text, "\n**The load:** {}.", row.load.trim_end_matches('.'));
    if !row.needs.is_empty() {
        let needs: Vec<&str> = row.needs.iter().map(|one| need(*one)).collect();
        let _ = write!(text, " Needs {}.", needs.join(" and "));
    }
    text.push('\n');
    let _ = writeln!(text, "\n```console\n$ bowline incidents {}\n```", row.id);
    if has_picture {
        let _ = writeln!(text, "\n![both forms over time]({}.svg)", row.id.to_lowercase());
    }
    for (form, title) in [("leaky", "As it broke"), ("tied", "On Bowline")] {
        if let Some(code) = region(row.source, form) {
            let _ = write!(text, "\n## {title}\n\n```rust,ignore\n{code}```\n");
        }
    }
    let _ = write!(text, "\n## What makes the difference\n\n{}\n", row.remedy);
    let _ = write!(text, "\n**What must be true:** {}\n", row.must);
    text.push_str("\n| measured | has to be | the leaky form |\n|---|---|---|\n");
    for bound in row.bounds {
        let leaky = if bound.leaky_breaks { "breaks it, in the same run" } else { "" };
        let _ = writeln!(text, "| {} | {} | {leaky} |", bound.figure, limit(bound.limit, bound.unit));
    }
    let _ = write!(text, "\nWhoever wrote it up reports: {}.\n", row.theirs.trim_end_matches('.'));
    text
}

/// A line of the book's table of contents.
#[must_use]
pub fn link(row: &Row) -> String {
    format!("[{} {}](incidents/{}.md)", row.id, row.title, row.id.to_lowercase())
}

/// The first sentence of a text.
#[must_use]
pub fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..=end])
}

/// What a row's file says at its head, without the comment marks and the title that the chapter has already.
fn story(source: &str) -> String {
    let lines = source.lines().skip_while(|line| !line.starts_with("//!"));
    let lines = lines.map_while(|line| line.strip_prefix("//!"));
    let text: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    text.join("\n").trim().to_owned()
}

/// What stands between `// ANCHOR: name` and `// ANCHOR_END: name`, moved to the margin; `None` if there is no such region.
#[must_use]
pub fn region(source: &str, name: &str) -> Option<String> {
    let (begin, end) = (format!("// ANCHOR: {name}"), format!("// ANCHOR_END: {name}"));
    let lines: Vec<&str> = source
        .lines()
        .skip_while(|line| line.trim() != begin)
        .skip(1)
        .take_while(|line| line.trim() != end)
        .collect();
    let is_there =
        source.lines().any(|line| line.trim() == begin) && source.lines().any(|line| line.trim() == end);
    if !is_there {
        return None;
    }
    let margin = lines.iter().filter(|line| !line.trim().is_empty());
    let margin = margin.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let moved = lines.iter().map(|line| line.get(margin..).unwrap_or(""));
    Some(moved.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::ROW;

    #[test]
    fn a_chapter_tells_the_story_and_shows_both_programs() {
        let text = markdown(&ROW, false);
        assert!(
            text.starts_with("# T1 a <row> of tests\n\nA row & its story.\n\nIn <two> parts.\n"),
            "{text}"
        );
        assert!(text.contains("```rust,ignore\nasync fn leaky() { a < b }\n```"), "{text}");
        assert!(text.contains("| tasks peak | ≤ 160 | breaks it, in the same run |"), "{text}");
        assert!(!text.contains("t1.svg"));
        assert!(markdown(&ROW, true).contains("(t1.svg)"));
    }

    #[test]
    fn a_region_is_moved_to_the_margin_and_a_missing_one_is_none() {
        let source = "x\n    // ANCHOR: a\n    fn a() {\n\n        b\n    }\n    // ANCHOR_END: a\n";
        assert_eq!(region(source, "a").unwrap(), "fn a() {\n\n    b\n}\n");
        assert_eq!(region(source, "b"), None);
        assert_eq!(region("// ANCHOR: a\n", "a"), None);
    }
}
