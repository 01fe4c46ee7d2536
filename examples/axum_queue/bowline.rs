//! A sign-up form over axum that sends its e-mails from a bounded queue in the background.
//!
//! Shown: a full queue refuses at once (503) instead of growing; a request that takes too long is answered (408) and gone;
//! Ctrl-C stops accepting, lets requests finish, sends what was accepted, and only then returns.
//!
//! What the bare form lacks: the order of the end is not written down anywhere here. axum lets go of its senders when the
//! last request is answered, that ends the mailer's loop, and the scope waits for the mailer. A mailer that panics or fails
//! stops the server instead of leaving a queue that nobody empties. What a handler calls has the request's deadline without
//! being told, and a task that it spawns as well. A drain that takes too long ends with exit code 3 and a
//! report that names the mailer. The queue's depth and refusals are in `bowline::tree()` without a line of code.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bowline::{Bound, FreeTx, Overflow, draining, scope, timeout};
use bowline_examples::{demo_wanted, listen, port_or};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};

mod demo;

/// Mails that may wait. At one mail a second they fit into the 24 s that a shutdown leaves for draining.
const QUEUED_MAILS: usize = 16;
/// A sign-up that takes longer, because its client does not send what it announced, is answered with 408.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// A conversation with the mail server that takes longer is given up.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

struct Mail {
    to: String,
}

#[bowline::main(name = "axum_queue", shutdown_within = "30s")]
async fn main() -> anyhow::Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let (mail_listener, mail_server) = listen(0).await?;
    let (listener, address) = listen(port_or(3000)).await?;
    println!(
        "try: curl -i -d ann@example.org http://{address}/signup    (one mail a second leaves; Ctrl-C ends)"
    );
    let slow = demo::mail_server(mail_listener, |line| {
        println!("sending {line}");
        tokio::time::sleep(Duration::from_secs(1))
    });
    scope("program", async |s| {
        s.spawn_daemon("mail server", slow); // somebody else's, really: it serves the others to their end
        serve(listener, mail_server, draining()).await.map(drop)
    })
    .await
}

/// Serves until `stop`, then sends what was accepted; returns how many mails were sent.
async fn serve(
    listener: TcpListener,
    mail_server: SocketAddr,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<usize> {
    scope("sign-ups", async |s| {
        let (mails, inbox) = s.queue("mails", Bound::items(QUEUED_MAILS), Overflow::Reject);
        let sent = s.spawn_with("mailer", inbox, async move |_cx, inbox| {
            let mut sent = 0;
            // Ends when nobody can sign up any more; `?`: unless the shutdown runs out of time, which the report then says.
            while let Some(mail) = inbox.recv().await? {
                match deliver(mail_server, &mail).await {
                    Ok(()) => sent += 1,
                    Err(error) => eprintln!("mail to {} is lost: {error:#}", mail.to),
                }
            }
            Ok(sent)
        });
        // axum keeps its state in tasks of its own: from here on nobody can say who holds these senders.
        let app = Router::new().route("/signup", post(sign_up)).with_state(mails.free());
        let app = app.layer(from_fn(under_a_deadline));
        axum::serve(listener, app).with_graceful_shutdown(stop).await?;
        Ok(sent.await?)
    })
    .await
}

async fn under_a_deadline(request: Request, next: Next) -> Response {
    let answer = timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answer.unwrap_or_else(|_late| StatusCode::REQUEST_TIMEOUT.into_response())
}

async fn sign_up(State(mails): State<FreeTx<Mail>>, to: String) -> StatusCode {
    match mails.try_send(Mail { to }) {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn deliver(mail_server: SocketAddr, mail: &Mail) -> anyhow::Result<()> {
    let conversation = async {
        let mut server = BufStream::new(TcpStream::connect(mail_server).await?);
        server.write_all(format!("MAIL {}\n", mail.to).as_bytes()).await?;
        server.flush().await?;
        let mut reply = String::new();
        server.read_line(&mut reply).await?;
        Ok::<_, io::Error>(reply)
    };
    let reply = timeout(DELIVERY_TIMEOUT, conversation).await??;
    if !reply.starts_with("250") {
        bail!("the mail server said {reply:?}");
    }
    Ok(())
}
