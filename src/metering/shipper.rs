//! Ships the journal to the ledger: rows and watermark in one transaction, so that each record is counted once, whatever
//! crashes in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use super::journal::{Header, Journal, parse_frame};
use super::store::{self, Aggregate};
use crate::clock::{Clock, Micros};
use crate::db::{Db, within};
use crate::segment::{Cursor, Item, Reader};
use crate::telemetry::Metrics;

/// Records a transaction: bounds memory and how long the ledger's rows are locked.
const RECORDS_MAX: u64 = 50_000;
/// A transaction of so many records takes far less.
const SHIP_TIMEOUT: Duration = Duration::from_secs(30);
/// After a failure; doubles up to the last.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How far the journal has been shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Everything before this place is in the ledger,
    pub to: Cursor,
    /// and so is all that was journaled before this instant.
    pub as_of: Micros,
}

/// The one shipper of a journal.
pub struct Shipper {
    journal: Arc<Journal>,
    db: Db,
    clock: Clock,
    every: Duration,
    metrics: Arc<Metrics>,
    shipped: watch::Sender<Shipped>,
    now: watch::Receiver<u64>,
}

impl Shipper {
    /// Ships at least `every` so often; at once when `now` changes.
    pub fn new(
        journal: Arc<Journal>,
        db: Db,
        clock: Clock,
        every: Duration,
        metrics: Arc<Metrics>,
        now: watch::Receiver<u64>,
    ) -> (Self, watch::Receiver<Shipped>) {
        let (shipped, watched) = watch::channel(Shipped { to: Cursor { segment: 0, byte: 0 }, as_of: Micros(0) });
        (Self { journal, db, clock, every, metrics, shipped, now }, watched)
    }

    /// Runs until `stop` says so, then ships what is left, if the ledger can be reached.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        loop {
            let stopping = *stop.borrow();
            match self.follow(&mut stop, &mut pause).await {
                Ok(()) => return,
                Err(error) => {
                    self.metrics.ship_failures.inc();
                    tracing::error!(
                        error = format!("{error:#}"),
                        "usage could not be shipped to the ledger; it is kept in the journal and tried again"
                    );
                    if stopping {
                        return;
                    }
                }
            }
            drop(tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn follow(&mut self, stop: &mut watch::Receiver<bool>, pause: &mut Duration) -> anyhow::Result<()> {
        let shipped =
            within(SHIP_TIMEOUT, async { store::watermarks(&mut *self.db.read().await?, self.journal.replica()).await }).await?;
        let reader = self.journal.reader(|epoch| shipped.get(&epoch).copied().unwrap_or(0))?;
        let mut round = Round { shipped, epoch: 0, aggregate: Aggregate::default(), reader: Some(reader) };
        loop {
            // Looked at before the journal is: what was appended before a stop is shipped.
            let stopping = *stop.borrow_and_update();
            self.now.borrow_and_update();
            let (end, as_of) = (*self.journal.watch().borrow(), self.clock.now());
            self.drain(&mut round).await?;
            *pause = PAUSE_MIN;
            self.shipped.send_replace(Shipped { to: end, as_of });
            if stopping {
                return Ok(());
            }
            tokio::select! {
                _ = stop.changed() => {}
                _ = self.now.changed() => {}
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    /// Reads to the journal's end and commits all of it.
    async fn drain(&self, round: &mut Round) -> anyhow::Result<()> {
        loop {
            let mut reader = round.reader.take().context("the journal's reader was cancelled")?;
            let (reader, read) = tokio::task::spawn_blocking(move || {
                let read = reader.read();
                (reader, read)
            })
            .await?;
            round.reader = Some(reader);
            let (items, at_end) = read?;
            for item in items {
                match item {
                    Item::Segment(header) => {
                        let header: Header =
                            serde_json::from_slice(&header).context("a journal segment has an unknown header")?;
                        if header.epoch != round.epoch {
                            self.commit(round).await?;
                            round.epoch = header.epoch;
                        }
                    }
                    Item::Frame(body) => {
                        let (sequence, record) = parse_frame(&body)?;
                        if sequence > round.watermark() {
                            if round.aggregate.records == 0 {
                                let waited = self.clock.now().since(record.at);
                                self.metrics.ship_lag_seconds.set(waited.as_secs_f64());
                            }
                            round.aggregate.add(sequence, &record);
                        }
                    }
                }
            }
            if round.aggregate.records >= RECORDS_MAX || at_end.is_some() {
                self.commit(round).await?;
            }
            if at_end.is_some() {
                self.metrics.ship_lag_seconds.set(0.0);
                return Ok(());
            }
        }
    }

    async fn commit(&self, round: &mut Round) -> anyhow::Result<()> {
        if round.aggregate.records == 0 {
            return Ok(());
        }
        let moved = within(SHIP_TIMEOUT, async {
            let mut transaction = self.db.begin().await?;
            let (replica, dialect) = (self.journal.replica(), self.db.dialect());
            let moved = store::ship(&mut transaction, dialect, replica, round.epoch, round.watermark(), &round.aggregate).await?;
            // Should this not answer, the watermark tells at the next try whether it happened.
            if moved {
                transaction.commit().await?;
            }
            Ok(moved)
        })
        .await?;
        anyhow::ensure!(
            moved,
            "the ledger's watermark of epoch {} was moved by somebody else; beginning again from it",
            round.epoch
        );
        self.metrics.shipped_records.inc_by(round.aggregate.records);
        if round.epoch == self.journal.epoch() {
            self.metrics.shipped_of_this_start.inc_by(round.aggregate.records);
        }
        round.shipped.insert(round.epoch, round.aggregate.last);
        round.aggregate = Aggregate::default();
        Ok(())
    }
}

/// What shipping stands at.
struct Round {
    /// The last sequence in the ledger, by epoch.
    shipped: BTreeMap<i64, u64>,
    epoch: i64,
    aggregate: Aggregate,
    /// Away while a read is under way on a blocking thread.
    reader: Option<Reader>,
}

impl Round {
    fn watermark(&self) -> u64 {
        self.shipped.get(&self.epoch).copied().unwrap_or(0)
    }
}
