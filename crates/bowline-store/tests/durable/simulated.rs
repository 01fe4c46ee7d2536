//! A disk that forgets what was not synced, in pieces of a sector, and a machine whose power can go at any call.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bowline_store::disk::{Disk, DiskFile};
use fastrand::Rng;

/// Whether a sector that begins at this byte of a write is kept.
type Keeps = Box<dyn Fn(&mut Rng, usize) -> bool>;

/// What a disk writes in one piece.
const SECTOR: usize = 512;

#[derive(Clone)]
pub(crate) struct Simulated(Arc<Mutex<Machine>>);

struct Machine {
    rng: Rng,
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    /// Which lock is held; a process that is gone gives back one that is not.
    lock: Option<u64>,
    locks: u64,
    boot: u64,
    wall: Duration,
    /// Calls that change something, counted over all lives.
    calls: u64,
    /// Calls that read the content of a file.
    reads: u64,
    dies_at: Option<u64>,
    is_dead: bool,
    /// Bytes there is room for.
    room: Option<usize>,
    fails_sync: bool,
    fails_truncate: bool,
    fails_remove: bool,
    panics: bool,
    /// What was done, for tests of the order of things.
    events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Write(String),
    Sync(String),
    Acknowledged,
}

#[derive(Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    name: String,
}

enum Pending {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

enum NameChange {
    Set(String, usize),
    Remove(String),
}

impl Simulated {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Machine {
            rng: Rng::with_seed(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            lock: None,
            locks: 0,
            boot: 1,
            wall: Duration::from_secs(1_700_000_000),
            calls: 0,
            reads: 0,
            dies_at: None,
            is_dead: false,
            room: None,
            fails_sync: false,
            fails_truncate: false,
            fails_remove: false,
            panics: false,
            events: Vec::new(),
        })))
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().expect("nothing panics under the lock")
    }

    /// Lets everything fail from the `calls`th call from now on.
    pub(crate) fn die_after(&self, calls: u64) {
        let mut machine = self.machine();
        machine.dies_at = Some(machine.calls + calls);
    }

    /// The power goes and comes back: what was not synced is lost, in pieces, at random.
    pub(crate) fn cut_power(&self) {
        let mut machine = self.machine();
        let machine = &mut *machine;

        for change in machine.name_changes.drain(..) {
            if machine.rng.bool() {
                change.apply(&mut machine.durable_names);
            }
        }
        machine.names = machine.durable_names.clone();
        for file in &mut machine.files {
            file.lose(&mut machine.rng);
        }
        machine.boot += 1;
        machine.come_back();
    }

    /// The process ends: what was written is there.
    pub(crate) fn kill(&self) {
        self.machine().come_back();
    }

    pub(crate) fn reads(&self) -> u64 {
        self.machine().reads
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.machine().is_dead
    }

    pub(crate) fn set_wall_clock(&self, wall: Duration) {
        self.machine().wall = wall;
    }

    /// Leaves so many bytes of room; `None` is no limit.
    pub(crate) fn leave_room(&self, bytes: usize) {
        let mut machine = self.machine();
        machine.room = Some(machine.used() + bytes);
    }

    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.machine().room = room;
    }

    pub(crate) fn fail_syncs(&self, fails: bool) {
        self.machine().fails_sync = fails;
    }

    pub(crate) fn fail_truncates(&self, fails: bool) {
        self.machine().fails_truncate = fails;
    }

    pub(crate) fn fail_removes(&self, fails: bool) {
        self.machine().fails_remove = fails;
    }

    /// Lets the next write panic, as a bug would.
    pub(crate) fn panic_at_write(&self) {
        self.machine().panics = true;
    }

    /// Whether `word` is in what no power failure takes away.
    pub(crate) fn has_synced(&self, word: &str) -> bool {
        let machine = self.machine();
        let mut files = machine.durable_names.values().map(|index| &machine.files[*index].durable);
        files.any(|bytes| bytes.windows(word.len()).any(|bytes| bytes == word.as_bytes()))
    }

    /// Cuts a file, as somebody would who should not.
    pub(crate) fn shorten(&self, name: &str, length: usize) {
        let mut machine = self.machine();
        let index = machine.names[name];
        let file = &mut machine.files[index];
        file.live.truncate(length);
        file.durable = file.live.clone();
    }

    /// Removes a file, as somebody would who should not.
    pub(crate) fn take_away(&self, name: &str) {
        let mut machine = self.machine();
        machine.names.remove(name);
        machine.durable_names.remove(name);
    }

    pub(crate) fn note(&self, event: Event) {
        self.machine().events.push(event);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.machine().events.clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.machine().names.keys().cloned().collect()
    }

    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        let machine = self.machine();
        machine.files[machine.names[name]].live.clone()
    }

    pub(crate) fn flip(&self, name: &str, byte: usize, bit: u8) {
        let mut machine = self.machine();
        let index = machine.names[name];
        let file = &mut machine.files[index];
        file.live[byte] ^= 1 << bit;
        file.durable = file.live.clone();
    }

    /// The same files on another machine.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new(0);
        {
            let (from, mut to) = (self.machine(), copy.machine());
            to.wall = from.wall;
            to.boot = from.boot;
            for (name, index) in &from.names {
                let live = from.files[*index].live.clone();
                let number = to.files.len();
                to.files.push(Content {
                    durable: live.clone(),
                    live,
                    pending: Vec::new(),
                    name: name.clone(),
                });
                to.names.insert(name.clone(), number);
                to.durable_names.insert(name.clone(), number);
            }
        }
        copy
    }
}

impl Machine {
    fn come_back(&mut self) {
        (self.is_dead, self.dies_at, self.lock) = (false, None, None);
    }

    /// Counts a call that changes something; fails if the machine is dead, or dies now.
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        self.is_dead |= self.dies_at.is_some_and(|at| self.calls >= at);
        if self.is_dead { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn used(&self) -> usize {
        self.names.values().map(|index| self.files[*index].live.len()).sum()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Pending {
    fn apply(self, durable: &mut Vec<u8>) {
        match self {
            Self::Truncate(length) => durable.truncate(length),
            Self::Write(at, bytes) => {
                if durable.len() < at + bytes.len() {
                    durable.resize(at + bytes.len(), 0);
                }
                durable[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
    }
}

impl Content {
    fn lose(&mut self, rng: &mut Rng) {
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Truncate(_) => {
                    if rng.bool() {
                        pending.apply(&mut self.durable);
                    }
                }
                Pending::Write(at, bytes) => {
                    // All, nothing, the beginning, or any sectors of it.
                    let keeps: Keeps = match rng.u8(0..4) {
                        0 => Box::new(|_, _| true),
                        1 => Box::new(|_, _| false),
                        2 => {
                            let end = rng.usize(0..=bytes.len());
                            Box::new(move |_, at| at < end)
                        }
                        _ => Box::new(|rng, _| rng.bool()),
                    };
                    let mut from = 0;
                    while from < bytes.len() {
                        // Sectors are those of the file.
                        let to = (((at + from) / SECTOR + 1) * SECTOR - at).min(bytes.len());
                        if keeps(rng, from) {
                            Pending::Write(at + from, bytes[from..to].to_vec()).apply(&mut self.durable);
                        }
                        from = to;
                    }
                }
            }
        }
        self.live = self.durable.clone();
    }
}

struct Handle {
    disk: Simulated,
    index: usize,
}

struct Lock {
    disk: Simulated,
    number: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut machine = self.disk.machine();
        if machine.lock == Some(self.number) {
            machine.lock = None;
        }
    }
}

impl Disk for Simulated {
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _name: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut machine = self.machine();
        if machine.lock.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        machine.locks += 1;
        machine.lock = Some(machine.locks);
        Ok(Box::new(Lock { disk: self.clone(), number: machine.locks }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.machine().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine();
        machine.call()?;
        let index = machine.files.len();
        machine.files.push(Content { name: name.to_owned(), ..Content::default() });
        machine.change(NameChange::Set(name.to_owned(), index));
        Ok(Arc::new(Handle { disk: self.clone(), index }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let index = self.machine().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Handle { disk: self.clone(), index }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut machine = self.machine();
        machine.call()?;
        let index = machine.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        machine.change(NameChange::Set(to.to_owned(), index));
        machine.change(NameChange::Remove(from.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut machine = self.machine();
        machine.call()?;
        if machine.fails_remove {
            return Err(io::Error::other("the file is held"));
        }
        machine.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut machine = self.machine();
        machine.call()?;
        machine.name_changes.clear();
        machine.durable_names = machine.names.clone();
        Ok(())
    }

    fn wall_clock(&self) -> Duration {
        self.machine().wall
    }

    fn boot(&self) -> Option<u64> {
        Some(self.machine().boot)
    }
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let mut machine = self.disk.machine();
        machine.reads += 1;
        let at = usize::try_from(at).expect("small files");
        let live = &machine.files[self.index].live;
        let bytes = live.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut machine = self.disk.machine();
        if std::mem::take(&mut machine.panics) {
            drop(machine);
            panic!("a bug in the disk");
        }
        let outcome = machine.call();
        let mut bytes = bytes;
        let mut result = Ok(());
        if let Err(error) = outcome {
            if machine.dies_at != Some(machine.calls) {
                return Err(error);
            }
            // It dies in the middle of this.
            let part = machine.rng.usize(0..=bytes.len());
            (bytes, result) = (&bytes[..part], Err(error));
        } else if let Some(left) = machine.room.map(|room| room.saturating_sub(machine.used()))
            && left < bytes.len()
        {
            (bytes, result) = (&bytes[..left], Err(io::ErrorKind::StorageFull.into()));
        }
        let at = usize::try_from(at).expect("small files");
        let file = &mut machine.files[self.index];
        if file.live.len() < at + bytes.len() {
            file.live.resize(at + bytes.len(), 0);
        }
        file.live[at..at + bytes.len()].copy_from_slice(bytes);
        file.pending.push(Pending::Write(at, bytes.to_vec()));
        let name = file.name.clone();
        machine.events.push(Event::Write(name));
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut machine = self.disk.machine();
        machine.call()?;
        let machine = &mut *machine;
        let file = &mut machine.files[self.index];
        if machine.fails_sync {
            // The system may drop what it could not write, and succeed the next time without it.
            file.pending.retain(|_| machine.rng.bool());
            return Err(io::Error::other("a sector is gone"));
        }
        for pending in std::mem::take(&mut file.pending) {
            pending.apply(&mut file.durable);
        }
        let name = file.name.clone();
        machine.events.push(Event::Sync(name));
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut machine = self.disk.machine();
        machine.call()?;
        if machine.fails_truncate {
            return Err(io::Error::other("nothing can be cut"));
        }
        let length = usize::try_from(length).expect("small files");
        let file = &mut machine.files[self.index];
        file.live.truncate(length);
        file.pending.push(Pending::Truncate(length));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.machine().files[self.index].live.len() as u64)
    }
}
