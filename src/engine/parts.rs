//! Which log and which store, by the settings: the one place where the seams are chosen.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Durability, Settings};
use crate::data_dir::DataDir;
use crate::event::{EmbeddedLog, EventLog, KafkaLog, KafkaOptions};
use crate::feature::{Bounds, EmbeddedStore, FeatureStore, ObjectCheckpoints, RedisStore};
use crate::metering::Archive;
use crate::segment::Options;
use crate::telemetry::Metrics;

/// Event log and feature store, and which of them live in this process.
pub(super) struct Parts {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) store: Arc<dyn FeatureStore>,
    /// The log, where it is a folder of this process's own.
    pub(super) own_log: Option<Arc<EmbeddedLog>>,
    /// The store, where it is in this process's memory alone.
    pub(super) own_store: Option<Arc<EmbeddedStore>>,
    /// The store, where others read it too.
    pub(super) shared_store: Option<Arc<RedisStore>>,
}

impl Parts {
    pub(super) async fn open(
        settings: &Settings,
        data_dir: &DataDir,
        bounds: Bounds,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let (log, own_log): (Arc<dyn EventLog>, _) = match KafkaOptions::brokers(&settings.events.url) {
            Some(brokers) => (Arc::new(KafkaLog::open(kafka(settings, brokers), clock, metrics).await?), None),
            None => {
                let options = Options { segment_bytes: settings.events.segment_bytes, durability: Durability::Fsync };
                let log = Arc::new(EmbeddedLog::open(&data_dir.events(), settings.events.partitions, options, clock)?);
                (log.clone(), Some(log))
            }
        };
        if settings.features.is_shared() {
            // Beside the archive: what every machine reaches, where that is an object store.
            let (objects, folder) = Archive::open(&settings.archive, data_dir.path())?.beside("checkpoints");
            let folder = folder.join(settings.features.prefix.as_str()).join(settings.events.topic.as_str());
            let checkpoints = Arc::new(ObjectCheckpoints::new(objects, folder));
            let features = &settings.features;
            let store = RedisStore::open(&features.url, &features.prefix, log.partitions(), bounds, Some(checkpoints)).await?;
            let store = Arc::new(store);
            return Ok(Self { log, store: store.clone(), own_log, own_store: None, shared_store: Some(store) });
        }
        let store = Arc::new(EmbeddedStore::open(&data_dir.snapshots(), log.partitions(), bounds)?);
        if let Some(log) = &own_log {
            let applied: Vec<Option<u64>> = store.standings().await?.iter().map(|standing| standing.applied).collect();
            log.check_reaches(&applied)?;
        }
        Ok(Self { log, store: store.clone(), own_log, own_store: Some(store), shared_store: None })
    }
}

fn kafka(settings: &Settings, brokers: &str) -> KafkaOptions {
    KafkaOptions {
        bootstrap: brokers.to_owned(),
        topic: settings.events.topic.clone(),
        // A store that only this process reads needs all of the log here.
        group: settings.features.is_shared().then(|| settings.events.group.clone()),
        event_bytes_max: settings.events.event_bytes_max,
        must_stamp: true,
        properties: settings.events.kafka.0.clone(),
    }
}
