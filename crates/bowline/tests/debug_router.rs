//! The pages as routes of axum, over real sockets.

use std::time::Duration;

use axum::Router;
use bowline::{Cancelled, debug, scope, sleep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request on a connection of its own: status, head and body.
async fn ask(port: u16, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!("{request} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}

#[bowline::test]
async fn the_routes_answer_and_leave_the_rest_to_others() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = Router::new().merge(debug::router());
    let ended = scope("app", async |s| {
        s.spawn_daemon("worker", sleep_for_ever());
        s.spawn_daemon("server", async move {
            axum::serve(listener, app).await.ok();
            unreachable!("it serves for ever")
        });
        let (status, head, body) = ask(port, "GET /debug/bowline/tasks?name=worker").await;
        assert_eq!(status, 200, "{head}");
        assert!(
            head.contains("content-type: application/json") && head.contains("cache-control: no-store"),
            "{head}"
        );
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&json["matched"], &json["tasks"][0]["name"]), (&1.into(), &"worker".into()), "{body}");
        assert_eq!(ask(port, "GET /debug/bowline/tasks?limit=many").await.0, 400);
        assert_eq!(ask(port, "GET /debug/bowline/").await.0, 200);
        assert_eq!(ask(port, "GET /debug/bowline").await.0, 200);
        assert_eq!(ask(port, "GET /debug/bowline/none").await.0, 404);
        assert_eq!(ask(port, "GET /other").await.0, 404);
        let (status, _, body) = ask(port, "HEAD /debug/bowline/tree").await;
        assert_eq!((status, &*body), (200, ""));
        assert_eq!(ask(port, "POST /debug/bowline/tree").await.0, 405);
        Ok::<_, Cancelled>(())
    });
    ended.await.unwrap();
}

async fn sleep_for_ever() -> Result<std::convert::Infallible, Cancelled> {
    loop {
        sleep(Duration::from_secs(3_600)).await?;
    }
}
