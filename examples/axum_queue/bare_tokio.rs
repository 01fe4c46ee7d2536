//! The sign-up form of `bowline.rs` on bare tokio, as it is written with care today.
//!
//! The end is spelled out step by step, and stays right only while nobody keeps a clone of the sender. A mailer that panics
//! is noticed when the program ends: until then the server answers 503 to everybody. The limit of the shutdown is one more
//! time-out, and it cannot say what was still running.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "this is the bare form")]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bowline_examples::{demo_wanted, listen, port_or};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

mod demo;

/// Mails that may wait. At one mail a second they fit into [`SHUTDOWN_TIMEOUT`].
const QUEUED_MAILS: usize = 16;
/// A sign-up that takes longer, because its client does not send what it announced, is answered with 408.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// A conversation with the mail server that takes longer is given up.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// From the signal to the end, whatever happens.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

struct Mail {
    to: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let stopping = cancelled_by_signal()?;
    let (mail_listener, mail_server) = listen(0).await?;
    let (listener, address) = listen(port_or(3000)).await?;
    println!(
        "try: curl -i -d ann@example.org http://{address}/signup    (one mail a second leaves; Ctrl-C ends)"
    );
    let slow = demo::mail_server(mail_listener, |line| {
        println!("sending {line}");
        tokio::time::sleep(Duration::from_secs(1))
    });
    let too_late = {
        let stopping = stopping.clone();
        async move {
            stopping.cancelled().await;
            tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
        }
    };
    tokio::select! {
        ended = serve(listener, mail_server, stopping.cancelled_owned()) => drop(ended?),
        broken = slow => match broken? {},
        () = too_late => bail!("the shutdown took too long"),
    }
    Ok(())
}

/// A token that SIGINT and SIGTERM cancel. The handlers must be there before anybody is told to press Ctrl-C.
fn cancelled_by_signal() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}

/// Serves until `stop`, then sends what was accepted; returns how many mails were sent.
async fn serve(
    listener: TcpListener,
    mail_server: SocketAddr,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<usize> {
    let (mails, mut inbox) = mpsc::channel(QUEUED_MAILS);
    let mailer = tokio::spawn(async move {
        let mut sent = 0;
        while let Some(mail) = inbox.recv().await {
            match deliver(mail_server, &mail).await {
                Ok(()) => sent += 1,
                Err(error) => eprintln!("mail to {} is lost: {error:#}", mail.to),
            }
        }
        sent
    });
    // The router must own the only sender: a clone kept here would keep the mailer, and us, for ever.
    let app = Router::new().route("/signup", post(sign_up)).with_state(mails);
    let app = app.layer(from_fn(under_a_deadline));
    let served = axum::serve(listener, app).with_graceful_shutdown(stop).await;
    let sent = mailer.await.context("the mailer panicked")?;
    served?;
    Ok(sent)
}

async fn under_a_deadline(request: Request, next: Next) -> Response {
    let answer = timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answer.unwrap_or_else(|_late| StatusCode::REQUEST_TIMEOUT.into_response())
}

async fn sign_up(State(mails): State<mpsc::Sender<Mail>>, to: String) -> StatusCode {
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
