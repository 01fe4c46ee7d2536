//! A mail server that is as slow as it is told to be, and a demonstration that fills the queue and then shuts down.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Mutex;

use bowline::{Either, race};
use bowline_examples::{accept, listen, request, stop_switch};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::{QUEUED_MAILS, serve};

/// Takes one `MAIL address` at a time, calls `before_reply`, and answers `250`; for ever.
pub(crate) async fn mail_server<F>(
    listener: TcpListener,
    mut before_reply: impl FnMut(String) -> F,
) -> anyhow::Result<Infallible>
where
    F: Future<Output = ()>,
{
    loop {
        let mut peer = BufStream::new(accept(&listener).await);
        let mut line = String::new();
        peer.read_line(&mut line).await?;
        before_reply(line.trim_end().to_owned()).await;
        peer.write_all(b"250 ok\n").await?;
        peer.flush().await?;
    }
}

/// Announces more than it sends; returns the answer.
async fn half_a_request(to: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(to).await?;
    let head = b"POST /signup HTTP/1.1\r\nHost: here\r\nContent-Length: 15\r\nConnection: close\r\n\r\n";
    socket.write_all(&[head, &b"ann@"[..]].concat()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Runs `serve` against a mail server that hangs: the queue fills, a sign-up is refused; then the program is told to stop,
/// the mail server recovers, and everything that was accepted is sent.
pub(crate) async fn run() -> anyhow::Result<()> {
    let (mail_listener, mail) = listen(0).await?;
    let (listener, address) = listen(0).await?;
    let (stop, stopped) = stop_switch();
    let in_hand = Notify::new();
    let recovered = Semaphore::new(0);
    let received = Mutex::new(Vec::new());

    let mail_server = mail_server(mail_listener, |line| {
        received.lock().unwrap().push(line);
        in_hand.notify_one();
        async { recovered.acquire().await.unwrap().forget() }
    });
    let sign_ups = async {
        let sign_up = |name: String| request("POST", address, "/signup", name);
        assert_eq!(sign_up("first".into()).await?.0, 202);
        in_hand.notified().await; // the mailer holds it, the queue is empty
        for n in 1..=QUEUED_MAILS {
            assert_eq!(sign_up(format!("user{n}")).await?.0, 202);
        }
        assert_eq!(sign_up("one too many".into()).await?.0, 503);
        println!("{QUEUED_MAILS} mails wait, the next sign-up got 503; stopping");
        assert!(half_a_request(address).await?.starts_with("HTTP/1.1 408"));
        println!("a client that sent half of its request got 408");
        drop(stop);
        recovered.add_permits(1 + QUEUED_MAILS);
        anyhow::Ok(())
    };
    let programs = async { tokio::try_join!(serve(listener, mail, stopped), sign_ups) };
    match race(mail_server, programs).await {
        Either::Left(broken) => match broken? {},
        Either::Right(ended) => {
            let (sent, ()) = ended?;
            println!("stopped with {sent} mails sent");
            assert_eq!(sent, 1 + QUEUED_MAILS);
            assert_eq!(received.lock().unwrap().len(), sent);
        }
    }
    Ok(())
}

#[cfg(test)]
#[bowline::test]
async fn does_what_it_says_and_leaves_no_task_behind() -> anyhow::Result<()> {
    bowline::timeout(std::time::Duration::from_secs(30), Box::pin(run())).await?
}
