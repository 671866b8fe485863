//! The embedded event log: all partitions in one chain of segments, so that one sync commits a batch whatever it touches.
//!
//! A frame is partition u16, offset u64, append time i64 (microseconds), payload. A segment's header holds where each
//! partition stands at its start, so that a reader finds its first segment without an index.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::log::{Batch, EventLog, EventReader, LogError, NewRecord, Position, Positions, Record};
use crate::clock::{Clock, Micros};
use crate::segment::{self, AppendError, Appender, Encoder, Item, Options, Reader};

const FIXED_BYTES: usize = 18;
/// A log may end a little in the future: the clock that wrote it was another.
const AHEAD_MAX: Duration = Duration::from_secs(3600);

/// Where the next event of each partition goes.
#[derive(Clone, Serialize, Deserialize)]
struct Offsets {
    next: Vec<u64>,
    /// Append times never go back, whatever the clock does between two starts.
    latest: Micros,
}

impl Encoder for Offsets {
    type Entry = NewRecord;
    type Place = Position;

    fn header(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn encode(&mut self, now: Micros, record: &NewRecord, body: &mut Vec<u8>) -> Position {
        self.latest = self.latest.max(now);
        let next = &mut self.next[usize::from(record.partition)];
        let at = Position { partition: record.partition, offset: *next };
        *next += 1;
        body.extend_from_slice(&at.partition.to_le_bytes());
        body.extend_from_slice(&at.offset.to_le_bytes());
        body.extend_from_slice(&self.latest.0.to_le_bytes());
        body.extend_from_slice(&record.payload);
        at
    }
}

fn parse(body: &Bytes) -> anyhow::Result<Record> {
    ensure!(body.len() >= FIXED_BYTES, "a record of {} bytes is too short", body.len());
    let mut partition = [0; 2];
    let (mut offset, mut appended) = ([0; 8], [0; 8]);
    partition.copy_from_slice(&body[..2]);
    offset.copy_from_slice(&body[2..10]);
    appended.copy_from_slice(&body[10..18]);
    Ok(Record {
        at: Position { partition: u16::from_le_bytes(partition), offset: u64::from_le_bytes(offset) },
        appended: Micros(i64::from_le_bytes(appended)),
        payload: body.slice(FIXED_BYTES..),
    })
}

/// The event log in this process's own folder.
pub struct EmbeddedLog {
    folder: PathBuf,
    partitions: u16,
    /// Where the next event of each partition went when the log was opened.
    at_start: Vec<u64>,
    appender: Appender<Offsets>,
}

impl EmbeddedLog {
    /// Opens the log in `folder`, or begins one there. Another number of partitions than the log was begun with is refused.
    pub fn open(folder: &Path, partitions: u16, options: Options, clock: Clock) -> anyhow::Result<Self> {
        segment::Folder::from(folder).create()?;
        let mut offsets = Offsets { next: vec![0; usize::from(partitions)], latest: Micros(0) };
        if let Some(&last) = segment::list(folder)?.last() {
            offsets = header(folder, last)?;
        }
        ensure!(
            offsets.next.len() == usize::from(partitions),
            "the event log in {} has {} partitions, but events.partitions is {partitions}: set it back, or begin in another data_dir",
            folder.display(),
            offsets.next.len()
        );
        let last = segment::recover(folder, |body| {
            let record = parse(&Bytes::copy_from_slice(body))?;
            let next = offsets.next.get_mut(usize::from(record.at.partition)).context("a record of an unknown partition")?;
            *next = record.at.offset + 1;
            offsets.latest = record.appended;
            Ok(())
        })?;
        if let Some(last) = last.as_ref().filter(|last| last.cut_bytes > 0) {
            tracing::warn!(
                segment = last.number,
                cut_bytes = last.cut_bytes,
                "the event log had a torn tail; nothing acknowledged was in it"
            );
        }
        if offsets.latest > clock.now().plus(AHEAD_MAX) {
            tracing::error!(
                latest = %offsets.latest,
                now = %clock.now(),
                "the event log ends in the future: until the clock gets there, no event id is forgotten; check the clock"
            );
        }
        let next = offsets.next.clone();
        let appender = Appender::open(folder, last, false, offsets, options, clock)?;
        Ok(Self { at_start: next, folder: folder.to_owned(), partitions, appender })
    }

    /// Refuses, in words, a log that ended before `applied`, the positions of the feature store's snapshot: events would be given
    /// offsets that the store believes to have applied, and be passed over.
    pub fn check_reaches(&self, applied: &[Option<u64>]) -> anyhow::Result<()> {
        let lost = self.at_start.iter().zip(applied).position(|(&next, applied)| applied.is_some_and(|at| at >= next));
        ensure!(
            lost.is_none(),
            "the event log in {} ends before the position of the feature store's snapshot (partition {}): bring back the log from a \
             backup, or remove the snapshots to rebuild from what is left",
            self.folder.display(),
            lost.unwrap_or_default()
        );
        Ok(())
    }

    /// Deletes whole segments that are older than `cutoff` and lie below `applied`, the positions that every kept snapshot
    /// is past.
    pub fn retire(&self, cutoff: Micros, applied: &[Option<u64>]) -> anyhow::Result<()> {
        let mut keep = None;
        for &number in segment::list(&self.folder)?.iter().rev() {
            let begins = header(&self.folder, number)?;
            let behind =
                begins.next.iter().zip(applied).all(|(&next, applied)| next == 0 || applied.is_some_and(|at| at + 1 >= next));
            if begins.latest < cutoff && behind {
                keep = Some(number);
                break;
            }
        }
        if let Some(keep) = keep {
            segment::remove_before(&self.folder, keep)?;
        }
        Ok(())
    }
}

fn header(folder: &Path, number: u64) -> anyhow::Result<Offsets> {
    let (bytes, _) = segment::header_of(folder, number)?;
    serde_json::from_slice(&bytes).with_context(|| format!("segment {number} in {} has an unknown header", folder.display()))
}

#[async_trait]
impl EventLog for EmbeddedLog {
    fn partitions(&self) -> u16 {
        self.partitions
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        self.appender.append(records).await.map_err(|error: AppendError| LogError(error.to_string()))
    }

    async fn earliest(&self) -> anyhow::Result<Vec<Option<u64>>> {
        let Some(first) = segment::list(&self.folder)?.first().copied() else {
            return Ok(vec![None; usize::from(self.partitions)]);
        };
        Ok(header(&self.folder, first)?.next.iter().map(|next| next.checked_sub(1)).collect())
    }

    async fn reader(&self, after: &[Option<u64>]) -> anyhow::Result<Box<dyn EventReader>> {
        let numbers = segment::list(&self.folder)?;
        let mut first = None;
        for &number in numbers.iter().rev() {
            let begins = header(&self.folder, number)?;
            let reaches = |(&next, after): (&u64, &Option<u64>)| next <= after.map_or(0, |at| at + 1);
            if begins.next.iter().zip(after).all(reaches) {
                first = Some(number);
                break;
            }
        }
        let first = first.with_context(|| {
            format!(
                "the event log in {} no longer reaches back to where the feature store stands: bring back a snapshot, or older segments, from a backup",
                self.folder.display()
            )
        })?;
        let reader = Reader::new(&self.appender, first);
        let moved = self.appender.watch();
        let given = after.iter().enumerate().map(|(partition, after)| (partition as u16, *after)).collect();
        Ok(Box::new(EmbeddedReader { reader: Some(reader), after: after.to_vec(), given, moved }))
    }

    /// All partitions, for good: nobody else has this folder.
    async fn follow(&self, positions: Arc<dyn Positions>) -> anyhow::Result<Box<dyn EventReader>> {
        let mut after = Vec::with_capacity(usize::from(self.partitions));
        for partition in 0..self.partitions {
            after.push(positions.resume(partition).await?);
        }
        self.reader(&after).await
    }
}

struct EmbeddedReader {
    /// Away while a read is under way on a blocking thread.
    reader: Option<Reader>,
    after: Vec<Option<u64>>,
    /// Not told yet.
    given: Vec<(u16, Option<u64>)>,
    moved: tokio::sync::watch::Receiver<segment::Cursor>,
}

#[async_trait]
impl EventReader for EmbeddedReader {
    async fn next(&mut self, wait: Duration) -> anyhow::Result<Batch> {
        let mut batch = self.read().await?;
        if batch.records.is_empty() && !wait.is_zero() {
            // A time-out is an answer too: the end was seen, and freshness moves on.
            drop(tokio::time::timeout(wait, self.moved.changed()).await);
            batch = self.read().await?;
        }
        batch.given = std::mem::take(&mut self.given);
        Ok(batch)
    }

    async fn go_to(&mut self, partition: u16, _after: Option<u64>) -> anyhow::Result<()> {
        bail!("partition {partition} of the feature store moved, though nobody else has it");
    }
}

impl EmbeddedReader {
    async fn read(&mut self) -> anyhow::Result<Batch> {
        self.moved.mark_unchanged();
        let mut reader = self.reader.take().context("the reader was cancelled while it read")?;
        let (reader, read) = tokio::task::spawn_blocking(move || {
            let read = reader.read();
            (reader, read)
        })
        .await?;
        self.reader = Some(reader);
        let (items, complete_to) = read?;
        let mut batch = Batch::default();
        for item in items {
            let Item::Frame(body) = item else { continue };
            let record = parse(&body)?;
            let after = self.after.get_mut(usize::from(record.at.partition)).context("a record of an unknown partition")?;
            if after.is_none_or(|applied| record.at.offset > applied) {
                *after = Some(record.at.offset);
                batch.records.push(record);
            }
        }
        if let Some(complete_to) = complete_to {
            batch.ends = (0..self.after.len()).map(|partition| (partition as u16, complete_to)).collect();
        }
        Ok(batch)
    }
}
