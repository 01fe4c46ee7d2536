//! The presence and presence_stats commands.

use super::*;

fn open(options: &mut ChannelOptions) {
    options.presence = true;
    options.allow_presence_for_client = true;
    options.allow_presence_for_anonymous = true;
}

#[tokio::test]
async fn presence_shows_every_subscriber_and_stats_count_users() {
    let node = node_with(open);
    let mut clients =
        [Client::of(&node, "42").await, Client::of(&node, "42").await, Client::anonymous(&node).await];
    for client in &mut clients {
        client.ask("subscribe", json!({"channel": "a"})).await;
    }
    let presence = clients[0].ask("presence", json!({"channel": "a"})).await;
    let presence = presence["presence"].as_object().unwrap();
    assert_eq!(presence.len(), 3);
    let anonymous = json!({"user": "", "client": clients[2].id()});
    assert_eq!(presence[clients[2].id()], anonymous, "user and client are there also when empty");
    let stats = clients[0].ask("presence_stats", json!({"channel": "a"})).await;
    assert_eq!(stats, json!({"num_clients": 3, "num_users": 2}));
}

#[tokio::test]
async fn an_empty_channel_has_an_empty_presence() {
    let node = node_with(open);
    let mut client = Client::anonymous(&node).await;
    assert_eq!(client.ask("presence", json!({"channel": "a"})).await, json!({"presence": {}}));
    let stats = client.ask("presence_stats", json!({"channel": "a"})).await;
    assert_eq!(stats, json!({"num_clients": 0, "num_users": 0}));
}

#[tokio::test]
async fn presence_must_be_kept_and_allowed() {
    let node = node(|config| {
        config.channel.without_namespace.allow_presence_for_client = true;
        add_namespace(config, "kept", |options| options.presence = true);
        add_namespace(config, "subscribers", |options| {
            options.allow_subscribe_for_client = true;
            options.presence = true;
            options.allow_presence_for_subscriber = true;
        });
    });
    let mut client = Client::of(&node, "42").await;
    for command in ["presence", "presence_stats"] {
        for (channel, code) in
            [("a", 108), ("kept:a", 103), ("subscribers:a", 103), ("none:a", 102), ("ä", 107)]
        {
            assert_eq!(client.error(command, json!({"channel": channel})).await, code, "{command} {channel}");
        }
        client.ask("subscribe", json!({"channel": "subscribers:a"})).await;
        client.ask(command, json!({"channel": "subscribers:a"})).await;
        client.ask("unsubscribe", json!({"channel": "subscribers:a"})).await;
    }
}

#[tokio::test]
async fn join_and_leave_are_told_to_those_who_asked() {
    let node = node_with(|options| {
        open(options);
        options.join_leave = true;
    });
    let (mut asked, mut silent) = (Client::anonymous(&node).await, Client::anonymous(&node).await);
    asked.ask("subscribe", json!({"channel": "a", "join_leave": true})).await;
    silent.ask("subscribe", json!({"channel": "a"})).await;
    asked.received();
    let mut client = Client::of(&node, "42").await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    client.ask("unsubscribe", json!({"channel": "a"})).await;
    let pushes = asked.pushes();
    assert_eq!(pushes[0]["join"]["info"]["user"], "42");
    assert_eq!(pushes[1]["leave"]["info"]["user"], "42");
    assert!(silent.received().is_empty());
}
