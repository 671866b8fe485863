//! The usage journal: this replica's own log of what it answered.
//!
//! A frame's body is sequence u64, the SHA-256 of the body before it (32 bytes), and the record as JSON. Each start is a new
//! epoch with sequences from 1, in a new segment; the chain of hashes goes on through all of them. (replica, epoch,
//! sequence) identifies a record for good, so that shipping it again is seen.

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::in_flight::Admission;
use super::record::UsageRecord;
use crate::clock::{Clock, Micros};
use crate::ids::ReplicaId;
use crate::segment::{self, AppendError, Appender, Cursor, Encoder, Folder, OnItsWay, Options, Reader, Recovered};

/// What lies in a frame before the record.
pub(super) const FIXED_BYTES: usize = 40;

/// What a segment's header says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Whose journal.
    pub replica: ReplicaId,
    /// Which start of it.
    pub epoch: i64,
    /// The first sequence in this segment.
    pub first: u64,
    /// The last record before this segment: its epoch and sequence; none in the first segment.
    pub before: Option<(i64, u64)>,
    /// SHA-256 of the last body before this segment, in hex.
    pub previous: String,
}

#[derive(Clone)]
struct Chain {
    replica: ReplicaId,
    epoch: i64,
    next: u64,
    /// The last record before this epoch.
    before: Option<(i64, u64)>,
    previous: [u8; 32],
}

/// A record on its way, and what keeps its admission in flight until it is durable.
struct Entry {
    record: UsageRecord,
    _admission: Option<Admission>,
}

impl Encoder for Chain {
    type Entry = Entry;
    type Place = u64;

    fn header(&self) -> Vec<u8> {
        let before = if self.next > 1 { Some((self.epoch, self.next - 1)) } else { self.before };
        let header =
            Header { replica: self.replica.clone(), epoch: self.epoch, first: self.next, before, previous: hex(&self.previous) };
        serde_json::to_vec(&header).unwrap_or_default()
    }

    fn encode(&mut self, _now: Micros, entry: &Entry, body: &mut Vec<u8>) -> u64 {
        let start = body.len();
        let sequence = self.next;
        body.extend_from_slice(&sequence.to_le_bytes());
        body.extend_from_slice(&self.previous);
        // Serializing plain structs into memory cannot fail.
        drop(serde_json::to_writer(&mut *body, &entry.record));
        self.previous = Sha256::digest(&body[start..]).into();
        self.next += 1;
        sequence
    }
}

/// Bytes as text, two digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A SHA-256 out of its text.
pub(crate) fn unhex(text: &str) -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    ensure!(text.len() == 64 && text.is_ascii(), "\"{text}\" is no SHA-256");
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).with_context(|| format!("\"{text}\" is no SHA-256"))?;
    }
    Ok(bytes)
}

/// A frame's sequence, and its record's JSON.
pub(super) fn split_frame(body: &[u8]) -> anyhow::Result<(u64, &[u8])> {
    ensure!(body.len() > FIXED_BYTES, "a journal record of {} bytes is too short", body.len());
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&body[..8]);
    Ok((u64::from_le_bytes(sequence), &body[FIXED_BYTES..]))
}

/// A frame's sequence and record.
pub fn parse_frame(body: &[u8]) -> anyhow::Result<(u64, UsageRecord)> {
    let (sequence, json) = split_frame(body)?;
    Ok((sequence, serde_json::from_slice(json)?))
}

/// Where records become durable.
pub struct Journal {
    folder: Folder,
    replica: ReplicaId,
    epoch: i64,
    appender: Appender<Chain>,
    /// Between looking for a reader's place and taking segments away.
    removing: Mutex<()>,
}

/// What there is of a journal when nobody appends.
struct Found {
    header: Header,
    /// The last record of all.
    before: Option<(i64, u64)>,
    /// The SHA-256 of its body.
    previous: [u8; 32],
    last: Recovered,
}

/// Cuts a torn tail off the last segment and follows its chain. None where there is no segment.
fn recover(folder: &Folder, replica: &ReplicaId) -> anyhow::Result<Option<Found>> {
    let Some(&last) = segment::list(folder)?.last() else { return Ok(None) };
    let header = header_of(folder, last)?;
    ensure!(
        header.replica == *replica,
        "the journal in {} is of replica {}, but this data_dir is of {replica}: do not mix the folders of two",
        folder.display(),
        header.replica
    );
    let (mut before, mut previous) = (header.before, unhex(&header.previous)?);
    let recovered = segment::recover(folder, |body| {
        let (sequence, _) = parse_frame(body)?;
        ensure!(body[8..FIXED_BYTES] == previous, "record {}/{sequence} does not continue the chain", header.epoch);
        before = Some((header.epoch, sequence));
        previous = Sha256::digest(body).into();
        Ok(())
    })?;
    let last = recovered.context("the journal's last segment went away while it was read")?;
    if last.cut_bytes > 0 {
        tracing::warn!(
            segment = last.number,
            cut_bytes = last.cut_bytes,
            "the journal had a torn tail; no answer left for what was in it"
        );
    }
    Ok(Some(Found { header, before, previous, last }))
}

impl Journal {
    /// The newest epoch that the journal in `folder` has; 0 where it has none.
    pub fn last_epoch(folder: impl Into<Folder>) -> anyhow::Result<i64> {
        let folder = folder.into();
        if !folder.exists() {
            return Ok(0);
        }
        let Some(&last) = segment::list(&folder)?.last() else { return Ok(0) };
        Ok(header_of(&folder, last)?.epoch)
    }

    /// Begins `epoch`, which must be above all that were, behind what is there.
    pub fn open(
        folder: impl Into<Folder>,
        replica: ReplicaId,
        epoch: i64,
        options: Options,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let folder = folder.into();
        folder.create()?;
        let mut chain = Chain { replica: replica.clone(), epoch, next: 1, before: None, previous: [0; 32] };
        let mut last = None;
        if let Some(found) = recover(&folder, &replica)? {
            ensure!(found.header.epoch < epoch, "the journal in {} has epoch {} already", folder.display(), found.header.epoch);
            (chain.before, chain.previous) = (found.before, found.previous);
            last = Some(found.last);
        }
        let appender = Appender::open(&folder, last, true, chain, options, clock)?;
        Ok(Self { folder, replica, epoch, appender, removing: Mutex::default() })
    }

    /// Hands a record over: it is on its way when this returns, and durable when the answer has been waited for. Its admission
    /// is in flight until then, whether anybody waits or not.
    pub async fn append_admitted(&self, record: UsageRecord, admission: Admission) -> Result<OnItsWay<u64>, AppendError> {
        self.appender.begin(vec![Entry { record, _admission: Some(admission) }]).await
    }

    /// The same for a record whose admission nobody keeps track of: for tests and benches.
    pub async fn append(&self, record: UsageRecord) -> Result<OnItsWay<u64>, AppendError> {
        self.appender.begin(vec![Entry { record, _admission: None }]).await
    }

    /// Begins a new segment, so that those before it never change again; nothing happens when the current one is empty.
    pub async fn seal(&self) -> Result<(), AppendError> {
        self.appender.seal().await
    }

    /// Whether a sync failed, so that nothing is taken any more.
    pub fn is_poisoned(&self) -> bool {
        self.appender.is_poisoned()
    }

    /// Whose it is.
    pub fn replica(&self) -> &ReplicaId {
        &self.replica
    }

    /// Which start of it.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The durable end as it moves.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Cursor> {
        self.appender.watch()
    }

    /// A reader from the first segment that holds something that `shipped` does not cover: for an epoch, the last sequence
    /// in the ledger.
    pub fn reader(&self, shipped: impl Fn(i64) -> u64) -> anyhow::Result<Reader> {
        let _removing = self.removing.lock();
        Ok(Reader::new(&self.appender, first_unshipped(&self.folder, shipped)?))
    }

    /// Where its segments are.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The first segment that is still here.
    pub fn first_segment(&self) -> anyhow::Result<u64> {
        Ok(segment::list(&self.folder)?.first().copied().unwrap_or(1))
    }

    /// Where the records of a segment begin.
    pub fn start_of(&self, segment: u64) -> anyhow::Result<u64> {
        Ok(segment::header_of(&self.folder, segment)?.1)
    }

    /// Deletes the segments below `number`; never the current one.
    pub fn remove_below(&self, number: u64) -> anyhow::Result<()> {
        let _removing = self.removing.lock();
        segment::remove_before(&self.folder, number.min(self.watch().borrow().segment))
    }
}

/// A journal that nobody appends to: the caller holds the data folder's lock.
pub(super) struct AtRest {
    folder: Folder,
    end: Cursor,
    /// Its newest start.
    pub(super) epoch: i64,
}

impl AtRest {
    /// What there is, whole and durable; none where no segment is.
    pub(super) fn open(folder: impl Into<Folder>, replica: &ReplicaId) -> anyhow::Result<Option<Self>> {
        let folder = folder.into();
        if !folder.exists() {
            return Ok(None);
        }
        let found = recover(&folder, replica)?;
        Ok(found.map(|found| Self {
            folder,
            end: Cursor { segment: found.last.number, byte: found.last.bytes },
            epoch: found.header.epoch,
        }))
    }

    /// As [`Journal::reader`].
    pub(super) fn reader(&self, shipped: impl Fn(i64) -> u64) -> anyhow::Result<Reader> {
        Ok(Reader::at_rest(&self.folder, first_unshipped(&self.folder, shipped)?, self.end))
    }

    /// The numbers of its first and last segment.
    pub(super) fn segments(&self) -> anyhow::Result<(u64, u64)> {
        Ok((segment::list(&self.folder)?.first().copied().unwrap_or(self.end.segment), self.end.segment))
    }
}

fn first_unshipped(folder: &Folder, shipped: impl Fn(i64) -> u64) -> anyhow::Result<u64> {
    let numbers = segment::list(folder)?;
    let mut first = numbers.first().copied().unwrap_or(1);
    for &number in numbers.iter().skip(1) {
        match header_of(folder, number)?.before {
            Some((epoch, sequence)) if shipped(epoch) < sequence => break,
            _ => first = number,
        }
    }
    Ok(first)
}

fn header_of(folder: &Folder, number: u64) -> anyhow::Result<Header> {
    let (bytes, _) = segment::header_of(folder, number)?;
    serde_json::from_slice(&bytes).with_context(|| format!("segment {number} in {} has an unknown header", folder.display()))
}

/// Journals for the tests of those who read them.
#[cfg(test)]
pub(super) mod testing {
    use bytes::Bytes;

    use super::super::record::{Mode, UsageRecord};
    use super::*;
    use crate::config::Durability;

    /// The record `n` of a replica of a test: half an hour before or behind its neighbours, of three partners in turn, every tenth
    /// one of mode test.
    pub(crate) fn record(replica: &str, n: u64) -> UsageRecord {
        UsageRecord {
            v: 1,
            request: format!("req_{n}_{replica}").into(),
            at: Micros(1_793_000_000_000_000 + 1_800_000_000 * i64::try_from(n ^ 1).unwrap()),
            partner: format!("pt_{}", n % 3).into(),
            key: "key".into(),
            mode: if n % 10 == 9 { Mode::Test } else { Mode::Live },
            plan: "p".into(),
            plan_version: 1,
            units: [(super::super::Product::Inventory, n)].into(),
            waived_units: Default::default(),
        }
    }

    /// A journal in `folder` with an epoch for each of `starts`, each of so many records, in small segments.
    pub(crate) async fn journal(folder: &std::path::Path, replica: &str, starts: &[u64]) {
        let mut n = 0;
        for (epoch, count) in (1..).zip(starts) {
            let options = Options { segment_bytes: 4096, durability: Durability::Os };
            let journal = Journal::open(folder, replica.into(), epoch, options, Clock::manual(Micros(0))).unwrap();
            for _ in 0..*count {
                journal.append(record(replica, n)).await.unwrap().durable().await.unwrap();
                n += 1;
            }
        }
    }

    /// The bytes of a folder's segments, in order.
    pub(crate) fn segments(folder: &std::path::Path) -> Vec<Bytes> {
        let numbers = segment::list(folder).unwrap();
        numbers.iter().map(|number| std::fs::read(folder.join(format!("{number:016}.seg"))).unwrap().into()).collect()
    }
}
