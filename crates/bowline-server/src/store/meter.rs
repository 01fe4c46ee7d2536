//! What the disk does for the store: how often it is written to and synced, and how long that takes.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_store::disk::{Disk, DiskFile};
use tokio::time::Instant;

/// Counters of a disk. Relaxed: nothing is concluded from two of them together.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    writes: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    slowest_sync_nanos: AtomicU64,
    failures: AtomicU64,
}

/// What a disk has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskWork {
    pub(crate) writes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) syncs: u64,
    pub(crate) syncing: Duration,
    pub(crate) slowest_sync: Duration,
    /// Writes and syncs that failed.
    pub(crate) failures: u64,
}

impl Meter {
    pub(crate) fn work(&self) -> DiskWork {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskWork {
            writes: read(&self.writes),
            written_bytes: read(&self.written_bytes),
            syncs: read(&self.syncs),
            syncing: Duration::from_nanos(read(&self.sync_nanos)),
            slowest_sync: Duration::from_nanos(read(&self.slowest_sync_nanos)),
            failures: read(&self.failures),
        }
    }

    fn note<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    fn note_sync(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.slowest_sync_nanos.fetch_max(nanos, Ordering::Relaxed);
    }
}

/// A disk whose work is counted.
pub(crate) struct Measured<D> {
    disk: D,
    meter: Arc<Meter>,
}

impl<D: Disk> Measured<D> {
    pub(crate) fn new(disk: D, meter: Arc<Meter>) -> Self {
        Self { disk, meter }
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(MeasuredFile { file, meter: Arc::clone(&self.meter) })
    }
}

impl<D: Disk> Disk for Measured<D> {
    fn prepare(&self) -> io::Result<()> {
        self.disk.prepare()
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.disk.lock(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.meter.note(self.disk.create(name)).map(|file| self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }

    fn wall_clock(&self) -> Duration {
        self.disk.wall_clock()
    }

    fn boot(&self) -> Option<u64> {
        self.disk.boot()
    }
}

struct MeasuredFile {
    file: Arc<dyn DiskFile>,
    meter: Arc<Meter>,
}

impl DiskFile for MeasuredFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.meter.note(self.file.write_at(bytes, at))?;
        self.meter.writes.fetch_add(1, Ordering::Relaxed);
        self.meter.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let began = Instant::now();
        self.meter.note(self.file.sync())?;
        self.meter.note_sync(began.elapsed());
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.meter.note(self.file.truncate(length))
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}
