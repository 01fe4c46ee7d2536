//! A page of HTML with everything in it: it is read from a file, without a network, on a phone, in the dark.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::words::{escaped, limit, maybe};
use super::{Record, RowRecord, State, VerdictRecord, chapter, chart};

/// Writes `index.html`, and the pictures of each row as `<id>.svg`, into `directory`, which is made if it is not there.
///
/// # Errors
///
/// What the system says about writing.
pub fn write(record: &Record, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for row in &record.rows {
        if let Some(svg) = chart::file(row) {
            fs::write(directory.join(format!("{}.svg", row.id.to_lowercase())), svg)?;
        }
    }
    fs::write(directory.join("index.html"), html(record))
}

/// The page.
#[must_use]
pub fn html(record: &Record) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>The incident gallery</title><style>{}{}</style></head><body>\n",
        include_str!("page.css"),
        chart::STYLE
    );
    let _ = write!(
        page,
        "<header><h1>The incident gallery</h1>\
         <p>Each row is a failure in production that somebody has written up. It ran twice, a moment ago, on the same machine and \
         under the same load: the <span class=\"leaky\">leaky</span> form as it was written, on bare tokio, and the \
         <span class=\"tied\">tied</span> form, the same program on Bowline. The leaky one has to fail as it did then, and the \
         tied one has to hold. What does not is said here as well.</p><div class=\"tiles\">"
    );
    let tiles = [
        (State::AsPromised, "as promised"),
        (State::Missed, "missed"),
        (State::LeakyHolds, "no longer failing"),
        (State::Skipped, "skipped"),
    ];
    for (state, words) in tiles {
        let count = record.count(state);
        if count > 0 || state == State::AsPromised {
            let _ = write!(page, "<div class=\"tile\"><b>{count}</b>{words}</div>");
        }
    }
    let _ = writeln!(
        page,
        "</div><p class=\"soft\">{}, commit {}, {} sizes<br>{}</p></header><nav>",
        record.date,
        escaped(&record.commit),
        record.scale.word(),
        escaped(&record.machine)
    );
    for row in &record.rows {
        let _ = write!(
            page,
            "<a class=\"{}\" href=\"#{id}\" title=\"{}\">{id}</a>",
            class(row.state),
            escaped(row.title),
            id = row.id
        );
    }
    page.push_str("</nav>\n");
    for row in &record.rows {
        article(&mut page, row);
    }
    page.push_str(
        "<footer>Written by <code>bowline incidents --report</code>. Run <code>bowline incidents</code> to see it happen \
         on your machine.</footer></body></html>\n",
    );
    page
}

fn class(state: State) -> &'static str {
    match state {
        State::AsPromised => "as_promised",
        State::Missed => "missed",
        State::LeakyHolds => "leaky_holds",
        State::Skipped => "skipped",
    }
}

fn article(page: &mut String, record: &RowRecord) {
    let row = record.row;
    let badge = match record.state {
        State::AsPromised => "as promised",
        State::Missed => "missed",
        State::LeakyHolds => "the leaky form no longer fails",
        State::Skipped => "skipped",
    };
    let _ = write!(
        page,
        "<article id=\"{id}\"><h2>{id} {}<span class=\"badge {}\">{badge}</span></h2>\
         <p><b>What broke.</b> {}</p><p><b>What must be true.</b> {}</p>",
        escaped(record.title),
        class(record.state),
        marked(row.broke),
        marked(row.must),
        id = record.id
    );
    if let Some(why) = &record.why {
        let _ = write!(page, "<p class=\"leaky\">{}</p>", escaped(why));
    }
    let panels = chart::panels(record);
    if !panels.is_empty() {
        let _ = write!(page, "<div class=\"panels\">{}</div>", panels.concat());
    }
    if !record.verdicts.is_empty() {
        page.push_str(
            "<div class=\"scroll\"><table><thead><tr><th>measured</th><th class=\"n\">tied</th><th class=\"n\">leaky</th>\
             <th class=\"n\">has to be</th><th></th></tr></thead><tbody>",
        );
        for verdict in &record.verdicts {
            let _ = write!(
                page,
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
                escaped(verdict.figure),
                maybe(verdict.tied, verdict.unit),
                maybe(verdict.leaky, verdict.unit),
                limit(verdict.limit(), verdict.unit),
                said(verdict)
            );
        }
        page.push_str("</tbody></table></div>");
    }
    let _ = write!(
        page,
        "<p><b>What makes the difference.</b> {}</p><p class=\"soft\"><b>The load.</b> {}. <b>Their figures.</b> {}.</p>",
        marked(row.remedy),
        marked(row.load.trim_end_matches('.')),
        marked(row.theirs.trim_end_matches('.'))
    );
    let (leaky, tied) = (chapter::region(row.source, "leaky"), chapter::region(row.source, "tied"));
    if let (Some(leaky), Some(tied)) = (leaky, tied) {
        let _ = write!(
            page,
            "<details><summary>Both programs</summary><div class=\"codes\"><div><h3 class=\"leaky\">leaky, on bare tokio</h3>\
             <pre>{}</pre></div><div><h3 class=\"tied\">tied, on Bowline</h3><pre>{}</pre></div></div></details>",
            escaped(&leaky),
            escaped(&tied)
        );
    }
    page.push_str("</article>\n");
}

fn said(verdict: &VerdictRecord) -> &'static str {
    match (verdict.kept, verdict.leaky_has_to_break, verdict.leaky_breaks) {
        (false, ..) => "<span class=\"mark leaky\">✗ missed</span>",
        (true, true, false) => "<span class=\"mark\">✓ kept, but the leaky form no longer breaks it</span>",
        (true, true, true) => "<span class=\"mark tied\">✓ kept</span>, the leaky form breaks it",
        (true, false, _) => "<span class=\"mark tied\">✓ kept</span>",
    }
}

/// Text of a row, in which code stands between backticks.
fn marked(text: &str) -> String {
    let mut html = String::new();
    for (at, part) in escaped(text).split('`').enumerate() {
        let is_code = at % 2 == 1;
        let _ = if is_code { write!(html, "<code>{part}</code>") } else { write!(html, "{part}") };
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;
    use crate::report::tests::{ROW, record};

    fn run() -> Record {
        let rows = vec![
            record(101.0, 20_003.0),
            record(161.0, 161.5),
            RowRecord::skipped(&ROW, "no NATS".to_owned()),
        ];
        Record::new(rows, Scale::Usual, false)
    }

    #[test]
    fn the_page_needs_nothing_else_and_says_what_was_missed_and_skipped() {
        let html = html(&run());
        for mark in ["http://", "https://", "<script", "<link", "url("] {
            assert!(!html.contains(mark), "{mark} in the page");
        }
        assert!(html.contains("✗ missed") && html.contains("no NATS"));
        assert!(html.contains("a &lt;row&gt; of tests") && html.contains("async fn leaky() { a &lt; b }"));
    }

    #[test]
    fn the_report_is_the_page_and_a_picture_for_each_row_that_ran() {
        let scratch = crate::kit::Scratch::new().unwrap();
        let directory = scratch.path().join("new/report");
        write(&run(), &directory).unwrap();
        assert!(directory.join("index.html").is_file());
        assert!(fs::read_to_string(directory.join("t1.svg")).unwrap().starts_with("<svg xmlns"));
    }
}
