//! From a journal's records to the ledger: read and summed on a thread, while the batch before is committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;

use super::aggregate::{Aggregate, Used};
use super::journal::{Header, split_frame};
use super::store::{self, Reported, Shipment, Start};
use crate::clock::{Clock, Micros};
use crate::db::{Db, within};
use crate::ids::ReplicaId;
use crate::segment::{Item, Reader};
use crate::telemetry::Metrics;

/// Records and cells a transaction: bounds memory, and how long the ledger's rows are locked.
const RECORDS_MAX: u64 = 100_000;
const CELLS_MAX: usize = 20_000;
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

    fn watermark(&self) -> u64 {
        self.shipped.get(&self.epoch).copied().unwrap_or(0)
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
        let (batches, mut ready) = mpsc::channel(1);
        let gathering = tokio::task::spawn_blocking(move || gather(position, &batches));
        while let Some(batch) = ready.recv().await {
            self.commit(&batch).await?;
        }
        let position = gathering.await??;
        self.metrics.ship_lag_seconds.set(0.0);
        Ok(position)
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
fn gather(mut position: Position, batches: &mpsc::Sender<Batch>) -> anyhow::Result<Position> {
    let mut aggregate = Aggregate::default();
    loop {
        let (items, at_end) = position.reader.read()?;
        for item in items {
            match item {
                Item::Segment(header) => {
                    let header: Header = serde_json::from_slice(&header).context("a journal segment has an unknown header")?;
                    if header.epoch != position.epoch {
                        hand_over(&mut position, &mut aggregate, batches)?;
                        position.epoch = header.epoch;
                    }
                }
                Item::Frame(body) => {
                    let (sequence, json) = split_frame(&body)?;
                    if sequence > position.watermark() {
                        let added = Used::parse(json).and_then(|used| aggregate.add(sequence, &used));
                        added.with_context(|| format!("record {}/{sequence} cannot be counted", position.epoch))?;
                    }
                }
            }
        }
        if at_end.is_some() || aggregate.records >= RECORDS_MAX || aggregate.len() >= CELLS_MAX {
            hand_over(&mut position, &mut aggregate, batches)?;
        }
        if at_end.is_some() {
            return Ok(position);
        }
    }
}

fn hand_over(position: &mut Position, aggregate: &mut Aggregate, batches: &mpsc::Sender<Batch>) -> anyhow::Result<()> {
    if aggregate.records == 0 {
        return Ok(());
    }
    let (epoch, before) = (position.epoch, position.watermark());
    let aggregate = std::mem::take(aggregate);
    position.shipped.insert(epoch, aggregate.last);
    batches.blocking_send(Batch { epoch, before, aggregate }).map_err(|_| anyhow::anyhow!("shipping ended"))
}
