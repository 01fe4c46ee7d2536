//! Three clients: Ann talks, Ben listens, Cat stops reading and is closed for it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bowline_examples::stop_switch;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::serve;

/// The kernel buffers of a connection, so that a client that does not read is felt after kilobytes instead of megabytes.
const KERNEL_BUFFER_BYTES: u32 = 16 * 1024;
/// Together they are several times what the kernel and the outbox hold.
const MESSAGES: usize = 64;
const MESSAGE_BYTES: usize = 16 * 1024;

/// Runs `serve` with the three clients, then tells it to stop: Ann hears 1001, and one client was too slow.
pub(crate) async fn run() -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(KERNEL_BUFFER_BYTES)?; // accepted sockets inherit it
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(16)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = stop_switch();
    let (closed_as_slow, ()) = tokio::try_join!(serve(listener, stopped), async {
        let mut ann = Client::join(address, "ann").await?;
        let mut ben = Client::join(address, "ben").await?;
        let mut cat = Client::join(address, "cat").await?;
        while ann.hear().await? != "cat is here" {}
        while ben.hear().await? != "cat is here" {}
        for n in 0..MESSAGES {
            let text = format!("{n:0>MESSAGE_BYTES$}");
            ann.say(text.clone()).await?;
            ensure!(ann.hear().await? == text && ben.hear().await? == text, "messages arrive in order");
        }
        let (seen, goodbye) = cat.read_to_end().await;
        println!("cat saw {seen} of {MESSAGES} messages and was closed, ann and ben saw all");
        assert!(seen < MESSAGES);
        assert!(matches!(goodbye, Some(CloseCode::Policy) | None), "{goodbye:?}");
        ben.socket.close(None).await?;
        ann.say("ben is gone".into()).await?;
        assert_eq!(ann.hear().await?, "ben is gone");
        drop(stop);
        assert_eq!(ann.close_code().await?, CloseCode::Away);
        Ok(())
    })?;
    println!("stopped; {closed_as_slow} client was too slow");
    assert_eq!(closed_as_slow, 1);
    Ok(())
}

struct Client {
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    async fn join(address: SocketAddr, name: &str) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES)?;
        let (socket, _) = client_async("ws://localhost/", socket.connect(address).await?).await?;
        let mut client = Self { socket };
        client.say(format!("{name} is here")).await?;
        while client.hear().await? != format!("{name} is here") {}
        Ok(client)
    }

    async fn say(&mut self, text: String) -> Result<()> {
        Ok(self.socket.send(Message::text(text)).await?)
    }

    async fn hear(&mut self) -> Result<String> {
        match self.socket.next().await.context("the server hung up")?? {
            Message::Text(text) => Ok(text.as_str().to_owned()),
            other => anyhow::bail!("expected a text, heard {other:?}"),
        }
    }

    async fn close_code(&mut self) -> Result<CloseCode> {
        match self.socket.next().await.context("the server hung up")?? {
            Message::Close(Some(frame)) => Ok(frame.code),
            other => anyhow::bail!("expected a goodbye, heard {other:?}"),
        }
    }

    /// Reads what is still on its way to a client that was closed; the goodbye is missing if it came too late to be sent.
    async fn read_to_end(&mut self) -> (usize, Option<CloseCode>) {
        let mut texts = 0;
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(_))) => texts += 1,
                Some(Ok(Message::Close(frame))) => return (texts, frame.map(|frame| frame.code)),
                _ => return (texts, None),
            }
        }
    }
}

#[cfg(test)]
#[bowline::test]
async fn does_what_it_says_and_leaves_no_task_behind() -> Result<()> {
    bowline::timeout(std::time::Duration::from_secs(30), Box::pin(run())).await?
}
