//! What is there again after a restart, and directories that cannot be used.

use serde_json::{Value, json};

use super::support::{Scratch, Server, place, publications};

#[tokio::test]
async fn clients_recover_exactly_the_gap_over_a_restart() {
    let scratch = Scratch::new("restart");
    let server = Server::start(&scratch.data(), &[]);
    let (mut client, told) = server.subscribe("c", None).await.unwrap();
    let epoch = told["epoch"].as_str().unwrap().to_owned();
    for number in 1..=3 {
        assert_eq!(server.publish("c", &json!(number)).await, (number, epoch.clone()));
    }
    assert_eq!(publications(&mut client, 2).await, [(1, json!(1)), (2, json!(2))]);
    let keyed = json!({"channel": "c", "data": "keyed", "idempotency_key": "k"});
    let first = place(&server.api("publish", &keyed).await.unwrap());
    drop(client);
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");

    let server = Server::start(&scratch.data(), &[]);
    assert_eq!(place(&server.api("publish", &keyed).await.unwrap()), first, "a repeat of before");
    assert_eq!(server.publish("c", &json!(5)).await, (5, epoch.clone()));
    let (mut client, told) = server.subscribe("c", Some((2, &epoch))).await.unwrap();
    assert_eq!((&told["recovered"], &told["epoch"]), (&json!(true), &json!(epoch)));
    let recovered: Vec<Value> = told["publications"]
        .as_array()
        .unwrap()
        .iter()
        .map(|publication| publication["data"].clone())
        .collect();
    assert_eq!(recovered, [json!(3), json!("keyed"), json!(5)]);
    server.publish("c", &json!(6)).await;
    assert_eq!(publications(&mut client, 1).await, [(6, json!(6))]);

    let value = async |name| server.metric(name).await;
    assert!(value("bowline_store_syncs_total").await >= 2.0);
    assert!(value("bowline_store_sync_seconds_total").await > 0.0);
    assert!(value("bowline_store_files").await >= 1.0 && value("bowline_store_file_bytes").await > 0.0);
    assert_eq!(value("bowline_store_disk_failures_total").await, 0.0);
}

#[tokio::test]
async fn weak_modes_are_kept_over_the_end_of_the_process() {
    for durability in ["interval", "never"] {
        let scratch = Scratch::new(durability);
        let set = [("store.durability", durability), ("store.interval", "1h")];
        let server = Server::start(&scratch.data(), &set);
        for number in 1..=10 {
            server.publish("c", &json!(number)).await;
        }
        let syncs = server.metric("bowline_store_syncs_total").await;
        assert!(syncs < 5.0, "{durability}: {syncs} syncs: it was `always`");
        server.kill();
        let server = Server::start(&scratch.data(), &set);
        let page = server.api("history", &json!({"channel": "c", "limit": -1})).await.unwrap();
        assert_eq!(page["publications"].as_array().unwrap().len(), 10, "{durability}");
        assert_eq!(page["offset"], 10);
    }
}

#[tokio::test]
async fn a_removed_history_does_not_come_back() {
    let scratch = Scratch::new("removed");
    let server = Server::start(&scratch.data(), &[]);
    let (_, epoch) = server.publish("c", &json!(1)).await;
    server.api("history_remove", &json!({"channel": "c"})).await.unwrap();
    server.kill();
    let server = Server::start(&scratch.data(), &[]);
    let page = server.api("history", &json!({"channel": "c", "limit": -1})).await.unwrap();
    assert_eq!((&page["publications"], &page["offset"]), (&json!([]), &json!(1)));
    assert_eq!(server.publish("c", &json!(2)).await, (2, epoch));
}

#[tokio::test]
async fn the_commands_of_a_batch_wait_for_the_disk_together_and_see_each_other() {
    let scratch = Scratch::new("batch");
    let server = Server::start(&scratch.data(), &[]);
    let publish = |number: u64| json!({"publish": {"channel": "c", "data": number}});
    let mut commands: Vec<Value> = (1..=200).map(publish).collect();
    commands.push(json!({"history": {"channel": "c", "limit": -1}}));
    commands.push(json!({"broadcast": {"channels": ["a", "b", "c"], "data": "all"}}));
    commands.push(json!({"nothing": {}}));
    commands.push(publish(201));
    let replies = server.api("batch", &json!({"commands": commands})).await.unwrap();
    let replies = replies.as_array().unwrap();
    assert_eq!(replies.len(), 204);
    for (reply, offset) in replies[..200].iter().zip(1_u64..) {
        assert_eq!(reply["publish"]["offset"], offset);
    }
    assert_eq!(replies[200]["history"]["publications"].as_array().unwrap().len(), 200);
    assert_eq!(replies[201]["broadcast"]["responses"][2]["result"]["offset"], 201);
    assert_eq!(
        (&replies[202]["error"]["code"], &replies[203]["publish"]["offset"]),
        (&json!(104), &json!(202))
    );
    let syncs = server.metric("bowline_store_syncs_total").await;
    assert!(syncs < 200.0, "{syncs} syncs for 204 publications");
}

#[tokio::test]
async fn a_directory_is_used_by_one_process_at_a_time() {
    let scratch = Scratch::new("one");
    let server = Server::start(&scratch.data(), &[]);
    let refused = Server::refused(&scratch.data());
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    let owner = format!("process {} has it", server.id());
    assert!(said.contains(&owner) && said.contains("store.path"), "{said}");
    assert!(refused.stdout.is_empty(), "it was not ready");
    server.publish("c", &json!(1)).await;
}

#[test]
fn a_directory_that_cannot_be_used_says_why() {
    let scratch = Scratch::new("unfit");
    let file = scratch.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let refused = Server::refused(&file);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("it is a file"), "{said}");

    if cfg!(target_os = "linux") {
        // Where not even root may write.
        let refused = Server::refused(std::path::Path::new("/sys/bowline-data"));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            refused.status.code() == Some(1) && said.contains("choose one that can be written"),
            "{said}"
        );
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_directory_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("mode");
    let server = Server::start(&scratch.data(), &[]);
    let mode = std::fs::metadata(scratch.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(server);
}

#[tokio::test]
async fn what_a_client_publishes_and_does_not_wait_for_reaches_those_who_are_there() {
    let scratch = Scratch::new("gone");
    let server = Server::start(&scratch.data(), &[]);
    let (mut subscriber, _) = server.subscribe("c", None).await.unwrap();
    for number in 0..50 {
        let (mut publisher, _) = server.subscribe("elsewhere", None).await.unwrap();
        publisher
            .send(&json!({"id": 9, "publish": {"channel": "c", "data": number}}).to_string())
            .await
            .unwrap();
        drop(publisher);
    }
    // Whatever of it was stored lies before this.
    let (top, _) = server.publish("c", &json!("last")).await;
    let received = publications(&mut subscriber, usize::try_from(top).unwrap()).await;
    let offsets: Vec<u64> = received.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (1..=top).collect::<Vec<_>>());
    assert!(top > 1, "nothing was stored of what was sent");
}
