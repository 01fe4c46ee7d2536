//! Who may subscribe to what, in the order of the checks.

use super::*;

fn channel(name: &str) -> Value {
    json!({"channel": name})
}

#[tokio::test]
async fn a_plain_subscription_says_nothing_of_streams() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    assert_eq!(client.ask("subscribe", channel("a")).await, json!({}));
}

#[tokio::test]
async fn checks_come_in_their_order() {
    let node = node(|config| {
        config.channel.max_length = std::num::NonZeroUsize::new(10).unwrap();
        config.client.channel_limit = std::num::NonZeroUsize::new(2).unwrap();
        config.channel.without_namespace.allow_subscribe_for_client = false;
        add_namespace(config, "open", |options| {
            options.allow_subscribe_for_client = true;
            options.allow_subscribe_for_anonymous = true;
            options.channel_regex = "^[a-z]+$".parse().ok();
        });
    });
    // Each request is wrong in what is checked then, and in what is checked later.
    let mut client = Client::anonymous(&node).await;
    let long = "x".repeat(11);
    assert_eq!(client.disconnect("subscribe", json!({"channel": long, "delta": "other"})).await, 3501);

    let mut client = Client::anonymous(&node).await;
    assert_eq!(client.error("subscribe", channel(&long)).await, 107);
    client.ask("subscribe", channel("open:a")).await;
    client.ask("subscribe", channel("open:b")).await;
    assert_eq!(client.error("subscribe", channel("open:a")).await, 105, "before the limit");
    assert_eq!(client.error("subscribe", channel("none:a")).await, 106, "before the namespace");
    client.ask("unsubscribe", channel("open:b")).await;
    assert_eq!(client.error("subscribe", channel("none:ä")).await, 102, "before the characters");
    assert_eq!(client.error("subscribe", channel("open:1")).await, 107, "by the regular expression");
    assert_eq!(client.error("subscribe", channel("ä")).await, 107, "before the permission");
    assert_eq!(client.error("subscribe", channel("a")).await, 103);
    assert_eq!(node.stats().subscriptions, 1);
}

#[tokio::test]
async fn the_limit_counts_subscriptions_that_are_there() {
    let node = node(|config| config.client.channel_limit = std::num::NonZeroUsize::MIN);
    let mut client = Client::of(&node, "42").await;
    client.ask("subscribe", channel("a")).await;
    assert_eq!(client.error("subscribe", channel("b")).await, 106);
    let code = bowline_protocol::UnsubscribeCode::SERVER;
    node.unsubscribe("42", "a", &Default::default(), &code).unwrap();
    client.received();
    client.ask("subscribe", channel("b")).await;
}

#[tokio::test]
async fn anonymous_users_need_an_option_of_their_own() {
    let node = node_with(|options| options.allow_subscribe_for_anonymous = false);
    assert_eq!(Client::anonymous(&node).await.error("subscribe", channel("a")).await, 103);
    Client::of(&node, "42").await.ask("subscribe", channel("a")).await;
}

#[tokio::test]
async fn insecure_mode_allows_what_no_option_allows() {
    let node = node(|config| {
        config.client.insecure = true;
        config.channel.without_namespace.allow_subscribe_for_client = false;
        config.channel.without_namespace.allow_user_limited_channels = true;
    });
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", channel("a")).await;
    client.ask("subscribe", channel("dialog#42")).await;
    assert_eq!(client.error("subscribe", channel("$a")).await, 103, "a private channel needs its token");
}

#[tokio::test]
async fn private_channels_need_a_token_whatever_is_allowed() {
    let node = node(|_| {});
    let mut client = Client::of(&node, "42").await;
    assert_eq!(client.error("subscribe", channel("$a")).await, 103);
    let token = token(json!({"sub": "42", "channel": "$a"}));
    client.ask("subscribe", json!({"channel": "$a", "token": token})).await;
}

#[tokio::test]
async fn user_limited_channels_let_in_whom_they_name() {
    let node = node_with(|options| options.allow_user_limited_channels = true);
    Client::of(&node, "42").await.ask("subscribe", channel("dialog#42,43")).await;
    Client::of(&node, "43").await.ask("subscribe", channel("dialog#42,43")).await;
    for user in ["4", "44", "42,43"] {
        let mut client = Client::of(&node, user).await;
        assert_eq!(client.error("subscribe", channel("dialog#42,43")).await, 103, "{user}");
    }
    assert_eq!(Client::anonymous(&node).await.error("subscribe", channel("dialog#")).await, 103);
    let mut client = Client::of(&node, "44").await;
    let token = token(json!({"sub": "44", "channel": "dialog#42,43"}));
    client.ask("subscribe", json!({"channel": "dialog#42,43", "token": token})).await;
}

#[tokio::test]
async fn a_user_list_is_part_of_the_name_where_it_limits_nobody() {
    let node = node(|_| {});
    Client::of(&node, "44").await.ask("subscribe", channel("dialog#42,43")).await;
}

#[tokio::test]
async fn a_token_decides_alone() {
    // Everything else forbids it.
    let node = node_with(|options| options.allow_subscribe_for_client = false);
    let subscribe = |claims: Value| json!({"channel": "a", "token": token(claims)});
    let mut client = Client::of(&node, "42").await;
    assert_eq!(client.error("subscribe", json!({"channel": "a", "token": "no.such.token"})).await, 103);
    let expired = subscribe(json!({"sub": "42", "channel": "a", "exp": from_now(-1)}));
    assert_eq!(client.error("subscribe", expired).await, 109);
    let run_out = subscribe(json!({"sub": "42", "channel": "a", "expire_at": from_now(-1)}));
    assert_eq!(client.error("subscribe", run_out).await, 110);
    assert_eq!(node.stats().subscriptions, 0);

    let valid = subscribe(json!({
        "sub": "42", "channel": "a", "client": client.id(), "exp": from_now(60), "data": {"hello": 1},
    }));
    let result = client.ask("subscribe", valid).await;
    assert_eq!((&result["expires"], &result["data"]), (&json!(true), &json!({"hello": 1})));
    assert!((59..=60).contains(&result["ttl"].as_u64().unwrap()));

    // Everything else allows it.
    let node = super::node(|_| {});
    let mut client = Client::of(&node, "42").await;
    assert_eq!(client.error("subscribe", json!({"channel": "a", "token": "no.such.token"})).await, 103);
}

#[tokio::test]
async fn a_token_of_somebody_else_closes_the_connection() {
    let node = node(|_| {});
    for claims in [
        json!({"sub": "43", "channel": "a"}),
        json!({"channel": "a"}),
        json!({"sub": "42", "channel": "b"}),
        json!({"sub": "42", "channel": "a", "client": "another"}),
    ] {
        let mut client = Client::of(&node, "42").await;
        let request = json!({"channel": "a", "token": token(claims.clone())});
        assert_eq!(client.disconnect("subscribe", request).await, 3500, "{claims}");
    }
}

#[tokio::test]
async fn a_subscription_token_gives_no_right_but_to_subscribe() {
    let node = node_with(|options| {
        with_history(options);
        options.presence = true;
    });
    let mut client = Client::of(&node, "42").await;
    let token = token(json!({"sub": "42", "channel": "$a"}));
    client.ask("subscribe", json!({"channel": "$a", "token": token})).await;
    assert_eq!(client.error("publish", json!({"channel": "$a", "data": {}})).await, 103);
    assert_eq!(client.error("history", channel("$a")).await, 103);
    assert_eq!(client.error("presence", channel("$a")).await, 103);
}

#[tokio::test]
async fn wishes_are_granted_by_options_and_by_the_right_to_read() {
    let wishes = json!({"channel": "a", "positioned": true, "recoverable": true, "join_leave": true});
    let granted = |change: fn(&mut ChannelOptions)| {
        let node = node_with(change);
        let wishes = wishes.clone();
        async move {
            let mut client = Client::of(&node, "42").await;
            let result = client.ask("subscribe", wishes).await;
            let own_join = client.pushes().len() == 1;
            (result["positioned"] == true, result["recoverable"] == true, own_join)
        }
    };
    assert_eq!(granted(|_| {}).await, (false, false, false), "no history, no events");
    assert_eq!(
        granted(|o| {
            with_history(o);
            o.join_leave = true;
        })
        .await,
        (false, false, false),
        "not allowed"
    );
    assert_eq!(
        granted(|o| {
            with_history(o);
            o.allow_positioning = true;
        })
        .await,
        (true, false, false)
    );
    assert_eq!(
        granted(|o| {
            with_history(o);
            o.allow_recovery = true;
        })
        .await,
        (true, true, false),
        "recovery implies positioning"
    );
    assert_eq!(
        granted(|o| {
            with_history(o);
            o.allow_history_for_subscriber = true;
        })
        .await,
        (true, true, false)
    );
    assert_eq!(
        granted(|o| {
            o.join_leave = true;
            o.allow_presence_for_client = true;
        })
        .await,
        (false, false, true)
    );
}

#[tokio::test]
async fn forced_options_need_no_wish() {
    let node = node_with(|options| {
        with_history(options);
        options.force_recovery = true;
        options.join_leave = true;
        options.force_push_join_leave = true;
    });
    let mut client = Client::anonymous(&node).await;
    let result = client.ask("subscribe", channel("a")).await;
    assert_eq!((&result["positioned"], &result["recoverable"]), (&json!(true), &json!(true)));
    assert_eq!(result["epoch"].as_str().map(str::len), Some(8));
    assert!(result.get("offset").is_none() && result.get("was_recovering").is_none());
}

#[tokio::test]
async fn a_token_overrides_the_channels_options() {
    let node = node_with(|options| {
        with_history(options);
        options.presence = true;
        options.join_leave = true;
        options.force_push_join_leave = true;
    });
    let mut client = Client::of(&node, "42").await;
    let token = token(json!({"sub": "42", "channel": "a", "override": {
        "force_recovery": {"value": true}, "presence": {"value": false}, "join_leave": {"value": false},
    }}));
    let result = client.ask("subscribe", json!({"channel": "a", "token": token})).await;
    assert_eq!(result["recoverable"], true);
    assert!(client.received().is_empty(), "no join");
    assert!(node.presence("a").unwrap().is_empty());
}

#[tokio::test]
async fn features_that_are_not_there_say_so() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    let filter = json!({"channel": "a", "tf": {"key": "k", "cmp": "eq", "val": "v"}});
    assert_eq!(client.error("subscribe", filter).await, 107);
    assert_eq!(client.error("subscribe", json!({"channel": "a", "type": 1})).await, 108);
    let result = client.ask("subscribe", json!({"channel": "a", "delta": "fossil"})).await;
    assert!(result.get("delta").is_none(), "declined");
}

#[tokio::test]
async fn a_failed_subscription_leaves_no_trace() {
    let node = node_with(|options| {
        with_history(options);
        options.force_recovery = true;
        options.presence = true;
        options.join_leave = true;
        options.force_push_join_leave = true;
    });
    let mut other = Client::anonymous(&node).await;
    other.ask("subscribe", channel("a")).await;
    other.received();
    let mut client = Client::anonymous(&node).await;
    let request = json!({"channel": "a", "recover": true, "epoch": "another", "offset": 7, "flag": 2});
    assert_eq!(client.error("subscribe", request).await, 112);
    assert!(other.received().is_empty());
    assert_eq!(node.presence_stats("a").unwrap().num_clients, 1);
    assert_eq!(node.stats().subscriptions, 1);
    client.ask("subscribe", channel("a")).await;
}

#[tokio::test]
async fn the_answer_comes_before_the_own_join_and_the_first_publication() {
    let node = node_with(|options| {
        options.join_leave = true;
        options.force_push_join_leave = true;
    });
    let mut client = Client::of(&node, "42").await;
    client.command("subscribe", channel("a")).await.unwrap();
    publish(&node, "a", json!(1));
    let received = client.received();
    assert_eq!(received[0], json!({"id": 2, "subscribe": {}}));
    let info = json!({"user": "42", "client": client.id()});
    assert_eq!(received[1], json!({"push": {"channel": "a", "join": {"info": info}}}));
    assert_eq!(received[2], json!({"push": {"channel": "a", "pub": {"data": 1}}}));
    assert_eq!(received.len(), 3);
}

#[tokio::test]
async fn a_client_may_filter_by_tags_where_the_channel_lets_it() {
    let node = node(|config| {
        config.channel.without_namespace.allow_tags_filter = true;
        add_namespace(config, "plain", |options| {
            options.allow_subscribe_for_client = true;
            options.allow_subscribe_for_anonymous = true;
        });
    });
    let filtered = |channel: &str, cmp: &str| json!({"channel": channel, "tf": {"key": "kind", "cmp": cmp, "val": "goal"}});
    let mut client = Client::anonymous(&node).await;
    assert_eq!(client.error("subscribe", filtered("plain:a", "eq")).await, 107);
    assert_eq!(client.error("subscribe", filtered("a", "about")).await, 107);
    assert!(node.channels("").is_empty());
    client.ask("subscribe", filtered("a", "eq")).await;
    for kind in ["foul", "goal"] {
        let data = Payload::from_json(json!(kind).to_string()).unwrap();
        let tags = [("kind".to_owned(), kind.to_owned())].into();
        node.publish("a", &PublishParams { data, tags, ..PublishParams::default() }).now().unwrap();
    }
    assert_eq!(client.publications(), [json!("goal")]);
}
