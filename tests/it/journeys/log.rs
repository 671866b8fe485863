//! A log of some partitions, and a store that folds it in batches of any size, with what partitions tell each other on its way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tollgate::clock::Micros;
use tollgate::event::{NewRecord, Position, Record, own, partition_of};
use tollgate::feature::{Bounds, ChangeBatch, FeatureStore, Limits};
use tollgate::journey::VisitorKey;
use tollgate::journey::product::Product;
use tollgate::projector::fold;

const WIDE: Limits = Limits { dedup_window: Duration::from_secs(1 << 20), dedup_ids_max: 1 << 20, history_kept: 10 };

pub(super) fn bounds(products: &[Product]) -> Bounds {
    Bounds {
        limits: WIDE,
        visitors: VisitorKey::new(b"thirty-two bytes of a test's key"),
        products: products.iter().cloned().map(Arc::new).collect(),
    }
}

pub(super) struct Log {
    /// By partition: when appended, and what.
    pub(super) records: Vec<Vec<(Micros, Bytes)>>,
    now: Micros,
}

impl Log {
    pub(super) fn new(partitions: u16, begin: Micros) -> Self {
        Self { records: vec![Vec::new(); usize::from(partitions)], now: begin }
    }

    pub(super) fn partitions(&self) -> u16 {
        self.records.len() as u16
    }

    pub(super) fn append(&mut self, record: NewRecord) {
        self.now = Micros(self.now.0 + 1000);
        self.records[usize::from(record.partition)].push((self.now, record.payload));
    }

    pub(super) fn add(&mut self, event: &Value) {
        let subject = event["subject"].as_str().unwrap();
        let partition = partition_of(subject, self.partitions());
        self.append(NewRecord { partition, subject: subject.into(), payload: Bytes::from(event.to_string()) });
    }

    /// The event time of all partitions moves on.
    pub(super) fn pass(&mut self, time: Micros) {
        (0..self.partitions()).for_each(|partition| self.append(own::watermark(partition, time)));
    }
}

/// A store, and what of the log is on its way.
pub(super) struct Run {
    pub(super) store: Arc<dyn FeatureStore>,
    told: HashMap<(u16, String), u64>,
}

impl Run {
    pub(super) async fn new(store: Arc<dyn FeatureStore>, log: &Log) -> Self {
        for partition in 0..log.partitions() {
            store.resume(partition).await.unwrap();
        }
        Self { store, told: HashMap::new() }
    }

    /// Applies up to `most` records of a partition; how many there were.
    pub(super) async fn apply(&self, log: &Log, partition: u16, most: usize) -> usize {
        let after = self.store.resume(partition).await.unwrap();
        let records = &log.records[usize::from(partition)];
        let begin = after.map_or(0, |last| usize::try_from(last).unwrap() + 1);
        let end = records.len().min(begin.saturating_add(most));
        let change = |(n, (appended, payload)): (usize, &(Micros, Bytes))| {
            let at = Position { partition, offset: (begin + n) as u64 };
            let (change, invalid) = fold(Record { at, appended: *appended, payload: payload.clone() }, log.partitions());
            assert_eq!(invalid, None, "{payload:?}");
            change
        };
        let changes: Vec<_> = records[begin..end].iter().enumerate().map(change).collect();
        if !changes.is_empty() {
            let last = records[end - 1].0;
            self.store.apply(partition, ChangeBatch { after, changes }).await.unwrap();
            self.store.commit(partition, Some(last)).await.unwrap();
        }
        end - begin
    }

    /// Puts what is untold into the log, sometimes twice.
    pub(super) fn tell(&mut self, log: &mut Log, rng: &mut ChaCha8Rng) -> usize {
        let mut said = 0;
        for partition in 0..log.partitions() {
            let after = |product: &str| self.told.get(&(partition, product.to_owned())).copied().unwrap_or_default();
            for told in self.store.untold(partition, &after, rng.random_range(1..20_000)) {
                said += told.messages.len();
                let home = partition_of(&told.product, log.partitions());
                log.append(own::told(home, &told, Micros(0)).unwrap());
                let last = told.messages.last().unwrap().number;
                // As if this process ended before it knew.
                if rng.random_bool(0.8) {
                    self.told.insert((partition, told.product.clone()), last);
                    self.store.heard(partition, &told.product, last);
                }
            }
        }
        said
    }

    /// Until nothing is left to apply or to tell.
    pub(super) async fn finish(&mut self, log: &mut Log, rng: &mut ChaCha8Rng) {
        loop {
            let mut moved = 0;
            for partition in 0..log.partitions() {
                moved += self.apply(log, partition, usize::MAX).await;
            }
            if moved + self.tell(log, rng) == 0 {
                return;
            }
        }
    }

    /// The lines of the dump that are about journeys.
    pub(super) async fn lines(&self) -> Vec<Value> {
        let dump = self.store.dump().await.unwrap();
        dump.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
