//! A service that others run: real sockets on loopback, on a runtime of its own, so that its tasks are not the form's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// What a service does about one question.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It says this, after a while.
    After(Duration, &'static str),
    /// It never answers, and keeps the connection open.
    Hang,
}

#[derive(Default)]
struct Books {
    open: AtomicUsize,
    answered: AtomicUsize,
}

/// A service that answers a line with a line. It ends when it is dropped.
pub(crate) struct Upstream {
    address: SocketAddr,
    books: Arc<Books>,
    runtime: Option<Runtime>,
}

impl Upstream {
    /// Starts a service that does as `answer` says, for each question.
    pub(crate) fn start(answer: impl Fn() -> Answer + Send + Sync + 'static) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let books = Arc::new(Books::default());
        spawn(&runtime, accept(listener, Arc::clone(&books), Arc::new(answer)));
        Ok(Self { address, books, runtime: Some(runtime) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections whose client has not gone.
    pub(crate) fn open_connections(&self) -> usize {
        self.books.open.load(Ordering::Acquire)
    }

    /// How many questions it has answered.
    pub(crate) fn answered(&self) -> usize {
        self.books.answered.load(Ordering::Acquire)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // It may be dropped inside of another runtime, where waiting for this one's end is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Connects to a service, asks, and returns its answer.
pub(crate) async fn ask(service: SocketAddr) -> io::Result<String> {
    let mut connection = BufReader::new(TcpStream::connect(service).await?);
    connection.write_all(b"?\n").await?;
    let mut answer = String::new();
    connection.read_line(&mut answer).await?;
    Ok(answer)
}

type MakeAnswer = Arc<dyn Fn() -> Answer + Send + Sync>;

async fn accept(listener: std::net::TcpListener, books: Arc<Books>, answer: MakeAnswer) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await?;
        connections.spawn(serve(connection, Open::count(&books), Arc::clone(&answer)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut connection: TcpStream, open: Open, answer: MakeAnswer) -> io::Result<()> {
    let mut question = [0; 64];
    while connection.read(&mut question).await? > 0 {
        if let Answer::After(pause, say) = answer() {
            tokio::time::sleep(pause).await;
            connection.write_all(say.as_bytes()).await?;
            connection.write_all(b"\n").await?;
            open.0.answered.fetch_add(1, Ordering::AcqRel);
        }
    }
    Ok(())
}

/// Counts a connection as long as it is there.
struct Open(Arc<Books>);

impl Open {
    fn count(books: &Arc<Books>) -> Self {
        books.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(books))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the runtime is dropped with the service, and its tasks with it"
)]
fn spawn(runtime: &Runtime, task: impl Future<Output = io::Result<()>> + Send + 'static) {
    runtime.spawn(task);
}
