//! Processes that answer as they should not.

use std::time::Duration;

use bowline::scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::client::{Wanted, WantedTasks};
use super::super::{Options, Page, Target, TopError, once};

/// What `bowline top --once` says of a process that answers the n-th request with the n-th text, and then is gone.
async fn said_of(answers: Vec<Vec<u8>>, pictures: u32) -> Result<String, TopError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    scope("fake process", async |s| {
        s.spawn_daemon("process", async move {
            let mut answers = answers.into_iter().peekable();
            while answers.peek().is_some() {
                let (mut stream, _) = listener.accept().await.map_err(TopError::Terminal)?;
                let mut read = [0; 4096];
                if let (Ok(1..), Some(answer)) = (stream.read(&mut read).await, answers.next()) {
                    let _ = stream.write_all(&answer).await;
                }
            }
            drop(listener);
            Err(bowline::cancelled().await.into())
        });
        let options = Options {
            target: Target::parse(&address.to_string()).expect("it is an address"),
            every: Duration::from_millis(1),
            max_tasks: 100,
            page: Page::Tasks,
            filter: String::new(),
        };
        once(options, (80, 24), pictures).await
    })
    .await
}

fn wanted() -> Wanted {
    Wanted { tasks: WantedTasks::Tree { each: 10 }, opened: None }
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn not_found() -> Vec<u8> {
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()
}

/// What is said of a process that has one answer to everything.
async fn error_of(answer: Vec<u8>) -> String {
    said_of(vec![answer.clone(), answer], 1).await.expect_err("that is no tree").to_string()
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let cases = [
        (not_found(), "there is no page /debug/bowline/tasks"),
        (ok("<html>"), "is not Bowline's JSON"),
        (ok("{\"hello\": 1}"), "are no tasks"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec(), "with 403 Forbidden"),
        (b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), "does not speak HTTP"),
    ];
    for (answer, said) in cases {
        let error = error_of(answer).await;
        assert!(
            error.contains(said) && error.contains("looks at a process that serves /debug/bowline"),
            "{said}: {error}"
        );
    }
    let nobody =
        TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("it is bound");
    let target = Target::parse(&nobody.to_string()).expect("it is an address");
    let error = super::super::client::picture(&target, &wanted()).await.expect_err("nobody is there");
    assert!(
        error.to_string().contains("connection refused") && error.advice().contains("bowline serve"),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40).into_bytes();
    let error = error_of([endless, vec![b' '; 20 << 20]].concat()).await;
    assert!(error.contains("larger than 16 MiB"), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_no_tree() {
    let error = error_of(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"tasks\": 1".to_vec()).await;
    assert!(error.contains("the connection broke"), "{error}");
}

/// Time is paused, so the patience is over at once.
#[tokio::test(start_paused = true)]
async fn a_process_that_never_answers_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target =
        Target::parse(&listener.local_addr().expect("it is bound").to_string()).expect("it is an address");
    let error = super::super::client::picture(&target, &wanted()).await.expect_err("nobody answers");
    assert!(error.to_string().contains("no answer within 5s"), "{error}");
}

#[tokio::test]
async fn an_older_process_has_fewer_pages_and_one_that_is_gone_is_said_to_be() {
    let tree = ok(
        r#"{"tasks": 1, "roots": [{"id": 1, "name": "old", "kind": "root", "tasks": [{"id": 2, "name": "main"}]}]}"#,
    );
    let pages = vec![not_found(), tree, not_found(), not_found(), not_found(), not_found()];
    let said = said_of(pages.clone(), 1).await.expect("one picture");
    assert!(said.contains("root old") && said.contains("main"), "{said}");
    let said = said_of(pages, 2).await.expect("the first picture is kept");
    assert!(said.contains("root old") && said.contains("no connection"), "{said}");
}
