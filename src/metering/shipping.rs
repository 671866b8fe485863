//! From a journal's records to the ledger: read and summed on a thread, while the batch before is committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::aggregate::{Aggregate, Used};
use super::journal::{Header, split_frame};
use super::store::{self, Reported, Shipment, Start};
use crate::clock::{Clock, Micros};
use crate::db::{Db, within};
use crate::ids::ReplicaId;
use crate::segment::{Image, Item, Reader};
use crate::telemetry::Metrics;

/// Records and cells a transaction: bounds memory, and how long the ledger's rows are locked.
const RECORDS_MAX: u64 = 250_000;
const CELLS_MAX: usize = 30_000;
/// A transaction of so many records takes far less.
const SHIP_TIMEOUT: Duration = Duration::from_secs(30);

/// How far a journal is read and in the ledger.
pub(super) struct Position {
    /// The last sequence in the ledger, by epoch.
    pub(super) shipped: BTreeMap<i64, u64>,
    epoch: i64,
    reader: Reader,
}

impl Position {
    /// A reader that begins where the ledger ends.
    pub(super) fn new(shipped: BTreeMap<i64, u64>, reader: Reader) -> Self {
        Self { shipped, epoch: 0, reader }
    }
}

struct Batch {
    epoch: i64,
    before: u64,
    aggregate: Aggregate,
}

/// What ships one replica's journal.
pub(super) struct Shipping {
    pub(super) db: Db,
    pub(super) replica: ReplicaId,
    /// The newest start in the journal,
    pub(super) epoch: i64,
    /// and whether it is the one that ships; or a command does, while none runs.
    pub(super) is_running: bool,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

impl Shipping {
    /// The last sequence in the ledger, by epoch.
    pub(super) async fn watermarks(&self) -> anyhow::Result<BTreeMap<i64, u64>> {
        within(SHIP_TIMEOUT, async { store::watermarks(&mut *self.db.read().await?, &self.replica).await }).await
    }

    /// Reads to the journal's end and commits all of it. After a failure the position is gone: the ledger says where to begin
    /// again.
    pub(super) async fn drain(&self, position: Position) -> anyhow::Result<Position> {
        let position = self.commit_all(move |batches| gather(position, batches)).await?;
        self.metrics.ship_lag_seconds.set(0.0);
        Ok(position)
    }

    /// Commits what the ledger does not have of an archived segment, which continues `shipped`. Gives back how far it is then.
    pub(super) async fn drain_archived(&self, shipped: BTreeMap<i64, u64>, segment: Bytes) -> anyhow::Result<BTreeMap<i64, u64>> {
        self.commit_all(move |batches| gather_archived(shipped, segment, batches)).await
    }

    async fn commit_all<T: Send + 'static>(
        &self,
        gather: impl FnOnce(&mpsc::Sender<Batch>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (batches, mut ready) = mpsc::channel(1);
        let gathering = tokio::task::spawn_blocking(move || gather(&batches));
        while let Some(batch) = ready.recv().await {
            self.commit(&batch).await?;
        }
        gathering.await?
    }

    async fn commit(&self, batch: &Batch) -> anyhow::Result<()> {
        let now = self.clock.now();
        self.metrics.ship_lag_seconds.set(now.since(batch.aggregate.begins).as_secs_f64());
        let Batch { epoch, before, ref aggregate } = *batch;
        let moved = within(SHIP_TIMEOUT, async {
            let mut transaction = self.db.begin().await?;
            let shipment = Shipment { replica: &self.replica, newest: self.epoch, epoch, before, aggregate };
            let moved = store::ship(&mut transaction, self.db.dialect(), &shipment, now).await?;
            // Should this not answer, the watermark tells at the next try whether it happened.
            if moved {
                transaction.commit().await?;
            }
            Ok(moved)
        })
        .await?;
        anyhow::ensure!(moved, "the ledger's watermark of epoch {epoch} was moved by somebody else; beginning again from it");
        self.metrics.shipped_records.inc_by(aggregate.records);
        if epoch == self.epoch {
            self.metrics.shipped_of_this_start.inc_by(aggregate.records);
        }
        Ok(())
    }

    /// Promises that all that was admitted before `watermark` is in the ledger: the caller drained what was journaled by then.
    pub(super) async fn report(&self, position: &Position, watermark: Micros) -> anyhow::Result<Reported> {
        let newest = position.shipped.last_key_value().map(|(&epoch, &sequence)| (epoch, sequence));
        let reported = within(SHIP_TIMEOUT, async {
            let mut transaction = self.db.begin().await?;
            let now = self.clock.now();
            let reported = {
                let start = Start { epoch: self.epoch, is_running: self.is_running };
                store::report(&mut transaction, &self.replica, start, newest, watermark, now).await?
            };
            transaction.commit().await?;
            Ok(reported)
        });
        let reported = reported.await?;
        anyhow::ensure!(
            reported != Reported::Elsewhere,
            "the ledger's watermark is not where it was left; beginning again from it"
        );
        Ok(reported)
    }
}

/// Sums the records up to the journal's end, in batches. Ends early when nobody takes them any more.
fn gather(position: Position, batches: &mpsc::Sender<Batch>) -> anyhow::Result<Position> {
    let Position { shipped, epoch, mut reader } = position;
    let mut gathering = Gathering { shipped, epoch, aggregate: Aggregate::default(), batches };
    loop {
        let (items, at_end) = reader.read()?;
        for item in items {
            match item {
                Item::Segment(header) => gathering.segment(&header)?,
                Item::Frame(body) => gathering.frame(&body)?,
            }
        }
        if at_end.is_some() {
            gathering.hand_over()?;
            return Ok(Position { shipped: gathering.shipped, epoch: gathering.epoch, reader });
        }
    }
}

/// The same of one segment of the archive; all before it that counts is in the ledger, or was handed over.
fn gather_archived(
    shipped: BTreeMap<i64, u64>,
    segment: Bytes,
    batches: &mpsc::Sender<Batch>,
) -> anyhow::Result<BTreeMap<i64, u64>> {
    let mut gathering = Gathering { shipped, epoch: 0, aggregate: Aggregate::default(), batches };
    let image = Image::new(segment)?;
    gathering.segment(image.header())?;
    for frame in image {
        gathering.frame(&frame?.body)?;
    }
    gathering.hand_over()?;
    Ok(gathering.shipped)
}

struct Gathering<'a> {
    /// The last sequence in the ledger or on its way there, by epoch.
    shipped: BTreeMap<i64, u64>,
    epoch: i64,
    aggregate: Aggregate,
    batches: &'a mpsc::Sender<Batch>,
}

impl Gathering<'_> {
    fn segment(&mut self, header: &[u8]) -> anyhow::Result<()> {
        let header: Header = serde_json::from_slice(header).context("a journal segment has an unknown header")?;
        if header.epoch != self.epoch {
            self.hand_over()?;
            self.epoch = header.epoch;
        }
        Ok(())
    }

    fn frame(&mut self, body: &[u8]) -> anyhow::Result<()> {
        let (sequence, json) = split_frame(body)?;
        let last = if self.aggregate.records == 0 { self.watermark() } else { self.aggregate.last };
        if sequence <= last {
            return Ok(());
        }
        let epoch = self.epoch;
        // Counted past, a missing record would be lost without a word.
        anyhow::ensure!(
            sequence == last + 1,
            "record {epoch}/{} is missing in the journal: record {sequence} follows {last}",
            last + 1
        );
        let added = Used::parse(json).and_then(|used| self.aggregate.add(sequence, &used));
        added.with_context(|| format!("record {epoch}/{sequence} cannot be counted"))?;
        if self.aggregate.records >= RECORDS_MAX || self.aggregate.cells_max() >= CELLS_MAX {
            self.hand_over()?;
        }
        Ok(())
    }

    fn watermark(&self) -> u64 {
        self.shipped.get(&self.epoch).copied().unwrap_or(0)
    }

    fn hand_over(&mut self) -> anyhow::Result<()> {
        if self.aggregate.records == 0 {
            return Ok(());
        }
        let (epoch, before) = (self.epoch, self.watermark());
        let aggregate = std::mem::take(&mut self.aggregate);
        self.shipped.insert(epoch, aggregate.last);
        self.batches.blocking_send(Batch { epoch, before, aggregate }).map_err(|_| anyhow::anyhow!("shipping ended"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(sequence: u64) -> Vec<u8> {
        let json = r#"{"v":1,"request":"r","at":5,"partner":"a","key":"k","mode":"live","plan":"p","planVersion":1,"units":{}}"#;
        [&sequence.to_le_bytes()[..], &[0; 32], json.as_bytes()].concat()
    }

    #[test]
    fn what_is_counted_is_passed_over_and_a_gap_stops_before_it() {
        let (batches, mut ready) = mpsc::channel(8);
        let mut gathering = Gathering { shipped: [(1, 2)].into(), epoch: 0, aggregate: Aggregate::default(), batches: &batches };
        let header = |epoch| {
            let header = Header { replica: "rep_1".into(), epoch, first: 1, before: None, previous: String::new() };
            serde_json::to_vec(&header).unwrap()
        };
        gathering.segment(&header(1)).unwrap();
        for sequence in 1..=4 {
            gathering.frame(&body(sequence)).unwrap();
        }
        let error = gathering.frame(&body(6)).unwrap_err().to_string();
        assert!(error.contains("record 1/5 is missing in the journal: record 6 follows 4"), "{error}");
        // An epoch of its own is a shipment of its own, and begins with 1.
        gathering.segment(&header(2)).unwrap();
        let error = gathering.frame(&body(2)).unwrap_err().to_string();
        assert!(error.contains("record 2/1 is missing"), "{error}");
        gathering.frame(&body(1)).unwrap();
        gathering.hand_over().unwrap();
        let told = |batch: Batch| (batch.epoch, batch.before, batch.aggregate.last, batch.aggregate.records);
        assert_eq!(ready.try_recv().map(told).unwrap(), (1, 2, 4, 2));
        assert_eq!(ready.try_recv().map(told).unwrap(), (2, 0, 1, 1));
        assert!(ready.try_recv().is_err());
    }
}
