//! What happens because time passes, on the paused clock.

use tokio::time::{Instant, advance};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl Client {
    /// Lets time pass up to the session's next deadline and runs it; answers how long that was.
    async fn next_timer(&mut self) -> (Duration, Result<(), Disconnect>) {
        let wait = self.session.next_deadline() - Instant::now();
        advance(wait).await;
        (wait, self.session.on_timer(Instant::now()).map(drop))
    }

    /// Lets `duration` pass, running every deadline and answering every ping on the way.
    async fn live(&mut self, duration: Duration) -> Result<Vec<Value>, Disconnect> {
        let end = Instant::now() + duration;
        let mut received = Vec::new();
        while self.session.next_deadline() <= end {
            self.next_timer().await.1?;
            for message in self.received() {
                if message == json!({}) {
                    self.send("{}").await?;
                } else {
                    received.push(message);
                }
            }
        }
        advance(end - Instant::now()).await;
        Ok(received)
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_authenticate_is_stale() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    assert_eq!(client.next_timer().await, (10 * SECOND, Err(Disconnect::STALE)));

    let mut refused = Client::open(&node);
    advance(4 * SECOND).await;
    let expired = token(json!({"sub": "42", "exp": from_now(-10)}));
    refused.error("connect", json!({"token": expired})).await;
    assert_eq!(refused.next_timer().await, (6 * SECOND, Err(Disconnect::STALE)));
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_is_called_early_does_nothing() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    let deadline = client.session.next_deadline();
    assert_eq!(client.session.on_timer(Instant::now()), Ok(deadline));
    let mut client = Client::anonymous(&node).await;
    let deadline = client.session.next_deadline();
    assert_eq!(client.session.on_timer(Instant::now()), Ok(deadline));
    assert!(client.received().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_first_ping_comes_at_random_and_the_others_by_the_interval() {
    let node = node(|_| {});
    let mut first_waits = Vec::new();
    for _ in 0..20 {
        let mut client = Client::anonymous(&node).await;
        let (wait, done) = client.next_timer().await;
        assert_eq!(done, Ok(()));
        assert!(wait >= Duration::from_millis(12_500) && wait <= 25 * SECOND, "{wait:?}");
        first_waits.push(wait);
        assert_eq!(client.received(), [json!({})]);
        client.send("{}").await.unwrap();
        for _ in 0..3 {
            let (wait, done) = client.next_timer().await;
            assert_eq!((wait, done), (25 * SECOND, Ok(())));
            assert_eq!(client.received(), [json!({})]);
            client.send("{}").await.unwrap();
        }
    }
    first_waits.dedup();
    assert!(first_waits.len() > 1, "not the same for everyone");
}

#[tokio::test(start_paused = true)]
async fn a_ping_without_pong_ends_the_connection() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    client.next_timer().await.1.unwrap();
    assert_eq!(client.next_timer().await, (8 * SECOND, Err(Disconnect::NO_PONG)));
}

#[tokio::test(start_paused = true)]
async fn only_a_pong_counts_as_a_pong() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    client.next_timer().await.1.unwrap();
    client.command("ping", json!({})).await.unwrap();
    assert_eq!(client.next_timer().await.1, Err(Disconnect::NO_PONG));
}

#[tokio::test(start_paused = true)]
async fn a_pong_nobody_asked_for_breaks_the_protocol() {
    let node = node(|_| {});
    assert_eq!(Client::anonymous(&node).await.send("{}").await, Err(Disconnect::BAD_REQUEST));
    assert_eq!(Client::open(&node).send("{}").await, Err(Disconnect::BAD_REQUEST));
    let mut client = Client::anonymous(&node).await;
    client.next_timer().await.1.unwrap();
    client.send(r#"{"subscribe":{"channel":"without an id"}}"#).await.expect("counts as a pong");
    assert_eq!(client.send("{}").await, Err(Disconnect::BAD_REQUEST), "the second one");
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_nobody_renews_it() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    client.ask("connect", json!({"token": token(json!({"sub": "42", "exp": from_now(60)}))})).await;
    // A second for the wall clock, which tokens are measured by and which no test stops.
    assert_eq!(client.live(83 * SECOND).await, Ok(vec![]));
    assert_eq!(client.live(3 * SECOND).await, Err(Disconnect::EXPIRED));
}

#[tokio::test(start_paused = true)]
async fn a_renewed_connection_goes_on() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    client.ask("connect", json!({"token": token(json!({"sub": "42", "exp": from_now(60)}))})).await;
    client.live(70 * SECOND).await.unwrap();
    let renewed = token(json!({"sub": "42", "exp": from_now(1000)}));
    client.ask("refresh", json!({"token": renewed})).await;
    assert_eq!(client.live(900 * SECOND).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_when_nobody_renews_it() {
    let node = node_with(|options| options.presence = true);
    let mut client = Client::of(&node, "42").await;
    let claims = json!({"sub": "42", "channel": "a", "exp": from_now(60)});
    client.ask("subscribe", json!({"channel": "a", "token": token(claims)})).await;
    client.ask("subscribe", json!({"channel": "b"})).await;
    assert_eq!(client.live(83 * SECOND).await, Ok(vec![]));
    publish(&node, "a", json!(1));
    assert_eq!(client.publications(), [1], "still there while it may be renewed");
    let received = client.live(3 * SECOND).await.expect("the connection stays");
    let told = json!({"channel": "a", "unsubscribe": {"code": 2501, "reason": "subscription expired"}});
    assert_eq!(received, [json!({"push": told})]);
    publish(&node, "a", json!(2));
    publish(&node, "b", json!(3));
    assert_eq!(client.publications(), [3]);
    assert!(node.presence("a").unwrap().is_empty());
    client.ask("subscribe", json!({"channel": "a"})).await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_server_side_subscription_ends_the_connection() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    client.ask("connect", json!({"token": token(json!({"sub": "42", "channels": ["a"]}))})).await;
    let claims = json!({"sub": "42", "channel": "a", "exp": from_now(60)});
    client.ask("sub_refresh", json!({"channel": "a", "token": token(claims)})).await;
    assert_eq!(client.live(90 * SECOND).await, Err(Disconnect::SUBSCRIPTION_EXPIRED));
}

/// A node whose channels outside namespaces are positioned and forget their stream after `meta` seconds.
fn positioned(meta: u64) -> Arc<Node> {
    node_with(|options| {
        with_history(options);
        options.history_ttl = seconds(5);
        options.force_positioning = true;
        options.history_meta_ttl = seconds(meta);
    })
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_lost_is_noticed_without_a_publication() {
    let node = positioned(30);
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    let received = client.live(41 * SECOND).await.expect("the connection stays");
    let told = json!({"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}});
    assert_eq!(received, [json!({"push": told})]);
    assert_eq!(node.stats().subscriptions, 0);
    client.ask("subscribe", json!({"channel": "a"})).await;
}

#[tokio::test(start_paused = true)]
async fn listening_keeps_a_stream_remembered() {
    let node = positioned(50);
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    publish(&node, "a", json!(1));
    client.received();
    assert_eq!(client.live(1000 * SECOND).await, Ok(vec![]));
    publish(&node, "a", json!(2));
    assert_eq!(client.pushes()[0]["pub"]["offset"], 2);
}

#[tokio::test(start_paused = true)]
async fn another_epoch_ends_positioned_subscriptions_with_2500() {
    let node = positioned(10);
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    publish(&node, "a", json!(1));
    client.received();
    advance(11 * SECOND).await;
    publish(&node, "a", json!(2));
    let pushes = client.pushes();
    assert_eq!(pushes.len(), 1, "not the publication: {pushes:?}");
    assert_eq!(pushes[0]["unsubscribe"]["code"], 2500);
    client.ask("subscribe", json!({"channel": "a"})).await;
    publish(&node, "a", json!(3));
    assert_eq!(client.pushes()[0]["pub"]["offset"], 2);
}
