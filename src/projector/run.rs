//! The loop: read, fold, apply with the position, say how fresh the store is now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::watch;

use super::fold;
use crate::clock::Micros;
use crate::event::deadletter::{DeadLetters, Letter, Origin, Payload};
use crate::event::{Batch, Event, EventLog, EventReader, InFlight, Invalid, Position, Positions, Record};
use crate::feature::{ApplyError, Change, ChangeBatch, FeatureStore};
use crate::telemetry::Metrics;

/// With nothing to read, the end is looked for this often: it is what freshness grows by.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// What is worth less than another thread's time.
const FOLDED_INLINE: usize = 100;
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
    /// Shared with the ingest of this process, where there is one that waits for it.
    pub in_flight: Option<Arc<InFlight>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Held while a batch and its dead letters are under way: a snapshot that takes it never lies between the two.
    pub step: Arc<Step>,
}

/// Dead letters of batches that are applied, which could not be kept yet.
pub type Step = tokio::sync::Mutex<Vec<Letter>>;

/// The partitions that are this projector's, each with the last offset that was given to the store.
type Held = BTreeMap<u16, Option<u64>>;

/// A batch of the log, ready to be applied.
#[derive(Default)]
struct Folded {
    changes: Vec<(Position, Change, Option<Invalid>)>,
    /// As [`Batch`] has them.
    ends: Vec<(u16, Micros)>,
    given: Vec<(u16, Option<u64>)>,
    taken: Vec<u16>,
}

impl Folded {
    fn of(batch: Batch, partitions: u16) -> Self {
        let Batch { records, ends, given, taken } = batch;
        let folded = |record: Record| {
            let at = record.at;
            let (change, invalid) = fold(record, partitions);
            (at, change, invalid)
        };
        Self { changes: records.into_iter().map(folded).collect(), ends, given, taken }
    }

    /// It was read before `partition` went to another place: nothing of it is right.
    fn go_to(&mut self, partition: u16, after: Option<u64>) {
        self.changes.retain(|(at, ..)| at.partition != partition);
        self.ends.retain(|(ended, _)| *ended != partition);
        for (_, begins) in self.given.iter_mut().filter(|(given, _)| *given == partition) {
            *begins = after;
        }
    }
}

/// Reading begins where the feature store stands.
struct OfStore(Arc<dyn FeatureStore>);

#[async_trait]
impl Positions for OfStore {
    async fn resume(&self, partition: u16) -> anyhow::Result<Option<u64>> {
        self.0.resume(partition).await
    }
}

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
        let mut reader = self.log.follow(Arc::new(OfStore(self.features.clone()))).await?;
        let mut held = Held::new();
        let mut batch = Folded::default();
        while !*stop.borrow_and_update() {
            // The next batch is read and folded while this one is written.
            let (taken, next) = tokio::join!(self.take(batch, &mut held), self.read(&mut *reader, HEARTBEAT));
            batch = next?;
            for (partition, error) in taken? {
                if let ApplyError::Failed(error) = error {
                    tracing::error!(partition, error = format!("{error:#}"), "a batch was not applied; it is tried again");
                    self.metrics.projector_failures.inc();
                    drop(tokio::time::timeout(PAUSE, stop.wait_for(|stop| *stop)).await);
                } else {
                    tracing::info!(partition, %error, "going to where the feature store stands");
                }
                let stands = self.features.resume(partition).await?;
                reader.go_to(partition, stands).await?;
                batch.go_to(partition, stands);
                held.insert(partition, stands);
            }
        }
        for partition in held.into_keys() {
            self.features.release(partition).await;
        }
        reader.close().await;
        Ok(())
    }

    async fn read(&self, reader: &mut dyn EventReader, wait: Duration) -> anyhow::Result<Folded> {
        let batch = reader.next(wait).await?;
        let partitions = self.log.partitions();
        if batch.records.len() <= FOLDED_INLINE {
            return Ok(Folded::of(batch, partitions));
        }
        Ok(tokio::task::spawn_blocking(move || Folded::of(batch, partitions)).await?)
    }

    /// Applies the log up to its end as it is now: at a start, before anything is served.
    pub async fn catch_up(&self) -> anyhow::Result<u64> {
        let mut reader = self.log.follow(Arc::new(OfStore(self.features.clone()))).await?;
        let mut held = Held::new();
        let (mut events, mut ended) = (0, BTreeSet::new());
        while ended.len() < usize::from(self.log.partitions()) {
            let batch = self.read(&mut *reader, Duration::ZERO).await?;
            ended.extend(batch.ends.iter().map(|(partition, _)| *partition));
            events += batch.changes.len() as u64;
            if let Some((_, error)) = self.take(batch, &mut held).await?.into_iter().next() {
                return Err(error.into());
            }
        }
        Ok(events)
    }

    /// Applies a batch, keeps its dead letters, and only then lets it be seen: a crash in between repeats all of it. Answers the
    /// partitions that did not take their part.
    async fn take(&self, batch: Folded, held: &mut Held) -> anyhow::Result<Vec<(u16, ApplyError)>> {
        let mut unkept = self.step.lock().await;
        for partition in batch.taken {
            held.remove(&partition);
            self.features.release(partition).await;
        }
        held.extend(batch.given);
        // Nothing more is applied before they are kept: what waits here is one batch's at most.
        self.keep(&mut unkept).await?;

        let mut complete: BTreeMap<u16, Micros> = BTreeMap::new();
        let mut changes: BTreeMap<u16, Vec<Change>> = BTreeMap::new();
        for (at, change, invalid) in batch.changes.into_iter().filter(|(at, ..)| held.contains_key(&at.partition)) {
            // Append times never go back: all that came before this instant is read.
            complete.insert(at.partition, Micros(change.appended.0.saturating_sub(1)));
            if let Some(invalid) = invalid {
                unkept.extend(self.letter(at, invalid.0, &change.payload));
            }
            changes.entry(at.partition).or_default().push(change);
        }
        complete.extend(batch.ends.into_iter().filter(|(partition, _)| held.contains_key(partition)));

        let mut failed = Vec::new();
        let (mut outcomes, mut identities) = (Vec::new(), Vec::new());
        for (partition, changes) in changes {
            let after = held.get(&partition).copied().flatten();
            let last = changes.last().map(|change| change.offset);
            let ids: Vec<_> = changes
                .iter()
                .filter_map(|change| change.event.as_ref().filter(|event| !event.is_own()))
                .map(Event::identity)
                .collect();
            match self.features.apply(partition, ChangeBatch { after, changes }).await {
                Ok(outcome) => {
                    for refused in &outcome.refused {
                        let at = Position { partition, offset: refused.offset };
                        unkept.extend(self.letter(at, refused.reason.clone(), &refused.payload));
                    }
                    held.insert(partition, last);
                    outcomes.push((partition, outcome));
                    identities.extend(ids);
                }
                Err(error) => {
                    complete.remove(&partition);
                    failed.push((partition, error));
                }
            }
        }
        self.keep(&mut unkept).await?;

        let commit = async |(partition, complete_to)| (partition, self.features.commit(partition, Some(complete_to)).await);
        let committed = join_all(complete.into_iter().map(commit)).await;
        failed.extend(committed.into_iter().filter_map(|(partition, committed)| Some((partition, committed.err()?))));
        if let Some(in_flight) = &self.in_flight {
            in_flight.applied(identities.into_iter());
        }
        for (_, outcome) in outcomes.iter().filter(|(partition, _)| failed.iter().all(|(other, _)| other != partition)) {
            self.metrics.applied(outcome);
        }
        Ok(failed)
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

/// Folds the log into `features`, from where that stands to the offsets `until`, or to the log's end as it is by then: a replay. Leaves
/// dead letters alone; they were written the first time.
pub async fn advance(log: &dyn EventLog, features: &dyn FeatureStore, until: Option<&[Option<u64>]>) -> anyhow::Result<u64> {
    let mut applied = Vec::new();
    for partition in 0..log.partitions() {
        applied.push(features.resume(partition).await?);
    }
    let mut reader = log.reader(&applied).await?;
    let (mut events, mut ended) = (0, BTreeSet::new());
    loop {
        let batch = reader.next(Duration::ZERO).await?;
        let mut changes: BTreeMap<u16, Vec<Change>> = BTreeMap::new();
        for record in batch.records {
            let partition = record.at.partition;
            let is_wanted = |until: &[Option<u64>]| until[usize::from(partition)].is_some_and(|last| record.at.offset <= last);
            if until.is_none_or(is_wanted) {
                events += 1;
                changes.entry(partition).or_default().push(fold(record, log.partitions()).0);
            }
        }
        for (partition, changes) in changes {
            let after = &mut applied[usize::from(partition)];
            let last = changes.last().map(|change| (change.offset, Micros(change.appended.0.saturating_sub(1))));
            features.apply(partition, ChangeBatch { after: *after, changes }).await?;
            features.commit(partition, last.map(|(_, complete_to)| complete_to)).await?;
            *after = last.map(|(offset, _)| offset);
        }
        for (partition, complete_to) in batch.ends {
            if until.is_none() {
                features.commit(partition, Some(complete_to)).await?;
            }
            ended.insert(partition);
        }
        if until == Some(&applied[..]) || ended.len() == applied.len() {
            return Ok(events);
        }
    }
}
