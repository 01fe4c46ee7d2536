//! Top without a terminal: screens against committed texts, keys against what they lead to, and a process that is not
//! what it should be.

mod answers;
mod keys;
mod process;
mod screens;

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::WantedTasks;
use super::data::{Alert, Deadlock, Fields, Picture, Queue, Resource, Task, Totals, Tree, entries};
use super::model::{Input, Model, Then};
use super::{client::FetchError, once};

/// A model of a shop's process, of so many columns and lines, that has seen 40 pictures. Time stands where `now` is.
fn shop(columns: u16, lines: u16) -> (Model, Instant) {
    shop_after(40, columns, lines)
}

/// The same after so many pictures.
fn shop_after(pictures: u64, columns: u16, lines: u16) -> (Model, Instant) {
    let mut model = Model::new("http://127.0.0.1:8001".to_owned(), Duration::from_secs(1), 1_000);
    let mut now = Instant::now();
    model.take(Input::Resized(columns, lines), now);
    for second in 0..pictures {
        model.take(Input::Answer(Box::new(Ok(picture(&pages(second))))), now);
        now += Duration::from_secs(1);
    }
    (model, now)
}

/// A picture made of pages, as the client makes it.
fn picture(pages: &Value) -> Picture {
    fn list<T>(pages: &Value, name: &str, read: fn(super::data::Fields<'_>) -> T) -> Option<Vec<T>> {
        pages.get(name).map(|page| entries(page, name, read))
    }
    let tasks = &pages["tasks"];
    Picture {
        totals: Totals::read(tasks),
        tree: Some(Tree::read(tasks)),
        queues: list(pages, "queues", Queue::read),
        waits: list(pages, "waits", Resource::read),
        alerts: list(pages, "alerts", Alert::read),
        deadlocks: list(pages, "deadlocks", Deadlock::read),
        opened: pages.get("opened").map(|page| (page["task"]["id"].as_u64().unwrap_or(0), page.clone())),
        ..Picture::default()
    }
}

fn task(id: u64, name: &str, state: Value, age_ms: u64, polls: u64) -> Value {
    json!({"id": id, "parent": 1, "name": name, "place": "crates/shop/src/orders/mod.rs:42", "age_ms": age_ms,
           "state": state, "polls": polls, "cancelled": false, "scopes": [], "queues": [], "channels": []})
}

fn waiting(op: &str, on: u64, for_ms: u64) -> Value {
    json!({"is": "waiting", "op": op, "on": on, "for_ms": for_ms})
}

fn is(state: &str) -> Value {
    json!({"is": state})
}

fn queue(id: u64, name: &str, depth: u64, max: u64, sent: u64) -> Value {
    json!({"id": id, "name": name, "task": 20, "path": "main/clerk", "place": "crates/shop/src/orders/mod.rs:17", "depth_items": depth, "depth_bytes": 0,
           "max_items": max, "max_bytes": null, "high_water_items": depth.max(9), "oldest_ms": depth * 40,
           "overflow": "block", "closed": null, "sent": sent, "received": sent - depth, "in_flight": 0, "redelivered": 0,
           "dropped": 0, "refused": u64::from(depth == max) * 12, "abandoned": 0, "waits": 3, "waiting_senders": 0,
           "waiting_receivers": u64::from(depth == 0), "urgent": null, "sources": [],
           "senders": [{"task": 20, "ends": 1}, {"task": null, "ends": 1}], "receivers": [{"task": 21, "ends": 1}],
           "deliveries": []})
}

/// What the process says in the second `at`.
fn pages(at: u64) -> Value {
    let connections: Vec<Value> = (0..60)
        .map(|n| {
            task(
                100 + n,
                "connection",
                if n % 7 == 0 { waiting("recv", 30, 200 * n) } else { is("parked") },
                90_000 + n,
                12,
            )
        })
        .collect();
    let mut packer = task(21, "packer", waiting("lock", 40, 31_000), 3_700_000, 1_234_567);
    packer["queues"] = json!([queue(32, "parcels", 3, 8, 4_000 + at)]);
    let mut clerk = task(20, "clerk", waiting("send", 31, 2_300), 3_700_000, 88_000);
    clerk["scopes"] = json!([{"id": 9, "name": "one order with a name that is longer than its column will ever be", "kind": "timeout",
        "place": "crates/shop/src/orders/mod.rs:99", "cancelled": "its deadline has passed", "scopes": [], "queues": [], "channels": [],
        "tasks": [task(22, "check the stock of every warehouse between here and Vladivostok", waiting("lock", 41, 31_200), 31_400, 2)]}]);
    let mut ended = task(23, "接続を受け付けるタスク", is("running"), 12, 1);
    ended["cancelled"] = json!(true);
    let main = json!({"id": 10, "parent": 1, "name": "main", "place": "src/main.rs:7", "age_ms": 3_700_000,
        "state": waiting("draining", 0, 3_699_000), "polls": 2, "cancelled": false, "queues": [], "channels": [
            {"id": 50, "kind": "watch", "name": "settings", "depth_items": 1, "max_items": 1}],
        "scopes": [{"id": 11, "name": "shop", "kind": "scope", "place": "src/main.rs:12", "cancelled": null,
            "queues": [queue(30, "requests", 0, 1_024, 90_000 + 2_500 * at), queue(31, "orders", (at * 37 % 65).min(64), 64, 5_000 + 70 * at)],
            "channels": [], "tasks": [clerk, packer, ended, task(24, "sweep", waiting("sleep", 0, 400), 3_700_000, 3_700)],
            "scopes": [{"id": 12, "name": "connections", "kind": "group", "place": "crates/shop/src/net.rs:120", "cancelled": null,
                "tasks": connections, "scopes": [], "queues": [], "channels": [], "more": {"connection": 9_940}}]}]});
    json!({
        "tasks": {"tasks": 10_006 + at, "blocking": 2, "runtime_tasks": 10_010, "foreign_tasks": 3,
            "process": {"name": "shop", "version": "1.4.2", "pid": 4711, "uptime_ms": 3_700_000, "workers": 8, "spawned": 50_000 + 125 * at},
            "roots": [{"id": 1, "name": "shop", "kind": "root", "place": "src/main.rs:3", "cancelled": null,
                "tasks": [main], "scopes": [], "queues": [], "channels": []}]},
        "queues": [queue(30, "requests", 0, 1_024, 90_000 + 2_500 * at), queue(31, "orders", (at * 37 % 65).min(64), 64, 5_000 + 70 * at),
            queue(32, "parcels", 3, 8, 4_000 + at)],
        "waits": [
            {"id": 40, "kind": "mutex", "name": "ledger", "place": "crates/shop/src/bank.rs:9", "state": {"is": "permits", "free": 0, "total": 1},
             "waiters": [{"task": 21, "op": "lock", "need": 1, "granted": false, "place": "crates/shop/src/bank.rs:31", "for_ms": 31_000}],
             "holders": [{"task": 22, "certain": true, "amount": 1, "place": "crates/shop/src/stock.rs:77", "for_ms": 31_300}],
             "ends": [], "waits": 12, "panicked_while_held": 0},
            {"id": 41, "kind": "rw_lock", "name": "stock", "place": "crates/shop/src/stock.rs:9", "state": {"is": "permits", "free": 0, "total": 536_870_911},
             "waiters": [{"task": 22, "op": "write", "need": 1, "granted": false, "place": "crates/shop/src/stock.rs:80", "for_ms": 31_200}],
             "holders": [{"task": 21, "certain": true, "amount": 1, "place": "crates/shop/src/bank.rs:30", "for_ms": 31_100}],
             "ends": [], "waits": 900, "panicked_while_held": 0},
            {"id": 30, "kind": "channel", "name": "requests", "place": "crates/shop/src/orders/mod.rs:17", "state": {"is": "waiting"},
             "waiters": [{"task": 142, "op": "recv", "need": 1, "granted": false, "place": "crates/shop/src/net.rs:55", "for_ms": 11_800}],
             "holders": [], "ends": [{"role": "sender", "task": 20, "ends": 2}, {"role": "receiver", "task": 142, "ends": 1}], "waits": 5, "panicked_while_held": 0}],
        "alerts": [
            {"kind": "queue_high", "name": "orders", "place": "crates/shop/src/orders/mod.rs:17", "text": "58 of 64 items", "raised": true, "left_out": 3, "for_ms": 42_000},
            {"kind": "breaker_open", "name": "payments", "place": "crates/shop/src/pay.rs:20", "text": "5 of the last 10 calls failed: connection refused; next try in 12 s", "raised": true, "left_out": 0}],
        "deadlocks": [
            {"id": 1, "verdict": {"is": "only_cancel", "by": [{"is": "deadline", "in_ms": 28_700}]}, "tier": "exact", "kind": "cycle",
             "remedy": "take `ledger` before `stock` in both", "resources": [],
             "closed_by": {"task": 22, "name": "check the stock", "op": "write", "on": 41, "place": "crates/shop/src/stock.rs:80"},
             "effects": {"permits_held": 2, "scopes_open": 1, "others_waiting": 0},
             "tasks": [
                {"id": 21, "name": "packer", "path": "main/packer", "spawned_at": "x.rs:1", "age_ms": 3_700_000, "is_cause": true, "waits": [
                    {"op": "lock", "on": 40, "name": "ledger", "place": "crates/shop/src/bank.rs:31", "for_ms": 31_000,
                     "why": ["it is held by `check the stock` #22, which stands still too"]}]},
                {"id": 22, "name": "check the stock", "path": "main/clerk/check the stock of every warehouse between here and Vladivostok",
                 "is_cause": true, "waits": [{"op": "write", "on": 41, "name": "stock", "place": "crates/shop/src/stock.rs:80", "for_ms": 31_200,
                     "why": ["a reader, `packer` #21, stands still too"]}]},
                {"id": 20, "name": "clerk", "path": "main/clerk", "is_cause": false, "waits": [{"op": "close", "on": 9, "name": "one order",
                     "place": "crates/shop/src/orders/mod.rs:99", "for_ms": 31_000, "why": ["`check the stock` #22 is in it"]}]}]}],
        "opened": {"task": {"id": 21, "name": "packer", "path": "main/packer", "kind": "task",
                "place": "crates/shop/src/orders/mod.rs:42", "age_ms": 3_700_000,
                "state": waiting("lock", 40, 31_000), "polls": 1_234_567, "poll_times": {"busy_us": 5_120_000},
                "idle_ms": 31_000, "future_bytes": 1_264, "generation": 3},
            "above": [{"id": 10, "name": "main", "kind": "task", "place": "src/main.rs:7"}],
            "cancelled": null, "channels": [], "names": {"22": "main/clerk/check the stock"},
            "waits_for": {"resource": {"id": 40, "kind": "mutex", "name": "ledger", "place": "crates/shop/src/bank.rs:9",
                "state": {"is": "permits", "free": 0, "total": 1}, "waits": 12,
                "waiters": [{"task": 21, "op": "lock", "need": 1, "granted": false, "place": "crates/shop/src/bank.rs:31", "for_ms": 31_000}],
                "holders": [{"task": 22, "certain": true, "amount": 1, "place": "crates/shop/src/stock.rs:77", "for_ms": 31_300}]}, "task": null},
            "holds": [{"id": 41, "kind": "rw_lock", "name": "stock", "place": "crates/shop/src/stock.rs:9", "waits": 900,
                "state": {"is": "permits", "free": 0, "total": 536_870_911},
                "waiters": [{"task": 22, "op": "write", "need": 1, "granted": false, "place": "crates/shop/src/stock.rs:80", "for_ms": 31_200}],
                "holders": [{"task": 21, "certain": true, "amount": 1, "place": "crates/shop/src/bank.rs:30", "for_ms": 31_100}]}],
            "queues": [queue(32, "parcels", 3, 8, 4_000 + at)],
            "tree": {"tasks": 1, "blocking": 0, "roots": [{"id": 60, "name": "boxes", "kind": "group", "place": "x.rs:1",
                "tasks": [task(61, "fold a box", is("running"), 20, 3)]}]},
            "explanation": {"is": "waiting", "because": ["`ledger` is held by task 22", "task 22 waits to write `stock`, which this task reads"]}},
    })
}

/// The process answers what is wanted now: a tree, or a list of those tasks that were asked for.
fn answer(model: &mut Model, now: Instant) {
    let mut pages = pages(40);
    if let WantedTasks::List { max, .. } = model.wanted().tasks {
        let mut all = Vec::new();
        list_of(&pages["tasks"]["roots"], "", &mut all);
        all.retain(|task| model.filter.takes(&Task::read(Fields(task))));
        let waited = |task: &Value| task["state"]["for_ms"].as_u64().unwrap_or(0);
        all.sort_by_key(|task| std::cmp::Reverse(waited(task)));
        let more = all.len().saturating_sub(max);
        all.truncate(max);
        pages["tasks"]["total"] = pages["tasks"]["tasks"].take();
        pages["tasks"]["tasks"] = json!(all);
        pages["tasks"]["more"] = json!(more);
        pages["tasks"].as_object_mut().expect("a page").remove("roots");
    }
    model.take(Input::Answer(Box::new(Ok(picture(&pages)))), now);
}

fn list_of(value: &Value, path: &str, all: &mut Vec<Value>) {
    for scope in value.as_array().into_iter().flatten() {
        for task in scope["tasks"].as_array().into_iter().flatten() {
            let name = task["name"].as_str().unwrap_or_default();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            list_of(&task["scopes"], &path, all);
            let mut row = task.clone();
            row["path"] = json!(path);
            row.as_object_mut()
                .expect("a task")
                .retain(|name, _| !["scopes", "queues", "channels"].contains(&&**name));
            all.push(row);
        }
        list_of(&scope["scopes"], path, all);
    }
}

/// Presses keys: characters as they are, others by name in brackets.
fn press(model: &mut Model, keys: &str) -> Then {
    let mut then = Then::GoOn;
    let mut rest = keys;
    while let Some(first) = rest.chars().next() {
        let named = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let code = match named {
            Some((name, after)) => {
                rest = after;
                match name {
                    "enter" => KeyCode::Enter,
                    "esc" => KeyCode::Esc,
                    "tab" => KeyCode::Tab,
                    "up" => KeyCode::Up,
                    "down" => KeyCode::Down,
                    "left" => KeyCode::Left,
                    "right" => KeyCode::Right,
                    "page down" => KeyCode::PageDown,
                    "end" => KeyCode::End,
                    "home" => KeyCode::Home,
                    "backspace" => KeyCode::Backspace,
                    other => panic!("no key {other}"),
                }
            }
            None => {
                rest = &rest[first.len_utf8()..];
                KeyCode::Char(first)
            }
        };
        then = model.take(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)), Instant::now());
    }
    then
}

fn lose(model: &mut Model, now: Instant) {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    model.take(Input::Answer(Box::new(Err(FetchError::Connect(refused)))), now);
}

/// The text of the row under the cursor.
fn at(model: &Model) -> String {
    let table = model.table();
    table.rows.get(model.cursor().at).map_or_else(String::new, |row| row.cells[0].text.trim().to_owned())
}

fn text(model: &Model, now: Instant) -> String {
    once::text(model, now)
}
