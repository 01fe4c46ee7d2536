//! This very process, looked at as top looks at another one.

use super::super::data::{Totals, Tree};
use super::{at, press, shop, text};
use crate::top::data::{Deadlock, Picture, entries};
use crate::top::model::Input;

#[tokio::test(start_paused = true)]
async fn a_task_of_this_process_is_found_with_what_it_waits_for() {
    let (mut model, now) = shop(80, 24);
    bowline::scope("outer", async |s| {
        let (tx, rx) = s.queue::<u8>("words", bowline::Bound::items(4), bowline::Overflow::Block);
        s.spawn_with("reader of words", rx, async |_cx, rx| {
            while rx.recv().await?.is_some() {}
            Ok(())
        });
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        let page = serde_json::to_value(bowline::tree()).expect("a tree is JSON");
        let picture =
            Picture { totals: Totals::read(&page), tree: Some(Tree::read(&page)), ..Picture::default() };
        model.take(Input::Answer(Box::new(Ok(picture))), now);
        press(&mut model, "/reader words op:recv<enter><end>");
        assert_eq!(at(&model), "reader of words");
        let row = model.table().rows.pop().expect("it is there");
        assert_eq!(row.cells[1].text, "recv words", "the queue has its name");
        drop(tx);
        Ok::<_, bowline::Cancelled>(())
    })
    .await
    .expect("nobody cancels it");
}

#[bowline::test]
async fn a_proved_deadlock_of_this_process_is_read_whole() {
    let (mut model, now) = shop(80, 24);
    let mut page = serde_json::Value::Null;
    let ended = bowline::scope("play", async |s| {
        let (orders, inbox) = s.queue::<u32>("orders", bowline::Bound::items(8), bowline::Overflow::Block);
        // It holds the only sender itself.
        s.spawn_with("clerk", (orders, inbox), async |_cx, (_orders, inbox)| inbox.recv().await.map(drop));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        page = serde_json::json!({ "deadlocks": bowline::testing::deadlocks_now() });
        s.cancel("seen");
        Ok::<_, bowline::Cancelled>(())
    })
    .await;
    assert!(ended.is_err(), "it was cancelled");
    let deadlocks = entries(&page, "deadlocks", Deadlock::read);
    let [deadlock] = &deadlocks[..] else { panic!("one deadlock: {page}") };
    assert_eq!((&*deadlock.verdict, &*deadlock.tier), ("only cancel", "bound"), "its owner may: {page}");
    let [clerk] = deadlock.causes()[..] else { panic!("one cause: {page}") };
    let wait = &clerk.waits[0];
    assert_eq!((clerk.name(), &*wait.op, &*wait.name), ("clerk", "recv", "orders"));
    assert!(wait.place.contains("process.rs:") && !wait.why.is_empty(), "{page}");
    let said = format!("DEADLOCK (5): 1 task can never go on: {} of clerk", deadlock.kind);
    let deadlocks = Some(deadlocks);
    model.take(Input::Answer(Box::new(Ok(Picture { deadlocks, ..Picture::default() }))), now);
    let shown = text(&model, now);
    assert!(shown.contains(&said), "{shown}");
}
