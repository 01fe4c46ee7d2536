//! A disk that reads a directory and changes nothing: what is written, cut and removed stays in memory.
//!
//! A store that is opened on it does whatever the next start would do, and says what that is.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::{Directory, Disk, DiskFile};

/// Told how many bytes were read so far; answers whether to go on.
pub(super) type Watch = Box<dyn Fn(u64) -> ControlFlow<()> + Send + Sync>;

/// A directory, and what would have become of it.
pub(super) struct Dry {
    path: PathBuf,
    /// Knows clock and boot of the machine.
    machine: Directory,
    meter: Arc<Meter>,
    /// Files that were looked at or made; `None` is one that was removed.
    files: Mutex<BTreeMap<String, Option<Arc<DryFile>>>>,
}

pub(super) struct Meter {
    read: AtomicU64,
    watch: Watch,
}

impl Meter {
    pub(super) fn new(watch: Watch) -> Arc<Self> {
        Arc::new(Self { read: AtomicU64::new(0), watch })
    }

    fn add(&self, bytes: usize) -> io::Result<()> {
        // Relaxed: it is for people.
        let before = self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        match (self.watch)(before + bytes as u64) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

impl Dry {
    pub(super) fn new(path: PathBuf, meter: Arc<Meter>) -> Self {
        Self { machine: Directory::new(&path), path, meter, files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<DryFile>>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Dry {
    fn prepare(&self) -> io::Result<()> {
        fs::read_dir(&self.path).map(drop)
    }

    /// Shared: any number may look at the same time, and none while a server has the store. A directory without the
    /// file was never opened by one.
    fn lock(&self, name: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(())),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.machine.list()?;
        for (name, file) in &*self.files() {
            names.retain(|other| other != name);
            if file.is_some() {
                names.push(name.clone());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = Content::Made(Vec::new());
        let file = Arc::new(DryFile { content: Mutex::new(content), meter: Arc::clone(&self.meter) });
        self.files().insert(name.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files();
        if let Some(known) = files.get(name) {
            return match known {
                Some(file) => Ok(Arc::<DryFile>::clone(file)),
                None => Err(io::ErrorKind::NotFound.into()),
            };
        }
        let file = File::open(self.path.join(name))?;
        let length = file.metadata()?.len();
        let content = Content::Found { file, length };
        let file = Arc::new(DryFile { content: Mutex::new(content), meter: Arc::clone(&self.meter) });
        files.insert(name.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.open(from)?;
        let mut files = self.files();
        let file = files.insert(from.to_owned(), None).flatten();
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.open(name)?;
        self.files().insert(name.to_owned(), None);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn wall_clock(&self) -> Duration {
        self.machine.wall_clock()
    }

    fn boot(&self) -> Option<u64> {
        self.machine.boot()
    }
}

struct DryFile {
    content: Mutex<Content>,
    meter: Arc<Meter>,
}

enum Content {
    /// In the directory, as far as it was not cut.
    Found { file: File, length: u64 },
    /// In memory.
    Made(Vec<u8>),
}

impl DryFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An index into memory.
fn place(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(io::Error::other)
}

impl DiskFile for DryFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.meter.add(buffer.len())?;
        match &*self.content() {
            Content::Found { length, .. } if at + buffer.len() as u64 > *length => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Content::Found { file, .. } => DiskFile::read_at(file, buffer, at),
            Content::Made(bytes) => {
                let at = place(at)?;
                let found = bytes.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(found);
                Ok(())
            }
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match &mut *self.content() {
            // The store writes into files that it began itself, and into no other.
            Content::Found { .. } => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Content::Made(made) => {
                let (at, end) = (place(at)?, place(at)? + bytes.len());
                made.resize(made.len().max(end), 0);
                made[at..end].copy_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, to: u64) -> io::Result<()> {
        match &mut *self.content() {
            Content::Found { length, .. } => *length = to.min(*length),
            Content::Made(bytes) => bytes.truncate(place(to)?),
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(match &*self.content() {
            Content::Found { length, .. } => *length,
            Content::Made(bytes) => bytes.len() as u64,
        })
    }
}
