//! Three upstream servers on loopback, the third of which never answers, and a demonstration that counts what is left open.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use bowline::{Either, race};
use bowline_examples::{accept, listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::page;

/// An upstream service of the page.
#[derive(Clone, Copy)]
pub(crate) struct Upstream {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
}

static OPEN_CALLS: AtomicUsize = AtomicUsize::new(0);

/// Counts a call as open until it is dropped.
pub(crate) struct OpenCall;

impl OpenCall {
    pub(crate) fn begin() -> Self {
        OPEN_CALLS.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        OPEN_CALLS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The servers, not yet running: two that answer at once, and one that never does.
pub(crate) struct Servers {
    listeners: [TcpListener; 3],
    open_sockets: watch::Sender<usize>,
}

impl Servers {
    pub(crate) async fn bind() -> io::Result<(Self, [Upstream; 3])> {
        let [profile, orders, advice] = [listen(0).await?, listen(0).await?, listen(0).await?];
        let upstreams = [("profile", &profile), ("orders", &orders), ("advice", &advice)]
            .map(|(name, (_, address))| Upstream { name, address: *address });
        let listeners = [profile.0, orders.0, advice.0];
        Ok((Self { listeners, open_sockets: watch::Sender::new(0) }, upstreams))
    }

    /// Answers for ever.
    pub(crate) async fn run(&self) -> io::Result<Infallible> {
        let [profile, orders, advice] = &self.listeners;
        let answers = [Some("Ann"), Some("3 open orders"), None];
        let (never, ..) = tokio::try_join!(
            self.answer(profile, answers[0]),
            self.answer(orders, answers[1]),
            self.answer(advice, answers[2])
        )?;
        Ok(never)
    }

    async fn answer(&self, listener: &TcpListener, body: Option<&str>) -> io::Result<Infallible> {
        loop {
            let mut socket = accept(listener).await;
            self.open_sockets.send_modify(|open| *open += 1);
            let mut request = [0; 1024];
            if socket.read(&mut request).await? > 0
                && let Some(body) = body
            {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                socket.write_all((head + body).as_bytes()).await?;
                socket.shutdown().await?;
            }
            while socket.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {}
            self.open_sockets.send_modify(|open| *open -= 1); // the caller has hung up
        }
    }
}

/// Asks for the page once: two parts are there, the third says why not, and no call and no socket is left.
pub(crate) async fn run() -> Result<()> {
    const DEADLINE: Duration = Duration::from_secs(3);
    let (servers, upstreams) = Servers::bind().await?;
    let asked = async {
        let parts = page(upstreams, DEADLINE).await?;
        let open_calls = OPEN_CALLS.load(Ordering::SeqCst);
        for (name, part) in &parts {
            println!("{name}: {part}");
        }
        let texts: Vec<_> = parts.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["Ann", "3 open orders", "missing: deadline exceeded"]);
        assert_eq!(open_calls, 0, "every call is gone when the page is there");
        servers.open_sockets.subscribe().wait_for(|open| *open == 0).await?;
        println!("calls left: {open_calls}; the servers see no open socket");
        Ok(())
    };
    match race(servers.run(), asked).await {
        Either::Left(broken) => match broken? {},
        Either::Right(ended) => ended,
    }
}

#[cfg(test)]
#[bowline::test]
async fn does_what_it_says_and_leaves_no_task_behind() -> Result<()> {
    bowline::timeout(std::time::Duration::from_secs(30), Box::pin(run())).await?
}
