//! What keys lead to.

use super::super::client::{Wanted, WantedTasks};
use super::super::model::{Input, Page, Then};
use super::super::table::Key;
use super::{answer, at, pages, picture, press, shop, text};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

#[tokio::test(start_paused = true)]
async fn q_and_ctrl_c_quit_from_everywhere() {
    for keys in ["", "?", "3<enter>", "p"] {
        let (mut model, now) = shop(80, 24);
        press(&mut model, keys);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(model.take(Input::Key(ctrl_c), now), Then::Quit, "{keys}");
        assert_eq!(press(&mut model, "q"), Then::Quit, "{keys}");
    }
    // While a filter is typed, q is a letter.
    let (mut model, now) = shop(80, 24);
    assert_eq!(press(&mut model, "/q"), Then::GoOn);
    assert_eq!(model.filter_text, "q");
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.take(Input::Key(ctrl_c), now), Then::Quit);
    // Letting a key go is no key.
    let (mut model, now) = shop(80, 24);
    let let_go = KeyEvent { kind: KeyEventKind::Release, ..KeyEvent::from(KeyCode::Char('q')) };
    assert_eq!(model.take(Input::Key(let_go), now), Then::GoOn);
}

#[tokio::test(start_paused = true)]
async fn the_cursor_stays_with_its_row_when_rows_move() {
    let (mut model, now) = shop(80, 24);
    press(&mut model, "t/packer<enter>");
    assert_eq!(at(&model), "main/packer");
    press(&mut model, "<esc>");
    assert_eq!(at(&model), "main/packer", "the filter is gone and the row is the same");
    press(&mut model, "ssss");
    assert_eq!(at(&model), "main/packer", "sorted by name");
    model.take(Input::Answer(Box::new(Ok(picture(&pages(41))))), now);
    assert_eq!(at(&model), "main/packer", "a new picture");
    let shown = text(&model, now);
    assert!(shown.contains("main/packer"), "and it is on the screen: {shown}");
}

#[tokio::test(start_paused = true)]
async fn the_cursor_is_always_on_the_screen() {
    let (mut model, _) = shop(80, 24);
    for keys in [
        "t",
        "<end>",
        "<page down>",
        "<up>",
        "<home>",
        "<page down><page down>",
        "/conn",
        "<esc>",
        "2",
        "<end>",
        "<tab>",
        "1t*",
    ] {
        press(&mut model, keys);
        let (rows, cursor, lines) = (model.table().rows.len(), model.cursor(), model.body_lines());
        assert!(cursor.at < rows.max(1), "{keys}: {cursor:?} of {rows}");
        assert!((cursor.top..cursor.top + lines).contains(&cursor.at), "{keys}: {cursor:?} of {lines} lines");
    }
}

#[tokio::test(start_paused = true)]
async fn folding_hides_and_shows_what_is_below() {
    let (mut model, _) = shop(80, 24);
    let shown = |model: &super::Model| model.table().rows.len();
    let (all, top) = (shown(&model), at(&model));
    assert_eq!(top, "▾ root shop");
    press(&mut model, "<left>");
    assert_eq!((shown(&model), at(&model)), (1, "▸ root shop".to_owned()));
    press(&mut model, "<right>");
    assert_eq!(shown(&model), all);
    // Many tasks of a group are folded until somebody wants them, and say how many they are.
    press(&mut model, "<end>");
    assert_eq!(at(&model), "▸ [group] connections");
    press(&mut model, "<right>");
    assert_eq!(shown(&model), all + 61, "60 tasks, and the line that counts those that were not sent");
    // Left at a row with nothing to hide goes to what it belongs to.
    press(&mut model, "<down><down><left>");
    assert_eq!(at(&model), "▾ [group] connections");
    press(&mut model, "<left>");
    assert_eq!(shown(&model), all);
    press(&mut model, "<home>-");
    assert_eq!(shown(&model), 2, "everything but the top");
    press(&mut model, "****");
    assert_eq!(shown(&model), all + 61);
}

#[tokio::test(start_paused = true)]
async fn enter_follows_from_the_waiter_to_the_lock_to_its_holder_and_esc_goes_back() {
    let (mut model, _) = shop(80, 24);
    press(&mut model, "/packer<enter><end><enter>");
    assert_eq!(model.opened, [Key::Task(21)]);
    assert_eq!(model.wanted().opened, Some(21), "the process is asked for its page");
    // To the holder of the lock it waits for.
    while !at(&model).contains("held by task check") {
        press(&mut model, "<down>");
    }
    press(&mut model, "<enter>");
    assert_eq!(model.opened, [Key::Task(21), Key::Task(22)]);
    assert_eq!(at(&model), "task check the stock of every warehouse between here and Vladivostok #22");
    press(&mut model, "<esc>");
    assert!(at(&model).contains("held by task check"), "the cursor is where it was: {}", at(&model));
    press(&mut model, "<backspace>");
    assert_eq!((model.opened.len(), model.filter_text.as_str()), (0, "packer"));
    press(&mut model, "<esc>");
    assert_eq!(model.filter_text, "");
    // A page's key leads out at once.
    press(&mut model, "3<enter>2");
    assert_eq!((model.page, model.opened.len()), (Page::Queues, 0));
}

#[tokio::test(start_paused = true)]
async fn going_round_in_a_circle_of_waits_costs_no_memory() {
    let (mut model, _) = shop(80, 24);
    press(&mut model, "3<enter>");
    for _ in 0..200 {
        while !at(&model).starts_with("→") {
            press(&mut model, "<down>");
        }
        press(&mut model, "<enter>");
    }
    assert!(model.opened.len() <= 50, "{}", model.opened.len());
}

#[tokio::test(start_paused = true)]
async fn what_was_opened_may_end_while_it_is_looked_at() {
    let (mut model, now) = shop(80, 24);
    press(&mut model, "/packer<enter><end><enter>");
    let mut without = pages(41);
    without["tasks"]["roots"] = serde_json::json!([]);
    without.as_object_mut().expect("pages").retain(|name, _| name == "tasks");
    model.take(Input::Answer(Box::new(Ok(picture(&without)))), now);
    let shown = text(&model, now);
    assert!(shown.contains("is gone"), "{shown}");
    for (keys, said) in [
        ("2", "no queues"),
        ("3", "does not serve /debug/bowline/waits"),
        ("5", "does not serve /debug/bowline/deadlocks"),
    ] {
        press(&mut model, keys);
        let shown = text(&model, now);
        assert!(shown.contains(said), "{keys}: {shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_picture_stands_still() {
    let (mut model, now) = shop(80, 24);
    press(&mut model, "p");
    let before = text(&model, now);
    assert!(before.contains("paused"), "{before}");
    model.take(Input::Answer(Box::new(Ok(picture(&pages(90))))), now);
    assert_eq!(text(&model, now), before, "what was under way when it was paused");
    press(&mut model, "p");
    model.take(Input::Answer(Box::new(Ok(picture(&pages(90))))), now);
    assert!(text(&model, now).contains("10,096 tasks"));
}

#[tokio::test(start_paused = true)]
async fn tasks_are_sorted_by_what_the_reader_wants() {
    let (mut model, _) = shop(200, 60);
    press(&mut model, "t");
    let mut firsts = Vec::new();
    for _ in 0..4 {
        let first = model.table().rows[0].cells[0].text.trim().to_owned();
        let last_sort = model.sort().name();
        firsts.push(format!("{last_sort}: {first}"));
        press(&mut model, "s");
    }
    assert_eq!(
        firsts,
        [
            "wait: main",
            "age: main",
            "polls: main/packer",
            "name: main/clerk/check the stock of every warehouse between here and Vladivostok"
        ]
    );
    press(&mut model, "r");
    assert!(!model.table().rows[0].cells[0].text.contains("main "), "the other way round");
    let WantedTasks::List { query, .. } = model.wanted().tasks else { panic!("a list") };
    assert_eq!(query, "&sort=wait", "the process sorts before it cuts");
}

#[tokio::test(start_paused = true)]
async fn w_shows_those_that_wait_as_this_one_does_and_again_all() {
    let (mut model, now) = shop(80, 24);
    press(&mut model, "t/sweep<enter>w");
    assert_eq!(model.filter_text, "sweep op:sleep");
    press(&mut model, "w");
    assert_eq!(model.filter_text, "sweep");
    // The op of another one replaces it.
    press(&mut model, "<esc>/packer<enter>w<esc>/<esc>t");
    assert_eq!(model.filter_text, "");
    assert!(text(&model, now).contains("root shop"));
}

#[tokio::test(start_paused = true)]
async fn keys_at_random_do_no_harm() {
    let keys = [
        "q",
        "?",
        "p",
        "/",
        "s",
        "r",
        "t",
        "w",
        "*",
        "-",
        "1",
        "2",
        "3",
        "4",
        "5",
        "<tab>",
        "<up>",
        "<down>",
        "<page down>",
        "<home>",
        "<end>",
        "<left>",
        "<right>",
        "<enter>",
        "<esc>",
        "<backspace>",
        "x",
        "接",
    ];
    let (mut model, mut now) = shop(80, 24);
    let mut seed = 7_u64;
    for step in 0..3_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        press(&mut model, keys[usize::try_from(seed >> 33).unwrap_or(0) % keys.len()]);
        if step % 50 == 0 {
            now += std::time::Duration::from_secs(1);
            model.take(Input::Answer(Box::new(Ok(picture(&pages(step))))), now);
            model.take(
                Input::Resized(
                    20 + u16::try_from(step % 180).unwrap_or(0),
                    5 + u16::try_from(step % 40).unwrap_or(0),
                ),
                now,
            );
        }
        assert!(model.cursor().at < model.table().rows.len().max(1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_process_is_asked_for_what_is_looked_at() {
    let (mut model, now) = shop(80, 24);
    assert_eq!(model.wanted(), Wanted { tasks: WantedTasks::Tree { each: 50 }, opened: None });
    press(&mut model, "/conn age:5s<enter>");
    let WantedTasks::List { max, query } = model.wanted().tasks else {
        panic!("who looks for something wants a list")
    };
    assert_eq!((max, query.as_str()), (1_000, "&name=conn&age=5000ms&sort=wait"));
    answer(&mut model, now);
    let shown = text(&model, now);
    assert!(shown.contains("main/connection") && !shown.contains("root shop"), "{shown}");
    // Enter opens what is looked at, wherever it stands.
    press(&mut model, "<end><enter>");
    assert!(model.wanted().opened.is_some());
    press(&mut model, "<esc><esc>");
    answer(&mut model, now);
    assert!(text(&model, now).contains("root shop"));
}

#[tokio::test(start_paused = true)]
async fn rows_that_nobody_can_tell_apart_do_not_hold_the_cursor() {
    let (mut model, now) = shop(80, 24);
    let twins = serde_json::json!([{"name": "outbox"}, {"name": "outbox"}, {"name": "outbox"}]);
    let mut pages = pages(40);
    pages["queues"] = twins;
    model.take(Input::Answer(Box::new(Ok(picture(&pages)))), now);
    press(&mut model, "2<down><down>");
    model.take(Input::Answer(Box::new(Ok(picture(&pages)))), now);
    assert_eq!(model.cursor().at, 2);
}
