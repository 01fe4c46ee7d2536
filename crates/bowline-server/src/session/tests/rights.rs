//! Every way to a channel's content asks the same question, and what allowed one thing allows nothing else. The cases are
//! bypasses that other servers had: a way that nobody asked at, a name that only looks like another, a right that outlives
//! what it came from.

use std::time::Duration;

use bowline_protocol::UnsubscribeCode;
use tokio::time::Instant;

use super::*;
use crate::node::Target;

/// A channel that has everything there is to get, and lets nobody at it.
fn full(options: &mut ChannelOptions) {
    with_history(options);
    options.presence = true;
    options.join_leave = true;
}

/// What a client can ask of channel `a`, with the option that allows it to a client.
type Allowed = fn(&mut ChannelOptions);

const WAYS: [(&str, Allowed); 5] = [
    ("subscribe", |options| options.allow_subscribe_for_client = true),
    ("publish", |options| options.allow_publish_for_client = true),
    ("history", |options| options.allow_history_for_client = true),
    ("presence", |options| options.allow_presence_for_client = true),
    ("presence_stats", |options| options.allow_presence_for_client = true),
];

fn request(way: &str, channel: &str) -> Value {
    match way {
        "publish" => json!({"channel": channel, "data": 1}),
        "history" => json!({"channel": channel, "limit": -1}),
        _ => json!({"channel": channel}),
    }
}

#[tokio::test]
async fn what_no_option_allows_is_denied_on_every_way() {
    let node = node(|config| add_namespace(config, "closed", full));
    publish(&node, "closed:a", json!("secret"));
    for user in ["42", ""] {
        let mut client =
            if user.is_empty() { Client::anonymous(&node).await } else { Client::of(&node, user).await };
        for (way, _) in WAYS {
            assert_eq!(client.error(way, request(way, "closed:a")).await, 103, "{way}");
        }
        let token = token(json!({"sub": user, "channel": "closed:a"}));
        let refresh = json!({"channel": "closed:a", "token": token});
        assert_eq!(client.error("sub_refresh", refresh).await, 103, "of a subscription that is not there");
    }
    assert_eq!(node.stats().publications, 1);
}

#[tokio::test]
async fn a_right_to_one_thing_is_no_right_to_another() {
    for (granted, allow) in WAYS {
        let node = node(|config| {
            add_namespace(config, "one", |options| {
                full(options);
                allow(options);
            });
        });
        for (way, _) in WAYS {
            let mut client = Client::of(&node, "42").await;
            // Both ways of looking at who is there are one right.
            let is_granted =
                way == granted || (way.starts_with("presence") && granted.starts_with("presence"));
            if is_granted {
                client.ask(way, request(way, "one:a")).await;
            } else {
                assert_eq!(client.error(way, request(way, "one:a")).await, 103, "{granted} allowed {way}");
            }
        }
    }
}

/// What a subscriber may do ends with the subscription, in whichever way that ends.
#[tokio::test(start_paused = true)]
async fn rights_of_a_subscriber_end_with_the_subscription() {
    let node = node(|config| {
        config.client.expired_sub_close_delay = Duration::from_secs(1);
        add_namespace(config, "room", |options| {
            full(options);
            options.allow_publish_for_subscriber = true;
            options.allow_history_for_subscriber = true;
            options.allow_presence_for_subscriber = true;
        });
    });
    let ways = ["publish", "history", "presence", "presence_stats"];
    let subscribe = |claims: Value| json!({"channel": "room:a", "token": token(claims)});
    let endings: [(&str, Value); 3] = [
        ("unsubscribe", json!({"sub": "42", "channel": "room:a"})),
        ("server", json!({"sub": "42", "channel": "room:a"})),
        ("expiry", json!({"sub": "42", "channel": "room:a", "exp": from_now(2)})),
    ];
    for (ending, claims) in endings {
        let mut client = Client::of(&node, "42").await;
        client.ask("subscribe", subscribe(claims)).await;
        for way in ways {
            client.ask(way, request(way, "room:a")).await;
        }
        match ending {
            "unsubscribe" => drop(client.ask("unsubscribe", json!({"channel": "room:a"})).await),
            "server" => {
                let everywhere = Target::default();
                node.unsubscribe("42", "room:a", &everywhere, &UnsubscribeCode::SERVER).unwrap();
            }
            _ => {
                tokio::time::advance(Duration::from_secs(10)).await;
                client.session.on_timer(Instant::now()).unwrap();
            }
        }
        client.received();
        for way in ways {
            assert_eq!(client.error(way, request(way, "room:a")).await, 103, "{way} after {ending}");
        }
        publish(&node, "room:a", json!("later"));
        assert_eq!(client.received(), Vec::<Value>::new(), "delivered after {ending}");
    }
}

/// NATS advisories of retained messages that reached those who may not subscribe: what was published before is as
/// protected as what comes.
#[tokio::test]
async fn a_position_that_is_known_opens_no_past() {
    let node = node_with(|options| {
        full(options);
        options.allow_subscribe_for_client = true;
    });
    publish(&node, "a", json!("before"));
    let epoch = node
        .publish("a", &PublishParams { data: Payload::from_json("1").unwrap(), ..Default::default() })
        .now();
    let epoch = epoch.unwrap().expect("it is kept").epoch;
    let mut client = Client::of(&node, "42").await;
    let wish = json!({"channel": "a", "recover": true, "recoverable": true, "positioned": true, "offset": 0, "epoch": epoch});
    let result = client.ask("subscribe", wish.clone()).await;
    assert!(result.get("publications").is_none() && result.get("recovered").is_none(), "{result}");
    assert!(result.get("offset").is_none(), "nor where the stream is: {result}");

    // The same wish for a channel that the server did not give, in the request that connects.
    let mut client = Client::open(&node);
    let claims = token(json!({"sub": "43"}));
    let result = client.ask("connect", json!({"token": claims, "subs": {"a": wish}})).await;
    assert!(result.get("subs").is_none(), "{result}");
    publish(&node, "a", json!("after"));
    assert_eq!(client.received(), Vec::<Value>::new());
}

/// A private channel is for those with a token, whatever its options allow to everybody: also its past and its members.
#[tokio::test]
async fn a_private_channel_shows_a_stranger_neither_its_past_nor_its_members() {
    let node = node_with(|options| {
        full(options);
        options.allow_subscribe_for_client = true;
        options.allow_history_for_client = true;
        options.allow_presence_for_client = true;
    });
    publish(&node, "$a", json!("secret"));
    let mut member = Client::of(&node, "42").await;
    let mut stranger = Client::of(&node, "43").await;
    member
        .ask("subscribe", json!({"channel": "$a", "token": token(json!({"sub": "42", "channel": "$a"}))}))
        .await;
    for way in ["subscribe", "history", "presence", "presence_stats"] {
        assert_eq!(stranger.error(way, request(way, "$a")).await, 103, "{way}");
    }
    for way in ["history", "presence", "presence_stats"] {
        member.ask(way, request(way, "$a")).await;
    }
}

/// One channel has one name. NATS and others compared names after changing them in one place and not in another.
#[tokio::test]
async fn names_that_look_alike_are_different_channels() {
    let node = node(|config| {
        let options = &mut config.channel.without_namespace;
        options.channel_regex = Some(".*".parse().unwrap());
        options.allow_user_limited_channels = true;
    });
    let names = [
        "news",
        "News",
        "news ",
        " news",
        "news.",
        "news/",
        "news\0",
        "news\n",
        "news\r\n",
        "n\u{e9}ws",
        "ne\u{301}ws",
        "*",
        ">",
        "news.*",
        "news.>",
        "%6eews",
    ];
    let mut clients = Vec::new();
    for name in names {
        let mut client = Client::of(&node, "42").await;
        client.ask("subscribe", json!({"channel": name})).await;
        clients.push(client);
    }
    for name in names {
        publish(&node, name, json!(name));
    }
    for (name, client) in names.iter().zip(&clients) {
        assert_eq!(client.publications(), [json!(name)], "{name:?}");
    }
    // A user whose id only looks like a listed one, or holds the sign between users.
    for user in ["4", "42 ", " 42", "42,43", "42\n", "042", "\u{ff14}\u{ff12}"] {
        let mut client = Client::of(&node, user).await;
        assert_eq!(client.error("subscribe", json!({"channel": "dialog#42"})).await, 103, "{user:?}");
    }
}

/// Signs that mean something elsewhere: each name goes through as it is, or is refused, and adds nothing to any message.
#[tokio::test]
async fn line_breaks_and_wildcards_in_names_stay_in_their_names() {
    let node = node_with(|options| {
        full(options);
        options.allow_publish_for_client = true;
        options.allow_presence_for_client = true;
        options.force_push_join_leave = true;
    });
    let nasty = "42\r\n\r\ndata {\"push\"}\nid 7\n\u{1b}[31m*>";
    let mut client = Client::of(&node, nasty).await;
    client.ask("subscribe", json!({"channel": nasty})).await;
    client.command("publish", json!({"channel": nasty, "data": {"text": nasty}})).await.unwrap();
    let mut frames = Vec::new();
    let _ = client.outbox.poll_drain(&mut Context::from_waker(Waker::noop()), &mut frames);
    assert!(frames.len() >= 2, "the publication and the reply");
    for frame in frames {
        let payload = frame.payload();
        assert!(
            !payload.iter().any(|byte| byte.is_ascii_control()),
            "{:?}",
            String::from_utf8_lossy(&payload)
        );
    }
    let present = client.ask("presence", json!({"channel": nasty})).await;
    assert_eq!(present["presence"][client.id()]["user"], nasty);
    client.received();
    // Without a rule of the operator's, what is not ASCII is refused before anything is made of it.
    assert_eq!(client.error("subscribe", json!({"channel": "news\u{2028}"})).await, 107);
}

/// Positions and limits come from outside as they are: no number is added to before it is checked.
#[tokio::test]
async fn positions_and_limits_at_the_edges_of_their_types_are_answered() {
    let node = node_with(|options| {
        full(options);
        options.allow_history_for_client = true;
        options.allow_subscribe_for_client = true;
        options.force_recovery = true;
    });
    for number in 0..3 {
        publish(&node, "a", json!(number));
    }
    let mut client = Client::of(&node, "42").await;
    let epoch = client.ask("history", json!({"channel": "a"})).await["epoch"].clone();
    let offsets = [0, 1, 3, 4, u64::MAX - 1, u64::MAX];
    for limit in [i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX - 1, i32::MAX] {
        for (offset, is_reverse) in offsets.into_iter().flat_map(|offset| [(offset, false), (offset, true)]) {
            for epoch in [&epoch, &json!(""), &json!("another")] {
                let since = json!({"offset": offset, "epoch": epoch});
                let wish = json!({"channel": "a", "limit": limit, "since": since, "reverse": is_reverse});
                client.command("history", wish.clone()).await.expect("the connection stays");
                let answers = client.received();
                let [answer] = &answers[..] else { panic!("{wish}: {answers:?}") };
                let found = answer["history"]["publications"].as_array().map(Vec::len);
                match found {
                    Some(found) => assert!(found <= 3 && (limit != 0 || found == 0), "{wish}: {answer}"),
                    None => assert!(
                        [107, 112].contains(&answer["error"]["code"].as_u64().unwrap()),
                        "{wish}: {answer}"
                    ),
                }
            }
        }
    }
    for offset in offsets {
        let mut client = Client::of(&node, "42").await;
        let wish = json!({"channel": "a", "recover": true, "offset": offset, "epoch": epoch});
        let result = client.ask("subscribe", wish).await;
        let is_known = offset <= 3;
        assert_eq!(result.get("recovered").is_some(), is_known, "{offset}: {result}");
        let missed = if is_known { 3 - offset as usize } else { 0 };
        assert_eq!(result["publications"].as_array().map_or(0, Vec::len), missed, "{offset}: {result}");
    }
}
