//! The left half of the flow, put together: event log, projector, feature store, dead letters. A gateway runs it; a command
//! opens it where no gateway runs.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{Durability, Settings};
use crate::data_dir::DataDir;
use crate::error::Refusal;
use crate::event::deadletter::{DeadLetter, DeadLetters, Letter, Origin};
use crate::event::{EmbeddedLog, InFlight, Ingest, Line, OUTSIDE, Report};
use crate::feature::{EmbeddedStore, FeatureStore, Limits};
use crate::projector::{self, Projector, Step};
use crate::segment::Options;
use crate::telemetry::Metrics;

/// How long a command waits for the projector, and how often it looks.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const SETTLE_PAUSE: Duration = Duration::from_millis(5);
/// Dead letters are few and small.
const DEAD_LETTER_SEGMENT_BYTES: u64 = 16 << 20;

/// The embedded engine.
pub struct Engine {
    log: Arc<EmbeddedLog>,
    store: Arc<EmbeddedStore>,
    dead_letters: Arc<DeadLetters>,
    in_flight: Arc<InFlight>,
    step: Arc<Step>,
    ingest: Ingest,
    clock: Clock,
    metrics: Arc<Metrics>,
    limits: Limits,
    retention: Duration,
    snapshots: std::path::PathBuf,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Events read from the log.
    pub events: u64,
    /// Whether the rebuilt store's dump is, byte for byte, the live one's.
    pub identical: bool,
    /// The first line that differs: live, then rebuilt.
    pub difference: Option<(String, String)>,
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
    pub async fn open(settings: &Settings, data_dir: &DataDir, clock: Clock, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let limits = Limits {
            dedup_window: settings.dedup.window,
            dedup_ids_max: settings.dedup.ids_max,
            history_kept: settings.history.kept,
        };
        let partitions = settings.events.partitions;
        let events = Options { segment_bytes: settings.events.segment_bytes, durability: Durability::Fsync };
        let letters = Options { segment_bytes: DEAD_LETTER_SEGMENT_BYTES, durability: Durability::Fsync };
        let log = Arc::new(EmbeddedLog::open(&data_dir.events(), partitions, events, clock.clone())?);
        let store = Arc::new(EmbeddedStore::open(&data_dir.snapshots(), partitions, limits)?);
        let applied: Vec<Option<u64>> = store.standings().await?.iter().map(|standing| standing.applied).collect();
        log.check_reaches(&applied)?;
        let dead_letters = Arc::new(DeadLetters::open(&data_dir.dead_letters(), letters, clock.clone())?);
        let in_flight = Arc::new(InFlight::default());
        let ingest = Ingest {
            log: log.clone(),
            features: store.clone(),
            dead_letters: dead_letters.clone(),
            in_flight: in_flight.clone(),
            clock: clock.clone(),
            event_bytes_max: settings.events.event_bytes_max,
            metrics: metrics.clone(),
        };
        let engine = Self {
            log,
            store,
            dead_letters,
            in_flight,
            step: Arc::default(),
            ingest,
            clock,
            metrics,
            limits,
            retention: settings.events.retention,
            snapshots: data_dir.snapshots(),
        };
        let events = engine.projector().catch_up().await?;
        tracing::info!(events, "the feature store is up to date with the event log");
        Ok(engine)
    }

    fn projector(&self) -> Projector {
        Projector {
            log: self.log.clone(),
            features: self.store.clone(),
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

    /// Applies what is appended up to now; for a command, which runs no projector.
    pub async fn catch_up(&self) -> anyhow::Result<()> {
        self.projector().catch_up().await.map(drop)
    }

    /// The way in.
    pub fn ingest(&self) -> &Ingest {
        &self.ingest
    }

    /// The features.
    pub fn features(&self) -> Arc<dyn FeatureStore> {
        self.store.clone()
    }

    /// Writes a snapshot, then lets go of what nobody needs any more.
    pub async fn checkpoint(&self) -> anyhow::Result<()> {
        let unkept = self.step.lock().await;
        anyhow::ensure!(unkept.is_empty(), "dead letters could not be kept yet, and would be lost behind a snapshot");
        self.snapshot().await
    }

    async fn snapshot(&self) -> anyhow::Result<()> {
        let store = self.store.clone();
        let kept = tokio::task::spawn_blocking(move || store.checkpoint()).await??;
        let now = self.clock.now();
        let cutoff = crate::clock::Micros(now.0.saturating_sub(i64::try_from(self.retention.as_micros()).unwrap_or(i64::MAX)));
        if let Some(kept) = kept {
            self.log.retire(cutoff, &kept)?;
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
            let standings = self.store.standings().await?;
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
        self.store.dump().await
    }

    /// Rebuilds the store from the log's start and compares; without `verify`, the rebuilt one takes the live one's place.
    /// Queries are answered meanwhile, ever less fresh; a batch is never seen half.
    pub async fn replay(&self, verify: bool) -> anyhow::Result<Replayed> {
        let _step = self.step.lock().await;
        let standings = self.store.standings().await?;
        let until: Vec<Option<u64>> = standings.iter().map(|standing| standing.applied).collect();
        let rebuilt = EmbeddedStore::empty(&self.snapshots, until.len() as u16, self.limits);
        let events = projector::rebuild(&*self.log, &rebuilt, &until).await?;
        let (live, fresh) = (self.store.dump().await?, rebuilt.dump().await?);
        let difference = live
            .lines()
            .map(Some)
            .chain(std::iter::repeat(None))
            .zip(fresh.lines().map(Some).chain(std::iter::repeat(None)))
            .take_while(|(live, fresh)| live.is_some() || fresh.is_some())
            .find(|(live, fresh)| live != fresh)
            .map(|(live, fresh)| (live.unwrap_or("(nothing)").to_owned(), fresh.unwrap_or("(nothing)").to_owned()));
        if !verify {
            self.store.adopt(rebuilt);
            // Both kept snapshots: a restart must not bring the old state back.
            self.snapshot().await?;
            self.snapshot().await?;
        }
        Ok(Replayed { events, identical: live == fresh, difference })
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
