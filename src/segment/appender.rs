//! Group commit: one thread writes and syncs for everybody who waits.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::disk::{DiskFile, Folder};
use super::file::{self, NotCreated};
use super::reader::Cursor;
use crate::clock::{Clock, Micros};
use crate::config::Durability;

/// Appends that may wait for the thread; more callers wait for a place, which bounds memory.
const WAITING_MAX: usize = 4096;
/// A group is closed at this size, so that those in it do not wait for all that comes later.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// The owner's side of an append: gives each entry its place and its bytes. Only the writing thread calls it, in order.
/// Cloned before each group, and put back when the group could not be written.
pub trait Encoder: Clone + Send + 'static {
    /// What is appended. It is dropped once it is durable and readers are told, or refused.
    type Entry: Send;
    /// What the caller gets back: an offset, a sequence number.
    type Place: Send;
    /// The header of a segment that begins now.
    fn header(&self) -> Vec<u8>;
    /// Writes the body of the next frame.
    fn encode(&mut self, now: Micros, entry: &Self::Entry, body: &mut Vec<u8>) -> Self::Place;
}

/// How a segmented file is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Begin a new segment at this size.
    pub segment_bytes: u64,
    /// What an acknowledged append outlives.
    pub durability: Durability,
}

/// While groups of several are not rare, one waits this long for more: under load a sync costs more than the wait. Callers one at
/// a time never make a group of several, and never wait.
const COMPANY_WAIT: Duration = Duration::from_micros(400);
/// The share of groups of several, lately, from which on.
const COMPANY_MIN: f64 = 0.1;

/// Why an append was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// It could not be written, and was taken back whole; the next one may succeed.
    #[error("cannot write to {}: {}", .0.display(), .1)]
    NotWritten(PathBuf, Arc<io::Error>),
    /// It could not be synced: nobody knows what is on the disk, so nothing more is written until a restart.
    #[error("{} could not be synced and takes no more writes: check the disk, then restart", .0.display())]
    Poisoned(PathBuf),
    /// The process is stopping.
    #[error("stopping")]
    Closed,
}

struct Request<E: Encoder> {
    entries: Vec<E::Entry>,
    /// Begin a new segment, unless the current one is empty; there are no entries then.
    seal: bool,
    done: oneshot::Sender<Result<Vec<E::Place>, AppendError>>,
}

/// Entries that were handed over.
pub struct OnItsWay<P>(oneshot::Receiver<Result<Vec<P>, AppendError>>);

impl<P> OnItsWay<P> {
    /// Waits until they are durable.
    pub async fn durable(self) -> Result<Vec<P>, AppendError> {
        self.0.await.map_err(|_| AppendError::Closed)?
    }
}

/// Appends to a folder of segments. Dropping it closes the file behind what was already asked for.
pub struct Appender<E: Encoder> {
    requests: mpsc::Sender<Request<E>>,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What readers see of the writing thread.
pub(super) struct Shared {
    pub(super) folder: Folder,
    clock: Clock,
    /// When the group that is being written was given its time; none between groups.
    writing_since: Mutex<Option<Micros>>,
    pub(super) durable: watch::Sender<Cursor>,
    /// Nothing more is written: see [`AppendError::Poisoned`].
    poisoned: AtomicBool,
}

impl Shared {
    /// The durable end, and the instant up to which everything appended lies before it.
    pub(super) fn end(&self) -> (Cursor, Micros) {
        let writing_since = self.writing_since.lock();
        let complete_to = writing_since.unwrap_or_else(|| self.clock.now());
        (*self.durable.borrow(), complete_to)
    }

    /// A group's time, taken under the lock so that no reader claims an instant at or past it as complete.
    fn begin_group(&self) -> Micros {
        let mut writing_since = self.writing_since.lock();
        let now = self.clock.now();
        *writing_since = Some(now);
        now
    }

    fn end_group(&self, durable: Option<Cursor>) {
        let mut writing_since = self.writing_since.lock();
        *writing_since = None;
        if let Some(end) = durable {
            self.durable.send_replace(end);
        }
    }
}

impl<E: Encoder> Appender<E> {
    /// Continues behind `last` (see [`file::recover`]), or begins the first segment. With `fresh`, a new segment is begun
    /// in any case.
    pub fn open(
        folder: impl Into<Folder>,
        last: Option<file::Recovered>,
        fresh: bool,
        encoder: E,
        options: Options,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let folder = folder.into();
        let begin = |number| -> anyhow::Result<_> {
            let (file, bytes) = file::create(&folder, number, &encoder.header())
                .map_err(|(NotCreated::Nothing(error) | NotCreated::Unsynced(error))| error)
                .with_context(|| format!("cannot begin a segment in {}", folder.display()))?;
            Ok((file, Cursor { segment: number, byte: bytes }))
        };
        let is_new = fresh || last.is_none();
        let (file, end) = match last {
            Some(last) if !fresh => (last.file, Cursor { segment: last.number, byte: last.bytes }),
            Some(last) => begin(last.number + 1)?,
            None => begin(1)?,
        };
        let shared = Arc::new(Shared {
            folder,
            clock,
            writing_since: Mutex::new(None),
            durable: watch::Sender::new(end),
            poisoned: AtomicBool::new(false),
        });
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        // A segment that is continued may hold frames: one that was just begun ends with its header.
        let start = if is_new { end.byte } else { 0 };
        let writer = Writer { shared: shared.clone(), file, end, start, synced: end.byte, encoder, options };
        let thread = std::thread::Builder::new().name("segment".into()).spawn(move || writer.run(waiting))?;
        Ok(Self { requests, shared, thread: Some(thread) })
    }

    /// Durable when it returns. All entries lie next to each other, or none is there.
    pub async fn append(&self, entries: Vec<E::Entry>) -> Result<Vec<E::Place>, AppendError> {
        self.begin(entries).await?.durable().await
    }

    /// Hands the entries over: when it returns they are on their way, whoever waits for them or not.
    pub async fn begin(&self, entries: Vec<E::Entry>) -> Result<OnItsWay<E::Place>, AppendError> {
        self.request(entries, false).await
    }

    /// Begins a new segment, so that those before it never change again; nothing happens when the current one is empty.
    pub async fn seal(&self) -> Result<(), AppendError> {
        self.request(Vec::new(), true).await?.durable().await.map(drop)
    }

    async fn request(&self, entries: Vec<E::Entry>, seal: bool) -> Result<OnItsWay<E::Place>, AppendError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(Request { entries, seal, done }).await.map_err(|_| AppendError::Closed)?;
        Ok(OnItsWay(answer))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether a sync failed, so that nothing is taken any more.
    pub fn is_poisoned(&self) -> bool {
        self.shared.poisoned.load(Ordering::Acquire)
    }

    /// The durable end as it moves.
    pub fn watch(&self) -> watch::Receiver<Cursor> {
        self.shared.durable.subscribe()
    }
}

impl<E: Encoder> Drop for Appender<E> {
    fn drop(&mut self) {
        // The thread ends when the last sender is gone.
        self.requests = mpsc::channel(1).0;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Writer<E: Encoder> {
    shared: Arc<Shared>,
    file: Box<dyn DiskFile>,
    end: Cursor,
    /// Where the current segment's frames begin; 0 where it is not known.
    start: u64,
    /// How much of the file is known to be on the disk: what later frames vouch for.
    synced: u64,
    encoder: E,
    options: Options,
}

impl<E: Encoder> Writer<E> {
    fn run(mut self, mut waiting: mpsc::Receiver<Request<E>>) {
        let mut bytes = Vec::new();
        let mut company = 0.0;
        let mut held = None;
        while let Some(first) = held.take().or_else(|| waiting.blocking_recv()) {
            if company > COMPANY_MIN && self.options.durability == Durability::Fsync && self.shared.folder.disk.sync_is_dear() {
                std::thread::sleep(COMPANY_WAIT);
            }
            bytes.clear();
            let before = self.encoder.clone();
            let rolled = self.roll_if_full(first.seal);
            let now = self.shared.begin_group();
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next {
                let places: Vec<_> = request
                    .entries
                    .iter()
                    .map(|entry| {
                        let encoder = &mut self.encoder;
                        file::write_frame(&mut bytes, self.synced, |body| encoder.encode(now, entry, body))
                    })
                    .collect();
                group.push((request, places));
                next = if bytes.len() < GROUP_BYTES_MAX { waiting.try_recv().ok() } else { None };
                if next.as_ref().is_some_and(|request| request.seal) {
                    held = next.take();
                }
            }
            company += (f64::from(u8::from(group.len() > 1)) - company) / 16.0;
            let outcome = rolled.and_then(|()| self.commit(&bytes));
            self.shared.end_group(outcome.is_ok().then_some(self.end));
            if outcome.is_err() {
                self.encoder = before;
            }
            for (request, places) in group {
                // A caller that went away has its entry written all the same.
                drop(request.done.send(outcome.clone().map(|()| places)));
            }
        }
    }

    fn poisoned(&self) -> bool {
        self.shared.poisoned.load(Ordering::Acquire)
    }

    fn not_written(&self, error: io::Error) -> AppendError {
        AppendError::NotWritten(self.shared.folder.path().to_owned(), Arc::new(error))
    }

    /// After a failed sync the kernel may have dropped the pages and marked them clean: never ask the same file again.
    fn poison(&self, error: &io::Error) -> AppendError {
        tracing::error!(
            folder = %self.shared.folder.display(),
            %error,
            "cannot sync; taking no more writes until a restart"
        );
        self.shared.poisoned.store(true, Ordering::Release);
        AppendError::Poisoned(self.shared.folder.path().to_owned())
    }

    fn roll_if_full(&mut self, seal: bool) -> Result<(), AppendError> {
        let full = self.end.byte >= self.options.segment_bytes || (seal && self.end.byte > self.start);
        if self.poisoned() || !full {
            return Ok(());
        }
        // Only the last segment's tail is mended at a start, so one that is left must be whole on the disk.
        self.file.sync_all().map_err(|error| self.poison(&error))?;
        let number = self.end.segment + 1;
        let (file, byte) =
            file::create(&self.shared.folder, number, &self.encoder.header()).map_err(|not_created| match not_created {
                NotCreated::Nothing(error) => self.not_written(error),
                // The next start would look at this segment, and not at what went on being written before it.
                NotCreated::Unsynced(error) => self.poison(&error),
            })?;
        self.file = file;
        self.end = Cursor { segment: number, byte };
        self.start = byte;
        self.synced = byte;
        Ok(())
    }

    fn commit(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        if self.poisoned() {
            return Err(AppendError::Poisoned(self.shared.folder.path().to_owned()));
        }
        if let Err(error) = self.file.write_all_at(bytes, self.end.byte) {
            tracing::error!(folder = %self.shared.folder.display(), %error, "cannot write; taking the group back");
            // Half a group must not stay: a later, shorter one would leave whole frames of it behind its own end, in the file or,
            // were the cut not durable before the next write, on the disk after a crash.
            let taken_back = self.file.set_length(self.end.byte).and_then(|()| self.file.sync_all());
            return Err(taken_back.map_or_else(|error| self.poison(&error), |()| self.not_written(error)));
        }
        if self.options.durability == Durability::Fsync
            && let Err(error) = self.file.sync_data()
        {
            let poisoned = self.poison(&error);
            // Those who wait are refused: what a restart would find must not count.
            drop(self.file.set_length(self.end.byte));
            return Err(poisoned);
        }
        self.end.byte += bytes.len() as u64;
        if self.options.durability == Durability::Fsync {
            self.synced = self.end.byte;
        }
        Ok(())
    }
}
