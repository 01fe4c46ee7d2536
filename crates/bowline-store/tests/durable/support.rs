//! A store in a directory of its own, with its writer and keeper on threads; and small words for tests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bowline_store::disk::{Directory, Disk};
use bowline_store::durable::{DurableStore, OpenError, Opened, Options, Recovered};
use bowline_store::{
    Append, Appended, Limit, Page, Publication, Query, Receipt, Retention, StoreError, StoreStats,
    StreamStore, Swept,
};
use tokio::time::Instant;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A directory that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bowline-store-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    pub(crate) fn disk(&self) -> Directory {
        Directory::new(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens a store. A child that another test is about to start has our lock until it runs its own program.
fn open(disk: impl Disk + Clone, options: Options) -> Opened {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match DurableStore::open(disk.clone(), options.clone()) {
            Err(OpenError::InUse) if Instant::now() < until => std::thread::yield_now(),
            opened => return opened.expect("the store opens"),
        }
    }
}

/// A store with its two threads; dropping it closes the store.
pub(crate) struct Running {
    pub(crate) store: DurableStore,
    pub(crate) recovered: Recovered,
    threads: Vec<JoinHandle<()>>,
    _scratch: Option<Scratch>,
}

impl Running {
    pub(crate) fn open(disk: impl Disk + Clone, options: Options) -> Self {
        let Opened { store, writer, keeper, recovered } = open(disk, options);
        let threads = vec![spawn(move || writer.run()), spawn(move || keeper.run())];
        Self { store, recovered, threads, _scratch: None }
    }

    /// In a directory of its own, which goes with it.
    pub(crate) fn scratch() -> Self {
        let scratch = Scratch::new();
        let mut running = Self::open(scratch.disk(), Options::default());
        running._scratch = Some(scratch);
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.store.close();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            // A test that fails already says why.
            assert!(ended.is_ok() || std::thread::panicking(), "the store's threads end well");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "joined when the store is dropped")]
pub(crate) fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(run)
}

impl StreamStore for Running {
    fn append(&self, append: Append<'_>) -> Result<Receipt<Appended>, StoreError> {
        self.store.append(append)
    }

    fn read(&self, channel: &str, query: Query, meta_ttl: Duration) -> Result<Page, StoreError> {
        self.store.read(channel, query, meta_ttl)
    }

    fn remove(&self, channel: &str) -> Result<Receipt<()>, StoreError> {
        self.store.remove(channel)
    }

    fn sweep(&self, now: Instant) -> Swept {
        self.store.sweep(now)
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
}

pub(crate) fn keep(size: usize) -> Option<Retention> {
    Retention::new(size, HOUR, 2 * HOUR)
}

/// An append of `text` that keeps `size` publications.
pub(crate) fn text(channel: &str, text: &str, size: usize) -> Append<'static> {
    let channel: &'static str = Box::leak(channel.to_owned().into_boxed_str());
    Append::new(channel, Publication::new(text.to_owned()), keep(size))
}

/// Appends `text` and waits until it is committed.
pub(crate) fn publish(store: &impl StreamStore, channel: &str, word: &str) -> u64 {
    match store.append(text(channel, word, 100)).expect("append").wait_blocking() {
        Ok(Appended::Kept(position)) => position.offset,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn all(store: &impl StreamStore, channel: &str) -> Page {
    store.read(channel, Query::forward(0, Limit::All), 2 * HOUR).expect("read")
}

pub(crate) fn texts(page: &Page) -> Vec<String> {
    page.publications
        .iter()
        .map(|kept| String::from_utf8(kept.publication.data.to_vec()).expect("tests publish text"))
        .collect()
}
