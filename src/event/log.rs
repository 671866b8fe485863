//! The seam of the event log: append, read from an offset, survive kill -9.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::Micros;

/// An event on its way into the log.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// See [`super::partition_of`].
    pub partition: u16,
    /// Whom it is about: the key, where the log has one.
    pub subject: String,
    /// The event as its producer wrote it.
    pub payload: Bytes,
}

/// Where the log put an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: u16,
    /// The offset in it; ascending, maybe with gaps.
    pub offset: u64,
}

/// An event as the log has it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it is.
    pub at: Position,
    /// When the log took it.
    pub appended: Micros,
    /// The event as its producer wrote it.
    pub payload: Bytes,
}

/// What a reader found.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of the log within each partition.
    pub records: Vec<Record>,
    /// Partitions whose end was reached, each with the instant up to which everything appended to it has now been read.
    pub ends: Vec<(u16, Micros)>,
    /// Partitions that are this reader's from now on, each with the offset behind which it reads.
    pub given: Vec<(u16, Option<u64>)>,
    /// Partitions that are another reader's by now.
    pub taken: Vec<u16>,
}

/// Who knows where reading begins: the feature store, never the log.
#[async_trait]
pub trait Positions: Send + Sync {
    /// The last offset of `partition` that needs no reading any more; none where it is to be read from its start.
    async fn resume(&self, partition: u16) -> anyhow::Result<Option<u64>>;
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
#[error("the event log takes no events for now: {0}")]
pub struct LogError(pub String);

/// An append-only, partitioned, replayable log.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// How many partitions it has; never changes.
    fn partitions(&self) -> u16;

    /// Appends, durably when it returns: all or nothing.
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError>;

    /// The last offset before what the log still has, by partition; none where it has all.
    async fn earliest(&self) -> anyhow::Result<Vec<Option<u64>>>;

    /// A reader behind `after[partition]`, the last offset already applied; from the start where there is none.
    ///
    /// Refuses, in words, when the log no longer reaches back that far.
    async fn reader(&self, after: &[Option<u64>]) -> anyhow::Result<Box<dyn EventReader>>;

    /// A reader of this process's share of the partitions, which may change while it reads: each begins where `positions` says when it
    /// is given.
    async fn follow(&self, positions: Arc<dyn Positions>) -> anyhow::Result<Box<dyn EventReader>>;
}

/// A place in the log.
#[async_trait]
pub trait EventReader: Send {
    /// The next records, waiting at most `wait` for one.
    async fn next(&mut self, wait: Duration) -> anyhow::Result<Batch>;

    /// Reads `partition` behind `after` from now on: somebody else applied what lies between, or it was lost.
    async fn go_to(&mut self, partition: u16, after: Option<u64>) -> anyhow::Result<()>;

    /// Hands the partitions over, so that others need not wait until this reader is missed.
    async fn close(self: Box<Self>) {}
}
