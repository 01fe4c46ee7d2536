//! The kit against the real server, where there is one to start.

use bowline_incidents::kit::{self, Client, Server};
use bowline_incidents::{Need, Trouble};
use serde_json::json;

/// Whether `bowline` is there. Continuous integration builds it first; whoever runs this crate's tests alone may not have.
fn is_here() -> bool {
    let missing = kit::missing(Need::Server);
    let Some(why) = &missing else { return true };
    assert!(std::env::var_os("CI").is_none(), "{why}");
    println!("not run: {why}");
    false
}

#[tokio::test]
async fn a_server_is_started_driven_asked_killed_and_started_again() -> Result<(), Trouble> {
    if !is_here() {
        return Ok(());
    }
    let mut server = Server::start(&[("channel.without_namespace.presence", "true")]).await?;
    let mut listener = Client::connect(server.public()).await?;
    listener.subscribe("news").await?;
    let mut speaker = Client::connect(server.public()).await?;
    speaker.publish("news", &json!({ "n": 1 })).await?;
    assert_eq!(listener.recv().await?["pub"]["data"], json!({ "n": 1 }));
    server.api("publish", &json!({ "channel": "news", "data": 2 })).await?;
    assert_eq!(listener.recv().await?["pub"]["data"], json!(2));
    let present = listener.call("presence", json!({ "channel": "news" })).await?;
    assert_eq!(present["presence"]["presence"].as_object().map(serde_json::Map::len), Some(1));
    let refused = speaker.call("rpc", json!({ "method": "nothing" })).await.unwrap_err();
    assert!(refused.to_string().contains("code"), "{refused}");

    assert!(server.tasks().await? >= 2);
    assert!(server.resident_bytes() > 1_000_000);
    assert!(server.metric("bowline_connections").await? >= 2.0);

    speaker.vanish();
    server.kill();
    assert!(!server.process().is_running());
    assert!(listener.recv().await.is_err(), "a killed server says no more");
    server.restart().await?;
    Client::connect(server.public()).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_with_wrong_settings_is_quoted() {
    if !is_here() {
        return;
    }
    let error = Server::start(&[("client.no_such_key", "1")]).await.unwrap_err().to_string();
    assert!(error.contains("no_such_key"), "{error}");
}
