//! Where publications of channels with history are kept: in memory, or in a data directory that this process has to itself.
//!
//! ```text
//! settings ─▶ open ─▶ Node ── append ──▶ tail of the log ──▶ task "store writer" ──▶ disk
//!                                                            task "store keeper" frees what is dead
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | here | opening, whom a failing disk is told to, and the end |
//! | `alerts` | what the store notices, and when that is over |
//! | `meter` | what the disk does, for metrics |
//!
//! # Invariants
//!
//! 1. The store is open before anybody is told that the server is there.
//! 2. Writer and keeper are blocking tasks of the server's scope, and end when [`AtWork`] is dropped: a scope that is
//!    cancelled half-way waits for them no longer than the disk takes.
//!
//! # End
//!
//! When the last connection is gone the store is closed: the writer writes and syncs what waits, and leaves a record that says
//! so. A process that is cut off before leaves none, and the next start looks more closely.

mod alerts;
pub(crate) mod meter;
#[cfg(test)]
pub(crate) mod testing;

use std::fs::{self, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt};

use bowline::{Cancelled, Scope, scope};
use bowline_store::disk::Directory;
use bowline_store::durable::{self, DurableStore, Keeper, OpenError, Recovered, Writer};
use bowline_store::{Durability, MemoryStore, StreamStore};

use self::alerts::Alerts;
use self::meter::{Measured, Meter};
use crate::config::{HistoryDurability, Store as Settings};

/// How often it is said that opening takes its time.
const PROGRESS: Duration = Duration::from_secs(1);

/// The file into which the process that has a data directory writes its id.
const LOCK: &str = "lock";

/// A store that was opened, and for which nobody works yet.
pub(crate) struct Opened {
    /// What the node appends to and reads.
    pub(crate) streams: Arc<dyn StreamStore>,
    /// Those who work for it, if it is on disk.
    pub(crate) on_disk: Option<OnDisk>,
}

/// A store on disk, and those who work for it.
#[derive(Debug)]
pub(crate) struct OnDisk {
    pub(crate) data: DataDirectory,
    writer: Writer,
    keeper: Keeper,
    alerts: Arc<Alerts>,
}

/// A store on disk, as far as it is looked at. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct DataDirectory {
    pub(crate) path: Arc<Path>,
    pub(crate) store: DurableStore,
    pub(crate) meter: Arc<Meter>,
}

/// A store whose writer and keeper run; dropped, it takes no more, and they end.
#[derive(Debug)]
#[must_use = "dropped, the store is closed"]
pub(crate) struct AtWork(DurableStore);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Opens the store that the settings name.
///
/// # Cancel safety
///
/// If it is dropped, the directory is let go once it has been read.
pub(crate) async fn open(settings: &Settings) -> Result<Opened, OpenStoreError> {
    let Some(path) = &settings.path else {
        return Ok(Opened { streams: Arc::new(MemoryStore::default()), on_disk: None });
    };
    let path: Arc<Path> = path.get().into();
    let meter = Arc::new(Meter::default());
    let disk = Measured::new(Directory::new(&*path), Arc::clone(&meter));
    let alerts = Arc::new(Alerts::new());
    let options = options(settings, Arc::clone(&alerts));
    let opened = scope("open the store", async |s| {
        let (path, began) = (Arc::clone(&path), tokio::time::Instant::now());
        s.spawn_daemon("progress", async move {
            loop {
                tokio::time::sleep(PROGRESS).await;
                let seconds = began.elapsed().as_secs();
                tracing::info!(path = %path.display(), seconds, "opening the data directory");
            }
        });
        s.spawn_blocking("read what is kept", move || Ok::<_, Cancelled>(DurableStore::open(disk, options)))
            .await
    });
    let opened = opened.await.map_err(OpenStoreError::Cancelled)?;
    let failed = |source| OpenStoreError::Directory { path: path.to_path_buf(), source };
    let durable::Opened { store, writer, keeper, recovered, .. } = opened.map_err(failed)?;
    tell(&path, &recovered);
    let data = DataDirectory { path, store: store.clone(), meter };
    Ok(Opened { streams: Arc::new(store), on_disk: Some(OnDisk { data, writer, keeper, alerts }) })
}

fn options(settings: &Settings, alerts: Arc<Alerts>) -> durable::Options {
    durable::Options {
        durability: durability(settings.durability, settings),
        queue_bytes: settings.queue_max_size.get(),
        max_bytes: settings.max_bytes.map(|bytes| bytes.get() as u64),
        listener: Some(Arc::new(move |notice| alerts.tell(notice))),
        ..durable::Options::default()
    }
}

/// What the store is asked for by a word of the settings.
pub(crate) fn durability(word: HistoryDurability, settings: &Settings) -> Durability {
    match word {
        HistoryDurability::Always => Durability::Always,
        HistoryDurability::Interval => Durability::Interval(settings.interval.get()),
        HistoryDurability::Never => Durability::Never,
    }
}

/// Says what was found.
fn tell(path: &Path, recovered: &Recovered) {
    let Recovered { files, streams, publications, torn_bytes, renewed, was_closed, took, .. } = *recovered;
    let path = path.display();
    tracing::info!(%path, files, streams, publications, ?took, "the data directory is open");
    if !was_closed && files > 0 {
        tracing::info!(%path, torn_bytes, "the server was not stopped in order the last time");
    }
    if renewed > 0 {
        tracing::warn!(%path, renewed, "streams that cannot be trusted begin anew: their clients start over");
    }
}

impl OnDisk {
    /// Starts writer and keeper in the scope of the server.
    pub(crate) fn start(self, s: &Scope<Cancelled>) -> AtWork {
        let Self { data, writer, keeper, alerts } = self;
        s.spawn_daemon("store alerts", async move { alerts.fade().await });
        s.spawn_blocking("store writer", move || {
            writer.run();
            Ok(())
        });
        s.spawn_blocking("store keeper", move || {
            keeper.run();
            Ok(())
        });
        AtWork(data.store)
    }
}

/// The store cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// The data directory cannot be used. Nothing was changed in it; the text says what would be right.
    Directory {
        /// Its name.
        path: PathBuf,
        /// What is wrong.
        source: OpenError,
    },
    /// The program was told to end before it was open.
    Cancelled(Cancelled),
}

impl fmt::Display for OpenStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Directory { path, source } = self else {
            return f.write_str("told to end while the data directory was opened");
        };
        write!(f, "cannot open the data directory {}: {source}; ", path.display())?;
        match source {
            OpenError::InUse => match owner(path) {
                Some(process) => {
                    write!(f, "process {process} has it: end that, or choose another with `store.path`")
                }
                None => f.write_str("end that, or choose another with `store.path`"),
            },
            OpenError::Version { .. } => {
                f.write_str("start a version that knows it, or choose another directory with `store.path`")
            }
            _ if path.is_file() => {
                f.write_str("it is a file: move it away, or choose a directory with `store.path`")
            }
            _ => f.write_str(
                "choose one that can be written with `store.path`; empty keeps everything in memory",
            ),
        }
    }
}

impl error::Error for OpenStoreError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Directory { source, .. } => Some(source),
            Self::Cancelled(cancelled) => Some(cancelled),
        }
    }
}

/// The process that has the store in the directory `path` to itself, if one has; those who only look leave no number, and
/// what stands there then is whoever had it last.
pub(crate) fn owner(path: &Path) -> Option<u32> {
    let path = path.join(LOCK);
    let lock = fs::File::open(&path).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => fs::read_to_string(&path).ok()?.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bowline_store::disk::Disk as _;

    use super::testing::Temporary;
    use super::*;

    #[test]
    fn the_process_that_has_a_store_is_named_and_neither_the_last_one_nor_one_that_looks() {
        let directory = Temporary::new();
        let disk = directory.disk();
        disk.prepare().expect("a directory");
        assert_eq!(owner(directory.path()), None, "nobody has ever had it");
        let held = disk.lock(LOCK).expect("nobody has it");
        assert_eq!(owner(directory.path()), Some(std::process::id()));
        drop(held);
        let looks = fs::File::open(directory.path().join(LOCK)).expect("it stays");
        // Waits for a child of another test, which has all that we have until it runs its own program.
        looks.lock_shared().expect("nobody has it to itself");
        assert!(disk.lock(LOCK).is_err(), "somebody looks");
        assert_eq!(owner(directory.path()), None);
    }
}
