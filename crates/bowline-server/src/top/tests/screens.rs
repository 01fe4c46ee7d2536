//! Screens as they are, in files beside this one. `BOWLINE_BLESS=1` writes them anew; then look at them.

use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use tokio::time::Instant;

use super::super::model::{Input, Model};
use super::super::view::{self, Palette};
use super::{answer, lose, picture, press, shop, shop_after, text};

/// The screen must be the one in the file.
fn is_screen(name: &str, model: &Model, now: Instant) {
    let (columns, lines) = model.size;
    let file = format!("{name}-{columns}x{lines}.txt");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/tests/screens").join(&file);
    let shown = text(model, now);
    for line in shown.lines() {
        assert!(super::super::words::width(line) <= usize::from(columns), "{file}: too wide: {line}");
    }
    assert_eq!(shown.lines().count(), usize::from(lines));
    if std::env::var_os("BOWLINE_BLESS").is_some() {
        std::fs::write(&path, &shown).expect("the screens can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, expected, "{file}: if this is what it should be now, say BOWLINE_BLESS=1\n{shown}");
}

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 60)];

#[tokio::test(start_paused = true)]
async fn every_page_is_readable_on_small_and_large_screens() {
    for (columns, lines) in SIZES {
        for (name, keys) in [
            ("tasks", ""),
            ("list", "t"),
            ("filtered", "/conn op:recv wait:5s<enter>"),
            ("typing", "/pack"),
            ("queues", "2"),
            ("waits", "3"),
            ("alerts", "4"),
            ("deadlocks", "5"),
            ("help", "?"),
            ("task", "/packer<enter><end><enter>"),
            ("queue", "2<enter>"),
            ("lock", "3<enter>"),
            ("alert", "4<enter>"),
            ("deadlock", "5<enter>"),
        ] {
            let (mut model, now) = shop(columns, lines);
            press(&mut model, keys);
            answer(&mut model, now);
            is_screen(name, &model, now);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_keeps_the_picture_and_says_how_old_it_is() {
    let (mut model, now) = shop(80, 24);
    lose(&mut model, now);
    lose(&mut model, now + Duration::from_secs(9));
    is_screen("lost", &model, now + Duration::from_secs(12));
    model.take(Input::Answer(Box::new(Ok(picture(&super::pages(60))))), now + Duration::from_secs(13));
    let again = text(&model, now + Duration::from_secs(13));
    assert!(!again.contains("no connection") && again.contains("every 1.0 s"), "{again}");
}

#[tokio::test(start_paused = true)]
async fn the_smallest_screens_do_no_harm() {
    for columns in [1, 2, 7, 20, 33, 79] {
        for lines in [1, 2, 3, 5, 8] {
            for keys in ["", "2", "3", "4", "5", "?", "/x", "<enter>", "t", "3<enter>"] {
                let (mut model, now) = shop_after(2, columns, lines);
                press(&mut model, keys);
                press(&mut model, "<page down><down><end><home>");
                let shown = text(&model, now);
                assert_eq!(shown.lines().count(), usize::from(lines));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_cursor_and_what_is_wrong_are_seen_without_colours_too() {
    let (mut model, now) = shop(80, 24);
    press(&mut model, "<down><down>");
    let drawn = |palette: Palette| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("it has no terminal");
        let drawn = terminal.draw(|frame| view::draw(&model, palette, now, frame.buffer_mut()));
        drawn.expect("it has no terminal").buffer.clone()
    };
    let (coloured, plain) = (drawn(Palette::Colours), drawn(Palette::Plain));
    assert!(plain.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(coloured.content().iter().any(|cell| cell.bg == Color::Red), "the banner");
    let symbols = |buffer: &ratatui::buffer::Buffer| {
        buffer.content().iter().map(|cell| cell.symbol().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(symbols(&coloured), symbols(&plain));
    let reversed = |line: u16| plain[(40, line)].modifier.contains(ratatui::style::Modifier::REVERSED);
    let lines: Vec<u16> = (0..24).filter(|line| reversed(*line)).collect();
    assert_eq!(lines, [2, 6], "the banner, and the third row below the titles");
}

#[tokio::test(start_paused = true)]
async fn a_process_with_a_hundred_thousand_tasks_is_shown_in_no_time() {
    use serde_json::json;
    // As an older process may send them, without regard to the limit.
    let tasks: Vec<_> =
        (0..100_000).map(|id| super::task(id, "connection", super::is("parked"), id, id)).collect();
    let page = json!({"tasks": {"tasks": 100_000, "roots": [{"id": 1, "name": "big", "kind": "root", "tasks": tasks}]}});
    let (mut model, now) = shop(80, 24);
    model.take(Input::Answer(Box::new(Ok(picture(&page)))), now);
    press(&mut model, "t<end><page down><home><down>");
    let shown = text(&model, now);
    assert!(shown.contains("100,000 tasks"), "{shown}");
    assert!(shown.lines().count() == 24 && shown.contains("connection"), "{shown}");
}
