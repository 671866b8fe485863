//! A simulated disk. It keeps what is durable apart from what processes see, and decides by a seed what a power cut leaves.
//!
//! After a power cut, of each write that was not synced all, nothing, or any of its sectors are there, whatever became of
//! earlier and later ones; a file may have grown without its bytes (zeros then); a cut of a file, a new name, a rename or a
//! removal happened or did not, each for itself. Syncing a file says nothing of its name. A sync that fails leaves any part of
//! what it should have written, and later ones pass over the rest: the kernel has marked the pages as clean.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Condvar, Mutex};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tollgate::segment::{Disk, DiskFile};

mod process;

const SECTOR_BYTES: usize = 512;

/// What happened, over many disks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) power_cuts: u64,
    pub(super) kills: u64,
    /// Ends in the middle of an operation.
    pub(super) mid_operation: u64,
    pub(super) faults: u64,
    pub(super) writes_dropped: u64,
    pub(super) writes_torn: u64,
    pub(super) names_lost: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.mid_operation += other.mid_operation;
        self.faults += other.faults;
        self.writes_dropped += other.writes_dropped;
        self.writes_torn += other.writes_torn;
        self.names_lost += other.names_lost;
    }
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Default)]
struct File {
    durable: Vec<u8>,
    seen: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum NameChange {
    Put(OsString, usize),
    Renamed { from: OsString, to: OsString, file: usize },
    Removed(OsString),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<OsString, usize>) {
        match self {
            Self::Put(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Renamed { from, to, file } => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
            Self::Removed(name) => drop(names.remove(name)),
        }
    }
}

#[derive(Clone)]
struct State {
    rng: ChaCha8Rng,
    files: Vec<File>,
    /// One folder is enough for a chain of segments.
    seen: BTreeMap<OsString, usize>,
    durable: BTreeMap<OsString, usize>,
    unsynced: Vec<NameChange>,
    /// Handles of an earlier one are dead.
    process: u64,
    operations: u64,
    /// The process ends in the middle of this operation.
    ends_at: Option<u64>,
    ended: bool,
    fault_rate: f64,
    /// Faults in this process's life.
    faults: u64,
    /// Whether writes wait until they are let go.
    holding: bool,
    held: bool,
    waker: Option<Waker>,
    tally: Tally,
}

enum Fate {
    Done,
    Fails,
    /// The process ends in the middle of it.
    Ends,
}

struct Inner {
    state: Mutex<State>,
    let_go: Condvar,
}

/// The disk, as the test sees it.
#[derive(Clone)]
pub(super) struct SimDisk(Arc<Inner>);

/// The disk, as one process sees it.
struct Process {
    disk: Arc<Inner>,
    number: u64,
}

struct Open {
    disk: Arc<Inner>,
    process: u64,
    file: usize,
}

fn gone() -> io::Error {
    io::Error::other("the process is gone")
}

impl State {
    fn check(&self, process: u64) -> io::Result<()> {
        if self.ended || self.process != process { Err(gone()) } else { Ok(()) }
    }

    fn fate(&mut self, process: u64) -> io::Result<Fate> {
        self.check(process)?;
        self.operations += 1;
        if self.ends_at == Some(self.operations) {
            self.ended = true;
            self.tally.mid_operation += 1;
            return Ok(Fate::Ends);
        }
        if self.fault_rate > 0.0 && self.rng.random_bool(self.fault_rate) {
            self.faults += 1;
            self.tally.faults += 1;
            return Ok(Fate::Fails);
        }
        Ok(Fate::Done)
    }

    /// An operation that happens or does not.
    fn all_or_nothing<T>(&mut self, process: u64, happen: impl FnOnce(&mut Self) -> T) -> io::Result<T> {
        match self.fate(process)? {
            Fate::Done => Ok(happen(self)),
            Fate::Fails => Err(io::ErrorKind::StorageFull.into()),
            Fate::Ends => {
                if self.rng.random_bool(0.5) {
                    happen(self);
                }
                Err(gone())
            }
        }
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    fn change(&mut self, file: usize, change: Change) {
        let file = &mut self.files[file];
        apply(&mut file.seen, &change);
        file.unsynced.push(change);
    }

    /// Of what was not synced, any part becomes durable, and the bytes of the rest are forgotten. What cut the file is told.
    fn tear(&mut self, file: usize) -> Vec<Change> {
        let File { durable, unsynced, .. } = &mut self.files[file];
        let cuts = unsynced.iter().filter(|change| matches!(change, Change::Length(_))).cloned().collect();
        for change in unsynced.drain(..) {
            // 0: all of it; 3: nothing.
            let survives = self.rng.random_range(0..4);
            match change {
                Change::Length(_) if survives < 2 => apply(durable, &change),
                Change::Length(_) => {}
                Change::Write { .. } if survives == 0 => apply(durable, &change),
                Change::Write { at, bytes } => {
                    let end = at + bytes.len();
                    if survives < 3 {
                        self.tally.writes_torn += 1;
                        let mut from = at;
                        while from < end {
                            let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                            if self.rng.random_bool(0.5) {
                                let bytes = bytes[from - at..to - at].to_vec();
                                apply(durable, &Change::Write { at: from, bytes });
                            }
                            from = to;
                        }
                    } else {
                        self.tally.writes_dropped += 1;
                    }
                    if durable.len() < end && self.rng.random_bool(0.3) {
                        durable.resize(end, 0);
                    }
                }
            }
        }
        cuts
    }

    fn power_cut(&mut self) {
        let mut names = std::mem::take(&mut self.durable);
        for change in std::mem::take(&mut self.unsynced) {
            if self.rng.random_bool(0.5) {
                change.apply(&mut names);
            } else {
                self.tally.names_lost += 1;
            }
        }
        for file in 0..self.files.len() {
            drop(self.tear(file));
            self.files[file].seen = self.files[file].durable.clone();
        }
        self.durable = names.clone();
        self.seen = names;
    }
}

fn apply(to: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(bytes) => to.resize(*bytes, 0),
        Change::Write { at, bytes } => {
            let end = at + bytes.len();
            if to.len() < end {
                to.resize(end, 0);
            }
            to[*at..end].copy_from_slice(bytes);
        }
    }
}

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            files: Vec::new(),
            seen: BTreeMap::new(),
            durable: BTreeMap::new(),
            unsynced: Vec::new(),
            process: 0,
            operations: 0,
            ends_at: None,
            ended: false,
            fault_rate: 0.0,
            faults: 0,
            holding: false,
            held: false,
            waker: None,
            tally: Tally::default(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), let_go: Condvar::new() }))
    }

    /// Another disk with the same on it.
    pub(super) fn copy(&self) -> Self {
        let state = self.0.state.lock().clone();
        Self(Arc::new(Inner { state: Mutex::new(state), let_go: Condvar::new() }))
    }

    /// A process that ends in the middle of operation `ends_at`; of its operations, `fault_rate` fail.
    pub(super) fn process(&self, ends_at: Option<u64>, fault_rate: f64) -> Arc<dyn Disk> {
        let mut state = self.0.state.lock();
        state.process += 1;
        (state.operations, state.ends_at, state.fault_rate) = (0, ends_at, fault_rate);
        (state.ended, state.faults, state.holding, state.held) = (false, 0, false, false);
        Arc::new(Process { disk: self.0.clone(), number: state.process })
    }

    /// From now on writes wait to be let go.
    pub(super) fn hold_writes(&self) {
        self.0.state.lock().holding = true;
    }

    /// Whether a write waits; who asks is woken when one does.
    pub(super) fn holds(&self, waker: &Waker) -> bool {
        let mut state = self.0.state.lock();
        state.waker = Some(waker.clone());
        state.held
    }

    pub(super) fn let_go(&self) {
        self.0.state.lock().held = false;
        self.0.let_go.notify_all();
    }

    /// The process ends in the middle of the operation that is so many from here.
    pub(super) fn ends_after(&self, operations: u64) {
        let mut state = self.0.state.lock();
        state.ends_at = Some(state.operations + operations);
    }

    /// The process is gone, whatever it was doing.
    fn end(&self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        state.held = false;
        self.0.let_go.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.state.lock().ended
    }

    /// Whether an operation of this process failed.
    pub(super) fn had_faults(&self) -> bool {
        self.0.state.lock().faults > 0
    }

    /// The machine goes on, and so does its page cache.
    pub(super) fn kill(&self) {
        self.end();
        self.0.state.lock().tally.kills += 1;
    }

    /// What is durable stays, and any part of the rest.
    pub(super) fn power_cut(&self) {
        self.end();
        let mut state = self.0.state.lock();
        state.tally.power_cuts += 1;
        state.power_cut();
    }

    /// Files as a process would see them, by name.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.state.lock();
        state.seen.iter().map(|(name, &file)| (name.to_str().unwrap().to_owned(), state.files[file].seen.clone())).collect()
    }

    /// A bit of what is durable flips.
    pub(super) fn flip(&self, name: &str, byte: usize, bit: u8) {
        let mut state = self.0.state.lock();
        let file = state.seen[&OsString::from(name)];
        let File { seen, durable, unsynced } = &mut state.files[file];
        assert!(unsynced.is_empty());
        durable[byte] ^= 1 << bit;
        seen.clone_from(durable);
    }

    pub(super) fn tally(&self) -> Tally {
        self.0.state.lock().tally
    }
}

/// Lets a held write go when a test fails: who appends waits for it before the test ends.
pub(super) struct LetGo(pub(super) SimDisk);

impl Drop for LetGo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}
