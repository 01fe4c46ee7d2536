//! `bowline store`: looks at what is kept on disk, checks it, and frees what is dead.

mod said;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowline::{Either, race, scope};
use bowline_store::StoreError;
use bowline_store::disk::{Directory, Disk as _};
use bowline_store::durable::{
    Compaction, DurableStore, InspectError, Inspection, OpenError, Opened, Options, Progress, inspect,
};
use clap::{Args, Subcommand, value_parser};

use self::said::Said;
use super::bar::Bar;
use super::{EXIT_FAILURE, EXIT_USAGE, tell};
use crate::store::owner;

/// Looks at the data directory of a server that does not run: what is in it, whether it is whole, what can be freed.
///
/// While a server runs, its own metrics tell what it has, and it frees what is dead by itself.
#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    what: What,
    /// The data directory, as `store.path` has it.
    #[arg(
        long,
        value_name = "DIR",
        env = "BOWLINE_STORE_PATH",
        default_value = "bowline-data",
        global = true
    )]
    path: PathBuf,
    /// Prints JSON, and no progress.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum What {
    /// Says what is in it: files, streams, publications, which take most.
    ///
    /// Changes nothing; the directory may be read-only. Exit codes: 0, or 2 if there is nothing to look at.
    Stats {
        /// How many of the largest streams are listed.
        #[arg(long, value_name = "STREAMS", default_value_t = 10, value_parser = value_parser!(u32).range(0..=1_000_000))]
        largest: u32,
    },
    /// Reads every byte, and says what is damaged, where, and what will come of it.
    ///
    /// Checksums, indexes and the rules between records are verified. Changes nothing; the directory may be read-only. There
    /// is nothing to repair: a server starts with a damaged store, serves nothing that is damaged, and begins those streams
    /// anew that lost something, so that their clients know.
    ///
    /// Exit codes: 0 if there is no damage, 1 if there is, 2 if it could not be checked.
    Check,
    /// Frees what is dead: publications that expired, were trimmed, or removed.
    ///
    /// A server does it by itself while it runs, as soon as half of its bytes are dead; this goes on until at most a tenth is.
    /// It may be ended at any moment, also by force: what counts is written again before its file goes. Files with
    /// idempotency keys of the last five minutes stay.
    ///
    /// Exit codes: 0 if it is done, 1 if it failed or was ended, 2 if there is nothing to compact.
    Compact,
}

/// Why a command came to nothing.
#[derive(Debug)]
enum Failed {
    /// There is no store there, or it cannot be opened.
    Refused(PathBuf, InspectError),
    /// It is another user's, whose number this is.
    NotOwner(PathBuf, u32),
    /// It could not be done to its end.
    Broken(PathBuf, StoreError),
    /// Somebody wanted no more of it.
    Stopped,
    /// There is damage.
    Damaged,
    /// The answer could not be written.
    Output(io::Error),
}

impl Failed {
    fn code(&self) -> u8 {
        match self {
            Self::Refused(..) | Self::NotOwner(..) => EXIT_USAGE,
            Self::Broken(..) | Self::Stopped | Self::Damaged | Self::Output(_) => EXIT_FAILURE,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwner(path, user) => write!(
                f,
                "{} belongs to user {user}: run this as that user (`sudo -u '#{user}' bowline store compact …`), or its server \
                 cannot open the new files",
                path.display()
            ),
            Self::Refused(path, InspectError::Missing) => write!(
                f,
                "{} is no data directory of a server: give the one of `store.path` with --path",
                path.display()
            ),
            Self::Refused(path, InspectError::Open(OpenError::InUse)) => {
                let by = owner(path).map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
                write!(f, "{} is in use by {by}: stop that first", path.display())
            }
            Self::Refused(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Broken(path, error) => {
                write!(f, "{}: {error}; what was freed stays freed, and nothing is lost", path.display())
            }
            Self::Stopped => f.write_str("stopped; nothing is lost"),
            Self::Damaged => f.write_str(
                "the store is damaged; a server starts with it all the same and serves nothing that is damaged",
            ),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
        }
    }
}

pub(super) fn run(args: StoreArgs) -> ExitCode {
    let is_check = matches!(args.what, What::Check);
    match until_stopped(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            tell(format_args!("error: {failed}"));
            // Of a check, 1 says that there is damage and nothing else.
            let unchecked = is_check && !matches!(failed, Failed::Damaged);
            ExitCode::from(if unchecked { EXIT_USAGE } else { failed.code() })
        }
    }
}

/// Does what was asked for on a thread of its own, until it is done or a signal comes.
fn until_stopped(args: StoreArgs) -> Result<(), Failed> {
    let stop = Stop::default();
    let work = async move {
        scope("store", async |s| {
            let asked = stop.clone();
            let mut work = s.spawn_blocking("work", move || Ok::<_, bowline::Cancelled>(work(&args, &asked)));
            if let Either::Right(done) = race(bowline::draining(), &mut work).await {
                return done;
            }
            stop.0.store(true, Ordering::Relaxed);
            work.await
        })
        .await
    };
    match bowline::Runner::new("store").run(work) {
        (Some(Ok(done)), _) => done,
        (_, report) => report.panic.map_or(Err(Failed::Stopped), |panic| panic!("{panic}")),
    }
}

fn work(args: &StoreArgs, stop: &Stop) -> Result<(), Failed> {
    let (path, json) = (&args.path, args.json);
    let said = match args.what {
        What::Stats { largest } => {
            let inspection = look(path, "reading", json, stop)?;
            said::stats(path, &inspection.report(largest as usize))
        }
        What::Check => {
            let inspection = look(path, "checking", json, stop)?;
            let checked = inspection.check().map_err(|error| refused(path, error))?;
            said::check(path, &inspection, &checked)
        }
        What::Compact => said::compact(path, &compact(path, json, stop)?),
    };
    let Said { text, value, is_damaged } = said;
    let text = if json { format!("{value:#}\n") } else { text };
    super::print(text).map_err(Failed::Output)?;
    if is_damaged { Err(Failed::Damaged) } else { Ok(()) }
}

fn look(path: &Path, what: &'static str, json: bool, stop: &Stop) -> Result<Inspection, Failed> {
    let (bar, stop) = (Bar::new(what, json), stop.clone());
    let watch = move |Progress { read, total }: Progress| {
        bar.set(read, total);
        // A bar that is full would wait for the rest of the work.
        if read == total {
            bar.finish();
        }
        if stop.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    inspect(path, watch).map_err(|error| refused(path, error))
}

fn refused(path: &Path, error: InspectError) -> Failed {
    match error {
        InspectError::Stopped => Failed::Stopped,
        error => Failed::Refused(path.to_owned(), error),
    }
}

/// New files belong to whoever makes them: made by somebody else, root for one, the server could not open them again.
#[cfg(unix)]
fn is_owner(path: &Path) -> Result<(), Failed> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(path) {
        Ok(about) if about.uid() != rustix::process::geteuid().as_raw() => {
            Err(Failed::NotOwner(path.to_owned(), about.uid()))
        }
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn is_owner(_path: &Path) -> Result<(), Failed> {
    Ok(())
}

/// What a compaction came to.
struct Compacted {
    before: u64,
    done: Compaction,
}

fn compact(path: &Path, json: bool, stop: &Stop) -> Result<Compacted, Failed> {
    // Opening would make the directory.
    let names = Directory::new(path).list().unwrap_or_default();
    if !names.iter().any(|name| name.ends_with(".log")) {
        return Err(refused(path, InspectError::Missing));
    }
    is_owner(path)?;
    let opened = DurableStore::open(Directory::new(path), Options::default());
    let Opened { store, writer, keeper, recovered } =
        opened.map_err(|error| refused(path, InspectError::Open(error)))?;
    for damage in &recovered.damage {
        tell(format_args!("note: {damage}; the streams that lost something by it begin anew"));
    }
    let before = store.disk_stats().bytes;
    let bar = Bar::new("compacting", json);
    let done = std::thread::scope(|threads| {
        threads.spawn(|| writer.run());
        let done = store.compact(|step: Compaction| {
            bar.set(step.freed_bytes, before);
            if stop.is_asked() {
                store.close();
            }
        });
        store.close();
        done
    });
    drop((keeper, bar));
    match done {
        Ok(done) => Ok(Compacted { before, done }),
        Err(StoreError::Closed) if stop.is_asked() => Err(Failed::Stopped),
        Err(error) => Err(Failed::Broken(path.to_owned(), error)),
    }
}

/// Whether somebody wants no more.
#[derive(Clone, Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_asked(&self) -> bool {
        // Relaxed: it carries nothing but itself.
        self.0.load(Ordering::Relaxed)
    }
}
