//! Looking at a store without changing it: nobody may have it meanwhile, and the directory may be read-only.
//!
//! The store is opened as the next start would open it, on a [disk](super::dry) that keeps what is written in memory.
//! So what an [`Inspection`] says of the next start is what that does, by the same code.

use std::error;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::dry::{Dry, Meter};
use super::recover::{self, OpenError, Opened, Recovered};
use super::segments::{base_of, index_name, log_name};
use super::{Inner, Listener, Notice, Options};
use crate::disk::{Directory, Disk as _};

/// How far an inspection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were read.
    pub read: u64,
    /// Bytes there are to read, as far as that is known; what is damaged is read more than once.
    pub total: u64,
}

/// A store that is looked at, and not used. See [`inspect`].
///
/// As long as it lives, no process can open the store, if that has a lock file: one whose lock file was removed is not kept
/// from anybody.
pub struct Inspection {
    pub(super) inner: Arc<Inner>,
    pub(super) path: PathBuf,
    pub(super) recovered: Recovered,
    /// Channels of streams that the next start begins anew.
    pub(super) renewed: Vec<String>,
    /// Bytes of the logs and of the indexes.
    pub(super) log_bytes: u64,
    pub(super) index_bytes: u64,
    pub(super) indexes: usize,
}

impl fmt::Debug for Inspection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Inspection")
            .field("path", &self.path)
            .field("recovered", &self.recovered)
            .finish_non_exhaustive()
    }
}

/// Why a store cannot be looked at. Nothing was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no directory, or no store in it. Give the directory that the server was started with.
    Missing,
    /// It is in use, of a later format, or cannot be read: see there.
    Open(OpenError),
    /// The watcher wanted no more.
    Stopped,
}

impl fmt::Display for InspectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("there is no store in it"),
            Self::Open(error) => error.fmt(formatter),
            Self::Stopped => formatter.write_str("stopped"),
        }
    }
}

impl error::Error for InspectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Open(error) => Some(error),
            _ => None,
        }
    }
}

pub(super) fn failed(what: &str, source: io::Error) -> InspectError {
    match source.kind() {
        io::ErrorKind::Interrupted => InspectError::Stopped,
        _ => InspectError::Open(OpenError::Io { what: what.to_owned(), source }),
    }
}

/// Looks at the store in the directory `path` without changing anything there.
///
/// `watch` is told how far it is, and ends it with [`ControlFlow::Break`]. It is asked again by what is done with the
/// [`Inspection`]. Blocks the thread, and takes the memory that a server with this store takes.
///
/// # Errors
///
/// [`InspectError::Missing`] if there is no store; [`InspectError::Open`] with [`OpenError::InUse`] while a process has
/// it; [`InspectError::Stopped`] if `watch` wanted no more. Damage is no error.
///
/// # Examples
///
/// ```
/// use std::ops::ControlFlow;
/// use bowline_store::disk::Directory;
/// use bowline_store::durable::{DurableStore, Options, inspect};
///
/// # let directory = std::env::temp_dir().join(format!("bowline-inspect-doc-{}", std::process::id()));
/// drop(DurableStore::open(Directory::new(&directory), Options::default()).unwrap());
/// let inspection = inspect(&directory, |_| ControlFlow::Continue(())).unwrap();
/// assert_eq!(inspection.report(10).streams, 0);
/// assert!(inspection.check().unwrap().findings.is_empty());
/// # std::fs::remove_dir_all(directory).unwrap();
/// ```
pub fn inspect(
    path: impl AsRef<Path>,
    watch: impl Fn(Progress) -> ControlFlow<()> + Send + Sync + 'static,
) -> Result<Inspection, InspectError> {
    let path = path.as_ref();
    let names = match Directory::new(path).list() {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(InspectError::Missing),
        Err(error) => return Err(failed("list the directory of the store", error)),
    };
    if !names.iter().any(|name| base_of(name).is_some()) {
        return Err(InspectError::Missing);
    }
    let length = |name: &str| path.join(name).metadata().map_or(0, |found| found.len());
    let (mut log_bytes, mut index_bytes, mut indexes, mut first_look) = (0, 0, 0, 0);
    for base in names.iter().filter_map(|name| base_of(name)) {
        let (log, index) = (length(&log_name(base)), length(&index_name(base)));
        log_bytes += log;
        index_bytes += index;
        indexes += usize::from(index > 0);
        first_look += if index > 0 { index } else { log };
    }
    let total = first_look + log_bytes + index_bytes;
    let meter = Meter::new(Box::new(move |read| watch(Progress { read: read.min(total), total })));

    let renewed = Arc::new(Mutex::new(Vec::new()));
    let listener: Listener = {
        let renewed = Arc::clone(&renewed);
        Arc::new(move |notice: &Notice| {
            if let Notice::Renewed { channel } = notice {
                renewed.lock().unwrap_or_else(PoisonError::into_inner).push(channel.clone());
            }
        })
    };
    let options = Options { listener: Some(listener), ..Options::default() };
    let opened = recover::open(Box::new(Dry::new(path.to_owned(), meter)), options);
    let Opened { store, recovered, .. } = opened.map_err(|error| match error {
        OpenError::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted => InspectError::Stopped,
        error => InspectError::Open(error),
    })?;
    let renewed = std::mem::take(&mut *renewed.lock().unwrap_or_else(PoisonError::into_inner));
    let inner = store.inner;
    Ok(Inspection { inner, path: path.to_owned(), recovered, renewed, log_bytes, index_bytes, indexes })
}

impl Inspection {
    /// What the next start finds.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The channels whose streams the next start begins anew, because they cannot be trusted any more.
    #[must_use]
    pub fn renewed(&self) -> &[String] {
        &self.renewed
    }
}
