//! The embedded feature store: a map in this process, rebuilt from the newest snapshot and the log.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::ensure;
use async_trait::async_trait;
use parking_lot::RwLock;

use super::state::{self, Partition, Product};
use super::{
    Applied, ApplyError, ChangeBatch, EXAMINED_MAX, FeatureStore, Filter, Found, Limits, Read, Scanned, Standing, snapshot,
};
use crate::clock::Micros;
use crate::event::{Identity, partition_of};

/// One partition's state, and how far it is known to be complete.
#[derive(Default)]
struct Slot {
    state: Partition,
    as_of: Option<Micros>,
}

/// Features in this process.
pub struct EmbeddedStore {
    folder: PathBuf,
    limits: Limits,
    slots: Vec<RwLock<Slot>>,
}

impl EmbeddedStore {
    /// From the newest snapshot in `folder` that can be read; empty where there is none.
    pub fn open(folder: &Path, partitions: u16, limits: Limits) -> anyhow::Result<Self> {
        let states = match snapshot::newest(folder)? {
            Some(states) => {
                ensure!(
                    states.len() == usize::from(partitions),
                    "the snapshots in {} have {} partitions, but events.partitions is {partitions}: set it back, or begin in another data_dir",
                    folder.display(),
                    states.len()
                );
                states
            }
            None => vec![Partition::default(); usize::from(partitions)],
        };
        let slots = states.into_iter().map(|state| RwLock::new(Slot { state, as_of: None })).collect();
        Ok(Self { folder: folder.to_owned(), limits, slots })
    }

    /// Nothing yet: for a rebuild from the log's start.
    pub fn empty(folder: &Path, partitions: u16, limits: Limits) -> Self {
        let slots = (0..partitions).map(|_| RwLock::default()).collect();
        Self { folder: folder.to_owned(), limits, slots }
    }

    /// Puts `other` in this one's place, partition by partition.
    pub fn adopt(&self, other: Self) {
        for (slot, other) in self.slots.iter().zip(other.slots) {
            slot.write().state = other.into_inner().state;
        }
    }

    /// Writes a snapshot, and answers the positions that both kept snapshots are past; none while there is only one.
    pub fn checkpoint(&self) -> anyhow::Result<Option<Vec<Option<u64>>>> {
        let partitions = self.slots.iter().map(|slot| {
            // Serialized under the lock, written outside of it: readers wait for one partition at most.
            snapshot::encode(&slot.read().state)
        });
        snapshot::write(&self.folder, partitions)
    }

    fn slot(&self, sku: &str) -> &RwLock<Slot> {
        &self.slots[usize::from(partition_of(sku, self.slots.len() as u16))]
    }
}

#[async_trait]
impl FeatureStore for EmbeddedStore {
    async fn apply(&self, partition: u16, batch: ChangeBatch) -> Result<Applied, ApplyError> {
        let mut slot = self.slots[usize::from(partition)].write();
        if slot.state.applied != batch.after {
            return Err(ApplyError::Moved { stands: slot.state.applied, expected: batch.after });
        }
        let mut applied = Applied::default();
        for change in &batch.changes {
            slot.state.apply(change, &self.limits, &mut applied);
        }
        Ok(applied)
    }

    async fn confirm(&self, partition: u16, as_of: Micros) -> anyhow::Result<()> {
        let mut slot = self.slots[usize::from(partition)].write();
        slot.as_of = slot.as_of.max(Some(as_of));
        Ok(())
    }

    async fn standings(&self) -> anyhow::Result<Vec<Standing>> {
        let standing = |slot: &RwLock<Slot>| {
            let slot = slot.read();
            Standing { applied: slot.state.applied, as_of: slot.as_of, ids: slot.state.seen.len() }
        };
        Ok(self.slots.iter().map(standing).collect())
    }

    async fn get_many(&self, reads: &[Read], now: Micros) -> anyhow::Result<Vec<Found>> {
        let answer = |read: &Read| {
            let slot = self.slot(&read.sku).read();
            let product = slot.state.products.get(read.sku.as_str());
            Found { product: product.map(|product| product.answer(read, now)), as_of: slot.as_of }
        };
        Ok(reads.iter().map(answer).collect())
    }

    async fn scan(&self, after: Option<&str>, limit: usize, filter: Filter<'_>) -> anyhow::Result<Scanned> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let share = EXAMINED_MAX.div_ceil(self.slots.len());
        let mut skus: Vec<Arc<str>> = Vec::new();
        let mut cut_at: Option<Arc<str>> = None;
        for slot in &self.slots {
            let slot = slot.read();
            let mut products = slot.state.products.range::<str, _>((from, Bound::Unbounded));
            let mut found = 0;
            for examined in 1.. {
                let Some((sku, product)) = products.next() else { break };
                if filter(product.details()) {
                    skus.push(sku.clone());
                    found += 1;
                }
                if found == limit {
                    break;
                }
                if examined == share {
                    // What lies behind the earliest of these places in other partitions belongs to the next scan.
                    cut_at = Some(cut_at.take().map_or_else(|| sku.clone(), |before| before.min(sku.clone())));
                    break;
                }
            }
        }
        skus.sort_unstable();
        if let Some(cut_at) = &cut_at {
            skus.retain(|sku| sku <= cut_at);
        }
        if skus.len() >= limit {
            skus.truncate(limit);
            cut_at = None;
        }
        Ok(Scanned { skus, cut_at })
    }

    fn has_seen(&self, partition: u16, identity: Identity, now: Micros) -> bool {
        self.slots[usize::from(partition)].read().state.seen.contains(identity, now, &self.limits)
    }

    async fn dump(&self) -> anyhow::Result<String> {
        let mut products: Vec<(Arc<str>, Product)> = Vec::new();
        for slot in &self.slots {
            let slot = slot.read();
            products.extend(slot.state.products.iter().map(|(sku, product)| (sku.clone(), product.clone())));
        }
        products.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        state::dump(products.iter().map(|(sku, product)| (sku, product)))
    }
}
