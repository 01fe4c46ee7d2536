//! A directory whose disk can be full and whose clock can be set, and a store in one whose writer runs when a test says so.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bowline_store::disk::{Directory, Disk, DiskFile};
use bowline_store::durable::{DurableStore, Options, Writer};

/// A directory that goes with the test.
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bowline-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        // Of a process that had our number before.
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn disk(&self) -> Altered {
        Altered { directory: Directory::new(&self.0), is_full: Arc::default(), later: Duration::ZERO }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A directory that may be full, and of which the clock may be set. Clones are full together.
#[derive(Clone)]
pub(crate) struct Altered {
    directory: Directory,
    is_full: Arc<AtomicBool>,
    later: Duration,
}

impl Altered {
    /// The same directory, `by` later than it is.
    pub(crate) fn later(self, by: Duration) -> Self {
        Self { later: by, ..self }
    }

    pub(crate) fn fill(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(AlteredFile { file, is_full: Arc::clone(&self.is_full) })
    }
}

/// A store in a directory of its own, which goes with it.
pub(crate) struct ByHand {
    pub(crate) store: DurableStore,
    writer: Writer,
    disk: Altered,
    _directory: Temporary,
}

impl ByHand {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let directory = Temporary::new();
        let disk = directory.disk();
        let opened = DurableStore::open(disk.clone(), options).expect("opens");
        Self { store: opened.store, writer: opened.writer, disk, _directory: directory }
    }

    /// Writes and syncs what waits, or tries again after a failure.
    pub(crate) fn write(&mut self) {
        self.writer.run_once();
    }

    pub(crate) fn fill_disk(&self, is_full: bool) {
        self.disk.fill(is_full);
    }
}

impl Disk for Altered {
    fn prepare(&self) -> io::Result<()> {
        self.directory.prepare()
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.directory.lock(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.directory.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.directory.open(name).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync_names()
    }

    fn wall_clock(&self) -> Duration {
        self.directory.wall_clock() + self.later
    }

    fn boot(&self) -> Option<u64> {
        self.directory.boot()
    }
}

struct AlteredFile {
    file: Arc<dyn DiskFile>,
    is_full: Arc<AtomicBool>,
}

impl DiskFile for AlteredFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}
