//! The left half of the flow, put together: event log, projector, feature store, dead letters. A gateway runs it; a command
//! opens it where no gateway runs.

mod journeys;
mod parts;
mod replay;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{Durability, Settings};
use crate::data_dir::DataDir;
use crate::db::Db;
use crate::error::Refusal;
use crate::event::deadletter::{DeadLetter, DeadLetters, Letter, Origin};
use crate::event::{InFlight, Ingest, Line, OUTSIDE, Report};
use crate::feature::{Bounds, FeatureStore, Limits};
use crate::journey::{VisitorKey, store};
use crate::projector::{Projector, Step};
use crate::segment::Options;
use crate::telemetry::Metrics;
use journeys::Telling;
use parts::Parts;
pub use replay::Replayed;

/// How long a command waits for the projector, and how often it looks.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const SETTLE_PAUSE: Duration = Duration::from_millis(5);
/// Dead letters are few and small.
const DEAD_LETTER_SEGMENT_BYTES: u64 = 16 << 20;

/// The left half.
pub struct Engine {
    parts: Parts,
    dead_letters: Arc<DeadLetters>,
    in_flight: Option<Arc<InFlight>>,
    step: Arc<Step>,
    ingest: Ingest,
    clock: Clock,
    metrics: Arc<Metrics>,
    bounds: Bounds,
    telling: Telling,
    idle_after: Duration,
    retention: Duration,
    snapshots: std::path::PathBuf,
}

/// What became of dead letters that were tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// In the log now, or there already.
    pub taken: u64,
    /// Still refused, with the reason.
    pub refused: Vec<(u64, String)>,
}

impl Engine {
    /// Opens everything in `data_dir` and applies the log's tail.
    pub async fn open(
        settings: &Settings,
        data_dir: &DataDir,
        db: &Db,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let limits = Limits {
            dedup_window: settings.dedup.window,
            dedup_ids_max: settings.dedup.ids_max,
            history_kept: settings.history.kept,
        };
        let letters = Options { segment_bytes: DEAD_LETTER_SEGMENT_BYTES, durability: Durability::Fsync };
        let (products, secret) = {
            let mut transaction = db.begin().await?;
            let secret = store::visitor_secret(&mut transaction, &rand::random()).await?;
            let products = store::sold(&mut transaction).await?;
            transaction.commit().await?;
            (products, secret)
        };
        let bounds = Bounds { limits, visitors: VisitorKey::new(&secret), products };
        let parts = Parts::open(settings, data_dir, bounds.clone(), clock.clone(), metrics.clone()).await?;
        let dead_letters = Arc::new(DeadLetters::open(&data_dir.dead_letters(), letters, clock.clone())?);
        // Where another process may apply what this one appends, nobody here would learn of it.
        let in_flight = parts.own_store.as_ref().map(|_| Arc::new(InFlight::default()));
        let ingest = Ingest {
            log: parts.log.clone(),
            features: parts.store.clone(),
            dead_letters: dead_letters.clone(),
            in_flight: in_flight.clone(),
            clock: clock.clone(),
            event_bytes_max: settings.events.event_bytes_max,
            metrics: metrics.clone(),
        };
        let engine = Self {
            parts,
            dead_letters,
            in_flight,
            step: Arc::default(),
            ingest,
            clock,
            metrics,
            bounds,
            telling: Telling::new(db.clone()),
            idle_after: settings.events.idle_after,
            retention: settings.events.retention,
            snapshots: data_dir.snapshots(),
        };
        engine.catch_up().await?;
        Ok(engine)
    }

    fn projector(&self) -> Projector {
        Projector {
            log: self.parts.log.clone(),
            features: self.parts.store.clone(),
            dead_letters: self.dead_letters.clone(),
            in_flight: self.in_flight.clone(),
            metrics: self.metrics.clone(),
            step: self.step.clone(),
        }
    }

    /// Applies what is appended until `stop` says so.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        self.projector().run(stop).await;
    }

    /// Applies what is appended up to now, where nobody else would: at a start, a stop, and for a command.
    pub async fn catch_up(&self) -> anyhow::Result<()> {
        if self.parts.own_store.is_some() {
            let events = self.projector().catch_up().await?;
            tracing::debug!(events, "the feature store is up to date with the event log");
        }
        Ok(())
    }

    /// How many partitions the log has.
    pub fn partitions(&self) -> u16 {
        self.parts.log.partitions()
    }

    /// The way in.
    pub fn ingest(&self) -> &Ingest {
        &self.ingest
    }

    /// The features.
    pub fn features(&self) -> Arc<dyn FeatureStore> {
        self.parts.store.clone()
    }

    /// Writes a snapshot, then lets go of what nobody needs any more.
    pub async fn checkpoint(&self) -> anyhow::Result<()> {
        let unkept = self.step.lock().await;
        anyhow::ensure!(unkept.is_empty(), "dead letters could not be kept yet, and would be lost behind a snapshot");
        self.snapshot().await
    }

    async fn snapshot(&self) -> anyhow::Result<()> {
        let kept = match self.parts.own_store.clone() {
            Some(store) => tokio::task::spawn_blocking(move || store.checkpoint()).await??,
            None => None,
        };
        let now = self.clock.now();
        let cutoff = crate::clock::Micros(now.0.saturating_sub(i64::try_from(self.retention.as_micros()).unwrap_or(i64::MAX)));
        if let (Some(log), Some(kept)) = (&self.parts.own_log, kept) {
            log.retire(cutoff, &kept)?;
        }
        self.dead_letters.retire(cutoff)
    }

    /// Takes lines from the operator's own command.
    pub async fn take(&self, lines: Vec<Line>) -> Result<Report, Refusal> {
        self.ingest.take(lines, None).await
    }

    /// Waits until everything that is in the log by now is applied; for a command beside a projector that runs.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let asked = self.clock.now();
        let begun = std::time::Instant::now();
        loop {
            let standings = self.parts.store.standings().await?;
            if standings.iter().all(|standing| standing.as_of.is_some_and(|as_of| as_of >= asked)) {
                return Ok(());
            }
            anyhow::ensure!(
                begun.elapsed() < SETTLE_TIMEOUT,
                "the projector did not catch up with the event log within {} s: see projector_lag in the metrics",
                SETTLE_TIMEOUT.as_secs()
            );
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
    }

    /// Holds the projector still until the guard is dropped: answers grow less fresh meanwhile.
    pub async fn hold(&self) -> impl Drop + use<> {
        self.step.clone().lock_owned().await
    }

    /// The canonical dump.
    pub async fn dump(&self) -> anyhow::Result<String> {
        let _step = self.step.lock().await;
        self.parts.store.dump().await
    }

    /// All dead letters, oldest first.
    pub async fn dead_letters(&self) -> anyhow::Result<Vec<DeadLetter>> {
        let letters = self.dead_letters.clone();
        tokio::task::spawn_blocking(move || letters.list()).await?
    }

    /// Keeps letters that a command could not even send as events.
    pub async fn keep_letters(&self, letters: Vec<Letter>) -> anyhow::Result<()> {
        Ok(self.dead_letters.append(letters).await?)
    }

    /// Tries dead letters again: those named, or all that were not taken yet.
    pub async fn retry(&self, ids: &[u64]) -> anyhow::Result<Retried> {
        let mut retried = Retried::default();
        let letters = self.dead_letters().await?;
        for id in ids {
            if letters.iter().all(|letter| letter.id != *id) {
                retried.refused.push((*id, "there is no such dead letter: see tollgate deadletter list".into()));
            }
        }
        for letter in letters.iter().filter(|letter| if ids.is_empty() { !letter.retried } else { ids.contains(&letter.id) }) {
            let payload = &letter.letter.payload;
            if !payload.is_whole() {
                retried
                    .refused
                    .push((letter.id, "only a part of it was kept, or it is not text: send it again from its source".into()));
                continue;
            }
            if ids.is_empty() && letter.letter.reason.starts_with(OUTSIDE) {
                let reason = "its producer key may not write its source: name it to take it all the same";
                retried.refused.push((letter.id, reason.into()));
                continue;
            }
            let from_log = matches!(letter.letter.origin, Origin::Log { .. });
            let outcome = self.ingest.retry(payload.text.clone().into(), from_log).await?;
            match outcome {
                Ok(()) => {
                    self.dead_letters.mark_retried(letter.id).await?;
                    retried.taken += 1;
                }
                Err(reason) => retried.refused.push((letter.id, reason)),
            }
        }
        Ok(retried)
    }
}
