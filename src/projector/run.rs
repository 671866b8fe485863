//! The loop: read, fold, apply with the position, say how fresh the store is now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use super::fold;
use crate::event::deadletter::{DeadLetters, Letter, Origin, Payload};
use crate::event::{Batch, EventLog, InFlight, Position};
use crate::feature::{Change, ChangeBatch, FeatureStore};
use crate::telemetry::Metrics;

/// With nothing to read, the end is looked for this often: it is what freshness grows by.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// After a failure, before beginning again from the store's own position.
const PAUSE: Duration = Duration::from_secs(1);

/// Applies the log to the store.
pub struct Projector {
    /// Where events come from.
    pub log: Arc<dyn EventLog>,
    /// What they are folded into.
    pub features: Arc<dyn FeatureStore>,
    /// Where what cannot be applied goes.
    pub dead_letters: Arc<DeadLetters>,
    /// Shared with ingest.
    pub in_flight: Arc<InFlight>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Held while a batch and its dead letters are under way: a snapshot that takes it never lies between the two.
    pub step: Arc<Step>,
}

/// Dead letters of batches that are applied, which could not be kept yet.
pub type Step = tokio::sync::Mutex<Vec<Letter>>;

impl Projector {
    /// Runs until `stop` says so. A failure is logged and begun again from the store's position: nothing is skipped.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            match self.follow(&mut stop).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the projector failed; it begins again from the store's position"
                    );
                    self.metrics.projector_failures.inc();
                    drop(tokio::time::timeout(PAUSE, stop.wait_for(|stop| *stop)).await);
                }
            }
        }
    }

    async fn follow(&self, stop: &mut watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut applied: Vec<Option<u64>> = self.features.standings().await?.iter().map(|standing| standing.applied).collect();
        let mut reader = self.log.reader(&applied).await?;
        while !*stop.borrow_and_update() {
            let batch = reader.next(HEARTBEAT).await?;
            self.apply(batch, &mut applied).await?;
        }
        Ok(())
    }

    /// Applies the log up to its end as it is now: at a start, before anything is served.
    pub async fn catch_up(&self) -> anyhow::Result<u64> {
        let mut applied: Vec<Option<u64>> = self.features.standings().await?.iter().map(|standing| standing.applied).collect();
        let mut reader = self.log.reader(&applied).await?;
        let mut events = 0;
        loop {
            let batch = reader.next(Duration::ZERO).await?;
            let at_end = batch.ends.len() == applied.len();
            events += batch.records.len() as u64;
            self.apply(batch, &mut applied).await?;
            if at_end {
                return Ok(events);
            }
        }
    }

    async fn apply(&self, batch: Batch, applied: &mut [Option<u64>]) -> anyhow::Result<()> {
        let mut unkept = self.step.lock().await;
        let mut changes: BTreeMap<u16, Vec<Change>> = BTreeMap::new();
        // Nothing more is applied before they are kept: what waits here is one batch's at most.
        self.keep(&mut unkept).await?;
        for record in batch.records {
            let at = record.at;
            let (change, invalid) = fold(record, self.log.partitions());
            if let Some(invalid) = invalid {
                unkept.extend(self.letter(at, invalid.0, &change.payload));
            }
            changes.entry(at.partition).or_default().push(change);
        }
        for (partition, changes) in changes {
            let after = &mut applied[usize::from(partition)];
            let last = changes.last().map(|change| change.offset);
            let identities: Vec<_> = changes.iter().filter_map(|change| Some(change.event.as_ref()?.identity())).collect();
            let outcome = self.features.apply(partition, ChangeBatch { after: *after, changes }).await?;
            *after = last;
            self.in_flight.applied(identities.into_iter());
            self.metrics.applied(&outcome);
            for refused in outcome.refused {
                unkept.extend(self.letter(Position { partition, offset: refused.offset }, refused.reason, &refused.payload));
            }
        }
        self.keep(&mut unkept).await?;
        for (partition, as_of) in batch.ends {
            self.features.confirm(partition, as_of).await?;
        }
        Ok(())
    }

    async fn keep(&self, unkept: &mut Vec<Letter>) -> anyhow::Result<()> {
        // A batch that failed half way is folded again from the store's position: its letters may be here twice.
        unkept.retain(|letter| match letter.origin {
            Origin::Log { partition, offset } => !self.dead_letters.has(Position { partition, offset }),
            Origin::Ingest { .. } => true,
        });
        self.dead_letters.append(unkept.clone()).await.context("dead letters could not be kept")?;
        unkept.clear();
        Ok(())
    }

    fn letter(&self, at: Position, reason: String, payload: &[u8]) -> Option<Letter> {
        if self.dead_letters.has(at) {
            return None;
        }
        tracing::warn!(partition = at.partition, offset = at.offset, reason, "an event went to the dead-letter log");
        self.metrics.dead_letters.inc();
        let origin = Origin::Log { partition: at.partition, offset: at.offset };
        Some(Letter { reason, origin, payload: Payload::of(payload) })
    }
}

/// Folds the log into `features`, which is empty, from its start to the offsets `until`: a replay. Leaves dead letters alone;
/// they were written the first time.
pub async fn rebuild(log: &dyn EventLog, features: &dyn FeatureStore, until: &[Option<u64>]) -> anyhow::Result<u64> {
    let mut applied = vec![None; usize::from(log.partitions())];
    let mut reader = log.reader(&applied).await?;
    let mut events = 0;
    loop {
        let batch = reader.next(Duration::ZERO).await?;
        let mut changes: BTreeMap<u16, Vec<Change>> = BTreeMap::new();
        for record in batch.records {
            let partition = record.at.partition;
            if until[usize::from(partition)].is_some_and(|last| record.at.offset <= last) {
                events += 1;
                changes.entry(partition).or_default().push(fold(record, log.partitions()).0);
            }
        }
        for (partition, changes) in changes {
            let after = &mut applied[usize::from(partition)];
            let last = changes.last().map(|change| change.offset);
            features.apply(partition, ChangeBatch { after: *after, changes }).await?;
            *after = last;
        }
        if applied == until || batch.ends.len() == applied.len() {
            return Ok(events);
        }
    }
}
