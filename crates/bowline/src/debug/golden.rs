//! What the pages look like, to the blank: they are read in terminals of eighty columns, at night.

use super::query::{Query, Sort};
use super::tasks::{self, Row};
use super::waits::{Names, write_resource};
use super::{listings, live};
use crate::resource::{HolderInfo, ResourceInfo, ResourceKind, ResourceState, WaiterInfo};
use crate::tree::{ScopeInfo, TaskInfo, TaskState, Tree, WaitInfo};

fn waits(op: &'static str, on: Option<u64>, for_ms: u64) -> TaskState {
    TaskState::Waiting(WaitInfo { op, on, for_ms })
}

fn row(id: u64, path: &str, age_ms: u64, polls: u32, cancelled: bool, state: TaskState) -> Row {
    Row {
        id,
        parent: 1,
        above: None,
        path: path.to_owned(),
        name: "task",
        kind: "task",
        place: "src/main.rs:14".to_owned(),
        age_ms,
        polls,
        idle_ms: Some(age_ms),
        future_bytes: Some(640),
        generation: None,
        poll_times: None,
        cancelled,
        state,
    }
}

#[test]
fn tasks_stand_in_columns_and_long_paths_keep_their_ends() {
    let rows = [
        row(
            1_234_567,
            "main/public/connections/of/one/tenant/with/a/long/name/connection",
            90_000_000,
            1_003,
            true,
            waits("send", Some(1_234_568), 61_900),
        ),
        row(12, "main/orders/packer", 7_300_000, 17, false, waits("sleep", None, 250)),
        row(7, "main", 7_300_000, 1, false, TaskState::Parked),
        row(900, "main/report", 3, 0, false, TaskState::New),
    ];
    let mut page = String::new();
    tasks::table(&rows, Sort::Wait).write(&mut page);
    assert_eq!(
        page,
        "\
ID         WAITS   AGE  POLLS  DOES                       TASK
#1234567  61.9 s  25 h   1003  send #1234568 (cancelled)  …/long/name/connection
#12       250 ms   2 h     17  sleep                      main/orders/packer
#7             -   2 h      1  parked                     main
#900           -  3 ms      0  new                        main/report
"
    );
    assert!(page.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn a_lock_says_who_waits_and_who_holds_it() {
    let waiter = |task, for_ms| WaiterInfo {
        task: Some(task),
        op: "lock",
        need: 1,
        granted: false,
        place: "src/orders.rs:40".to_owned(),
        for_ms,
    };
    let info = ResourceInfo {
        id: 99,
        kind: ResourceKind::Mutex,
        name: "ledger",
        place: "src/ledger.rs:14".to_owned(),
        state: ResourceState::Permits { free: 0, total: 1 },
        waiters: vec![waiter(12, 2_100), waiter(13, 1_900), waiter(14, 12), waiter(15, 0), waiter(16, 0)],
        holders: vec![HolderInfo {
            task: Some(7),
            certain: true,
            amount: 1,
            place: "src/audit/of/the/whole/ledger/every/night/at/three/oclock.rs:4711".to_owned(),
            for_ms: 3_600_000,
        }],
        ends: Vec::new(),
        waits: 5,
        panicked_while_held: 0,
    };
    let names: Names = [(12, "main/orders/packer".to_owned()), (7, "main/audit".to_owned())].into();
    let mut page = String::new();
    write_resource(&mut page, &info, &names);
    assert_eq!(
        page,
        "\
mutex `ledger` #99: 0 of 1 free; made at src/ledger.rs:14
    #12 main/orders/packer waits to lock for 2.1 s, at src/orders.rs:40
    #13 waits to lock for 1.9 s, at src/orders.rs:40
    #14 waits to lock for 12 ms, at src/orders.rs:40
    … 2 more wait
    held by #7 main/audit for 60 min, at
    src/audit/of/the/whole/ledger/every/night/at/three/oclock.rs:4711
"
    );
}

#[test]
fn the_tree_says_what_it_left_out() {
    let task = TaskInfo {
        id: 4,
        parent: 2,
        name: "connection",
        place: "src/net.rs:9".to_owned(),
        age_ms: 7_300_000,
        state: waits("recv", Some(5), 1_500),
        polls: 3,
        idle_ms: Some(1_500),
        future_bytes: Some(640),
        generation: None,
        poll_times: None,
        cancelled: false,
        scopes: Vec::new(),
        queues: Vec::new(),
        channels: Vec::new(),
    };
    let group = ScopeInfo {
        id: 2,
        name: "connections",
        kind: "group",
        place: "src/net.rs:8".to_owned(),
        cancelled: Some("drained".to_owned()),
        tasks: vec![task],
        scopes: Vec::new(),
        queues: Vec::new(),
        channels: Vec::new(),
        more: [("connection", 999)].into(),
    };
    let tree = Tree {
        tasks: 1_000,
        blocking: 0,
        runtime_tasks: Some(1_001),
        foreign_tasks: Some(1),
        roots: vec![group],
    };
    assert_eq!(
        live::text(&tree),
        "\
1000 tasks, 1 foreign
[group] connections (cancelled: drained)  src/net.rs:8
  connection #4  waiting to recv #5 for 1.5 s, 2 h old  src/net.rs:9
  … 999 more `connection`
"
    );
}

#[test]
fn a_deadlock_is_told_whole_in_eighty_columns_and_as_its_own_data() {
    use crate::{Bound, Cancelled, Overflow, Scope, scope};

    crate::testing::example(async {
        scope("shop", async |s: &Scope<Cancelled>| {
            let (orders, inbox) = s.queue::<u32>("orders of a long day", Bound::items(8), Overflow::Block);
            let clerk =
                s.spawn_with("clerk", (orders, inbox), async |_cx, (_orders, inbox)| inbox.recv().await);
            tokio::task::yield_now().await;
            let found = crate::testing::deadlocks_now();
            let page = |query: &str| {
                let query = Query::parse(Some(query), None).unwrap();
                String::from_utf8(listings::those(query, found.clone()).into_bytes()).unwrap()
            };
            let text = page("");
            assert!(text.contains("clerk") && text.contains("`orders of a long day`"), "{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= 80 || line.contains(".rs:"), "{line}");
            }
            let json: serde_json::Value = serde_json::from_str(&page("format=json")).unwrap();
            assert_eq!(json["deadlocks"][0], serde_json::to_value(&found[0]).unwrap());
            assert!(page("name=nobody").starts_with("no deadlock is proved"), "{}", page("name=nobody"));
            clerk.cancel("seen");
            Ok(())
        })
        .await
        .unwrap();
    });
}
