//! What is put on the simulated disk: the usage journal, which begins a segment at each start, and a log that goes on in its
//! last one and lets go of old ones, as the event log does. Each is read back by the description of its format alone.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tollgate::clock::{Clock, Micros};
use tollgate::ids::ReplicaId;
use tollgate::metering::{Header, Journal, Mode, UsageRecord, parse_frame};
use tollgate::segment::{self, AppendError, Appender, Disk, Encoder, Folder, Item, Options, Reader};

/// An entry: the epoch and the sequence that it has, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) epoch: i64,
    pub(super) sequence: u64,
    pub(super) id: u64,
}

/// A frame on the disk.
pub(super) struct Frame {
    pub(super) file: String,
    pub(super) start: usize,
    pub(super) end: usize,
    /// How much of the file was durable when it was written.
    pub(super) synced: usize,
    pub(super) entry: Entry,
}

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Option<u64>, AppendError>>>>;

/// Something that appends, opened by a process.
pub(super) trait Subject: Sized + 'static {
    fn open(disk: Arc<dyn Disk>, epoch: i64, options: Options) -> anyhow::Result<Arc<Self>>;
    /// Appends an entry of about so many bytes; its sequence is the answer.
    fn append(self: &Arc<Self>, id: u64, bytes: usize) -> Answer;
    fn seal(self: &Arc<Self>) -> Answer;
    /// Lets go of what lies before segment `number`.
    fn retire(&self, number: u64) -> anyhow::Result<()>;
    /// The ids that its own reader finds.
    fn read(&self) -> anyhow::Result<Vec<u64>>;
    /// All frames on the disk, in order; that each file is whole and continues the one before it is asserted.
    fn frames(files: &BTreeMap<String, Vec<u8>>) -> Vec<Frame>;
}

const FOLDER: &str = "/simulated";

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Gives each segment's header, and each frame's place, `synced` and body.
fn walk<'a>(
    files: &'a BTreeMap<String, Vec<u8>>,
    mut header: impl FnMut(&'a [u8]),
    mut frame: impl FnMut(&str, usize, usize, &'a [u8]),
) {
    let mut before: Option<u64> = None;
    for (name, bytes) in files.iter().filter(|(name, _)| *name != "next.new") {
        let number: u64 = name.strip_suffix(".seg").unwrap().parse().unwrap();
        assert!(before.is_none_or(|before| number == before + 1), "segments are numbered without gaps");
        before = Some(number);
        assert_eq!(&bytes[..8], b"TGSEG\x01\0\0");
        let frames = 16 + u32_at(bytes, 8);
        assert_eq!(crc32c::crc32c(&bytes[16..frames]) as usize, u32_at(bytes, 12), "the header's checksum in {name}");
        header(&bytes[16..frames]);
        let mut at = frames;
        while at < bytes.len() {
            assert!(at + 16 < bytes.len(), "{name} is cut off at byte {at}");
            let end = at + 16 + u32_at(bytes, at);
            assert!(end <= bytes.len(), "{name} is cut off at byte {at}");
            assert_eq!(crc32c::crc32c(&bytes[at + 8..end]) as usize, u32_at(bytes, at + 4), "{name} at byte {at}");
            frame(name, at, end, bytes);
            at = end;
        }
    }
}

fn clock() -> Clock {
    Clock::manual(Micros(1_780_000_000_000_000))
}

fn record(id: u64, bytes: usize) -> UsageRecord {
    UsageRecord {
        v: 1,
        request: id.to_string().into(),
        at: Micros(1_780_000_000_000_000),
        partner: "x".repeat(bytes).into(),
        key: "k".into(),
        mode: Mode::Live,
        plan: "p".into(),
        plan_version: 1,
        units: BTreeMap::new(),
        waived_units: BTreeMap::new(),
    }
}

impl Subject for Journal {
    fn open(disk: Arc<dyn Disk>, epoch: i64, options: Options) -> anyhow::Result<Arc<Self>> {
        let folder = Folder::on(disk, Path::new(FOLDER));
        assert!(Self::last_epoch(&folder)? < epoch);
        Ok(Arc::new(Self::open(&folder, ReplicaId::from("rep_test"), epoch, options, clock())?))
    }

    fn append(self: &Arc<Self>, id: u64, bytes: usize) -> Answer {
        let journal = self.clone();
        Box::pin(async move { Ok(Self::append(&journal, record(id, bytes)).await?.durable().await?.pop()) })
    }

    fn seal(self: &Arc<Self>) -> Answer {
        let journal = self.clone();
        Box::pin(async move { Self::seal(&journal).await.map(|()| None) })
    }

    fn retire(&self, number: u64) -> anyhow::Result<()> {
        self.remove_below(number)
    }

    fn read(&self) -> anyhow::Result<Vec<u64>> {
        // The ledger has what was let go, and nothing of what is here.
        let folder = self.folder();
        let oldest = segment::list(folder)?.first().copied();
        let header = oldest.map(|oldest| segment::header_of(folder, oldest)).transpose()?;
        let header: Option<Header> = header.map(|(text, _)| serde_json::from_slice(&text)).transpose()?;
        let gone = header.and_then(|header| header.before);
        let shipped = |epoch| gone.filter(|(of, _)| *of == epoch).map_or(0, |(_, sequence)| sequence);
        read(self.reader(shipped)?, |body| Ok(parse_frame(body)?.1.request.as_str().parse()?))
    }

    fn frames(files: &BTreeMap<String, Vec<u8>>) -> Vec<Frame> {
        use std::cell::{Cell, RefCell};
        let found = RefCell::new(Vec::<Frame>::new());
        // The last record's epoch, sequence and hash. The first segment may follow on others that were let go.
        let last = RefCell::new(None::<(i64, u64, String)>);
        let (epoch, next) = (Cell::new(0), Cell::new(1));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        walk(
            files,
            |header| {
                let header: Value = serde_json::from_slice(header).unwrap();
                assert_eq!(header["replica"], "rep_test");
                let before: Option<(i64, u64)> = serde_json::from_value(header["before"].clone()).unwrap();
                let (before_epoch, before_sequence) = before.unwrap_or_default();
                let said = (before_epoch, before_sequence, header["previous"].as_str().unwrap().to_owned());
                assert_eq!(*last.borrow_mut().get_or_insert(said.clone()), said, "the chain goes on over segments");
                let is = header["epoch"].as_i64().unwrap();
                assert!(is >= epoch.replace(is) && is >= before_epoch, "epochs ascend");
                next.set(if before_epoch == is { before_sequence + 1 } else { 1 });
                assert_eq!(header["first"], next.get(), "sequences begin anew with each epoch, and only then");
            },
            |name, start, end, bytes| {
                let body = &bytes[start + 16..end];
                let sequence = next.replace(next.get() + 1);
                assert_eq!(u64_at(body, 0), sequence, "sequences are contiguous");
                let hash = last.replace(Some((epoch.get(), sequence, hex(&Sha256::digest(body))))).unwrap().2;
                assert_eq!(hex(&body[8..40]), hash, "the chain of hashes goes on");
                let json: Value = serde_json::from_slice(&body[40..]).unwrap();
                let id = json["request"].as_str().unwrap().parse().unwrap();
                let synced = u64_at(bytes, start + 8) as usize;
                let entry = Entry { epoch: epoch.get(), sequence, id };
                found.borrow_mut().push(Frame { file: name.to_owned(), start, end, synced, entry });
            },
        );
        found.into_inner()
    }
}

fn read(mut reader: Reader, id: impl Fn(&[u8]) -> anyhow::Result<u64>) -> anyhow::Result<Vec<u64>> {
    let mut ids = Vec::new();
    loop {
        let (items, at_end) = reader.read()?;
        for item in items {
            if let Item::Frame(body) = item {
                ids.push(id(&body)?);
            }
        }
        if at_end.is_some() {
            return Ok(ids);
        }
    }
}

/// Numbers from 1, over all starts.
#[derive(Clone)]
struct Numbers(u64);

impl Encoder for Numbers {
    type Entry = (u64, usize);
    type Place = u64;

    fn header(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn encode(&mut self, _now: Micros, &(id, bytes): &(u64, usize), body: &mut Vec<u8>) -> u64 {
        body.extend_from_slice(&self.0.to_le_bytes());
        body.extend_from_slice(&id.to_le_bytes());
        body.resize(body.len() + bytes, 7);
        self.0 += 1;
        self.0 - 1
    }
}

/// A log that goes on in its last segment.
pub(super) struct Log {
    folder: Folder,
    appender: Appender<Numbers>,
}

impl Subject for Log {
    fn open(disk: Arc<dyn Disk>, _epoch: i64, options: Options) -> anyhow::Result<Arc<Self>> {
        let folder = Folder::on(disk, Path::new(FOLDER));
        folder.create()?;
        let mut numbers = Numbers(1);
        if let Some(&last) = segment::list(&folder)?.last() {
            numbers.0 = u64_at(&segment::header_of(&folder, last)?.0, 0);
        }
        let last = segment::recover(&folder, |body| {
            anyhow::ensure!(u64_at(body, 0) == numbers.0, "{} is not {}", u64_at(body, 0), numbers.0);
            numbers.0 += 1;
            Ok(())
        })?;
        let appender = Appender::open(&folder, last, false, numbers, options, clock())?;
        Ok(Arc::new(Self { folder, appender }))
    }

    fn append(self: &Arc<Self>, id: u64, bytes: usize) -> Answer {
        let log = self.clone();
        Box::pin(async move { Ok(log.appender.append(vec![(id, bytes)]).await?.pop()) })
    }

    fn seal(self: &Arc<Self>) -> Answer {
        let log = self.clone();
        Box::pin(async move { log.appender.seal().await.map(|()| None) })
    }

    fn retire(&self, number: u64) -> anyhow::Result<()> {
        segment::remove_before(&self.folder, number)
    }

    fn read(&self) -> anyhow::Result<Vec<u64>> {
        let first = segment::list(&self.folder)?.first().copied().unwrap_or(1);
        read(Reader::new(&self.appender, first), |body| Ok(u64_at(body, 8)))
    }

    fn frames(files: &BTreeMap<String, Vec<u8>>) -> Vec<Frame> {
        use std::cell::{Cell, RefCell};
        let (found, next) = (RefCell::new(Vec::<Frame>::new()), Cell::new(None));
        walk(
            files,
            |header| {
                let number = u64_at(header, 0);
                assert!(next.get().is_none_or(|next| next == number), "numbers go on over segments");
                next.set(Some(number));
            },
            |name, start, end, bytes| {
                let (sequence, id) = (u64_at(bytes, start + 16), u64_at(bytes, start + 24));
                assert_eq!(Some(sequence), next.get(), "numbers are contiguous");
                let synced = u64_at(bytes, start + 8) as usize;
                let entry = Entry { epoch: 0, sequence, id };
                found.borrow_mut().push(Frame { file: name.to_owned(), start, end, synced, entry });
                next.set(Some(sequence + 1));
            },
        );
        found.into_inner()
    }
}
