//! Clients that only listen: one connect request, and bare pushes from then on.

use tokio::time::Instant;

use super::*;
use crate::node::Wire;

/// What comes of a connect request.
fn listen(node: &Arc<Node>, request: &Value) -> Result<Client, Disconnect> {
    let outbox = node.outbox_for(Wire::JSON.unidirectional());
    let session = Session::new(Arc::clone(node), Transport::UNI_SSE, outbox.clone());
    let mut client = Client { session, outbox, id: 0, backlog: RefCell::default() };
    client.session.feed(request.to_string().as_bytes())?;
    Ok(client)
}

impl Client {
    /// The connect push, which is all there is.
    fn connect_push(&self) -> Value {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.pop().unwrap()["connect"].take()
    }
}

#[tokio::test]
async fn a_listener_gets_a_connect_push_and_bare_pushes_and_answers_no_pings() {
    let node = node(|_| {});
    let token = token(json!({"sub": "42", "channels": ["news"]}));
    let mut client = listen(&node, &json!({"token": token})).unwrap();
    let push = client.connect_push();
    assert_eq!(push["client"], client.id());
    assert!(push["ping"] == 25 && push.get("pong").is_none(), "{push}");
    assert!(push["subs"]["news"].is_object() && push.get("session").is_none(), "{push}");
    publish(&node, "news", json!({"a": 1}));
    assert_eq!(client.received(), [json!({"channel": "news", "pub": {"data": {"a": 1}}})]);
    let mut now = Instant::now();
    for _ in 0..3 {
        now += Duration::from_secs(26);
        client.session.on_timer(now).expect("no pong is waited for");
        assert_eq!(client.received(), [json!({})]);
    }
}

#[tokio::test]
async fn of_what_a_listener_wishes_it_gets_what_it_may_have() {
    let node = node(|config| {
        add_namespace(config, "closed", |_| {});
        add_namespace(config, "open", |options| options.allow_subscribe_for_client = true);
    });
    let of_42 = |channel: &str| token(json!({"sub": "42", "channel": channel}));
    let wishes = json!({
        "news": {}, "open:a": {}, "closed:a": {}, "closed:b": {"token": of_42("closed:b")},
        "$secret": {}, "$mine": {"token": of_42("$mine")}, "nowhere:a": {}, "": {}, "größer": {},
    });
    let client = listen(&node, &json!({"token": token(json!({"sub": "42"})), "subs": wishes})).unwrap();
    let push = client.connect_push();
    let got: Vec<_> = push["subs"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(got, ["$mine", "closed:b", "news", "open:a"]);
    publish(&node, "open:a", json!(1));
    publish(&node, "closed:a", json!(2));
    assert_eq!(client.received(), [json!({"channel": "open:a", "pub": {"data": 1}})]);
    // Anonymous, it may have less.
    let client = listen(&node, &json!({"subs": {"news": {}, "open:a": {}}})).unwrap();
    let push = client.connect_push();
    assert_eq!(push["subs"].as_object().unwrap().keys().collect::<Vec<_>>(), ["news"]);
}

#[tokio::test]
async fn a_token_that_was_revoked_is_no_wish() {
    let node = node(|config| add_namespace(config, "closed", |_| {}));
    let wish = |id: &str| json!({"token": token(json!({"sub": "42", "channel": "closed:a", "jti": id}))});
    let got = |id: &str| {
        let request = json!({"token": token(json!({"sub": "42"})), "subs": {"closed:a": wish(id)}});
        listen(&node, &request).unwrap().connect_push()["subs"]["closed:a"].is_object()
    };
    assert!(got("t1") && got("t2"));
    node.revoke_token("t1", 0).unwrap();
    assert!(!got("t1") && got("t2"));
}

/// Some WebSockets answer pings by themselves.
#[tokio::test]
async fn a_pong_of_a_listener_is_nothing_to_close_it_for() {
    let node = node(|_| {});
    let mut client = listen(&node, &json!({"token": token(json!({"sub": "42"}))})).unwrap();
    client.session.take_pong().unwrap();
}

#[tokio::test]
async fn a_listener_that_comes_back_gets_what_it_missed() {
    let node = node_with(|options| {
        with_history(options);
        options.force_recovery = true;
        options.allow_subscribe_for_client = true;
        options.allow_subscribe_for_anonymous = true;
    });
    publish(&node, "a", json!(1));
    let push = listen(&node, &json!({"subs": {"a": {}}})).unwrap().connect_push();
    let (offset, epoch) = (push["subs"]["a"]["offset"].clone(), push["subs"]["a"]["epoch"].clone());
    publish(&node, "a", json!(2));
    publish(&node, "a", json!(3));
    let wish = json!({"a": {"recover": true, "offset": offset, "epoch": epoch}});
    let push = listen(&node, &json!({"subs": wish})).unwrap().connect_push();
    let sub = &push["subs"]["a"];
    assert_eq!(sub["recovered"], true, "{sub}");
    let data: Vec<_> = sub["publications"].as_array().unwrap().iter().map(|p| p["data"].clone()).collect();
    assert_eq!(data, [json!(2), json!(3)]);
}

#[tokio::test]
async fn a_listener_that_cannot_come_in_is_told_by_the_end_of_its_connection() {
    let node = node(|config| {
        config.client.allow_anonymous_connect_without_token = false;
        config.client.channel_limit = std::num::NonZeroUsize::new(2).unwrap();
    });
    let valid = token(json!({"sub": "42"}));
    let end = |request: Value| listen(&node, &request).map(|_| ()).unwrap_err().code;
    assert_eq!(end(json!({})), 3501, "who is it?");
    assert_eq!(end(json!([])), 3501, "no request");
    assert_eq!(end(json!({"token": "false"})), 3500);
    assert_eq!(end(json!({"token": token(json!({"sub": "42", "exp": from_now(-10)}))})), 3005, "comes back");
    assert_eq!(
        end(json!({"token": token(json!({"sub": "42", "channels": ["nowhere:a"]}))})),
        3507,
        "stays away"
    );
    let too_many = json!({"a": {}, "b": {}, "c": {}});
    assert_eq!(end(json!({"token": valid, "subs": too_many})), 3505);
    let of_another = token(json!({"sub": "43", "channel": "a"}));
    assert_eq!(end(json!({"token": valid, "subs": {"a": {"token": of_another}}})), 3500);
    assert_eq!(node.stats().clients, 0, "none of them leaves anything");
}

#[tokio::test]
async fn a_listener_that_says_more_breaks_the_protocol() {
    let node = node(|_| {});
    for more in ["{}", r#"{"id":2,"subscribe":{"channel":"a"}}"#, "", "x"] {
        let mut client = listen(&node, &json!({})).unwrap();
        assert_eq!(client.session.feed(more.as_bytes()), Err(Disconnect::BAD_REQUEST), "{more:?}");
    }
}

#[tokio::test]
async fn nothing_at_all_is_a_connect_request_too() {
    let node = node(|_| {});
    let outbox = node.outbox_for(Wire::JSON.unidirectional());
    let mut session = Session::new(Arc::clone(&node), Transport::UNI_HTTP_STREAM, outbox);
    session.feed(b"").unwrap();
    assert!(session.client().is_some());
}
