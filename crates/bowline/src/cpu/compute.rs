//! A function over many items, on all cores: fan-out and fan-in.
//!
//! One blocking task per core takes chunks of the items and delivers chunks of results; a chunk is as many items as half a
//! millisecond needs (`chunks`). Beside the results nothing is allocated per item, and what is done per chunk is two locks.
//!
//! A call starts with one thread. Whoever takes a chunk and leaves something starts one more as long as a core is free; and
//! when there are more threads than cores, those of calls that have several end. So calls at the same time share the cores,
//! and each has at least one thread.
//!
//! # Invariants
//!
//! 1. A chunk of `n` items becomes a piece of `n` results, also if it is cut short. Pieces are joined in order; one that came
//!    before its turn waits.
//! 2. As long as items are left, a thread is there to take them, unless the call is cancelled: the last thread of a
//!    call does not end for the sake of others.
//!
//! # End
//!
//! The call returns when its threads have ended. Cancelled, or at the deadline, each ends after the item it is at; if the
//! future is dropped the same happens, and the enclosing scope waits for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec;

use tokio::time::Instant;

use super::Computed;
use super::chunks::Sizer;
use crate::cause::{Cancelled, Cause};
use crate::done::Failure;
use crate::node::{Node, NodeKind};
use crate::opening::Opened;
use crate::panic::{Panic, caught};
use crate::record::{Kind, Record};
use crate::scope::{list, spawn_blocking_tracked};
use crate::sync::{Arc, LockExt, Mutex};
use crate::track::{End, Ending, Strand};

/// Applies `f` to every item, on all cores, and returns what became of each, in the order of the items.
///
/// For work that computes and does not wait: it runs on blocking threads, as many as there are cores, which calls at the same
/// time share. Items are taken in chunks whose size follows from the time they take, so that 500,000 items of 20 µs cost
/// hardly more than the calculation itself, and short ones too. An error or a panic is that item's; the others go on.
///
/// Under a [`timeout`](crate::timeout()), or cancelled, it still returns: results that were ready are there, the rest is
/// [`Slot::Cancelled`](crate::Slot::Cancelled). The context is ambient in `f`; an item that takes long may ask
/// [`check`](crate::check()).
///
/// # Cancel safety
///
/// If the future is dropped, the results are lost, and each thread ends after the item it is at; the enclosing scope waits
/// for that.
///
/// # Panics
///
/// If called outside of a tokio runtime, or with the panic of an item's destructor. A panic of `f` is a slot.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::compute;
///
/// fn value(position: i64) -> Result<i64, &'static str> {
///     if position < 0 { Err("short") } else { Ok(position * 2) }
/// }
///
/// let outcome = compute("risk", vec![7, -1, 4], |position| value(position)).await;
/// assert_eq!((outcome.counts().ok, outcome.counts().failed), (2, 1));
/// assert_eq!(outcome.into_ok().collect::<Vec<_>>(), [14, 8]);
/// # });
/// ```
#[track_caller]
pub fn compute<I, R, E, F>(
    name: &'static str,
    items: impl IntoIterator<Item = I>,
    f: F,
) -> impl Future<Output = Computed<R, E>>
where
    I: Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
    F: Fn(I) -> Result<R, E> + Send + Sync + 'static,
{
    let place = Location::caller();
    let items: Vec<I> = items.into_iter().collect();
    async move {
        let many = items.len();
        if many == 0 {
            return Computed { results: Vec::new(), panics: Vec::new(), why: None };
        }
        let mut opened = Opened::new(name, place, NodeKind::Scope, true);
        let call = Arc::new(Call {
            node: Arc::clone(opened.node()),
            f,
            input: Mutex::new(Input { items: items.into_iter(), taken: 0, threads: 1 }),
            output: Mutex::new(Output { results: Vec::with_capacity(many), ..Output::default() }),
        });
        let strand = pin!(Strand::unopened(async { start(Arc::clone(&call), Core::take()) }));
        let ran = opened.run(strand).await;
        match (ran.failure, ran.body) {
            (Some(Failure::Panicked(panic)), _) | (_, End::Panicked(panic)) => panic.resume(),
            _ => {}
        }
        let mut output = std::mem::take(&mut *call.output.lock_unpoisoned());
        let is_whole = output.results.len() == many && output.cut == 0;
        output.results.resize_with(many, || None);
        output.panics.sort_by_key(|(at, _)| *at);
        let why = ran.cause.filter(|_| !is_whole);
        Computed { results: output.results, panics: output.panics, why }
    }
}

struct Call<I, R, E, F> {
    node: Arc<Node>,
    f: F,
    input: Mutex<Input<I>>,
    output: Mutex<Output<R, E>>,
}

struct Input<I> {
    items: vec::IntoIter<I>,
    /// Items taken so far: the place of the next.
    taken: usize,
    /// Threads of this call.
    threads: usize,
}

/// Results of consecutive items; `None` for one that panicked or was not computed.
type Piece<R, E> = Vec<Option<Result<R, E>>>;

struct Output<R, E> {
    results: Piece<R, E>,
    /// Pieces that came before their turn, by the place of their first item.
    early: BTreeMap<usize, Piece<R, E>>,
    /// Empty pieces with memory, for the next one who has to leave his behind.
    spare: Vec<Piece<R, E>>,
    panics: Vec<(usize, Panic)>,
    /// Items that were taken and not computed.
    cut: usize,
}

impl<R, E> Default for Output<R, E> {
    fn default() -> Self {
        let (results, spare, panics) = (Vec::new(), Vec::new(), Vec::new());
        Self { results, early: BTreeMap::new(), spare, panics, cut: 0 }
    }
}

impl<R, E> Output<R, E> {
    /// Joins `piece` to the results, or keeps it until its turn. It comes back empty, with some memory.
    fn deliver(&mut self, first: usize, piece: &mut Piece<R, E>) {
        if first != self.results.len() {
            let empty = self.spare.pop().unwrap_or_default();
            self.early.insert(first, std::mem::replace(piece, empty));
            return;
        }
        self.results.append(piece);
        while let Some(mut early) = self.early.remove(&self.results.len()) {
            self.results.append(&mut early);
            self.spare.push(early);
        }
    }
}

/// One of the threads that compute, in all calls of the process together.
struct Core;

/// A count of the process, so std's own atomic: it outlives a model's run.
static COMPUTING: AtomicUsize = AtomicUsize::new(0);

impl Core {
    /// For the first thread of a call, which there is in any case.
    fn take() -> Self {
        // Relaxed, here and below: a count; nothing is published by it.
        COMPUTING.fetch_add(1, Ordering::Relaxed);
        Self
    }

    fn take_free() -> Option<Self> {
        let free = |computing| (computing < cores()).then_some(computing + 1);
        COMPUTING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok().map(|_| Self)
    }

    fn are_crowded() -> bool {
        COMPUTING.load(Ordering::Relaxed) > cores()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        COMPUTING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number of cores, as the process may use them.
pub(super) fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    if cfg!(bowline_shuttle) {
        return 2; // the same model on every machine
    }
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// Starts a thread of the call; not if the call was cancelled.
fn start<I, R, E, F>(call: Arc<Call<I, R, E, F>>, core: Core)
where
    I: Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
    F: Fn(I) -> Result<R, E> + Send + Sync + 'static,
{
    let site = call.node.site;
    let Ok(record) = list(&call.node, site.name, site.place, Kind::Blocking) else { return };
    let seen = Arc::clone(&record);
    spawn_blocking_tracked::<_, OfCall>(record, move || {
        let _core = core;
        work(&call, &seen);
    });
}

/// Takes chunks until none is left, or others need the thread more.
fn work<I, R, E, F>(call: &Arc<Call<I, R, E, F>>, record: &Arc<Record>)
where
    I: Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
    F: Fn(I) -> Result<R, E> + Send + Sync + 'static,
{
    let (mut sizer, mut items, mut piece) = (Sizer::default(), Vec::new(), Vec::new());
    let mut began = Instant::now();
    loop {
        let are_crowded = Core::are_crowded();
        let (first, helper) = {
            let mut input = call.input.lock_unpoisoned();
            let left = input.items.len();
            if left == 0 || (are_crowded && input.threads > 1) {
                input.threads -= 1; // by invariant 2 under the lock
                return;
            }
            let first = input.taken;
            let taken = sizer.next(left, cores());
            items.extend(input.items.by_ref().take(taken));
            input.taken += taken;
            let helper = if taken < left { Core::take_free() } else { None };
            input.threads += usize::from(helper.is_some());
            (first, helper)
        };
        if let Some(core) = helper {
            start(Arc::clone(call), core);
        }
        let taken = items.len();
        piece.reserve(taken);
        let cut = run(call, record, first, &mut items, &mut piece);
        {
            let mut output = call.output.lock_unpoisoned();
            output.cut += cut;
            output.deliver(first, &mut piece);
        }
        if cut > 0 {
            return;
        }
        let now = Instant::now();
        sizer.took(taken, now - began);
        began = now;
    }
}

/// Makes the piece of a chunk, and returns how many of its items were not computed because the call was cancelled.
fn run<I, R, E, F>(
    call: &Call<I, R, E, F>,
    record: &Arc<Record>,
    first: usize,
    items: &mut Vec<I>,
    piece: &mut Piece<R, E>,
) -> usize
where
    F: Fn(I) -> Result<R, E>,
{
    let taken = items.len();
    let mut left = items.drain(..);
    loop {
        // One for all of them: it is entered again after the item that panicked.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            while !record.is_cancelled() {
                let Some(item) = left.next() else { break };
                piece.push(Some((call.f)(item)));
            }
        }));
        let Err(payload) = ran else { break };
        let panic = caught(record, payload);
        call.output.lock_unpoisoned().panics.push((first + piece.len(), panic));
        piece.push(None);
    }
    drop(left);
    let cut = taken - piece.len();
    piece.resize_with(taken, || None);
    cut
}

/// The end of a thread of a call. Panics of `f` are caught before; this is one of a destructor.
struct OfCall(PhantomData<()>);

impl Ending for OfCall {
    type Output = ();
    type Ended = ();

    fn value(_record: &Arc<Record>, (): ()) {}

    fn panicked(record: &Arc<Record>, panic: Panic) {
        record.node.fail(Failure::Panicked(panic), &Cause::SiblingPanicked(record.site.name));
    }

    fn cancelled(_record: &Arc<Record>, _cancelled: Cancelled) {}
}
